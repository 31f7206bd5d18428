"""The bot's edges, measured in one run on loopback: orders, sockets, overtaking, and what it weighs.

    python -m tests.bench.edges [--orders 150] [--messages 30000] [--rounds 15] [--backlog 50000] [--trials 100]
                                [--ticks 100] [--json]

Orders and sockets: every client on the same stub, in interleaved rounds, CPU time of the client's own process, medians,
ratios of medians of one run: a busy machine slows everybody alike. Overtaking and ticks are wall time of a real bot
process: on a busy machine they are upper bounds. Exit code 1 only where a run says nothing: an order that was not
created or not rightly signed, books that differ, a backlog that was read before the cancel-all came. A target that is
not met is printed as not met.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
from typing import Any, NamedTuple

from tests.bench import orders, overtaking, sockets
from tests.bench.engine import ROOT, Invalid, worker
from tests.bench.orders import Cost, share
from tests.bench.overtaking import Overtaking
from tests.bench.sockets import Taken

EDGES_MS = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1_000)
BAR = 40


class Target(NamedTuple):
    """One number that is promised, both with their unit."""

    what: str
    value: str
    wanted: str
    met: bool


class Measured(NamedTuple):
    costs: list[Cost]
    taken: list[Taken]
    overtaking: Overtaking


def measure(args: argparse.Namespace) -> Measured:
    """Raises Invalid."""
    argv = [sys.executable, "-m", "tests.bench.stub", "--messages", str(args.messages)]
    with worker("stub", argv, ROOT) as stub:
        ready = json.loads(stub.line())
        costs = orders.contest(stub, ready, args.orders, args.rounds)
        _say("orders created")
        taken = sockets.contest(ready, args.messages, args.rounds)
        _say("streams taken")
    overtaken = overtaking.measure(args.backlog, args.trials, args.ticks)
    _say("backlogs overtaken")
    return Measured(costs, taken, overtaken)


def _say(what: str) -> None:
    print(what, file=sys.stderr, flush=True)


def targets(found: Measured) -> list[Target]:
    """What is promised. Pure."""
    by_name = {cost.client: cost for cost in found.costs}
    ours, rows = by_name[orders.REST], []  # by the trade socket no order is signed: its greeting is
    for name, most in orders.RATIOS_MAX.items():
        theirs = by_name[name]
        said = f"order create, signed, {{}}, against {name}"
        rows.append(_at_most(said.format("p50"), ours.p50_us / theirs.p50_us, most, "x", 2))
        rows.append(_at_most(said.format("CPU"), ours.cpu_us / theirs.cpu_us, most, "x", 2))
    by_client = {one.client: one for one in found.taken}
    stream, peer = by_client[sockets.SLIPWAY], by_client[sockets.PICOWS]
    rows += [
        _at_least("socket path, against picows", stream.per_s / peer.per_s, sockets.RATIO_MIN, "x", 2),
        _at_least("socket path", stream.per_s, sockets.PER_S_MIN, "/s", 0),
        _at_most(
            f"cancel-all over {found.overtaking.backlog:,} messages, p99",
            share(found.overtaking.cancel_all_ms, 0.99), overtaking.CANCEL_ALL_P99_MS_MAX, "ms", 1,
        ),
        _at_most("memory of the bot at start", found.overtaking.rss_start_mb, overtaking.RSS_MB_MAX, "MB", 1),
    ]  # fmt: skip
    return rows


def beside(found: Measured) -> list[str]:
    """What an order by the trade socket comes to, where none is signed by itself: promised is nothing of it."""
    by_name = {cost.client: cost for cost in found.costs}
    ours = by_name[orders.SLIPWAY]
    return [
        f"by the trade socket, against {name}: p50 {ours.p50_us / by_name[name].p50_us:.2f} x, "
        f"CPU {ours.cpu_us / by_name[name].cpu_us:.2f} x"
        for name in orders.RATIOS_MAX
    ]


def _at_most(what: str, value: float, most: float, unit: str, digits: int) -> Target:
    return Target(what, f"{value:,.{digits}f} {unit}", f"≤ {most:,.{min(digits, 1)}f} {unit}", value <= most)


def _at_least(what: str, value: float, least: float, unit: str, digits: int) -> Target:
    return Target(what, f"{value:,.{digits}f} {unit}", f"≥ {least:,.{min(digits, 1)}f} {unit}", value >= least)


def table(found: Measured) -> str:
    """For people, 80 columns."""
    lines = [f"{'order create':16} {'p50 us':>10} {'p99 us':>10} {'CPU us':>10}"]
    lines += [f"{one.client:16} {one.p50_us:10,.0f} {one.p99_us:10,.0f} {one.cpu_us:10,.1f}" for one in found.costs]
    lines += ["", f"{'socket path':16} {'messages':>10} {'CPU us':>10} {'messages/s':>12}"]
    lines += [
        f"{one.client:16} {one.messages:10,} {one.cpu_s / one.messages * 1e6:10.2f} {one.per_s:12,.0f}"
        for one in found.taken
    ]
    over = found.overtaking
    cost_us = share(over.drained_cpu_ms, 0.5) * 1e3 / over.backlog
    read_p50, read_p99 = (share([float(one) for one in over.read_before], part) for part in (0.5, 0.99))
    lines += [
        "",
        *distribution(f"freeze → cancel-all at the venue over {over.backlog:,} queued messages", over.cancel_all_ms),
        f"  messages read before it: p50 {read_p50:,.0f}   p99 {read_p99:,.0f}   worst {max(over.read_before):,}",
        f"  (reading it all took {share(over.drained_ms, 0.5):,.0f} ms; the whole bot: {cost_us:.1f} us CPU a message)",
        "",
        *distribution("tick → order on the wire", over.tick_ms),
        "",
        f"{'':44} {'measured':>12}  {'wanted':>12}",
    ]
    lines += [
        f"{one.what:44} {one.value:>12}  {one.wanted:>12}  {'met' if one.met else 'NOT met'}" for one in targets(found)
    ]
    lines += ["", *beside(found)]
    lines += ["", f"load of this machine at the end: {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores"]
    return "\n".join(lines)


def distribution(title: str, values_ms: list[float]) -> list[str]:
    """Quantiles and a bar for every range of milliseconds."""
    p50, p90, p99 = (share(values_ms, part) for part in (0.5, 0.9, 0.99))
    lines = [title, f"  p50 {p50:.1f} ms   p90 {p90:.1f} ms   p99 {p99:.1f} ms   worst {max(values_ms):.1f} ms"]
    low = 0.0
    for high in (*EDGES_MS, float("inf")):
        count = sum(low <= value < high for value in values_ms)
        if count:
            name = f"{low:,.0f} to {high:,.0f} ms" if high < float("inf") else f"from {low:,.0f} ms"
            lines.append(f"  {name:>16} {count:5}  {'#' * max(1, round(BAR * count / len(values_ms)))}")
        low = high
    return lines


def as_json(found: Measured) -> str:
    """Everything that was measured, and what was promised."""
    shown: dict[str, Any] = {
        "orders": [one._asdict() for one in found.costs],
        "sockets": [one._asdict() | {"messages_per_s": one.per_s} for one in found.taken],
        "overtaking": found.overtaking._asdict(),
        "targets": [one._asdict() for one in targets(found)],
        "load": os.getloadavg()[0],
    }
    return json.dumps(shown, sort_keys=True, indent=2)


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.edges")
    least = {"orders": 50, "messages": 1_000, "rounds": 1, "backlog": 10_000, "trials": 1, "ticks": 1}
    default = {"orders": 150, "messages": 30_000, "rounds": 15, "backlog": 50_000, "trials": 100, "ticks": 100}
    for name, value in default.items():
        parser.add_argument(f"--{name}", type=int, default=value)
    parser.add_argument("--json", action="store_true", help="for programs")
    args = parser.parse_args(argv)
    for name, low in least.items():
        if getattr(args, name) < low:
            parser.error(f"--{name}: {getattr(args, name)} is not allowed; allowed: >= {low:,}")
    signal.signal(signal.SIGTERM, lambda number, _frame: sys.exit(128 + number))  # nothing that was started stays
    try:
        found = measure(args)
    except (Invalid, TimeoutError) as error:
        print(f"edges bench: {error}", file=sys.stderr)
        return 1
    print(as_json(found) if args.json else table(found))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
