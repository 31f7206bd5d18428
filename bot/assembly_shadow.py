"""Puts deterministic shadow together: scripted market, drawn fills, simulated clock. It needs no key and no network."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from pathlib import Path

import msgspec

from bot.assembly import EngineMetrics, Place, engine_parameters, housekeeping_of, http_of, metrics_of, profile_of
from bot.domain.events import Started
from bot.domain.filters import BUILT_IN
from bot.engine.engine import Engine
from bot.journal import Journal
from bot.replaying import restore
from bot.resolution import Resolved
from bot.runtime.exporter import Exporter
from bot.runtime.logs import JsonLog
from bot.runtime.thresholds import ThresholdsFile
from bot.shadow import Parts as ShadowParts
from bot.shadow import Shadow, SimulatedClock
from bot.shadow_process import ShadowProcess
from bot.version import code_version


class NoVenue:
    """What a process without a venue can tell of its connections: nothing."""

    http_responses: Mapping[tuple[str, str], int] = {}
    rate_limit_headroom: Mapping[str, float] = {}
    ws_reconnects = 0
    connections_open: Mapping[str, int] = {}


def assemble_shadow(
    resolved: Resolved,
    place: Place | None,
    journal: Journal | None,
    left: Mapping[str, tuple[int, Decimal]],
    log: JsonLog,
    clock: SimulatedClock,
) -> ShadowProcess:
    """Deterministic shadow. `left`: symbol to (signed lots, entry price) that the account holds already."""
    from bot.simulator.draws import DrawnVenue
    from bot.simulator.scripted import INTERVAL_NS, ScriptedMarket

    config, symbols = resolved.config, resolved.config.execution.symbols
    execution = config.execution
    parameters = engine_parameters(config, "shadow")
    engine = Engine(parameters)
    if journal is not None and journal.continued:
        restore(engine, journal.path)
    instruments = {symbol: BUILT_IN[symbol] for symbol in symbols}
    fees = {symbol: profile_of(parameters.of(symbol)) for symbol in symbols}
    executions = 0 if journal is None else journal.execution_count
    venue = DrawnVenue(instruments.values(), execution.fill_rate, fees, execution.seed, executions)
    for symbol in symbols:
        if symbol in left:
            venue.take_over(symbol, *left[symbol])
    metrics = metrics_of(NoVenue(), engine, resolved, log)
    exporter = Exporter((EngineMetrics(engine), metrics), symbols, clock.now_ns)
    housekeeping = None
    if place is not None and journal is not None:
        housekeeping = housekeeping_of(place, resolved, engine, exporter, metrics, journal, log)
        housekeeping.drain(engine.drain_observations)
    run = f"shadow-{execution.seed}" if place is None else place.run
    limits = msgspec.json.encode(parameters).decode()
    started = Started(clock.now_ns(), run, "shadow", resolved.digest, code_version(), symbols, limits)
    shadow = Shadow(
        ShadowParts(
            engine=engine,
            venue=venue,
            markets={symbol: ScriptedMarket(instruments[symbol], execution.seed) for symbol in symbols},
            instruments=instruments,
            clock=clock,
            log=log,
            metrics=metrics,
            journal=journal,
            housekeeping=housekeeping,
            started=started,
            latency_ns=execution.latency_ms * 1_000_000,
            interval_ns=INTERVAL_NS,
            warm=execution.warmup_filters,
            thresholds=ThresholdsFile(Path(name)) if (name := execution.thresholds_file) else None,
            fees=fees if parameters.needs_fees else {},
            # a simulated account that could carry its largest position unleveraged; nobody asks for more of it
            equity_quote=None if parameters.leverage_max is None else parameters.total_max_quote,
        )
    )
    return ShadowProcess(shadow, started, clock, exporter, http_of(resolved), execution.iterations, INTERVAL_NS / 1e9)
