"""The kill switch against a small account that lives on a hand-turned clock."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from decimal import Decimal
from typing import Any

import pytest

from bot.domain.instrument import Instrument
from bot.domain.order import Side
from bot.journal import JournalError
from bot.runtime.kill_switch import KillSwitch
from bot.runtime.kill_switch_command import own_key, run_command, write_report
from bot.runtime.kill_switch_report import Report
from bot.runtime.secrets import Scrubber
from bot.venues.bybit.account_client import AccountOrder
from bot.venues.port import ImmediateOrder, Position, TopOfBook, VenueRefused, VenueUnknown, VenueUnreachable

SYMBOL = "BTCUSDT"
START_NS = 1_700_000_000_000_000_000


class Clock:
    def __init__(self) -> None:
        self.now_ns = START_NS
        self.on_wait: list[Callable[[], None]] = []

    def __call__(self) -> int:
        self.now_ns += 1_000_000  # a call takes a millisecond
        return self.now_ns

    def wait(self, seconds: float) -> None:
        self.now_ns += int(seconds * 1e9)
        for action in self.on_wait:
            action()


class Account:
    """Orders, a position, and a venue that can be down."""

    def __init__(self, own: int = 0, foreign: int = 0, qty: str = "0") -> None:
        self.orders = [order(f"slwq-1-{n}") for n in range(own)] + [order(f"hand-{n}") for n in range(foreign)]
        self.qty = Decimal(qty)
        self.ended: list[AccountOrder] = []
        self.failing: set[str] = set()
        self.sent: list[str] = []
        self.flattens: list[ImmediateOrder] = []
        self.fill_share = Decimal(1)

    def _call(self, name: str) -> None:
        if "everything" in self.failing:
            raise VenueUnreachable(f"{name}: connection refused")
        if name in self.failing:
            raise VenueUnknown(f"{name}: HTTP 503", 503)

    def open_orders(self, symbols):
        self._call("open_orders")
        return [found for found in self.orders if not symbols or found.symbol in symbols]

    def recent_orders(self, symbols):
        self._call("recent_orders")
        return [found for found in (*self.orders, *self.ended) if not symbols or found.symbol in symbols]

    def cancel_all(self, symbol: str) -> int:
        self._call("cancel_all")
        self.ended += self.orders
        self.sent.append("cancel_all" if symbol == SYMBOL else f"cancel_all {symbol}")
        before = len(self.orders)
        self.orders = [left for left in self.orders if symbol not in ("*", left.symbol)]
        return before - len(self.orders)

    def cancel_everything(self) -> int:
        return self.cancel_all("*")

    def cancel_own(self, symbol: str, client_order_id: str) -> bool:
        self._call("cancel_own")
        self.sent.append(f"cancel_own {symbol} {client_order_id}")
        before = len(self.orders)
        self.orders = [left for left in self.orders if left.client_order_id != client_order_id]
        return len(self.orders) < before

    def cancel(self, gone: AccountOrder) -> bool:
        self._call("cancel")
        self.sent.append(f"cancel {gone.client_order_id}")
        before = len(self.orders)
        self.orders = [left for left in self.orders if left != gone]
        return len(self.orders) < before

    def positions(self, symbols):
        self._call("positions")
        return [Position(symbol, self.qty, Decimal(100)) for symbol in symbols or [SYMBOL]]

    def instrument(self, symbol: str) -> Instrument:
        return Instrument(
            *(symbol, "linear", "BTC", "USDT", Decimal("0.1"), Decimal("0.001")),
            *(Decimal("0.001"), Decimal(2), Decimal(5)),
        )

    def top_of_book(self, symbol: str) -> TopOfBook:
        self._call("top_of_book")
        return TopOfBook(symbol, Decimal("50000.1"), Decimal("50000.2"), 0)

    def place_immediate(self, sent: ImmediateOrder) -> str:
        self._call("place_immediate")
        self.flattens.append(sent)
        filled = sent.qty * self.fill_share
        self.qty += filled if sent.side is Side.BUY else -filled
        return "o"


def order(client_order_id: str, symbol: str = SYMBOL) -> AccountOrder:
    return AccountOrder(
        symbol, client_order_id, f"v-{client_order_id}", Side.BUY, Decimal(1), Decimal(1), Decimal(0), False
    )


def run(
    account: Account,
    *,
    execute: bool = True,
    flatten: bool = False,
    clock: Clock | None = None,
    deadline_s: float = 5.0,
    quiet_s: float = 0.5,
    symbols: Sequence[str] = (SYMBOL,),
    **more: Any,
) -> Report:
    clock = clock or Clock()
    switch = KillSwitch(account, symbols, **{"late_s": 0.0, "quiet_s": quiet_s, **more})
    return switch.run(execute, flatten, deadline_s, clock, clock.wait)


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


# ---- a create that comes late ---------------------------------------------------------------------------------------


def lands(account: Account, clock: Clock, at_s: float, fills: bool = False) -> None:
    """A create that was on its way when the bot died: at the venue so many seconds after the start."""
    late = [order("slwq-1-late")]

    def turn() -> None:
        if late and clock.now_ns - START_NS >= at_s * 1e9:
            account.orders.append(late.pop())
            account.qty += Decimal("0.4") if fills else 0

    clock.on_wait.append(turn)


def test_a_create_that_lands_after_the_first_proof_could_have_been_is_found_and_cancelled():
    account, clock = Account(own=1), Clock()
    lands(account, clock, 6.0)
    report = run(account, clock=clock, deadline_s=20.0, late_s=7.5)
    assert (report.status, report.cancelled, account.orders) == ("executed", 2, [])


def test_the_first_of_the_two_reads_that_prove_is_after_the_wait():
    account, clock = Account(own=1), Clock()
    assert run(account, clock=clock, deadline_s=20.0, late_s=7.5).status == "executed"
    assert clock.now_ns - START_NS >= 8_000_000_000
    assert run(Account(own=1), deadline_s=7.0, late_s=7.5).status == "failed"


def test_a_late_create_that_fills_is_flattened_too_and_flattening_does_not_wait():
    account, clock = Account(own=1, qty="0.4"), Clock()
    sent_at_s: list[float] = []
    place = account.place_immediate
    account.place_immediate = lambda sent: (sent_at_s.append((clock.now_ns - START_NS) / 1e9), place(sent))[1]  # type: ignore[method-assign]
    lands(account, clock, 5.0, fills=True)
    report = run(account, flatten=True, clock=clock, deadline_s=20.0, late_s=7.5)
    assert (report.status, report.flattened, account.orders, account.qty) == ("executed", True, [], 0)
    assert sent_at_s[0] < 1
    assert 5 < sent_at_s[1] < 6


# ---- without any read that succeeds ---------------------------------------------------------------------------------


def test_with_every_read_failing_an_account_of_ours_alone_is_cancelled_blind_again_and_again_and_never_called_done():
    account, clock = Account(own=2), Clock()
    account.failing = {"open_orders", "recent_orders", "positions"}
    report = run(account, clock=clock, alone=True)
    assert account.orders == []
    assert account.sent[0] == "cancel_all"
    assert 3 <= len(account.sent) <= 10, "again and again, but no flood"
    assert (report.status, report.exit_code, report.reads) == ("failed", 1, [])


def test_with_every_read_failing_on_a_shared_account_what_the_journal_knows_is_cancelled_by_its_id():
    account, clock = Account(own=2, foreign=1), Clock()
    account.failing = {"open_orders", "recent_orders", "positions"}
    known = [(SYMBOL, "slwq-1-0"), (SYMBOL, "slwq-1-1"), (SYMBOL, "hand-0")]
    report = run(account, clock=clock, known=lambda: known)
    assert [left.client_order_id for left in account.orders] == ["hand-0"]
    assert not [sent for sent in account.sent if "hand" in sent or "cancel_all" in sent]
    assert report.status == "failed"


def test_what_is_cancelled_blind_goes_out_before_the_first_read_and_a_read_ends_it():
    account = Account(own=1)
    order_of_calls: list[str] = []
    call = account._call
    account._call = lambda name: (order_of_calls.append(name), call(name))[1]  # type: ignore[method-assign]
    report = run(account, known=lambda: [(SYMBOL, "slwq-1-0")])
    assert order_of_calls[:2] == ["cancel_own", "open_orders"]
    assert (report.status, order_of_calls.count("cancel_own")) == ("executed", 1)


def test_a_cancel_that_fails_blind_or_a_journal_that_cannot_be_read_is_said_and_keeps_nothing_from_being_tried():
    def unreadable() -> Sequence[tuple[str, str]]:
        raise JournalError("/runs/r-1/journal.db: is damaged")

    account = Account(own=1)
    report = run(account, known=unreadable)
    assert (report.status, report.cancelled) == ("executed", 1)
    assert "/runs/r-1/journal.db: is damaged" in report.errors
    account = Account(own=1)
    account.failing = {"cancel_own"}
    report = run(account, known=lambda: [(SYMBOL, "slwq-1-0")])
    assert (report.status, report.cancelled) == ("executed", 1)
    assert any("slwq-1-0" in error for error in report.errors)


def test_many_that_a_slow_venue_does_not_answer_for_hold_up_neither_the_reads_nor_the_deadline_and_all_get_their_turn():
    account, clock = Account(), Clock()
    account.failing = {"cancel_own", "open_orders"}
    known = [(SYMBOL, f"slwq-1-{n}") for n in range(20)]
    calls: list[str] = []
    call = account._call

    def slow(name: str) -> None:
        calls.append(name)
        if name == "cancel_own":
            clock.now_ns += 3_000_000_000
        call(name)

    account._call = slow  # type: ignore[method-assign]
    report = run(account, clock=clock, deadline_s=90.0, known=lambda: known)
    assert clock.now_ns - START_NS < 100e9
    assert calls.index("open_orders") <= 2
    failed = {error.split()[2] for error in report.errors if error.startswith("cancel of")}
    assert failed == {name for _, name in known}


# ---- the whole account ----------------------------------------------------------------------------------------------


def test_without_symbols_it_covers_every_symbol_of_the_account():
    account = Account(qty="0.4")
    account.orders = [order("slwq-1-0"), order("slwq-1-1", "SOLUSDT"), order("hand-0", "ETHUSDT")]
    report = run(account, flatten=True, symbols=())
    assert (report.status, report.flattened, account.qty) == ("executed", True, 0)
    assert [left.client_order_id for left in account.orders] == ["hand-0"]
    assert {"cancel_all", "cancel_all SOLUSDT"} <= set(account.sent)
    account = Account()
    account.orders = [order("slwq-1-0"), order("slwq-1-1", "SOLUSDT")]
    assert run(account, symbols=()).status == "executed"
    assert account.sent == ["cancel_all *"]


def test_positions_can_be_left_to_those_that_were_named():
    account = Account(qty="0.4")
    asked: list[Sequence[str]] = []
    positions = account.positions
    account.positions = lambda symbols: (asked.append(symbols), positions(symbols))[1]  # type: ignore[method-assign]
    assert run(account, flatten=True, symbols=(), positions_of=(SYMBOL,)).flattened
    assert set(map(tuple, asked)) == {(SYMBOL,)}


# ---- command --------------------------------------------------------------------------------------------------------

ENVIRON = {
    "BYBIT_API_KEY": "key-0123456789ab",
    "BYBIT_API_SECRET": "secret-0123456789",
    "MM_VENUE_REST_URL": "http://127.0.0.1:9",  # the discard port: nobody listens
}


@pytest.mark.parametrize("name", ["BYBIT_API_KEY", "BYBIT_API_SECRET"])
def test_a_missing_secret_is_named_and_bad_input(name, tmp_path, capsys):
    environ = {key: value for key, value in ENVIRON.items() if key != name}
    assert run_command(["--symbols", SYMBOL, "--report", str(tmp_path / "r.json")], environ) == 2
    assert capsys.readouterr().err == f"kill-switch: {name} is not set\n"


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["--late-s", "400"], "0.0 to 300.0"),
        (["--foreign-orders", "keep"], "--foreign-orders"),
        (["--symbols", "btc/usdt"], "'btc/usdt'"),
        (["--symbols", SYMBOL, "--deadline-s", "0.5"], "1.0 to 600.0"),
        (["--symbols", SYMBOL, "--deadline-s", "nan"], "1.0 to 600.0"),
        (["--symbols", SYMBOL, "--band-bps", "5000"], "1 to 1000"),
        (["--symbols", SYMBOL, "--nuke"], "--nuke"),
    ],
)
def test_bad_input_is_one_line_that_names_it(arguments, named, capsys):
    with pytest.raises(SystemExit) as caught:
        run_command(arguments, ENVIRON)
    error = capsys.readouterr().err
    assert caught.value.code == 2
    assert named in error
    assert error.count("\n") == 1


def test_an_address_off_loopback_is_refused_by_name(tmp_path, capsys):
    environ = ENVIRON | {"MM_VENUE_REST_URL": "http://192.0.2.1:80"}
    assert run_command(["--symbols", SYMBOL, "--report", str(tmp_path / "r.json")], environ) == 2
    assert "MM_VENUE_REST_URL" in capsys.readouterr().err


def test_a_key_of_its_own_stands_for_the_bots():
    own = {"BYBIT_KILL_SWITCH_API_KEY": "own-0123456789ab", "BYBIT_KILL_SWITCH_API_SECRET": "own-secret-01234"}
    found = own_key(ENVIRON | own | {"SECRETS_BACKEND": "aws"})
    assert (found["BYBIT_API_KEY"], found["BYBIT_API_SECRET"]) == ("own-0123456789ab", "own-secret-01234")
    assert found["SECRETS_BACKEND"] == "memory"
    assert own_key(ENVIRON) == ENVIRON


def test_half_a_key_of_its_own_is_named(tmp_path, capsys):
    environ = ENVIRON | {"BYBIT_KILL_SWITCH_API_KEY": "own-0123456789ab"}
    assert run_command(["--symbols", SYMBOL, "--report", str(tmp_path / "r.json")], environ) == 2
    said = capsys.readouterr().err
    assert said == "kill-switch: BYBIT_KILL_SWITCH_API_SECRET is not set, and BYBIT_KILL_SWITCH_API_KEY is\n"


def test_a_report_is_replaced_whole_and_scrubbed(tmp_path):
    path = tmp_path / "latest.json"
    for error in ("first", "has secret-0123456789 in it"):
        report = Report("failed", "a", "b", 0, [], [], False, [error])
        write_report(path, report, Scrubber(("secret-0123456789",)))
    assert json.loads(path.read_text())["errors"] == ["has *** in it"]
