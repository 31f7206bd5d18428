"""Where a strategy plugs in: one row for each name that a settings file may give."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from bot.domain.instrument import Instrument
from bot.domain.strategy_name import StrategyName
from bot.engine.parameters import EngineParameters
from bot.engine.quoting import AvellanedaStoikov, SpreadAndSkew, Strategy

STRATEGIES: Final[Mapping[StrategyName, Callable[[EngineParameters, Instrument], Strategy]]] = {
    "spread_and_skew": SpreadAndSkew,
    "avellaneda_stoikov": AvellanedaStoikov,
}
"""Name to what is made of the parameters of a symbol and its instrument. A strategy has no memory."""


def strategy_of(parameters: EngineParameters, instrument: Instrument) -> Strategy:
    """The strategy that the configuration names, for one instrument. `parameters`: those of that symbol."""
    return STRATEGIES[parameters.strategy](parameters, instrument)
