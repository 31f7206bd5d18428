"""A run that looks fast because it does nothing must fail: what the soak says of bots that do not do their work."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bot.domain.events import Event
from bot.domain.intent import Intent, PlaceOrder
from bot.engine.engine import Engine
from bot.engine.state import State
from tests.bench import soak
from tests.bench.retained import looked_at, running_loop
from tests.bench.soak import Evidence, judge

SPAN_S = 300

GOOD = Evidence(
    style="calm", span_s=48 * 3600, exit_code=0, cpu_s=60.0, updates=1_728_001, two_sided_ms=172_000_000,
    placed={"buy": 6_000, "sell": 6_010}, filled={"buy": 5_990, "sell": 6_000}, amended=400_000, seen_by_venue=12_010,
    executions_told=11_990, executions=11_990, position_lots=2, venue_position_lots=2, minutes=2_880,
    days=["2026-01-01", "2026-01-02"], day_now="2026-01-03", looked_for_retained=4, objects_first=2_500,
    objects_end=2_600, rss_start_mb=60.0, rss_hour_mb=64.0, rss_warm_mb=65.0, rss_end_mb=66.0,
)  # fmt: skip


def failed(evidence: Evidence) -> set[str]:
    return {check.what for check in judge(evidence) if not check.holds}


def soaked(folder: Path, **changes: Any) -> Evidence:
    """A short soak. Memory is the test process's own and not judged."""
    return soak.run(soak.scenario("calm", SPAN_S, 1, **changes), "calm", folder, lambda _line: None, memory=False)


def test_a_bot_that_does_its_work_passes(tmp_path: Path) -> None:
    evidence = soaked(tmp_path)
    assert failed(evidence) == set()
    assert evidence.amended > 100


def test_a_bot_that_is_stuck_at_its_position_limit_fails(tmp_path: Path) -> None:
    evidence = soaked(tmp_path, inventory_max_quote=150, total_max_quote=600)
    assert "both sides quoted, of all the time" in failed(evidence)
    assert sum(evidence.placed.values()) > 0, "it was to be stuck, not dead"


def test_a_bot_that_places_nothing_fails(tmp_path: Path) -> None:
    evidence = soaked(tmp_path, order_notional_quote=1)
    assert evidence.placed == {"buy": 0, "sell": 0}
    assert failed(evidence) >= {
        "both sides quoted, of all the time", "orders placed", "orders filled, of the rarer side",
        "fills and position, told; the venue's",
    }  # fmt: skip


class Hoarding(soak.Watch):
    """Lets the bot hold the name of every order that it ever placed."""

    def __call__(self, event: Event, intents: list[Intent], engine: Engine) -> None:
        for intent in intents:
            if isinstance(intent, PlaceOrder):
                vars(running_loop()).setdefault("hoard", []).append((intent.client_order_id,))
        super().__call__(event, intents, engine)


def test_a_bot_that_keeps_something_of_every_ended_order_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(soak, "Watch", Hoarding)
    evidence = soaked(tmp_path)
    assert failed(evidence) == {"orders ended over 60 s ago still held"}
    assert all(name.startswith("slwq-1-") for name in evidence.retained)


class HoardingTheNameless(soak.Watch):
    """Lets the bot hold something of every event that it ever took in."""

    hoard: list[tuple[int]] | None = None

    def __call__(self, event: Event, intents: list[Intent], engine: Engine) -> None:
        super().__call__(event, intents, engine)
        if self.hoard is None:
            self.hoard = vars(running_loop())["hoard"] = []
        self.hoard.append((event.at_ns,))


def test_a_bot_that_keeps_what_names_no_order_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(soak, "Watch", HoardingTheNameless)
    assert failed(soaked(tmp_path)) == {"other objects held, since the first look"}


def test_a_look_that_finds_no_bot_fails() -> None:
    with pytest.raises(ChildProcessError, match="came to nothing"):
        looked_at(State(soak.scenario("calm", SPAN_S, 1).parameters))


@pytest.mark.parametrize(("end_mb", "word"), [(69.0, "<= 5 MB (met)"), (69.1, "<= 5 MB (not met)")])
def test_growth_since_the_first_hour_is_shown_beside_that_of_the_first_hour(end_mb: float, word: str) -> None:
    rows = soak.shown(replace(GOOD, rss_end_mb=end_mb))
    assert ("memory grown in the first hour", "4.0 MB", "") in rows
    assert ("memory grown since the first hour", f"{end_mb - 64:.1f} MB", word) in rows


def test_two_good_days_pass() -> None:
    assert failed(GOOD) == set()
    assert len(judge(GOOD)) == 16


@pytest.mark.parametrize(
    ("change", "check"),
    [
        ({"exit_code": 1}, "exit code"),
        ({"updates": 1_700_000}, "market updates"),
        ({"crossed": 1}, "updates after which the book was crossed"),
        ({"two_sided_ms": 100_000_000}, "both sides quoted, of all the time"),
        ({"placed": {"buy": 1_000, "sell": 1_000}, "seen_by_venue": 2_000}, "orders placed"),
        ({"seen_by_venue": 12_011}, "orders that the venue saw"),
        ({"filled": {"buy": 100, "sell": 12_000}}, "orders filled, of the rarer side"),
        ({"executions": 11_991}, "fills and position, told; the venue's"),
        ({"venue_position_lots": 3}, "fills and position, told; the venue's"),
        ({"minutes": 2_879}, "minute rows"),
        ({"minutes_wrong": 1}, "minutes missing, doubled or down"),
        ({"days": ["2026-01-01"]}, "finished days kept"),
        ({"day_now": "2026-01-02"}, "finished days kept"),
        ({"retained": ["slwq-1-1"]}, "orders ended over 60 s ago still held"),
        ({"looked_for_retained": 0}, "orders ended over 60 s ago still held"),
        ({"rss_start_mb": 76.0}, "memory at start"),
        ({"rss_warm_mb": 99.0, "rss_end_mb": 101.0}, "memory after"),
        ({"rss_end_mb": 67.1}, "memory grown since it was warm"),
        ({"objects_end": 3_600}, "other objects held, since the first look"),
    ],
)
def test_each_check_can_fail_alone(change: dict[str, Any], check: str) -> None:
    assert failed(replace(GOOD, **change)) == {check}
