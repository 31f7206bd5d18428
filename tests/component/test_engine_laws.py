"""Laws that hold whatever happens: the book after a gap, the ledger, the band of calm, stops, and shared limits."""

from __future__ import annotations

from decimal import Decimal
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bot.domain import events as ev
from bot.domain import intent as it
from bot.domain.book import Book
from bot.domain.order import Side
from bot.engine.desk import Desk
from tests.support.engine_driver import ASK, BID, MS, SYMBOL, Driver, S, filters, of

D = Decimal
levels = st.lists(st.tuples(st.integers(90, 110), st.integers(0, 3)), max_size=4)


# ---- the book ----


@settings(max_examples=200)
@given(st.lists(st.tuples(st.sampled_from(["delta", "gap", "snapshot", "lost"]), levels, levels), max_size=30))
def test_a_book_is_never_shown_crossed_and_after_a_gap_not_at_all_until_a_snapshot(
    told: list[tuple[str, list[tuple[int, int]], list[tuple[int, int]]]],
) -> None:
    book, number, trusted = Book(), 0, False
    for what, bids, asks in told:
        if what == "snapshot":
            number += 1
            book.replace(bids, asks, number, number)
            trusted = True
        elif what == "lost":
            book.lose()
            trusted = False
        else:
            number += 1 if what == "delta" else 2
            took = book.change(bids, asks, number, number)
            trusted = trusted and what == "delta"
            assert took == trusted
        top = book.top
        assert trusted or top is None
        if top is not None:
            assert top[0] < top[1]
            assert book.lots_at(Side.BUY, top[0]) > 0 < book.lots_at(Side.SELL, top[1])


@pytest.mark.parametrize("what", ["gap", "lost", "crossed"])
def test_nothing_is_decided_on_a_book_that_cannot_be_trusted(what: str) -> None:
    driver = Driver(requote_interval_ms=0).start()
    driver.wait(S)
    last = driver._update_id
    moved = ((BID + 3000, 5),), ((ASK, 0), (ASK + 3000, 5))
    if what == "gap":
        told = driver.tell(ev.BookDelta(driver.now, SYMBOL, *moved, last + 2, driver.now))
        assert len(of(it.ResyncBook, told)) == 1
    elif what == "lost":
        driver.tell(ev.BookLost(driver.now, SYMBOL, "reset"))
    else:
        driver.tell(ev.BookDelta(driver.now, SYMBOL, ((ASK + 5, 5),), (), last + 1, driver.now))
    driver.sent.clear()
    driver.tell(ev.BookDelta(driver.now, SYMBOL, (), (), last + 3, driver.now))
    driver.wait(500 * MS, market=False)
    assert of(it.PlaceOrder, driver.sent) == of(it.AmendOrder, driver.sent) == []
    driver.book(BID + 3000, ASK + 3000)
    assert len(of(it.AmendOrder, driver.sent)) == 2


# ---- the ledger, through the door ----


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from(list(Side)), st.integers(1, 9), st.integers(490_000, 510_000)), max_size=12),
    st.lists(st.integers(-500, 500), max_size=4),
    st.randoms(use_true_random=False),
)
def test_the_result_is_that_of_fills_and_funding_whatever_order_and_repeats(
    drawn: list[tuple[Side, int, int]], funding: list[int], random: Random
) -> None:
    told: list[ev.Event] = [
        ev.Filled(1, f"e{number}", "slwf-1-1", "v", SYMBOL, side, D(price) / 10, lots, D("0.001") * lots, True, 1)
        for number, (side, lots, price) in enumerate(drawn)
    ]
    told += [ev.FundingPaid(1, f"f{number}", SYMBOL, D(paid) / 100, 1) for number, paid in enumerate(funding)]
    told = [*told, *told]
    random.shuffle(told)
    driver = Driver()
    driver.tell(filters(1))
    for event in told:
        driver.engine.receive(event)
    driver.engine.receive(ev.BookSnapshot(2, SYMBOL, ((BID, 5),), ((ASK, 5),), 1, 2))
    position = sum(side.sign * lots for side, lots, _ in drawn)
    cash = sum((-side.sign * D(price) / 10 * lots / 1000 for side, lots, price in drawn), D(0))
    fees = sum((D("0.001") * lots for _, lots, _ in drawn), D(0))
    pnl = driver.engine.pnl()
    assert driver.engine.state.ledger.accounts[SYMBOL].position_lots == position
    assert pnl.funding == D(sum(funding)) / 100
    assert pnl.net == cash + D(position) / 1000 * D(BID + ASK) / 20 - fees + pnl.funding


