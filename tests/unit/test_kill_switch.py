"""The kill switch against a small account that lives on a hand-turned clock."""

from __future__ import annotations

from decimal import Decimal

import pytest

from bot.domain.order import FLATTEN_PREFIX, OWN_PREFIX, QUOTE_PREFIX, Side
from bot.runtime.kill_switch import KillSwitch
from bot.runtime.kill_switch_report import NO_GRANT, flatten_named_at_ms
from bot.venues.port import VenueClockSkew, VenueGarbled, VenueRefused, VenueUnknown, VenueUnreachable
from tests.support.small_account import START_NS, SYMBOL, Account, Clock, order, run


def test_a_dry_run_reads_and_sends_nothing():
    account = Account(own=2, foreign=1, qty="0.5")
    report = run(account, execute=False, flatten=True)
    assert (report.status, report.exit_code, account.sent, account.flattens) == ("dry_run", 0, [], [])
    assert [(read.own_open, read.foreign_open) for read in report.reads] == [(2, 1)]
    assert [(left.symbol, left.qty) for left in report.positions] == [(SYMBOL, "0.5")]
    assert not report.flattened


def test_a_dry_run_that_could_not_read_is_no_dry_run():
    account = Account()
    account.failing = {"positions"}
    report = run(account, execute=False)
    assert (report.status, report.exit_code) == ("failed", 1)


def test_own_orders_are_cancelled_and_the_proof_is_two_reads_apart():
    account = Account(own=3)
    report = run(account)
    assert (report.status, report.cancelled, report.exit_code) == ("executed", 3, 0)
    clean = [read.at_ms for read in report.reads if read.own_open == 0]
    assert clean[-1] - clean[0] >= 500
    assert report.errors == []


def test_a_cancel_goes_out_even_where_the_first_read_shows_nothing():
    account = Account()
    assert run(account).status == "executed"
    assert account.sent == ["cancel_all"]


def test_orders_of_others_are_reported_and_left_alone():
    account = Account(own=2, foreign=1)
    report = run(account)
    assert (report.status, report.cancelled) == ("executed", 2)
    assert account.sent == ["cancel slwq-1-0", "cancel slwq-1-1"]
    assert [left.client_order_id for left in account.orders] == ["hand-0"]
    assert report.reads[-1].foreign_open == 1


class Delisted(Account):
    """Refuses every question about one symbol."""

    def open_orders(self, symbols):
        if "GONEUSDT" in symbols:
            raise VenueRefused("/v5/order/realtime: 10001 symbol invalid", 10001)
        return super().open_orders(symbols)


def test_a_symbol_that_cannot_be_read_proves_nothing_and_keeps_no_other_from_being_cancelled():
    account, clock = Delisted(own=2, foreign=1), Clock()
    report = KillSwitch(account, ["GONEUSDT", SYMBOL], late_s=0.0).run(True, False, 1.0, clock, clock.wait)
    assert (report.status, report.cancelled, report.reads) == ("failed", 2, [])
    assert account.sent == ["cancel slwq-1-0", "cancel slwq-1-1"]
    assert [left.client_order_id for left in account.orders] == ["hand-0"]


def test_what_holds_no_positions_is_proven_without_any_and_cannot_be_flattened():
    account, clock = Account(own=1), Clock()
    account.failing = {"positions"}
    switch = KillSwitch(account, [SYMBOL], late_s=0.0, holds_positions=False)
    assert switch.run(True, False, 5.0, clock, clock.wait).errors == []
    with pytest.raises(ValueError, match="no positions"):
        switch.run(True, True, 5.0, clock, clock.wait)


def test_an_order_without_client_id_is_foreign():
    account = Account()
    account.orders = [order("")]
    report = run(account)
    assert account.sent == []
    assert report.reads[-1].foreign_open == 1


def test_it_outlasts_a_bot_that_quotes_again_for_a_while():
    account, clock = Account(own=1), Clock()
    requotes = iter(range(10))
    clock.on_wait.append(lambda: account.orders.append(order("slwq-1-9")) if next(requotes, None) is not None else None)
    report = run(account, clock=clock)
    assert report.status == "executed"
    assert report.cancelled == 11
    assert account.orders == []


