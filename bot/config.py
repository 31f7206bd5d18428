"""The bot's configuration: frozen, bounded, unknown keys refused, units in the names.

A *candidate's* settings are `strategy`, `risk`, `stop` and `fees`: they and the code version make `settings_digest`.
What a stage decides (mode, symbols, sizes, offset, pad, edge threshold: `execution`) and what the place of work decides
(`venue`, `journal`, `obs`, `safety`, `kill_caps`) is no part of it. Money and basis points are exact decimals.
Names of secrets may stand here, secrets never.
"""

from __future__ import annotations

import hashlib
import json
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from bot.domain.strategy_name import StrategyName
from bot.settings_file import ConfigError, one_line, read_sections
from bot.version import code_version

__all__ = ["BotConfig", "ConfigError", "Settings", "load_settings", "settings_digest"]

Bps = Annotated[Decimal, Field(ge=0, lt=10_000, max_digits=12, decimal_places=6)]
PositiveBps = Annotated[Decimal, Field(gt=0, lt=10_000, max_digits=12, decimal_places=6)]
Quote = Annotated[Decimal, Field(gt=0, le=1_000_000_000)]
Percent = Annotated[Decimal, Field(gt=0, le=100)]
Symbol = Annotated[str, Field(pattern=r"^[A-Z0-9]{4,20}$")]
SymbolOrRest = Annotated[str, Field(pattern=r"^([A-Z0-9]{4,20}|\*)$")]
"""A symbol, or `*` for every one that is not named."""
PerBps = Annotated[Decimal, Field(gt=0, le=1_000)]

FEE_PROFILES: Final[dict[str, dict[str, str]]] = {
    name: {"fee_maker_bps": maker, "fee_taker_bps": taker, "rebate_maker_bps": rebate}
    for name, maker, taker, rebate in (
        ("VIP0", "1.0", "7.0", "0.0"),
        ("VIP1", "0.8", "6.5", "1.0"),
        ("VIP2", "0.5", "5.0", "2.5"),
        ("VIP3", "0.2", "4.0", "3.0"),
        ("MM_TIER_A", "0.0", "3.0", "5.0"),
    )
}


FeeProfileName = Literal["VIP0", "VIP1", "VIP2", "VIP3", "MM_TIER_A"]


