"""The data check over journals written by the real writer: clean data, each kind of damage, and nothing to check."""

from __future__ import annotations

import json
import re
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from bot.domain.events import Filled
from bot.domain.intent import PlaceOrder
from bot.domain.order import Side
from bot.journal import Journal
from gates.criteria import Criterion
from gates.judge import Cause, Measurement, Outcome, judge
from gates.sources.great_expectations_journal import OWN_ORDER_ID
from gates.sources.tables import measure_tables

pytestmark = pytest.mark.integration

AT_NS = 1_700_000_000_000_000_000
DATA = Criterion.model_validate(
    {
        "id": "journal_data",
        "title": "Data",
        "source": "table",
        "check": "great_expectations",
        "unit": "count",
        "go": "== 0",
        "phase": "final",
        "unknown_deadline_s": 10,
        "why": "It is a test of the data check.",
    }
)


def _order(sequence: int) -> PlaceOrder:
    return PlaceOrder(
        at_ns=AT_NS + sequence,
        client_order_id=f"slwq-1-{sequence}",
        symbol="BTCUSDT",
        side=Side.BUY,
        price_ticks=500_000,
        qty_lots=2,
        epoch=1,
    )


def _fill(sequence: int, **changes: Any) -> Filled:
    values: dict[str, Any] = {
        "at_ns": AT_NS + sequence + 100,
        "execution_id": f"e{sequence}",
        "client_order_id": f"slwq-1-{sequence}",
        "venue_order_id": f"v{sequence}",
        "symbol": "BTCUSDT",
        "side": Side.BUY,
        "price": Decimal("50000.1"),
        "qty_lots": 2,
        "fee_quote": Decimal("-0.01"),
        "is_maker": True,
        "venue_at_ns": AT_NS + sequence,
    }
    return Filled(**(values | changes))


def _journal(folder: Path, *fills: Filled, orders: int = 5) -> Path:
    journal = Journal(folder / "journal.db", {"account": "a", "run": "r"}, synchronous="NORMAL")
    for sequence in range(1, orders + 1):
        journal.intent(_order(sequence))
    for fill in fills:
        journal.event(fill)
    journal.commit({("mm_taker_fills_total", "symbol=BTCUSDT"): 0})
    journal.close()
    return folder / "journal.db"


def _run(journal: Path, out: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "gates.sources.great_expectations_journal", "--journal", str(journal)]
    return subprocess.run([*command, "--out", str(out)], capture_output=True, text=True, timeout=300, check=False)


def _judged(out: Path | None) -> Measurement:
    (reading,) = measure_tables([DATA], [], 1_000, out)
    return judge(DATA, reading, 1_000)


def test_what_an_own_order_id_looks_like_is_asked_without_a_group_of_which_pandas_warns() -> None:
    asked = re.compile(OWN_ORDER_ID)
    assert asked.groups == 0
    assert [bool(asked.match(one)) for one in ("slwq-7-1", "slwf-0-12", "slwx-1-1", "slw-1-1", "slwq-1", "x")] == [
        True, True, False, False, False, False,
    ]  # fmt: skip


def test_clean_data_pass_in_a_process_of_their_own_and_the_result_names_every_expectation(tmp_path: Path) -> None:
    fills = [_fill(1), _fill(2), _fill(2), _fill(3, client_order_id="slwf-1-3", is_maker=False)]
    journal = Journal(tmp_path / "journal.db", {"account": "a", "run": "r"}, synchronous="NORMAL")
    journal.intent(_order(1))
    journal.intent(_order(2))
    journal.intent(
        PlaceOrder(AT_NS + 3, "slwf-1-3", "BTCUSDT", Side.BUY, price_ticks=1, qty_lots=2, epoch=1, reduce_only=True)
    )
    for fill in fills:
        journal.event(fill)
    journal.commit({})
    journal.close()
    out = tmp_path / "evidence" / "data.json"
    done = _run(tmp_path / "journal.db", out)
    assert done.returncode == 0, done.stderr
    result = json.loads(out.read_text(encoding="utf-8"))
    assert (result["status"], result["failed"], result["rows"]) == (
        "checked",
        [],
        {"fills": 3, "orders": 3, "entries": 7},
    )
    assert len(result["expectations"]) >= 12
    assert all(one["success"] and not one["error"] for one in result["expectations"])
    assert out.stat().st_mode & 0o777 == 0o600
    assert _judged(out).outcome is Outcome.PASS


