"""The loop when something breaks: the journal, the engine, the grant between deciding and sending."""

from __future__ import annotations

import asyncio
import errno
import io
import json
from collections.abc import Callable, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from bot.domain.counts import Counts
from bot.domain.events import (
    BookLost,
    Event,
    OpenOrdersRead,
    OrderAccepted,
    OrderStatus,
    OrderUnreachable,
    ShutdownRequested,
    Started,
    StopRequested,
    StreamUp,
    Ticked,
    VenueOrder,
)
from bot.domain.instrument import Instrument
from bot.domain.intent import CancelAll, CancelOrder, Exit, Intent, PlaceOrder, PublishKillSwitch
from bot.domain.order import Side
from bot.engine.engine import Engine
from bot.engine.parameters import EngineParameters
from bot.journal import Journal, JournalReader
from bot.metrics import LOG_LEVELS
from bot.runtime.clock import Clock
from bot.runtime.exporter import Exporter
from bot.runtime.grant import GrantHolder
from bot.runtime.housekeeping import Housekeeping
from bot.runtime.logs import JsonLog
from bot.runtime.loop import Loop, Parts
from bot.runtime.process_metrics import ProcessMetrics
from bot.venues.bybit.adapter import instruments_read
from bot.venues.port import Accepted, Outcome, Position, Unknown, Wallet

BTC = Instrument(
    "BTCUSDT", "linear", "BTC", "USDT", Decimal("0.1"), Decimal("0.001"), Decimal("0.001"), Decimal(100), Decimal(5)
)
STANDING = VenueOrder("BTCUSDT", "slwq-1-9", "v9", Side.BUY, 1, 1, 0, OrderStatus.WORKING)


def place_order(number: int) -> PlaceOrder:
    return PlaceOrder(1, f"slwq-1-{number}", "BTCUSDT", Side.BUY, 600_000, 2, 1)


class FakeVenue:
    """A venue that takes everything and remembers the order of calls. Implements what these tests reach."""

    def __init__(self, journal_path: Path) -> None:
        self.calls: list[str] = []
        self.standing: list[VenueOrder] = []
        self.journaled_at_send: list[list[str]] = []
        self._journal_path = journal_path
        self.http_responses: dict[tuple[str, str], int] = {}
        self.rate_limit_headroom: dict[str, float] = {}
        self.ws_reconnects = 0
        self.connections_open: dict[str, int] = {}

    async def start(self, sink: Callable[[Event], None]) -> None:
        sink(instruments_read(BTC, 1))
        sink(StreamUp(2, "private"))

    async def close(self) -> None:
        self.calls.append("close")

    async def place(self, intent: PlaceOrder, _instrument: Instrument) -> Outcome:
        with JournalReader(self._journal_path) as reader:
            self.journaled_at_send.append([row.client_order_id for row in reader.entries(kind="PlaceOrder")])
        self.calls.append(f"place {intent.client_order_id}")
        return Accepted(venue_order_id="v")

    async def cancel(self, intent: CancelOrder) -> Outcome:
        self.calls.append(f"cancel {intent.client_order_id}")
        return Accepted()

    async def cancel_all(self, symbol: str) -> Outcome:
        self.calls.append(f"cancel_all {symbol}")
        if self.calls.count(f"cancel_all {symbol}") > 1:  # the first one misses what was in flight
            self.standing.clear()
        return Accepted()

    async def open_orders(self, _symbol: str, _instrument: Instrument) -> list[VenueOrder]:
        return list(self.standing)

    async def position(self, symbol: str) -> Position:
        return Position(symbol, Decimal(0), Decimal(0))

    async def wallet(self, _instrument: Instrument) -> Wallet:
        return Wallet(Decimal(1000), Decimal(0), Decimal(1000))


class ScriptedEngine:
    """Answers each kind of event as told, and remembers what it was told."""

    def __init__(self, answers: dict[type, Sequence[Intent] | Exception]) -> None:
        self._answers = answers
        self.told: list[Event] = []
        self.counts = Counts([("mm_crossing_orders_total", ("BTCUSDT",))])

    def receive(self, event: Event) -> list[Intent]:
        self.told.append(event)
        if isinstance(event, ShutdownRequested):
            return [Exit(1, 0, "scripted")]
        answer = self._answers.pop(type(event), ())
        if isinstance(answer, Exception):
            raise answer
        return list(answer)

    def drain_changed_counts(self) -> list[tuple[tuple[str, tuple[str, ...]], int]]:
        return self.counts.drain()

    def of(self, kind: type) -> list[Any]:
        return [event for event in self.told if isinstance(event, kind)]


