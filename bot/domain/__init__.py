"""Values of the trade: instruments, books, orders, fills, events and intents. Pure; no clock, no I/O."""
