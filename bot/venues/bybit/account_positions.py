"""Positions of an account as other processes than the bot read them: row by row, so that one hides no other.

A read in which something did not fit, or failed after something was read, is not whole: it raises what it has found
all the same, for whoever must flatten. It proves nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from bot.venues.bybit import calls, decode, wire
from bot.venues.port import Position, VenueError, VenueGarbled


class PositionsNotWhole(VenueError):
    """There are these positions, and others or other things that could not be read. The message says the first."""

    def __init__(self, error: VenueError, positions: Sequence[Position]) -> None:
        super().__init__(str(error), error.code)
        self.positions = list(positions)


class HeldPositions:
    """What a read over all its pages has found so far."""

    def __init__(self) -> None:
        self._rows: dict[str, list[wire.PositionRow]] = {}
        self._unfit: set[str] = set()
        self._failed: VenueError | None = None

    def ask(self, symbol: str) -> None:
        """This symbol is asked for: no row of it is no position that is flat."""
        self._rows.setdefault(symbol, [])

    def take(self, raw: msgspec.Raw, asked: str) -> None:
        """One row. `asked`: the symbol that was asked for, empty for all; another's rows are left out."""
        try:
            row = wire.decode(wire.PositionRow, raw, calls.POSITIONS)
        except VenueGarbled as error:
            symbol = _symbol_of(raw) or asked
            if asked in ("", symbol):
                self._unfit.add(symbol)
                self.fail(VenueGarbled(f"{error}, in the row of {symbol or 'no symbol'}"))
            return
        if asked in ("", row.symbol):
            self._rows.setdefault(row.symbol, []).append(row)

    def fail(self, error: VenueError) -> None:
        """Something could not be read."""
        self._failed = self._failed or error

    def whole(self) -> list[Position]:
        """One a symbol. Where that is not all: raises what failed first, as PositionsNotWhole where any is known.

        A symbol of which one row does not fit has no position that is known.
        """
        found: list[Position] = []
        for symbol, rows in self._rows.items():
            if symbol in self._unfit or (not rows and self._failed is not None):
                continue
            try:
                found.append(decode.position(rows, symbol))
            except VenueGarbled as error:
                self.fail(VenueGarbled(f"{calls.POSITIONS}: {error}, in the row of {symbol}"))
        if self._failed is None:
            return found
        if found:
            raise PositionsNotWhole(self._failed, found) from None
        raise self._failed


def _symbol_of(raw: msgspec.Raw) -> str:
    """Empty where the row does not show it as text."""
    try:
        shown: dict[str, Any] = wire.decode(dict, raw, calls.POSITIONS)
    except VenueGarbled:
        return ""
    symbol = shown.get("symbol")
    return symbol if isinstance(symbol, str) else ""
