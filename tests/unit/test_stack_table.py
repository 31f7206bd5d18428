"""The supervisor's table and the identity of processes."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest

from tasks.supervise.identity import Identity, identify
from tasks.supervise.table import Row, Table, TableDamaged, read_table, write_table

ROW = Row("supervisor", 1, 2, "2026-01-01T00:00:00Z", "/log")
TABLE = Table("mark", "ready", "2026-01-01T00:00:00Z", "/repo", "/plan.yaml", "generated", ROW)


def test_a_table_that_was_written_is_read_as_it_was(tmp_path: Path) -> None:
    table = TABLE.with_row(replace(ROW, name="venue", note="died, exit 1")).with_endpoints(prometheus="http://x")
    write_table(tmp_path / "stack.json", table)
    assert read_table(tmp_path / "stack.json") == table
    assert (tmp_path / "stack.json").stat().st_mode & 0o777 == 0o600


def test_a_row_of_the_same_name_is_replaced_in_its_place() -> None:
    table = (
        TABLE.with_row(replace(ROW, name="a")).with_row(replace(ROW, name="b")).with_row(replace(ROW, name="a", pid=9))
    )
    assert [(row.name, row.pid) for row in table.processes] == [("a", 9), ("b", 1)]
    assert table.without_row("a").row("a") is None


def test_without_a_file_there_is_no_table(tmp_path: Path) -> None:
    assert read_table(tmp_path / "stack.json") is None


@pytest.mark.parametrize("content", ["not json", "[]", '{"schema_version": 99}', '{"schema_version": 1, "mark": "x"}'])
def test_a_damaged_table_is_named_in_one_line(tmp_path: Path, content: str) -> None:
    path = tmp_path / "stack.json"
    path.write_text(content)
    with pytest.raises(TableDamaged, match=r"stack\.json: not a table of processes") as caught:
        read_table(path)
    assert "\n" not in str(caught.value)


def test_a_reused_pid_is_not_the_same_process() -> None:
    me = identify(os.getpid())
    assert me is not None
    assert me.is_alive()
    assert not Identity(me.pid, me.started_ticks + 1).is_alive()
