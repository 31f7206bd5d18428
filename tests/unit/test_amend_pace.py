"""Amends keep under the rate that the venue takes, with a reserve for those that take size back."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise

import pytest

from bot.domain.events import AmendAnswered, Event
from bot.domain.intent import AmendOrder, Intent
from bot.engine.budgets import AmendPace
from bot.engine.engine import Engine
from bot.engine.parameters import NS_PER_MS, NS_PER_S, EngineParameters
from bot.simulation import run_kernel
from tests.support.lanes import demo


class Amends:
    """When each quote was amended, and what the venue said."""

    def __init__(self) -> None:
        self.sent_ns: list[int] = []
        self.by_order: Counter[str] = Counter()
        self.answers: Counter[str] = Counter()

    def __call__(self, event: Event, intents: list[Intent], engine: Engine) -> None:
        if isinstance(event, AmendAnswered):
            self.answers[event.outcome] += 1
        for intent in intents:
            if isinstance(intent, AmendOrder):
                self.sent_ns.append(intent.at_ns)
                side = engine.known.orders.get(intent.client_order_id)
                self.by_order["gone" if side is None else side.side.value] += 1


def heavy(**changes: int) -> Amends:
    """A market that moves both quotes ten times a second, at a venue that takes ten amends a second."""
    amends = Amends()
    styles = {"requote_tolerance_bps": 0, "requote_tolerance_ticks": 0, "requote_interval_ms": 0}
    run_kernel(demo(3, 20, orders_per_min_max=10_000, **(styles | changes)), amends)
    return amends


def test_a_market_that_asks_for_more_amends_than_the_venue_takes_gets_no_unknown_outcome() -> None:
    amends = heavy()
    assert amends.answers["accepted"] >= 100
    assert amends.answers["unknown"] == amends.answers["unreachable"] == 0
    hasty = heavy(amends_per_s_max=1_000).answers
    assert hasty["unreachable"] >= 5, "the venue's limit was never in the way"
    assert hasty["unknown"] == 0, "past the limit nothing may leave: its outcome would be unknown"


def test_no_second_has_more_amends_than_the_limit_and_most_leave_the_reserve_alone() -> None:
    sent = heavy().sent_ns
    most = max(sum(at <= other < at + NS_PER_S for other in sent) for at in sent)
    assert 8 <= most <= 10
    assert any(later - earlier >= 100 * NS_PER_MS for earlier, later in pairwise(sent))


def test_neither_side_starves_where_amends_are_short() -> None:
    by_side = heavy().by_order
    assert min(by_side["buy"], by_side["sell"]) * 2 >= max(by_side["buy"], by_side["sell"]), dict(by_side)


def test_the_reserve_is_for_amends_that_take_size_back() -> None:
    pace = AmendPace(10, 20)
    for _ in range(8):
        assert pace.may(0, takes_back=False)
        pace.spend(0)
    assert not pace.may(0, takes_back=False)
    assert pace.may(0, takes_back=True)
    pace.spend(0)
    pace.spend(0)
    assert not pace.may(0, takes_back=True)
    assert pace.may(NS_PER_S, takes_back=False)


def test_a_reserve_never_leaves_nothing_to_quote_with() -> None:
    assert AmendPace(1, 99).may(0, takes_back=False)


def test_a_reserve_of_everything_is_refused() -> None:
    with pytest.raises(ValueError, match="amends_reserve_pct: 100 is not below 100"):
        EngineParameters(symbols=("BTCUSDT",), amends_reserve_pct=100)