class Rig:
    """A loop over the scripted engine and the fake venue, with a real journal."""

    def __init__(
        self, folder: Path, answers: dict[type, Sequence[Intent] | Exception], *, granted: bool = True
    ) -> None:
        self.clock = Clock()
        self.output = io.StringIO()
        log = JsonLog((self.output,), self.clock.now_ns)
        self.path = folder / "journal.db"
        self.journal = Journal(self.path, {"account": "a"})
        self.venue = FakeVenue(self.path)
        self.engine = ScriptedEngine(answers)
        grant = GrantHolder("a")
        if granted:
            grant.take("a", 1, Decimal(500), Decimal(2000), 60.0, self.clock.now_ns())
        self.metrics = ProcessMetrics(
            self.venue, dict.fromkeys(LOG_LEVELS, 0), dict, version="v", digest="d", live_enabled=False
        )
        state = Engine(EngineParameters(symbols=("BTCUSDT",))).known
        exporter = Exporter((), ("BTCUSDT",), self.clock.now_ns)
        housekeeping = Housekeeping(
            folder, state, exporter, self.metrics, log, disk_reserve_bytes=0, export_interval_s=1000
        )
        parts: Any = Parts(
            engine=self.engine,  # type: ignore[arg-type]
            port=self.venue,  # type: ignore[arg-type]
            journal=self.journal,
            clock=self.clock,
            grant=grant,
            log=log,
            metrics=self.metrics,
            housekeeping=housekeeping,
            started=Started(self.clock.now_ns(), "r", "live", "d", "v", ("BTCUSDT",)),
            iterations=0,
            heartbeat_ns=10**9,
            shutdown_deadline_s=5.0,
            publish_kill_switch=lambda _reason: None,
            account_is_ours=True,
        )
        self._parts = parts
        self.loop: Loop

    def run(self, until: Callable[[Rig], bool]) -> int:
        """Runs until the condition holds (then shuts down) or the loop ends by itself. The exit code."""

        async def course() -> int:
            self.loop = Loop(self._parts)
            self.loop.begin()
            running = asyncio.create_task(self.loop.run())
            async with asyncio.timeout(60):
                while not running.done():
                    if until(self):
                        break
                    await asyncio.sleep(0.01)
                if not running.done():
                    self.loop.shut_down("test")
                return await running

        code = asyncio.run(course())
        self.journal.close()
        return code

    def events(self) -> list[str]:
        return [json.loads(line)["event"] for line in self.output.getvalue().splitlines()]


def test_an_intent_is_in_the_journal_before_it_is_sent(tmp_path: Path) -> None:
    rig = Rig(tmp_path, {StreamUp: [place_order(1)]})
    assert rig.run(lambda r: bool(r.engine.of(OrderAccepted))) == 0
    assert rig.venue.journaled_at_send == [["slwq-1-1"]]


def test_cancels_overtake_what_adds_risk(tmp_path: Path) -> None:
    intents = [place_order(1), CancelOrder(1, "slwq-1-0", "BTCUSDT"), CancelAll(1, "k", ("BTCUSDT",), "r")]
    rig = Rig(tmp_path, {StreamUp: intents})
    rig.run(lambda r: len(r.venue.calls) >= 3)
    assert rig.venue.calls[:3] == ["cancel slwq-1-0", "cancel_all BTCUSDT", "place slwq-1-1"]


def test_a_repeated_cancel_all_under_one_key_sends_nothing(tmp_path: Path) -> None:
    once = CancelAll(1, "k", ("BTCUSDT",), "r")
    rig = Rig(tmp_path, {StreamUp: [once, once, place_order(1)]})
    rig.run(lambda r: bool(r.engine.of(OrderAccepted)))
    assert rig.venue.calls.count("cancel_all BTCUSDT") == 1
    assert rig.loop.tally.duplicate_operations == 1  # which is what the report shows


def test_without_an_unexpired_grant_at_the_moment_of_sending_nothing_is_sent(tmp_path: Path) -> None:
    rig = Rig(tmp_path, {StreamUp: [place_order(1)]}, granted=False)
    rig.run(lambda r: bool(r.engine.of(OrderUnreachable)))
    assert rig.venue.calls == ["close"]
    assert "no unexpired grant" in rig.engine.of(OrderUnreachable)[0].detail


