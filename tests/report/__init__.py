"""What is promised, which test shows it, and how that test last ended: the source of `docs/status.md`."""
