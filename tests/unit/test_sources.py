"""Tables and named checks: exact values where there are any, UNKNOWN where a journal or a fact is missing."""

from __future__ import annotations

import sqlite3
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from bot.journal import Journal
from gates.judge import Cause, Measurement, Outcome, judge
from gates.sources.checks import WITNESSED, CheckFacts, by_name, measure_checks
from gates.sources.tables import less, measure_tables
from tests.support.gate_parts import AT_MS, criterion

FACTS = CheckFacts(
    digest_signed="d" * 64,
    version_signed="0.1.0+abc",
    grant_ttl_s=5.0,
    process_alive=True,
    digest_reported="d" * 64,
    version_reported="0.1.0+abc",
    grant_age_s=1.0,
    journal_totals=dict.fromkeys(WITNESSED, 0),
    prometheus_totals=dict.fromkeys(WITNESSED, Decimal(0)),
    statement_stale=False,
    margin_ratio=Decimal("0.2"),
    watchdog_beats=True,
)


def _journal(folder: Path, taker_fills: int) -> Path:
    folder.mkdir()
    journal = Journal(folder / "journal.db", {"account": "a", "run": folder.name}, synchronous="NORMAL")
    journal.commit({("mm_taker_fills_total", "symbol=BTCUSDT"): taker_fills})
    journal.close()
    return folder / "journal.db"


def _table(query: str, *journals: Path) -> Measurement:
    asked = criterion(source="table", query=query, unit="count", go="== 0", no_go=None)
    (reading,) = measure_tables([asked], journals, AT_MS)
    return judge(asked, reading, AT_MS)


def _check(name: str, facts: CheckFacts) -> Measurement:
    good = "== 0" if name.startswith("journal") else "< 0.8" if name == "margin_ratio" else "== 1"
    asked = criterion(source="check", query=None, check=name, unit="count", go=good, no_go=None)
    (reading,) = measure_checks([asked], facts, AT_MS)
    return judge(asked, reading, AT_MS)


def test_totals_are_summed_over_the_runs_of_a_stage(tmp_path: Path) -> None:
    journals = [_journal(tmp_path / "one", 0), _journal(tmp_path / "two", 3)]
    assert _table("mm_taker_fills_total", journals[0]).outcome is Outcome.PASS
    assert _table("mm_taker_fills_total", *journals).value == 3
    assert _table("SELECT sum(value) FROM total", *journals).value == 3


BOTH = 'mm_recon_divergence_total{type="position_mismatch"} + mm_taker_fills_total'
MISMATCHES = {("mm_recon_divergence_total", "type=position_mismatch"): 2}


@pytest.mark.parametrize(
    ("later", "left"),
    [({}, 5), (MISMATCHES, 3), ({**MISMATCHES, ("mm_taker_fills_total", "symbol=BTCUSDT"): 1}, 2)],
)
def test_what_does_not_count_is_taken_off_a_sum_term_by_term(tmp_path: Path, later: dict[Any, int], left: int) -> None:
    """A term of which there was none is 0: it does not keep those of the others."""
    folder = tmp_path / "one"
    folder.mkdir()
    journal = Journal(folder / "journal.db", {"account": "a", "run": "one"}, synchronous="NORMAL")
    journal.commit({**MISMATCHES, ("mm_taker_fills_total", "symbol=BTCUSDT"): 3})
    journal.close()
    asked = criterion(source="table", query=BOTH, unit="count", go="== 0", no_go=None)
    (reading,) = measure_tables([asked], [folder / "journal.db"], AT_MS)
    assert [one.value for one in less(asked, reading, later, "found after the stop").samples] == [left]
    (since,) = measure_tables([asked], [folder / "journal.db"], AT_MS, baseline=later, all_from_baseline=True)
    assert [one.value for one in since.samples] == [left]


def test_a_missing_journal_a_missing_total_and_null_are_no_data_and_never_zero(tmp_path: Path) -> None:
    journal = _journal(tmp_path / "one", 0)
    assert _table("mm_taker_fills_total").cause is Cause.NO_DATA
    assert _table("mm_taker_fills_total", journal, tmp_path / "absent.db").cause is Cause.NO_DATA
    assert _table("mm_crossing_orders_total", journal).cause is Cause.NO_DATA
    assert _table("SELECT max(seq) FROM entry", journal).cause is Cause.NO_DATA


def test_a_damaged_journal_and_a_wrong_query_are_source_errors_in_one_line(tmp_path: Path) -> None:
    journal = _journal(tmp_path / "one", 0)
    for query in ("SELECT count(*) FROM dreams", "SELECT 1, 2", "SELECT 'text'", "mm_dreams_total"):
        found = _table(query, journal)
        assert found.cause is Cause.SOURCE_ERROR
        assert "\n" not in found.reason
    journal.write_bytes(journal.read_bytes()[:200])
    assert _table("mm_taker_fills_total", journal).cause is Cause.SOURCE_ERROR


