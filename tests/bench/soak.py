"""Two simulated days of the whole bot, and everything that such a run must have been for its speed to mean anything.

    python -m tests.bench.soak [--hours 48] [--style calm|heavy] [--seed 1] [--table docs/soak.md]

The wire lane: loop, sender, journal, log, adapter, signing and JSON, ten market updates a simulated second. Exit code 1
where one of the checks fails: a bot that does nothing is fast too.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any, NamedTuple

from bot.domain.events import BookDelta, BookSnapshot, Event
from bot.domain.intent import AmendOrder, Intent
from bot.engine.engine import Engine
from bot.exports import DAY_NS, DOWN, MINUTE_NS
from bot.simulation import START_NS, Outcome, Scenario, run_wire
from bot.simulator.market import GeneratedMarket
from bot.simulator.timeline import NS_PER_S
from tests.bench import limits
from tests.bench.feed import MARKET
from tests.bench.retained import looked_at
from tests.support.lanes import demo

SYMBOL = "BTCUSDT"
HOURS = 48.0
UPDATES_PER_S = 10
STYLES: dict[str, dict[str, Any]] = {
    "calm": {"requote_tolerance_bps": 0, "requote_tolerance_ticks": 5},
    "heavy": {"requote_tolerance_bps": 0, "requote_tolerance_ticks": 0, "requote_interval_ms": 100},
}
SPEED_MIN = {"calm": 2_000, "heavy": 800}
"""Times real time: the aim of each style. It is shown, not asserted: it is a matter of the machine as well."""

TWO_SIDED_MIN = {"calm": 0.95, "heavy": 0.60}
"""Of the whole span. Heavy: more amends than the venue allows in a second, so orders are often in doubt."""
PLACED_PER_H_MIN = 60
FILLED_PER_H_MIN = 15
"""Of each side."""

RSS_START_MB_MAX = 75.0
RSS_END_MB_MAX = 100.0
RSS_GROWTH_MB_MAX = 5.0
"""From the first hour on: the aim, and what a run of a day or less is judged by, from an eighth of it on."""
RSS_WARM_GROWTH_MB_MAX = 2.0
"""After the first day: a step of the allocator, which takes a megabyte at a time, and one more."""
OBJECTS_GROWTH_MAX = 1_000
"""What is under way at one look and not at the other; in two days over 4,000 orders end between the two."""

HOUR_NS = 3600 * NS_PER_S
WARM_NS = DAY_NS
"""From here on memory may hardly grow: a day's execution ids and a day of equity samples are full then.

The keys of repeats are a run of numbers for each order. What goes on filling up is the sender's last 10,000 execution
ids, some 170 bytes each: they may not go by age, because a sweep is told the newest execution however old it is.
"""


class Check(NamedTuple):
    """One thing that must hold. `limit` is empty where the figure is only shown."""

    what: str
    value: str
    limit: str
    holds: bool


@dataclass
class Evidence:
    """What is known of a run. Memory is None where it was not this process's to judge (inside the test suite)."""

    style: str
    span_s: int
    exit_code: int = 1
    cpu_s: float = 0.0
    updates: int = 0
    crossed: int = 0
    two_sided_ms: int = 0
    placed: dict[str, int] = field(default_factory=dict)
    filled: dict[str, int] = field(default_factory=dict)
    amended: int = 0
    seen_by_venue: int = 0
    executions_told: int = 0
    executions: int = 0
    position_lots: int = 0
    venue_position_lots: int = 0
    minutes: int = 0
    minutes_wrong: int = 0
    days: list[str] = field(default_factory=list)
    day_now: str = ""
    retained: list[str] = field(default_factory=list)
    looked_for_retained: int = 0
    keys: int = 0
    objects_first: int = 0
    objects_end: int = 0
    rss_start_mb: float | None = None
    rss_hour_mb: float | None = None
    rss_warm_mb: float | None = None
    rss_end_mb: float | None = None

    @property
    def hours(self) -> float:
        return self.span_s / 3600


def scenario(style: str, span_s: int, seed: int, **changes: Any) -> Scenario:
    """The demo's settings on a calm market, with room for an inventory; `changes` as for `demo`.

    Quotes stand far enough away to earn what informed flow takes: nearer, two days lose more than the daily limit, and
    a bot that has halted is no soak.
    """
    roomy = {
        "half_spread_bps": Decimal(10),
        "inventory_max_quote": 2_000,
        "total_max_quote": 8_000,
        "orders_per_min_max": 10_000,
        "recon_interval_s": 60,
        "market": lambda market_seed: GeneratedMarket(market_seed, MARKET),
    }
    return demo(seed, span_s, **(roomy | STYLES[style] | changes))


