"""The shipped alert rules: their scenes by promtool, what each has to say, and that each asks for metrics there are."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from bot.metrics import exposed_names
from gates.stages import ROOT

RULES = ROOT / "infra" / "prometheus" / "rules"
SCENES = Path(__file__).parent / "alerts"
OF_THE_ROLLOUT = (
    "RolloutRollbackFailed", "RolloutBlind", "RolloutSignOffWaiting", "RolloutNotificationsStuck",
)  # fmt: skip


def rules() -> list[dict[str, object]]:
    groups = [group for path in RULES.glob("*.yml") for group in yaml.safe_load(path.read_text())["groups"]]
    return [rule for group in groups for rule in group["rules"]]


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is not on PATH")
@pytest.mark.parametrize("scenes", sorted(SCENES.glob("*.yml")), ids=lambda path: path.stem)
def test_every_scene_ends_as_it_should_by_promtools_own_word(scenes: Path) -> None:
    done = subprocess.run(
        ["promtool", "test", "rules", str(scenes)], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_each_alert_of_the_rollout_says_how_bad_how_soon_what_to_do_and_where_to_read_on() -> None:
    found = {str(rule["alert"]): rule for rule in rules()}
    scenes = (SCENES / "rollout.yml").read_text()
    for name in OF_THE_ROLLOUT:
        rule = found[name]
        assert "for" in rule
        labels, annotations = rule["labels"], rule["annotations"]
        assert isinstance(labels, dict)
        assert isinstance(annotations, dict)
        assert set(labels) == {"severity", "priority"}
        assert labels["priority"] in ("P0", "P1", "P2", "P3")
        assert set(annotations) == {"summary", "response", "action", "runbook"}
        assert (ROOT / str(annotations["runbook"])).is_file(), annotations["runbook"]
        assert f"alertname: {name}," in scenes


def test_no_alert_asks_for_a_metric_that_is_not_in_the_catalogue() -> None:
    for rule in rules():
        named = re.findall(r"\b(?:mm|rollout|watchdog)_\w+", str(rule["expr"]))
        assert named, rule["alert"]
        assert set(named) <= exposed_names(), rule["alert"]
