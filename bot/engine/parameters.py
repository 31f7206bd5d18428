"""Everything the engine can be set to. Frozen for a run; the configuration is mapped onto it once, at the top.

Bounds are checked here a second time, so that no other road leads to an engine with a limit that is no limit.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Final, Literal

import msgspec

from bot.domain.strategy_name import StrategyName

UBPS: Final = 1_000_000
"""Micro basis points in one basis point: basis points are whole numbers of these inside the engine."""

UBPS_ONE: Final = 10_000 * UBPS
"""Micro basis points in one (100 %)."""

NS_PER_MS: Final = 1_000_000
NS_PER_S: Final = 1_000_000_000
FIRST_STATEMENT_S: Final = Decimal(30)
"""As long as a book may be silent: what the account is worth is no less needed than what the market is."""


class SymbolParameters(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """What one symbol (or `*`: every symbol that is not named) has otherwise. None: as for all.

    `position_max_quote` is MAX_POSITION_USDT__SYMBOL, `max_open_orders` MAX_OPEN_ORDERS__SYMBOL.
    """

    strategy: StrategyName | None = None
    half_spread_bps: Decimal | None = None
    order_notional_quote: Decimal | None = None
    inventory_skew_bps: Decimal | None = None
    requote_tolerance_bps: Decimal | None = None
    requote_tolerance_ticks: int | None = None
    requote_interval_ms: int | None = None
    risk_aversion_per_bps: Decimal | None = None
    fill_decay_per_bps: Decimal | None = None
    horizon_s: int | None = None
    post_only_offset_bps: Decimal | None = None
    fee_maker_bps: Decimal | None = None
    fee_taker_bps: Decimal | None = None
    rebate_maker_bps: Decimal | None = None
    order_notional_max_quote: Decimal | None = None
    position_max_quote: Decimal | None = None
    max_open_orders: int | None = None
    edge_threshold_bps: Decimal | None = None
    stale_after_ms: int | None = None


class EngineParameters(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Settings of one run. Units end the names; `quote` is the quote currency, `bps` 1/10000.

    Raises ValueError in one line (name, value, allowed range) where a value is out of range.
    """

    symbols: tuple[str, ...]
    mode: str = "shadow"
    requires_grant: bool = True
    """False only in shadow: then state and limits alone decide."""

    per_symbol: dict[str, SymbolParameters] = {}
    """Symbol or `*` to what differs there; see `of`."""

    # strategy
    strategy: StrategyName = "spread_and_skew"
    risk_aversion_per_bps: Decimal = Decimal("0.05")
    """Avellaneda-Stoikov's gamma, with inventory in units of its limit."""
    fill_decay_per_bps: Decimal = Decimal("0.2")
    """Avellaneda-Stoikov's kappa: how fast the chance of a fill falls with the distance from mid."""
    horizon_s: int = 60
    """Avellaneda-Stoikov's T - t, which rolls on: the market never closes."""
    volatility_memory_s: int = 60
    """Half of the weight of the volatility estimate is younger than this."""
    volatility_min_bps: Decimal = Decimal("0.1")
    """Lowest volatility assumed, bps per square root of a second; also what holds before the first samples."""
    half_spread_bps: Decimal = Decimal("6")
    """Distance of each quote from the reservation price, before the maker policy makes it more passive."""
    order_notional_quote: Decimal = Decimal("900")
    """Size of one quote at mid."""
    inventory_skew_bps: Decimal = Decimal("4")
    """How far both quotes move against the position when inventory is at its limit; linear below it."""

    # order plan
    requote_tolerance_bps: Decimal = Decimal("1")
    """A working quote this near to the wanted price is kept."""
    requote_tolerance_ticks: int = 1
    """The same in ticks; the wider of both counts."""
    requote_qty_tolerance_pct: Decimal = Decimal("50")
    """A working quote is kept while its open size is at least this share of the wanted size."""
    requote_interval_ms: int = 250
    """At least this long between two amends of one order."""
    max_active_orders: int = 2
    """Own orders per symbol, working, in flight or unknown, that quoting may have out."""
    max_open_orders: int = 4
    """Hard cap per symbol that risk enforces, orders of every kind counted."""
    max_open_positions: int | None = None
    """Most symbols that may have a position or orders out at the same time. None: not limited."""
    max_total_notional_quote: Decimal | None = None
    """A ceiling of `total_max_quote` that a stage's size cannot raise."""
    position_max_quote: Decimal | None = None
    """A ceiling of `inventory_max_quote` that a stage's size cannot raise; meant for `per_symbol`."""
    leverage_max: Decimal | None = None
    """Most notional, all orders filled, over the account's equity. Set and equity unknown: nothing new is sent."""
    margin_ratio_max: Decimal = Decimal("0.8")
    """Margin in use / equity from which everything halts."""
    statement_max_age_s: Decimal = Decimal("180")
    """The venue's word on equity and margin counts for so long, or for three reads of the account where that is longer;
    without a newer one networked quoting stops."""
    back_off_first_ms: int = 250
    """After a refusal the side waits this long, doubled at each further one."""
    back_off_max_ms: int = 5_000

    # maker policy
    maker_only: bool = True
    post_only_offset_bps: Decimal = Decimal("1.5")
    min_qty_pad: Decimal = Decimal("1.1")

    # risk
    inventory_max_quote: Decimal = Decimal("10000")
    """Per symbol, position with working, in-flight and unknown orders at their worst case."""
    total_max_quote: Decimal = Decimal("50000")
    order_notional_max_quote: Decimal = Decimal("1000")
    price_collar_bps: Decimal = Decimal("500")
    """Widest distance of an order's price from the mark (last public trade, else mid)."""
    mark_max_age_s: int = 60
    """A last trade older than this is no mark; mid is used."""
    edge_threshold_bps: Decimal = Decimal("1.5")
    markout_memory_s: int = 600
    """A measured adverse selection fades to nothing this long after the last sample."""
    markout_weight_pct: Decimal = Decimal("10")
    """Weight of a new sample in the moving average of markouts; the average starts at 0."""

    # fees (bps of notional; the rebate is what a maker gets back)
    fee_maker_bps: Decimal = Decimal("1.0")
    fee_taker_bps: Decimal = Decimal("7.0")
    rebate_maker_bps: Decimal = Decimal("2.0")

    fee_mode: Literal["fixed", "auto"] = "fixed"
    """`auto`: what the venue states (FeesRead) is what decisions count with."""
    require_fee_resolution: bool = False
    """Nothing is quoted before the venue stated its fees, and nothing where they are worse than the ones above."""

    # stops
    stale_after_ms: int = 30_000
    """No book update, or the same top of book, for longer than this: stale."""
    venue_slow_ms: int = 5_000
    """A create's answer that took longer, and none faster since: the venue is slow."""
    hysteresis_s: Decimal = Decimal("30")
    """An auto-resuming stop is released when its cause has been gone this long."""
    release_expires_s: int = 300
    """A request to release a stop is confirmed by a second person within this long, or not at all."""
    daily_loss_pct_hard: Decimal = Decimal("3")
    """Rolling-24 h loss in percent of `total_max_quote` that halts."""
    drawdown_pct_hard: Decimal = Decimal("5")
    """Drawdown from the peak of own equity in percent of `total_max_quote` that halts."""
    daily_loss_cap_quote: Decimal | None = None
    """Rolling-24 h loss that counts as a breach of the daily loss cap. None: no cap."""
    enforce_daily_loss_cap: bool = True
    """False: a breach is counted and told, nothing more."""
    daily_loss_cap_auto_hold: bool = True
    """True: a breach holds the bot (HELD); False: new orders are refused while it lasts."""
    budget_loss_quote: Decimal | None = None
    """Loss per strategy and UTC day that holds the bot."""
    budget_turnover_quote: Decimal | None = None
    """Traded notional per strategy and UTC day that holds the bot."""
    kill_total_max_quote: Decimal | None = None
    """Kill cap: total exposure that halts. Kill caps are ceilings that no grant, file or reload can raise."""
    kill_orders_per_min_max: int | None = None
    kill_loss_max_quote: Decimal | None = None
    """Kill cap: loss since the ledger began, or in 24 h, that halts."""
    position_drift_pct_max: Decimal = Decimal("5")
    orders_per_min_max: int = 300
    cancels_per_min_max: int = 150
    cancel_budget_per_min: int = 50
    """Single cancels of the order plan; amends and cancel-alls apart."""
    cancel_budget_reserve: int = 10
    """Part of the cancel budget that only stopping and clean-up may use."""
    cancel_budget_breaches_max: int = 3
    """So many breaches of the cancel budget within `cancel_budget_breach_window_s` halt."""
    cancel_budget_breach_window_s: int = 600
    fill_far_pct: Decimal = Decimal("1")
    """A fill further than this from the price that its order asked for is a warning."""
    amends_per_s_max: int = 10
    """What the venue takes of amends in a second; one more is answered as an unknown outcome and has to be probed."""
    amends_reserve_pct: int = 20
    """Part of that which quotes leave unused; amends that take size back may use it."""
    cancel_all_retry_ms: int = 500
    """A cancel-all that is not proven is tried again after this, doubled up to 5 s."""
    shutdown_deadline_s: Decimal = Decimal("10")
    """A shutdown whose cancel-all is not proven by then ends with exit code 1."""

    # reconciliation and unknown outcomes
    recon_interval_s: Decimal = Decimal("60")
    position_check_s: Decimal = Decimal("300")
    """Positions are compared at least this often, however rare the rest is."""
    foreign_orders: Literal["report", "cancel"] = "report"
    """What becomes of orders on the account that are not ours; `cancel` is for a dedicated account."""
    two_man_rule: bool = True
    """A restart on a journal holds until people (two) resume, or a grant of a new epoch comes."""
    recon_confirm_s: Decimal = Decimal("2.0")
    """A difference counts when a second read at least this long after the first shows it again."""
    receive_window_ms: int = 5_000
    not_found_margin_ms: int = 2_000
    """`Not found` is final once receive window + this have passed since the order was last sent."""
    confirm_timeout_ms: int = 2_000
    """Acknowledged but not confirmed on the private stream for this long: probe."""
    ack_timeout_s: Decimal = Decimal("30")
    """No acknowledgement for this long: cancel and probe."""
    finished_kept_s: int = 60
    """A finished order leaves memory after this."""

    # flatten after a lost grant
    flatten_after_s: Decimal = Decimal("30")
    flatten_band_bps: Decimal = Decimal("100")
    """The limit of a flatten order is at most this far past the opposite touch."""
    flatten_interval_s: Decimal = Decimal("1")
    """At least this long between two slices of one symbol."""

    def __post_init__(self) -> None:
        if not self.symbols:
            raise ValueError("symbols: none given, at least one is needed")
        if len(set(self.symbols)) != len(self.symbols):
            raise ValueError(f"symbols: {','.join(self.symbols)} names one twice")
        for name in _POSITIVE:
            _check(name, getattr(self, name), above_zero=True)
        for name in _NOT_NEGATIVE:
            _check(name, getattr(self, name), above_zero=False)
        if self.min_qty_pad < 1:
            raise ValueError(f"min_qty_pad: {self.min_qty_pad} is below 1")
        if self.inventory_max_quote > self.total_max_quote:
            raise ValueError(
                f"inventory_max_quote: {self.inventory_max_quote} is above total_max_quote {self.total_max_quote}"
            )
        if self.cancel_budget_reserve >= self.cancel_budget_per_min:
            raise ValueError(
                f"cancel_budget_reserve: {self.cancel_budget_reserve} is not below {self.cancel_budget_per_min}"
            )
        if self.amends_reserve_pct >= 100:
            raise ValueError(f"amends_reserve_pct: {self.amends_reserve_pct} is not below 100")
        for name in self.per_symbol:
            self.of(name)  # what a symbol has otherwise is held to the same bounds

    @property
    def statement_max_age_ns(self) -> int:
        """How long a statement counts."""
        read_every_s = min(self.recon_interval_s, self.position_check_s)
        return seconds_ns(max(self.statement_max_age_s, 3 * read_every_s))

    @property
    def first_statement_ns(self) -> int:
        """How long the first one may be missing: there is no older one to go by, and it is asked for all the time."""
        return min(self.statement_max_age_ns, seconds_ns(FIRST_STATEMENT_S))

    @property
    def needs_fees(self) -> bool:
        """Whether the venue has to be asked for its fees."""
        return self.fee_mode == "auto" or self.require_fee_resolution

    def of(self, symbol: str) -> EngineParameters:
        """The parameters of one symbol: `per_symbol["*"]` over these, then the symbol's own over both."""
        changes: dict[str, object] = {}
        for name in ("*", symbol):
            if name in self.per_symbol:
                found = msgspec.structs.asdict(self.per_symbol[name])
                changes.update({key: value for key, value in found.items() if value is not None})
        return msgspec.structs.replace(self, per_symbol={}, **changes) if changes else self


