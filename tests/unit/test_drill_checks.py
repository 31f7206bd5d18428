"""The checks that drills trip: counted, firing, whole; what is not known is UNKNOWN with its reason, never good."""

from __future__ import annotations

from typing import Any

import pytest

from gates.criteria import load_criteria
from gates.judge import Outcome, judge
from gates.sources.checks import CheckFacts, measure_checks
from gates.stages import ROOT

SMOKE = {one.id: one for one in load_criteria(ROOT / "configs" / "criteria" / "testnet-smoke.yaml")}


@pytest.mark.parametrize(
    ("name", "facts", "outcome"),
    [
        ("kill_switch_unused", {"kill_switch_runs": 0}, Outcome.PASS),
        ("kill_switch_unused", {"kill_switch_runs": 1}, Outcome.FAIL),
        ("kill_switch_unused", {"kill_switch_error": "latest.json: not a report"}, Outcome.UNKNOWN),
        ("alerts_firing", {"alerts_firing": 0}, Outcome.PASS),
        ("alerts_firing", {"alerts_firing": 2}, Outcome.FAIL),
        ("alerts_firing", {"alerts_error": "has no alert rule loaded"}, Outcome.UNKNOWN),
        ("backup_is_whole", {"backup_whole": True}, Outcome.PASS),
        ("backup_is_whole", {"backup_whole": False, "backup_error": "record of a: link 3"}, Outcome.FAIL),
        ("backup_is_whole", {}, Outcome.UNKNOWN),
        ("within_15_min", {"part_s": 899.0}, Outcome.PASS),
        ("within_15_min", {"part_s": 900.0}, Outcome.FAIL),
        ("within_15_min", {}, Outcome.UNKNOWN),
    ],
)
def test_a_fact_decides_and_one_that_is_missing_does_not(name: str, facts: dict[str, Any], outcome: Outcome) -> None:
    criterion = SMOKE[name]
    (reading,) = measure_checks([criterion], CheckFacts("d", "v", 5.0, **facts), 1)
    one = judge(criterion, reading, 1)
    assert one.outcome is outcome
    for key, value in facts.items():
        assert not key.endswith("_error") or value in one.reason
