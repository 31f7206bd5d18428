"""A journal again: back into an engine that goes on from it, and through one that must decide the same."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bot.carrying import carried_equity
from bot.commands.replay import as_line
from bot.domain import events as ev
from bot.domain import intent as it
from bot.domain.order import Side
from bot.engine.budgets import BREACH
from bot.engine.engine import Engine
from bot.engine.ledger import DAY_NS
from bot.engine.state import State
from bot.journal import Journal, JournalError, JournalReader, Segments
from bot.replaying import replay, restore
from bot.version import code_version
from tests.support.engine_driver import ASK, BID, MS, SYMBOL, Driver, S, of, parameters

D = Decimal
ENTRIES = msgspec.json.Decoder(ev.Event | it.Intent)


def never(_: it.Intent) -> bool:
    return False


class Recorded(Driver):
    """A driver whose journal is kept in memory: durable entries in order, market data beside them."""

    def __init__(self, **changes: Any) -> None:
        super().__init__(**changes)
        self.entries: list[ev.Event | it.Intent] = []
        self._record()

    def _record(self) -> None:
        receive = self.engine.receive

        def recorded(event: ev.Event) -> list[it.Intent]:
            if not isinstance(event, ev.MARKET_DATA):
                self.entries.append(event)
            intents = receive(event)
            self.entries.extend(intents)
            return intents

        self.engine.receive = recorded  # type: ignore[method-assign]

    def restart(self, entries: list[ev.Event | it.Intent], **changes: Any) -> None:
        """A new process on these entries of the journal, at the same venue; it has not been told anything yet."""
        self.parameters = parameters(**changes) if changes else self.parameters
        self.engine = Engine(self.parameters)
        text = [msgspec.json.encode(entry) for entry in entries]
        self.engine.restore(ENTRIES.decode(line) for line in text)
        self.entries = list(entries)
        self._record()
        self.epoch += 1
        self.granting = True


def traded() -> Recorded:
    """Some fills, a position, a minute of results; both quotes out."""
    driver = Recorded(two_man_rule=False, inventory_max_quote=D(1000)).start()
    driver.stated()
    driver.fill(driver.quotes[Side.BUY].client_order_id, 4)
    driver.wait(61 * S)
    driver.fill(driver.quotes[Side.SELL].client_order_id, 1)
    driver.wait(61 * S)
    return driver


def money_of(state: State) -> dict[str, list[object]]:
    """Symbol → all that its account is made of."""
    accounts = state.ledger.accounts.items()
    return {symbol: [getattr(account, name) for name in account.__slots__] for symbol, account in accounts}


def test_positions_results_curve_epoch_and_sequence_come_back() -> None:
    driver = traded()
    before = driver.engine.state
    driver.restart(driver.entries)
    after = driver.engine.state
    assert money_of(after) == money_of(before)
    assert (after.sequence, after.epoch) == (before.sequence, before.epoch)
    assert {order.client_order_id for order in driver.engine.live_orders()} == set(driver.venue)
    assert after.equity.peak_quote == before.equity.peak_quote
    assert set(driver.engine.counts.values()) == {0}


def test_after_a_restart_what_stands_is_cancelled_before_the_first_quote_and_ids_go_on() -> None:
    driver = traded()
    old = set(driver.venue)
    last = driver.engine.state.sequence
    driver.restart(driver.entries)
    driver.sent.clear()
    driver.start()
    driver.wait(3 * S)
    assert driver.engine.view == "RUNNING"
    assert old & set(driver.venue) == set()
    first = of(it.PlaceOrder, driver.sent)[0]
    cancelled = {one.client_order_id for one in of(it.CancelOrder, driver.sent[: driver.sent.index(first)])}
    assert cancelled >= old
    assert int(first.client_order_id.rpartition("-")[2]) > last
    driver.wait(5 * S)
    assert driver.count("mm_recon_divergence_total", "position_mismatch") == 0


def test_a_restart_under_the_two_man_rule_holds_until_a_grant_of_a_new_epoch() -> None:
    driver = traded()
    driver.restart(driver.entries, two_man_rule=True)
    driver.granting = False
    driver.start()
    driver.wait(3 * S)
    assert driver.engine.stop is not None
    assert (driver.engine.view, driver.engine.stop.reason) == ("HELD", "restart")
    driver.granting = True
    driver.wait(3 * S)
    assert driver.engine.view == "RUNNING"


def test_a_halt_survives_the_restart_and_time_alone_releases_nothing_of_it() -> None:
    driver = traded()
    driver.tell(ev.StopRequested(driver.now, "kill_switch", "fault", "re-arm", "ops"))
    driver.tell(ev.StopRequested(driver.now, "stale_book", "market", "auto", "ops"))
    driver.restart(driver.entries)
    driver.start()
    driver.now += DAY_NS
    driver.wait(5 * S)
    assert [stop.reason for stop in driver.engine.stops] == ["kill_switch"]
    driver.tell(ev.ResumeRequested(driver.now, "*", "ops"))
    driver.tell(ev.RearmRequested(driver.now, "*", ("ann", "ann")))
    assert driver.engine.view == "HALTED"
    driver.tell(ev.RearmRequested(driver.now, "kill_switch", ("ann", "bob")))
    driver.wait(3 * S)
    assert driver.engine.view == "RUNNING"


def test_a_halt_that_holds_after_a_restart_publishes_the_kill_switch_again() -> None:
    """Whether the one before was started, or lived until it had proven anything, the new process cannot know."""
    driver = Recorded(two_man_rule=False).start()
    driver.tell(ev.StopRequested(driver.now, "kill_switch", "fault", "re-arm", "ops"))
    driver.restart(driver.entries)
    driver.sent.clear()
    driver.start()
    driver.wait(2 * S)
    assert [one.reason for one in of(it.PublishKillSwitch, driver.sent)] == ["kill_switch"], "once a process"


def test_a_restart_under_any_other_stop_publishes_no_kill_switch() -> None:
    driver = Recorded(two_man_rule=False).start()
    driver.tell(ev.StopRequested(driver.now, "operator_hold", "planned", "people", "ops"))
    driver.restart(driver.entries)
    driver.sent.clear()
    driver.start()
    driver.wait(2 * S)
    assert driver.engine.view == "HELD"
    assert of(it.PublishKillSwitch, driver.sent) == []


@pytest.mark.parametrize(
    ("fields", "view"),
    [
        ({"view": "HELD", "resume": "people"}, "HELD"),
        ({"view": "FROZEN", "resume": "people"}, "HELD"),
        ({"view": "HALTED", "resume": "re-arm"}, "HALTED"),
        ({}, "HALTED"),
        ({"view": "FROZEN", "resume": "auto"}, "RUNNING"),
    ],
)
def test_a_stop_that_this_version_does_not_know_holds_after_a_restart(fields: dict[str, Any], view: str) -> None:
    """Another version entered it, for a reason of its own: what only people may release is not forgotten."""
    driver = Recorded(two_man_rule=False).start()
    note = it.Note(driver.now, "WARNING", "freeze_triggered", {"reason": "of_another_version", "detail": "d", **fields})
    driver.restart([*driver.entries, note])
    driver.start()
    driver.wait(3 * S)
    assert driver.engine.view == view
    released = it.Note(driver.now, "INFO", "stop_changed", {"released": "of_another_version"})
    driver.restart([*driver.entries, note, released])
    driver.start()
    driver.wait(3 * S)
    assert driver.engine.view == "RUNNING"


@pytest.mark.parametrize(
    ("resume", "also", "view"),
    [
        ("people", "another_of_that_version", "HELD"),
        ("people", "external", "HELD"),
        ("re-arm", "another_of_that_version", "HALTED"),
        ("re-arm", "kill_switch", "HALTED"),
    ],
)
def test_the_release_of_one_such_stop_releases_no_other(resume: str, also: str, view: str) -> None:
    """Both hold under the same reason of this version's."""
    driver = Recorded(two_man_rule=False).start()
    held = [
        it.Note(driver.now, "WARNING", "freeze_triggered", {"reason": one, "detail": "d", "resume": resume})
        for one in ("of_another_version", also)
    ]
    released = [it.Note(driver.now, "INFO", "stop_changed", {"released": one}) for one in ("of_another_version", also)]
    for told, after in ((released[:1], view), (released, "RUNNING")):
        driver.restart([*driver.entries, *held, *told])
        driver.start()
        driver.wait(3 * S)
        assert driver.engine.view == after


