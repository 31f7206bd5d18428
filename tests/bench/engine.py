"""Both lanes against nautilus_trader, and hftbacktest beside them: one market, one strategy, the same trades.

    python -m tests.bench.engine [--updates 100000] [--rounds 5] [--seed 1] [--json]

An event is one market update. CPU time of each engine's own process, medians of interleaved rounds, ratios of medians
of one run. `heavy` quotes move on every change, `calm` ones when more than 5 ticks away. Exit code 1 only where a run
says nothing: an engine that did not trade, or not as the others did. A target that is not met is printed as not met.
`make bench` sets up the environment of the engines of others (tests/bench/peers) first.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

from tests.bench.feed import kept
from tests.bench.ours import STRATEGY

ROOT = Path(__file__).resolve().parents[2]
PEERS = Path(__file__).resolve().parent / "peers"
FEEDS = ROOT / "artifacts" / "bench"
UPDATES = 100_000
UPDATES_MIN = 2_000
ROUNDS = 5

TOLERANCE_TICKS = {"heavy": 0, "calm": 5}
WIRE, KERNEL, NAUTILUS, HFT = "wire lane", "kernel lane", "nautilus", "hftbacktest"
SIGNED = "wire by REST"
"""The wire lane without its trade socket, as a live bot is while that is away: every request is signed."""
LANES = {KERNEL: "kernel", WIRE: "wire", SIGNED: "signed"}
ALIKE = 0.2
"""Orders, amends and fills may differ by this share from nautilus's; they have been seen within 2 % of each other."""


class Target(NamedTuple):
    engine: str
    style: str
    ratio: float
    aim: float | None


TARGETS = (
    Target(WIRE, "heavy", 2.0, None),
    Target(WIRE, "calm", 0.8, 1.0),
    Target(KERNEL, "heavy", 10.0, 15.0),
    Target(KERNEL, "calm", 2.0, 3.0),
)


class Played(NamedTuple):
    """One engine, one style: the median of its rounds, and what it did in each of them."""

    engine: str
    style: str
    cpu_s: float
    updates: int
    placed: int
    amended: int
    filled: int

    @property
    def per_s(self) -> float:
        """Market updates for a second of CPU time."""
        return self.updates / self.cpu_s

    @property
    def each_us(self) -> float:
        return self.cpu_s / self.updates * 1e6


class Invalid(Exception):
    """The figures would say nothing. One line that names the engine and the reason."""