class Section(BaseModel):
    """Frozen; an unknown key is an error, and so is a number that is not finite."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class SymbolStrategy(Section):
    """What one symbol (or `*`) has otherwise; a key that is not given is as for all."""

    name: StrategyName | None = None
    half_spread_bps: PositiveBps | None = None
    order_notional_quote: Quote | None = None
    inventory_skew_bps: Bps | None = None
    requote_tolerance_bps: Bps | None = None
    requote_tolerance_ticks: int | None = Field(default=None, ge=0, le=10_000)
    requote_interval_ms: int | None = Field(default=None, ge=0, le=60_000)
    risk_aversion_per_bps: PerBps | None = None
    fill_decay_per_bps: PerBps | None = None
    horizon_s: int | None = Field(default=None, ge=1, le=86_400)


class StrategySettings(Section):
    """Which strategy, how far from fair, how large, and when a working quote is replaced.

    `half_spread_bps` is spread-and-skew's distance and Avellaneda-Stoikov's least one; `risk_aversion_per_bps`,
    `fill_decay_per_bps`, `horizon_s`, `volatility_*` are Avellaneda-Stoikov's alone.
    """

    name: StrategyName = "spread_and_skew"
    risk_aversion_per_bps: PerBps = Decimal("0.05")
    fill_decay_per_bps: PerBps = Decimal("0.2")
    horizon_s: int = Field(default=60, ge=1, le=86_400)
    volatility_memory_s: int = Field(default=60, ge=1, le=86_400)
    volatility_min_bps: PositiveBps = Decimal("0.1")
    per_symbol: dict[SymbolOrRest, SymbolStrategy] = {}
    half_spread_bps: PositiveBps = Decimal("6")
    order_notional_quote: Quote = Decimal("900")
    inventory_skew_bps: Bps = Decimal("4")
    requote_tolerance_bps: Bps = Decimal("1")
    requote_tolerance_ticks: int = Field(default=1, ge=0, le=10_000)
    requote_qty_tolerance_pct: Decimal = Field(default=Decimal("50"), ge=0, le=100)
    requote_interval_ms: int = Field(default=250, ge=0, le=60_000)
    max_active_orders: int = Field(default=2, ge=1, le=20)
    back_off_first_ms: int = Field(default=250, ge=1, le=60_000)
    back_off_max_ms: int = Field(default=5_000, ge=1, le=600_000)
    markout_memory_s: int = Field(default=600, ge=1, le=86_400)
    markout_weight_pct: Percent = Decimal("10")


class SymbolRisk(Section):
    """Limits of one symbol (or `*`). Environment: MAX_POSITION_USDT__SYMBOL, MAX_OPEN_ORDERS__SYMBOL."""

    position_max_quote: Quote | None = None
    max_open_orders: int | None = Field(default=None, ge=1, le=100)
    order_notional_max_quote: Quote | None = None


class RiskSettings(Section):
    """What an order may not exceed, whatever the strategy wants. A limit that is None is not set."""

    per_symbol: dict[SymbolOrRest, SymbolRisk] = {}
    max_open_positions: int | None = Field(default=None, ge=1, le=1_000)
    max_total_notional_quote: Quote | None = None
    leverage_max: Decimal | None = Field(default=None, gt=0, le=200)
    margin_ratio_max: Decimal = Field(default=Decimal("0.8"), gt=0, le=1)
    statement_max_age_s: Decimal = Field(default=Decimal("180"), gt=0, le=86_400)
    """For how long what the venue said of equity and margin counts; nothing is quoted without it, and the first may be
    missing for 30 s at most."""
    daily_loss_cap_quote: Quote | None = None
    enforce_daily_loss_cap: bool = True
    daily_loss_cap_auto_hold: bool = True
    budget_loss_quote: Quote | None = None
    budget_turnover_quote: Quote | None = None
    foreign_orders: Literal["report", "cancel"] = "report"

    order_notional_max_quote: Quote = Decimal("1000")
    max_open_orders: int = Field(default=4, ge=1, le=100)
    price_collar_bps: PositiveBps = Decimal("500")
    mark_max_age_s: int = Field(default=60, ge=1, le=3_600)
    position_drift_pct_max: Percent = Decimal("5")
    orders_per_min_max: int = Field(default=300, ge=1, le=10_000)
    cancels_per_min_max: int = Field(default=150, ge=1, le=10_000)
    cancel_budget_per_min: int = Field(default=50, ge=1, le=10_000)
    cancel_budget_reserve: int = Field(default=10, ge=0, le=9_999)
    cancel_budget_breaches_max: int = Field(default=3, ge=1, le=1_000)
    cancel_budget_breach_window_s: int = Field(default=600, ge=1, le=86_400)
    fill_far_pct: Percent = Decimal("1")
    amends_per_s_max: int = Field(default=10, ge=1, le=10_000)
    amends_reserve_pct: int = Field(default=20, ge=0, le=99)
    daily_loss_pct_hard: Percent = Decimal("3")
    drawdown_pct_hard: Percent = Decimal("5")

    @model_validator(mode="after")
    def _reserve_is_part_of_the_budget(self) -> RiskSettings:
        if self.cancel_budget_reserve >= self.cancel_budget_per_min:
            raise ValueError(
                f"cancel_budget_reserve {self.cancel_budget_reserve} must be below cancel_budget_per_min"
                f" {self.cancel_budget_per_min}"
            )
        return self


class StopSettings(Section):
    """When quoting stops by itself, when it resumes by itself, and how a position is closed without a grant."""

    stale_after_ms: int = Field(default=30_000, ge=100, le=600_000)
    venue_slow_ms: int = Field(default=5_000, ge=10, le=600_000)
    hysteresis_s: Decimal = Field(default=Decimal("30"), ge=0, le=3_600)
    release_expires_s: int = Field(default=300, ge=1, le=3_600)
    cancel_all_retry_ms: int = Field(default=500, ge=50, le=10_000)
    shutdown_deadline_s: Decimal = Field(default=Decimal("10"), gt=0, le=120)
    flatten_after_s: Decimal = Field(default=Decimal("30"), ge=0, le=3_600)
    flatten_band_bps: Bps = Decimal("100")
    flatten_interval_s: Decimal = Field(default=Decimal("1"), gt=0, le=60)


class FeeSettings(Section):
    """Fees that decisions assume, bps of notional; a rebate is what a maker gets back."""

    profile: FeeProfileName | None = None
    per_symbol: dict[SymbolOrRest, FeeProfileName] = {}
    fee_mode: Literal["fixed", "auto"] = "fixed"
    require_fee_resolution: bool = False
    fee_maker_bps: Bps = Decimal("1.0")
    fee_taker_bps: Bps = Decimal("7.0")
    rebate_maker_bps: Bps = Decimal("2.0")


class VenueSettings(Section):
    """How long the venue may take over what.

    `disconnect_cancel_s`: it cancels all orders of the account, whoever's, that long after the bot's connection is gone
    (3 to 300 and longer than the receive window, 0: off). It is armed where the venue offers it, never relied on alone.
    """

    exchange: Literal["bybit", "binance", "okx", "bitget"] = "bybit"
    category: Literal["linear", "spot"] = "linear"
    hosts: Literal["by_mode", "demo"] = "by_mode"
    """`by_mode`: live's and testnet's own. `demo`: the venue's demo trading, in mode testnet alone."""
    gateway: str = Field(default="", pattern=r"^([a-z0-9.-]+(:[0-9]{1,5})?)?$")
    """Host, or host:port, of the one gateway that MM_VENUE_GATEWAY may name in mode live; empty: none."""
    order_entry: Literal["socket", "rest"] = "socket"
    """`socket`: by the trade socket where the venue offers one and it is up, else by REST."""
    batch_orders: bool = True
    """Whether creates, amends or cancels that are decided in one turn leave as one request."""
    disconnect_cancel_s: int = Field(default=10, ge=0, le=300)
    receive_window_ms: int = Field(default=5_000, ge=100, le=60_000)
    not_found_margin_ms: int = Field(default=2_000, ge=500, le=60_000)
    confirm_timeout_ms: int = Field(default=2_000, ge=100, le=60_000)
    ack_timeout_s: Decimal = Field(default=Decimal("30"), gt=0, le=600)
    position_check_s: Decimal = Field(default=Decimal("300"), gt=0, le=86_400)
    recon_confirm_s: Decimal = Field(default=Decimal("2.0"), ge=0, le=60)
    finished_kept_s: int = Field(default=60, ge=1, le=86_400)
    secret_poll_s: int = Field(default=60, ge=1, le=3_600)
    """How often it is seen whether the key was rotated, where the backend can."""
    secret_max_age_days: int = Field(default=90, ge=1, le=3_650)
    key_expires_min_days: int = Field(default=7, ge=1, le=365)
    """Preflight wants the key to last at least this much longer."""
    margin_mode: Literal["REGULAR_MARGIN", "ISOLATED_MARGIN", "PORTFOLIO_MARGIN"] = "REGULAR_MARGIN"
    filters_cached_s: int = Field(default=600, ge=1, le=86_400)

    @model_validator(mode="after")
    def _window_is_one_the_venue_takes(self) -> VenueSettings:
        if self.disconnect_cancel_s in (1, 2):
            raise ValueError(f"disconnect_cancel_s {self.disconnect_cancel_s} must be 0 (off) or 3 to 300")
        if 0 < self.disconnect_cancel_s * 1000 <= self.receive_window_ms:  # an order could come after it and stand
            raise ValueError(
                f"disconnect_cancel_s {self.disconnect_cancel_s} must be longer than receive_window_ms"
                f" {self.receive_window_ms}, or 0 (off)"
            )
        return self


