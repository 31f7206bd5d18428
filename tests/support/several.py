"""Several symbols in the wire lane: one exchange that lists the generated instrument under as many names."""

from __future__ import annotations

import msgspec

from bot.domain.instrument import Instrument
from bot.simulator.listings import GENERATED


def instruments(count: int) -> tuple[Instrument, ...]:
    """The generated instrument under as many names; the first keeps its own."""
    others = (msgspec.structs.replace(GENERATED, symbol=f"SYM{number}USDT") for number in range(2, count + 1))
    return (GENERATED, *others)


def symbols(count: int) -> tuple[str, ...]:
    """Their names."""
    return tuple(instrument.symbol for instrument in instruments(count))
