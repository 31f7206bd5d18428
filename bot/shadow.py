"""Deterministic shadow: the real engine against a scripted market, in simulated time. No socket, no order leaves.

One heap of what will happen, in the order of simulated time; the clock turns every 100 ms, every symbol's market moves
once an iteration. What the engine wants reaches the drawn venue after the latency. With a journal, everything is
written ahead as it is live: events and intents are committed before the venue hears of them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal
from heapq import heappop, heappush
from typing import TYPE_CHECKING, Final, NamedTuple

from bot.domain.events import (
    AmendAnswered,
    Event,
    FeesRead,
    Filled,
    InstrumentsRead,
    OrderUnreachable,
    ShutdownRequested,
    Started,
    StopRequested,
    StreamUp,
    Ticked,
    WalletRead,
)
from bot.domain.fees import FeeProfile
from bot.domain.instrument import Instrument
from bot.domain.intent import AmendOrder, CancelAll, Exit, FlattenReduceOnly, Intent, Note, PlaceOrder
from bot.engine.engine import Engine
from bot.journal import Journal, JournalUnwritable, label_text
from bot.runtime.clock import Clock
from bot.runtime.housekeeping import Housekeeping
from bot.runtime.logs import JsonLog
from bot.runtime.process_metrics import ProcessMetrics
from bot.runtime.symbol_filters import read_of
from bot.runtime.thresholds import ThresholdsFile
from bot.tally import Tally

if TYPE_CHECKING:
    from bot.simulator.draws import DrawnVenue
    from bot.simulator.scripted import ScriptedMarket

NAME: Final = "bot.shadow"
TICK_NS: Final = 100_000_000
HEARTBEAT_TURNS: Final = 10
"""Every so many turns of the clock the journal shows that the bot lived."""
SHUTDOWN_PATIENCE_NS: Final = 600 * 1_000_000_000
"""Simulated time after which a shutdown that the engine does not end is given up; its own deadline is far shorter."""


class SimulatedClock(Clock):
    """Says what it was set to."""

    def __init__(self, at_ns: int) -> None:
        super().__init__()
        self.at_ns = at_ns

    def now_ns(self) -> int:
        return self.at_ns


class Parts(NamedTuple):
    """What a shadow run is made of. Without `--durable-state` there is neither journal nor housekeeping.

    `fees`: symbol to what the drawn venue states of its fees, empty where nobody goes by it; so is `equity_quote` None.
    """

    engine: Engine
    venue: DrawnVenue
    markets: dict[str, ScriptedMarket]
    instruments: dict[str, Instrument]
    clock: SimulatedClock
    log: JsonLog
    metrics: ProcessMetrics
    journal: Journal | None
    housekeeping: Housekeeping | None
    started: Started
    latency_ns: int
    interval_ns: int
    warm: bool
    thresholds: ThresholdsFile | None = None
    fees: Mapping[str, FeeProfile] = {}
    equity_quote: Decimal | None = None


class Shadow:
    """One run: `begin`, any number of `iterate`, `end`."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._clock = parts.clock
        self._heap: list[tuple[int, int, Callable[[], None]]] = []
        self._scheduled = 0
        self._turns = 0
        self._due_ns = parts.clock.at_ns
        self._cancel_alls: set[str] = set()
        self._exit: int | None = None
        self._unwarmed: set[str] = set() if parts.warm else set(parts.started.symbols)
        self.engine = parts.engine
        self.tally = Tally(parts.started.symbols, lambda: parts.engine.counts)
        self.iterations = 0
        parts.metrics.iterations = lambda: self.iterations
        self.failure = ""
        """Why the run cannot count as done, one line; empty while all is well."""

    def begin(self) -> None:
        """The start of the bot: filters, streams, the first turn of the clock."""
        parts, now_ns = self._parts, self._clock.at_ns
        self.tell(parts.started)
        if parts.warm:
            for symbol in parts.started.symbols:
                self.tell(filters_read(parts.instruments[symbol], now_ns))
            parts.log.write("INFO", NAME, "filters_warmed", {"symbols": ",".join(parts.started.symbols)})
        for symbol, profile in parts.fees.items():
            maker_bps = profile.maker_bps - profile.rebate_bps
            self.tell(FeesRead(now_ns, symbol, maker_bps, profile.taker_bps, f"drawn:{symbol}"))
        if parts.equity_quote is not None:
            self.tell(WalletRead(now_ns, parts.equity_quote, Decimal(0)))
        self.tell(StreamUp(now_ns, "public"))
        self.tell(StreamUp(now_ns, "private"))
        self._after(TICK_NS, self._tick)

    def iterate(self) -> None:
        """One market update of every symbol, one interval after the last."""
        self._due_ns += self._parts.interval_ns
        self._advance(self._due_ns)
        for symbol in self._parts.started.symbols:
            for event in self._parts.venue.update(self._parts.markets[symbol].update(self._due_ns)):
                self.tell(event)
            if symbol in self._unwarmed:
                self._unwarmed.discard(symbol)
                self._after(self._parts.latency_ns, lambda symbol=symbol: self._warm(symbol))  # type: ignore[misc]
        self.iterations += 1

    def end(self, reason: str) -> int:
        """Shut down in order: cancel all, prove it. The exit code."""
        self._advance(self._due_ns + self._parts.interval_ns)
        self.tell(ShutdownRequested(self._clock.at_ns, reason))
        give_up_ns = self._clock.at_ns + SHUTDOWN_PATIENCE_NS
        while self._exit is None and self._clock.at_ns < give_up_ns:
            self._advance(self._heap[0][0])
        if self._parts.housekeeping is not None:
            self._parts.housekeeping.write_exports(self._clock.at_ns, last=True)
        self._commit()
        if self._parts.venue.open_count:
            self.failure = self.failure or f"{self._parts.venue.open_count} simulated orders still open at the end"
        return max(self._exit if self._exit is not None else 1, 1 if self.failure else 0)

    # ---- the door ----

    def tell(self, event: Event) -> None:
        """An event through the engine's door; what it decides is journaled first and sent then."""
        parts, journal = self._parts, self._parts.journal
        if isinstance(event, InstrumentsRead):
            parts.metrics.filter_sources[event.source] += 1
        if isinstance(event, Filled) and parts.housekeeping is not None:
            parts.housekeeping.note_fill(event)
        if journal is not None:
            journal.event(event)
        intents = parts.engine.receive(event)
        self.tally.note(event, intents)
        if journal is not None:
            for intent in intents:
                journal.intent(intent)
            if journal.pending and not self._commit():
                intents = self._hold_back(intents)
        for intent in intents:
            self._carry_out(intent)

    def _carry_out(self, intent: Intent) -> None:
        log = self._parts.log
        if isinstance(intent, Note):
            log.write(intent.level, "bot.engine", intent.event, dict(intent.fields))
            return
        if isinstance(intent, Exit):
            self._exit = intent.code
            return
        if isinstance(intent, CancelAll):
            if intent.key in self._cancel_alls:
                self.tally.repeated()
                return
            self._cancel_alls.add(intent.key)
            log.write("INFO", NAME, "cancel_all_sent", {"key": intent.key, "reason": intent.reason})
        self._after(self._parts.latency_ns, lambda: self._arrive(intent))

    def _arrive(self, intent: Intent) -> None:
        venue = self._parts.venue
        told = venue.arrive(intent, self._clock.at_ns)
        if isinstance(intent, PlaceOrder) and venue.will_fill(intent.client_order_id):
            fields: dict[str, str | int | float | bool | None] = {
                "client_order_id": intent.client_order_id,
                "symbol": intent.symbol,
            }
            self._parts.log.write("DEBUG", NAME, "order_placed_scheduled_fill", fields)
        for event in told:
            self.tell(event)

    # ---- simulated time ----

    def _after(self, delay_ns: int, what: Callable[[], None]) -> None:
        self._scheduled += 1
        heappush(self._heap, (self._clock.at_ns + delay_ns, self._scheduled, what))

    def _advance(self, until_ns: int) -> None:
        """Everything up to and including that moment, in order; then it is that moment."""
        while self._heap and self._heap[0][0] <= until_ns:
            at_ns, _, what = heappop(self._heap)
            self._clock.at_ns = max(self._clock.at_ns, at_ns)
            what()
        self._clock.at_ns = max(self._clock.at_ns, until_ns)

    def _tick(self) -> None:
        parts, now_ns = self._parts, self._clock.at_ns
        event = Ticked(now_ns)
        self._turns += 1
        if self._turns % HEARTBEAT_TURNS == 0:
            parts.metrics.note_readiness()
            if parts.journal is not None:
                parts.journal.heartbeat(event)
        self.tell(event)
        if parts.thresholds is not None:
            found = parts.thresholds.turn(now_ns)
            if isinstance(found, str):
                parts.log.write("WARNING", NAME, "thresholds_refused", {"message": found})
            elif found is not None:
                self.tell(found)
        if parts.housekeeping is not None:
            stop = parts.housekeeping.turn(now_ns)
            if stop:
                self._stop(stop, f"{stop}: quoting stopped, see the log")
        self._after(TICK_NS, self._tick)

    def _warm(self, symbol: str) -> None:
        self.tell(filters_read(self._parts.instruments[symbol], self._clock.at_ns))

    # ---- a journal that cannot be written ----

    def _commit(self) -> bool:
        journal, parts = self._parts.journal, self._parts
        if journal is None:
            return True
        counts = {**parts.engine.counts, **parts.metrics.counts}
        try:
            journal.commit({(name, label_text(name, labels)): count for (name, labels), count in counts.items()})
        except JournalUnwritable as error:
            first, self.failure = not self.failure, self.failure or str(error)
            if first:
                parts.log.write("ERROR", NAME, "journal_unwritable", {"message": str(error)})
                self._after(0, lambda: self._stop("journal_unwritable", self.failure))
            return False
        return True

    def _stop(self, reason: str, failure: str) -> None:
        self.failure = self.failure or failure
        self.tell(StopRequested(self._clock.at_ns, reason, "fault", "people", "shadow"))

    def _hold_back(self, intents: Sequence[Intent]) -> list[Intent]:
        """What would add risk is answered as not sent; what is left may go."""
        left: list[Intent] = []
        for intent in intents:
            answer = self._not_sent(intent)
            if answer is None:
                left.append(intent)
            else:
                self._after(0, lambda answer=answer: self.tell(answer))  # type: ignore[misc]
        return left

    def _not_sent(self, intent: Intent) -> Event | None:
        now_ns, why = self._clock.at_ns, "the journal cannot be written"
        if isinstance(intent, PlaceOrder | FlattenReduceOnly):
            return OrderUnreachable(now_ns, intent.client_order_id, why)
        if isinstance(intent, AmendOrder):
            terms = (intent.client_order_id, intent.price_ticks, intent.qty_lots)
            return AmendAnswered(now_ns, *terms, "unreachable", why)
        return None


def filters_read(instrument: Instrument, at_ns: int) -> InstrumentsRead:
    """The built-in filters as the engine is told of them."""
    return read_of(instrument, at_ns, "default_fallback")