def test_a_stop_holds_after_a_restart_where_the_journal_ends_behind_its_request() -> None:
    """Its key is used: who asks again is told that it was taken, so it has to hold."""
    driver = traded()
    begun = len(driver.entries)
    request = ev.StopRequested(driver.now, "operator_hold", "planned", "people", "ops", "k1")
    driver.tell(request)
    driver.restart(driver.entries[: begun + 1])
    driver.start()
    driver.tell(request)
    driver.wait(8 * S)
    assert [stop.reason for stop in driver.engine.stops] == ["operator_hold"]
    assert driver.venue == {}


def holding(**changes: Any) -> Recorded:
    """A position of 4 lots, both quotes out; it is flattened three seconds after permission is lost."""
    driver = Recorded(two_man_rule=False, flatten_after_s=D(3), **changes).start()
    driver.fill(driver.quotes[Side.BUY].client_order_id, 4)
    driver.wait(500 * MS)
    return driver


@pytest.mark.parametrize("lost", ["expired", "revoked", "held when it was killed"])
def test_a_position_whose_permission_was_lost_is_flattened_after_a_restart_too(lost: str) -> None:
    driver = holding()
    if lost == "expired":
        driver.granting = False
        driver.wait(6 * S)
    elif lost == "revoked":
        driver.grant(revoked=True)
    driver.restart(driver.entries)
    driver.granting = False
    driver.sent.clear()
    driver.start()
    driver.wait(2500 * MS)
    assert of(it.FlattenReduceOnly, driver.sent) == [], "whoever started it has as long to permit it anew"
    driver.wait((8 if "held" in lost else 2) * S)
    slices = of(it.FlattenReduceOnly, driver.sent)
    assert slices
    assert all((one.side, one.qty_lots) == (Side.SELL, 4) for one in slices)


