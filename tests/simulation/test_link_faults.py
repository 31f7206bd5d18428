"""What the way to the venue can do to a bot, one thing at a time. In the end the bot knows what the venue knows."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from bot.domain import events as ev
from bot.domain.events import Event
from bot.domain.intent import AmendOrder, CancelOrder, Intent, PlaceOrder
from bot.engine.engine import Engine
from bot.simulation import START_NS, Outcome, run_wire
from bot.simulator.fault_file import FaultFile, Planned
from tests.support import several
from tests.support.invariants import Invariants
from tests.support.lanes import demo

SPAN_S = 30
S = 1_000_000_000


def at(at_s: float, kind: str, **parameters: object) -> Planned:
    """One fault, once."""
    return Planned(kind, parameters, at_s, 0.0, 0.0)


class Told(Invariants):
    """The invariants, and everything that the engine was told and decided."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.events: list[Event] = []
        self.intents: list[Intent] = []

    def __call__(self, event: Event, intents: list[Intent], engine: Engine) -> None:
        super().__call__(event, intents, engine)
        self.events.append(event)
        self.intents += intents

    def of(self, kind: type[Any]) -> list[Any]:
        """All events or intents of that kind."""
        return [one for one in (*self.events, *self.intents) if isinstance(one, kind)]

    def orders_after(self, at_s: float) -> int:
        """How many orders were placed from then on."""
        return sum(intent.at_ns >= START_NS + at_s * S for intent in self.of(PlaceOrder))


Play = Callable[..., tuple[Told, Outcome]]
"""(name, folder, *faults, seed, changes of the scenario): a run whose final state equals the venue's, checked."""


@pytest.fixture(params=[False, True], ids=["by REST", "by socket"])
def by_socket(request: pytest.FixtureRequest) -> bool:
    """Whether orders go by the trade socket and in batches, as a live process sends them."""
    return bool(request.param)


@pytest.fixture
def play(by_socket: bool) -> Play:
    def run(name: str, folder: Path, *faults: Planned, seed: int = 401, **changes: Any) -> tuple[Told, Outcome]:
        told = Told(f"{name}, seed {seed}")
        symbols = {"symbols": several.symbols(2), "more_instruments": several.instruments(2)[1:]}
        changes = {**symbols, "hysteresis_s": Decimal(2), "trade_socket": by_socket, **changes}
        scenario = demo(seed, SPAN_S, faults=FaultFile(name, seed, faults), **changes)
        outcome = run_wire(told.beside(scenario), folder, told)
        told.check_end(outcome)
        assert len(told.of(PlaceOrder)) == len({intent.client_order_id for intent in told.of(PlaceOrder)})
        return told, outcome

    return run


def reasons(told: Told) -> set[str]:
    """Why it ever stopped."""
    return {
        str(dict(note.fields).get("reason"))
        for note in told.intents
        if getattr(note, "event", "") == "freeze_triggered"
    }


def test_an_order_that_was_accepted_and_timed_out_is_found_and_not_sent_again(tmp_path: Path, play: Play) -> None:
    waits = [at(when, "accept_then_timeout") for when in (0.0, 6.0, 12.0)]
    told, outcome = play("accepted, then timed out", tmp_path, *waits)
    fired = [fault for fault in outcome.exchange.faults.of_kind("accept_then_timeout") if fault.fired_at_ns]
    unknown = [event.client_order_id for event in told.of(ev.OrderUncertain)]
    assert len(fired) >= 2
    assert len(unknown) >= len(fired), "of a batch the answer to all of it is lost"
    known = {event.order.client_order_id for event in told.of(ev.OrderUpdated)}
    assert set(unknown) <= known
    for account in outcome.holder.accounts:
        assert {order.link_id for order in account.closed_orders} <= known


def test_a_create_that_came_twice_happens_once_and_is_known_to_work(
    tmp_path: Path, play: Play, by_socket: bool
) -> None:
    """By REST the second answer is the one that is told, by the socket it is nobody's."""
    told, _ = play("duplicate id", tmp_path, at(0.0, "way", way="request", doubled_pct=100))
    twice = [event.client_order_id for event in told.of(ev.OrderUncertain) if event.code == 110072]
    if by_socket:
        assert not told.of(ev.OrderUncertain)
        twice = [event.client_order_id for event in told.of(ev.OrderAccepted)]
    assert len(twice) >= 2
    working = {e.order.client_order_id for e in told.of(ev.OrderUpdated) if e.order.status is ev.OrderStatus.WORKING}
    assert set(twice) & working


