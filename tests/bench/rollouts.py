"""Many rollouts at once, each with a guard and a bot of its own: do all end right, and what does one more cost?

    python -m tests.bench.rollouts [--counts 1,5,20] [--record sqlite|postgresql] [--day-s 240] [--json] [--table FILE]

Real processes: one simulated venue, one Prometheus, one record; of each rollout a guard and a bot, asked through the
inbox as a flow would. A canary of tests/support/plan_many.yaml, from its first line to promoted and proven flat. CPU is
that of the guard's process while its canary is watched, memory what it has at the end of that. A guard that starts
beside nineteen others waits for its turn on two cores: so how long it takes is told as it was, and what it costs on a
core is what must stay below the limit. Then a canary by itself under the real plan's intervals, for
`--day-s`: how fast the tables grow. Exit code 1 where a rollout does not end promoted; a target that is not met is
printed as not met, and with `--json` ends with 1 too.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import yaml
from sqlalchemy.exc import OperationalError

from gates.stages import ROOT, load_plan
from tasks.record_engine import is_away
from tasks.record_tables import StageRun
from tests.bench.freeze import below
from tests.support.guard_stack import FINAL, GuardStack
from tests.support.postgres import postgres

PLAN = Path(__file__).parents[1] / "support" / "plan_many.yaml"
COUNTS_MAX = 100
STEP_MS = 1_000
"""Between two moves of the market: twenty bots that read ten a second starve each other on two cores, and freeze."""
START_S_MAX = 2.0
RSS_MB_MAX = 100.0
DAY_MB_MAX = 50.0
GROWTH_MAX = 1.5
"""What a rollout among the most may cost of what it costs alone, to be called linear."""
ANSWERED_WITHIN_S = 75.0
ENDED_WITHIN_S = 1800.0
ASK_AGAIN_S = 2.0
DAY_S = 86_400
SETTLED_AFTER_S = 65.0
"""From then on each minute writes what the one before it wrote."""
NEXT = {"ready": "launch", "watched": "judge", "judged": "promote"}


@dataclass
class One:
    """One rollout on its way. Seconds are of the monotonic clock; CPU is the guard's process, its threads included."""

    stack: GuardStack
    guard: psutil.Process
    started_s: float
    started_cpu_s: float
    number: int = 0
    asked: int = 0
    inbox_id: int = 0
    not_before_s: float = 0.0
    watch: list[tuple[float, float]] = field(default_factory=list)
    rss_mb: float = 0.0
    ended: str = ""

    @property
    def cpu_share(self) -> float:
        """Of one core, while the canary was watched."""
        (from_s, from_cpu), (to_s, to_cpu) = self.watch
        return (to_cpu - from_cpu) / (to_s - from_s)


def start(stacks: list[GuardStack]) -> list[One]:
    """A guard for each, side by side. Each has answered its first request; what that took is its start."""
    begun = time.monotonic()
    asked = [_asked(stack, "stop", "start", who="bench", reason="is it there?") for stack in stacks]
    guards = [psutil.Process(stack.start_guard().pid) for stack in stacks]
    ones = []
    for stack, guard, number in zip(stacks, guards, asked, strict=True):
        answer = stack.until("the guard answers", lambda: stack.record.answer(number), ANSWERED_WITHIN_S)  # noqa: B023
        assert not answer.done
        ones.append(One(stack, guard, time.monotonic() - begun, cpu_s_of(guard)))
    return ones


def _asked(stack: GuardStack, kind: str, key: str, **payload: object) -> int:
    return stack.record.submit(stack.account, kind, payload, f"{kind}-{key}-{stack.account}")


def begin(ones: list[One], name: str) -> None:
    """The canary of a rollout of its own on each account."""
    for one in ones:
        told = {"rollout": f"{name}-{one.stack.account}", "stage": "canary", "plan": str(one.stack.plan_path)}
        one.inbox_id = _asked(one.stack, "begin", name, nonce=name, requested_by="bench", **told)
    for one in ones:
        answer = one.stack.until("it begins", lambda: one.stack.record.answer(one.inbox_id), ANSWERED_WITHIN_S)  # noqa: B023
        if not answer.done:
            raise RuntimeError(f"{one.stack.account}: {answer.reason}")
        one.inbox_id, one.number = 0, int(answer.result["stage_run_id"])


