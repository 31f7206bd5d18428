"""Where the journal is kept: SQLite by default, Redis where no disk outlives the worker."""