def test_a_create_that_arrives_after_its_probe_is_not_lost(tmp_path: Path, play: Play) -> None:
    late = [
        at(when, "way", way="request", delay_ms=delay)
        for when, delay in ((0.65, 2_600), (0.9, 0), (3.5, 2_600), (4.2, 0))
    ]
    told, _ = play("delayed create", tmp_path, *late, receive_window_ms=5_000)
    uncertain = {event.client_order_id for event in told.of(ev.OrderUncertain)}
    assert uncertain, "no create timed out"
    came = {event.order.client_order_id for event in told.of(ev.OrderUpdated)}
    assert uncertain & came, "none of them arrived after all"


def test_an_amend_that_arrives_after_its_probe_is_waited_for(tmp_path: Path, play: Play) -> None:
    """Its answer is lost, a probe shows the old terms, and then it happens after all."""
    late = [
        at(when, "way", way="request", delay_ms=delay)
        for start in (3.0, 12.0, 21.0)
        for when, delay in ((start, 2_600), (start + 0.4, 0))
    ]
    told, outcome = play("delayed amend", tmp_path, *late, receive_window_ms=5_000, half_spread_bps=25)
    unknown = {(one.client_order_id, one.price_ticks, one.qty_lots) for one in told.of(ev.AmendAnswered)
               if one.outcome == "unknown"}  # fmt: skip
    came = 0
    for name, *terms in unknown:
        asked_ns = max(one.at_ns for one in told.of(AmendOrder) if (one.client_order_id, one.price_ticks, one.qty_lots)
                       == (name, *terms))  # fmt: skip
        shown = [one for one in told.of(ev.OrderUpdated)
                 if one.order.client_order_id == name and one.at_ns > asked_ns + 2 * S]  # fmt: skip
        landed_ns = next((one.at_ns for one in shown if [one.order.price_ticks, one.order.qty_lots] == terms), 0)
        if landed_ns and shown[0].at_ns < landed_ns:  # a probe showed the old terms before
            came += 1
            again = [one for one in told.of(AmendOrder)
                     if one.client_order_id == name and asked_ns < one.at_ns < landed_ns]  # fmt: skip
            assert not again, "amended again while the first could still happen"
    assert came >= 4, "hardly one was shown with its old terms and happened then"
    assert not [order for order in outcome.engine.live_orders() if order.pending_qty_lots is not None]


def test_a_cancel_that_meets_a_fill_counts_the_fill_once(tmp_path: Path, play: Play) -> None:
    """Creates under way when the bot stops are cancelled one by one: on a slow way some of them fill meanwhile."""
    cuts = [at(0.9 + number * 1.9, "disconnect", stream="public") for number in range(14)]
    slow = at(0.6, "way", way="request", delay_ms=450)
    for seed in range(401, 413):
        folder = tmp_path / str(seed)
        folder.mkdir()
        told, outcome = play("race", folder, slow, *cuts, seed=seed, half_spread_bps=1, hysteresis_s=Decimal("0.5"))
        late = [e.order for e in told.of(ev.OrderUpdated) if e.order.reason == "EC_OrigClOrdIDDoesNotExist"]
        cancelled = {intent.client_order_id for intent in told.of(CancelOrder)}
        filled = {event.client_order_id for event in told.of(ev.Filled)}
        assert {order.client_order_id for order in late} <= filled & cancelled
        assert outcome.engine.known.ledger.fills == sum(one.executions_count for one in outcome.holder.accounts)
        if late:
            return
    raise AssertionError("no cancel ever met a fill")


def test_a_venue_that_restarts_is_met_again_and_nothing_is_forgotten(tmp_path: Path, play: Play) -> None:
    told, outcome = play("venue restart", tmp_path, at(8.0, "venue_restart", lasts_s=1.5))
    down = [event.stream for event in told.of(ev.StreamDown) if event.at_ns >= START_NS + 8 * S]
    assert {"public", "private"} <= set(down)
    assert "venue_unreachable" in reasons(told)
    assert told.orders_after(12), "it never quoted again"
    assert any(event.update_id == 1 for event in told.of(ev.BookSnapshot))
    assert outcome.exchange.faults.restarts == 1


def test_a_storm_of_reconnects_is_backed_off_from_and_outlived(tmp_path: Path, play: Play) -> None:
    cuts = [at(6.0 + number * 0.6, "disconnect", stream="all") for number in range(14)]
    told, _ = play("reconnect storm", tmp_path, *cuts)
    downs = [event for event in told.of(ev.StreamDown) if event.stream == "private"]
    assert len(downs) >= 5
    assert told.orders_after(20), "it never quoted again"
    quiet = [intent for intent in told.of(PlaceOrder) if 7 * S < intent.at_ns - START_NS < 14 * S]
    assert not quiet, "it quoted in the middle of the storm"