def test_an_unwritable_journal_stops_quoting_and_still_lets_cancels_go(tmp_path: Path) -> None:
    rig = Rig(tmp_path, {StreamUp: [place_order(1), CancelAll(1, "k", ("BTCUSDT",), "r")]})
    rig.journal._store._db.execute("PRAGMA query_only = 1")  # every write fails, as on a full disk
    rig.run(lambda r: "cancel_all BTCUSDT" in r.venue.calls)
    assert not any(call.startswith("place") for call in rig.venue.calls)
    assert rig.engine.of(OrderUnreachable)[0].client_order_id == "slwq-1-1"
    assert rig.engine.of(StopRequested)[0].reason == "journal_unwritable"
    assert rig.events().count("journal_unwritable") == 1


def test_a_kill_switch_that_cannot_be_started_keeps_no_cancel_from_going_and_is_started_later(tmp_path: Path) -> None:
    rig = Rig(tmp_path, {StreamUp: [PublishKillSwitch(1, "drawdown"), CancelAll(1, "k", ("BTCUSDT",), "drawdown")]})
    tried: list[tuple[str, int]] = []
    sent_by_then: list[list[str]] = []

    def publish(reason: str) -> None:
        tried.append((reason, len(rig.engine.of(Ticked))))
        sent_by_then.append(list(rig.venue.calls))
        if len(tried) < 3:
            raise OSError(errno.EAGAIN, "Resource temporarily unavailable")

    rig._parts = rig._parts._replace(publish_kill_switch=publish)
    assert rig.run(lambda r: bool(tried) and len(r.engine.of(Ticked)) >= tried[0][1] + 5) == 0
    assert rig.venue.calls == ["cancel_all BTCUSDT", "close"]
    assert sent_by_then[1:] == [["cancel_all BTCUSDT"]] * 2, "it waited for no start of a kill switch"
    assert [reason for reason, _ in tried] == ["drawdown"] * 3, "until it was started, and no more"
    ticks = [tick for _, tick in tried]
    assert ticks[1:] == [ticks[0], ticks[0] + 1], "one try a tick, before the engine is told of it"
    assert rig.metrics.uncaught_exceptions == 0
    assert [name for name in rig.events() if name.startswith("kill_switch")] == [
        "kill_switch_published", "kill_switch_not_started", "kill_switch_started",
    ]  # fmt: skip


@pytest.mark.parametrize("comes_free", [True, False])
def test_a_kill_switch_that_is_due_when_the_bot_ends_is_tried_once_more_when_the_venues_sockets_are_closed(
    tmp_path: Path, comes_free: bool
) -> None:
    rig = Rig(tmp_path, {StreamUp: [PublishKillSwitch(1, "drawdown")]})
    started: list[str] = []
    tried_closed: list[bool] = []

    def publish(reason: str) -> None:
        closed = "close" in rig.venue.calls
        tried_closed.append(closed)
        if not (closed and comes_free):
            raise OSError(errno.EMFILE, "Too many open files")
        started.append(reason)

    rig._parts = rig._parts._replace(publish_kill_switch=publish)
    assert rig.run(lambda _r: bool(tried_closed)) == 0
    assert (tried_closed.count(True), started) == (1, ["drawdown"] if comes_free else [])
    lines = [json.loads(line) for line in rig.output.getvalue().splitlines()]
    said = [(line["lvl"], line["event"]) for line in lines if line["event"].startswith("kill_switch")]
    last = ("WARNING", "kill_switch_started") if comes_free else ("ERROR", "kill_switch_never_started")
    assert said == [("ERROR", "kill_switch_published"), ("ERROR", "kill_switch_not_started"), last]


def test_an_engine_that_fails_is_counted_and_orders_are_cancelled_without_it(tmp_path: Path) -> None:
    rig = Rig(tmp_path, {BookLost: ValueError("a bug")})
    rig.venue.standing.append(STANDING)
    rig._parts = rig._parts._replace(engine=rig.engine)
    broken = False

    def once_connected(r: Rig) -> bool:
        nonlocal broken
        if r.engine.of(StreamUp) and not broken:
            broken = True
            r.loop.tell(BookLost(r.clock.now_ns(), "BTCUSDT", "test"))
        return False

    assert rig.run(once_connected) == 1
    assert rig.venue.standing == []
    assert rig.venue.calls == ["cancel_all BTCUSDT", "cancel_all BTCUSDT", "close"]
    assert rig.metrics.uncaught_exceptions == 1
    assert "last_resort_done" in rig.events()
    with JournalReader(rig.path) as reader:
        assert reader.totals()["mm_uncaught_exceptions_total", ""] == 1


