"""The bot as a process: events in, journal, engine, journal, send. One thread, and nothing in it waits.

A turn: everything that arrived since the last one is decided at once, in order (`tell`); then what was gathered is
committed durably in one transaction, and only then anything is sent (`_flush`). A commit that fails holds back what
would add risk and lets cancels go: quoting stops before writing does. An exception that nobody expected is counted,
logged, and ends the run with a non-zero code after all own orders were cancelled and a read has shown it.
"""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable, Mapping
from functools import partial
from typing import Final, NamedTuple

from bot.domain.events import (
    BookDelta,
    BookSnapshot,
    EquityCarried,
    Event,
    Filled,
    FundingPaid,
    InstrumentsRead,
    OpenOrdersRead,
    OrderUpdated,
    PositionRead,
    ReadFailed,
    ShutdownRequested,
    Started,
    StopRequested,
    StreamDown,
    StreamUp,
    Ticked,
)
from bot.domain.instrument import Instrument
from bot.domain.intent import CancelAll, Exit, Intent, Note, PublishKillSwitch
from bot.engine.engine import Engine
from bot.engine.recovery import instrument_of
from bot.journal import Journal, JournalUnwritable, label_text
from bot.runtime.clock import Clock
from bot.runtime.grant import GrantHolder
from bot.runtime.housekeeping import Housekeeping
from bot.runtime.kill_switch_start import KillSwitchStart
from bot.runtime.last_resort import cancel_and_prove
from bot.runtime.logs import JsonLog
from bot.runtime.process_metrics import ProcessMetrics
from bot.runtime.sender import Sender
from bot.runtime.symbol_filters import LIFETIME_NS, SymbolFilters
from bot.runtime.thresholds import ThresholdsFile
from bot.tally import Tally
from bot.venues.port import VenueError, VenuePort

TICK_S: Final = 0.1
CONNECT_RETRY_S: Final = 1.0
SHUTDOWN_GRACE_S: Final = 5.0
"""How long past the engine's own shutdown deadline the process waits before it ends without its word."""

NAME: Final = "bot.runtime.loop"

_BOOK: Final = 1
_EXECUTION: Final = 2
_OF_STRANGERS: Final = 3
_FILTERS: Final = 4
_READ: Final = 5
_CARE: Final[dict[type, int]] = {
    **dict.fromkeys((BookDelta, BookSnapshot), _BOOK),
    **dict.fromkeys((Filled, FundingPaid), _EXECUTION),
    **dict.fromkeys((OrderUpdated, StreamDown, StreamUp), _OF_STRANGERS),
    **dict.fromkeys((InstrumentsRead, ReadFailed), _FILTERS),
    **dict.fromkeys((OpenOrdersRead, PositionRead), _READ),
}
"""Events with which something is to be done beside telling the engine, and what; of all others nothing."""
_OWN: Final = frozenset((Note, PublishKillSwitch, Exit, CancelAll))
"""Intents that something in this file is done about; the sender sees all of them."""


class Parts(NamedTuple):
    """What the loop runs, put together once by `bot.assembly`."""

    engine: Engine
    port: VenuePort
    journal: Journal
    clock: Clock
    grant: GrantHolder
    log: JsonLog
    metrics: ProcessMetrics
    housekeeping: Housekeeping
    started: Started
    iterations: int
    """0: until stopped."""
    heartbeat_ns: int
    shutdown_deadline_s: float
    publish_kill_switch: Callable[[str], None]
    earlier_fills: tuple[Filled, ...] = ()
    """Executions that the journal knew before this process, oldest first."""
    carried: EquityCarried | None = None
    """The 24 hours of this account before a fresh journal."""
    accounted_since_ns: Mapping[str, int] = {}
    """Symbol to when an earlier process took over its position."""
    earlier_instruments: Mapping[str, Instrument] = {}
    """Filters as the journal had them, for probes that are due before they were read again."""
    thresholds: ThresholdsFile | None = None
    account_is_ours: bool = False
    """Whether orders of others are cancelled with our own."""
    reads_fees: bool = False
    """Whether decisions go by the venue's own word on fees."""
    receive_window_s: float = 5.0
    """How long the venue takes a request after it was signed: so long an order of unknown outcome may still come."""
    tick_s: float = TICK_S
    filters_lifetime_ns: int = LIFETIME_NS
    cut_streams: Callable[[], int] = lambda: 0
    """Closes the venue's sockets, for a drill, and says how many; without a venue there are none."""


