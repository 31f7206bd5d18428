"""The engine's own counters: whole numbers, every label set born at 0.

Time is counted in whole milliseconds (`mm_quoting_ms_total`, `mm_may_quote_ms_total`) because the journal's totals are
integers; `Counters.seconds` shows the same under the catalogue's names in seconds.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from bot.domain.counts import Counts
from bot.domain.order import Side
from bot.engine.stop import STOPS
from bot.metrics import BLOCK_REASONS, DIVERGENCE_TYPES, QUOTING_SIDES

Key = tuple[str, tuple[str, ...]]

REJECT_REASONS: Final = ("filters", "funds", "limits", "permission", "other")
SYMBOL_FREEZE: Final = ("garbled_data", "market")
"""Reason and class of a symbol that is frozen by itself; no stop of the whole."""

LIMITS: Final = (
    "state",
    "grant",
    "inventory",
    "total",
    "order_notional",
    "price_collar",
    "active_orders",
    "edge",
    "order_rate",
    "cancel_rate",
    "cancel_budget",
    "daily_loss",
    "drawdown",
    "position_drift",
    "open_positions",
    "leverage",
    "daily_loss_cap",
    "strategy_budget",
    "margin_ratio",
    "kill_caps",
    "fees",
)

_SECONDS_OF: Final = {
    "mm_quoting_ms_total": "mm_quoting_seconds_total",
    "mm_may_quote_ms_total": "mm_may_quote_seconds_total",
}

_FUNDS: Final = frozenset({110004, 110007, 110012, 170131})
_PRICE_OR_SIZE: Final = frozenset({110003, 110094, 170132, 170133, 170134, 170135, 170136, 170137, 170140})
_PERMISSION: Final = frozenset({10003, 10004, 10005, 10010, 10029})
_LIMITS: Final = frozenset({110020})


def reject_reason(code: int, text: str) -> str:
    """The label of a venue's refusal. 10001 (bad parameter) is a filter where its text names price or quantity."""
    if code in _PRICE_OR_SIZE or (code == 10001 and any(word in text.lower() for word in ("qty", "quantity", "price"))):
        return "filters"
    for codes, reason in ((_FUNDS, "funds"), (_PERMISSION, "permission"), (_LIMITS, "limits")):
        if code in codes:
            return reason
    return "other"


class Counters:
    """`counts[(metric name, label values in catalogue order)]`."""

    def __init__(self, symbols: Iterable[str]) -> None:
        self._counts: Counts[Key] = Counts(_label_sets(tuple(symbols)))
        self._raised: dict[Key, int] = {}
        """by how much since somebody looked last: so raising one writes nothing down"""

    @property
    def counts(self) -> Counts[Key]:
        """As they are now; later ones are in it when it is asked for again."""
        if self._raised:
            for key, by in self._raised.items():
                self._counts[key] = self._counts[key] + by
            self._raised.clear()
        return self._counts

    def add(self, name: str, *labels: str, by: int = 1) -> None:
        """Raises KeyError for a label set that was not born at 0: a counter must not appear at 1."""
        self.raise_by((name, labels), by)

    def raise_by(self, key: Key, by: int) -> None:
        """The same for who keeps the key."""
        before = self._raised.get(key)
        if before is None:
            if key not in self._counts:
                raise KeyError(key)
            before = 0
        self._raised[key] = before + by

    def get(self, name: str, *labels: str) -> int:
        return self.counts[(name, labels)]

    def reset(self) -> None:
        """Back to birth: what an earlier process counted stands in the journal's totals already."""
        counts = self.counts
        for key in counts:
            counts[key] = 0

    @property
    def seconds(self) -> dict[Key, float]:
        """The time counters under the catalogue's names, seconds. For showing; nothing is decided by it."""
        return {
            (_SECONDS_OF[name], labels): value / 1000
            for (name, labels), value in self.counts.items()
            if name in _SECONDS_OF
        }


def _label_sets(symbols: tuple[str, ...]) -> Iterable[Key]:
    for symbol in symbols:
        for side in Side:
            for name in ("mm_orders_placed_total", "mm_orders_filled_total", "mm_post_only_adjustments_total"):
                yield name, (symbol, side.value)
        for name in (
            "mm_orders_cancelled_total",
            "mm_post_only_rejects_total",
            "mm_crossing_orders_total",
            "mm_taker_fills_total",
            "mm_filter_violations_total",
            "mm_may_quote_ms_total",
        ):
            yield name, (symbol,)
        for reason in REJECT_REASONS:
            yield "mm_orders_rejected_total", (symbol, reason)
        for reason in BLOCK_REASONS:
            yield "mm_orders_blocked_total", (symbol, reason)
        for sides in QUOTING_SIDES:
            yield "mm_quoting_ms_total", (symbol, sides)
    for stop in STOPS.values():
        yield "mm_freeze_events_total", (stop.reason, stop.stop_class)
    yield "mm_freeze_events_total", SYMBOL_FREEZE
    for kind in DIVERGENCE_TYPES:
        yield "mm_recon_divergence_total", (kind,)
    for limit in LIMITS:
        yield "mm_limit_breaches_total", (limit,)
    yield "mm_recon_runs_total", ()
    yield "mm_ws_drops_undetected_total", ()
    yield "mm_duplicate_operations_total", ()