# ---- the band of calm ----


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32), st.sampled_from([0, 2, 5, 40]), st.sampled_from([D(0), D("0.4"), D(3)]))
def test_inside_the_band_nothing_would_have_been_done(seed: int, ticks: int, offset: Decimal) -> None:
    changes = {
        "requote_tolerance_ticks": ticks, "requote_tolerance_bps": D(0), "requote_interval_ms": 0,
        "post_only_offset_bps": offset, "edge_threshold_bps": D(0), "orders_per_min_max": 10**6,
    }  # fmt: skip
    with_band, without = Driver(**changes).start(), Driver(**changes).start()
    random, inside_band = Random(seed), Desk.inside_band
    bid = BID
    for _ in range(120):
        bid += random.choice((-2, -1, -1, 0, 1, 1, 2))
        spread = random.choice((1, 2, 2, 3))
        expected = without_band(without, bid, spread, inside_band)
        with_band.now += 5 * MS
        assert with_band.book(bid, bid + spread) == expected


def without_band(driver: Driver, bid: int, spread: int, inside_band: object) -> list[it.Intent]:
    driver.now += 5 * MS
    Desk.inside_band = lambda *_: False  # type: ignore[method-assign]
    try:
        return driver.book(bid, bid + spread)
    finally:
        Desk.inside_band = inside_band  # type: ignore[assignment,method-assign]


def test_the_band_spares_nearly_every_look_of_a_calm_market(monkeypatch: pytest.MonkeyPatch) -> None:
    driver = Driver(requote_tolerance_ticks=20, requote_interval_ms=0).start()
    looks: list[tuple[int, int]] = []
    shape = driver.engine._cycle._shape

    def watched(desk: Desk, bid: int, ask: int) -> object:
        looks.append((bid, ask))
        return shape(desk, bid, ask)

    monkeypatch.setattr(driver.engine._cycle, "_shape", watched)
    for number in range(200):
        driver.book(BID + number % 5, ASK + number % 5)
    assert len(looks) < 20


def test_a_quote_too_small_to_be_kept_is_brought_up_once_its_interval_is_over_in_a_market_that_stands_still() -> None:
    driver = Driver(requote_tolerance_ticks=200, requote_interval_ms=1000, inventory_skew_bps=D(0)).start()
    bid = driver.quotes[Side.BUY]
    driver.fill(bid.client_order_id, bid.qty_lots - 1)
    driver.sent.clear()
    driver.wait(500 * MS)
    assert of(it.AmendOrder, driver.sent) == []
    driver.wait(S)
    assert [amend.client_order_id for amend in of(it.AmendOrder, driver.sent)] == [bid.client_order_id]


happenings = st.sampled_from(["up", "down", "part", "whole", "grant", "looser", "refuse", "wallet", "filters", "wait"])


@settings(max_examples=150, deadline=None)
@given(
    st.lists(st.tuples(happenings, st.integers(1, 9)), max_size=25),
    st.sampled_from([0, 40, 400]),
    st.sampled_from([0, 250, 2000]),
    st.sampled_from([None, D("0.006"), D(3)]),
)
def test_a_turn_of_the_clock_or_a_confirmation_that_is_spared_would_have_done_nothing(
    plan: list[tuple[str, int]], ticks: int, interval_ms: int, leverage: Decimal | None
) -> None:
    changes = {
        "requote_tolerance_ticks": ticks, "requote_interval_ms": interval_ms, "edge_threshold_bps": D(2),
        "leverage_max": leverage, "stale_after_ms": 60_000,
    }  # fmt: skip
    sparing, thorough = Driver(**changes).start(), Driver(**changes).start()
    thorough.engine._cycle._settled = lambda desk: False  # type: ignore[method-assign]
    thorough.engine._cycle._as_planned = lambda desk: False  # type: ignore[method-assign]
    for driver in (sparing, thorough):
        driver.tell(ev.WalletRead(driver.now, D(100_000), D(0)))
        driver.wait(300 * MS)
    for what, number in plan:
        for driver in (sparing, thorough):
            happen(driver, what, number)
            driver.wait(200 * MS * number)
        assert sparing.sent == thorough.sent


