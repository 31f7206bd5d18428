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
from bot.simulator.link import Latency
from bot.simulator.market import GeneratedMarket, MarketParameters

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


_OF_SCENARIO = (
    *(
        "granted_s",
        "faults_at_s",
        "faults",
        "fees",
        "market",
        "instrument",
        "more_instruments",
        "trade_socket",
        "batches",
        "link",
        "tick_s",
        "funding_ns",
        "segments",
    ),
)


def demo(seed: int, span_s: int, **changes: Any) -> Scenario:
    """The demo's settings; `changes` go to the scenario where it has such a field, else to the engine's parameters."""
    scenario = {name: changes.pop(name) for name in _OF_SCENARIO if name in changes}
    if "latency" in changes:
        scenario["latency"] = Latency(*changes.pop("latency"))
    decimals = {name for name, value in DEMO.items() if isinstance(value, Decimal)} | {"flatten_after_s"}
    exact = {name: Decimal(str(value)) if name in decimals else value for name, value in changes.items()}
    return Scenario(seed, span_s, EngineParameters(**(DEMO | exact)), **scenario)


def at_one_a_second(seed: int) -> GeneratedMarket:
    """The generated market with one update a second."""
    return GeneratedMarket(seed, MarketParameters(step_ns=1_000_000_000))


def at_fifty_a_second(seed: int) -> GeneratedMarket:
    """The generated market with fifty updates a second: more than may be asked to follow it."""
    return GeneratedMarket(seed, MarketParameters(step_ns=20_000_000))


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