@pytest.mark.parametrize("lost", ["expired", "revoked", "held when it was killed"])
def test_a_bot_that_is_started_more_often_than_that_flattens_all_the_same(lost: str) -> None:
    driver = holding()
    if lost == "expired":
        driver.granting = False
        driver.wait(5 * S)
    elif lost == "revoked":
        driver.grant(revoked=True)
    driver.sent.clear()
    for starts in range(1, 9):
        driver.restart(driver.entries)
        driver.granting = False
        driver.start()
        driver.wait(1900 * MS)
        assert starts > 1 or of(it.FlattenReduceOnly, driver.sent) == []
    assert of(it.FlattenReduceOnly, driver.sent)


@pytest.mark.parametrize("lived_on", [True, False])
def test_the_first_start_long_after_permission_was_lost_has_as_long_to_get_it_anew(lived_on: bool) -> None:
    driver = holding()
    driver.granting = False
    driver.wait((6 if lived_on else 1) * S)
    driver.restart(driver.entries)
    driver.now += 3_600 * S
    driver.granting = False
    driver.sent.clear()
    driver.start()
    driver.wait(2500 * MS)
    assert of(it.FlattenReduceOnly, driver.sent) == []
    driver.wait(4 * S)
    assert of(it.FlattenReduceOnly, driver.sent)


def test_a_restart_whose_permission_comes_in_time_flattens_nothing() -> None:
    driver = holding()
    driver.restart(driver.entries)
    driver.sent.clear()
    driver.start()
    driver.wait(5 * S)
    assert driver.engine.view == "RUNNING"
    assert of(it.FlattenReduceOnly, driver.sent) == []


def test_where_no_permission_is_needed_any_more_none_is_missed_after_a_restart() -> None:
    driver = holding()
    driver.restart(driver.entries, two_man_rule=False, flatten_after_s=D(3), requires_grant=False)
    driver.granting = False
    driver.sent.clear()
    driver.start()
    driver.wait(8 * S)
    assert driver.engine.view == "RUNNING"
    assert of(it.FlattenReduceOnly, driver.sent) == []
    assert driver.engine.state.grant_lost_ns is None


