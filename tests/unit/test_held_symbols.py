"""A symbol whose filters could not be read is held by itself: the others quote, and it follows once they are there."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from msgspec import structs

from bot.domain import events as ev
from bot.domain import intent as it
from bot.domain.order import Side
from bot.engine.exposure import PICO
from bot.runtime.status import pnl_of
from tests.support.engine_driver import ASK, BID, MS, START, SYMBOL, Driver, S, filters, of

OTHER = "ETHUSDT"
D = Decimal


class Two(Driver):
    """Two symbols of which only the first one's filters could be read at the start."""

    def __init__(self, journal: tuple[ev.Event | it.Intent, ...] = (), **changes: Any) -> None:
        super().__init__(symbols=(SYMBOL, OTHER), **changes)
        self.engine.restore(journal)
        self.left: tuple[ev.VenueOrder, ...] = ()
        self.tell(ev.Started(self.now, "run", "live", "digest", "0.1.0", (SYMBOL, OTHER)))
        self.tell(filters(self.now))
        self.tell(ev.ReadFailed(self.now, "filters", OTHER, "HTTP 503"))
        if self.parameters.require_fee_resolution:
            self.fees(SYMBOL)
        self.tell(ev.StreamUp(self.now, "public"))
        self.tell(ev.StreamUp(self.now, "private"))
        self.book(BID, ASK)
        self.wait(S)

    def _answers(self, intent: it.Intent) -> list[ev.Event]:
        """Of the other one only open orders can be read: without filters a position is no number of lots."""
        if isinstance(intent, it.ReadAccount) and intent.symbol == OTHER:
            failed = ev.ReadFailed(self.now, "filters", OTHER, "HTTP 503")
            return [failed, ev.OpenOrdersRead(self.now, OTHER, self.now, self.left)]
        return super()._answers(intent)

    def other_book(self) -> None:
        self.tell(ev.BookSnapshot(self.now, OTHER, ((BID, 5_000),), ((ASK, 5_000),), 1, self.now))

    def fees(self, symbol: str, maker_bps: str = "2") -> None:
        self.tell(ev.FeesRead(self.now, symbol, D(maker_bps), D("5.5"), "account"))

    def other_read(self) -> None:
        """Its filters, its book, its orders and its position are there."""
        self.silent = {it.ReadAccount}
        self.tell(filters(self.now, OTHER))
        self.other_book()
        self.other_account()

    def other_account(self) -> None:
        self.tell(ev.OpenOrdersRead(self.now, OTHER, self.now, ()))
        self.tell(ev.PositionRead(self.now, OTHER, self.now, 0, D(0)))

    def held(self) -> dict[str, float]:
        gauges = self.engine.gauges(self.now)
        return {labels[0]: value for name, labels, value in gauges if name == "mm_symbol_held"}

    def quoted(self) -> set[str]:
        return {order.symbol for order in self.engine.live_orders()}


def test_the_others_quote_and_it_is_shown_and_asked_for_again() -> None:
    driver = Two()
    driver.wait(20 * S)
    assert (driver.engine.view, driver.quoted()) == ("RUNNING", {SYMBOL})
    assert driver.held() == {SYMBOL: 0, OTHER: 1}
    reads = [one for one in of(it.ReadAccount, driver.sent) if one.symbol == OTHER]
    assert len(reads) >= 4


def test_without_any_filters_nothing_is_ready() -> None:
    driver = Driver()
    driver.tell(ev.Started(driver.now, "run", "live", "digest", "0.1.0", (SYMBOL,)))
    driver.tell(ev.StreamUp(driver.now, "public"))
    driver.tell(ev.StreamUp(driver.now, "private"))
    driver.book(BID, ASK)
    driver.wait(2 * S)
    assert driver.engine.view == "INIT"


def test_a_stop_is_proven_with_a_read_of_its_orders_too() -> None:
    driver = Two()
    driver.tell(ev.StopRequested(driver.now, "operator_freeze", "planned", "people", "ops"))
    driver.wait(S)
    assert driver.engine._stopping.proven
    read = [one for one in of(it.ReadAccount, driver.sent) if one.symbol == OTHER]
    assert read


