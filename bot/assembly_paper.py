"""Puts shadow on real market data together: live from a venue's public side, or out of a capture. Needs no key."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

import msgspec

from bot.assembly import (
    EngineMetrics,
    Place,
    engine_parameters,
    housekeeping_of,
    http_of,
    metrics_of,
    profile_of,
)
from bot.assumed import fees_of
from bot.domain.events import Started
from bot.domain.instrument import Instrument
from bot.engine.engine import Engine
from bot.journal import Journal
from bot.paper_port import PaperPort
from bot.replaying import restore
from bot.resolution import Resolved
from bot.runtime.clock import Clock
from bot.runtime.exporter import Exporter
from bot.runtime.grant import NothingToPermit
from bot.runtime.logs import JsonLog
from bot.runtime.loop import Parts
from bot.runtime.process import Process
from bot.runtime.thresholds import ThresholdsFile
from bot.settings_file import ConfigError
from bot.venues.bybit.hosts import ANY_GATEWAY, HostRefused, hosts_for, override_hosts
from bot.venues.feed import PublicFeed
from bot.version import code_version

if TYPE_CHECKING:
    from bot.simulator.paper import PaperVenue

NAME: Final = "bot.assembly_paper"


def feed_of(resolved: Resolved, now_ns: Callable[[], int]) -> PublicFeed:
    """The public side of the venue that was asked for. Raises ConfigError. Opens no socket."""
    config, symbols = resolved.config, resolved.config.execution.symbols
    category, exchange = config.venue.category, config.venue.exchange
    try:
        if exchange == "bybit":
            from bot.venues.bybit.public_feed import BybitFeed

            own = hosts_for("live", category)
            hosts = override_hosts(own, resolved.environment, signed_gateway=ANY_GATEWAY)  # no key, no order
            return BybitFeed(hosts, symbols, now_ns, category=category, seed=config.execution.seed)
        from bot.venues.ccxt.feed import CcxtFeed

        given = override_hosts(hosts_for("live", category), resolved.environment, rest_only=True).rest_url
    except HostRefused as error:
        raise ConfigError(str(error)) from error
    return CcxtFeed(exchange, symbols, now_ns, category=category, rest_url=given if resolved.hosts_overridden else "")


def assemble_paper(
    resolved: Resolved, place: Place, journal: Journal, log: JsonLog, clock: Clock, feed: PublicFeed
) -> Process:
    """A whole bot whose orders stay in the process."""
    config, symbols = resolved.config, resolved.config.execution.symbols
    parameters = engine_parameters(config, "shadow")
    engine = Engine(parameters)
    restored = restore(engine, journal.path) if journal.continued else None
    port = PaperPort(
        feed,
        symbols,
        lambda listed: _account(resolved, engine, journal, listed),
        fees_of(config.fees, symbols[0]),
        config.execution.latency_ms * 1_000_000,
        clock.now_ns,
    )
    metrics = metrics_of(port, engine, resolved, log)
    exporter = Exporter((EngineMetrics(engine), metrics), symbols, clock.now_ns)
    housekeeping = housekeeping_of(place, resolved, engine, exporter, metrics, journal, log)
    housekeeping.drain(engine.drain_observations)
    limits = msgspec.json.encode(parameters).decode()
    started = Started(clock.now_ns(), place.run, "shadow", resolved.digest, code_version(), symbols, limits)
    thresholds = config.execution.thresholds_file
    parts = Parts(
        engine=engine,
        port=port,
        journal=journal,
        clock=clock,
        grant=NothingToPermit(place.account, journal.last_epoch),
        log=log,
        metrics=metrics,
        housekeeping=housekeeping,
        started=started,
        iterations=config.execution.iterations,
        heartbeat_ns=config.journal.heartbeat_ms * 1_000_000,
        shutdown_deadline_s=float(config.stop.shutdown_deadline_s),
        publish_kill_switch=lambda reason: log.write("WARNING", NAME, "kill_switch_not_needed", {"reason": reason}),
        earlier_fills=() if restored is None else restored.last_fills,
        accounted_since_ns=dict(engine.known.adopted_ns),
        earlier_instruments=dict(engine.known.instruments),
        thresholds=ThresholdsFile(Path(thresholds)) if thresholds else None,
    )
    return Process(parts, engine.known, exporter, http_of(resolved), grants_itself=False)


def _account(resolved: Resolved, engine: Engine, journal: Journal, listed: Sequence[Instrument]) -> PaperVenue:
    """A fresh account, or what the journal that is continued left of one."""
    from bot.simulator.paper import PaperVenue

    execution, parameters = resolved.config.execution, engine.known.parameters
    fees = {instrument.symbol: profile_of(parameters.of(instrument.symbol)) for instrument in listed}
    seed, equity = execution.seed, execution.total_max_quote
    venue = PaperVenue(listed, execution.fill_rate, fees, seed, equity, journal.execution_count)
    for instrument in listed:
        held = engine.known.ledger.accounts.get(instrument.symbol)
        if held is not None and held.position_lots:
            entry = held.cost_quote / instrument.qty(held.position_lots)
            venue.take_over(instrument.symbol, held.position_lots, entry)
    return venue