def test_after_a_restart_nothing_is_flattened_while_an_order_of_ours_may_stand() -> None:
    driver = holding()
    driver.restart(driver.entries)
    driver.granting = False
    driver.silent = {it.ProbeOrder, it.CancelOrder, it.ReadAccount}
    driver.sent.clear()
    driver.start()
    driver.wait(12 * S)
    assert driver.engine.live_orders()
    assert of(it.FlattenReduceOnly, driver.sent) == []


def test_breaches_of_the_cancel_budget_count_on_over_a_restart() -> None:
    budget: dict[str, Any] = {
        "cancel_budget_per_min": 6, "cancel_budget_reserve": 2, "requote_interval_ms": 100,
        "cancel_budget_breaches_max": 2, "two_man_rule": False, "orders_per_min_max": 1_000,
    }  # fmt: skip
    driver = Recorded(**budget).start()
    driver.wait(S)
    for breaches in (1, 2):
        while driver.engine.view == "RUNNING" and not driver.count("mm_limit_breaches_total", "cancel_budget"):
            for mark, top in ((450_000, BID + 2_000), (BID, BID)):
                driver.tell(ev.TradePrinted(driver.now, SYMBOL, mark, 1, Side.SELL, driver.now))
                driver.book(top, top + 2)
                driver.wait(600 * MS)
        assert (driver.engine.view == "HALTED") is (breaches == 2)
        if breaches == 1:
            driver.restart(driver.entries)
            driver.now += 61 * S
            driver.start()
            driver.wait(2 * S)
            assert driver.engine.view == "RUNNING"


def _orphan(number: int) -> ev.VenueOrder:
    name = f"slwq-9-{number}"
    return ev.VenueOrder(SYMBOL, name, f"v-{name}", Side.BUY, BID - 900, 1, 0, ev.OrderStatus.WORKING)


def test_a_cancel_of_an_order_that_nobody_knows_counts_like_any_other_before_and_after_a_restart() -> None:
    driver = Recorded(two_man_rule=False)
    for number in range(3):
        driver.venue[_orphan(number).client_order_id] = _orphan(number)
    driver.start()
    driver.wait(2 * S)
    counted = driver.engine.state.cancel_rate.spent(driver.now)
    assert counted == len(of(it.CancelOrder, driver.sent)) == 3
    assert driver.engine.view == "RUNNING"
    driver.restart(driver.entries)
    assert driver.engine.state.cancel_rate.spent(driver.now) == counted


def test_who_cancels_unknown_orders_without_end_runs_away() -> None:
    driver = Recorded(two_man_rule=False, cancels_per_min_max=6, foreign_orders="cancel").start()
    driver.wait(2 * S)
    for number in range(20):
        if driver.engine.view != "RUNNING":
            break
        name = f"other-{number}"
        driver.venue[name] = msgspec.structs.replace(_orphan(number), client_order_id=name, venue_order_id=f"v-{name}")
        driver.tell(driver.orders_read())
        driver.wait(S)
    assert [stop.reason for stop in driver.engine.stops] == ["runaway_breaker"]
    assert number == 6


def test_a_position_that_changed_while_nobody_watched_is_held_not_adopted() -> None:
    driver = traded()
    driver.position_lots += 5
    driver.restart(driver.entries)
    driver.start()
    driver.wait(6 * S)
    assert driver.engine.view == "HELD"
    assert driver.count("mm_recon_divergence_total", "position_mismatch") == 1
    assert of(it.PlaceOrder, driver.sent[-50:]) == []
    driver.tell(ev.ResumeRequested(driver.now, "*", "ops"))
    driver.wait(3 * S)
    assert driver.engine.view == "RUNNING"
    assert driver.engine.state.ledger.accounts[SYMBOL].position_lots == driver.position_lots


