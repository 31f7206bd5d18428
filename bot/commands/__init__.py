"""Subcommands that only read: what a journal and its exports say, for people and as JSON."""