def _delete_entry(path: Path) -> None:
    with sqlite3.connect(path) as db:
        db.execute("DELETE FROM entry WHERE seq = 3")


def _run_time_back(path: Path) -> None:
    with sqlite3.connect(path) as db:
        db.execute("UPDATE entry SET at_ns = 1 WHERE seq = 7")


def _use_id_twice(path: Path) -> None:
    with sqlite3.connect(path) as db:
        db.execute("UPDATE entry SET client_order_id = 'slwq-1-1' WHERE seq = 2")


def _nothing(_: Path) -> None:
    """The fill itself is the damage."""


DAMAGE: list[tuple[str, Filled, Callable[[Path], None]]] = [
    ("every fill of a quote is a maker's", _fill(2, is_maker=False), _nothing),
    ("every fill has an order of ours", _fill(2, client_order_id="slwq-1-99"), _nothing),
    ("fills carry our own order ids", _fill(2, client_order_id="someone-else"), _nothing),
    ("prices are above 0", _fill(2, price=Decimal(0)), _nothing),
    ("fill sizes are above 0", _fill(2, qty_lots=0), _nothing),
    ("no execution is told in two ways", _fill(1, qty_lots=1), _nothing),
    ("no entry is missing", _fill(2), _delete_entry),
    ("time never runs back", _fill(2), _run_time_back),
    ("no order id is used twice", _fill(1), _use_id_twice),
]


def test_each_kind_of_damage_fails_the_expectation_that_names_it(tmp_path: Path) -> None:
    """In one process, because importing Great Expectations takes seconds each time."""
    from gates.sources.great_expectations_journal import check

    for at, (name, fill, damage) in enumerate(DAMAGE):
        folder = tmp_path / str(at)
        folder.mkdir()
        path = _journal(folder, _fill(1), fill)
        damage(path)
        result = check(path)
        assert result["status"] == "checked", result
        assert name in result["failed"]


def test_failed_expectations_fail_the_criterion_with_their_names(tmp_path: Path) -> None:
    out = tmp_path / "data.json"
    done = _run(_journal(tmp_path, _fill(1, is_maker=False)), out)
    assert done.returncode == 1
    found = _judged(out)
    assert (found.outcome, found.value) == (Outcome.FAIL, 1)
    assert "every fill of a quote is a maker's" in found.reason


def test_no_rows_are_unknown_and_never_a_pass(tmp_path: Path) -> None:
    out = tmp_path / "data.json"
    done = _run(_journal(tmp_path), out)
    assert done.returncode == 1
    found = _judged(out)
    assert (found.outcome, found.cause) == (Outcome.UNKNOWN, Cause.NO_DATA)
    assert "no rows in fills" in found.reason


def test_a_damaged_or_missing_journal_is_an_error_in_one_line(tmp_path: Path) -> None:
    path = tmp_path / "journal.db"
    path.write_bytes(b"this is no journal at all" * 10)
    out = tmp_path / "data.json"
    done = _run(path, out)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    found = _judged(out)
    assert found.cause is Cause.SOURCE_ERROR
    assert "damaged journal" in found.reason


def test_a_check_that_has_not_run_and_a_result_that_is_no_result_are_unknown(tmp_path: Path) -> None:
    assert _judged(None).cause is Cause.NO_DATA
    out = tmp_path / "data.json"
    out.write_text("{}", encoding="utf-8")
    assert _judged(out).cause is Cause.SOURCE_ERROR
