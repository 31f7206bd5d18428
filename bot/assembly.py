"""The one place where the parts of a process are chosen and put together: real venue or simulated one, which store."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from bot.carrying import carried_equity, journals_in_redis
from bot.config import BotConfig
from bot.domain.events import EquityCarried, Started
from bot.domain.fees import FeeProfile, fee_profile
from bot.engine.engine import Engine
from bot.engine.parameters import EngineParameters, SymbolParameters
from bot.journal import Journal, JournalError, Segments
from bot.modes import SECRET_ENV, Mode, live_enabled, signed_gateway
from bot.replaying import restore
from bot.resolution import Resolved
from bot.runtime.clock import Clock
from bot.runtime.exporter import Exporter, Sample
from bot.runtime.grant import GrantHolder
from bot.runtime.housekeeping import Housekeeping
from bot.runtime.kill_switch_start import kill_switch_publisher
from bot.runtime.logs import JsonLog
from bot.runtime.loop import Parts
from bot.runtime.process import Process
from bot.runtime.process_metrics import ProcessMetrics
from bot.runtime.rotation import KeyRotation
from bot.runtime.secret_backends import BackendRefused, ReaderSecrets, bot_secrets
from bot.runtime.secrets import KeyPair, MemorySecrets
from bot.runtime.serving import Http
from bot.runtime.status import checks_of
from bot.runtime.thresholds import ThresholdsFile
from bot.settings_file import ConfigError
from bot.stores.redis_place import MARKER, place_for, write_marker
from bot.stores.store import already_there
from bot.venues.bybit.adapter import BybitAdapter
from bot.venues.bybit.hosts import Environment, hosts_for, override_hosts, second_endpoints
from bot.venues.failover import FailoverTransport
from bot.venues.feed import VenueFigures
from bot.venues.transport import AiohttpTransport
from bot.version import code_version

if TYPE_CHECKING:  # its client is loaded only where the journal is there
    from bot.stores.redis_store import RedisStore


class Place(NamedTuple):
    """Where one run happens: names from the environment, folder and choices from the command line."""

    account: str
    run: str
    state_dir: Path
    grants_itself: bool
    recover: bool


def place_of(resolved: Resolved, flags: Mapping[str, object]) -> Place:
    """Raises ConfigError for what is missing or contradicts the mode, before a file is written or a socket opened."""
    environment, mode = resolved.environment, resolved.mode
    if mode == "shadow":
        raise ValueError("shadow has a place of its own")
    if not flags.get("durable_state"):
        raise ConfigError(f"--durable-state: missing; mode {mode} sends no order that is not journaled first")
    grants_itself = flags.get("grant") == "self"
    if grants_itself and mode == "live" and not resolved.hosts_overridden:
        raise ConfigError("--grant self: not allowed on live; allowed on testnet and on the simulated venue")
    if not grants_itself:
        for name in ("MM_ACCOUNT", "MM_GRANT_TOKEN"):
            if not environment.get(name):
                raise ConfigError(f"{name}: missing; a guard's grant needs it (or --grant self on the simulated venue)")
        if not resolved.config.obs.enabled:
            raise ConfigError("--obs: missing; the guard renews the grant over HTTP (or --grant self)")
    run = environment.get("MM_RUN") or datetime.now(UTC).strftime("run-%Y%m%dT%H%M%SZ")
    state_dir = Path(str(flags.get("state_dir", "artifacts/state")))
    return Place(environment.get("MM_ACCOUNT") or "self", run, state_dir, grants_itself, bool(flags.get("recover")))


def engine_parameters(config: BotConfig, mode: Mode) -> EngineParameters:
    """The configuration as the engine takes it: fields of the same name. Raises ConfigError, one line."""
    fields = set(EngineParameters.__struct_fields__) - {"per_symbol"}
    values: dict[str, object] = {}
    sections = (config.strategy, config.risk, config.stop, config.fees, config.venue, config.execution, config.safety)
    for section in sections:
        values.update({key: value for key, value in section.model_dump().items() if key in fields})
    caps = config.kill_caps
    values.update(
        strategy=config.strategy.name,
        per_symbol=_per_symbol(config),
        kill_total_max_quote=caps.total_max_quote,
        kill_orders_per_min_max=caps.orders_per_min_max,
        kill_loss_max_quote=caps.loss_max_quote,
    )
    try:
        return EngineParameters(mode=mode, requires_grant=mode != "shadow", **values)  # type: ignore[arg-type]
    except ValueError as error:
        raise ConfigError(f"resolved configuration: {error}") from error


def _per_symbol(config: BotConfig) -> dict[str, SymbolParameters]:
    """What differs per symbol, of strategy, risk and fees together."""
    found: dict[str, dict[str, object]] = {}
    for symbol, strategy in config.strategy.per_symbol.items():
        values = strategy.model_dump(exclude_none=True)
        if "name" in values:
            values["strategy"] = values.pop("name")
        found.setdefault(symbol, {}).update(values)
    for symbol, limits in config.risk.per_symbol.items():
        found.setdefault(symbol, {}).update(limits.model_dump(exclude_none=True))
    for symbol, profile in config.fees.per_symbol.items():
        fees = fee_profile(profile)
        found.setdefault(symbol, {}).update(
            fee_maker_bps=fees.maker_bps, fee_taker_bps=fees.taker_bps, rebate_maker_bps=fees.rebate_bps
        )
    return {symbol: SymbolParameters(**values) for symbol, values in found.items()}  # type: ignore[arg-type]


def open_journal(place: Place, resolved: Resolved, log: JsonLog, synchronous: str = "FULL") -> Journal:
    """The run's journal. Raises JournalError; ConfigError where one is there and was not asked for."""
    settings, path = resolved.config.journal, place.state_dir / "journal.db"
    store = _redis_store(place, resolved)
    if store is None and path.exists() and not place.recover:
        raise ConfigError(already_there(path))
    if place.recover and not (path.exists() if store is None else store.continued):
        log.write("INFO", "bot.journal", "recovery", {"found": False, "message": "no journal: starting fresh"})
    segments = None
    if settings.market_data:
        segments = Segments(place.state_dir, settings.segment_mb * 1_000_000, settings.segments_kept)
    journal = Journal(path, _meta(place, resolved), synchronous=synchronous, segments=segments, store=store)
    if journal.continued:
        log.write("WARNING", "bot.journal", "recovery", {"found": True, "epoch_floor": journal.last_epoch})
    return journal


