"""Parts of a stage: what each sets otherwise, how large a step may be, and under which ceiling it stands."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path
from typing import get_args

import pytest

from gates.approvers import SignOffs
from gates.parts import Ceiling, DrillName, Size, ceiling_fault, step_fault
from gates.stages import PlanError, cannot_be_measured, criteria_of, load_plan
from tests.support.plans import REAL, SMOKE, content_of, written

TWO = SignOffs(roles=("Risk Manager",), distinct_people=2)
ALL = SignOffs(roles=("Quant Lead", "SRE Lead", "Risk Manager"), distinct_people=3)


def test_a_part_is_the_stage_with_what_it_sets_otherwise() -> None:
    testnet = load_plan(SMOKE).stage("testnet")
    smoke, unbroken = testnet.at(0), testnet.at(1)
    assert (smoke.lasts_s, unbroken.lasts_s) == (20, 30)
    assert {one.name for one in smoke.drills} == set(get_args(DrillName)), "each once, in the smoke alone"
    assert len(smoke.drills) == len(get_args(DrillName))
    assert unbroken.drills == ()
    assert (smoke.exit_sign_offs, unbroken.exit_sign_offs) == (SignOffs(), ALL), "asked at the stage's end alone"
    assert {one.id for one in criteria_of(smoke)} - {one.id for one in criteria_of(unbroken)} >= {
        "drills",
        "divergences",
    }
    assert unbroken.overrides["stale_book"] == {"go": "<= 10000"}, "the stage's numbers hold in every part"
    assert "memory_growth" not in smoke.overrides


def test_a_stage_without_parts_is_its_only_part_and_drills_once() -> None:
    soak = load_plan(SMOKE).stage("soak")
    assert soak.part_count == 1
    assert soak.at(0) == soak
    assert soak.part_name(0) == ""


def test_the_real_plan_scales_up_in_six_steps_to_5000_on_three_symbols() -> None:
    scale = next(stage for stage in load_plan(REAL).stages if stage.id == "scale-up")
    assert [str(one.inventory_max_quote) for one in scale.sizes] == [
        "2400", "2880", "3456", "4147.2", "4976.64", "5000",
    ]  # fmt: skip
    assert [one.symbols_count for one in scale.sizes] == [1, 1, 1, 1, 3, 3]
    assert scale.largest == (Decimal(5000), Decimal(25000))
    assert [scale.at(number).exit_sign_offs for number in range(6)] == [TWO] * 6


def test_both_plans_ask_the_people_of_the_specification_into_each_stage() -> None:
    for path in (SMOKE, REAL):
        stages = {stage.id: stage for stage in load_plan(path).stages}
        last = {name: stage.at(stage.part_count - 1).exit_sign_offs for name, stage in stages.items()}
        assert last["shadow"] == SignOffs(distinct_people=1)
        assert last["testnet"] == last["soak"] == ALL
        assert last["canary"] == TWO
        assert stages["scale-up"].at(0).exit_sign_offs == TWO


def test_only_the_real_plan_has_stages_that_wait_for_what_cannot_be_measured() -> None:
    real = {stage.id: {one.id for one in cannot_be_measured(stage)} for stage in load_plan(REAL).stages}
    assert {"pnl_agrees_with_statement", "rebate_earned", "no_critical_alert"} <= real["canary"]
    assert {"vip_profile", "read_only_key_first"} <= real["testnet"]


@pytest.mark.parametrize(
    ("sizes", "before", "said"),
    [
        (["2400", "2880"], "2000", ""),
        (["2400.01"], "2000", "step a0: inventory_max_quote 2400.01; allowed: at most 20 % above 2000"),
        (["2400", "2881"], "2000", "step a1: inventory_max_quote 2881; allowed: at most 20 % above 2400"),
        (["9000", "100"], None, ""),
    ],
)
def test_a_step_is_at_most_a_fifth_above_the_one_before_it(sizes: list[str], before: str | None, said: str) -> None:
    assert step_fault(_sizes(*sizes), None if before is None else Decimal(before)) == said


def _sizes(*quotes: str, symbols: int = 1, days: float = 2) -> list[Size]:
    return [
        Size(name=f"a{at}", inventory_max_quote=Decimal(quote), symbols_count=symbols, lasts_s=days * 86_400)
        for at, quote in enumerate(quotes)
    ]


def test_a_step_stands_under_the_ceiling_of_the_day_on_which_it_begins() -> None:
    ceilings = [
        Ceiling(from_day=0, inventory_max_quote=Decimal(100), symbols_max=1),
        Ceiling(from_day=4, inventory_max_quote=Decimal(200), symbols_max=3),
    ]
    assert ceiling_fault(_sizes("100", "100", "200"), ceilings) == ""
    assert "step a1: inventory_max_quote 101; allowed: at most 100 on day 2" in ceiling_fault(
        _sizes("100", "101"), ceilings
    )
    assert "3 symbols; allowed: at most 1 on day 0" in ceiling_fault(_sizes("100", symbols=3), ceilings)


@pytest.mark.parametrize(
    ("stage", "changes", "said"),
    [
        (
            4,
            {"inventory_max_quote": 2401},
            "stage scale-up: step step-1: inventory_max_quote 2401; allowed: at most 20 %",
        ),
        (4, {"parts": [{"id": "only"}]}, "rollback_to plateau without two parts"),
        (4, {"ceilings": [{"from_day": 0, "inventory_max_quote": 2500, "symbols_max": 2}]}, "at most 2500 on day 0"),
        (4, {"parts": [{"id": "a1"}, {"id": "a1"}]}, "parts a1, a1; allowed: each id once"),
        (4, {"parts": [{"id": "a1", "total_max_quote": 1}, {"id": "a2"}]}, "part a1: total_max_quote 1"),
        (4, {"parts": [{"id": "a1", "symbols": ["SOLUSDT"]}, {"id": "a2"}]}, "part a1: symbols SOLUSDT"),
        (0, {"drills": [{"name": "freeze", "trips": ["x"]}]}, "drills in env shadow"),
        (3, {"drills": [{"name": "fire", "trips": ["x"]}]}, "'freeze', 'maker-policy', 'kill-switch', 'restart'"),
    ],
)
def test_parts_that_contradict_are_refused_in_one_line(
    tmp_path: Path, stage: int, changes: dict[str, object], said: str
) -> None:
    content = content_of(SMOKE)
    content["stages"][stage] |= changes
    path = written(tmp_path / "plan.yaml", content)
    with pytest.raises(PlanError) as caught:
        load_plan(path)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)
