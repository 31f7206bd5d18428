"""What simulated runs decide and are told, as digests: the compiled bot has to say the same as its sources.

    python -m tests.support.digests [--few]

One line of JSON: the name of each run and the SHA-256 of all its events, intents, counters and what the venue says the
account is worth. The lanes are told apart, so a run of the wire lane goes through adapter, venue's face and link too.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import logging
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import msgspec

from bot.domain.events import Event, Started
from bot.domain.intent import Intent
from bot.engine.engine import Engine
from bot.simulation import Outcome, Scenario, run_kernel, run_wire
from bot.simulator.fault_file import load_fault_file
from tests.support import several
from tests.support.fault_runs import FOLDER, PLANS, SEGMENTS
from tests.support.lanes import at_fifty_a_second, at_one_a_second, demo

HEAVY = {"requote_tolerance_bps": 0, "requote_tolerance_ticks": 0, "requote_interval_ms": 100}
CALM = {"requote_tolerance_bps": 0, "requote_tolerance_ticks": 5}


def _plan(name: str, seed: int) -> Scenario:
    plan = load_fault_file(FOLDER / f"{name}.yaml")
    symbols = 1 + seed % 2
    return demo(
        seed, 15, faults=plan._replace(seed=plan.seed + seed), symbols=several.symbols(symbols),
        more_instruments=several.instruments(symbols)[1:], trade_socket=seed % 4 >= 2, segments=SEGMENTS,
    )  # fmt: skip


def scenarios(*, few: bool) -> dict[str, tuple[bool, Scenario]]:
    """Name → (whether it goes through the wire lane, the scenario)."""
    seeds = range(1, 3) if few else range(1, 9)
    found: dict[str, tuple[bool, Scenario]] = {}
    for seed in seeds:
        found[f"kernel demo {seed}"] = (False, demo(seed, 60))
        found[f"kernel heavy {seed}"] = (False, demo(seed, 30, orders_per_min_max=10_000, **HEAVY))
        found[f"kernel calm {seed}"] = (False, demo(seed, 60, **CALM))
        found[f"kernel slow {seed}"] = (False, demo(seed, 900, market=at_one_a_second, tick_s=1.0))
        found[f"wire demo {seed}"] = (True, demo(seed, 20, trade_socket=seed % 2 == 0))
    for seed in range(1, 1 + max(len(seeds), len(PLANS))):
        found[f"wire plan {seed}"] = (True, _plan(PLANS[seed % len(PLANS)], seed))
    for kind in ("crossing", "loss", "foreign_order"):
        found[f"kernel {kind}"] = (False, demo(5, 25, faults_at_s={6: (kind, {})}))
    found["kernel fast"] = (False, demo(3, 10, market=at_fifty_a_second))
    found["kernel grant lost"] = (False, demo(8, 30, granted_s=8, flatten_after_s=5))
    return found


class Digest:
    """Takes in every event with what was decided."""

    def __init__(self) -> None:
        self.whole = hashlib.sha256()

    def __call__(self, event: Event, intents: list[Intent], _engine: Engine) -> None:
        if isinstance(event, Started):
            event = msgspec.structs.replace(event, version="")  # of the sources, whatever they decide
        self.whole.update(msgspec.json.encode((event, intents)))

    def end(self, outcome: Outcome) -> str:
        engine = outcome.engine
        told = (
            outcome.exit_code, outcome.ended_ns, str(outcome.venue_equity_quote),
            sorted(map(str, engine.counts.items())), repr(engine.pnl()),
        )  # fmt: skip
        self.whole.update(repr(told).encode())
        return self.whole.hexdigest()


def digests(*, few: bool, ran: Callable[[str], None] = lambda _: None) -> dict[str, str]:
    """The digest of every run."""
    said = {}
    for name, (on_wire, scenario) in scenarios(few=few).items():
        digest = Digest()
        with tempfile.TemporaryDirectory(prefix="digest-") as folder:
            outcome = run_wire(scenario, Path(folder), digest) if on_wire else run_kernel(scenario, digest)
            said[name] = digest.end(outcome)
            if on_wire:
                log = (Path(folder) / "bot.log").read_bytes()
                said[f"{name}, log"] = hashlib.sha256(log).hexdigest()
        ran(name)
    return said


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.support.digests")
    parser.add_argument("--few", action="store_true", help="two seeds of each kind instead of eight")
    chosen = parser.parse_args(arguments)
    logging.disable(logging.WARNING)
    found = digests(few=chosen.few)
    files = [
        str(getattr(module, "__file__", "")) for name, module in list(sys.modules.items()) if name.startswith("bot")
    ]
    compiled = sum(name.endswith(".so") for name in files)
    print(json.dumps({"bot": sys.modules["bot"].__file__, "compiled": compiled, "digests": found}, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
