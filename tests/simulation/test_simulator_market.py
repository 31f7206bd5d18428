"""The generated market repeats under its seed, stands uncrossed, and pays a maker who quotes at a sensible distance."""

from decimal import Decimal

import pytest

from bot.domain.order import Side
from bot.simulator.market import BookReset, GeneratedMarket
from bot.simulator.orders import NewOrder, Order, TimeInForce
from bot.simulator.server import GENERATED
from bot.simulator.venue import Venue

STEP_NS = 100_000_000


def test_the_same_seed_gives_the_same_market_and_another_seed_another() -> None:
    def play(seed: int) -> list[object]:
        market = GeneratedMarket(seed)
        return [market.start(0), *(market.step() for _ in range(200))]

    assert play(5) == play(5)
    assert play(5) != play(6)


def test_the_book_is_never_crossed_and_its_spread_is_a_few_ticks() -> None:
    market = GeneratedMarket(3)
    market.start(0)
    for _ in range(3_000):
        for action in market.step():
            if isinstance(action, BookReset):
                assert 1 <= min(action.asks) - max(action.bids) <= 4
                assert len(action.bids) > 60
                assert min(action.bids.values()) > 0
                assert min(action.asks.values()) > 0
                assert min(action.bids) > 0


def _quote_for(seconds: int, half_spread_bps: int, seed: int) -> tuple[float, Decimal]:
    """Fills a minute and net result of a maker who re-quotes every 200 ms when 1 bp away; position at most 16 lots."""
    venue = Venue(GENERATED, GeneratedMarket(seed), seed=seed, now_ns=0)
    account = venue.open_account("key", "secret", Decimal(100_000), 0)
    orders: dict[Side, Order] = {}
    for step in range(0, seconds * 10, 2):
        now_ns = step * STEP_NS
        venue.advance(now_ns)
        venue.drain()
        mid = venue.mark_half_ticks // 2
        for side in Side:
            price = mid - side.sign * mid * half_spread_bps // 10_000
            order = orders.get(side)
            if order is not None and order.status.is_open:
                if abs(order.price_ticks - price) * 10_000 <= mid:
                    continue
                venue.cancel(account, order, now_ns)
            if side.sign * account.position.lots < 16:
                orders[side] = venue.create(account, NewOrder("", side, price, 8, TimeInForce.POST_ONLY), now_ns)
    assert all(execution.is_maker for execution in account.executions)
    net = account.equity_quote(venue.mark_half_ticks) - 100_000
    return account.executions_count * 60 / seconds, net


@pytest.mark.parametrize("half_spread_bps", [6, 8])
def test_a_maker_is_filled_often_and_earns_its_spread_on_average(half_spread_bps: int) -> None:
    results = [_quote_for(120, half_spread_bps, seed) for seed in (1, 2)]
    assert all(15 <= fills <= 70 for fills, _ in results), results
    assert sum(net for _, net in results) > 0, results