def test_the_journal_is_read_while_it_is_being_written(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "journal.db", {"account": "a", "run": "r"}, synchronous="NORMAL")
    for count in range(3):
        journal.commit({("mm_taker_fills_total", "symbol=BTCUSDT"): count})
        assert _table("mm_taker_fills_total", journal.path).value == count
    journal.close()


def test_reading_never_writes_to_a_journal(tmp_path: Path) -> None:
    journal = _journal(tmp_path / "one", 0)
    assert _table("SELECT count(*) FROM total", journal).value == 1
    found = _table("SELECT 1 FROM total; DELETE FROM total", journal)
    assert found.cause is Cause.SOURCE_ERROR
    with sqlite3.connect(journal) as db:
        assert db.execute("SELECT count(*) FROM total").fetchone() == (1,)


@pytest.mark.parametrize(
    "name",
    [
        *("process_up", "digest_as_signed", "grant_fresh", "journal_agrees_with_prometheus", "margin_ratio"),
        "watchdog_beats",
    ],
)
def test_every_check_passes_on_good_facts_and_is_unknown_without_any(name: str) -> None:
    assert _check(name, FACTS).outcome is Outcome.PASS
    bare = CheckFacts(digest_signed="d", version_signed="v", grant_ttl_s=5.0, status_error="no answer")
    assert _check(name, bare).outcome is Outcome.UNKNOWN


def test_each_check_fails_on_the_fact_that_it_is_about() -> None:
    assert _check("process_up", replace(FACTS, process_alive=False)).outcome is Outcome.FAIL
    assert _check("digest_as_signed", replace(FACTS, digest_reported="e" * 64)).outcome is Outcome.FAIL
    assert _check("digest_as_signed", replace(FACTS, version_reported="0.1.0+def")).outcome is Outcome.FAIL
    assert _check("grant_fresh", replace(FACTS, grant_age_s=5.1)).outcome is Outcome.FAIL
    assert _check("grant_fresh", replace(FACTS, grant_age_s=None)).outcome is Outcome.FAIL
    early = _check("grant_fresh", replace(FACTS, grant_age_s=None, launching=True))
    assert (early.outcome, early.cause) == (Outcome.UNKNOWN, Cause.NO_DATA)
    assert _check("grant_fresh", replace(FACTS, grant_age_s=5.1, launching=True)).outcome is Outcome.FAIL
    silent = _check("grant_fresh", replace(FACTS, grant_age_s=None, status_error="connection refused"))
    assert (silent.cause, "connection refused" in silent.reason) == (Cause.NO_DATA, True)


def test_a_statement_that_stopped_coming_is_stale_and_one_that_never_came_no_data() -> None:
    assert _check("margin_ratio", replace(FACTS, margin_ratio=Decimal("0.8"))).outcome is Outcome.FAIL
    stale = _check("margin_ratio", replace(FACTS, statement_stale=True, margin_ratio=None))
    assert (stale.outcome, stale.cause) == (Outcome.UNKNOWN, Cause.STALE)
    assert _check("margin_ratio", replace(FACTS, statement_stale=True)).cause is Cause.STALE, "its old value is none"
    assert _check("margin_ratio", replace(FACTS, margin_ratio=None)).cause is Cause.NO_DATA


def test_a_watchdog_that_is_gone_or_hangs_fails_and_one_nobody_looked_at_is_unknown() -> None:
    gone = _check("watchdog_beats", replace(FACTS, watchdog_beats=False, watchdog_said="no watchdog"))
    assert (gone.outcome, "no watchdog" in gone.reason) == (Outcome.FAIL, True)
    unknown = _check("watchdog_beats", replace(FACTS, watchdog_beats=None, watchdog_said="cannot be read"))
    assert (unknown.cause, "cannot be read" in unknown.reason) == (Cause.SOURCE_ERROR, True)


def test_two_witnesses_that_disagree_show_by_how_much_and_about_what() -> None:
    seen = {**dict.fromkeys(WITNESSED, Decimal(0)), "mm_taker_fills_total": Decimal(2)}
    found = _check("journal_agrees_with_prometheus", replace(FACTS, prometheus_totals=seen))
    assert (found.outcome, found.value) == (Outcome.FAIL, 2)
    assert "mm_taker_fills_total: journal 0, Prometheus 2" in found.reason
    less = {name: Decimal(0) for name in WITNESSED[1:]}
    assert _check("journal_agrees_with_prometheus", replace(FACTS, prometheus_totals=less)).cause is Cause.NO_DATA


def test_an_unknown_check_is_a_source_error() -> None:
    assert _check("moon_full", FACTS).cause is Cause.SOURCE_ERROR


def test_totals_by_name_are_summed_over_labels() -> None:
    held = {("a", "x=1"): 1, ("a", "x=2"): 2, ("b", ""): 4}
    assert by_name(held) == {"a": 3, "b": 4}
