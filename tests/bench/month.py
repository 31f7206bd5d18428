"""A simulated month in the kernel lane: one symbol, one update a second, and what such a run must have been.

    python -m tests.bench.month [--days 30] [--seed 1] [--busy]

The generated market as all benchmarks have it (`tests.bench.feed.MARKET`); `--busy`: as the demo has it, where somebody
sweeps through the quotes nearly every second. Venue and engine in one process. CPU time; where fewer days are run, what
a month of them would take. Exit code 1 where the run says nothing: it ended in error, did not trade on every day, the
venue knows other fills than the engine, orders stay behind, or memory grows after the fifth day: everything that fills
up is full then, and the venue, which knows a client order id for ever, keeps the bot's as runs of numbers. A target
that is not met is printed as not met.
"""

from __future__ import annotations

import argparse
import resource
import sys
import time
from dataclasses import replace
from pathlib import Path

import bot
from bot.engine.engine import Engine
from bot.simulation import Outcome, run_kernel
from bot.simulator.market import GeneratedMarket
from bot.simulator.timeline import NS_PER_S
from tests.bench.feed import MARKET
from tests.bench.soak import scenario
from tests.support.lanes import at_one_a_second

DAYS = 30
DAY_S = 86_400
CPU_S_MAX = 30.0
"""For thirty days: the aim. It is shown, not asserted: it is a matter of the machine as well."""
NOBODY_HALTS = {"daily_loss_pct_hard": 50, "drawdown_pct_hard": 50}
"""Percent. In a month some day loses more than the usual limit, and a bot that has halted measures nothing."""
FILLS_PER_DAY_MIN = 100
ORDERS_KEPT_MAX = 500
FULL_DAYS = 5
"""After so many everything that fills up is full: last of all the newest 10,000 execution ids."""
GROWTH_MB_MAX = 3.0
"""From then on: steps of the allocator."""


def calm(seed: int) -> GeneratedMarket:
    """The market of the benchmarks with one update a second."""
    return GeneratedMarket(seed, replace(MARKET, step_ns=NS_PER_S))


class Looks:
    """What stood at the end of each simulated day."""

    def __init__(self) -> None:
        self.rss_mb: list[float] = []
        self.fills: list[int] = []
        self.orders_kept: list[int] = []

    def look(self, engine: Engine) -> None:
        self.rss_mb.append(rss_mb())
        self.fills.append(engine.known.ledger.fills)
        self.orders_kept.append(len(engine.known.orders))
        told = f"day {len(self.fills)}: {self.fills[-1]} fills, {self.rss_mb[-1]:.1f} MB"
        print(told, file=sys.stderr, flush=True)


def rss_mb() -> float:
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * resource.getpagesize() / 2**20


def faults(outcome: Outcome, looks: Looks, days: int) -> list[str]:
    """Why the run says nothing; empty where it does."""
    found = []
    if outcome.exit_code != 0:
        found.append(f"exit code {outcome.exit_code}")
    told, made = outcome.engine.known.ledger.fills, outcome.account.executions_count
    if told != made:
        found.append(f"told of {told} fills, the venue made {made}")
    if outcome.account.open_orders:
        found.append(f"{len(outcome.account.open_orders)} orders left at the venue")
    each = [after - before for before, after in zip([0, *looks.fills], looks.fills, strict=False)]
    if len(each) != days or min(each) < FILLS_PER_DAY_MIN:
        found.append(f"fills of each day {each}, at least {FILLS_PER_DAY_MIN} on {days} days are wanted")
    if max(looks.orders_kept, default=0) > ORDERS_KEPT_MAX:
        found.append(f"{max(looks.orders_kept)} orders kept, at most {ORDERS_KEPT_MAX}")
    if days > FULL_DAYS and looks.rss_mb[-1] - looks.rss_mb[FULL_DAYS - 1] > GROWTH_MB_MAX:
        found.append(f"memory of each day {looks.rss_mb} MB, at most {GROWTH_MB_MAX} more from day {FULL_DAYS} on")
    return found


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.month")
    parser.add_argument("--days", type=int, default=DAYS, help="simulated days, 1 to 365")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--busy", action="store_true", help="the demo's market")
    args = parser.parse_args(argv)
    if not 1 <= args.days <= 365:
        parser.error(f"--days {args.days}: allowed are 1 to 365")
    span_s = args.days * DAY_S
    market = at_one_a_second if args.busy else calm
    wanted = scenario("calm", span_s + 1, args.seed, market=market, tick_s=1.0, finished_kept_s=60, **NOBODY_HALTS)
    looks = Looks()
    began_s = time.process_time()
    outcome = run_kernel(wanted, daily=looks.look)
    cpu_s = time.process_time() - began_s
    broken = faults(outcome, looks, args.days)
    month_s = cpu_s / args.days * DAYS
    compiled = "compiled" if "compiled" in Path(str(bot.__file__)).parts else "interpreted"
    print(
        f"{args.days} simulated days, {compiled}: {cpu_s:.1f} CPU s, {cpu_s / span_s * 1e6:.1f} us a simulated second,"
    )
    print(f"{span_s / cpu_s:,.0f} x real time; {outcome.engine.known.ledger.fills:,} fills; memory after the first day")
    print(f"{looks.rss_mb[0] if looks.rss_mb else 0:.1f} MB, at the end {rss_mb():.1f} MB")
    for one in broken:
        print(f"says nothing: {one}")
    word = "met" if month_s <= CPU_S_MAX else f"NOT met, {month_s / CPU_S_MAX:.1f} x short"
    print(f"a month of 30 days          {month_s:8.1f} CPU s   <= {CPU_S_MAX:.0f}   {word}")
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