@pytest.mark.parametrize("skew_ms", [4_000, -4_000])
def test_a_clock_that_steps_is_followed_and_what_was_refused_for_it_is_settled(
    skew_ms: int, tmp_path: Path, play: Play
) -> None:
    told, _ = play("clock skew", tmp_path, at(7.0, "clock_skew", ms=skew_ms), at(15.0, "clock_skew", ms=0))
    refused = [e for e in told.of(ev.OrderUncertain) if e.code == 10002]
    details = [e.detail for e in (*told.of(ev.AmendAnswered), *told.of(ev.CancelAnswered)) if "10002" in e.detail]
    assert refused or details, "no timestamp was ever refused"
    assert told.orders_after(8), "it never quoted again"


@pytest.mark.parametrize("answer", ["429", "10006"])
def test_a_storm_of_rate_limits_is_unknown_every_time_and_settled_afterwards(
    answer: str, tmp_path: Path, play: Play
) -> None:
    told, _ = play("rate limit storm", tmp_path, at(7.0, "rate_limit_storm", lasts_s=4, answer=answer))
    asked = (*told.of(ev.AmendAnswered), *told.of(ev.CancelAnswered), *told.of(ev.CancelAllAnswered))
    unknown = [event for event in asked if event.outcome == "unknown"]
    assert unknown or told.of(ev.OrderUncertain)
    sent = [i for i in told.of((PlaceOrder, AmendOrder)) if 7 * S < i.at_ns - START_NS < 11 * S]
    assert len(sent) <= 60, "it insisted"
    amended = [intent for intent in told.of(AmendOrder) if intent.at_ns - START_NS > 12 * S]
    assert told.orders_after(12) or amended, "it never quoted again"


def test_silence_on_the_public_stream_freezes_and_a_snapshot_ends_it(tmp_path: Path, play: Play) -> None:
    told, _ = play("silence", tmp_path, at(7.0, "stall"), at(14.0, "unstall"))
    assert "stale_book" in reasons(told)
    assert told.orders_after(15), "it never quoted again"


def test_a_trade_socket_that_falls_silent_costs_one_operation_and_the_bot_quotes_on_by_rest(
    tmp_path: Path, play: Play
) -> None:
    told, _ = play("mute", tmp_path, at(7.0, "stall", stream="trade"), at(22.0, "unstall"))
    answered = [event for event in told.of((ev.OrderAccepted, ev.AmendAnswered)) if 12 <= _s(event) < 22]
    assert answered, reasons(told)
    assert not [event for event in answered if isinstance(event, ev.AmendAnswered) and event.outcome == "unknown"]


def _s(event: Event) -> float:
    """When it came, seconds after the start."""
    return (event.at_ns - START_NS) / S


def test_a_position_that_another_hand_changed_holds_the_bot(tmp_path: Path, play: Play) -> None:
    told, outcome = play("another hand", tmp_path, at(7.0, "position_altered", lots=40))
    held = reasons(told)
    assert held & {"recon_divergence", "position_drift"}, held
    assert not [intent for intent in told.of(PlaceOrder) if intent.at_ns > START_NS + 20 * S]
    assert any(key[0] == "mm_recon_divergence_total" and count for key, count in outcome.engine.counts.items())


def test_an_account_without_margin_is_refused_and_does_not_insist(tmp_path: Path, play: Play) -> None:
    told, _ = play("no margin", tmp_path, at(7.0, "insolvent", equity_quote="0.5"))
    assert any(event.code == 110007 for event in told.of(ev.OrderRefused)) or "margin_ratio" in reasons(told)
    late = [intent for intent in told.of(PlaceOrder) if intent.at_ns > START_NS + 20 * S]
    assert len(late) <= 20, "it insisted"


def test_a_foreign_order_is_reported_and_left_alone(tmp_path: Path, play: Play) -> None:
    told, outcome = play("foreign order", tmp_path, at(5.0, "foreign_order"))
    (foreign,) = [order for order in outcome.account.open_orders.values() if order.link_id == ""]
    assert not [intent for intent in told.of(CancelOrder) if intent.venue_order_id == foreign.order_id]
    assert not [order for order in outcome.account.closed_orders if order.link_id == ""]
    assert any(key[0] == "mm_recon_divergence_total" for key in outcome.engine.counts)


@pytest.mark.parametrize(("code", "reason"), [(10024, "account_stopped"), (110074, "symbol_stopped")])
def test_what_the_venue_says_of_account_or_instrument_stops_more_than_the_order(
    code: int, reason: str, tmp_path: Path, play: Play
) -> None:
    told, _ = play("stopped there", tmp_path, at(4.0, "refuse", request="create", code=code))
    assert any(event.code == code for event in told.of(ev.OrderRefused))
    assert reason in reasons(told)
    (refused,) = [event.at_ns for event in told.of(ev.OrderRefused) if event.code == code]
    later = [intent for intent in told.of(PlaceOrder) if intent.at_ns > refused]
    assert not later, "people alone release that"
