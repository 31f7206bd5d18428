"""Judges a folder of evidence again, from the readings it holds and by the criteria it names: offline, and pure.

What was measured is stored with the samples it was judged from, so the same criteria must find the same outcome, and
the same outcomes the same verdict. Where they do not, either the evidence is not what was measured, or the judge is
another. What preflight found is no reading and is not judged again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Any, Final, NamedTuple

from pydantic import ValidationError

from gates.criteria import Criterion
from gates.evidence_folder import CRITERIA, MEASUREMENTS, VERDICT, EvidenceError, manifest_fault, read_json
from gates.judge import Cause, Measurement, Reading, Sample, judge, plain, verdict

JUDGED: Final = ("guard", "final")
NEVER_MEASURED: Final = "no data: never measured"


class Said(NamedTuple):
    """What a measurement says, as it is stored."""

    outcome: str
    cause: str | None
    value: str | None

    def __str__(self) -> str:
        return " ".join(word for word in (self.outcome, self.value, f"({self.cause})" if self.cause else "") if word)


@dataclass(frozen=True)
class Judged:
    """One stored measurement and what is found of it now."""

    criterion_id: str
    at_ms: int
    stored: Said
    again: Said

    @property
    def same(self) -> bool:
        return self.stored == self.again


@dataclass(frozen=True)
class VerdictAgain:
    """One stored verdict: its word and what decided it, then and now. `lacking`: measurements it stands on of which no
    reading is stored."""

    at: str
    stored: tuple[str, str | None]
    again: tuple[str, str | None]
    lacking: tuple[str, ...]

    @property
    def same(self) -> bool:
        return self.stored == self.again and not self.lacking


@dataclass(frozen=True)
class Replayed:
    """The whole folder judged again."""

    measurements: tuple[Judged, ...]
    verdicts: tuple[VerdictAgain, ...]

    @property
    def same(self) -> bool:
        return all(one.same for one in self.measurements) and all(one.same for one in self.verdicts)


def replay(folder: Path) -> Replayed:
    """Raises EvidenceError where the folder is not what its manifest names, or does not hold what is needed."""
    if fault := manifest_fault(folder):
        raise EvidenceError(fault)
    parts = _criteria(folder)
    told, rows = read_json(folder, VERDICT), read_json(folder, MEASUREMENTS)
    try:
        begins = [(_ms(one["began_at"]), int(one["number"])) for one in told["parts"]]
        measured = [_again(row, parts, begins) for row in rows if row["phase"] in JUDGED]
        verdicts = [_verdict_again(one, parts, begins, measured) for one in told["verdicts"]]
    except (KeyError, TypeError, ValueError, AttributeError, InvalidOperation) as error:
        raise EvidenceError(
            f"{folder}: not evidence that can be judged again: {type(error).__name__} {error}"
        ) from None
    return Replayed(tuple(one.judged for one in measured), tuple(verdicts))


def stored_reading(criterion_id: str, query: str, raw: Mapping[str, Any]) -> Reading:
    """The reading that was stored as `raw` beside its query."""
    return Reading(
        criterion_id=criterion_id,
        asked_at_ms=raw["asked_at_ms"],
        took_ms=raw["took_ms"],
        query=query,
        samples=tuple(
            Sample(one["at_ms"], None if one["value"] is None else Decimal(one["value"]), one.get("labels", {}))
            for one in raw["samples"]
        ),
        failure=Cause(raw["failure"]) if raw.get("failure") else None,
        detail=raw.get("detail", ""),
        expected_samples=raw.get("expected_samples", 0),
        observed_samples=raw.get("observed_samples", 0),
    )


class _Measured(NamedTuple):
    judged: Judged
    reason: str
    measurement: Measurement


Parts = Sequence[Mapping[str, Criterion]]


def _criteria(folder: Path) -> Parts:
    """Of each part of the stage, by id, in the order of the file."""
    content = read_json(folder, CRITERIA)
    if isinstance(content, dict) and content.get("missing"):
        raise EvidenceError(f"{folder / CRITERIA}: {content['missing']}")
    try:
        parts = [[Criterion.model_validate(one) for one in part] for part in content["parts"]]
    except (KeyError, TypeError, ValidationError) as error:
        raise EvidenceError(f"{folder / CRITERIA}: not criteria: {type(error).__name__}") from None
    if not parts:
        raise EvidenceError(f"{folder / CRITERIA}: names no criterion")
    return [{one.id: one for one in part} for part in parts]


def _part_at(at_ms: int, parts: Parts, begins: Sequence[tuple[int, int]]) -> Mapping[str, Criterion]:
    """The criteria of the part that the stage was in then."""
    numbers = [number for began_ms, number in begins if began_ms <= at_ms]
    return parts[numbers[-1] if numbers else 0]


def _again(row: Mapping[str, Any], parts: Parts, begins: Sequence[tuple[int, int]]) -> _Measured:
    name, at_ms = str(row["criterion_id"]), int(row["at_ms"])
    known = [part[name] for part in (_part_at(at_ms, parts, begins), *parts) if name in part]
    if not known:
        raise KeyError(f"criterion {name} of a measurement")
    # A look that was under way when a part ended was judged by that part's numbers.
    criterion = next((one for one in known if one.limit == row["limit"]), known[0])
    found = judge(criterion, stored_reading(name, row["query"], row["raw"]), at_ms)
    stored = Said(row["outcome"], row["cause"], row["value"])
    again = Said(found.outcome, found.cause, None if found.value is None else plain(found.value))
    return _Measured(Judged(name, at_ms, stored, again), row["reason"], found)


def _verdict_again(
    row: Mapping[str, Any], parts: Parts, begins: Sequence[tuple[int, int]], measured: Sequence[_Measured]
) -> VerdictAgain:
    at_ms = _ms(row["at"])
    stood_on, lacking = list[Measurement](), list[str]()
    for told in row["body"]["measurements"]:
        if told["reason"] == NEVER_MEASURED:
            continue
        found = [one for one in measured if _is(one, told) and one.judged.at_ms <= at_ms]
        if found:
            stood_on.append(found[-1].measurement)
        else:
            lacking.append(str(told["criterion"]))
    criteria = [one for one in _part_at(at_ms, parts, begins).values() if one.phase in JUDGED]
    judged = verdict(criteria, stood_on)
    decided_by = judged.decided_by.criterion_id if judged.decided_by else None
    return VerdictAgain(row["at"], (row["word"], row["decided_by"]), (judged.word.value, decided_by), tuple(lacking))


def _is(one: _Measured, told: Mapping[str, Any]) -> bool:
    """Whether that is the measurement which a verdict names."""
    named = (told["criterion"], told["outcome"], told["value"], told["reason"])
    return (one.judged.criterion_id, one.judged.stored.outcome, one.judged.stored.value, one.reason) == named


def _ms(text: str) -> int:
    return round(datetime.fromisoformat(text).timestamp() * 1000)