def happen(driver: Driver, what: str, number: int) -> None:
    """One thing that a look at a symbol may depend on."""
    top, order = driver.engine.state.books[SYMBOL].top, next(iter(driver.venue.values()), None)
    if what in ("up", "down") and top is not None:
        moved = number * 7 if what == "up" else -number * 7
        driver.book(top[0] + moved, top[1] + moved)
    elif what in ("part", "whole") and order is not None:
        open_lots = order.qty_lots - order.filled_lots
        driver.fill(order.client_order_id, open_lots if what == "whole" or open_lots < 2 else open_lots - 1)
    elif what == "grant":
        driver.tell(ev.GrantReceived(driver.now, "acct", 1, D(20 * number), D(60 * number), 5.0))
    elif what == "looser":
        driver.epoch = 1
        driver.grant()
    elif what == "refuse" and order is not None:
        driver.tell(ev.AmendAnswered(driver.now, order.client_order_id, 1, 1, "refused"))
    elif what == "wallet":
        driver.tell(ev.WalletRead(driver.now, D(30_000 * number), D(0)))
    elif what == "filters":
        driver.tell(filters(driver.now))


steps = st.tuples(
    st.sampled_from(["mark", "mark", "buy", "sell", "funding", "wallet", "grant", "rearm", "clock", "clock"]),
    st.integers(-9, 9),
    st.sampled_from([100 * MS, 30 * S, 61 * S, 3600 * S, 7 * 3600 * S]),
)


@settings(max_examples=150, deadline=None)
@given(st.lists(steps, max_size=30), st.booleans())
def test_a_look_at_losses_that_is_spared_would_have_found_the_same(
    plan: list[tuple[str, int, int]], auto_hold: bool
) -> None:
    changes = {
        "daily_loss_cap_quote": D(25), "enforce_daily_loss_cap": True, "daily_loss_cap_auto_hold": auto_hold,
        "kill_loss_max_quote": D(150), "budget_loss_quote": None if auto_hold else D(90), "leverage_max": D(3),
    }  # fmt: skip
    sparing, thorough = Driver(**changes).start(), Driver(**changes).start()
    thorough.engine._losses._goes_by_the_same = lambda: False  # type: ignore[method-assign]
    thorough.engine._losses.unmoved = lambda: False  # type: ignore[method-assign]
    for number, (what, amount, passed_ns) in enumerate(plan):
        for driver in (sparing, thorough):
            driver.now += passed_ns
            move_money(driver, what, amount, f"x{number}")
            driver.tell(ev.Ticked(driver.now))
            driver.tell(ev.Ticked(driver.now + 100 * MS))
        assert sparing.sent == thorough.sent
        assert sparing.engine.state.barred == thorough.engine.state.barred
        spared, looked = sparing.engine.state.equity, thorough.engine.state.equity
        assert (spared.loss_24h_quote, spared.drawdown_quote) == (looked.loss_24h_quote, looked.drawdown_quote)
        assert spared.peak_quote == looked.peak_quote


def move_money(driver: Driver, what: str, amount: int, name: str) -> None:
    """One thing that the result, or a limit on losing, depends on."""
    if what == "mark":
        driver.book(BID + 500 * amount, ASK + 500 * amount)
    elif what in ("buy", "sell"):
        side = Side.BUY if what == "buy" else Side.SELL
        price = D(BID + 300 * amount) / 10
        driver.tell(ev.Filled(driver.now, name, "slwf-1-9", "v", SYMBOL, side, price, 7, D(0), True, driver.now))
    elif what == "funding":
        driver.tell(ev.FundingPaid(driver.now, name, SYMBOL, D(amount * 3), driver.now))
    elif what == "wallet":
        driver.tell(ev.WalletRead(driver.now, D(10_000 + 6 * amount), D(0)))
    elif what == "grant":
        driver.tell(ev.GrantReceived(driver.now, "acct", 1, D(500), D(2000 - 190 * abs(amount)), 60.0))
    elif what == "rearm":
        driver.tell(ev.RearmRequested(driver.now, "*", ("ann", "bob")))