_POSITIVE: Final = (
    "half_spread_bps", "order_notional_quote", "max_active_orders", "max_open_orders", "back_off_first_ms",
    "back_off_max_ms", "inventory_max_quote", "total_max_quote", "order_notional_max_quote", "price_collar_bps",
    "mark_max_age_s", "markout_memory_s", "markout_weight_pct", "stale_after_ms", "daily_loss_pct_hard",
    "drawdown_pct_hard", "position_drift_pct_max", "orders_per_min_max", "cancels_per_min_max",
    "cancel_budget_per_min", "cancel_budget_breaches_max", "cancel_budget_breach_window_s", "fill_far_pct",
    "amends_per_s_max", "cancel_all_retry_ms", "shutdown_deadline_s", "recon_interval_s",
    "recon_confirm_s",
    "receive_window_ms", "not_found_margin_ms", "confirm_timeout_ms", "ack_timeout_s", "finished_kept_s",
    "flatten_interval_s", "risk_aversion_per_bps", "fill_decay_per_bps", "horizon_s", "volatility_memory_s",
    "volatility_min_bps", "max_open_positions", "max_total_notional_quote", "position_max_quote", "leverage_max",
    "margin_ratio_max", "statement_max_age_s", "daily_loss_cap_quote", "budget_loss_quote", "budget_turnover_quote",
    "kill_total_max_quote",
    "kill_orders_per_min_max", "kill_loss_max_quote", "position_check_s", "venue_slow_ms",
    "release_expires_s",
)  # fmt: skip
_NOT_NEGATIVE: Final = (
    "inventory_skew_bps", "requote_tolerance_bps", "requote_tolerance_ticks", "requote_qty_tolerance_pct",
    "requote_interval_ms", "post_only_offset_bps", "fee_maker_bps", "fee_taker_bps", "rebate_maker_bps",
    "hysteresis_s", "cancel_budget_reserve", "amends_reserve_pct", "flatten_after_s", "flatten_band_bps",
)  # fmt: skip


def _check(name: str, value: Decimal | int | None, *, above_zero: bool) -> None:
    if value is None:
        return  # a limit that is not set
    finite = not isinstance(value, Decimal) or value.is_finite()
    if not finite or value < 0 or (above_zero and value == 0):
        raise ValueError(f"{name}: {value} is not {'above' if above_zero else 'at least'} 0")
    if isinstance(value, Decimal) and name.endswith("_bps") and not name.endswith("_per_bps"):
        ubps(value, name)
        if value >= 10_000:
            raise ValueError(f"{name}: {value} is not below 10000")


def ubps(value: Decimal, name: str = "bps") -> int:
    """Basis points as whole micro basis points, exact. Raises ValueError past six decimals."""
    scaled = value * UBPS
    whole = int(scaled)
    if whole != scaled:
        raise ValueError(f"{name}: {value} has more than 6 decimals")
    return whole


def seconds_ns(value: Decimal) -> int:
    """Seconds as whole nanoseconds, rounded down."""
    return int(value * NS_PER_S)
