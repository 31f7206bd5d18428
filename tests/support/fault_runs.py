"""One run of the whole bot under a plan of faults of configs/faults, with everything checked. For suite and soak.

Odd seeds trade two symbols of one account, even ones one; every second pair of seeds enters its orders by the trade
socket and in batches, as a live process does.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from bot.simulation import run_wire
from bot.simulator.fault_file import load_fault_file
from tests.support import several
from tests.support.invariants import Invariants, check_replay
from tests.support.lanes import demo

FOLDER: Final = Path(__file__).parents[2] / "configs" / "faults"
PLANS: Final = ("mild", "rough", "outages", "wrong", "insolvent")
SPAN_S: Final = 25
QUOTES_MIN: Final = 2
SEGMENTS: Final = (1 << 20, 1_000)
"""All market data of a run is kept: without it there is nothing to replay."""


def play(name: str, seed: int, folder: Path) -> Invariants:
    """Run it. Raises AssertionError that names plan and seed."""
    symbols = 1 + seed % 2
    plan = load_fault_file(FOLDER / f"{name}.yaml")
    watch = Invariants(f"plan {name}, seed {seed}")
    scenario = demo(
        seed,
        SPAN_S,
        faults=plan._replace(seed=plan.seed + seed),
        symbols=several.symbols(symbols),
        more_instruments=several.instruments(symbols)[1:],
        trade_socket=seed % 4 >= 2,
        segments=SEGMENTS,
    )
    watch.check_end(run_wire(watch.beside(scenario), folder, watch))
    check_replay(watch, folder)
    assert watch.quotes >= QUOTES_MIN, f"plan {name}, seed {seed}: {watch.quotes} orders"
    return watch
