"""Each invariant broken on purpose: a watch over a bot that does what it must not has to say so."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest

from bot.domain.events import Event, OrderUncertain
from bot.domain.intent import Intent, PlaceOrder
from bot.domain.order import OrderHappening
from bot.engine.answers import Answers
from bot.engine.engine import Engine
from bot.journal import Journal
from bot.simulation import WatchedEngine, run_wire
from tests.support import fault_runs
from tests.support.invariants import Invariants, check_replay
from tests.support.lanes import demo

SPAN_S = 15
SEED = 201
SILENCE = {1: ("accept_then_timeout", {}), 4: ("accept_then_timeout", {})}
"""The venue takes an order and its answer never comes."""


def watched(folder: Path, **changes: Any) -> Invariants:
    watch = Invariants(f"seed {SEED}")
    run_wire(watch.beside(demo(SEED, SPAN_S, segments=fault_runs.SEGMENTS, **changes)), folder, watch)
    return watch


def forgetting(self: Answers, event: OrderUncertain) -> None:
    """Takes an unknown outcome for a no."""
    order = self._state.orders.get(event.client_order_id)
    if order is not None and order.live:
        self._tell(order, OrderHappening.REFUSED)


def test_the_same_runs_hold_where_nothing_is_broken(tmp_path: Path) -> None:
    watch = watched(tmp_path, faults_at_s=SILENCE, inventory_max_quote=160)
    assert watch.violations == []
    check_replay(watch, tmp_path)


def test_an_engine_that_takes_unknown_for_no_leaves_an_orphan_and_leans_further_than_its_limit(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(Answers, "uncertain", forgetting)
    watch = watched(tmp_path, faults_at_s=SILENCE, inventory_max_quote=160)
    orphans = [one for one in watch.violations if "open at the venue and rejected here" in one]
    exposed = [one for one in watch.violations if "exposure at the venue" in one]
    assert orphans, watch.violations
    assert exposed, watch.violations
    assert not [one for one in watch.violations if "exposure" in one and one not in exposed], "its own table told"


def test_an_engine_that_decides_by_what_no_journal_has_is_found_out_by_its_replay(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    really = Engine.receive

    def receive(self: WatchedEngine, event: Event) -> list[Intent]:
        intents = [
            msgspec.structs.replace(one, price_ticks=one.price_ticks - 1) if isinstance(one, PlaceOrder) else one
            for one in really(self, event)
        ]
        self._watch(event, intents, self)
        return intents

    monkeypatch.setattr(WatchedEngine, "receive", receive)
    watch = watched(tmp_path)
    with pytest.raises(AssertionError, match=f"seed {SEED}.*differs: recorded"):
        check_replay(watch, tmp_path)


def test_a_journal_that_lacks_what_was_sent_is_found_out(tmp_path: Path) -> None:
    watch = watched(tmp_path)
    watch.decided.append(watch.decided[-1])
    with pytest.raises(AssertionError, match="intents in the journal"):
        check_replay(watch, tmp_path)


def test_an_event_that_is_not_journaled_is_found_out(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    really, told = Journal.event, list[Event]()

    def event(self: Journal, one: Event) -> None:
        told.append(one)
        if len(told) != 300:
            really(self, one)

    monkeypatch.setattr(Journal, "event", event)
    watch = watched(tmp_path)
    with pytest.raises(AssertionError, match=f"seed {SEED}"):
        check_replay(watch, tmp_path)
