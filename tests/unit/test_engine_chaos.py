"""The laws of the engine under chaos."""

from __future__ import annotations

from decimal import Decimal

import msgspec
from hypothesis import example, given, settings
from hypothesis import strategies as st

from bot.domain import events as ev
from bot.domain import intent as it
from bot.domain.order import Side
from bot.engine.engine import Engine
from tests.support.engine_driver import ASK, BID, MS, SYMBOL, Driver, S

D = Decimal

happenings = st.lists(
    st.sampled_from(
        ["up", "down", "jump", "fill", "part", "taker", "lost", "deaf", "hear", "uncertain", "revoke", "grant",
         "freeze", "resume", "drop", "private", "wait", "long", "gone", "late"]
    ),
    min_size=1, max_size=40,
)  # fmt: skip


class Chaos:
    """A driver that does what hypothesis says, and holds the laws after every event."""

    def __init__(self) -> None:
        self.driver = Driver(recon_interval_s=D(1), hysteresis_s=D(1), edge_threshold_bps=D(1))
        self.events: list[ev.Event] = []
        self.intents: list[list[it.Intent]] = []
        engine = self.driver.engine
        receive = engine.receive

        def watched(event: ev.Event) -> list[it.Intent]:
            before = engine.state.may_quote()
            intents = receive(event)
            self.events.append(event)
            self.intents.append(list(intents))
            self._hold_laws(event, before, intents)
            return intents

        engine.receive = watched  # type: ignore[method-assign]
        self.driver.start()

    def _hold_laws(self, event: ev.Event, could_quote: bool, intents: list[it.Intent]) -> None:
        state = self.driver.engine.state
        orders = [intent for intent in intents if isinstance(intent, it.PlaceOrder | it.AmendOrder)]
        if orders:
            assert state.has_grant, f"an order without a grant at {event}"
            assert could_quote or not state.stops.any, f"an order while stopped at {event}"
            top = state.books[SYMBOL].top
            assert top is not None
            for order in orders:
                known = state.orders.get(order.client_order_id)
                assert known is not None
                side = known.side
                assert order.price_ticks < top[1] if side is Side.BUY else order.price_ticks > top[0]
            self._hold_exposure(orders)
        for side in Side:
            levels = [order.price_ticks for order in state.orders.live_on(SYMBOL, side)]
            assert len(levels) <= 1, f"two orders on one side at {event}"
            standing = [order for order in self.driver.venue.values() if order.side is side]
            assert len(standing) <= 1, f"two orders on one side of the venue at {event}"

    def _hold_exposure(self, orders: list[it.PlaceOrder | it.AmendOrder]) -> None:
        state = self.driver.engine.state
        position = state.ledger.accounts[SYMBOL].position_lots
        buys, sells = state.orders.exposed_lots(SYMBOL)
        mid = state.mark(SYMBOL)
        assert mid is not None
        for order in orders:
            known = state.orders.get(order.client_order_id)
            assert known is not None
            leaning = position + buys if known.side is Side.BUY else sells - position
            grew = known.pending_qty_lots is None or known.pending_qty_lots > known.qty_lots
            if leaning > 0 and grew:
                assert D(leaning) / 1000 * mid <= state.inventory_max_quote

    def do(self, what: str) -> None:
        driver = self.driver
        top = driver.engine.state.books[SYMBOL].top or (BID, ASK)
        orders = list(driver.venue.values())
        if what in ("up", "down", "jump"):
            move = {"up": 40, "down": -40, "jump": -900}[what]
            driver.book(top[0] + move, top[1] + move)
        elif what in ("fill", "part", "taker") and orders:
            lots = 1 if what == "part" else orders[0].qty_lots - orders[0].filled_lots
            driver.fill(orders[0].client_order_id, max(1, lots), maker=what != "taker")
        elif what == "lost":
            driver.tell(ev.BookLost(driver.now, SYMBOL, "gap"))
        elif what == "deaf":
            driver.silent = {it.PlaceOrder, it.AmendOrder, it.CancelOrder, it.CancelAll}
        elif what == "hear":
            driver.silent = set()
        elif what == "uncertain":
            for order in driver.engine.live_orders():
                driver.tell(ev.OrderUncertain(driver.now, order.client_order_id, 0, "time-out"))
        elif what == "revoke":
            driver.granting = False
            driver.grant(0.0, revoked=True)
        elif what == "grant":
            driver.granting = True
        elif what == "freeze":
            driver.tell(ev.StopRequested(driver.now, "drill", "planned", "auto", "ops"))
        elif what == "resume":
            driver.tell(ev.ResumeRequested(driver.now, "*", "people"))
        elif what == "drop" and orders:
            del driver.venue[orders[0].client_order_id]
        elif what == "private":
            driver.tell(ev.StreamDown(driver.now, "private", "reset"))
            driver.tell(ev.StreamUp(driver.now, "private"))
        elif what == "gone":
            for order in driver.engine.live_orders():
                driver.tell(ev.OrderNotFound(driver.now, order.client_order_id))
        elif what == "late":  # a wrong second answer to every question: the first, which was right, came at once
            for intent in driver.sent.copy():
                if isinstance(intent, it.ProbeOrder):
                    driver.tell(ev.OrderNotFound(driver.now, intent.client_order_id, intent.at_ns))
        driver.wait({"wait": S, "long": 9 * S}.get(what, 100 * MS))


@settings(max_examples=60, deadline=None)
@given(happenings)
@example(["long", "uncertain", "gone", "long"])
@example(["long", "uncertain", "uncertain", "late", "long"])
def test_whatever_happens_no_order_while_stopped_no_limit_passed_and_a_replay_says_the_same(plan: list[str]) -> None:
    chaos = Chaos()
    for what in plan:
        chaos.do(what)
    engine = Engine(chaos.driver.parameters)
    encoder = msgspec.json.Encoder()
    for event, intents in zip(chaos.events, chaos.intents, strict=True):
        assert encoder.encode(engine.receive(event)) == encoder.encode(intents)
    assert engine.counts == chaos.driver.engine.counts
    if "resume" not in plan:  # people who resume take over the venue's position
        fills = {event.execution_id: event for event in chaos.events if isinstance(event, ev.Filled)}
        position = sum(fill.side.sign * fill.qty_lots for fill in fills.values())
        assert engine.state.ledger.accounts[SYMBOL].position_lots == position


def test_a_drop_in_orders_ends_with_no_own_order_standing_after_a_stop() -> None:
    chaos = Chaos()
    for what in ("deaf", "up", "jump", "uncertain", "hear", "freeze", "long"):
        chaos.do(what)
    chaos.driver.granting = False
    chaos.driver.wait(20 * S)
    assert chaos.driver.venue == {}
    assert chaos.driver.engine.live_orders() == []