def test_once_its_filters_are_there_its_account_is_read_before_it_is_quoted_and_the_others_go_on() -> None:
    driver = Two()
    driver.wait(3 * S)
    driver.silent = {it.ReadAccount}
    driver.tell(filters(driver.now, OTHER))
    driver.other_book()
    driver.wait(S)
    assert (driver.engine.view, driver.quoted()) == ("RUNNING", {SYMBOL})
    assert driver.held()[OTHER] == 1
    asked_ns = driver.now
    driver.tell(ev.OpenOrdersRead(driver.now, OTHER, asked_ns, ()))
    driver.tell(ev.PositionRead(driver.now, OTHER, asked_ns, 3, D(50_000)))
    driver.wait(S)
    assert driver.quoted() == {SYMBOL, OTHER}
    assert driver.held() == {SYMBOL: 0, OTHER: 0}
    assert driver.engine.state.ledger.accounts[OTHER].position_lots == 3
    assert driver.count("mm_recon_divergence_total", "position_mismatch") == 0


def test_what_an_earlier_process_left_there_is_cancelled_and_is_no_divergence() -> None:
    driver = Two()
    driver.left = (ev.VenueOrder(OTHER, "slwq-0-9", "v-9", Side.BUY, 1, 1, 0, ev.OrderStatus.WORKING),)
    driver.wait(15 * S)
    assert [one.client_order_id for one in of(it.CancelOrder, driver.sent)][:1] == ["slwq-0-9"]
    assert driver.count("mm_recon_divergence_total", "orders_remote_only") == 0
    assert driver.engine.view == "RUNNING"


def test_the_private_stream_comes_back_without_waiting_for_it() -> None:
    driver = Two()
    driver.tell(ev.StreamDown(driver.now, "private", "cut"))
    driver.wait(100 * MS)
    driver.tell(ev.StreamUp(driver.now, "private"))
    driver.wait(5 * S)
    assert (driver.engine.view, driver.quoted()) == ("RUNNING", {SYMBOL})


FEES: dict[str, Any] = {
    "require_fee_resolution": True, "fee_maker_bps": D(2), "fee_taker_bps": D("5.5"), "rebate_maker_bps": D(0),
    "edge_threshold_bps": D(1),
}  # fmt: skip


def test_where_fees_have_to_be_stated_it_waits_for_its_own() -> None:
    driver = Two(**FEES)
    driver.other_read()
    driver.wait(S)
    assert (driver.quoted(), driver.held()[OTHER]) == ({SYMBOL}, 1)
    driver.fees(OTHER)
    driver.wait(200 * MS)
    assert (driver.quoted(), driver.held()[OTHER]) == ({SYMBOL, OTHER}, 0)


def test_filters_that_came_into_doubt_while_it_was_held_keep_it_held_until_they_are_read_again() -> None:
    driver = Two()
    driver.silent = {it.ReadAccount}
    driver.tell(filters(driver.now, OTHER))
    driver.tell(structs.replace(filters(driver.now, OTHER), source="default_fallback"))
    driver.other_book()
    driver.other_account()
    driver.wait(S)
    assert (driver.quoted(), driver.held()[OTHER]) == ({SYMBOL}, 1)
    driver.tell(filters(driver.now, OTHER))
    driver.other_account()
    driver.wait(S)
    assert (driver.quoted(), driver.held()[OTHER]) == ({SYMBOL, OTHER}, 0)


def test_a_position_of_an_earlier_process_that_cannot_be_valued_holds_up_all() -> None:
    """No limit on losing and none on exposure would count it."""
    adopted = it.Note(START, "INFO", "position_adopted", {"symbol": OTHER, "position_lots": 3, "entry_price": "50000"})
    driver = Two((filters(START, OTHER), adopted), two_man_rule=False)
    driver.wait(10 * S)
    assert (driver.engine.view, driver.quoted()) == ("INIT", set())
    driver.other_book()
    driver.wait(S)
    assert (driver.engine.view, driver.quoted()) == ("RUNNING", {SYMBOL})