def _redis_store(place: Place, resolved: Resolved) -> RedisStore | None:
    """The journal in Redis where it is to be kept there; None: in SQLite. Raises JournalError where both would be."""
    url, state_dir = resolved.config.journal.store, place.state_dir
    journal, marker = state_dir / "journal.db", state_dir / MARKER
    if url == "sqlite" or resolved.mode == "shadow":
        if marker.exists():
            raise JournalError(f"{marker}: the journal of this state folder is in Redis, journal.store is {url}")
        return None
    if journal.exists():
        raise JournalError(f"{journal}: the journal of this state folder is in SQLite, journal.store is {url}")
    from bot.stores.redis_store import RedisStore

    where = place_for(url, place.account, state_dir)
    store = RedisStore(where, _meta(place, resolved), recover=place.recover)
    write_marker(state_dir, where)
    return store


def _meta(place: Place, resolved: Resolved) -> dict[str, str]:
    return {
        "account": place.account,
        "run": place.run,
        "config_digest": resolved.digest,
        "version": code_version(),
        "mode": resolved.mode,
    }


def secrets_of(resolved: Resolved) -> MemorySecrets | ReaderSecrets:
    """Where this run's keys are. Raises ConfigError."""
    try:
        return bot_secrets(resolved.environment, SECRET_ENV[resolved.mode])
    except BackendRefused as error:
        raise ConfigError(str(error)) from error


