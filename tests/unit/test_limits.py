"""Limits on money, counts and thresholds, each through the engine's door: what it refuses, bars, holds or halts."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import msgspec
import pytest

from bot.domain import events as ev
from bot.domain import intent as it
from bot.domain.order import OrderState, Side
from bot.engine.engine import Engine
from bot.engine.ledger import DAY_NS
from bot.engine.order_plan import Amend, Cancel, Place, Tolerance, plan_pieces, split
from bot.engine.orders import OwnOrder
from bot.engine.parameters import SymbolParameters
from bot.engine.quoting import Quote
from tests.support.engine_driver import ASK, BID, MS, SYMBOL, Driver, S, filters, of, parameters

D = Decimal


def reasons(driver: Driver) -> list[str]:
    return [stop.reason for stop in driver.engine.stops]


def lose(driver: Driver, ticks: int = 30_000) -> None:
    """Long 4 lots (200 quote), then the market falls by that many ticks: 4 lots x 3,000 = 12 quote by default."""
    driver.fill(driver.quotes[Side.BUY].client_order_id, 4)
    driver.book(BID - ticks, ASK - ticks)
    driver.wait(200 * MS)


# ---- money ----


def test_funding_is_booked_once_and_shown_and_counts_in_net() -> None:
    driver = Driver().start()
    paid = ev.FundingPaid(driver.now, "BTCUSDT-1", SYMBOL, D("-1.25"), driver.now)
    driver.tell(paid)
    driver.tell(paid)
    pnl = driver.engine.pnl()
    assert (pnl.funding, pnl.net) == (D("-1.25"), D("-1.25"))
    shown = {name: value for name, _, value in driver.engine.gauges(driver.now)}
    assert shown["mm_funding_quote_total"] == -1.25


def test_the_daily_loss_cap_holds_or_bars_or_only_tells() -> None:
    wide = {"daily_loss_pct_hard": D(90), "drawdown_pct_hard": D(90), "daily_loss_cap_quote": D(10)}
    driver = Driver(**wide).start()
    lose(driver)
    assert reasons(driver) == ["daily_loss_cap"]
    assert driver.engine.view == "HELD"
    driver = Driver(**wide, daily_loss_cap_auto_hold=False).start()
    lose(driver)
    assert reasons(driver) == []
    driver.sent.clear()
    driver.wait(2 * S)
    assert of(it.PlaceOrder, driver.sent) == of(it.AmendOrder, driver.sent) == []
    assert driver.count("mm_limit_breaches_total", "daily_loss_cap") >= 1
    driver = Driver(**wide, enforce_daily_loss_cap=False).start()
    lose(driver)
    driver.wait(2 * S)
    assert driver.engine.view == "RUNNING"
    assert driver.venue
    assert driver.count("mm_limit_breaches_total", "daily_loss_cap") == 1


def test_midnight_releases_no_stop_and_the_24_hours_roll_on_across_it() -> None:
    driver = Driver(daily_loss_pct_hard=D(90), drawdown_pct_hard=D(90), daily_loss_cap_quote=D(10))
    driver.now = (driver.now // DAY_NS + 1) * DAY_NS - 30 * S
    driver.start().stated()
    lose(driver)
    lost = driver.engine.state.equity.loss_24h_quote
    driver.wait(60 * S)
    assert driver.now % DAY_NS < 60 * S
    assert reasons(driver) == ["daily_loss_cap"]
    assert driver.engine.state.equity.loss_24h_quote == lost


def test_a_strategy_holds_when_it_has_lost_or_traded_its_budget_of_the_day() -> None:
    driver = Driver(budget_loss_quote=D(10)).start()
    lose(driver)
    assert reasons(driver) == ["strategy_budget"]
    driver = Driver(budget_turnover_quote=D(149)).start()
    driver.wait(S)
    driver.fill(driver.quotes[Side.BUY].client_order_id, 2)
    assert reasons(driver) == []
    driver.fill(driver.quotes[Side.BUY].client_order_id, 1)
    assert reasons(driver) == ["strategy_budget"]


def test_a_new_day_is_a_new_budget_but_the_stop_of_the_old_one_stays() -> None:
    driver = Driver(budget_turnover_quote=D(149))
    driver.now = (driver.now // DAY_NS + 1) * DAY_NS - 10 * S
    driver.start()
    driver.wait(S)
    driver.fill(driver.quotes[Side.BUY].client_order_id, 3)
    driver.wait(20 * S)
    assert reasons(driver) == ["strategy_budget"]
    driver.tell(ev.ResumeRequested(driver.now, "*", "ops"))
    driver.wait(5 * S)
    assert driver.engine.view == "RUNNING"


@pytest.mark.parametrize("way", ["re-arm", "resume", "confirm"])
def test_what_people_release_holds_again_before_a_quote_leaves_where_its_cause_is_there(way: str) -> None:
    limit = {"budget_loss_quote": D(10)} if way == "resume" else {"daily_loss_pct_hard": D("0.5")}
    driver = Driver(**limit).start()
    lose(driver)
    (reason,) = reasons(driver)
    driver.wait(S)
    driver.sent.clear()
    if way == "resume":
        driver.tell(ev.ResumeRequested(driver.now, "*", "ops"))
    elif way == "re-arm":
        driver.tell(ev.RearmRequested(driver.now, "*", ("ada", "grace")))
    else:
        driver.tell(ev.ReleaseAsked(driver.now, "r1", "re-arm", "*", "ada", "looked", True))
        driver.tell(ev.ReleaseConfirmed(driver.now, "r1", "grace", "so did I", True))
    assert [note.fields["released"] for note in driver.notes("stop_changed") if "released" in note.fields] == [reason]
    driver.book(BID - 20_000, ASK - 20_000)  # the market moves before the clock turns
    assert of(it.PlaceOrder, driver.sent) == []
    assert reasons(driver) == [reason]


def test_a_loss_that_is_there_when_all_else_is_ready_halts_before_the_first_quote() -> None:
    driver = Driver()
    driver.silent = {it.ReadAccount}
    driver.position_lots = 6
    driver.tell(ev.Started(driver.now, "run", "live", "digest", "v", (SYMBOL,)))
    driver.tell(ev.EquityCarried(driver.now, "acct", ((driver.now - S, D(0)),), D(0)))
    driver.tell(filters(driver.now))
    driver.tell(ev.StreamUp(driver.now, "public"))
    driver.tell(ev.StreamUp(driver.now, "private"))
    driver.wait(200 * MS)
    driver.book(BID - 130_000, ASK - 130_000)  # 13,000 below what the 6 lots cost: 78 quote of 60
    driver.tell(driver.orders_read())
    driver.tell(driver.position_read())
    assert of(it.PlaceOrder, driver.sent) == []
    assert "daily_loss" in reasons(driver)


def test_kill_caps_halt_and_publish_the_kill_switch() -> None:
    driver = Driver(kill_loss_max_quote=D(10), daily_loss_pct_hard=D(90), drawdown_pct_hard=D(90)).start()
    lose(driver)
    assert (reasons(driver), driver.engine.view) == (["kill_caps"], "HALTED")
    assert len(of(it.PublishKillSwitch, driver.sent)) == 1


def test_a_kill_cap_of_the_total_is_a_ceiling_that_no_grant_raises() -> None:
    driver = Driver(kill_total_max_quote=D(150), inventory_max_quote=D(500)).start()
    assert driver.engine.state.total_max_quote == 150
    assert max(order.qty_lots for order in driver.venue.values()) <= 3


def test_margin_in_use_above_its_share_of_equity_halts() -> None:
    driver = Driver().start()
    driver.tell(ev.WalletRead(driver.now, D(1000), D(799)))
    assert driver.engine.view == "RUNNING"
    driver.tell(ev.WalletRead(driver.now, D(1000), D(800)))
    driver.wait(100 * MS)
    assert (reasons(driver), driver.engine.view) == (["margin_ratio"], "HALTED")


def test_the_venues_statement_counts_where_it_is_the_worse_and_a_transfer_is_no_loss() -> None:
    driver = Driver().start()
    driver.tell(ev.WalletRead(driver.now, D(1000), D(0)))
    driver.tell(ev.WalletRead(driver.now, D(500), D(0), D(-500)))
    driver.wait(200 * MS)
    assert driver.engine.view == "RUNNING"
    driver.tell(ev.WalletRead(driver.now, D(430), D(0), D(-500)))
    assert reasons(driver) == ["daily_loss"]


def test_leverage_needs_a_known_equity_and_then_limits_the_total() -> None:
    driver = Driver(leverage_max=D(2)).start()
    driver.wait(S)
    assert (driver.venue, driver.engine.view) == ({}, "INIT")
    driver.tell(ev.WalletRead(driver.now, D(60), D(0)))
    driver.wait(S)
    assert {order.qty_lots for order in driver.venue.values()} == {2}
    driver.tell(ev.WalletRead(driver.now, D(1), D(0)))
    driver.wait(S)
    assert driver.venue == {}
    assert driver.count("mm_limit_breaches_total", "leverage") == 2


def test_an_account_that_stands_above_its_leverage_at_the_start_is_held_before_the_first_quote() -> None:
    driver = Driver(leverage_max=D(2))
    driver.position_lots = 9  # 450 quote
    driver.tell(ev.WalletRead(driver.now, D(200), D(0)))
    driver.start()
    driver.wait(S)
    assert (reasons(driver), driver.engine.view) == (["leverage"], "HELD")
    assert of(it.PlaceOrder, driver.sent) == []
    allowed = Driver(leverage_max=D(2))
    allowed.position_lots = 9
    allowed.tell(ev.WalletRead(allowed.now, D(230), D(0)))
    allowed.start()
    allowed.wait(S)
    assert reasons(allowed) == []
    assert set(allowed.quotes) == {Side.SELL}


# ---- a statement that stops coming ----


def shown(driver: Driver) -> dict[str, float]:
    return {name: value for name, _, value in driver.engine.gauges(driver.now)}


def test_a_statement_that_stops_coming_is_no_statement_after_its_time_and_nothing_is_quoted_by_it() -> None:
    driver = Driver(statement_max_age_s=D(10), leverage_max=D(2))
    driver.tell(ev.WalletRead(driver.now, D(1000), D(100)))
    driver.start()
    driver.wait(9 * S)
    assert driver.engine.view == "RUNNING"
    assert (shown(driver)["mm_margin_ratio"], driver.engine.state.leverage_quote) == (0.1, 2000)
    driver.wait(2 * S)
    assert (reasons(driver), driver.engine.view, driver.venue) == (["statement_stale"], "FROZEN", {})
    assert "mm_margin_ratio" not in shown(driver)
    assert shown(driver)["mm_statement_age_seconds"] > 10
    assert driver.engine.state.leverage_quote == 0
    driver.tell(ev.ReadFailed(driver.now, "wallet", SYMBOL, "HTTP 503"))
    driver.wait(5 * S)
    assert reasons(driver) == ["statement_stale"]
    driver.tell(ev.WalletRead(driver.now, D(1000), D(200)))
    driver.wait(3 * S)
    assert (reasons(driver), driver.engine.view) == ([], "RUNNING")
    assert shown(driver)["mm_margin_ratio"] == 0.2


def test_a_statement_that_never_came_is_missed_from_the_first_quote_on() -> None:
    driver = Driver(statement_max_age_s=D(10)).start()
    driver.wait(5 * S)
    assert driver.engine.view == "RUNNING"
    assert not {"mm_margin_ratio", "mm_statement_age_seconds"} & set(shown(driver))
    driver.wait(6 * S)
    assert reasons(driver) == ["statement_stale"]


def test_a_first_statement_that_never_comes_is_missed_as_soon_as_a_silent_book_would_be() -> None:
    driver = Driver(recon_interval_s=D(60)).start()
    driver.wait(29 * S)
    assert driver.engine.view == "RUNNING"
    driver.wait(2 * S)
    assert (reasons(driver), driver.engine.view, driver.venue) == (["statement_stale"], "FROZEN", {})


def test_a_first_statement_whose_read_failed_is_asked_for_again_before_it_is_missed() -> None:
    driver = Driver(recon_interval_s=D(60)).start()
    driver.tell(ev.ReadFailed(driver.now, "wallet", SYMBOL, "HTTP 503"))
    asked = len(of(it.ReadAccount, driver.sent))
    driver.wait(10 * S)
    again = len(of(it.ReadAccount, driver.sent))
    assert asked + 2 <= again <= asked + 5, "every few seconds, not at the next reconciliation"
    driver.stated()
    driver.wait(40 * S)
    assert len(of(it.ReadAccount, driver.sent)) == again
    assert (driver.engine.view, reasons(driver)) == ("RUNNING", [])


def test_a_statement_is_not_late_before_three_reads_of_the_account_were_due() -> None:
    driver = Driver(statement_max_age_s=D(10), recon_interval_s=D(5)).start()
    driver.wait(14 * S)
    assert driver.engine.view == "RUNNING"
    driver.wait(2 * S)
    assert reasons(driver) == ["statement_stale"]


def test_shadow_has_no_account_that_could_state_anything() -> None:
    driver = Driver(mode="shadow", statement_max_age_s=D(10)).start()
    driver.wait(30 * S)
    assert (driver.engine.view, reasons(driver)) == ("RUNNING", [])


# ---- counts and sizes ----


def two_symbols(**changes: Any) -> Driver:
    driver = Driver(symbols=(SYMBOL, "ETHUSDT"), **changes)
    driver.silent = {it.ReadAccount}
    driver.tell(ev.Started(driver.now, "run", "live", "digest", "0.1.0", (SYMBOL, "ETHUSDT")))
    for symbol in (SYMBOL, "ETHUSDT"):
        driver.tell(filters(driver.now, symbol))
    driver.tell(ev.StreamUp(driver.now, "public"))
    driver.tell(ev.StreamUp(driver.now, "private"))
    for symbol in (SYMBOL, "ETHUSDT"):
        driver.tell(ev.OpenOrdersRead(driver.now, symbol, driver.now, ()))
        driver.tell(ev.PositionRead(driver.now, symbol, driver.now, 0, D(0)))
        driver.tell(ev.BookSnapshot(driver.now, symbol, ((BID, 5000),), ((ASK, 5000),), 1, driver.now))
    driver.grant()
    return driver


def test_two_symbols_share_the_total_limit() -> None:
    driver = two_symbols(total_max_quote=D(500))
    state = driver.engine.state
    quoted = sum(order.qty_lots for order in state.orders.all_live())
    assert quoted == 4 + 4 + 4 + 4  # the worse direction of each symbol: 200 + 200 of 500 quote
    driver = two_symbols(total_max_quote=D(300), inventory_max_quote=D(300))
    state = driver.engine.state
    worst = sum(max(*state.orders.exposed_lots(symbol)) for symbol in (SYMBOL, "ETHUSDT"))
    assert worst * 50 <= 300
    assert state.orders.active("ETHUSDT") == 0 or worst == 6


def test_no_more_symbols_than_allowed_have_a_position_or_orders() -> None:
    driver = two_symbols(max_open_positions=1)
    assert (driver.engine.active_orders(), driver.count("mm_limit_breaches_total", "open_positions")) == (
        {SYMBOL: 2, "ETHUSDT": 0},
        2,
    )


def test_a_symbol_may_have_a_tighter_position_and_fewer_orders() -> None:
    own = {SYMBOL: SymbolParameters(position_max_quote=D(110), max_open_orders=1)}
    driver = Driver(per_symbol=own).start()
    assert [order.qty_lots for order in driver.venue.values()] == [2]
    assert driver.count("mm_limit_breaches_total", "active_orders") == 1


def test_a_quote_above_the_venues_maximum_is_split_over_levels_of_their_own() -> None:
    driver = Driver(
        max_active_orders=6, max_open_orders=6, order_notional_quote=D(450), order_notional_max_quote=D(1000)
    )
    changed = msgspec.structs.replace(filters(driver.now), qty_max=D("0.003"))
    driver.tell(changed)
    original = driver.tell

    def tell(event: ev.Event) -> list[it.Intent]:
        return original(changed if isinstance(event, ev.InstrumentsRead) else event)

    driver.tell = tell  # type: ignore[method-assign]
    driver.start()
    driver.wait(2 * S)
    for side in Side:
        orders = [order for order in driver.venue.values() if order.side is side]
        assert sum(order.qty_lots for order in orders) == 8
        assert len({order.price_ticks for order in orders}) == len(orders) == 3
        assert all(order.qty_lots <= 3 for order in orders)


def test_pieces_are_amended_in_place_cancelled_when_too_many_and_never_share_a_level() -> None:
    pieces = split(Quote(Side.BUY, 1000, 25), 10, 5)
    assert [(piece.price_ticks, piece.qty_lots) for piece in pieces] == [(1000, 10), (999, 10), (998, 5)]
    tolerance = Tolerance(0, 100, 0)

    def working(name: str, price: int, lots: int) -> OwnOrder:
        return OwnOrder(name, SYMBOL, Side.BUY, price, lots, 1, 1, 1, 1, state=OrderState.WORKING)

    assert plan_pieces(pieces, 25, [], tolerance, 9) == [Place(piece) for piece in pieces]
    live = [working("a", 1000, 10), working("b", 999, 10), working("c", 998, 5)]
    assert plan_pieces(pieces, 25, live, tolerance, 9) == []
    assert plan_pieces(pieces[:2], 25, live, tolerance, 9) == [Cancel(live[2])]
    up = plan_pieces([Quote(Side.BUY, 1001 - number, 10) for number in range(3)], 30, live, tolerance, 9)
    assert all(isinstance(action, Amend) for action in up)
    assert len({action.quote.price_ticks for action in up if isinstance(action, Amend)}) == 3


# ---- fees ----


def fees(driver: Driver, maker: str, taker: str = "7.0") -> ev.FeesRead:
    return ev.FeesRead(driver.now, SYMBOL, D(maker), D(taker), "api:bybit:BTCUSDT")


def test_without_the_fees_that_are_required_nothing_is_quoted_and_worse_ones_hold() -> None:
    driver = Driver(require_fee_resolution=True).start()
    driver.wait(2 * S)
    assert (driver.engine.view, driver.venue) == ("INIT", {})
    driver.tell(fees(driver, "-1.0"))
    driver.wait(S)
    assert driver.engine.view == "RUNNING"
    driver.tell(fees(driver, "2.0"))
    assert reasons(driver) == ["fee_mismatch"]


def test_in_auto_mode_the_venues_fee_decides_the_edge() -> None:
    fixed, auto = Driver().start(), Driver(fee_mode="auto").start()
    for driver in (fixed, auto):
        driver.tell(fees(driver, "3.0"))
        driver.wait(S)
    assert reasons(fixed) == []
    assert reasons(auto) == ["edge_below_threshold"]


# ---- thresholds ----


def reloaded(driver: Driver, **of_all: Any) -> list[it.Intent]:
    return driver.tell(ev.ThresholdsReloaded(driver.now, "file", {"*": ev.Thresholds(**of_all)}))


def test_a_tighter_threshold_holds_at_once_and_a_looser_one_is_refused_while_a_grant_is_held() -> None:
    driver = Driver().start()
    reloaded(driver, edge_threshold_bps=D(50), stale_after_ms=60_000)
    driver.wait(100 * MS)
    assert reasons(driver) == ["edge_below_threshold"]
    told = {(note.fields["name"], note.fields["refused"]) for note in driver.notes("threshold_changed")}
    assert told == {("edge_threshold_bps", False), ("stale_after_ms", True)}
    reloaded(driver, edge_threshold_bps=D(1))
    driver.wait(5 * S)
    assert reasons(driver) == ["edge_below_threshold"]
    driver.granting = False
    driver.grant(0.0, revoked=True)
    reloaded(driver, edge_threshold_bps=D(1))
    driver.granting, driver.epoch = True, 2
    driver.wait(8 * S)
    assert driver.engine.view == "RUNNING"


def test_thresholds_are_per_symbol_and_what_a_file_leaves_out_is_as_at_the_start() -> None:
    engine = Engine(parameters(symbols=("BTCUSDT", "ETHUSDT")))
    held = engine.state.thresholds
    held.reload({"*": ev.Thresholds(stale_after_ms=900), "ETHUSDT": ev.Thresholds(stale_after_ms=500)}, granted=False)
    assert [held.held[symbol].stale_ns // 1_000_000 for symbol in ("BTCUSDT", "ETHUSDT")] == [900, 500]
    held.reload({}, granted=False)
    assert held.held["ETHUSDT"].stale_ns == 3000 * 1_000_000


def test_a_slow_answer_freezes_and_a_quiet_while_releases() -> None:
    driver = Driver(venue_slow_ms=400)
    driver.silent = {it.PlaceOrder}
    driver.start()
    sent = of(it.PlaceOrder, driver.sent)
    driver.wait(500 * MS)
    driver.silent = set()
    for intent in sent:
        for event in driver._answers(intent):
            driver.tell(event)
    driver.wait(200 * MS)
    assert reasons(driver) == ["venue_slow"]
    driver.wait(14 * S)
    assert driver.engine.view == "RUNNING"


# ---- repeats ----


def test_a_request_under_a_key_that_was_used_does_nothing_and_is_counted() -> None:
    driver = Driver().start()
    freeze = ev.StopRequested(driver.now, "drill", "planned", "auto", "ops", "key-1")
    driver.tell(freeze)
    driver.wait(5 * S)
    assert driver.engine.view == "RUNNING"
    assert of(it.CancelAll, driver.tell(freeze)) == []
    assert driver.engine.view == "RUNNING"
    assert driver.count("mm_duplicate_operations_total") == 1


@pytest.mark.parametrize("repeats", [1, 3])
def test_a_stop_that_holds_is_not_entered_again_and_sends_nothing(repeats: int) -> None:
    driver = Driver().start()
    freeze = ev.StopRequested(driver.now, "operator_freeze", "planned", "people", "ops")
    assert len(of(it.CancelAll, driver.tell(freeze))) == 1
    for _ in range(repeats):
        assert of(it.CancelAll, driver.tell(freeze)) == []
    assert driver.count("mm_freeze_events_total", "operator_freeze", "planned") == 1


def test_every_mutation_has_a_key_of_its_own() -> None:
    driver = Driver(requote_interval_ms=0).start()
    for number in range(20):
        driver.book(BID + 200 * number, ASK + 200 * number)
        driver.wait(S)
    driver.tell(ev.StopRequested(driver.now, "drill", "planned", "auto", "ops"))
    driver.wait(S)
    keys = [it.key_of(intent) for intent in driver.sent if isinstance(intent, it.Mutation)]
    assert "" not in keys
    assert len(keys) == len(set(keys)) > 20
