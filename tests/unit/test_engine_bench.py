"""The comparison with engines of others: a run that says nothing is invalid, a target that is missed is said."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.bench.engine import HFT, KERNEL, NAUTILUS, TARGETS, WIRE, Played, as_json, faults, table

UPDATES = 10_000
ENGINES = (WIRE, KERNEL, NAUTILUS, HFT)


def played(**changes: Any) -> list[Played]:
    """A good run of everybody; `changes` are of the wire lane's heavy style."""
    runs = [Played(engine, style, 1.0, UPDATES, 50, 900, 48) for style in ("heavy", "calm") for engine in ENGINES]
    return [runs[0]._replace(**changes), *runs[1:]]


def test_runs_that_traded_alike_are_valid() -> None:
    assert faults(played(), UPDATES) == []
    assert faults(played(placed=52, amended=910, filled=47), UPDATES) == []


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ({"filled": 0}, "wire lane, heavy: nothing filled"),
        ({"placed": 0}, "wire lane, heavy: nothing placed"),
        ({"amended": 0}, "wire lane, heavy: nothing amended"),
        ({"amended": 450}, "wire lane, heavy: 450 amended, nautilus 900"),
        ({"filled": 90}, "wire lane, heavy: 90 filled, nautilus 48"),
        ({"updates": 9_000}, "wire lane, heavy: 9000 updates of 10000"),
    ],
)
def test_a_run_that_is_fast_because_it_does_less_is_invalid(change: dict[str, Any], fault: str) -> None:
    assert faults(played(**change), UPDATES) == [fault]


def test_the_table_says_of_every_target_whether_it_is_met() -> None:
    quick = [one._replace(cpu_s=0.4) if one.engine == WIRE else one for one in played()]
    lines = table(quick).splitlines()
    assert max(len(line) for line in lines) <= 80
    verdicts = {line[:24].strip(): line[24:] for line in lines[-len(TARGETS) :]}
    assert verdicts["wire lane, heavy"].endswith("  met")
    assert verdicts["wire lane, calm"].endswith("  met, and its aim")
    assert verdicts["kernel lane, heavy"].endswith("  NOT met, 10.0 x short")


def test_programs_are_told_the_same_and_why_a_run_is_invalid() -> None:
    told = json.loads(as_json(played(), ["why"]))
    assert [target["met"] for target in told["targets"]] == [False, True, False, False]
    assert told["invalid"] == ["why"]
    assert {engine["updates_per_s"] for engine in told["engines"]} == {UPDATES}
