"""The pure core: one fold over events. No I/O, no clock, no randomness; time is in the event, in nanoseconds."""
