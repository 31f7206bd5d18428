"""Where numbers come from: Prometheus, the journal's tables, named checks. Sources measure; they never judge."""