class JournalSettings(Section):
    """`store`: sqlite (a file in the state folder), or redis://HOST[:PORT][/DATABASE] (rediss:// by TLS)
    for networked runs; a password goes into MM_REDIS_PASSWORD.

    `disk_reserve_mb`: quoting stops while at least this is left, so that the stop can still be written.

    Market data is about 645 MB a symbol in 48 h at ten updates a second; without it a journal cannot be replayed.
    """

    store: str = Field(default="sqlite", pattern=r"^(sqlite|rediss?://[A-Za-z0-9.-]+(:[0-9]{1,5})?(/[0-9]{1,3})?)$")
    market_data: bool = True
    segment_mb: int = Field(default=64, ge=1, le=4_096)
    segments_kept: int = Field(default=20, ge=1, le=10_000)
    disk_reserve_mb: int = Field(default=200, ge=1, le=1_000_000_000)
    heartbeat_ms: int = Field(default=1_000, ge=100, le=60_000)
    export_interval_s: int = Field(default=3, ge=1, le=3_600)


class ExecutionSettings(Section):
    """What a stage decides, per run. Sizes in quote, per symbol and in total."""

    symbols: tuple[Symbol, ...] = Field(default=("BTCUSDT",), min_length=1, max_length=50)
    iterations: int = Field(default=20, ge=0)
    maker_only: bool = True
    post_only_offset_bps: Bps = Decimal("1.5")
    min_qty_pad: Decimal = Field(default=Decimal("1.1"), ge=1, le=100)
    inventory_max_quote: Quote = Decimal("10000")
    total_max_quote: Quote = Decimal("50000")
    edge_threshold_bps: Bps = Decimal("1.5")
    fill_rate: Decimal = Field(default=Decimal("0.8"), ge=0, le=1)
    latency_ms: int = Field(default=100, ge=0, le=60_000)
    recon_interval_s: Decimal = Field(default=Decimal("60"), gt=0, le=86_400)
    thresholds_file: str = ""
    """Freeze thresholds per symbol, YAML or JSON, read again whenever it changes; empty: none."""
    warmup_filters: bool = False
    seed: int = Field(default=0, ge=0)

    @model_validator(mode="after")
    def _sizes_fit(self) -> ExecutionSettings:
        if self.inventory_max_quote > self.total_max_quote:
            raise ValueError(
                f"inventory_max_quote {self.inventory_max_quote} must be at most total_max_quote {self.total_max_quote}"
            )
        if len(set(self.symbols)) != len(self.symbols):
            raise ValueError(f"symbols {','.join(self.symbols)} names one twice")
        return self