# ---- the turns of the clock ----


class WholeTurns(Driver):
    """Every turn of the clock looks at everything, as if each time that somebody waits for had come."""

    def tell(self, *said: ev.Event) -> list[it.Intent]:
        self.engine.state.due_ns = 0
        return super().tell(*said)


troubles = st.sampled_from(
    ["up", "down", "part", "whole", "grant", "looser", "refuse", "uncertain", "silence", "speech", "stream", "trade",
     "drill", "resume", "cancelled", "wallet", "stale", "slow", "thresholds", "stranger", "wait", "long wait"]
)  # fmt: skip


@settings(max_examples=120, deadline=None)
@given(
    st.lists(st.tuples(troubles, st.integers(1, 9)), max_size=30),
    st.sampled_from(["spread_and_skew", "avellaneda_stoikov"]),
    st.sampled_from([0, 40]),
    st.sampled_from([{}, {"kill_total_max_quote": D(210)}, {"orders_per_min_max": 6}, {"ack_timeout_s": D(1)}]),
)
def test_a_clock_that_looks_when_something_is_due_says_what_one_does_that_always_looks(
    plan: list[tuple[str, int]], strategy: str, ticks: int, otherwise: dict[str, object]
) -> None:
    changes = {
        "strategy": strategy, "requote_tolerance_ticks": ticks, "edge_threshold_bps": D(2), "markout_memory_s": 4,
        "stale_after_ms": 1500, "venue_slow_ms": 50, "finished_kept_s": 3, "recon_interval_s": D(3), **otherwise,
    }  # fmt: skip
    sparing, thorough = Driver(**changes).start(), WholeTurns(**changes).start()
    for what, number in plan:
        for driver in (sparing, thorough):
            trouble(driver, what, number)
            driver.wait((2_500 if what in ("long wait", "stale") else 100 * number) * MS, market=what != "stale")
        assert sparing.sent == thorough.sent
        assert sparing.engine.counts == thorough.engine.counts
        assert len(sparing.engine.state.orders) == len(thorough.engine.state.orders)
        assert list(sparing.engine._performance.markouts()) == list(thorough.engine._performance.markouts())


def trouble(driver: Driver, what: str, number: int) -> None:
    """One thing after which somebody may have to wait for a time."""
    order, now = next(iter(driver.venue.values()), None), driver.now
    if what == "silence":
        kinds = (it.AmendOrder, it.PlaceOrder, it.CancelOrder, it.CancelAll, it.ReadAccount, it.ProbeOrder)
        driver.silent.add(kinds[number % len(kinds)])
    elif what == "speech":
        driver.silent.clear()
    elif what == "uncertain" and order is not None:
        driver.tell(ev.OrderUncertain(now, order.client_order_id, 0, "time-out"))
    elif what == "cancelled" and order is not None:
        driver.tell(ev.CancelAnswered(now, order.client_order_id, "gone"))
    elif what == "stream":
        driver.tell(ev.StreamUp(now, "private") if number % 2 else ev.StreamDown(now, "private", "reset"))
    elif what == "trade":
        driver.tell(ev.TradePrinted(now, SYMBOL, BID + number, 1, Side.BUY, now))
    elif what == "drill":
        driver.tell(ev.StopRequested(now, "drill", "planned", "auto", "ops"))
    elif what == "resume":
        driver.tell(ev.ResumeRequested(now, "*", "ann"))
    elif what == "stranger":
        told = ev.VenueOrder(SYMBOL, "slwq-9-9", "v9", Side.BUY, BID - 900, 1, 0, ev.OrderStatus.WORKING)
        driver.tell(ev.OrderUpdated(now, told))
    elif what == "slow" and order is not None:
        driver.tell(ev.OrderAccepted(now, order.client_order_id, "v"))
    elif what == "thresholds":
        driver.tell(ev.ThresholdsReloaded(now, "file", {"*": ev.Thresholds(D(number), 200 * number, 10 * number)}))
    else:
        happen(driver, what, number)


