"""Freeze thresholds as they hold now, per symbol, and what a reload of their file may change.

Tightening holds at once. Loosening is refused while a grant is held: whoever granted did so under the tighter ones. A
refused value keeps what held before; it is taken when the file is read again without a grant.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Final

import msgspec

from bot.domain.events import Thresholds
from bot.engine.parameters import NS_PER_MS, UBPS, EngineParameters, ubps

Value = Decimal | int
TIGHTER_IS_HIGHER: Final = {"edge_threshold_bps": True, "stale_after_ms": False, "venue_slow_ms": False}


class Held:
    """One symbol's thresholds, as whole numbers for the hot path. The same object for as long as the run lasts."""

    __slots__ = ("edge_ubps", "slow_ms", "stale_ns")

    def __init__(self) -> None:
        self.edge_ubps = 0
        self.stale_ns = 0
        self.slow_ms = 0


class Change(msgspec.Struct, frozen=True):
    """What a reload did, or would have done, to one threshold of one symbol."""

    symbol: str
    name: str
    before: Value
    after: Value
    refused: bool


class FreezeThresholds:
    """Of all symbols of a run."""

    def __init__(self, parameters: EngineParameters) -> None:
        self._base: dict[str, dict[str, Value]] = {}
        self._now: dict[str, dict[str, Value]] = {}
        self.held: dict[str, Held] = {symbol: Held() for symbol in parameters.symbols}
        self.slow_ms = 0
        """the tightest of all symbols'"""
        for symbol in parameters.symbols:
            own = parameters.of(symbol)
            values: dict[str, Value] = {name: getattr(own, name) for name in TIGHTER_IS_HIGHER}
            self._base[symbol] = values
            self._set(symbol, dict(values))

    def _set(self, symbol: str, values: dict[str, Value]) -> None:
        self._now[symbol] = values
        held = self.held[symbol]
        held.edge_ubps = ubps(Decimal(values["edge_threshold_bps"]))
        held.stale_ns = int(values["stale_after_ms"]) * NS_PER_MS
        held.slow_ms = int(values["venue_slow_ms"])
        self.slow_ms = min([one.slow_ms for one in self.held.values()])

    def reload(self, wanted: dict[str, Thresholds], *, granted: bool) -> list[Change]:
        """Take over a whole file; what it does not name is as the run was started with. Every change, in order."""
        changes: list[Change] = []
        for symbol, base in self._base.items():
            now = dict(self._now[symbol])
            for name, higher_is_tighter in TIGHTER_IS_HIGHER.items():
                after = base[name]
                for key in ("*", symbol):
                    given = getattr(wanted[key], name) if key in wanted else None
                    after = after if given is None else given
                before = now[name]
                if after == before:
                    continue
                tighter = after > before if higher_is_tighter else after < before
                refused = granted and not tighter
                changes.append(Change(symbol, name, before, after, refused))
                if not refused:
                    now[name] = after
            self._set(symbol, now)
        return changes

    def edge_bps(self, symbol: str) -> Decimal:
        """For telling."""
        return Decimal(self.held[symbol].edge_ubps) / UBPS
