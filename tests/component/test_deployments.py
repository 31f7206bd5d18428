"""What `prefect.yaml` deploys: every stage, the whole road and every drill, each a flow that takes what it is given."""

from __future__ import annotations

import importlib
from typing import Any, Final, get_args

import pytest
import yaml

from gates.parts import DrillName
from gates.stages import ROAD, ROOT

CONTENT: Final[dict[str, Any]] = yaml.safe_load((ROOT / "prefect.yaml").read_text(encoding="utf-8"))
DEPLOYED: Final[list[dict[str, Any]]] = CONTENT["deployments"]


def _flow(deployment: dict[str, Any]) -> Any:
    path, _, name = str(deployment["entrypoint"]).rpartition(":")
    assert (ROOT / path).is_file()
    return getattr(importlib.import_module(path.removesuffix(".py").replace("/", ".")), name)


def _named() -> list[str]:
    return [f"{_flow(one).name}/{one['name']}" for one in DEPLOYED]


def test_every_stage_the_whole_road_and_every_drill_are_deployed_once() -> None:
    rollouts = [f"rollout/{stage}" for stage in (*ROAD, "full")]
    drills = [f"drill/{name}" for name in get_args(DrillName)]
    assert sorted(_named()) == sorted([*rollouts, *drills, "approval/person"])


@pytest.mark.parametrize("deployment", DEPLOYED, ids=[one["name"] for one in DEPLOYED])
def test_each_is_a_flow_that_takes_the_parameters_it_is_given(deployment: dict[str, Any]) -> None:
    flow, given = _flow(deployment), deployment.get("parameters", {})
    assert flow.validate_parameters(given) == given if given else flow.name == "approval"
    if flow.name == "drill":
        assert given == {"name": deployment["name"], "rollout": None}
    elif flow.name == "rollout":
        assert given == {"stage": deployment["name"], "plan": None, "rollout": None, "account": None}
    assert deployment["work_pool"] == {"name": "slipway"}
    assert len(deployment["description"]) > 20
