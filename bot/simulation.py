"""The whole bot against the simulated venue, in simulated time: one scenario, two lanes.

The *wire lane* is the process as it runs live: loop, sender, journal, log, adapter, signing and JSON, on a virtual
clock. The *kernel lane* is engine and venue alone. Same engine, same matching, same market under the same seed:
without faults both make the same orders and fills at the same nanosecond.
"""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Final, final

import msgspec

from bot.domain.events import Event, GrantReceived, ShutdownRequested, Started
from bot.domain.instrument import Instrument
from bot.domain.intent import Intent
from bot.engine.engine import Engine
from bot.engine.ledger import DAY_NS
from bot.engine.parameters import EngineParameters
from bot.journal import Journal, Segments
from bot.runtime.clock import Clock
from bot.runtime.exporter import Exporter
from bot.runtime.grant import GrantHolder
from bot.runtime.housekeeping import Housekeeping
from bot.runtime.logs import JsonLog
from bot.runtime.loop import TICK_S, Loop, Parts
from bot.runtime.process_metrics import ProcessMetrics
from bot.runtime.status import checks_of
from bot.simulator.accounts import Account, Fees, Holder
from bot.simulator.exchange import Exchange
from bot.simulator.fault_file import FaultFile
from bot.simulator.funding import FUNDING_NS
from bot.simulator.kernel import Kernel
from bot.simulator.kernel_agenda import Due
from bot.simulator.link import HOSTS, SPOT_HOSTS, Latency, Link
from bot.simulator.listings import GENERATED, exchange_of
from bot.simulator.market import GeneratedMarket, Market
from bot.simulator.timeline import NS_PER_S, Timeline
from bot.simulator.venue import Venue
from bot.venues.bybit.adapter import BybitAdapter
from bot.version import code_version

START_NS: Final = 1_767_225_600 * NS_PER_S
"""2026-01-01T00:00:00Z: where simulated time begins."""

ACCOUNT: Final = "sim-1"
KERNEL_FAULTS: Final = frozenset({"crossing", "loss", "foreign_order"})
"""Faults of the venue's core; all others happen at its face or on the way to it."""

JOURNAL_ROWS_MIN: Final = 512
"""Rows of one transaction in simulated time: there is no machine to be lost between two of them."""

COLLECT_EVERY: Final = 10_000
"""Objects more than fewer after which the collector of cycles looks again: events and intents are none of them."""

_API_KEY: Final = "simulated-key"
_API_SECRET: Final = "simulated-secret"  # noqa: S105 - of a venue inside this process
_GRANT_EVERY_NS: Final = NS_PER_S
_GRANT_TTL_S: Final = 5.0
_GRANT_FIRST_NS: Final = 50_000_021

Watch = Callable[[Event, list[Intent], Engine], None]
"""Told after every event that the engine took in: the event, what it decided, the engine."""


@dataclass(frozen=True)
class Scenario:
    """Everything that decides how a run goes. `span_s`: simulated seconds until the shutdown is asked for.

    `granted_s`: how long the grant is renewed; None: until the end. `tick_s`: how often the clock turns, in both lanes
    alike; a month of one update a second needs no ten turns between two of them. `faults_at_s`: second → (kind,
    parameters); those of KERNEL_FAULTS happen in both lanes. The wire lane's alone are `more_instruments`, `faults` (a
    plan as configs/faults has them), `link` (the mount itself), `trade_socket`: order entry by it, as a live process
    does, `batches`: what is decided in one turn in one request (None: where it goes by the trade socket), and
    `segments`: (bytes of one, how many are kept) of the journal's market data, None: none is.
    `opened`: told of the exchange before anything happens there, for whoever compares the engine with it at every step.
    """

    seed: int
    span_s: int
    parameters: EngineParameters
    market: Callable[[int], Market] = GeneratedMarket
    instrument: Instrument = GENERATED
    fees: Fees = field(default_factory=Fees)
    equity_quote: Decimal = Decimal(100_000)
    link: Callable[[Exchange, Timeline, Latency], Link] = Link
    trade_socket: bool = False
    batches: bool | None = None
    segments: tuple[int, int] | None = None
    more_instruments: tuple[Instrument, ...] = ()
    latency: Latency = field(default_factory=Latency)
    faults: FaultFile | None = None
    granted_s: int | None = None
    tick_s: float = TICK_S
    funding_ns: int = FUNDING_NS
    faults_at_s: Mapping[int, tuple[str, dict[str, object]]] = field(default_factory=dict)
    opened: Callable[[Exchange], None] = lambda _: None

    def exchange(self) -> Exchange:
        """A fresh exchange with the bot's account open."""
        exchange = exchange_of(
            (self.instrument, *self.more_instruments),
            lambda _, seed: self.market(seed),
            seed=self.seed,
            now_ns=START_NS,
            fees=self.fees,
            funding_ns=self.funding_ns,
        )
        exchange.open_account(_API_KEY, _API_SECRET, self.equity_quote, START_NS)
        self.opened(exchange)
        return exchange

    def started(self) -> Started:
        """The first event of the run."""
        parameters = self.parameters
        text = msgspec.json.encode(parameters).decode()
        return Started(
            START_NS, f"sim-{self.seed}", parameters.mode, "simulated", code_version(), parameters.symbols, text
        )


