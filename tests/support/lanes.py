"""A demo-like scenario, and everything a run decided and was told, for comparing lanes."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec

from bot.domain.events import Event, Filled
from bot.domain.intent import Intent
from bot.engine.engine import Engine
from bot.engine.parameters import EngineParameters
from bot.simulation import Outcome, Scenario, run_kernel, run_wire

DEMO: dict[str, Any] = {
    "symbols": ("BTCUSDT",),
    "mode": "live",
    "half_spread_bps": Decimal(6),
    "order_notional_quote": Decimal(150),
    "inventory_skew_bps": Decimal(4),
    "order_notional_max_quote": Decimal(250),
    "inventory_max_quote": Decimal(500),
    "total_max_quote": Decimal(2000),
    "edge_threshold_bps": Decimal("0.5"),
    "post_only_offset_bps": Decimal(2),
    "min_qty_pad": Decimal("1.2"),
    "stale_after_ms": 3_000,
    "receive_window_ms": 2_000,
    "recon_interval_s": Decimal(2),
}


def demo(seed: int, span_s: int, **changes: Any) -> Scenario:
    """The demo's settings; `changes` go to the engine's parameters."""
    return Scenario(seed, span_s, EngineParameters(**(DEMO | changes)))


class Kept:
    """Every event and every intent of a run, as the journal would write them."""

    def __init__(self) -> None:
        self.events: list[bytes] = []
        self.intents: list[bytes] = []
        self.fills: list[Filled] = []

    def __call__(self, event: Event, intents: list[Intent], engine: Engine) -> None:
        self.events.append(msgspec.json.encode(event))
        self.intents += [msgspec.json.encode(intent) for intent in intents]
        if isinstance(event, Filled):
            self.fills.append(event)


def both(scenario: Scenario, folder: Path) -> tuple[tuple[Outcome, Kept], tuple[Outcome, Kept]]:
    """(wire lane, kernel lane)."""
    folder.mkdir()
    wire, kernel = Kept(), Kept()
    return (run_wire(scenario, folder, wire), wire), (run_kernel(scenario, kernel), kernel)
