"""From flags, environment, settings file, profile and defaults to one configuration, and where each value came from."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final, NamedTuple

from pydantic import BaseModel, ValidationError

from bot import modes
from bot.config import BotConfig, expand_fee_profile, load_settings, settings_digest
from bot.settings_file import ConfigError, one_line, read_sections

PROFILES: Final = Path(__file__).resolve().parent.parent / "configs" / "profiles"

FLAG_PATHS: Final[dict[str, str]] = {
    "exchange": "venue.exchange",
    "symbols": "execution.symbols",
    "symbol_filter": "execution.symbols",
    "iterations": "execution.iterations",
    "maker_only": "execution.maker_only",
    "post_only_offset_bps": "execution.post_only_offset_bps",
    "min_qty_pad": "execution.min_qty_pad",
    "max_inv": "execution.inventory_max_quote",
    "max_total": "execution.total_max_quote",
    "edge_threshold": "execution.edge_threshold_bps",
    "fill_rate": "execution.fill_rate",
    "latency_ms": "execution.latency_ms",
    "recon_interval_s": "execution.recon_interval_s",
    "fee_maker_bps": "fees.fee_maker_bps",
    "fee_taker_bps": "fees.fee_taker_bps",
    "rebate_maker_bps": "fees.rebate_maker_bps",
    "fee_profile": "fees.profile",
    "warmup_filters": "execution.warmup_filters",
    "obs": "obs.enabled",
    "obs_host": "obs.host",
    "obs_port": "obs.port",
    "seed": "execution.seed",
}
"""Flag (as argparse names it) to the value it sets. `--symbol-filter` stands after `--symbols` and overrides it."""

CERTIFIED: Final = "bybit"
"""Where orders may go. The others are known, and have not been shown to lose none."""

FEE_FLAGS: Final = ("fee_maker_bps", "fee_taker_bps", "rebate_maker_bps", "fee_profile")

ENVIRONMENT_PATHS: Final[dict[str, str]] = {
    "SAFE_MODE": "safety.safe_mode",
    "TWO_MAN_RULE": "safety.two_man_rule",
    "DRY_RUN_ONLY": "safety.dry_run",
    "DRY_RUN_MODE": "safety.dry_run",
    "MAX_TOTAL_NOTIONAL_USDT": "risk.max_total_notional_quote",
    "MAX_OPEN_POSITIONS": "risk.max_open_positions",
    "MAX_LEVERAGE": "risk.leverage_max",
    "DAILY_LOSS_CAP_USDT": "risk.daily_loss_cap_quote",
    "ENFORCE_DAILY_LOSS_CAP": "risk.enforce_daily_loss_cap",
    "DAILY_LOSS_CAP_AUTO_HOLD": "risk.daily_loss_cap_auto_hold",
    "MM_JOURNAL_STORE": "journal.store",
    "MM_THRESHOLDS_FILE": "execution.thresholds_file",
    "MAX_ORDERS_PER_MIN": "risk.orders_per_min_max",
    "MAX_CANCELS_PER_MIN": "risk.cancels_per_min_max",
}

SYMBOL_PATHS: Final[dict[str, str]] = {
    "MAX_POSITION_USDT__": "position_max_quote",
    "MAX_OPEN_ORDERS__": "max_open_orders",
}
"""Environment variables that end in a symbol, to the key they set in `risk.per_symbol`."""

Layer = dict[str, dict[str, object]]


class Resolved(NamedTuple):
    """`provenance`: `section.key` to the source that won; `hosts_overridden`: the venue is a simulated one."""

    config: BotConfig
    mode: modes.Mode
    profile: str
    provenance: dict[str, str]
    environment: Mapping[str, str]
    hosts_overridden: bool

    @property
    def digest(self) -> str:
        return settings_digest(self.config)


def resolve(flags: Mapping[str, object], environment: Mapping[str, str]) -> Resolved:
    """Flag > environment > settings file > profile > default. Raises ConfigError, one line."""
    mode = modes.resolve_mode(flags, environment)
    modes.check_consent(mode, environment)
    hosts_overridden = modes.check_hosts(environment)
    profile, profile_source = modes.profile_name(flags, environment, mode)
    layers: list[tuple[str, Layer]] = [
        (f"profile {profile} ({profile_source})", read_sections(PROFILES / f"{profile}.yaml"))
    ]
    if "settings" in flags:
        path = Path(str(flags["settings"]))
        layers.append((f"settings {path}", _settings_layer(path)))
    given = {name: value for name, value in environment.items() if value}  # empty is as if it were not given
    layers += [(f"environment {name}", layer) for name, layer in _each(given, ENVIRONMENT_PATHS)]
    layers += [(f"environment {name}", layer) for name, layer in _of_symbols(environment)]
    layers += [(f"flag --{name.replace('_', '-')}", layer) for name, layer in _each(flags, FLAG_PATHS)]
    if mode != "shadow" and flags.get("warmup_filters") is False:
        raise ConfigError(f"--no-warmup-filters and mode {mode} contradict each other; filters are always read there")
    merged: Layer = {}
    won: dict[str, str] = {}
    for source, layer in layers:
        expand_fee_profile(layer)
        for section, values in layer.items():
            _merge(merged.setdefault(section, {}), values)
            won.update({f"{section}.{key}": source for key in values})
    if any(flags.get(name) is not None for name in FEE_FLAGS):
        merged.setdefault("fees", {})["per_symbol"] = {}  # a flag beats every profile, one symbol's too
    try:
        config = BotConfig.model_validate(merged)
    except ValidationError as error:
        first = ".".join(str(part) for part in error.errors()[0]["loc"][:2])
        raise ConfigError(one_line(error, BotConfig, won.get(first, "resolved configuration"))) from error
    if mode != "shadow" and config.venue.exchange != CERTIFIED:
        named = f"{won.get('venue.exchange', 'default')}: exchange {config.venue.exchange!r}"
        raise ConfigError(
            f"{named} is not certified for mode {mode}; allowed there: {CERTIFIED}, the others with --shadow --network"
        )
    modes.check_gateway(mode, config.venue, environment)
    provenance = {path: won.get(path, "default") for path, _ in values_of(config)}
    return Resolved(config, mode, profile, provenance, environment, hosts_overridden)


def values_of(config: BaseModel) -> Iterator[tuple[str, object]]:
    """Every `section.key` with its value, in the order of the schema."""
    for section in type(config).model_fields:
        model = getattr(config, section)
        for key in type(model).model_fields:
            yield f"{section}.{key}", getattr(model, key)


def read_environment(folder: Path, process: Mapping[str, str] = os.environ) -> dict[str, str]:
    """The process's environment over the folder's `.env` file. Raises ConfigError naming file and line."""
    found: dict[str, str] = {}
    path = folder / ".env"
    if path.is_file():
        for number, raw in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
            line = raw.strip().removeprefix("export ")
            if not line or line.startswith("#"):
                continue
            name, sign, value = line.partition("=")
            if not sign or not name.strip().isidentifier():
                raise ConfigError(f"{path}:{number}: not NAME=VALUE")  # the line itself may hold a secret
            found[name.strip()] = value.strip().strip("'\"")
    return found | dict(process)


def _settings_layer(path: Path) -> Layer:
    """A settings file may hold the candidate's and the place's sections only: the stage decides the rest."""
    load_settings(path)
    return read_sections(path)


def _merge(under: dict[str, object], over: Mapping[str, object]) -> None:
    """Values of a higher layer; what differs per symbol adds to what lower layers say of that and other symbols."""
    for key, value in over.items():
        held = under.get(key)
        if key == "per_symbol" and isinstance(held, dict) and isinstance(value, Mapping):
            under[key] = {
                name: {**old, **new} if isinstance(old := held.get(name), dict) and isinstance(new, dict) else new
                for name, new in {**held, **value}.items()
            }
        else:
            under[key] = value


def _of_symbols(environment: Mapping[str, str]) -> Iterator[tuple[str, Layer]]:
    for name, value in sorted(environment.items()):
        for prefix, key in SYMBOL_PATHS.items():
            if name.startswith(prefix) and value:
                yield name, {"risk": {"per_symbol": {name.removeprefix(prefix): {key: value}}}}


def _each(given: Mapping[str, object], paths: Mapping[str, str]) -> Iterator[tuple[str, Layer]]:
    """One layer for each flag or variable that was given, so that each can be named as a source."""
    for name, path in paths.items():
        value: object = given.get(name)
        if value is None:
            continue
        section, key = path.split(".")
        if key == "symbols":
            value = tuple(part.strip() for part in str(value).split(","))
        yield name, {section: {key: value}}