def assemble(
    resolved: Resolved, place: Place, journal: Journal, log: JsonLog, clock: Clock, pair: KeyPair | None = None
) -> Process:
    """A whole bot on a real venue (or on the simulated one, where the hosts are overridden). Opens no socket.

    `pair`: the key, where it was read already. Raises SecretMissing, SecretsUnreadable where it was not.
    """
    config, environment = resolved.config, resolved.environment
    parameters = engine_parameters(config, resolved.mode)
    secrets = secrets_of(resolved)
    pair = secrets.pair(config.venue.exchange) if pair is None else pair
    log.conceal((pair.api_key, pair.api_secret))
    whose = host_environment(resolved.mode, config)
    gateway = signed_gateway(resolved.mode, config.venue)
    hosts = override_hosts(hosts_for(whose, config.venue.category), environment, signed_gateway=gateway)
    seconds = second_endpoints(hosts, environment)
    grant = GrantHolder(place.account, journal.last_epoch)
    adapter = BybitAdapter(
        hosts,
        pair.api_key.reveal(),
        pair.api_secret.reveal(),
        config.execution.symbols,
        clock.now_ns,
        category=config.venue.category,
        recv_window_ms=config.venue.receive_window_ms,
        seed=config.execution.seed,
        trade_socket=config.venue.order_entry == "socket",
        batches=config.venue.batch_orders,
        transport=FailoverTransport(AiohttpTransport(), seconds, _tell_switch(log)) if seconds else None,
        disconnect_cancel_s=config.venue.disconnect_cancel_s,
        permitted=lambda epoch: grant.valid(epoch, clock.now_ns()),
    )
    engine = Engine(parameters)
    restored = restore(engine, journal.path) if journal.continued else None
    metrics = metrics_of(adapter, engine, resolved, log)
    exporter = Exporter((EngineMetrics(engine), metrics), config.execution.symbols, clock.now_ns)
    housekeeping = housekeeping_of(place, resolved, engine, exporter, metrics, journal, log)
    housekeeping.drain(adapter.drain_observations)
    housekeeping.drain(lambda: _without_wire_latency(engine.drain_observations()))
    parts = Parts(
        engine=engine,
        port=adapter,
        journal=journal,
        clock=clock,
        grant=grant,
        log=log,
        metrics=metrics,
        housekeeping=housekeeping,
        started=Started(
            clock.now_ns(),
            place.run,
            resolved.mode,
            resolved.digest,
            code_version(),
            config.execution.symbols,
            msgspec.json.encode(parameters).decode(),
        ),
        earlier_fills=() if restored is None else restored.last_fills,
        carried=None if journal.continued else _yesterday(place, resolved, clock, log),
        accounted_since_ns=dict(engine.known.adopted_ns),
        earlier_instruments=dict(engine.known.instruments),
        thresholds=ThresholdsFile(Path(name)) if (name := config.execution.thresholds_file) else None,
        account_is_ours=parameters.foreign_orders == "cancel",
        reads_fees=parameters.needs_fees,
        iterations=config.execution.iterations,
        heartbeat_ns=config.journal.heartbeat_ms * 1_000_000,
        receive_window_s=config.venue.receive_window_ms / 1000,
        filters_lifetime_ns=config.venue.filters_cached_s * 1_000_000_000,
        shutdown_deadline_s=float(config.stop.shutdown_deadline_s),
        cut_streams=adapter.cut_streams,
        publish_kill_switch=kill_switch_publisher(
            config.execution.symbols,
            config.venue.category,
            place.state_dir,
            {**environment, "EXCHANGE_ENV": whose},
            parameters.foreign_orders,
            config.venue.receive_window_ms,
            config.venue.gateway,
            log,
        ),
    )
    rotation = None
    if isinstance(secrets, ReaderSecrets):
        rotation = KeyRotation(config.venue.exchange, secrets.pair_soon, pair, adapter, log, config.venue.secret_poll_s)
        rotation.tells_accounts = whose != "demo"
    return Process(
        parts, engine.known, exporter, http_of(resolved), grants_itself=place.grants_itself, rotation=rotation
    )


