"""Where the journal is kept. SQLite is the default and the only one so far."""