def test_against_a_bot_that_never_stops_quoting_it_fails_and_says_so():
    account, clock = Account(own=1), Clock()
    clock.on_wait.append(lambda: account.orders.append(order("slwq-1-9")))
    report = run(account, clock=clock)
    assert (report.status, report.exit_code) == ("failed", 1)
    assert report.errors == ["not proven within 5.0 s"]


def test_orders_that_come_and_go_between_its_reads_are_no_silence():
    """A bot whose quotes are filled or withdrawn at once is never seen with one open."""
    account, clock = Account(), Clock()
    numbers = iter(range(10**6))
    clock.on_wait.append(lambda: account.ended.append(order(f"slwq-1-{next(numbers)}")))
    report = run(account, clock=clock)
    assert (report.status, {read.own_open for read in report.reads}) == ("failed", {0})
    assert report.errors[0].startswith("own orders keep appearing")


def test_one_that_appears_within_the_quiet_time_begins_it_anew():
    account, clock = Account(own=1), Clock()
    appears = {15: order("slwq-1-7")}
    rounds: list[int] = []

    def turn() -> None:
        rounds.append(1)
        if (late := appears.pop(len(rounds), None)) is not None:
            account.ended.append(late)

    clock.on_wait.append(turn)
    report = run(account, clock=clock, quiet_s=3.0, deadline_s=10.0)
    assert report.status == "executed"
    assert report.errors == ["own orders keep appearing: somebody still quotes"]
    assert clock.now_ns - START_NS > 4_500_000_000  # 1.5 s until it appeared, and 3 s of silence after it


def test_recent_orders_that_cannot_be_read_prove_nothing():
    account = Account(own=1)
    account.failing = {"recent_orders"}
    report = run(account)
    assert report.status == "failed"
    assert any("reading recent orders failed" in error for error in report.errors)


def test_others_that_appear_do_not_keep_it_from_its_proof():
    account, clock = Account(own=1), Clock()
    clock.on_wait.append(lambda: account.ended.append(order(f"hand-{len(account.ended)}")))
    assert run(account, clock=clock).status == "executed"


def test_what_goes_wrong_is_said_while_it_goes_wrong_and_once():
    account, clock = Account(own=1), Clock()
    account.failing = {"everything"}
    said: list[str] = []
    KillSwitch(account, [SYMBOL], late_s=0.0, say=said.append).run(True, False, 2.0, clock, clock.wait)
    assert said == [
        "reading open orders failed: everything: connection refused".replace("everything", "open_orders"),
        "not proven within 2.0 s",
    ]


def test_a_venue_that_is_down_is_tried_until_the_deadline_and_never_called_done():
    account, clock = Account(own=1), Clock()
    account.failing = {"everything"}
    report = run(account, clock=clock)
    assert (report.status, report.exit_code, report.reads, report.positions) == ("failed", 1, [], [])
    assert clock.now_ns - START_NS >= 5_000_000_000
    assert any("connection refused" in error and "times" in error for error in report.errors)


def test_a_venue_that_comes_back_before_the_deadline_is_cleaned():
    account, clock = Account(own=1), Clock()
    account.failing = {"everything"}
    waits: list[int] = []

    def come_back() -> None:
        waits.append(1)
        if len(waits) == 10:
            account.failing = set()

    clock.on_wait.append(come_back)
    report = run(account, clock=clock)
    assert report.status == "executed"
    assert any("reading open orders failed" in error for error in report.errors)


def test_a_cancel_that_fails_is_repeated():
    account, clock = Account(own=1), Clock()
    account.failing = {"cancel_all"}
    clock.on_wait.append(lambda: account.failing.discard("cancel_all"))
    report = run(account, clock=clock)
    assert (report.status, report.cancelled) == ("executed", 1)
    assert report.errors == [f"cancel-all of {SYMBOL} failed: cancel_all: HTTP 503"]


