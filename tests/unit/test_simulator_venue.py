"""The venue's core on a market that stands still unless told: what each kind of order comes to, and the faults."""

from dataclasses import dataclass, field
from decimal import Decimal

import pytest

from bot.domain.instrument import Instrument
from bot.domain.order import Side
from bot.simulator.accounts import Account
from bot.simulator.faults import FaultRefused
from bot.simulator.market import Action, BookReset, BookShift, MarketOrder, RecordedTrade
from bot.simulator.orders import (
    EndReason,
    Executed,
    NewOrder,
    Order,
    OrderChanged,
    Printed,
    Refusal,
    Refused,
    Status,
    TimeInForce,
)
from bot.simulator.venue import Venue

INSTRUMENT = Instrument(
    "BTCUSDT", "linear", "BTC", "USDT", Decimal("0.1"), Decimal("0.001"), Decimal("0.001"), Decimal("100"), Decimal("5")
)
BIDS = {599_995: 20, 599_990: 100, 590_000: 5_000}
ASKS = {600_005: 20, 600_010: 100, 610_000: 5_000}


@dataclass
class ScriptedMarket:
    """One action list a second."""

    fixed_background: bool = False
    script: list[list[Action]] = field(default_factory=list)
    steps: int = 0

    def start(self, now_ns: int) -> BookReset:
        return BookReset(dict(BIDS), dict(ASKS))

    def next_at_ns(self) -> int:
        return (self.steps + 1) * 10**9

    def step(self) -> list[Action]:
        self.steps += 1
        return self.script.pop(0) if self.script else []

    def jump(self, ticks: int) -> BookShift:
        return BookShift(ticks)


class Desk:
    """A venue with one account and short words for what a test does."""

    def __init__(self, *script: list[Action], fixed_background: bool = False, equity: str = "100000") -> None:
        self.market = ScriptedMarket(fixed_background, list(script))
        self.venue = Venue(INSTRUMENT, self.market, seed=1, now_ns=0)
        self.account: Account = self.venue.open_account("key", "secret", Decimal(equity), 0)

    def create(
        self,
        side: Side,
        price: int | None,
        lots: int,
        tif: TimeInForce = TimeInForce.GTC,
        *,
        reduce_only: bool = False,
        link_id: str = "",
    ) -> Order:
        return self.venue.create(self.account, NewOrder(link_id, side, price, lots, tif, reduce_only), 1)

    def step(self) -> None:
        self.venue.advance(self.market.next_at_ns())

    def executed(self) -> list[tuple[int, int, bool]]:
        return [
            (h.execution.price_ticks, h.execution.lots, h.execution.is_maker)
            for h in self.venue.drain()
            if isinstance(h, Executed)
        ]


def test_a_post_only_order_that_would_take_is_accepted_and_ends_with_that_reason() -> None:
    desk = Desk()
    order = desk.create(Side.BUY, 600_005, 8, TimeInForce.POST_ONLY)
    assert (order.status, order.end_reason) == (Status.CANCELLED, EndReason.POST_ONLY_WOULD_TAKE)
    told = [h.order.status for h in desk.venue.drain() if isinstance(h, OrderChanged)]
    assert told == [Status.CANCELLED]
    resting = desk.create(Side.BUY, 600_004, 8, TimeInForce.POST_ONLY)
    assert resting.status is Status.NEW
    assert desk.venue.book.best(Side.BUY) == 600_004


def test_a_resting_order_fills_in_parts_as_a_maker_and_pays_the_maker_fee() -> None:
    desk = Desk([MarketOrder(Side.SELL, 599_995, 23)], [MarketOrder(Side.SELL, 599_995, 9)])
    order = desk.create(Side.BUY, 599_995, 8, TimeInForce.POST_ONLY)
    assert desk.venue.book.ahead_lots(order.key) == 20
    desk.step()
    assert desk.executed() == [(599_995, 3, True)]
    assert (order.status, order.filled_lots) == (Status.PARTLY_FILLED, 3)
    desk.step()
    assert desk.executed() == [(599_995, 5, True)]
    assert order.status is Status.FILLED
    assert order.fee_quote == Decimal("59999.5") * Decimal("0.008") * Decimal("0.0002")
    assert desk.account.wallet_quote == Decimal(100_000) - order.fee_quote
    assert desk.account.position.lots == 8


def test_an_immediate_order_takes_down_to_its_limit_and_the_rest_is_cancelled() -> None:
    desk = Desk()
    order = desk.create(Side.BUY, 600_009, 50, TimeInForce.IOC)
    assert desk.executed() == [(600_005, 20, False)]
    assert (order.status, order.end_reason, order.filled_lots) == (Status.CANCELLED, EndReason.NO_IMMEDIATE_QTY, 20)
    assert order.fee_quote == Decimal("60000.5") * Decimal("0.020") * Decimal("0.00055")


def test_fill_or_kill_does_nothing_unless_all_of_it_can_trade() -> None:
    desk = Desk()
    order = desk.create(Side.SELL, 599_990, 121, TimeInForce.FOK)
    assert (order.filled_lots, order.end_reason) == (0, EndReason.NOT_ALL_AT_ONCE)
    assert desk.create(Side.SELL, 599_990, 120, TimeInForce.FOK).status is Status.FILLED