@dataclass(frozen=True)
class Outcome:
    """What a run came to. `ended_ns`: simulated. The venue's account is the truth to compare the engine with."""

    exit_code: int
    engine: Engine
    exchange: Exchange
    ended_ns: int

    @property
    def venue(self) -> Venue:
        """The first symbol's."""
        return self.exchange.venues[0]

    @property
    def account(self) -> Account:
        """The bot's at the first symbol."""
        return self.venue.accounts[ACCOUNT]

    @property
    def holder(self) -> Holder:
        """The bot's account as a whole."""
        return self.exchange.holders[ACCOUNT]

    @property
    def venue_equity_quote(self) -> Decimal:
        """What the account is worth at the venue: fees included, marked at its middle."""
        return self.holder.equity_quote()


class WatchedEngine(Engine):
    """The engine, with somebody who looks at every step."""

    def __init__(self, parameters: EngineParameters, watch: Watch) -> None:
        super().__init__(parameters)
        self._watch = watch

    def receive(self, event: Event) -> list[Intent]:
        intents = super().receive(event)
        self._watch(event, intents, self)
        return intents


class SimulatedClock(Clock):
    """The loop's clock, simulated."""

    def __init__(self, timeline: Timeline) -> None:
        super().__init__()
        self.now_ns = timeline.now_ns  # type: ignore[method-assign]  # asked dozens of times for each event


@final
class _Renewal(Due):
    """The grant in the kernel lane, told again and again as long as the scenario has it renewed."""

    def __init__(self, scenario: Scenario) -> None:
        self._scenario = scenario
        self._limits = _limits_of(scenario)
        self._grant = GrantHolder(ACCOUNT)

    def happen(self, kernel: Kernel) -> None:
        kernel.tell(_granted(self._limits, self._grant, kernel.now_ns))
        if _renews(self._scenario, kernel.now_ns):
            kernel.put(self, kernel.now_ns + _GRANT_EVERY_NS)


@final
class _Daily(Due):
    """Somebody looks at the engine when a simulated day is over."""

    def __init__(self, look: Callable[[Engine], None], engine: Engine) -> None:
        self._look = look
        self._engine = engine

    def happen(self, kernel: Kernel) -> None:
        self._look(self._engine)
        kernel.put(self, kernel.now_ns + DAY_NS)


def run_kernel(
    scenario: Scenario, watch: Watch | None = None, *, daily: Callable[[Engine], None] | None = None
) -> Outcome:
    """One run in the kernel lane. Raises ValueError for what only the wire lane has: its faults, and more symbols.

    `daily`: looks at the end of each simulated day; unlike `watch` it costs nothing in between.
    """
    kinds = {kind for kind, _ in scenario.faults_at_s.values()} - KERNEL_FAULTS
    if kinds or scenario.faults is not None or scenario.more_instruments:
        named = ", ".join(sorted(kinds)) or ("more_instruments" if scenario.more_instruments else "faults")
        raise ValueError(f"{named}: only in the wire lane; the kernel lane has {', '.join(sorted(KERNEL_FAULTS))}")
    exchange = scenario.exchange()
    venue = exchange.venues[0]
    account = venue.accounts[ACCOUNT]
    engine = _engine(scenario, watch)
    kernel = Kernel(engine, venue, account, scenario.latency, START_NS, tick_s=scenario.tick_s)

    def arm(fault: tuple[str, dict[str, object]]) -> None:
        venue.arm(fault[0], ACCOUNT, fault[1], kernel.now_ns)

    kernel.put(_Renewal(scenario), START_NS + _GRANT_FIRST_NS)
    if daily is not None:
        kernel.put(_Daily(daily, engine), START_NS + DAY_NS)
    for second, fault in scenario.faults_at_s.items():
        kernel.at(START_NS + second * NS_PER_S, arm, fault)
    kernel.at(_end_ns(scenario), lambda _: kernel.tell(ShutdownRequested(kernel.now_ns, "the span is over")))
    with _collecting_seldom():
        code = kernel.run(scenario.started())
    return Outcome(code, engine, exchange, kernel.now_ns)


def run_wire(scenario: Scenario, state_dir: Path, watch: Watch | None = None) -> Outcome:
    """One run in the wire lane; journal, log and exports are left in `state_dir`."""
    timeline = Timeline(START_NS)
    with _collecting_seldom(), asyncio.Runner(loop_factory=lambda: timeline) as runner:
        return runner.run(_wire(scenario, state_dir, watch, timeline))