class Loop:
    """One run, from `run()` to its exit code."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._engine = parts.engine
        self._journal = parts.journal
        self._log = parts.log
        self._kill_switch = KillSwitchStart(parts.publish_kill_switch, parts.log)
        self.now_ns = parts.clock.now_ns
        """The clock of everything that the engine is told."""
        self.sender = Sender(
            parts.port,
            parts.grant,
            self.now_ns,
            self.tell,
            self.failed,
            reads_fees=parts.reads_fees,
            account_is_ours=parts.account_is_ours,
        )
        self.sender.instruments.update(parts.earlier_instruments)
        self._filters = self.sender.filters = SymbolFilters(
            parts.port, self.now_ns, self.tell, self.sender.instruments, parts.metrics, parts.log,
            parts.filters_lifetime_ns,
        )  # fmt: skip
        for fill in parts.earlier_fills:
            self.sender.known_execution(fill)
        for symbol, since_ns in parts.accounted_since_ns.items():
            self.sender.sweep_from(symbol, since_ns // 1_000_000)
        parts.housekeeping.drain(self.sender.drain_observations)
        self._intents: list[Intent] = []
        self._flush_is_due = False
        self._unwritable = False
        self._unsaved: dict[tuple[str, str], int] = {}
        self._engine_broken = False
        self._rescue: asyncio.Task[None] | None = None
        self._ending: int | None = None
        self.tally = Tally(parts.started.symbols, lambda: parts.engine.counts)
        self._updates: dict[str, int] = dict.fromkeys(parts.started.symbols, 0)
        self._iterations = parts.iterations
        parts.metrics.iterations = lambda: self.iterations
        self._heartbeat_at_ns = 0
        self._heartbeat_ns = parts.heartbeat_ns
        self._housekeeping = parts.housekeeping
        self._tick_s = parts.tick_s
        self._thresholds = parts.thresholds
        self._done: asyncio.Future[int] | None = None
        self._ticking: asyncio.Handle | None = None
        self._running: asyncio.AbstractEventLoop | None = None
        """the loop that this runs in, from `begin` on"""
        self._flushing: Callable[[], None] = self._flush
        self._turning: Callable[[float], None] = self._turn_clock

    @property
    def iterations(self) -> int:
        """Market updates that every symbol has had."""
        return min(self._updates.values())

    # ---- the door --------------------------------------------------------------------------------------------------

    def tell(self, event: Event) -> None:
        """Puts an event through the engine's door. What it decided is sent after the next commit, this turn."""
        if self._engine_broken:
            return
        care = _CARE.get(type(event), 0)
        if care == _EXECUTION and not self._is_news(event):
            return
        if care == _OF_STRANGERS:
            self.sender.own_orders.note(event)
        try:
            self._journal.event(event)
            intents = self._engine.receive(event)
            if care == _FILTERS:
                self._note_filters(event)
            for intent in intents:
                self._journal.intent(intent)
        except Exception as error:  # noqa: BLE001 - the engine's outermost frame: counted, logged, ends the run
            self._engine_broken = True
            self.failed(error, f"deciding on {type(event).__name__}")
            return
        if intents or care == _READ:
            self.tally.note(event, intents)
        if intents:
            self.sender.decided(event, intents)
            self._intents += intents
        if care == _BOOK:
            self._count_iteration(event.symbol)  # type: ignore[union-attr]  # the set says that it has one
        if not self._flush_is_due and (self._intents or self._journal.pending):
            self._flush_is_due = True
            (self._running or asyncio.get_running_loop()).call_soon(self._flushing)

    def _note_filters(self, event: Event) -> None:
        if isinstance(event, InstrumentsRead):
            self.sender.instruments[event.symbol] = instrument_of(event)
            self._filters.told(event)
        elif isinstance(event, ReadFailed) and event.what == "filters":
            self._filters.failed(event)

    def _is_news(self, execution: Event) -> bool:
        """Whether an execution was not told before, or is heard for the first time after a read told it."""
        if not isinstance(execution, Filled):
            return isinstance(execution, FundingPaid) and not self.sender.known_execution(execution)
        if self.sender.known_execution(execution):
            return self.sender.heard_after_sweep(execution)
        self._parts.housekeeping.note_fill(execution)
        return True

    def failed(self, error: BaseException, where: str) -> None:
        """Counts and logs an exception that nobody expected, and ends the run in order."""
        self._parts.metrics.uncaught_exceptions += 1
        detail = {"where": where, "kind": type(error).__name__, "message": " ".join(str(error).split())}
        self._log.write("ERROR", NAME, "uncaught_exception", {**detail, "traceback": _where(error)})
        ending_already, self._ending = self._ending == 1, 1
        if self._engine_broken:
            if self._rescue is None:
                self._rescue = asyncio.get_running_loop().create_task(self._last_resort())
                self._rescue.add_done_callback(self._after_last_resort)
            return
        if ending_already:
            return
        self.tell(StopRequested(self.now_ns(), "uncaught_exception", "fault", "people", "loop"))
        self.shut_down("uncaught_exception")

    def shut_down(self, reason: str) -> None:
        """Cancel everything, prove it, end. Said once; repeats change nothing."""
        self._log.write("INFO", NAME, "shutdown_requested", {"reason": reason})
        self.tell(ShutdownRequested(self.now_ns(), reason))
        deadline_s = self._parts.shutdown_deadline_s + SHUTDOWN_GRACE_S
        asyncio.get_running_loop().call_later(deadline_s, self._finish, 1, "the shutdown was not proven in time")

    # ---- the turn --------------------------------------------------------------------------------------------------

    def _flush(self) -> None:
        self._flush_is_due = False
        intents, self._intents = self._intents, []
        if not self._commit():
            intents = self.sender.hold_back(intents, "the journal cannot be written")
        elif self._engine_broken:
            intents = self.sender.hold_back(intents, "the engine has failed")
        if intents:
            self.sender.send(intents)  # before all else, which may fail: the venue waits for nothing of ours
        for intent in intents:
            if type(intent) in _OWN:
                self._carry_out(intent)

    def _carry_out(self, intent: Intent) -> None:
        """What concerns the process itself."""
        match intent:
            case Note():
                self._log.write(intent.level, "bot.engine", intent.event, intent.fields)
            case PublishKillSwitch():
                self._kill_switch.ask(intent.reason)
            case Exit():
                self._finish(intent.code, intent.reason)
            case CancelAll():
                self._log.write("INFO", NAME, "cancel_all_sent", {"key": intent.key, "reason": intent.reason})

    def _commit(self, *, last: bool = False) -> bool:
        """`last`: nothing comes after it, so nothing is put off."""
        if not last and self._journal.puts_off():
            return True
        try:
            self._journal.commit(self._changed_totals())
        except JournalUnwritable as error:
            if not self._unwritable:
                self._unwritable = True
                self._log.write("ERROR", NAME, "journal_unwritable", {"message": str(error)})
                self.tell(StopRequested(self.now_ns(), "journal_unwritable", "fault", "people", "journal"))
            return False
        self._unwritable = False
        self._unsaved.clear()
        return True

    def _changed_totals(self) -> dict[tuple[str, str], int]:
        """Counters that changed since a commit last succeeded; at first all of them."""
        unsaved = self._unsaved
        for source in (self._engine, self._parts.metrics):
            for (name, labels), count in source.drain_changed_counts():
                unsaved[name, label_text(name, labels)] = count
        return unsaved

    def _count_iteration(self, symbol: str) -> None:
        self._updates[symbol] = self._updates.get(symbol, 0) + 1
        if self._iterations and self._ending is None and min(self._updates.values()) >= self._iterations:
            self._ending = 0
            self.shut_down("iterations done")

    def _tick(self) -> None:
        self._kill_switch.turn()
        now_ns = self.now_ns()
        event = Ticked(now_ns)
        if now_ns - self._heartbeat_at_ns >= self._heartbeat_ns:
            self._heartbeat_at_ns = now_ns
            self._journal.heartbeat(event)
            self._parts.metrics.note_readiness()
        self.tell(event)
        if self._thresholds is not None:
            self._read_thresholds(self._thresholds, now_ns)
        if self._journal.market_data_error:
            self._log.write("WARNING", NAME, "market_data_not_kept", {"message": self._journal.market_data_error})
            self._journal.market_data_error = ""
        stop = self._housekeeping.turn(now_ns)
        if stop:
            self.tell(StopRequested(now_ns, stop, "fault", "people", "housekeeping"))

    def _read_thresholds(self, thresholds: ThresholdsFile, now_ns: int) -> None:
        """The thresholds file where it changed; one that cannot be used is refused and what held goes on holding."""
        found = thresholds.turn(now_ns)
        if isinstance(found, str):
            self._log.write("WARNING", NAME, "thresholds_refused", {"message": found})
        elif found is not None:
            self.tell(found)

    # ---- from start to end -----------------------------------------------------------------------------------------

    def begin(self) -> None:
        """Takes signals and tells the engine of the start. Before anything else can be told to it."""
        loop = self._running = asyncio.get_running_loop()
        self._done = loop.create_future()
        loop.set_exception_handler(self._asyncio_failed)
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self.shut_down, signal.Signals(number).name)
        self.tell(self._parts.started)
        if self._parts.carried is not None:
            self.tell(self._parts.carried)

    async def run(self) -> int:
        """Runs until the engine says `Exit`, and returns the exit code. The journal is committed when it returns."""
        assert self._done is not None, "begin() comes first"  # noqa: S101 - a mistake of the caller, not of a user
        loop = asyncio.get_running_loop()
        self._ticking = loop.call_soon(self._turn_clock, loop.time())
        connecting = loop.create_task(self._connect())
        connecting.add_done_callback(self._background_ended)
        try:
            code = await self._done
        finally:
            if self._ticking is not None:
                self._ticking.cancel()
            connecting.cancel()
            await asyncio.gather(connecting, return_exceptions=True)
            await self.sender.close()
            self.tally.duplicate_operations += self.sender.duplicate_operations
            await self._parts.port.close()
            self._kill_switch.last_turn()  # where files ran out, the venue's sockets are free by now
            written = self._commit(last=True)
        return max(code, self._ending or 0, 0 if written else 1)

    def _turn_clock(self, due_s: float) -> None:
        """Until the end, on a fixed grid of the loop's clock: a late tick does not push the later ones."""
        self._tick()
        loop = self._running or asyncio.get_running_loop()
        due_s += self._tick_s
        now_s = loop.time()
        due_s = max(due_s, now_s)
        self._ticking = loop.call_at(due_s, self._turning, due_s)

    async def _connect(self) -> None:
        """Until the venue has answered once; from then on the streams look after themselves."""
        while True:
            if await self._started():
                break
            await asyncio.sleep(CONNECT_RETRY_S)
        self._log.write("INFO", NAME, "filters_warmed", {"symbols": ",".join(self.sender.instruments)})

    async def _started(self) -> bool:
        try:
            await self._parts.port.start(self.tell)
        except VenueError as error:
            self._parts.metrics.filter_fetch_errors += 1
            self._log.write("WARNING", NAME, "venue_not_ready", {"message": str(error)})
            self.tell(ReadFailed(self.now_ns(), "instruments", "", str(error)))
            return False
        return True

    async def _last_resort(self) -> None:
        """The engine cannot be asked any more: cancel and prove without it."""
        self._log.write("ERROR", NAME, "last_resort_cancel", {})
        deadline_s = self._parts.shutdown_deadline_s
        sender, symbols = self.sender, self._parts.started.symbols
        cancel = partial(cancel_and_prove, self._parts.port, sender.own_orders, symbols, sender.instruments, deadline_s)
        proven = await cancel()
        again = await sender.settle(deadline_s)  # a create may have arrived after the read that showed none
        late_s = sender.late_s(self._parts.receive_window_s)
        if late_s > 0:
            await asyncio.sleep(late_s)  # or still will: until then a read that shows none proves nothing
        if again or late_s > 0:
            proven = await cancel()
        self._log.write("INFO" if proven else "ERROR", NAME, "last_resort_done", {"proven": proven})

    def _after_last_resort(self, task: asyncio.Task[None]) -> None:
        self._background_ended(task)
        self._finish(1, "uncaught exception")

    def _background_ended(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            self.failed(error, f"background task {task.get_name()}")

    def _asyncio_failed(self, _loop: asyncio.AbstractEventLoop, context: dict[str, object]) -> None:
        error = context.get("exception")
        shown = error if isinstance(error, BaseException) else RuntimeError(str(context.get("message")))
        self.failed(shown, "a callback")

    def _finish(self, code: int, reason: str) -> None:
        if self._done is not None and not self._done.done():
            self._log.write("INFO" if code == 0 else "ERROR", NAME, "exit", {"code": code, "reason": reason})
            self._done.set_result(code)


def _where(error: BaseException) -> str:
    """`file:line function` of every frame, innermost last; no values, which could be secret."""
    frames, traceback = [], error.__traceback__
    while traceback is not None:
        code = traceback.tb_frame.f_code
        frames.append(f"{code.co_filename.rpartition('/')[2]}:{traceback.tb_lineno} {code.co_name}")
        traceback = traceback.tb_next
    return " > ".join(frames)
