"""`replay FILE` of a journal: it goes through the engine again and has to give the same intents, byte for byte."""

from __future__ import annotations

from pathlib import Path

from bot.journal import is_there
from bot.replaying import Replay, replay
from bot.settings_file import ConfigError
from bot.stores import sqlite

Json = dict[str, object]


def replay_file(path: Path) -> Replay:
    """A journal, or the state folder that holds one. Raises JournalError; ConfigError for anything else."""
    journal = path / "journal.db" if path.is_dir() else path
    if not journal.exists() and is_there(journal):
        return replay(journal)
    try:
        with journal.open("rb") as file:
            magic = file.read(len(sqlite.SQLITE_MAGIC))
    except OSError as error:
        raise ConfigError(f"{journal}: cannot be read ({error.strerror})") from error
    if magic != sqlite.SQLITE_MAGIC and journal.suffix != ".db":
        raise ConfigError(f"{journal}: neither a journal nor a capture (.gz); allowed: one of these, or its folder")
    sqlite.check(journal)
    if not any(journal.parent.glob("market-*.jsonl")):
        raise ConfigError(
            f"{journal}: its market data was not kept beside it (journal.market_data), so nothing can be replayed"
        )
    return replay(journal)


def as_json(path: Path, found: Replay) -> Json:
    """What was replayed and whether it was the same."""
    return {
        "difference": found.difference,
        "events": found.events,
        "file": str(path),
        "intents": found.intents,
        "later_rules": list(found.later),
        "processes": found.processes,
        "same": not found.difference,
    }


def as_line(found: Replay) -> str:
    """For people."""
    told = f"{found.events} events, {found.intents} intents, {found.processes} processes"
    later = f" the same but for what later rules add ({'; '.join(found.later)})" if found.later else ""
    if found.difference:
        return f"different after {told}{',' if later else ''}{later}: {found.difference}"
    return f"{later.strip() or 'the same, byte for byte'}: {told}"