class Watch:
    """Looks on at every step at next to no cost, tells a line now and then, looks each quarter for what is retained."""

    def __init__(self, evidence: Evidence, say: Callable[[str], None], *, memory: bool) -> None:
        self._evidence = evidence
        self._say = say
        self._memory = memory
        self._began_s = self._said_s = time.monotonic()
        span_ns = evidence.span_s * NS_PER_S
        self._looks = [START_NS + span_ns * part // 4 for part in (1, 2, 3)] + [START_NS + span_ns - NS_PER_S]
        self._warm_at_ns = START_NS + (WARM_NS if span_ns > WARM_NS else span_ns // 8)

    def __call__(self, event: Event, intents: list[Intent], engine: Engine) -> None:
        evidence = self._evidence
        if isinstance(event, BookDelta | BookSnapshot):
            evidence.updates += 1
            book = engine.known.books[SYMBOL]
            if book.synced and not book.usable:
                evidence.crossed += 1
            if evidence.updates % 64 == 0:
                self._now_and_then(event.at_ns, engine)
        for intent in intents:
            if isinstance(intent, AmendOrder):
                evidence.amended += 1

    def _now_and_then(self, at_ns: int, engine: Engine) -> None:
        evidence = self._evidence
        if self._memory and evidence.rss_hour_mb is None and at_ns >= START_NS + HOUR_NS:
            evidence.rss_hour_mb = rss_mb()
        if self._memory and evidence.rss_warm_mb is None and at_ns >= self._warm_at_ns:
            evidence.rss_warm_mb = rss_mb()
        if self._looks and at_ns >= self._looks[0]:
            del self._looks[0]
            evidence.looked_for_retained += 1
            found = looked_at(engine.known)
            evidence.retained = found.names or evidence.retained
            evidence.objects_end, evidence.keys = found.objects, found.keys
            evidence.objects_first = evidence.objects_first or found.objects
        now_s = time.monotonic()
        if now_s - self._said_s >= 5:
            self._said_s = now_s
            passed_s = (at_ns - START_NS) / NS_PER_S
            counts = engine.counts
            two = counts[("mm_quoting_ms_total", (SYMBOL, "two"))] / max(1, passed_s * 1000)
            self._say(
                f"{passed_s / 3600:6.2f} of {evidence.hours:.2f} h  {passed_s / (now_s - self._began_s):6.0f} x real "
                f"time  both sides {two:6.1%}  fills {engine.known.ledger.fills}  RSS {rss_mb():.0f} MB"
            )


def run(wanted: Scenario, style: str, folder: Path, say: Callable[[str], None], *, memory: bool) -> Evidence:
    """One run in the wire lane, its files in `folder`, and what came of it."""
    evidence = Evidence(style, wanted.span_s)
    if memory:
        evidence.rss_start_mb = rss_mb()
    watch = Watch(evidence, say, memory=memory)
    began_s = time.process_time()
    outcome = run_wire(wanted, folder, watch)
    evidence.cpu_s = time.process_time() - began_s
    if memory:
        evidence.rss_end_mb = rss_mb()
    _count(evidence, outcome)
    _read_exports(evidence, folder)
    return evidence


def _count(evidence: Evidence, outcome: Outcome) -> None:
    counts = outcome.engine.counts
    evidence.exit_code = outcome.exit_code
    evidence.two_sided_ms = counts[("mm_quoting_ms_total", (SYMBOL, "two"))]
    for side in ("buy", "sell"):
        evidence.placed[side] = counts[("mm_orders_placed_total", (SYMBOL, side))]
        evidence.filled[side] = counts[("mm_orders_filled_total", (SYMBOL, side))]
    evidence.seen_by_venue = outcome.venue._order_count  # the venue numbers every order that it takes
    evidence.executions = outcome.account.executions_count
    evidence.executions_told = outcome.engine.known.ledger.fills
    evidence.position_lots = outcome.engine.known.ledger.accounts[SYMBOL].position_lots
    evidence.venue_position_lots = outcome.account.position.lots


def _read_exports(evidence: Evidence, folder: Path) -> None:
    with (folder / "minute.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    due = [_minute(number) for number in range(evidence.span_s // 60)]
    evidence.minutes = len(rows)
    got = [row["minute_utc"] for row in rows if row["state"] != DOWN and row["symbol"] == SYMBOL]
    evidence.minutes_wrong = len(set(due) ^ set(got)) + len(got) - len(set(got))
    for path in sorted(folder.glob("daily_state-*.json")):
        evidence.days.append(json.loads(path.read_text(encoding="utf-8"))["date_utc"])
    evidence.day_now = json.loads((folder / "daily_state.json").read_text(encoding="utf-8"))["date_utc"]


def _minute(number: int) -> str:
    return (datetime.fromtimestamp(START_NS // NS_PER_S, UTC) + timedelta(minutes=number)).strftime(
        "%Y-%m-%dT%H:%M:%S.000Z"
    )


def _date(day: int) -> str:
    return (datetime.fromtimestamp(START_NS // NS_PER_S, UTC) + timedelta(days=day)).strftime("%Y-%m-%d")


def judge(evidence: Evidence) -> list[Check]:
    """Every check of a run; each can fail. Pure."""
    hours, style = evidence.hours, evidence.style
    days = evidence.span_s * NS_PER_S // DAY_NS
    minutes = evidence.span_s * NS_PER_S // MINUTE_NS
    updates = evidence.span_s * UPDATES_PER_S
    two = evidence.two_sided_ms / (evidence.span_s * 1000)
    placed, filled = sum(evidence.placed.values()), min(evidence.filled.values())
    looks = evidence.looked_for_retained
    told, true = (evidence.executions_told, evidence.position_lots), (evidence.executions, evidence.venue_position_lots)
    checks = [
        _same("exit code", evidence.exit_code, 0),
        Check("market updates", f"{evidence.updates:,}", f">= {updates:,}", evidence.updates >= updates),
        _same("updates after which the book was crossed", evidence.crossed, 0),
        _least("both sides quoted, of all the time", two, TWO_SIDED_MIN[style], "{:.2%}"),
        _least("orders placed", placed, PLACED_PER_H_MIN * hours, "{:,.0f}"),
        _same("orders that the venue saw", evidence.seen_by_venue, placed),
        _least("orders filled, of the rarer side", filled, FILLED_PER_H_MIN * hours, "{:,.0f}"),
        Check("fills and position, told; the venue's", _pair(told), _pair(true), told == true and bool(told[0])),
        _same("minute rows", evidence.minutes, minutes),
        _same("minutes missing, doubled or down", evidence.minutes_wrong, 0),
        Check(
            "finished days kept", ", ".join(evidence.days) or "none", f"{days}",
            evidence.days == [_date(day) for day in range(days)] and evidence.day_now == _date(days),
        ),
        Check(
            "orders ended over 60 s ago still held", f"{len(evidence.retained)}", f"0 in {looks} looks",
            not evidence.retained and looks > 0,
        ),
        _most(
            "other objects held, since the first look", evidence.objects_end - evidence.objects_first,
            OBJECTS_GROWTH_MAX,
        ),
    ]  # fmt: skip
    start, warm, end = evidence.rss_start_mb, evidence.rss_warm_mb, evidence.rss_end_mb
    if start is not None and warm is not None and end is not None:
        checks += [
            _below("memory at start", start, RSS_START_MB_MAX),
            _below("memory after", end, RSS_END_MB_MAX),
            _below(
                "memory grown since it was warm", end - warm,
                RSS_WARM_GROWTH_MB_MAX if evidence.span_s * NS_PER_S > WARM_NS else RSS_GROWTH_MB_MAX,
            ),
        ]  # fmt: skip
    return checks


def _same(what: str, value: int, wanted: int) -> Check:
    return Check(what, f"{value:,}", f"{wanted:,}", value == wanted)


def _least(what: str, value: float, least: float, shape: str) -> Check:
    return Check(what, shape.format(value), ">= " + shape.format(least), value >= least)


def _most(what: str, value: int, most: int) -> Check:
    return Check(what, f"{value:,}", f"<= {most:,}", value <= most)


def _pair(pair: tuple[int, int]) -> str:
    return f"{pair[0]:,} / {pair[1]} lots"


def _below(what: str, value: float, most: float) -> Check:
    return Check(what, f"{value:.1f} MB", f"<= {most:.0f} MB", value <= most)


def shown(evidence: Evidence) -> list[tuple[str, str, str]]:
    """Figures beside the checks: what, value, aim."""
    speed = evidence.span_s / evidence.cpu_s if evidence.cpu_s else 0.0
    aim = SPEED_MIN[evidence.style]
    start, hour, end = evidence.rss_start_mb, evidence.rss_hour_mb, evidence.rss_end_mb
    memory: list[tuple[str, str, str]] = []
    if start is not None and hour is not None and end is not None:
        met = "met" if end - hour <= RSS_GROWTH_MB_MAX else "not met"
        memory = [
            ("memory grown in the first hour", f"{hour - start:.1f} MB", ""),
            ("memory grown since the first hour", f"{end - hour:.1f} MB", f"<= {RSS_GROWTH_MB_MAX:.0f} MB ({met})"),
        ]
    return [
        *memory,
        ("speed, CPU time", f"{speed:,.0f} x real time", f">= {aim:,} ({'met' if speed >= aim else 'not met'})"),
        ("CPU time of an update", f"{evidence.cpu_s / max(1, evidence.updates) * 1e6:,.0f} us", ""),
        ("amends", f"{evidence.amended:,}", ""),
        ("keys of repeats held (bounded)", f"{evidence.keys:,}", ""),
    ]


def table(evidence: Evidence, checks: list[Check]) -> str:
    """For people, 80 columns."""
    lines = [f"soak: {evidence.hours:g} simulated hours, {evidence.style}, wire lane, {UPDATES_PER_S} updates/s"]
    lines += [f"  {c.what:39} {c.value:>16}  {c.limit:17} {'ok' if c.holds else 'FAILED'}" for c in checks]
    lines += [f"  {what:39} {value:>16}  {aim}" for what, value, aim in shown(evidence)]
    return "\n".join(lines)


def markdown(evidence: Evidence, checks: list[Check], when: datetime) -> str:
    rows = [f"| {c.what} | {c.value} | {c.limit} | {'ok' if c.holds else 'FAILED'} |" for c in checks]
    rows += [f"| {what} | {value} | {aim} | |" for what, value, aim in shown(evidence)]
    head = (
        f"# Soak\n\nGenerated by `make soak`; not written by hand. Last run: {when:%Y-%m-%d %H:%M} UTC, "
        f"{evidence.hours:g} simulated hours, style {evidence.style}, {evidence.cpu_s:,.0f} s of CPU time.\n\n"
        "The whole bot in the wire lane on the generated market, ten updates a second, two quotes. A run that\n"
        "looks fast because it does nothing must fail: `tests/simulation/test_soak_cannot_lie.py` shows these checks\n"
        "failing on a bot that is stuck at its position limit and on one that places nothing.\n\n"
        "Memory is the process's, the venue in it included. A bot that has just started fills its tables: that is\n"
        "shown, and limited by `memory after`. The keys of repeats are runs of numbers and weigh next to nothing; a\n"
        "day's execution ids and equity samples are full after the first day; then it is warm (a run of a day or\n"
        "less: after an eighth). From then on only the sender's last 10,000 execution ids fill up, so whatever else\n"
        "grows is a leak. Other objects are\n"
        "counted, not weighed: all that can be reached from the bot, but for these tables.\n\n"
        "| what | value | limit | |\n| --- | ---: | --- | --- |\n"
    )
    return head + "\n".join(rows) + "\n"


def rss_mb() -> float:
    """Resident memory of this process now, megabytes."""
    with open("/proc/self/statm", encoding="ascii") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.soak")
    parser.add_argument("--hours", type=float, default=HOURS, help="simulated; 0.1 or more")
    parser.add_argument("--style", choices=STYLES, default="calm")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--table", type=Path, help="where the table goes as Markdown")
    parser.add_argument("--json", action="store_true", help="for programs")
    args = parser.parse_args(argv)
    if not 0.1 <= args.hours <= 24 * 366:
        parser.error(f"--hours: {args.hours:g} is not allowed; allowed: >= 0.1 and <= {24 * 366}")
    limits.forget_soon()
    wanted = scenario(args.style, round(args.hours * 3600), args.seed)
    with tempfile.TemporaryDirectory(prefix="soak-") as name:
        evidence = run(
            wanted, args.style, Path(name), lambda line: print(line, file=sys.stderr, flush=True), memory=True
        )
    checks = judge(evidence)
    if args.json:
        figures = {"evidence": vars(evidence), "checks": [check._asdict() for check in checks]}
        print(json.dumps(figures, sort_keys=True, indent=2))
    else:
        print(table(evidence, checks))
    if args.table is not None:
        args.table.write_text(markdown(evidence, checks, datetime.now(UTC)), encoding="utf-8")
    return 0 if all(check.holds for check in checks) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