def cpu_s_of(guard: psutil.Process) -> float:
    times = guard.cpu_times()
    return float(times.user + times.system)


def take_turn(one: One) -> None:
    """Looks where it stands, notes what is measured, and asks for the next step as a flow would."""
    stack, run = one.stack, one.stack.record.stage_run(one.number)
    if run.step == "watch" and not one.watch:
        one.watch.append((time.monotonic(), cpu_s_of(one.guard)))
    elif run.step == "watched" and len(one.watch) == 1:
        one.watch.append((time.monotonic(), cpu_s_of(one.guard)))
        one.rss_mb = one.guard.memory_info().rss / 1e6
    if run.step in FINAL:
        one.ended = run.step if stack.is_clean() else f"{run.step}, not clean"
        return
    kind = NEXT.get(run.step)
    if one.inbox_id:
        answer = stack.record.answer(one.inbox_id)
        if answer is None:
            return
        one.inbox_id, one.not_before_s = 0, time.monotonic() + (0.0 if answer.done else ASK_AGAIN_S)
    elif kind is not None and time.monotonic() >= one.not_before_s:
        payload, key = {"stage_run_id": one.number}, f"{one.number}-{kind}-{one.asked}"
        try:
            one.inbox_id = stack.record.submit(stack.account, kind, payload, key)
        except OperationalError as error:
            if not is_away(error):
                raise
            return  # busy: the same key again at the next turn is the same request, as a flow does it
        one.asked += 1


def run_at_once(first: GuardStack, count: int) -> list[One]:
    """So many rollouts from their begin to their end; the guards are ended afterwards."""
    ones = start([first.another() for _ in range(count)])
    begin(ones, f"of-{count}")
    end = time.monotonic() + ENDED_WITHIN_S
    while any(not one.ended for one in ones) and time.monotonic() < end:
        for one in ones:
            if not one.ended:
                take_turn(one)
        time.sleep(0.2)
    for one in ones:
        run = one.stack.record.stage_run(one.number)
        if one.ended != "promoted":
            _tell(f"{run.rollout}: {one.ended or run.step} by {run.decided_criterion}: {run.decided_why}")
        if not one.stack.record.verify_chain(one.stack.account).ok:
            one.ended = "its chain does not hold"
        one.stack.processes[one.stack.guard_name].terminate()
    return ones


def size_bytes(stack: GuardStack) -> int:
    """What the record's tables and indexes take, without what is free in them."""
    engine = stack.record.engine
    with engine.connect() as connection:
        if engine.dialect.name == "postgresql":
            return int(connection.exec_driver_sql("SELECT pg_database_size(current_database())").scalar_one())
        pages = connection.exec_driver_sql("PRAGMA page_count").scalar_one()
        free = connection.exec_driver_sql("PRAGMA freelist_count").scalar_one()
        return int(connection.exec_driver_sql("PRAGMA page_size").scalar_one()) * int(pages - free)


