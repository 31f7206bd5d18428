"""The names that a configuration may give a strategy. Each has its row in `bot.engine.strategies`."""

from __future__ import annotations

from typing import Literal

StrategyName = Literal["spread_and_skew", "avellaneda_stoikov"]
