"""The parts of shadow on live market data: the process as it runs live, around a port whose account is drawn."""

from __future__ import annotations

from pathlib import Path

import msgspec

from bot.assembly import EngineMetrics, Place, engine_parameters, fees_of, operators_of
from bot.domain.events import Started
from bot.engine.engine import Engine
from bot.journal import Journal
from bot.modes import live_enabled
from bot.replaying import restore
from bot.resolution import Resolved
from bot.runtime.clock import Clock
from bot.runtime.exporter import Exporter
from bot.runtime.grant import GrantHolder
from bot.runtime.housekeeping import Housekeeping
from bot.runtime.logs import JsonLog
from bot.runtime.loop import Parts
from bot.runtime.process import Process
from bot.runtime.process_metrics import ProcessMetrics
from bot.runtime.serving import Http
from bot.runtime.status import checks_of
from bot.runtime.thresholds import ThresholdsFile
from bot.simulator.shadow_port import ShadowPort
from bot.venues.bybit.hosts import hosts_for, override_hosts
from bot.version import code_version


def assemble_network_shadow(resolved: Resolved, place: Place, journal: Journal, log: JsonLog, clock: Clock) -> Process:
    """A whole bot in shadow on the venue's live public side. Opens no socket."""
    config, environment, symbols = resolved.config, resolved.environment, resolved.config.execution.symbols
    execution = config.execution
    parameters = engine_parameters(config, "shadow")
    engine = Engine(parameters)
    restored = restore(engine, journal.path) if journal.continued else None
    known = engine.known
    port = ShadowPort(
        override_hosts(hosts_for("live", config.venue.category), environment),
        symbols,
        clock.now_ns,
        fees={symbol: fees_of(parameters.of(symbol)) for symbol in symbols},
        fill_rate=execution.fill_rate,
        latency_ns=execution.latency_ms * 1_000_000,
        equity_quote=parameters.total_max_quote,
        seed=execution.seed,
        executions=journal.execution_count,
        left={
            symbol: (account.position_lots, account.cost_quote / known.instruments[symbol].qty(account.position_lots))
            for symbol, account in known.ledger.accounts.items()
            if account.position_lots and symbol in known.instruments
        },
        category=config.venue.category,
    )
    metrics = ProcessMetrics(
        port,
        log.counts,
        lambda: checks_of(known),
        version=code_version(),
        digest=resolved.digest,
        live_enabled=live_enabled(environment),
    )
    exporter = Exporter((EngineMetrics(engine), metrics), symbols, clock.now_ns)
    housekeeping = Housekeeping(
        place.state_dir,
        known,
        exporter,
        metrics,
        log,
        disk_reserve_bytes=config.journal.disk_reserve_mb * 1_000_000,
        export_interval_s=config.journal.export_interval_s,
        last_ns=journal.last_ns,
    )
    housekeeping.drain(engine.drain_observations)
    limits = msgspec.json.encode(parameters).decode()
    parts = Parts(
        engine=engine,
        port=port,
        journal=journal,
        clock=clock,
        grant=GrantHolder(place.account, journal.last_epoch),
        log=log,
        metrics=metrics,
        housekeeping=housekeeping,
        started=Started(clock.now_ns(), place.run, "shadow", resolved.digest, code_version(), symbols, limits),
        earlier_fills=() if restored is None else restored.last_fills,
        accounted_since_ns=dict(known.adopted_ns),
        earlier_instruments=dict(known.instruments),
        thresholds=ThresholdsFile(Path(name)) if (name := execution.thresholds_file) else None,
        reads_fees=parameters.needs_fees,
        iterations=execution.iterations,
        heartbeat_ns=config.journal.heartbeat_ms * 1_000_000,
        filters_lifetime_ns=config.venue.filters_cached_s * 1_000_000_000,
        shutdown_deadline_s=float(config.stop.shutdown_deadline_s),
        publish_kill_switch=lambda _reason: None,  # nothing of ours stands anywhere but in this process
    )
    http = Http(
        config.obs.host if config.obs.enabled else None,
        config.obs.port,
        environment.get("MM_GRANT_TOKEN", ""),
        environment.get("APPROVE_TOKEN", ""),
        operators_of(resolved),
    )
    return Process(parts, known, exporter, http, grants_itself=True)
