"""The supervisor's table, `stack.json`: what runs, since when, where it logs, where it answers. Owner's eyes only."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from tasks.state_folder import read_json, write_private
from tasks.supervise.identity import Identity

SCHEMA_VERSION = 1


class TableDamaged(Exception):
    """`stack.json` cannot be read. One line for people; `rollout down` works without it."""


@dataclass(frozen=True)
class Row:
    """One supervised process. `restarts` counts how often it was started again; `note` says why it does not run."""

    name: str
    pid: int
    started_ticks: int
    started_at: str
    log: str
    restarts: int = 0
    note: str = ""

    @property
    def identity(self) -> Identity:
        return Identity(self.pid, self.started_ticks)


@dataclass(frozen=True)
class Table:
    """The whole stack. `mark` is in the environment of every process of it; `state` is starting, ready or stopping."""

    mark: str
    state: str
    started_at: str
    repository: str
    plan: str
    market: str
    supervisor: Row
    endpoints: dict[str, str] = field(default_factory=dict)
    processes: tuple[Row, ...] = ()

    def row(self, name: str) -> Row | None:
        return next((row for row in self.processes if row.name == name), None)

    def with_row(self, row: Row) -> Table:
        """The table with this row put in, or in the place of the one of the same name."""
        if self.row(row.name) is None:
            return replace(self, processes=(*self.processes, row))
        return replace(self, processes=tuple(row if old.name == row.name else old for old in self.processes))

    def without_row(self, name: str) -> Table:
        return replace(self, processes=tuple(row for row in self.processes if row.name != name))

    def with_endpoints(self, **endpoints: str) -> Table:
        return replace(self, endpoints={**self.endpoints, **endpoints})


def write_table(path: Path, table: Table) -> None:
    """Replaces the table in one step; a reader never sees half of it."""
    write_private(path, json.dumps({"schema_version": SCHEMA_VERSION, **asdict(table)}, indent=2) + "\n")


def read_table(path: Path) -> Table | None:
    """The table; None where there is none. Raises TableDamaged."""
    content = read_json(path)
    if content is None:
        if path.exists():
            raise _damaged(path, "no JSON object")
        return None
    if content.pop("schema_version", None) != SCHEMA_VERSION:
        raise _damaged(path, f"schema_version is not {SCHEMA_VERSION}")
    try:
        return _parse(content)
    except (KeyError, TypeError, AttributeError) as error:
        raise _damaged(path, str(error)) from None


def _damaged(path: Path, why: str) -> TableDamaged:
    return TableDamaged(f"{path}: not a table of processes ({why}); `rollout down` takes down what runs, without it")


def _parse(content: dict[str, Any]) -> Table:
    supervisor = Row(**content.pop("supervisor"))
    processes = tuple(Row(**row) for row in content.pop("processes"))
    return Table(supervisor=supervisor, processes=processes, **content)