def host_environment(mode: Mode, config: BotConfig) -> Environment:
    """Whose hosts are meant. Raises ConfigError for demo hosts in a mode that trades real money."""
    if config.venue.hosts == "demo":
        if mode != "testnet":
            raise ConfigError(f"venue.hosts: demo is not allowed in mode {mode}; allowed in mode testnet")
        return "demo"
    return "live" if mode == "live" else "testnet"


def metrics_of(figures: VenueFigures, engine: Engine, resolved: Resolved, log: JsonLog) -> ProcessMetrics:
    return ProcessMetrics(
        figures,
        log.counts,
        lambda: checks_of(engine.known),
        version=code_version(),
        digest=resolved.digest,
        live_enabled=live_enabled(resolved.environment),
    )


def housekeeping_of(
    place: Place,
    resolved: Resolved,
    engine: Engine,
    exporter: Exporter,
    metrics: ProcessMetrics,
    journal: Journal,
    log: JsonLog,
) -> Housekeeping:
    settings = resolved.config.journal
    return Housekeeping(
        place.state_dir,
        engine.known,
        exporter,
        metrics,
        log,
        disk_reserve_bytes=settings.disk_reserve_mb * 1_000_000,
        export_interval_s=settings.export_interval_s,
        last_ns=journal.last_ns,
    )


def http_of(resolved: Resolved) -> Http:
    settings, environment = resolved.config.obs, resolved.environment
    return Http(
        settings.host if settings.enabled else None,
        settings.port,
        environment.get("MM_GRANT_TOKEN", ""),
        environment.get("APPROVE_TOKEN", ""),
        armed_for_release(resolved),
    )


def profile_of(own: EngineParameters) -> FeeProfile:
    return FeeProfile(own.fee_maker_bps, own.fee_taker_bps, own.rebate_maker_bps)


def armed_for_release(resolved: Resolved) -> bool:
    """Whether the process is armed for re-arming; only live has to be."""
    return resolved.mode != "live" or live_enabled(resolved.environment)


def _tell_switch(log: JsonLog) -> Callable[[str, str], None]:
    def switched(left: str, used: str) -> None:
        log.write("WARNING", "bot.venues.failover", "venue_endpoint_switched", {"left": left, "used": used})

    return switched


def _yesterday(place: Place, resolved: Resolved, clock: Clock, log: JsonLog) -> EquityCarried | None:
    """What earlier runs of this account lost in the last 24 hours, by their journals beside this one's."""
    store = resolved.config.journal.store
    elsewhere = [] if store == "sqlite" else journals_in_redis(store, place.account, place.state_dir)
    carried = carried_equity(place.state_dir, place.account, resolved.mode, clock.now_ns(), elsewhere)
    for message in carried.unread:
        log.write("WARNING", "bot.carrying", "earlier_journal_unread", {"message": message})
    return carried.event


def _without_wire_latency(samples: Iterable[Sample]) -> Iterator[Sample]:
    """The adapter measures a create on the wire; the engine's view of the same, by events, is not counted twice."""
    return (sample for sample in samples if sample[0] != "mm_order_latency_ms")


class EngineMetrics:
    """The engine as a metric source: its totals in milliseconds are shown under the catalogue's names, in seconds."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    @property
    def counts(self) -> dict[tuple[str, tuple[str, ...]], float]:
        shown: dict[tuple[str, tuple[str, ...]], float] = {
            key: count for key, count in self._engine.counts.items() if not key[0].endswith("_ms_total")
        }
        return shown | self._engine.seconds

    def gauges(self, now_ns: int) -> Iterator[Sample]:
        yield from self._engine.gauges(now_ns)