def day_mb(folder: Path, seconds: float, record_url: str) -> float:
    """MB by which the tables grow in a live day, from so many seconds of one canary under the real plan's intervals."""
    content = yaml.safe_load(PLAN.read_text(encoding="utf-8"))
    real = load_plan(ROOT / "configs" / "rollout.yaml")
    content |= {"measure_every_s": real.measure_every_s, "scrape_every_s": real.scrape_every_s}
    (canary,) = content["stages"]
    canary["lasts_s"] = seconds + 60
    folder.mkdir()
    plan = folder / "plan.yaml"
    plan.write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")
    with _stack(folder / "home", plan, record_url) as stack:
        (one,) = start([stack])
        begin([one], "day")
        sizes: list[tuple[float, int]] = []
        wanted_s = [SETTLED_AFTER_S, SETTLED_AFTER_S + seconds // 60 * 60 - 60]
        while len(sizes) < len(wanted_s):
            take_turn(one)
            if one.ended:
                raise RuntimeError(f"the canary of the day ended: {one.ended}: {_run_of(one).decided_why}")
            if one.watch and time.monotonic() - one.watch[0][0] >= wanted_s[len(sizes)]:
                sizes.append((time.monotonic(), size_bytes(stack)))
            time.sleep(0.2)
    (from_s, from_bytes), (to_s, to_bytes) = sizes
    return (to_bytes - from_bytes) / (to_s - from_s) * DAY_S / 1e6


def _run_of(one: One) -> StageRun:
    return one.stack.record.stage_run(one.number)


@contextlib.contextmanager
def _stack(home: Path, plan: Path, record_url: str, step_ms: int = 100) -> Iterator[GuardStack]:
    stack = GuardStack(home, plan, record_url=record_url, step_ms=step_ms)
    try:
        yield stack
    finally:
        stack.close()


@contextlib.contextmanager
def _urls(record: str) -> Iterator[list[str]]:
    """An empty record for each of the two parts; an empty address is SQLite's in the state folder."""
    if record == "sqlite":
        yield ["", ""]
        return
    with postgres() as server:
        yield [server.database(), server.database()]


def _tell(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def row_of(ones: list[One]) -> dict[str, Any]:
    """The figures of the rollouts that ran at once; of those that were watched to the end."""
    watched = [one for one in ones if len(one.watch) == 2] or [one for one in ones if one.watch]
    shares = [one.cpu_share for one in watched if len(one.watch) == 2]
    starts, cpus = [one.started_s for one in ones], [one.started_cpu_s for one in ones]
    return {
        "rollouts": len(ones),
        "promoted": sum(one.ended == "promoted" for one in ones),
        "guard_start_s": round(statistics.median(starts), 2),
        "guard_start_s_max": round(max(starts), 2),
        "guard_start_cpu_s": round(statistics.median(cpus), 2),
        "guard_start_cpu_s_max": round(max(cpus), 2),
        "guard_cpu_percent": round(100 * statistics.mean(shares), 2) if shares else None,
        "guard_rss_mb": round(max((one.rss_mb for one in ones), default=0.0), 1),
    }


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.rollouts")
    parser.add_argument("--counts", default="1,5,20")
    parser.add_argument("--record", choices=("sqlite", "postgresql"), default="sqlite")
    parser.add_argument("--day-s", type=float, default=240.0, help="0 leaves it out; else at least 180")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--table", type=Path, metavar="FILE", help="also write the figures there, Markdown")
    args = parser.parse_args(argv)
    try:
        counts = [int(word) for word in args.counts.split(",")]
    except ValueError:
        parser.error(f"--counts: {args.counts!r} is not allowed; allowed: whole numbers with commas between")
    if not all(1 <= count <= COUNTS_MAX for count in counts):
        parser.error(f"--counts: {args.counts} is not allowed; allowed: each 1 to {COUNTS_MAX}")
    if args.day_s and args.day_s < 180:
        parser.error(f"--day-s: {args.day_s:g} is not allowed; allowed: 0, or at least 180")
    rows, grown = [], None
    with (
        tempfile.TemporaryDirectory(prefix="rollouts-", ignore_cleanup_errors=True) as name,
        _urls(args.record) as urls,
    ):
        with _stack(Path(name) / "home", PLAN, urls[0], STEP_MS) as stack:
            for count in counts:
                rows.append(row_of(run_at_once(stack, count)))
                _tell(json.dumps(rows[-1]))
        if args.day_s:
            grown = round(day_mb(Path(name) / "day", args.day_s, urls[1]), 1)
    if args.table is not None:
        args.table.write_text(table(rows, grown, args.record), encoding="utf-8")
    return report(rows, grown, args.record, as_json=args.json)


def report(rows: list[dict[str, Any]], grown_mb: float | None, record: str, *, as_json: bool) -> int:
    cpu, memory = _ratio(rows, "guard_cpu_percent"), _ratio(rows, "guard_rss_mb")
    start_s, cpu_s = rows[0]["guard_start_s_max"], max(row["guard_start_cpu_s_max"] for row in rows)
    rss_mb = max(row["guard_rss_mb"] for row in rows)
    ended = all(row["promoted"] == row["rollouts"] for row in rows)
    good = ended and all(ratio is not None and ratio <= GROWTH_MAX for ratio in (cpu, memory))
    good &= cpu_s < START_S_MAX and rss_mb < RSS_MB_MAX
    good &= grown_mb is None or grown_mb < DAY_MB_MAX
    if as_json:
        told = {"record": record, "rows": rows, "ratio_cpu": cpu, "ratio_memory": memory, "day_mb": grown_mb}
        print(json.dumps({**told, "good": good}))
        return 0 if good else 1
    print(
        f"{'rollouts':>8} {'promoted':>8} {'start median, max':>18} {'on a core':>13} {'CPU':>8} {'memory':>9}"
        f"   {record}"
    )
    for row in rows:
        starts = f"{row['guard_start_s']:.2f}, {row['guard_start_s_max']:.2f} s"
        core = f"{row['guard_start_cpu_s']:.2f}, {row['guard_start_cpu_s_max']:.2f} s"
        share = "?" if row["guard_cpu_percent"] is None else f"{row['guard_cpu_percent']:.2f} %"
        print(f"{row['rollouts']:>8} {row['promoted']:>8} {starts:>18} {core:>13} {share:>8}"
              f" {row['guard_rss_mb']:>6.1f} MB")  # fmt: skip
    for name, ratio in (("CPU", cpu), ("memory", memory)):
        said, word = (
            ("?", "NOT met") if ratio is None else (f"{ratio:.2f}", "met" if ratio <= GROWTH_MAX else "NOT met")
        )
        print(f"a rollout among the most costs of one alone, {name}: {said}  ≤ {GROWTH_MAX:g}  {word}")
    print(f"the guard starts in {start_s:.2f} s where {rows[0]['rollouts']} start")
    print(f"with at most {cpu_s:.2f} s on a core  {below(cpu_s, START_S_MAX, 's')}")
    print(f"and takes {rss_mb:.1f} MB  {below(rss_mb, RSS_MB_MAX, 'MB')}")
    if grown_mb is not None:
        print(f"the tables grow by {grown_mb:.1f} MB a live day  {below(grown_mb, DAY_MB_MAX, 'MB')}")
    return 0 if ended else 1


def _ratio(rows: list[dict[str, Any]], name: str) -> float | None:
    """What one among the most needs of what one among the least does; None where one of them was not measured."""
    least, most = rows[0][name], rows[-1][name]
    return round(most / least, 2) if least and most else None


def table(rows: list[dict[str, Any]], grown_mb: float | None, record: str) -> str:
    """The page docs/rollouts.md."""
    lines = [
        "# Many rollouts at once",
        "",
        "Written by `python -m tests.bench.rollouts --table docs/rollouts.md`. Each is a canary of",
        "`tests/support/plan_many.yaml` with a guard and a bot of its own, from its begin to promoted and proven flat.",
        f"{os.cpu_count()} cores, the record in {record}. A start is told as median and greatest of those that began",
        "side by side: by the clock, and on a core.",
        "",
        "| at once | promoted | start, s | start on a core, s | CPU of a guard | memory of a guard |",
        "|---|---|---|---|---|---|",
    ]
    for row in rows:
        share = "not measured" if row["guard_cpu_percent"] is None else f"{row['guard_cpu_percent']:.2f} %"
        lines.append(
            f"| {row['rollouts']} | {row['promoted']} | {row['guard_start_s']:.2f}, {row['guard_start_s_max']:.2f}"
            f" | {row['guard_start_cpu_s']:.2f}, {row['guard_start_cpu_s_max']:.2f} | {share}"
            f" | {row['guard_rss_mb']:.1f} MB |"
        )
    for name, key in (("CPU", "guard_cpu_percent"), ("Memory", "guard_rss_mb")):
        ratio = _ratio(rows, key)
        said = "not measured" if ratio is None else f"{ratio:.2f}"
        lines += ["", f"{name} of one among the most, of one among the least: {said} (linear: at most {GROWTH_MAX:g})."]
    if grown_mb is not None:
        lines += ["", f"The tables grow by {grown_mb:.1f} MB a live day (at most {DAY_MB_MAX:g} MB)."]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
