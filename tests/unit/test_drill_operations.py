"""The alert drill's rule: the shipped one, lowered for one account; what cannot be lowered is not run."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from gates.stages import ROOT
from tasks.guard.drill_faults import DrillNotRun
from tasks.guard.drill_operations import LOWERED, lowered_rule

RULES = ROOT / "infra" / "prometheus" / "rules"


def test_the_shipped_rule_is_lowered_for_one_account_and_fires_at_once() -> None:
    (group,) = yaml.safe_load(lowered_rule(RULES, LOWERED, "acct-1"))["groups"]
    (rule,) = group["rules"]
    assert group["name"] == "drill-acct-1"
    assert rule["alert"] == LOWERED
    assert rule["expr"].endswith("> 0")
    assert 'mm_order_latency_ms_bucket{account="acct-1"}[5m]' in rule["expr"]
    assert rule["for"] == "0s"
    assert rule["labels"]["drill"] == "true"
    (shipped,) = yaml.safe_load((RULES / "bot.yml").read_text())["groups"][0]["rules"]
    assert shipped["expr"].endswith("> 500"), "the one that counts stays as it is"


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "no alert MMHighLatency; allowed: the rules of infra/prometheus/rules"),
        ("groups: [{name: a, rules: [{alert: MMHighLatency, expr: absent(up)}]}]", "compares with no number"),
        ("groups: 7", "no file of alert rules"),
        ("groups: [{name: a, rules: [{alert: Other, expr: up == 1}]}]", "no alert MMHighLatency"),
    ],
)
def test_a_rule_that_is_not_there_or_cannot_be_lowered_is_named(tmp_path: Path, content: str | None, said: str) -> None:
    if content is not None:
        (tmp_path / "bot.yml").write_text(content)
    with pytest.raises(DrillNotRun, match=said):
        lowered_rule(tmp_path, LOWERED, "a")
