"""The bot's cancel-all never touches an order of others, whatever is known of them."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from bot.domain.events import OrderStatus, OrderUpdated, StreamDown, StreamUp, VenueOrder
from bot.domain.filters import BUILT_IN
from bot.domain.instrument import Instrument, NotOnGrid
from bot.domain.intent import CancelOrder
from bot.domain.order import Side
from bot.runtime.last_resort import cancel_and_prove
from bot.runtime.own_orders import LATELY_KEPT, OwnOrders, Strangers
from bot.venues.port import Accepted, Outcome, Refused, Unknown, Unreachable, VenueUnknown, VenueUnreachable

SYMBOL = "BTCUSDT"
BTC = BUILT_IN[SYMBOL]


def order(name: str, status: OrderStatus = OrderStatus.WORKING) -> VenueOrder:
    return VenueOrder(SYMBOL, name, f"v-{name}", Side.BUY, 1, 1, 0, status)


class Venue:
    """Open orders, and what was asked."""

    def __init__(self, *orders: str) -> None:
        self.orders = [order(name) for name in orders]
        self.calls: list[str] = []
        self.failing: Exception | None = None
        self.answers: dict[str, Outcome] = {}

    async def cancel_all(self, symbol: str) -> Outcome:
        self.calls.append(f"cancel_all {symbol}")
        return Accepted(count=len(self.orders))

    async def cancel(self, intent: CancelOrder) -> Outcome:
        self.calls.append(f"cancel {intent.client_order_id} {intent.venue_order_id}")
        return self.answers.get(intent.client_order_id, Accepted())

    async def open_orders(self, _symbol: str, _instrument: Instrument) -> list[VenueOrder]:
        self.calls.append("read")
        if self.failing is not None:
            raise self.failing
        return list(self.orders)


def cancelled(venue: Venue, own: OwnOrders) -> Outcome:
    async def run() -> Outcome:
        return await own.cancel_all(SYMBOL)

    return asyncio.run(run())


def own_orders(venue: Venue, *, alone: bool = False, known: Sequence[str] = (SYMBOL,)) -> OwnOrders:
    own = OwnOrders(venue, {name: BTC for name in known}, lambda: 1, alone=alone)  # type: ignore[arg-type]  # enough
    own.strangers.stream_up()
    return own


def listening() -> Strangers:
    strangers = Strangers()
    strangers.stream_up()
    return strangers


def test_before_anything_was_read_it_reads_and_cancels_ours_alone() -> None:
    venue = Venue("slwq-1-1", "hand-1", "slwf-1-2", "")
    assert cancelled(venue, own_orders(venue)) == Accepted(count=2)
    assert venue.calls == ["read", "cancel slwq-1-1 v-slwq-1-1", "cancel slwf-1-2 v-slwf-1-2"]


def test_where_a_read_showed_none_of_others_the_venues_cancel_all_is_used() -> None:
    venue = Venue("slwq-1-1")
    own = own_orders(venue)
    own.strangers.read(SYMBOL, venue.orders)
    assert cancelled(venue, own) == Accepted(count=1)
    assert venue.calls == [f"cancel_all {SYMBOL}"]


def test_one_that_the_stream_told_of_since_is_spared_and_forgotten_when_it_ends() -> None:
    venue = Venue("slwq-1-1", "hand-1")
    own = own_orders(venue)
    own.strangers.read(SYMBOL, ())
    own.strangers.heard(order("hand-1"))
    cancelled(venue, own)
    assert venue.calls == ["read", "cancel slwq-1-1 v-slwq-1-1"]
    own.strangers.heard(order("hand-1", OrderStatus.CANCELLED))
    cancelled(venue, own)
    assert venue.calls[-1] == f"cancel_all {SYMBOL}"


def test_what_the_stream_told_while_a_read_was_under_way_is_newer_than_the_read() -> None:
    strangers = listening()
    asked_at = strangers.told
    strangers.heard(order("hand-1"))
    strangers.read(SYMBOL, (), asked_at)
    assert not strangers.none_stands(SYMBOL)
    asked_at = strangers.told
    strangers.heard(order("hand-1", OrderStatus.CANCELLED))
    strangers.read(SYMBOL, [order("hand-1")], asked_at)
    assert strangers.none_stands(SYMBOL)
    strangers.read(SYMBOL, [order("hand-2")], strangers.told)
    strangers.read(SYMBOL, (), strangers.told)
    assert strangers.none_stands(SYMBOL), "what was told before it was asked is in it"


def test_a_read_that_more_has_overtaken_than_is_remembered_leaves_it_unknown() -> None:
    strangers = listening()
    for number in range(LATELY_KEPT + 1):
        strangers.heard(order(f"hand-{number}", OrderStatus.CANCELLED))
    strangers.read(SYMBOL, (), 1)
    assert not strangers.none_stands(SYMBOL)
    strangers.read(SYMBOL, (), 2)
    assert strangers.none_stands(SYMBOL)


def test_while_the_private_stream_is_down_nothing_is_known_of_others_and_a_read_of_then_says_nothing_of_later() -> None:
    venue = Venue("slwq-1-1", "hand-1")
    own = own_orders(venue)
    own.strangers.read(SYMBOL, ())
    assert own.strangers.none_stands(SYMBOL)
    own.note(StreamDown(1, "public", "it is another one"))
    assert own.strangers.none_stands(SYMBOL)
    own.note(StreamDown(1, "private", "cut"))
    assert not own.strangers.none_stands(SYMBOL)
    cancelled(venue, own)
    assert venue.calls == ["read", "cancel slwq-1-1 v-slwq-1-1"], "hand-1 came while nobody told us"
    own.strangers.read(SYMBOL, (), own.strangers.told)
    assert not own.strangers.none_stands(SYMBOL)


def test_a_read_that_was_asked_before_the_stream_came_up_is_too_old() -> None:
    strangers = Strangers()
    asked_at = strangers.told
    strangers.note(StreamUp(1, "private"))
    strangers.read(SYMBOL, (), asked_at)
    assert not strangers.none_stands(SYMBOL), "what came between the read and the subscription was told to nobody"
    strangers.read(SYMBOL, (), strangers.told)
    assert strangers.none_stands(SYMBOL)


def test_where_open_orders_cannot_be_read_what_was_sent_is_cancelled_by_its_id_and_nothing_is_claimed() -> None:
    venue = Venue("slwq-1-1", "slwq-1-2", "hand-1")
    venue.failing = VenueUnknown("HTTP 503", 503)
    own = own_orders(venue)
    for name in ("slwq-1-1", "slwq-1-2", "slwq-1-3"):
        own.sent(SYMBOL, name)
    own.sent("ETHUSDT", "slwq-1-4")
    own.note(OrderUpdated(1, order("slwq-1-2", OrderStatus.FILLED)))
    assert isinstance(cancelled(venue, own), Unknown)
    assert venue.calls == ["read", "cancel slwq-1-1 ", "cancel slwq-1-3 "]


def test_our_own_word_on_the_stream_is_no_stranger() -> None:
    venue = Venue("slwq-1-1")
    own = own_orders(venue)
    own.strangers.read(SYMBOL, ())
    own.strangers.heard(order("slwq-1-1"))
    cancelled(venue, own)
    assert venue.calls == [f"cancel_all {SYMBOL}"]


def test_an_account_that_is_ours_alone_is_not_asked() -> None:
    venue = Venue("slwq-1-1", "hand-1")
    cancelled(venue, own_orders(venue, alone=True))
    assert venue.calls == [f"cancel_all {SYMBOL}"]


@pytest.mark.parametrize(
    ("failing", "kind"), [(VenueUnknown("HTTP 503", 503), Unknown), (VenueUnreachable("refused"), Unreachable)]
)
def test_a_read_that_failed_is_no_success(failing: Exception, kind: type) -> None:
    venue = Venue("slwq-1-1")
    venue.failing = failing
    assert isinstance(cancelled(venue, own_orders(venue)), kind)
    assert venue.calls == ["read"]


def test_the_worst_of_its_answers_is_the_answer() -> None:
    venue = Venue("slwq-1-1", "slwq-1-2", "hand-1")
    venue.answers = {"slwq-1-1": Refused(10006, "too many"), "slwq-1-2": Unknown(0, "timed out")}
    assert isinstance(cancelled(venue, own_orders(venue)), Unknown)


def test_without_filters_what_stands_is_read_and_cancelled_all_the_same() -> None:
    venue = Venue("slwq-1-1", "hand-1")
    assert cancelled(venue, own_orders(venue, known=())) == Accepted(count=1)
    assert venue.calls == ["read", "cancel slwq-1-1 v-slwq-1-1"]


def last_resort(venue: Venue, known: Sequence[str]) -> bool:
    filters = {name: BTC for name in known}
    own = own_orders(venue, alone=True, known=known)
    return asyncio.run(cancel_and_prove(venue, own, [SYMBOL, "ETHUSDT"], filters, 0.5))  # type: ignore[arg-type]


def test_the_last_resort_proves_only_what_it_could_read_of_every_symbol() -> None:
    assert last_resort(Venue("hand-1"), [SYMBOL, "ETHUSDT"])
    assert not last_resort(Venue("slwq-1-1"), [SYMBOL, "ETHUSDT"])
    venue = Venue()
    assert last_resort(venue, [SYMBOL]), "which orders stand is read without filters, too"
    assert venue.calls.count("read") == 2


def test_the_last_resort_takes_an_order_off_the_grid_for_no_proof() -> None:
    venue = Venue()
    venue.failing = NotOnGrid("price 1.05 is not on the grid")
    assert not last_resort(venue, [SYMBOL, "ETHUSDT"])
