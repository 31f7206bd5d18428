"""What of a stack runs although its table is damaged or gone: its processes carry folder and mark themselves."""

from __future__ import annotations

import os
from pathlib import Path

from tasks.state_folder import StateFolder
from tasks.supervise.identity import MARK, Identity, identify
from tasks.supervise.table import Row, Table, TableDamaged, read_table

_NOBODY = Row("supervisor", 0, 0, "", "")


def table_as_it_is(folder: StateFolder) -> Table | None:
    """The table; where it is damaged or gone, one of what runs all the same; None where nothing does."""
    try:
        return read_table(folder.table) or table_of_what_runs(folder)
    except TableDamaged:
        return table_of_what_runs(folder)


def table_of_what_runs(folder: StateFolder) -> Table | None:
    """A table of the supervisor and the guards that live on this folder, with their mark; None where nothing lives."""
    home = f"SLIPWAY_HOME={folder.root}"
    supervisor, mark, plan, guards = _NOBODY, "", "", []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        command, environment = _words(entry / "cmdline"), _words(entry / "environ")
        identity = identify(int(entry.name))
        if identity is None:
            continue
        if command[1:5] == ["-m", "tasks.supervise", "--home", str(folder.root)]:
            supervisor = _row("supervisor", identity)
        if home in environment and (carried := _value(environment, MARK)):
            mark, plan = carried, _value(environment, "SLIPWAY_PLAN") or plan
            if command[1:4] == ["-m", "tasks.guard", "--account"]:
                guards.append(_row(f"guard-{command[4]}", identity))
    if supervisor is _NOBODY and not mark:
        return None
    return Table(mark, "without its table", "", "", plan, "", supervisor, {}, tuple(guards))


def _value(environment: list[str], name: str) -> str:
    return next((word.partition("=")[2] for word in environment if word.startswith(f"{name}=")), "")


def _row(name: str, identity: Identity) -> Row:
    return Row(name, identity.pid, identity.started_ticks, "", "")


def _words(path: Path) -> list[str]:
    try:
        return path.read_bytes().decode(errors="replace").split("\0")
    except (FileNotFoundError, PermissionError, ProcessLookupError):
        return []
