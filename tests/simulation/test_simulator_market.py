"""The generated market repeats under its seed, stands uncrossed, and pays a maker who quotes at a sensible distance."""

import random
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bot.domain.order import Side
from bot.simulator.book_half import Half
from bot.simulator.listings import GENERATED
from bot.simulator.market import Action, BookReset, GeneratedMarket, LevelSide, LevelsMove
from bot.simulator.matching import Book
from bot.simulator.orders import NewOrder, Order, TimeInForce
from bot.simulator.venue import Venue

STEP_NS = 100_000_000


def _standing(half: Half) -> dict[int, int]:
    return {level.price_ticks: level.lots for level in half.ladder}


def _half(away: int, levels: dict[int, int]) -> Half:
    """Of a book in which these stand."""
    half = Half(away < 0)
    half.replace_background(levels)
    return half


def _happen(action: Action, book: Book) -> None:
    if isinstance(action, BookReset):
        book.replace_background(Side.BUY, action.bids)
        book.replace_background(Side.SELL, action.asks)
    elif isinstance(action, LevelsMove):
        action.tell(book.bids, book.asks)


def test_the_same_seed_gives_the_same_market_and_another_seed_another() -> None:
    def play(seed: int) -> list[object]:
        market, book = GeneratedMarket(seed), Book()
        told: list[object] = [market.start(0)]
        for _ in range(200):
            for action in market.step():
                told.append(action if not isinstance(action, LevelsMove) else (action.bid, action.ask))
                _happen(action, book)
            told += [book.background(side) for side in Side]
        return told

    assert play(5) == play(5)
    assert play(5) != play(6)


def test_the_book_is_never_crossed_and_its_spread_is_a_few_ticks() -> None:
    market, book = GeneratedMarket(3), Book()
    step: list[Action] = [market.start(0)]
    for _ in range(3_000):
        for action in step:
            _happen(action, book)
        step = market.step()
        (bid, _), (ask, _) = book.depth(Side.BUY, 1)[0], book.depth(Side.SELL, 1)[0]
        assert 1 <= ask - bid <= 4
        for side in Side:
            levels = book.background(side)
            assert len(levels) > 60
            assert min(levels.values()) > 0
            assert min(levels) > 0


@pytest.mark.parametrize("away", [-1, 1])
@given(moves=st.lists(st.integers(-600, 600), max_size=30))
def test_a_side_that_was_moved_stands_where_one_that_is_made_anew_would(away: int, moves: list[int]) -> None:
    moved, draw = LevelSide(away, lambda: 0.5), lambda: 0.5
    book = _half(away, moved.stand(600_000))
    for ticks in moves:
        moved.move(moved.touch + ticks, book)
        assert _standing(book) == moved.levels
        assert set(moved.levels) == set(LevelSide(away, draw).stand(moved.touch))


@pytest.mark.parametrize("away", [-1, 1])
@given(moves=st.lists(st.integers(-600, 600), max_size=8), far=st.integers(-10_000, 10_000), seed=st.integers(0, 99))
def test_a_new_book_told_as_changes_is_the_one_told_whole(away: int, moves: list[int], far: int, seed: int) -> None:
    whole, near = (LevelSide(away, random.Random(seed).random) for _ in range(2))
    books = [_half(away, side.stand(600_000)) for side in (whole, near)]
    for ticks in moves:
        for side, book in zip((whole, near), books, strict=True):
            side.move(side.touch + ticks, book)
    stands = whole.stand(whole.touch + far)
    near.stand_near(near.touch + far, books[1])
    assert _standing(books[1]) == stands == near.levels
    books[0].replace_background(stands)
    for side, book in zip((whole, near), books, strict=True):
        side.move(side.touch + 41, book)
    assert _standing(books[0]) == _standing(books[1]), "and as many draws were taken"


@pytest.mark.parametrize("away", [-1, 1])
@given(start=st.integers(600_000, 600_080), ticks=st.integers(-900, 900), seed=st.integers(0, 99))
def test_levels_keep_their_sizes_through_a_jump(away: int, start: int, ticks: int, seed: int) -> None:
    side = LevelSide(away, random.Random(seed).random)
    before = {price + ticks: lots for price, lots in side.stand(start).items()}
    side.shift(ticks)
    assert side.levels == before
    after = side.stand(start + ticks)
    assert all(after[price] == lots for price, lots in before.items() if price in after)
    assert side.levels == after


def test_a_long_move_stands_again_what_a_taker_took() -> None:
    market = GeneratedMarket(4)
    venue = Venue(GENERATED, market, seed=4, now_ns=0)
    account = venue.open_account("key", "secret", Decimal(10_000_000), 0)
    venue.create(account, NewOrder("", Side.BUY, market._asks.touch + 2_000, 30_000, TimeInForce.IOC), 0)
    assert len(venue.book.background(Side.SELL)) < len(market._asks.levels)
    market._fair += 900
    venue.advance(STEP_NS)
    assert venue.book.background(Side.BUY) == market._bids.levels
    assert venue.book.background(Side.SELL) == market._asks.levels


def test_after_a_jump_of_any_size_the_book_stands_around_the_new_price() -> None:
    market, book = GeneratedMarket(4), Book()
    for action in [market.start(0), *market.step()]:
        _happen(action, book)
    assert market.jump(-7_777).ticks == -7_777
    reset = market.step()[-1]
    assert isinstance(reset, BookReset)
    assert abs(max(reset.bids) - 592_223) < 700
    assert len(reset.bids) > 60


def test_a_market_whose_levels_have_not_moved_goes_no_further() -> None:
    market, book = GeneratedMarket(4), Book()
    _happen(market.start(0), book)
    actions = market.step()
    with pytest.raises(RuntimeError, match="have not moved"):
        market.step()
    with pytest.raises(RuntimeError, match="have not moved"):
        market.jump(5)
    for action in actions:
        _happen(action, book)
    market.step()


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