def test_a_market_order_walks_the_book() -> None:
    desk = Desk()
    assert desk.create(Side.SELL, None, 30).status is Status.FILLED
    assert desk.executed() == [(599_995, 20, False), (599_990, 10, False)]


def test_two_accounts_trade_with_each_other_at_the_resting_price() -> None:
    desk = Desk()
    other = desk.venue.open_account("key2", "secret2", Decimal(1_000), 0)
    resting = desk.venue.create(other, NewOrder("", Side.SELL, 600_001, 2, TimeInForce.POST_ONLY), 1)
    desk.create(Side.BUY, 600_003, 2)
    assert resting.status is Status.FILLED
    assert (desk.account.position.lots, other.position.lots) == (2, -2)
    assert desk.executed() == [(600_001, 2, True), (600_001, 2, False)]


def test_reduce_only_is_cut_to_the_position_and_refused_without_one() -> None:
    desk = Desk()
    with pytest.raises(Refused, match="current position is zero") as refused:
        desk.create(Side.SELL, 599_990, 5, TimeInForce.IOC, reduce_only=True)
    assert refused.value.refusal is Refusal.REDUCE_ONLY
    desk.create(Side.BUY, 600_005, 5, TimeInForce.IOC)
    with pytest.raises(Refused, match="current position is zero"):
        desk.create(Side.BUY, 600_005, 5, TimeInForce.IOC, reduce_only=True)
    closing = desk.create(Side.SELL, 599_990, 50, TimeInForce.IOC, reduce_only=True)
    assert (closing.status, closing.filled_lots, desk.account.position.lots) == (Status.FILLED, 5, 0)


def test_a_resting_reduce_only_order_is_withdrawn_in_the_middle_of_a_sweep_and_never_turns_the_position() -> None:
    desk = Desk([MarketOrder(Side.BUY, 600_020, 10_000)])
    desk.create(Side.BUY, 600_005, 10, TimeInForce.IOC)
    plain = desk.create(Side.SELL, 600_008, 10)
    reducing = desk.create(Side.SELL, 600_012, 10, reduce_only=True)
    desk.step()
    assert plain.status is Status.FILLED
    assert (reducing.status, reducing.end_reason) == (Status.CANCELLED, EndReason.REDUCE_ONLY)
    assert desk.account.position.lots == 0


def test_an_amend_keeps_the_place_only_when_nothing_but_size_shrinks() -> None:
    desk = Desk()
    first = desk.create(Side.BUY, 599_000, 8)
    second = desk.create(Side.BUY, 599_000, 8)
    desk.venue.amend(desk.account, first, None, 4, 2)
    assert (desk.venue.book.ahead_lots(first.key), desk.venue.book.ahead_lots(second.key)) == (0, 4)
    desk.venue.amend(desk.account, first, None, 6, 3)
    assert (desk.venue.book.ahead_lots(first.key), desk.venue.book.ahead_lots(second.key)) == (8, 0)
    desk.venue.amend(desk.account, second, 599_001, None, 4)
    assert desk.venue.book.best(Side.BUY) == 599_995
    with pytest.raises(Refused) as refused:
        desk.venue.amend(desk.account, second, 599_001, 8, 5)
    assert refused.value.refusal is Refusal.ORDER_UNCHANGED


def test_a_market_that_moves_through_an_order_has_filled_it_at_its_price() -> None:
    through = BookReset({599_800: 10}, {599_810: 10})
    desk = Desk([through])
    bid = desk.create(Side.BUY, 599_900, 8, TimeInForce.POST_ONLY)
    desk.step()
    assert bid.status is Status.FILLED
    assert desk.executed() == [(599_900, 8, True)]


@pytest.mark.parametrize(
    ("price", "lots", "refusal"),
    [
        (600_000, 0, Refusal.QTY_BELOW_MIN),
        (600_000, 100_001, Refusal.QTY_ABOVE_MAX),
        (100, 400, Refusal.NOTIONAL_BELOW_MIN),
        (660_001, 1, Refusal.PRICE_OUT_OF_RANGE),
        (0, 1, Refusal.PRICE_INVALID),
        (600_000, 20_000, Refusal.BALANCE_INSUFFICIENT),
    ],
)
def test_filters_refuse_and_change_nothing(price: int, lots: int, refusal: Refusal) -> None:
    desk = Desk()
    with pytest.raises(Refused) as refused:
        desk.create(Side.BUY, price, lots)
    assert refused.value.refusal is refusal
    assert not desk.account.open_orders
    assert desk.venue.drain() == []