def test_the_loss_of_the_last_24_hours_goes_on_over_a_restart() -> None:
    driver = Recorded(two_man_rule=False, inventory_max_quote=D(1000), drawdown_pct_hard=D(100)).start()
    driver.wait(S)
    driver.fill(driver.quotes[Side.BUY].client_order_id, 4)
    driver.book(BID - 70_000, ASK - 70_000)
    driver.wait(61 * S)
    lost = driver.engine.state.equity.loss_24h_quote
    assert D(25) < lost < D(60)
    driver.restart(driver.entries)
    driver.start()
    driver.book(BID - 70_000, ASK - 70_000)
    driver.wait(2 * S)
    assert driver.engine.state.equity.loss_24h_quote == lost
    driver.book(BID - 170_000, ASK - 170_000)
    driver.wait(2 * S)
    assert driver.engine.stop is not None
    assert driver.engine.stop.reason == "daily_loss"


def test_the_day_before_of_the_same_account_counts_under_a_new_journal() -> None:
    driver = Recorded(daily_loss_pct_hard=D(3), drawdown_pct_hard=D(100))
    earlier = ((driver.now - 3600 * S, D(80)), (driver.now - S, D(25)))
    driver.tell(ev.EquityCarried(driver.now, "acct", earlier, D(90)))
    assert driver.engine.state.equity.loss_24h_quote == D(55)
    assert driver.engine.state.equity.drawdown_quote == D(65)
    driver.start()
    driver.fill(driver.quotes[Side.BUY].client_order_id, 4, maker=False)
    assert "daily_loss" not in [stop.reason for stop in driver.engine.stops]
    driver.book(BID - 30_000, ASK - 30_000)
    driver.wait(200 * MS)
    assert "daily_loss" in [stop.reason for stop in driver.engine.stops]


steps = st.lists(
    st.sampled_from(["up", "down", "fill", "part", "deaf", "hear", "uncertain", "freeze", "resume", "wait", "taker"]),
    min_size=1, max_size=15,
)  # fmt: skip


def act(driver: Driver, what: str) -> None:
    orders = list(driver.venue.values())
    top = driver.engine.state.books[SYMBOL].top or (BID, ASK)
    if what in ("up", "down"):
        move = 60 if what == "up" else -60
        driver.book(top[0] + move, top[1] + move)
    elif what in ("fill", "part", "taker") and orders:
        left = orders[0].qty_lots - orders[0].filled_lots
        driver.fill(orders[0].client_order_id, 1 if what == "part" else left, maker=what != "taker")
    elif what == "deaf":
        driver.silent = {it.PlaceOrder, it.AmendOrder, it.CancelOrder}
    elif what == "hear":
        driver.silent = set()
    elif what == "uncertain":
        for order in driver.engine.live_orders():
            driver.tell(ev.OrderUncertain(driver.now, order.client_order_id, 0, "time-out"))
    elif what == "freeze":
        driver.tell(ev.StopRequested(driver.now, "drill", "planned", "auto", "ops"))
    elif what == "resume":
        driver.tell(ev.ResumeRequested(driver.now, "*", "people"))
    driver.wait(2 * S if what == "wait" else 300 * MS)


@settings(max_examples=40, deadline=None)
@given(steps, st.floats(0, 1))
def test_any_prefix_of_a_journal_gives_a_state_that_quotes_nothing_before_it_has_reconciled(
    plan: list[str], share: float
) -> None:
    driver = Recorded(hysteresis_s=D(1), recon_interval_s=D(1)).start()
    for what in plan:
        act(driver, what)
    driver.silent = set()
    prefix = driver.entries[: int(len(driver.entries) * share)]
    fills = {one.execution_id: one for one in prefix if isinstance(one, ev.Filled)}
    driver.restart(prefix)
    if any(isinstance(entry, ev.InstrumentsRead) for entry in prefix):
        own = sum(fill.side.sign * fill.qty_lots for fill in fills.values())
        adopted = any(isinstance(one, it.Note) and one.event == "position_adopted" for one in prefix)
        if "resume" not in plan and adopted:
            assert driver.engine.state.ledger.accounts[SYMBOL].position_lots == own
    known = {order.client_order_id for order in driver.engine.live_orders()}
    sent = {one.client_order_id for one in prefix if isinstance(one, it.PlaceOrder)}
    ended = {order.client_order_id for order in driver.engine.state.orders._orders.values() if not order.live}
    assert known | ended == sent
    driver.silent = {it.ReadAccount}
    driver.sent.clear()
    driver.start()
    driver.wait(3 * S)
    assert of(it.PlaceOrder, driver.sent) == of(it.AmendOrder, driver.sent) == []
    driver.silent = set()
    driver.wait(3 * S)
    if of(it.PlaceOrder, driver.sent):
        leftovers = sent - {one.client_order_id for one in of(it.PlaceOrder, driver.sent)}
        assert leftovers & set(driver.venue) == set()


