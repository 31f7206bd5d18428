"""What the demo shows while it runs and at its end: plain lines of at most 80 columns; on a terminal with colour."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from datetime import datetime
from textwrap import fill
from typing import TextIO

from flows.stage_table import as_table, stages_of
from flows.words import end_sentence, needs, value_words
from tasks.measured import measured_until_stopped
from tasks.proof_words import step_in_words
from tasks.record import Record
from tasks.record_tables import MeasurementLatest, RollbackStep, StageRun
from tasks.rollback import end_headline, proven_flat

WIDTH = 80
SUMMARY_EVERY_S = 10.0
_COLOUR = {"PASS": "32", "FAIL": "31;1", "UNKNOWN": "33", "INCONCLUSIVE": "33", "GO": "32;1", "NO-GO": "31;1"}


class View:
    """Writes the story of one run. Safe to call from several threads: each call writes whole lines."""

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = stream or sys.stdout
        self._colour = self._stream.isatty()
        self._step = ""
        self._outcomes: dict[str, str] = {}
        self._sign_offs = 0
        self._number = 0
        self._parts = 0
        self._drills: set[int] = set()
        self._next_summary_s = 0.0

    def line(self, text: str, subject: str = "") -> None:
        """One line with the time; what does not fit goes to lines below, indented."""
        room = WIDTH - 19
        words, rows, row = text.split(" "), [], ""
        for word in words:
            if row and len(row) + 1 + len(word) > room:
                rows.append(row)
                row = word
            else:
                row = f"{row} {word}" if row else word
        rows.append(row)
        head = f"{time.strftime('%H:%M:%S')}  {subject:<9}"
        self.raw("\n".join(f"{head if not number else ' ' * 19}{row}" for number, row in enumerate(rows)))

    def raw(self, text: str) -> None:
        print(text, file=self._stream, flush=True)

    def paint(self, word: str, width: int = 0) -> str:
        padded = f"{word:<{width}}"
        code = _COLOUR.get(word)
        return f"\x1b[{code}m{padded}\x1b[0m" if self._colour and code else padded

    # ---- while it runs --------------------------------------------------------------------------------------------

    def follow(self, record: Record, run: StageRun) -> None:
        """Says what changed since the last call: the step, a criterion's outcome, a sign-off; sums up now and then."""
        number = run.id or 0
        measurements = record.measurements_latest(number)
        if number != self._number:  # the next stage: nothing of the last one is compared with it
            self._number, self._step, self._outcomes, self._sign_offs, self._parts = number, "", {}, 0, 0
        if run.step != self._step:
            self._step = run.step
            self._enter(run)
        for part in record.parts(number)[self._parts :]:
            self._parts += 1
            if part.name:
                size = f"{part.inventory_max_quote} per symbol, {part.total_max_quote} in all"
                self.line(f"part {part.name}: {size}, epoch {part.epoch}", run.stage)
        self._tell_drills(record, number)
        if run.grant_revoked_at is None:  # afterwards the bot is being stopped, and what fails is no news
            self._changes(measurements)
        for row in record.sign_offs(number)[self._sign_offs :]:
            self._sign_offs += 1
            taken = "accepted" if row.accepted else f"refused: {row.refused_reason}"
            self.line(f"{row.person} {row.decision} ({row.gate}): {taken}", "sign-off")
        if run.step == "watch" and time.monotonic() >= self._next_summary_s:
            self._next_summary_s = time.monotonic() + SUMMARY_EVERY_S
            self.line(_watch_sentence(run, measurements), "watch")

    def _tell_drills(self, record: Record, number: int) -> None:
        for row in record.drills(number):
            if row.outcome and (row.id or 0) not in self._drills:
                self._drills.add(row.id or 0)
                said = ", ".join(f"{name} {value}" for name, value in row.proof.items())
                self.line(f"{row.name} {row.outcome.replace('_', ' ')}: tripped {said}", "drill")

    def _enter(self, run: StageRun) -> None:
        words = {
            "requested": "the guard has opened the stage",
            "preflight": "checking account, venue, Prometheus, disk, plan",
            "ready": "preflight passed; people who are asked at the entry sign now",
            "launching": "grant given, bot starting",
            "drills": "faults made on purpose; the gates must see them",
            "warm_up": f"bot up (pid {run.pid}, epoch {run.epoch}), warming up",
            "watch": "watching; the guard measures every criterion each second",
            "watched": "watch over; judging",
            "judged": f"verdict {(run.verdict or '').replace('_', '-')}; waiting for the exit sign-offs",
            "promoting": "closing the stage flat, with proof",
            "rolling_back": f"reason {run.reason}: {run.decided_criterion} {run.decided_value or ''}",
        }
        self.line(f"{run.step.replace('_', ' ')}: {words.get(run.step, end_sentence(run))}", run.stage)

    def _changes(self, measurements: Sequence[MeasurementLatest]) -> None:
        first = not self._outcomes
        for one in measurements:
            before = self._outcomes.get(one.criterion_id)
            self._outcomes[one.criterion_id] = one.outcome
            if one.outcome != before and not first and (before is not None or one.outcome == "FAIL"):
                self.raw(f"  {self.criterion_row(one)}")

    def criterion_row(self, one: MeasurementLatest) -> str:
        name, mark = one.criterion_id, "" if one.severity == "critical" else " (advisory)"
        name_width, value_width = 26, 18
        if name.startswith("preflight_"):
            name, name_width, value_width = name.removeprefix("preflight_"), 11, 24
        outcome = "INCONCL." if one.outcome == "INCONCLUSIVE" else one.outcome
        cells = f"{_cut(name, name_width):<{name_width}} {_cut(value_words(one), value_width):<{value_width}}"
        return f"{self.paint(outcome, 8)} {cells} needs {needs(one.limit)}{mark}"

    # ---- at the end -----------------------------------------------------------------------------------------------

    def criteria_table(self, record: Record, run: StageRun) -> None:
        measurements = measured_until_stopped(record, run)
        self.raw("")
        for phase, title in (("preflight", "Preflight"), ("", "Criteria")):
            rows = [one for one in measurements if (one.phase == "preflight") == bool(phase)]
            if rows:
                self.raw(f"{title}:")
                for one in rows:
                    self.raw(f"  {self.criterion_row(one)}")

    def stages_table(self, record: Record, rollout: str) -> None:
        """One line for each part of each stage."""
        self.raw("")
        for line in as_table(stages_of(record, rollout)):
            self.raw(line)

    def ended(self, record: Record, run: StageRun) -> str:
        """How it ended, in capitals: flat where that was proven."""
        return end_headline(run.step, flat=proven_flat(record.rollback_steps(run.id or 0)))

    def timeline(self, record: Record, run: StageRun) -> None:
        """How fast it was stopped, counted from the breach, with the proof of every step."""
        times = record.timeline(run.id or 0)
        breach = times["breach"]
        self.raw("")
        if breach is not None:
            self._from_breach(times, breach)
        self.steps_table(record.rollback_steps(run.id or 0))

    def steps_table(self, steps: Sequence[RollbackStep]) -> None:
        """What each step has proven, to the last word: what does not fit beside it goes below, indented."""
        if steps:
            self.raw("Closed, step by step (times in UTC):")
        for step in steps:
            said = step_in_words(step.name, step.state, step.error, step.proof)
            head = f"  {step.number} {step.name:<13} {step.state:<9} "
            self.raw(fill(said, WIDTH, initial_indent=head, subsequent_indent=" " * len(head), break_on_hyphens=False))

    def _from_breach(self, times: dict[str, str | None], breach: str) -> None:
        self.raw(f"Timeline (UTC), breach at {breach[11:23]}:")
        zero = datetime.fromisoformat(breach)
        words = {
            "seen": "seen and judged by the guard",
            "grant_revoked": "grant revoked, launcher frozen",
            "bot_gone": "bot proven gone",
            "flat": "position proven flat",
            "none_open": "no open order, on two reads (waits for the grant to expire)",
        }
        for name, meaning in words.items():
            at = times[name]
            if at is not None:
                delay_s = (datetime.fromisoformat(at) - zero).total_seconds()
                self.raw(f"  {at[11:23]}  +{delay_s:6.3f} s  {meaning}")


def _watch_sentence(run: StageRun, measurements: Sequence[MeasurementLatest]) -> str:
    counted = [one for one in measurements if one.phase != "preflight" and one.severity == "critical"]
    counts = {word: sum(one.outcome == word for one in counted) for word in ("PASS", "FAIL", "INCONCLUSIVE", "UNKNOWN")}
    said = ", ".join(f"{count} {word}" for word, count in counts.items() if count)
    if run.watch_from is None or run.watch_until is None:
        return said
    whole_s = (run.watch_until - run.watch_from).total_seconds()
    gone_s = min(whole_s, max(0.0, time.time() - run.watch_from.timestamp()))
    return f"{gone_s:.0f} of {whole_s:.0f} s: {said}"


def _cut(text: str, width: int) -> str:
    return text if len(text) <= width else f"{text[: width - 1]}…"
