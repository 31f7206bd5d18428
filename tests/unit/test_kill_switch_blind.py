"""The kill switch where a create comes late, where no read succeeds, and over the whole account."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal

from bot.journal import JournalError
from tests.support.small_account import START_NS, SYMBOL, Account, Clock, order, run

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