def test_what_an_engine_decided_before_it_failed_in_the_same_turn_does_not_leave(tmp_path: Path) -> None:
    rig = Rig(tmp_path, {StreamUp: [place_order(1)], BookLost: ValueError("a bug")})

    async def start(sink: Callable[[Event], None]) -> None:
        sink(instruments_read(BTC, 1))
        sink(StreamUp(2, "private"))
        sink(BookLost(3, "BTCUSDT", "test"))

    rig.venue.start = start  # type: ignore[method-assign]
    assert rig.run(lambda _r: False) == 1
    assert not any(call.startswith("place") for call in rig.venue.calls)
    assert "cancel_all BTCUSDT" in rig.venue.calls


def test_an_order_that_was_on_its_way_when_the_engine_failed_is_cancelled_too(tmp_path: Path) -> None:
    rig = Rig(tmp_path, {StreamUp: [place_order(1)], BookLost: ValueError("a bug")})
    arrives = asyncio.Event()

    async def place(_intent: PlaceOrder, _instrument: Instrument) -> Outcome:
        rig.loop.tell(BookLost(3, "BTCUSDT", "test"))
        await arrives.wait()
        rig.venue.standing.append(STANDING)
        return Accepted(venue_order_id="v9")

    async def open_orders(_symbol: str, _instrument: Instrument) -> list[VenueOrder]:
        found = list(rig.venue.standing)
        arrives.set()
        return found

    rig.venue.place, rig.venue.open_orders = place, open_orders  # type: ignore[method-assign]
    assert rig.run(lambda _r: False) == 1
    assert rig.venue.standing == []
    (done,) = [json.loads(line) for line in rig.output.getvalue().splitlines() if "last_resort_done" in line]
    assert done["proven"] is True


def test_an_order_of_unknown_outcome_that_lands_late_after_the_engine_failed_is_waited_for(tmp_path: Path) -> None:
    rig = Rig(tmp_path, {StreamUp: [place_order(1)], BookLost: ValueError("a bug")})
    rig._parts = rig._parts._replace(engine=rig.engine, receive_window_s=0.6)

    async def place(_intent: PlaceOrder, _instrument: Instrument) -> Outcome:
        loop = asyncio.get_running_loop()
        loop.call_soon(rig.loop.tell, BookLost(3, "BTCUSDT", "test"))
        loop.call_later(0.4, rig.venue.standing.append, STANDING)
        return Unknown(0, "timed out")

    rig.venue.place = place  # type: ignore[method-assign]
    assert rig.run(lambda _r: False) == 1
    assert rig.venue.standing == []
    (done,) = [json.loads(line) for line in rig.output.getvalue().splitlines() if "last_resort_done" in line]
    assert done["proven"] is True


def test_an_exception_outside_the_engine_shuts_down_in_order_with_a_failing_code(tmp_path: Path) -> None:
    rig = Rig(tmp_path, {StreamUp: [CancelOrder(1, "slwq-1-0", "BTCUSDT")]})

    async def fails(_intent: CancelOrder) -> Outcome:
        raise RuntimeError("a bug in the adapter")

    rig.venue.cancel = fails  # type: ignore[method-assign]
    assert rig.run(lambda _r: False) == 1
    assert rig.engine.of(StopRequested)[0].reason == "uncaught_exception"
    assert rig.engine.of(ShutdownRequested)
    assert rig.metrics.uncaught_exceptions == 1


def test_the_clock_ticks_for_the_engine_and_the_journal_shows_that_it_lived(tmp_path: Path) -> None:
    rig = Rig(tmp_path, {})
    rig._parts = rig._parts._replace(heartbeat_ns=3600 * 10**9)  # so that none but the first is due in this test
    assert rig.run(lambda r: len(r.engine.of(Ticked)) >= 3) == 0
    with JournalReader(rig.path) as reader:
        assert next(entry.kind for entry in reader.entries()) == "Started"
        assert len(list(reader.entries(kind="Ticked"))) == 1


def test_a_failed_read_is_never_told_as_an_empty_one(tmp_path: Path) -> None:
    from bot.domain.events import ReadFailed
    from bot.domain.intent import ReadAccount
    from bot.venues.port import VenueUnknown

    rig = Rig(tmp_path, {StreamUp: [ReadAccount(1, "BTCUSDT")]})

    async def fails(_symbol: str, _instrument: Instrument) -> list[VenueOrder]:
        raise VenueUnknown("HTTP 502", 502)

    async def now() -> int:
        return 1

    rig.venue.open_orders = fails  # type: ignore[method-assign]
    rig.venue.server_time_ms = now  # type: ignore[attr-defined]
    rig.run(lambda r: bool(r.engine.of(ReadFailed)))
    assert rig.engine.of(OpenOrdersRead) == []


pytestmark = pytest.mark.integration