@pytest.mark.parametrize(("qty", "side", "limit"), [("0.4", Side.SELL, "49500.1"), ("-0.4", Side.BUY, "50500.2")])
def test_flatten_sells_or_buys_reduce_only_inside_the_band(qty, side, limit):
    account = Account(own=1, qty=qty)
    report = run(account, flatten=True)
    (sent,) = account.flattens
    assert (sent.side, sent.qty, sent.price_limit) == (side, Decimal("0.4"), Decimal(limit))
    assert sent.client_order_id.startswith("slwf-0-")
    assert len(sent.client_order_id) <= 36
    assert (report.status, report.flattened) == ("executed", True)
    assert [Decimal(left.qty) for left in report.positions] == [0]


def test_a_large_position_goes_in_slices_of_the_largest_order_under_different_ids():
    account = Account(qty="5")
    report = run(account, flatten=True)
    assert [sent.qty for sent in account.flattens] == [2, 2, 1]
    assert len({sent.client_order_id for sent in account.flattens}) == 3
    assert report.flattened


def test_slices_that_fill_in_part_are_followed_by_more():
    account = Account(qty="0.4")
    account.fill_share = Decimal("0.5")
    report = run(account, flatten=True, deadline_s=2.0)
    assert len(account.flattens) > 3
    assert (report.status, report.flattened) == ("failed", False)  # halves never end: less than one lot is left
    assert any("less than one lot" in error for error in report.errors)


def test_a_position_that_cannot_be_read_is_never_flat():
    account = Account(own=1, qty="0")
    account.failing = {"positions"}
    assert run(account, flatten=True).status == "failed"
    assert run(account, flatten=False).status == "executed"


def test_no_flatten_order_leaves_while_own_orders_may_be_open():
    account = Account(own=1, qty="0.4")
    account.failing = {"cancel_all"}
    report = run(account, flatten=True)
    assert account.flattens == []
    assert report.status == "failed"


def test_the_report_names_the_flattening_orders_and_whether_the_venue_took_them():
    account = Account(qty="5")
    report = run(account, flatten=True)
    assert [one.client_order_id for one in report.flattens] == [sent.client_order_id for sent in account.flattens]
    assert {(one.symbol, one.taken) for one in report.flattens} == {(SYMBOL, True)}
    assert run(Account(), flatten=True).flattens == []


@pytest.mark.parametrize(
    ("error", "may_have_happened"),
    [
        (VenueUnknown("HTTP 503"), True),
        (VenueGarbled("orderId is missing"), True),
        (VenueRefused("reduce-only", 110017), False),
        (VenueUnreachable("connection refused"), False),
        (VenueClockSkew("timestamp"), False),
    ],
)
def test_an_order_whose_outcome_is_unknown_is_named_and_one_that_did_not_happen_is_not(error, may_have_happened):
    class Fails(Account):
        def place_immediate(self, sent):
            super().place_immediate(sent)
            raise error

    account = Fails(qty="0.4")
    report = run(account, flatten=True)
    assert len(account.flattens) == 1
    named = [(one.client_order_id, one.taken) for one in report.flattens]
    assert named == ([(account.flattens[0].client_order_id, False)] if may_have_happened else [])


def test_the_kill_switch_flattens_under_the_same_name_as_the_bot():
    """By it the ledger and the booking of an attempt know a flattening order, whoever sent it."""
    assert f"{FLATTEN_PREFIX}-0-" == NO_GRANT
    assert {prefix[: len(OWN_PREFIX)] for prefix in (FLATTEN_PREFIX, QUOTE_PREFIX)} == {OWN_PREFIX}


def test_when_a_flattening_order_was_named_is_read_from_its_id():
    account = Account(qty="0.4")
    run(account, flatten=True)
    (sent,) = account.flattens
    assert flatten_named_at_ms(sent.client_order_id) == pytest.approx(START_NS // 1_000_000, abs=5)
    for other in ("slwf-3-17", "slwq-0-17000000000000001", "slwf-0-", "slwf-0-x0001", "hand"):
        assert flatten_named_at_ms(other) is None
