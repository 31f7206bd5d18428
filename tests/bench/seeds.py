"""Seeds x plans of faults: the whole bot in simulated time, with every invariant after every step.

    python -m tests.bench.seeds [--seeds 40] [--first 1000]

Every plan of configs/faults is played under each seed; every second pair of seeds enters its orders by the trade socket
and in batches. What each run journaled is replayed and has to decide the same. Prints one line for each run that does
not hold, with its plan and seed; exit code 1 where there is one.
"""

from __future__ import annotations

import argparse
import logging
import sys
import tempfile
import time
from pathlib import Path

from tests.support import fault_runs

SEEDS = 40


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.seeds")
    parser.add_argument("--seeds", type=int, default=SEEDS)
    parser.add_argument("--first", type=int, default=1_000)
    chosen = parser.parse_args(arguments)
    if chosen.seeds < 1 or chosen.first < 0:
        parser.error(f"--seeds {chosen.seeds} --first {chosen.first}: allowed are at least 1 and 0")
    logging.disable(logging.WARNING)  # the adapter tells of every stream that the plans cut
    broken, runs, steps, began_s = 0, 0, 0, time.process_time()
    for seed in range(chosen.first, chosen.first + chosen.seeds):
        for plan in fault_runs.PLANS:
            runs += 1
            with tempfile.TemporaryDirectory(prefix="seeds-") as folder:
                try:
                    steps += fault_runs.play(plan, seed, Path(folder)).steps
                except AssertionError as error:
                    broken += 1
                    print(f"plan {plan}, seed {seed}: {error}", flush=True)
    took_s = time.process_time() - began_s
    print(f"{runs} runs, {steps:,} steps, every invariant after each: {broken} broken; {took_s:.0f} s of CPU")
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
