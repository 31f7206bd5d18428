"""A plan for a real venue asks enough people, stays small enough, lasts long enough, and only ever tightens a gate."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from gates.stages import PlanError, load_plan
from tests.support.plans import REAL, SMOKE, content_of, edited, written

TESTNET, CANARY, SOAK, SCALE_UP = 1, 2, 3, 4
NOBODY: dict[str, Any] = {}
RISK = {"roles": ["Risk Manager"], "distinct_people": 2}
QUANT = {"roles": ["Quant Lead"], "distinct_people": 2}


LOOSER = [
    (0, ("exit_sign_offs",), NOBODY, "shadow: exit_sign_offs 0 people; allowed: at least 1 person"),
    (TESTNET, ("exit_sign_offs",), RISK, "testnet: part unbroken: exit_sign_offs 2 people with Risk Manager; allowed:"),
    (CANARY, ("exit_sign_offs",), NOBODY, "canary: exit_sign_offs 0 people; allowed: at least 2 people with Risk Mana"),
    (CANARY, ("exit_sign_offs",), QUANT, "canary: exit_sign_offs 2 people with Quant Lead; allowed: at least 2 people"),
    (SOAK, ("exit_sign_offs",), RISK, "soak: exit_sign_offs 2 people with Risk Manager; allowed: at least 3 people wi"),
    (SCALE_UP, ("parts", 1, "exit_sign_offs"), NOBODY, "scale-up: part step-2: exit_sign_offs 0 people; allowed: at"),
    (SCALE_UP, ("exit_sign_offs",), NOBODY, "scale-up: part step-6: exit_sign_offs 0 people; allowed: at least 2"),
    (CANARY, ("inventory_max_quote",), 500.01, "canary: inventory_max_quote 500.01; allowed: at most 500"),
    (CANARY, ("total_max_quote",), 500_000, "canary: total_max_quote 500000; allowed: at most 2000"),
    (CANARY, ("symbols",), ["BTCUSDT", "ETHUSDT"], "canary: symbols BTCUSDT, ETHUSDT; allowed: at most 1"),
    (CANARY, ("lasts_s",), 7200, "canary: lasts_s 7200; allowed: at least 86400"),
    (SOAK, ("inventory_max_quote",), 2001, "soak: inventory_max_quote 2001; allowed: at most 2000"),
    (SOAK, ("total_max_quote",), 10_001, "soak: total_max_quote 10001; allowed: at most 10000"),
    (SOAK, ("lasts_s",), 86_400, "soak: lasts_s 86400; allowed: at least 172800"),
    (SCALE_UP, ("parts", 0, "inventory_max_quote"), 2401, "step step-1: inventory_max_quote 2401; allowed: at most 20"),
    (SCALE_UP, ("parts", 0, "total_max_quote"), 12_001, "part step-1: total_max_quote 12001; allowed: at most 20 % ab"),
    (SCALE_UP, ("parts", 2, "lasts_s"), 86_400, "part step-3: lasts_s 86400; allowed: at least 172800"),
    (SCALE_UP, ("ceilings",), None, "ceilings none on day 0; allowed: at most 5000 on 1 symbols on day 0"),
    (SCALE_UP, ("ceilings", 0, "symbols_max"), 3, "ceilings 5000 on 3 symbols; allowed: at most 5000 on 1 symbols"),
    (SCALE_UP, ("ceilings", 1, "inventory_max_quote"), 10_001, "ceilings 10001 on 3 symbols; allowed: at most 10000"),
    (SCALE_UP, ("ceilings", 0, "from_day"), 1, "ceilings none on day 0; allowed"),
    (SCALE_UP, ("ceilings", 2, "from_day"), 8, "ceilings 50000 on 10 symbols; allowed: at most 10000 on 3 symbols on"),
    (CANARY, ("flatten",), False, "canary: flatten false; allowed: true"),
    (TESTNET, ("flatten",), False, "testnet: flatten false; allowed: true"),
    (SOAK, ("prolong_share",), 0.2, "soak: prolong_share 0.2; allowed: at most 0.1"),
    (CANARY, ("overrides",), {"pnl": {"no_go": "< -101"}}, "override pnl: go >= -50, no-go < -101; allowed: no looser"),
    (CANARY, ("overrides",), {"pnl": {"go": ">= -60"}}, "override pnl: go >= -60, no-go < -100; allowed: no looser th"),
    (SOAK, ("overrides",), {"crossing_orders": {"go": "<= 1"}}, "override crossing_orders: go <= 1; allowed: no loose"),
    (SOAK, ("overrides",), {"grant_fresh": {"for_s": 6}}, "override grant_fresh.for_s 6; allowed: at most 5"),
    (SOAK, ("overrides",), {"*": {"unknown_deadline_s": 600}}, "override process_up.unknown_deadline_s 600; allowed:"),
    (SOAK, ("overrides",), {"edge": {"min_coverage": 0.1}}, "override edge.min_coverage 0.1; allowed: at least 0.9"),
    (SOAK, ("overrides",), {"taker_fills": {"every_s": 60}}, "override taker_fills.every_s 60; allowed: at most 1"),
    (SOAK, ("overrides",), {"memory_growth": {"window_s": 60}}, "override memory_growth.window_s 60; allowed: 86400"),
    (SCALE_UP, ("parts", 5, "overrides"), {"taker_fills": {"go": "<= 9"}}, "override taker_fills: go <= 9; allowed"),
]  # fmt: skip


@pytest.mark.parametrize(("stage", "where", "to", "said"), LOOSER)
def test_a_live_plan_that_is_looser_than_it_may_be_is_refused_by_field_value_and_range(
    tmp_path: Path, stage: int, where: tuple[Any, ...], to: Any, said: str
) -> None:
    with pytest.raises(PlanError) as caught:
        load_plan(edited(REAL, tmp_path, "stages", stage, *where, to=to))
    assert said in str(caught.value)
    assert "at venue bybit" in str(caught.value) or "step step-1" in said
    assert "\n" not in str(caught.value)


def test_a_live_scale_up_without_steps_is_refused(tmp_path: Path) -> None:
    content = content_of(REAL)
    scale_up = content["stages"][SCALE_UP]
    for name in ("parts", "ceilings", "rollback_to"):
        del scale_up[name]
    scale_up |= {"inventory_max_quote": 900_000, "total_max_quote": 900_000}
    path = written(tmp_path / "plan.yaml", content)
    with pytest.raises(PlanError, match="stage scale-up: parts none; allowed: steps, each at most 20 % above"):
        load_plan(path)


@pytest.mark.parametrize(
    ("stage", "where", "to"),
    [
        (CANARY, ("exit_sign_offs",), {"roles": ["Risk Manager", "Quant Lead"], "distinct_people": 3}),
        (CANARY, ("inventory_max_quote",), 400),
        (CANARY, ("lasts_s",), 172_800),
        (SOAK, ("symbols",), ["BTCUSDT", "ETHUSDT", "SOLUSDT"]),
        (SOAK, ("overrides",), {"crossing_orders": {"unknown_deadline_s": 30}, "pnl": {"no_go": "< -300"}}),
        (SOAK, ("overrides",), {"pnl": {"go": ">= -100"}, "edge": {"min_coverage": 0.95}}),
        (SCALE_UP, ("ceilings", 2, "inventory_max_quote"), 20_000),
        (TESTNET, ("overrides",), {"orders_are_placed": {"for_s": 3600}}),
    ],
)
def test_more_care_is_always_allowed(tmp_path: Path, stage: int, where: tuple[Any, ...], to: Any) -> None:
    load_plan(edited(REAL, tmp_path, "stages", stage, *where, to=to))


@pytest.mark.parametrize(("stage", "where", "to", "said"), LOOSER[2:4] + LOOSER[7:12])
def test_the_simulated_venue_may_ask_nobody_and_last_seconds(
    tmp_path: Path, stage: int, where: tuple[Any, ...], to: Any, said: str
) -> None:
    load_plan(edited(SMOKE, tmp_path, "stages", stage, *where, to=to))


def test_a_digest_is_tried_three_times_at_most(tmp_path: Path) -> None:
    changed = tmp_path / "plan.yaml"
    changed.write_text(REAL.read_text().replace("attempts_max: 3", "attempts_max: 4"))
    with pytest.raises(PlanError, match="attempts_max 4 at venue bybit; allowed: at most 3"):
        load_plan(changed)
    changed.write_text(REAL.read_text().replace("attempts_max: 3", "attempts_max: 2"))
    assert load_plan(changed).attempts_max == 2