class SafetySettings(Section):
    """All three hold every order back until a grant (or people) lift them; none is lifted by a default."""

    safe_mode: bool = True
    two_man_rule: bool = True
    dry_run: bool = True


class KillCaps(Section):
    """Absolute ceilings: no setting, flag or reload goes above. None: not set (paper and testnet)."""

    total_max_quote: Quote | None = None
    orders_per_min_max: int | None = Field(default=None, ge=1)
    loss_max_quote: Quote | None = None


class ObsSettings(Section):
    """The HTTP side: off unless asked for, and on the loopback interface."""

    enabled: bool = False
    host: Literal["127.0.0.1", "localhost", "::1"] = "127.0.0.1"
    port: int = Field(default=8080, ge=0, le=65_535)


class Settings(Section):
    """What a settings file may hold. The first four sections are the candidate's and make its digest."""

    strategy: StrategySettings = StrategySettings()
    risk: RiskSettings = RiskSettings()
    stop: StopSettings = StopSettings()
    fees: FeeSettings = FeeSettings()
    venue: VenueSettings = VenueSettings()
    journal: JournalSettings = JournalSettings()


class BotConfig(Settings):
    """One run's configuration, resolved from flags, environment, settings file, profile and defaults."""

    execution: ExecutionSettings = ExecutionSettings()
    safety: SafetySettings = SafetySettings()
    kill_caps: KillCaps = KillCaps()
    obs: ObsSettings = ObsSettings()

    @model_validator(mode="after")
    def _nothing_above_the_kill_caps(self) -> BotConfig:
        caps, total = self.kill_caps, self.execution.total_max_quote
        if caps.total_max_quote is not None and total > caps.total_max_quote:
            raise ValueError(
                f"execution.total_max_quote {total} is above kill_caps.total_max_quote {caps.total_max_quote}"
            )
        rate = self.risk.orders_per_min_max
        if caps.orders_per_min_max is not None and rate > caps.orders_per_min_max:
            raise ValueError(
                f"risk.orders_per_min_max {rate} is above kill_caps.orders_per_min_max {caps.orders_per_min_max}"
            )
        loss = total * self.risk.daily_loss_pct_hard / 100
        if caps.loss_max_quote is not None and loss > caps.loss_max_quote:
            raise ValueError(
                f"risk.daily_loss_pct_hard {self.risk.daily_loss_pct_hard} of {total} is {loss}, above"
                f" kill_caps.loss_max_quote {caps.loss_max_quote}"
            )
        return self


DIGESTED: Final = ("strategy", "risk", "stop", "fees")


def load_settings(path: Path) -> Settings:
    """A candidate's settings file. Raises ConfigError: one line with file, key, value and allowed range."""
    layer = read_sections(path)
    expand_fee_profile(layer)
    try:
        return Settings.model_validate(layer)
    except ValidationError as error:
        raise ConfigError(one_line(error, Settings, str(path))) from error


def expand_fee_profile(layer: dict[str, dict[str, object]]) -> None:
    """Writes a named fee profile's numbers beside its name, where the same layer does not give them itself."""
    fees = layer.get("fees", {})
    if "profile" in fees:
        layer["fees"] = {**FEE_PROFILES.get(str(fees["profile"]), {}), **fees}


def settings_digest(settings: Settings) -> str:
    """SHA-256 (hex) over the code version and the candidate's sections as canonical JSON (6, 6.0 and 6.00 are one)."""
    document = {"code_version": code_version()} | {
        name: {key: _canonical(value) for key, value in getattr(settings, name).model_dump().items()}
        for name in DIGESTED
    }
    text = json.dumps(document, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def _canonical(value: object) -> object:
    if isinstance(value, dict):
        return {key: _canonical(inner) for key, inner in value.items()}
    return format(value.normalize(), "f") if isinstance(value, Decimal) else value