def test_a_position_is_taken_over_once_it_can_be_valued() -> None:
    driver = Two()
    driver.silent = {it.ReadAccount}
    driver.tell(filters(driver.now, OTHER))
    driver.tell(ev.OpenOrdersRead(driver.now, OTHER, driver.now, ()))
    driver.tell(ev.PositionRead(driver.now, OTHER, driver.now, 3, D(50_000)))
    assert driver.engine.state.ledger.accounts[OTHER].position_lots == 0
    driver.other_book()
    driver.tell(ev.PositionRead(driver.now, OTHER, driver.now, 3, D(50_000)))
    driver.wait(S)
    assert driver.engine.state.ledger.accounts[OTHER].position_lots == 3
    assert driver.quoted() == {SYMBOL, OTHER}


def worst_quote(driver: Two) -> Decimal:
    """What everything that is known to be out may come to."""
    return D(driver.engine.state.exposure.total_pico()) / PICO


def test_what_nobody_has_read_there_takes_its_whole_limit_of_the_total() -> None:
    """A position that is not known is not none: more than its own limit is left nowhere."""
    driver = Two(total_max_quote=D(640))
    driver.wait(3 * S)
    assert (driver.engine.view, driver.held()[OTHER]) == ("RUNNING", 1)
    assert D(0) < worst_quote(driver) <= 140, "500 of 640 may stand where nobody has looked"
    driver.other_read()
    driver.silent = set()
    driver.wait(3 * S)
    assert worst_quote(driver) > 200, "it was read, and is flat"


def test_what_is_held_there_and_cannot_be_valued_takes_its_whole_limit_of_the_total_too() -> None:
    """Read flat, and then another hand traded there: 9 lots of 450 quote that no mid tells the worth of."""
    driver = Two(total_max_quote=D(560))
    driver.stated()
    driver.silent = {it.ReadAccount}
    driver.tell(filters(driver.now, OTHER))
    driver.other_account()
    driver.now += 10 * MS
    driver.tell(ev.Filled(driver.now, "x", "", "v", OTHER, Side.BUY, D(50_000), 9, D(0), True, driver.now))
    driver.wait(3 * S)
    assert (driver.engine.view, driver.held()[OTHER]) == ("RUNNING", 1)
    assert worst_quote(driver) <= 560 - 500, "of what can be valued"
    driver.other_book()
    driver.wait(S)
    assert D(450) < worst_quote(driver) <= 560, "of both"


def test_where_its_whole_limit_leaves_nothing_no_risk_is_added() -> None:
    driver = Two(total_max_quote=D(500))
    driver.wait(3 * S)
    assert (driver.engine.view, driver.quoted()) == ("RUNNING", set())
    assert driver.count("mm_limit_breaches_total", "total") > 0


def test_it_counts_as_one_of_the_open_positions() -> None:
    driver = Two(max_open_positions=1)
    driver.wait(3 * S)
    assert (driver.engine.view, driver.quoted()) == ("RUNNING", set())
    driver.other_read()
    driver.wait(S)
    assert len(driver.quoted()) == 1


def test_an_order_that_an_earlier_process_left_there_is_found_out_about_and_the_others_quote() -> None:
    placed = it.PlaceOrder(START, "slwq-1-7", OTHER, Side.BUY, 499_000, 2, 1)
    driver = Two((filters(START, OTHER), placed), two_man_rule=False)
    assert driver.engine.view == "INIT"
    driver.wait(20 * S)
    assert (driver.engine.view, driver.quoted()) == ("RUNNING", {SYMBOL})
    assert [one.client_order_id for one in of(it.ProbeOrder, driver.sent)][:1] == ["slwq-1-7"]


def test_a_position_that_cannot_be_valued_does_not_blind_the_limits_on_losing() -> None:
    """It was read flat and then somebody traded there: the venue's own word on the account still counts."""
    driver = Two()
    driver.stated()
    driver.silent = {it.ReadAccount}
    driver.tell(filters(driver.now, OTHER))
    driver.other_account()
    driver.now += 10 * MS
    driver.tell(ev.Filled(driver.now, "x", "", "v", OTHER, Side.BUY, D(50_000), 1, D(0), True, driver.now))
    driver.wait(S)
    assert (driver.engine.view, driver.held()[OTHER]) == ("RUNNING", 1)
    driver.stated(D(99_900))  # 100 lost; 3 % of 2,000 are 60
    assert [stop.reason for stop in driver.engine.stops][:1] == ["daily_loss"]
    assert driver.engine.view == "HALTED"