# ---- stops ----


@settings(max_examples=40, deadline=None)
@given(st.lists(st.sampled_from(["drill", "operator_freeze", "kill_switch", "drill", "wait"]), min_size=1, max_size=12))
def test_a_cancel_all_is_sent_once_until_it_is_proven_and_nothing_leaves_while_stopped(plan: list[str]) -> None:
    driver = Driver(hysteresis_s=D(0)).start()
    driver.silent = {it.ReadAccount}
    driver.sent.clear()
    stopped = False
    for what in plan:
        if what == "wait":
            driver.wait(300 * MS)
            continue
        driver.tell(ev.StopRequested(driver.now, what, "planned", "auto", "ops"))
        stopped = True
    if not stopped:
        return
    keys = [intent.key for intent in of(it.CancelAll, driver.sent)]
    assert len(keys) == len(set(keys)) == 1
    assert of(it.PlaceOrder, driver.sent) == of(it.AmendOrder, driver.sent) == []
    assert driver.venue == {}


# ---- limits that symbols share ----

SYMBOLS = (SYMBOL, "ETHUSDT", "SOLUSDT")
moves = st.lists(
    st.tuples(st.sampled_from(SYMBOLS), st.sampled_from(["up", "down", "fill", "unknown", "tick"])), max_size=40
)


@settings(max_examples=60, deadline=None)
@given(moves, st.sampled_from([D(350), D(600), D(2000)]))
def test_all_symbols_together_never_lean_further_than_the_total_by_what_was_just_approved(
    plan: list[tuple[str, str]], total: Decimal
) -> None:
    driver = Driver(symbols=SYMBOLS, total_max_quote=total, inventory_max_quote=D(300), edge_threshold_bps=D(0))
    driver.silent = {it.ReadAccount}
    tops = dict.fromkeys(SYMBOLS, BID)
    number = 1

    def book(symbol: str) -> list[it.Intent]:
        top = tops[symbol]
        snapshot = ev.BookSnapshot(driver.now, symbol, ((top, 5000),), ((top + 2, 5000),), number, driver.now)
        return driver.tell(snapshot)

    driver.tell(ev.Started(driver.now, "run", "live", "digest", "v", SYMBOLS))
    for symbol in SYMBOLS:
        driver.tell(filters(driver.now, symbol))
    for stream in ("public", "private"):
        driver.tell(ev.StreamUp(driver.now, stream))
    for symbol in SYMBOLS:
        driver.tell(ev.OpenOrdersRead(driver.now, symbol, driver.now, ()))
        driver.tell(ev.PositionRead(driver.now, symbol, driver.now, 0, D(0)))
        book(symbol)
    told = driver.grant(ttl_s=60.0)
    state = driver.engine.state
    for symbol, what in plan:
        driver.now += 300 * MS
        orders = [order for order in driver.venue.values() if order.symbol == symbol]
        if what in ("up", "down"):
            tops[symbol] += 700 if what == "up" else -700
            told = book(symbol)
        elif what == "fill" and orders:
            order = orders[0]
            fill = ev.Filled(
                driver.now, f"e{driver.now}", order.client_order_id, "v", symbol, order.side,
                D(order.price_ticks) / 10, 1, D(0), True, driver.now,
            )  # fmt: skip
            told = driver.tell(fill)
        elif what == "unknown" and orders:
            told = driver.tell(ev.OrderUncertain(driver.now, orders[0].client_order_id, 0, "time-out"))
        else:
            told = driver.tell(ev.Ticked(driver.now))
        if not any(isinstance(intent, it.PlaceOrder) for intent in told):
            continue
        worst = D(0)
        for name in SYMBOLS:
            position, mid = state.ledger.accounts[name].position_lots, state.mark(name)
            buys, sells = state.orders.exposed_lots(name)
            assert mid is not None
            assert state.exposure.total_pico() >= 0
            worst += max(abs(position + buys), abs(position - sells)) * mid / 1000
        grown = [intent for intent in told if isinstance(intent, it.PlaceOrder)]
        reducing = all(state.ledger.accounts[one.symbol].position_lots * one.side.sign < 0 for one in grown)
        assert worst <= total or reducing