def test_a_link_id_serves_once_for_ever_and_only_in_its_characters() -> None:
    desk = Desk()
    order = desk.create(Side.BUY, 599_000, 1, link_id="slwq-1-1")
    desk.venue.cancel(desk.account, order, 2)
    for link_id, refusal in (
        ("slwq-1-1", Refusal.LINK_ID_DUPLICATE),
        ("x" * 37, Refusal.LINK_ID_INVALID),
        ("a b", Refusal.LINK_ID_INVALID),
    ):
        with pytest.raises(Refused) as refused:
            desk.create(Side.BUY, 599_000, 1, link_id=link_id)
        assert refused.value.refusal is refusal
    with pytest.raises(Refused) as twice:
        desk.venue.cancel(desk.account, order, 3)
    assert twice.value.refusal is Refusal.ORDER_NOT_FOUND


@pytest.mark.parametrize("side", list(Side))
def test_crossing_makes_the_next_post_only_order_fill_as_a_taker_once(side: Side) -> None:
    desk = Desk()
    fault = desk.venue.arm("crossing", "sim-1", {}, 1)
    desk.create(side, 600_000 - side.sign * 400, 8, TimeInForce.IOC)
    assert fault.fired_at_ns is None
    price = 600_000 - side.sign * 400
    order = desk.create(side, price, 8, TimeInForce.POST_ONLY)
    assert order.status is Status.FILLED
    (execution,) = desk.account.executions
    assert not execution.is_maker
    assert (price - execution.price_ticks) * side.sign >= 0
    assert fault.fired_at_ns == 1
    assert desk.create(side, price - side.sign * 400, 8, TimeInForce.POST_ONLY).status is Status.NEW


def test_crossing_meets_an_amend_too() -> None:
    desk = Desk()
    order = desk.create(Side.BUY, 599_500, 8, TimeInForce.POST_ONLY)
    desk.venue.arm("crossing", "sim-1", {}, 1)
    desk.venue.amend(desk.account, order, 599_600, None, 2)
    assert [(e.is_maker, e.lots) for e in desk.account.executions] == [(False, 8)]


@pytest.mark.parametrize("side", list(Side))
def test_loss_waits_for_a_position_then_jumps_once_against_it_and_stays(side: Side) -> None:
    desk = Desk([], [])
    fault = desk.venue.arm("loss", "sim-1", {"jump_pct": 30}, 1)
    desk.step()
    assert fault.fired_at_ns is None
    desk.create(side, 600_000 + side.sign * 10, 10, TimeInForce.IOC)
    assert fault.fired_at_ns == 1
    mark = desk.venue.mark_half_ticks / 2
    assert mark == 600_000 - side.sign * 180_000
    assert desk.account.equity_quote(desk.venue.mark_half_ticks) < Decimal(100_000 - 175)
    desk.step()
    assert desk.venue.mark_half_ticks / 2 == mark
    closing = desk.create(side.opposite, int(mark * (1 - side.sign * 0.01)), 10, TimeInForce.IOC, reduce_only=True)
    assert (closing.status, desk.account.position.lots) == (Status.FILLED, 0)
    for _ in range(2):  # the second time there is nothing left to undo
        desk.venue.arm("loss_over", "", {}, 2)
        assert desk.venue.mark_half_ticks / 2 == 600_000


def test_a_fault_that_does_not_exist_is_refused_by_name_with_what_is_allowed() -> None:
    desk = Desk()
    with pytest.raises(FaultRefused, match=r"kind: 'nope' is not one of crossing, loss, loss_over, stall, unstall"):
        desk.venue.arm("nope", "sim-1", {}, 1)
    with pytest.raises(FaultRefused, match=r"speed: unknown parameter of loss; allowed are account, symbol, jump_pct"):
        desk.venue.arm("loss", "sim-1", {"speed": 1}, 1)
    with pytest.raises(FaultRefused, match=r"jump_pct: '95' is outside 0.01 to 90"):
        desk.venue.arm("loss", "sim-1", {"jump_pct": 95}, 1)
    with pytest.raises(FaultRefused, match="account"):
        desk.venue.arm("loss", "", {}, 1)


def test_a_foreign_order_stands_far_from_the_market_without_an_id_of_the_client() -> None:
    desk = Desk()
    desk.venue.arm("foreign_order", "sim-1", {"side": "sell", "distance_pct": "5"}, 1)
    (order,) = desk.account.open_orders.values()
    assert (order.link_id, order.side, order.price_ticks) == ("", Side.SELL, 630_000)


def test_own_orders_never_change_the_size_a_record_shows() -> None:
    script: list[Action] = [RecordedTrade(Side.SELL, 599_995, 25), RecordedTrade(Side.SELL, 599_990, 40)]
    plain, own = Desk(list(script), fixed_background=True), Desk(list(script), fixed_background=True)
    ahead = own.create(Side.BUY, 599_996, 4, TimeInForce.POST_ONLY)
    behind = own.create(Side.BUY, 599_995, 8, TimeInForce.POST_ONLY)
    own.create(Side.BUY, 600_010, 60, TimeInForce.IOC)
    assert own.account.position.lots == 60
    plain.step()
    own.step()
    for side in Side:
        assert own.venue.book.background(side) == plain.venue.book.background(side)
    assert (ahead.status, behind.filled_lots) == (Status.FILLED, 8)
    trades = [h.trade.lots for h in plain.venue.drain() if isinstance(h, Printed)]
    assert trades == [25, 40]