class Worker:
    """A process that plays the feed as often as it is asked to."""

    def __init__(self, name: str, process: subprocess.Popen[str]) -> None:
        self.name = name
        self._process = process

    def play(self, task: dict[str, Any]) -> dict[str, Any]:
        """Raises Invalid where it gave no answer."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(task) + "\n")
        self._process.stdin.flush()
        line = self.line()
        answer: dict[str, Any] = json.loads(line)
        return answer

    def line(self) -> str:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise Invalid(f"{self.name}: ended with exit code {self._process.wait()}; see above")
        return line


@contextmanager
def worker(name: str, argv: list[str], folder: Path) -> Iterator[Worker]:
    environment = dict(os.environ)
    if folder == PEERS:  # the folder of the compiled bot is none of theirs
        for variable in ("PYTHONPATH", "PYTHONSAFEPATH"):
            environment.pop(variable, None)
    with subprocess.Popen(
        argv, cwd=folder, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
    ) as process:
        try:
            started = Worker(name, process)
            if started.line().strip() != "ready":
                raise Invalid(f"{name}: did not say that it is ready")
            yield started
        finally:
            process.kill()


def contest(path: Path, rounds: int) -> list[Played]:
    """Every engine in every style, in turn, `rounds` times over."""
    python = PEERS / ".venv" / "bin" / "python"
    if not python.exists():
        raise Invalid(f"{python}: not there; `make bench` sets it up")
    runs: dict[tuple[str, str], list[dict[str, Any]]] = {}
    with ExitStack() as stack:
        ours = stack.enter_context(worker("slipway", [sys.executable, "-m", "tests.bench.ours", str(path)], ROOT))
        nautilus, hft = (
            stack.enter_context(worker(name, [str(python), f"{script}.py", str(path)], PEERS))
            for name, script in ((NAUTILUS, "nautilus"), (HFT, "hft"))
        )
        counted = {
            (engine, style): ours.play(_lane(f"counted {lane}", style))
            for engine, lane in LANES.items()
            for style in TOLERANCE_TICKS
        }
        for number in range(rounds):
            for style in TOLERANCE_TICKS:
                played = {
                    NAUTILUS: nautilus.play(_strategy(style)),
                    HFT: hft.play(_strategy(style)),
                } | {engine: ours.play(_lane(lane, style)) for engine, lane in LANES.items()}
                for engine in LANES:
                    played[engine]["amended"] = counted[engine, style]["amended"]
                for engine, run in played.items():
                    runs.setdefault((engine, style), []).append(run)
            print(f"round {number + 1} of {rounds}", file=sys.stderr, flush=True)
    return [_together(engine, style, each) for (engine, style), each in runs.items()]


def _lane(lane: str, style: str) -> dict[str, Any]:
    return {"lane": lane, "tolerance_ticks": TOLERANCE_TICKS[style]}


def _strategy(style: str) -> dict[str, Any]:
    return STRATEGY | {"tolerance_ticks": TOLERANCE_TICKS[style]}


def _together(engine: str, style: str, runs: list[dict[str, Any]]) -> Played:
    first = runs[0]
    for name in ("placed", "amended", "filled"):
        if any(run[name] != first[name] for run in runs):
            raise Invalid(f"{engine}, {style}: {name} differs from round to round ({[run[name] for run in runs]})")
    cpu_s = median(run["cpu_s"] for run in runs)
    return Played(engine, style, cpu_s, first["updates"], first["placed"], first["amended"], first["filled"])


def faults(played: list[Played], updates: int) -> list[str]:
    """Why the figures say nothing; empty where they do say something. Pure."""
    found = []
    by_name = {(one.engine, one.style): one for one in played}
    for one in played:
        name = f"{one.engine}, {one.style}"
        peer = by_name[(NAUTILUS, one.style)]
        if abs(one.updates - updates) > 2:
            found.append(f"{name}: {one.updates} updates of {updates}")
        for what in ("placed", "amended", "filled"):
            mine, theirs = getattr(one, what), getattr(peer, what)
            if mine <= 0:
                found.append(f"{name}: nothing {what}")
            elif abs(mine - theirs) > max(ALIKE * theirs, 3):
                found.append(f"{name}: {mine} {what}, nautilus {theirs}")
    return found


def ratio(played: list[Played], target: Target) -> float:
    by_name = {(one.engine, one.style): one for one in played}
    return by_name[(target.engine, target.style)].per_s / by_name[(NAUTILUS, target.style)].per_s


def verdict(value: float, target: Target) -> str:
    if value < target.ratio:
        return f"NOT met, {target.ratio / value:.1f} x short"
    return "met" if target.aim is None or value < target.aim else "met, and its aim"


def table(played: list[Played]) -> str:
    """For people, 80 columns."""
    lines = [f"{'':6} {'engine':12} {'us/update':>10} {'updates/s':>11} {'placed':>8} {'amended':>9} {'fills':>7}"]
    order = (WIRE, SIGNED, KERNEL, NAUTILUS, HFT)
    for style in TOLERANCE_TICKS:
        for one in sorted((one for one in played if one.style == style), key=lambda one: order.index(one.engine)):
            lines.append(
                f"{style:6} {one.engine:12} {one.each_us:10,.1f} {one.per_s:11,.0f} {one.placed:8,} "
                f"{one.amended:9,} {one.filled:7,}"
            )
    lines += ["", f"{'against nautilus':24} {'ratio':>8}  {'wanted':>8}  {'aim':>8}"]
    for target in TARGETS:
        value = ratio(played, target)
        aim = "" if target.aim is None else f"{target.aim:.1f} x"
        lines.append(
            f"{target.engine + ', ' + target.style:24} {value:6.2f} x  {target.ratio:6.1f} x  {aim:>8}  "
            f"{verdict(value, target)}"
        )
    return "\n".join(lines)


def as_json(played: list[Played], found: list[str]) -> str:
    targets = [
        target._asdict() | {"value": ratio(played, target), "met": ratio(played, target) >= target.ratio}
        for target in TARGETS
    ]
    engines = [one._asdict() | {"updates_per_s": one.per_s} for one in played]
    return json.dumps({"engines": engines, "targets": targets, "invalid": found}, sort_keys=True, indent=2)


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.engine")
    parser.add_argument("--updates", type=int, default=UPDATES)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", action="store_true", help="for programs")
    args = parser.parse_args(argv)
    if args.updates < UPDATES_MIN or args.updates % 10:
        parser.error(f"--updates: {args.updates} is not allowed; allowed: >= {UPDATES_MIN}, whole tens")
    if args.rounds < 1:
        parser.error(f"--rounds: {args.rounds} is not allowed; allowed: >= 1")
    try:
        played = contest(kept(FEEDS, args.seed, args.updates), args.rounds)
    except Invalid as error:
        print(f"engine bench: {error}", file=sys.stderr)
        return 1
    found = faults(played, args.updates)
    print(as_json(played, found) if args.json else table(played))
    for fault in found:
        print(f"invalid: {fault}", file=sys.stderr)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