async def _wire(scenario: Scenario, state_dir: Path, watch: Watch | None, timeline: Timeline) -> Outcome:
    exchange = scenario.exchange()
    engine = _engine(scenario, watch)
    link = scenario.link(exchange, timeline, scenario.latency)
    journal = Journal(
        state_dir / "journal.db",
        {"account": ACCOUNT, "run": "sim"},
        synchronous="NORMAL",
        segments=None if scenario.segments is None else Segments(state_dir, *scenario.segments),
        rows_min=JOURNAL_ROWS_MIN,
    )
    try:
        with (
            (state_dir / "bot.log").open("w", encoding="utf-8") as log_file,
            closing(JsonLog([log_file], timeline.now_ns, [_API_SECRET], flush=False)) as log,
        ):
            parts = _parts(scenario, state_dir, engine, link, journal, log, timeline)
            loop = Loop(parts)
            link.start_market()
            loop.begin()

            limits = _limits_of(scenario)

            def renew() -> None:
                loop.tell(_granted(limits, parts.grant, timeline.now_ns()))
                if _renews(scenario, timeline.now_ns()):
                    timeline.call_at_ns(timeline.now_ns() + _GRANT_EVERY_NS, renew)

            timeline.call_at_ns(START_NS + _GRANT_FIRST_NS, renew)
            for second, (kind, values) in scenario.faults_at_s.items():
                timeline.call_at_ns(START_NS + second * NS_PER_S, link.arm, kind, ACCOUNT, values)
            for due in scenario.faults.until(scenario.span_s) if scenario.faults is not None else ():
                timeline.call_at_ns(START_NS + due.at_ns, link.befall, due)
            timeline.call_at_ns(_end_ns(scenario), loop.shut_down, "the span is over")
            code = await loop.run()
            parts.housekeeping.write_exports(timeline.now_ns(), last=True)
    finally:
        journal.close()
    return Outcome(code, engine, exchange, timeline.now_ns())


def _parts(
    scenario: Scenario,
    state_dir: Path,
    engine: Engine,
    link: Link,
    journal: Journal,
    log: JsonLog,
    timeline: Timeline,
) -> Parts:
    parameters = scenario.parameters
    category = scenario.instrument.category
    grant = GrantHolder(ACCOUNT)
    adapter = BybitAdapter(
        SPOT_HOSTS if category == "spot" else HOSTS,
        _API_KEY,
        _API_SECRET,
        parameters.symbols,
        timeline.now_ns,
        category=category,
        recv_window_ms=parameters.receive_window_ms,
        seed=scenario.seed,
        transport=link,
        trade_socket=scenario.trade_socket,
        batches=scenario.trade_socket if scenario.batches is None else scenario.batches,
        permitted=lambda epoch: grant.valid(epoch, timeline.now_ns()),
    )
    metrics = ProcessMetrics(
        adapter,
        log.counts,
        lambda: checks_of(engine.known),
        version=code_version(),
        digest="simulated",
        live_enabled=False,
    )
    exporter = Exporter((metrics,), parameters.symbols, timeline.now_ns)
    housekeeping = Housekeeping(
        state_dir, engine.known, exporter, metrics, log, disk_reserve_bytes=0, export_interval_s=60
    )
    housekeeping.drain(adapter.drain_observations)
    housekeeping.drain(lambda: [sample for sample in engine.drain_observations() if sample[0] != "mm_order_latency_ms"])
    return Parts(
        engine=engine,
        port=adapter,
        journal=journal,
        clock=SimulatedClock(timeline),
        grant=grant,
        log=log,
        metrics=metrics,
        housekeeping=housekeeping,
        started=scenario.started(),
        iterations=0,
        heartbeat_ns=NS_PER_S,
        shutdown_deadline_s=float(parameters.shutdown_deadline_s),
        publish_kill_switch=lambda _reason: None,
        tick_s=scenario.tick_s,
        reads_fees=parameters.needs_fees,
    )


@contextmanager
def _collecting_seldom() -> Iterator[None]:
    before = gc.get_threshold()
    gc.set_threshold(COLLECT_EVERY, *before[1:])
    try:
        yield
    finally:
        gc.set_threshold(*before)


def _engine(scenario: Scenario, watch: Watch | None) -> Engine:
    return Engine(scenario.parameters) if watch is None else WatchedEngine(scenario.parameters, watch)


def _end_ns(scenario: Scenario) -> int:
    return START_NS + scenario.span_s * NS_PER_S + 1


def _renews(scenario: Scenario, now_ns: int) -> bool:
    return scenario.granted_s is None or now_ns < START_NS + scenario.granted_s * NS_PER_S


def _limits_of(scenario: Scenario) -> tuple[Decimal, Decimal]:
    """Inventory and total, quote: what a grant permits."""
    return scenario.parameters.inventory_max_quote, scenario.parameters.total_max_quote


def _granted(limits: tuple[Decimal, Decimal], grant: GrantHolder, now_ns: int) -> GrantReceived:
    inventory_quote, total_quote = limits
    return grant.take(ACCOUNT, 1, inventory_quote, total_quote, _GRANT_TTL_S, now_ns)