# ---- a journal on disk ----


class OnDisk(Driver):
    """A driver with a real journal and segments, written as the loop writes them."""

    def __init__(
        self, folder: Path, *, version: str = "", lacks: Callable[[it.Intent], bool] = never, **changes: Any
    ) -> None:
        super().__init__(**changes)
        self.path = folder / "journal.db"
        meta = {"account": "acct", "run": "run", "config_digest": "d", "version": "v", "mode": "live"}
        self.journal = Journal(self.path, meta, synchronous="NORMAL", segments=Segments(folder, 4_000, 1_000))
        if self.journal.continued:
            restore(self.engine, self.path)
        receive = self.engine.receive

        def recorded(event: ev.Event) -> list[it.Intent]:
            if isinstance(event, ev.Started):
                text = msgspec.json.encode(self.parameters).decode()
                event = msgspec.structs.replace(event, parameters=text, version=version or event.version)
            self.journal.event(event)
            intents = receive(event)
            for intent in intents:
                if not lacks(intent):
                    self.journal.intent(intent)
            self.journal.commit({})
            return intents

        self.engine.receive = recorded  # type: ignore[method-assign]


def live_a_little(driver: Driver) -> None:
    driver.start()
    for what in ("up", "fill", "wait", "uncertain", "down", "part", "wait", "freeze", "wait", "up"):
        act(driver, what)
    driver.wait(3 * S)


def test_a_journal_with_its_segments_gives_the_same_intents_byte_for_byte(tmp_path: Path) -> None:
    driver = OnDisk(tmp_path)
    live_a_little(driver)
    driver.journal.close()
    told = replay(tmp_path / "journal.db")
    assert told.difference == ""
    assert told.intents > 40
    assert told.processes == 1
    assert len(list(tmp_path.glob("market-*.jsonl"))) > 1


def test_a_journal_of_two_processes_replays_as_two(tmp_path: Path) -> None:
    first = OnDisk(tmp_path, two_man_rule=False)
    live_a_little(first)
    first.journal.close()
    second = OnDisk(tmp_path, two_man_rule=False)
    second.now, second.epoch = first.now + S, 2
    second.venue, second.position_lots = first.venue, first.position_lots
    second._executions, second._update_id = 1_000, 5_000
    live_a_little(second)
    second.journal.close()
    told = replay(tmp_path / "journal.db")
    assert (told.difference, told.processes) == ("", 2)
    assert second.engine.view == "RUNNING"


def test_what_a_process_goes_on_with_that_was_halted_and_has_lost_its_permission_replays_the_same(
    tmp_path: Path,
) -> None:
    changes: dict[str, Any] = {"two_man_rule": False, "flatten_after_s": D(1)}
    first = OnDisk(tmp_path, **changes)
    first.start()
    first.fill(first.quotes[Side.BUY].client_order_id, 4)
    first.tell(ev.StopRequested(first.now, "kill_switch", "fault", "re-arm", "ops"))
    first.granting = False
    first.wait(3 * S)
    first.journal.close()
    second = OnDisk(tmp_path, **changes)
    second.now, second.granting, second.position_lots = first.now + S, False, first.position_lots
    second.start()
    second.wait(8 * S)
    second.journal.close()
    assert of(it.FlattenReduceOnly, second.sent)
    assert of(it.PublishKillSwitch, second.sent)
    told = replay(tmp_path / "journal.db")
    assert (told.difference, told.processes) == ("", 2)


def _notes_a_breach(intent: it.Intent) -> bool:
    return isinstance(intent, it.Note) and intent.event == BREACH


