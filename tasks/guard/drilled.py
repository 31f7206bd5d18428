"""What drills have done to the criteria of a stage run: what is expected to break now, and what does not count.

A criterion of phase guard that a drill must trip is expected while the drill lasts: it ends nothing. A total that the
drill made the journal count stays counted there for ever, so it is taken off what is judged from then on. Everything
here can be built again from the drills' rows in the record.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from decimal import Decimal
from typing import Final

from gates.criteria import Criterion
from gates.judge import Measurement, Outcome, Reading
from gates.stages import Stage, criteria_of
from tasks.record_tables import Drill as DrillRow
from tasks.supervise.identity import Identity

SILENCED: Final = ("restart", "kill-switch")
"""Drills in which the bot cannot answer: what is UNKNOWN of it meanwhile says nothing about it."""

BEFORE: Final = "before"
"""Under this word the proof of a drill that lasts keeps what its totals were when it began, by criterion."""

SINCE: Final = "since_entry"
"""Under this word the newest entry of the bot's journal as the drill was begun: by which the drill's own come after it.
Not by time, for the bot's clock counts on from its start, whatever is done to the one that dates a drill."""

KILLS: Final = "kills"
"""Under this word which process it is about to kill, as [pid, its start in ticks]: written before it does."""


@dataclass
class Drilled:
    """Of one stage run. `expected`: ids of guard criteria. `uncounted`: criterion → what drills made it count."""

    expected: frozenset[str] = frozenset()
    uncounted: dict[str, Decimal] = field(default_factory=dict)
    unproven: frozenset[str] = frozenset()
    """Those that a drill was to trip which has not passed: how much of their totals is the drill's is not known."""
    since_s: float | None = None
    """Since when the present drill lasts, unix time; None where there is none."""
    silenced: bool = False
    """Whether the present drill keeps the bot from answering."""
    killing: tuple[int, int] | None = None
    """The process whose death the present drill makes, by pid and start in ticks; None until it says so."""
    _lifted_at_ms: dict[str, int] = field(default_factory=dict)

    def expect(
        self, criteria: Sequence[Criterion], trips: Sequence[str], since_s: float, *, silenced: bool = False
    ) -> None:
        """A drill begins."""
        self.expected = frozenset(one.id for one in criteria if one.id in trips and one.phase == "guard")
        self.unproven |= self.expected
        self.since_s, self.silenced = since_s, silenced

    def passed(self) -> None:
        """The drill that lasts was seen to break what it was to, and what it made its criteria count is taken off."""
        self.unproven = frozenset()

    def lift(self, at_ms: int) -> None:
        """The drill is over: what it was expected to break counts again, by readings asked for from `at_ms` on."""
        self._lifted_at_ms |= dict.fromkeys(self.expected, at_ms)
        self.expected, self.since_s, self.silenced, self.killing = frozenset(), None, False, None

    def kills(self, process: Identity) -> bool:
        """Whether that process is dead by the drill's doing, or about to be. Every other death is the bot's own."""
        return self.killing == (process.pid, process.started_ticks)

    def decides(self, criterion_id: str, last: Outcome | None) -> bool:
        """Whether that criterion may end the stage now. `last`: what it was last seen as, None where it never was."""
        if criterion_id in self.expected:
            return False
        return not self.silenced or last not in (None, Outcome.UNKNOWN)

    def is_old(self, one: Measurement) -> bool:
        """Whether it was asked for before the drill that tripped its criterion was over."""
        return one.reading.asked_at_ms < self._lifted_at_ms.get(one.criterion_id, 0)

    def without_drills(self, criteria: Sequence[Criterion], readings: Sequence[Reading]) -> list[Reading]:
        """The readings without what drills have made them count. The end of a stage is judged from the begin of its
        watch, which no drill is in, so only guard criteria are concerned."""
        guards = {one.id for one in criteria if one.phase == "guard"}
        return [self._without(one) if one.criterion_id in guards else one for one in readings]

    def _without(self, reading: Reading) -> Reading:
        drilled = self.uncounted.get(reading.criterion_id)
        if not drilled or not reading.samples:
            return reading
        samples = tuple(
            sample if sample.value is None else replace(sample, value=sample.value - drilled)
            for sample in reading.samples
        )
        return replace(reading, samples=samples, query=f"({reading.query}) - {drilled:f} of drills")


def counts(criteria: Sequence[Criterion], trips: Sequence[str]) -> tuple[Criterion, ...]:
    """Those of `trips` whose totals stay counted: guard criteria that are a sum of the journal's totals."""
    return tuple(
        one
        for one in criteria
        if one.id in trips and one.phase == "guard" and one.source == "table" and one.query is not None
        if not one.query.lower().startswith("select ")
    )


def drilled_so_far(whole: Stage, rows: Sequence[DrillRow], open_part: int | None) -> Drilled:
    """From the record: what passed drills made their criteria count, and what an open one is expected to break.

    `open_part`: the part whose drills are being made, None where none are. A row that stands open elsewhere is of a
    drill that never began: an older version wrote it before the step, and may have died in between.
    """
    found = Drilled()
    for row in rows:
        if not row.outcome and row.part != open_part:
            continue
        criteria = criteria_of(whole.at(row.part))
        trips = [str(name) for name in row.criteria]
        if row.outcome == "passed":
            add(found.uncounted, row.proof, counts(criteria, trips))
            continue
        guards = {one.id for one in criteria if one.id in trips and one.phase == "guard"}
        found.unproven |= guards
        if not row.outcome:
            found.expected |= guards
            found.silenced |= row.name in SILENCED
            if (killing := row.proof.get(KILLS)) is not None:
                found.killing = int(killing[0]), int(killing[1])
    return found


def add(uncounted: dict[str, Decimal], proof: Mapping[str, object], criteria: Sequence[Criterion]) -> None:
    """Adds what a drill's proof says that it made these criteria count."""
    for one in criteria:
        uncounted[one.id] = uncounted.get(one.id, Decimal(0)) + Decimal(str(proof.get(one.id, "0")))