def traded_unseen(driver: Two) -> None:
    """The other symbol was read flat, and then somebody traded there: a position that no mid tells the worth of."""
    driver.silent = {it.ReadAccount}
    driver.tell(filters(driver.now, OTHER))
    driver.other_account()
    driver.now += 10 * MS
    driver.tell(ev.Filled(driver.now, "x", "", "v", OTHER, Side.BUY, D(50_000), 1, D(0), True, driver.now))
    driver.wait(S)


@pytest.mark.parametrize(
    "changes",
    [{"mode": "shadow"}, {}, {"budget_loss_quote": D(50)}, {"budget_turnover_quote": D(5_000)}],
    ids=["shadow", "no statement", "loss budget", "turnover budget"],
)
def test_where_nobody_can_say_what_was_lost_quoting_stops_until_it_is_known(changes: dict[str, Any]) -> None:
    """Neither the ledger nor the venue, or for a strategy's own budget nobody but the ledger."""
    driver = Two(stale_after_ms=600_000, **changes)
    if "mode" not in changes and changes:
        driver.stated()
    traded_unseen(driver)
    assert [stop.reason for stop in driver.engine.stops] == ["result_unknown"]
    assert (driver.engine.view, driver.quoted()) == ("FROZEN", set())
    driver.silent = set()
    driver.wait(4 * S)
    assert driver.engine.view == "FROZEN"
    driver.other_book()
    driver.wait(4 * S)
    assert (driver.engine.stops, driver.quoted() >= {SYMBOL}) == ([], True)


def test_what_a_position_without_a_mark_is_worth_is_shown_as_unknown_and_not_as_its_cost() -> None:
    driver = Two()
    driver.stated()
    traded_unseen(driver)
    shown = {(name, *labels) for name, labels, _ in driver.engine.gauges(driver.now)}
    kinds = {(symbol, kind) for name, *labels in shown if name == "mm_pnl_quote" for symbol, kind in [labels]}
    assert {(SYMBOL, "unrealized"), (OTHER, "realized"), (OTHER, "fees")} <= kinds
    assert (OTHER, "unrealized") not in kinds
    assert not {kind for kind in kinds if kind[1] == "net"}, "a sum without one of them would hide it"
    assert ("mm_net_bps",) not in shown
    told = pnl_of(driver.engine.state)
    assert (told["net"], told["unrealized"], told["realized"]) == (None, None, "0")
    assert driver.engine.positions()[OTHER] == {"qty": "0.001", "notional_quote": None}
    driver.other_book()
    assert {kind: value is None for kind, value in pnl_of(driver.engine.state).items()} == dict.fromkeys(told, False)


@pytest.mark.parametrize("why", ["too small to quote", "frozen", "blocked"])
def test_an_edge_that_is_back_lets_the_bot_go_on_whatever_a_symbol_does_that_is_not_quoted(why: str) -> None:
    driver = Two(stale_after_ms=600_000)
    least = D(100_000) if why == "too small to quote" else D(5)
    driver.silent = {it.ReadAccount}
    driver.tell(structs.replace(filters(driver.now, OTHER), notional_min_quote=least))
    if why != "too small to quote":
        driver.tell(ev.BookLost(driver.now, OTHER, "garbled", garbled=True))
    driver.other_book()
    driver.other_account()
    driver.silent = set()
    if why == "frozen":
        driver.tell(ev.BookLost(driver.now, OTHER, "garbled", garbled=True))
    elif why == "blocked":
        driver.tell(structs.replace(filters(driver.now, OTHER), source="default_fallback"))
    driver.wait(S)
    assert driver.quoted() == {SYMBOL}
    driver.tell(ev.ThresholdsReloaded(driver.now, "f", {"*": ev.Thresholds(edge_threshold_bps=D(50))}))
    driver.wait(S)
    assert [stop.reason for stop in driver.engine.stops] == ["edge_below_threshold"]
    driver.granting = False
    driver.wait(6 * S)
    driver.tell(ev.ThresholdsReloaded(driver.now, "f", {}))
    driver.granting = True
    driver.wait(10 * S)
    assert driver.engine.stops == []
    assert SYMBOL in driver.quoted()