@pytest.mark.parametrize("version", ["0.1.0+000000000000", code_version()])
def test_a_breach_that_an_older_version_did_not_note_is_told_as_a_later_rule_and_no_difference(
    tmp_path: Path, version: str
) -> None:
    budget = {"cancel_budget_per_min": 6, "cancel_budget_reserve": 2, "requote_interval_ms": 100}
    driver = OnDisk(tmp_path, version=version, lacks=_notes_a_breach, orders_per_min_max=1_000, **budget)
    driver.start().wait(S)
    for mark, top in ((450_000, BID + 2_000), (BID, BID)) * 4:
        driver.tell(ev.TradePrinted(driver.now, SYMBOL, mark, 1, Side.SELL, driver.now))
        driver.book(top, top + 2)
        driver.wait(600 * MS)
    assert driver.count("mm_limit_breaches_total", "cancel_budget")
    driver.journal.close()
    told = replay(driver.path)
    if version == code_version():
        assert "replayed" in told.difference
        assert BREACH in told.difference
        assert "version" not in told.difference
        return
    assert told.difference == ""
    assert told.later == ("a breach of the cancel budget is noted",)
    assert "the same but for what later rules add" in as_line(told)
    assert "a breach of the cancel budget is noted" in as_line(told)


def test_a_halt_over_a_restart_that_an_older_version_did_not_publish_again_is_told_as_a_later_rule(
    tmp_path: Path,
) -> None:
    old: dict[str, Any] = {"two_man_rule": False, "version": "0.1.0+000000000000"}
    first = OnDisk(tmp_path, **old)
    first.start()
    first.tell(ev.StopRequested(first.now, "kill_switch", "fault", "re-arm", "ops"))
    first.wait(S)
    first.journal.close()
    second = OnDisk(tmp_path, lacks=lambda intent: isinstance(intent, it.PublishKillSwitch), **old)
    second.now, second.epoch = first.now + S, 2
    second.start().wait(S)
    second.journal.close()
    told = replay(second.path)
    assert (told.difference, told.processes) == ("", 2)
    assert told.later == ("a halt that holds at a start publishes the kill switch again",)


def test_what_another_version_decided_otherwise_is_a_difference_that_names_both_versions(tmp_path: Path) -> None:
    driver = OnDisk(tmp_path, version="0.1.0+000000000000", lacks=lambda intent: isinstance(intent, it.PlaceOrder))
    driver.start()
    driver.journal.close()
    told = replay(driver.path)
    assert '"type":"PlaceOrder"' in told.difference
    assert f"written by version 0.1.0+000000000000, this is {code_version()}" in told.difference


def test_the_first_difference_of_a_replay_is_named(tmp_path: Path) -> None:
    driver = OnDisk(tmp_path)
    live_a_little(driver)
    driver.journal._store._db.execute("UPDATE entry SET body = replace(body, '\"side\":\"buy\"', '\"side\":\"sell\"') "
                               "WHERE seq = (SELECT min(seq) FROM entry WHERE kind = 'PlaceOrder')")  # fmt: skip
    with JournalReader(driver.path) as reader:
        seq = next(reader.entries(kind="PlaceOrder")).seq
    driver.journal.close()
    told = replay(driver.path)
    assert f"entry {seq} differs: recorded" in told.difference
    assert '"side":"sell"' in told.difference
    assert "replayed" in told.difference


def test_a_segment_that_is_cut_or_gone_is_missing_market_data_and_no_difference(tmp_path: Path) -> None:
    driver = OnDisk(tmp_path)
    live_a_little(driver)
    driver.journal.close()
    segments = sorted(tmp_path.glob("market-*.jsonl"))
    whole = segments[1].read_bytes()
    segments[1].write_bytes(whole[:-10])
    assert "is missing" in replay(driver.path).difference
    segments[1].write_bytes(whole)
    with segments[-1].open("ab") as file:  # market data that outlived the commit it belonged to: nothing was sent on it
        number = driver.journal._seq + 3
        file.write(b"[%d,%s]\n" % (number, msgspec.json.encode(ev.Ticked(driver.now + S))))
    assert replay(driver.path).difference == ""
    for segment in segments:
        segment.unlink()
    assert "is missing" in replay(driver.path).difference


def test_a_journal_without_parameters_cannot_be_replayed_and_says_so(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "journal.db", {"account": "a"}, synchronous="NORMAL")
    journal.event(ev.Started(1, "run", "live", "d", "v", (SYMBOL,)))
    journal.commit({})
    journal.close()
    with pytest.raises(JournalError, match="without the engine's parameters"):
        replay(tmp_path / "journal.db")


def test_an_engine_that_was_told_something_is_not_restored() -> None:
    driver = Driver().start()
    with pytest.raises(RuntimeError, match="before it is told anything"):
        driver.engine.restore([])


def test_a_fresh_journal_takes_the_newest_day_of_its_account_from_its_neighbours(tmp_path: Path) -> None:
    for run in ("one", "two", "mine"):
        (tmp_path / run).mkdir()
    first = OnDisk(tmp_path / "one")
    first.start()
    first.fill(first.quotes[Side.BUY].client_order_id, 4)
    first.book(BID - 70_000, ASK - 70_000)
    first.wait(2 * S)
    lost = first.engine.state.equity.loss_24h_quote
    assert lost > 20
    first.journal.close()
    (tmp_path / "two" / "journal.db").write_bytes(b"no journal")
    carried = carried_equity(tmp_path / "mine", "acct", "live", first.now)
    assert carried.event is not None
    assert carried.event.samples[-1][1] <= -20
    assert len(carried.unread) == 1
    engine = Engine(parameters())
    engine.receive(carried.event)
    assert engine.state.equity.loss_24h_quote == carried.event.samples[0][1] - carried.event.samples[-1][1] > 20
    assert carried_equity(tmp_path / "mine", "another", "live", first.now).event is None
    assert carried_equity(tmp_path / "mine", "acct", "live", first.now + DAY_NS + S).event is None


def _word(driver: Recorded, kind: type, who: str) -> None:
    """A person's word on the request `r1` to resume whatever holds."""
    kinds = {ev.ReleaseAsked: ("r1", "resume", "*", who, "looked at it"), ev.ReleaseConfirmed: ("r1", who, "so did I")}
    driver.tell(kind(driver.now, *kinds[kind]))


@pytest.mark.parametrize("confirmed", [True, False], ids=["confirmed", "only asked"])
def test_a_request_that_an_earlier_process_took_releases_nothing_whoever_says_it_again(confirmed: bool) -> None:
    driver = Recorded(two_man_rule=False).start()
    driver.tell(ev.StopRequested(driver.now, "operator_hold", "planned", "people", "ops"))
    driver.wait(S)
    _word(driver, ev.ReleaseAsked, "ada")
    if confirmed:
        _word(driver, ev.ReleaseConfirmed, "grace")
        assert driver.engine.view == "RUNNING"
        driver.tell(ev.StopRequested(driver.now, "operator_hold", "planned", "people", "ops"))
        driver.wait(S)
    for _ in range(2):  # the second process has heard of it from its journal alone
        driver.restart(driver.entries)
        driver.start()
        driver.wait(S)
        _word(driver, ev.ReleaseAsked, "ada")
        _word(driver, ev.ReleaseConfirmed, "grace")
        assert driver.engine.view == "HELD"
        found = driver.engine.state.releases["r1"]
        assert (found.word, found.refusal.partition(":")[0]) == ("refused", "over")


@pytest.mark.parametrize(("ago_ns", "is_believed"), [(MS, False), (0, True), (None, True)])
def test_an_older_answer_about_an_order_undoes_no_newer_word_after_a_restart_either(
    ago_ns: int | None, is_believed: bool
) -> None:
    """None: a journal of a version that did not write down when it was asked."""
    driver = Recorded(two_man_rule=False).start()
    driver.wait(S)
    before = driver.quotes[Side.BUY]
    moved = msgspec.structs.replace(before, price_ticks=before.price_ticks - 1)
    driver.tell(ev.OrderUpdated(driver.now, moved))
    driver.tell(ev.OrderUpdated(driver.now, before, 0 if ago_ns is None else driver.now - ago_ns))
    assert (b"asked_at_ns" in msgspec.json.encode(driver.entries[-1])) is (ago_ns is not None)
    driver.restart(driver.entries)
    order = driver.engine.state.orders.get(before.client_order_id)
    assert order is not None
    assert order.price_ticks == (before if is_believed else moved).price_ticks
