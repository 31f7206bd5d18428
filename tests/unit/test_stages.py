"""The plan: what loads, which stages can run, and what its digest covers."""

from __future__ import annotations

import shutil
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from gates.approvers import can_ever_sign_off, load_approvers
from gates.judge import Outcome
from gates.stages import (
    ROOT,
    Plan,
    PlanError,
    candidate_digest,
    criteria_of,
    each_part,
    load_plan,
    plan_digest,
    stage_criteria,
    under_root,
)
from tests.support.gate_parts import measured
from tests.support.plans import REAL, SMOKE, content_of, edited, written

PLANS = [SMOKE, REAL]


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A copy of the project's configuration, to be changed at will."""
    shutil.copytree(ROOT / "configs", tmp_path / "configs")
    return tmp_path


@pytest.mark.parametrize("path", PLANS, ids=lambda path: path.name)
def test_the_shipped_plans_load_with_all_five_stages_and_people_who_can_sign(path: Path) -> None:
    plan = load_plan(path)
    assert [stage.id for stage in plan.stages] == ["shadow", "testnet", "canary", "soak", "scale-up"]
    people = load_approvers(under_root(plan.approvers)).people
    for stage in plan.stages:
        assert can_ever_sign_off(stage.entry_sign_offs, people, plan.author).complete
        assert can_ever_sign_off(stage.exit_sign_offs, people, plan.author).complete


def test_both_plans_give_the_canary_the_sizes_of_the_specification() -> None:
    for path in PLANS:
        canary = next(stage for stage in load_plan(path).stages if stage.id == "canary")
        assert (canary.inventory_max_quote, canary.total_max_quote) == (500, 2000)
        assert (canary.post_only_offset_bps, canary.min_qty_pad) == (Decimal("2.0"), Decimal("1.2"))
        assert canary.edge_threshold_bps == Decimal("5.0")


def test_an_order_may_come_late_by_the_grants_time_the_receive_window_and_two_quote_intervals() -> None:
    assert [load_plan(path).late_s for path in PLANS] == [7.5, 10.5]


def test_a_stage_that_cannot_run_is_refused_by_name_in_one_line() -> None:
    recorded, plan = load_plan(ROOT / "configs" / "rollout.recorded.yaml"), load_plan(SMOKE)
    with pytest.raises(PlanError, match=r"plan recorded.*: stage shadow cannot run: .*; available: canary"):
        recorded.stage("shadow")
    with pytest.raises(PlanError, match="no stage 'moon'; allowed: shadow, testnet, canary, soak, scale-up"):
        plan.stage("moon")


def test_the_smoke_canary_has_every_hard_safety_guard_and_its_own_numbers() -> None:
    criteria = {one.id: one for one in stage_criteria(load_plan(SMOKE), "canary")}
    for name in ("crossing_orders", "taker_fills", "filter_violations", "recon_divergences", "fault_freezes"):
        assert (criteria[name].phase, criteria[name].source, criteria[name].severity) == ("guard", "table", "critical")
    assert {one.unknown_deadline_s for name, one in criteria.items() if name != "two_sided_quoting_hour"} == {10}
    assert (criteria["candidate_pnl_24h"].phase, criteria["candidate_pnl_24h"].severity) == ("guard", "critical")
    assert criteria["stale_book"].on_no_go == "environment"
    assert criteria["quotes_on_stale_book"].on_no_go == "candidate"


def test_a_bot_that_does_not_freeze_is_seen_before_the_stall_is_called_the_environments() -> None:
    for path in PLANS:
        canary = next(stage for stage in load_plan(path).stages if stage.id == "canary")
        criteria = {one.id: one for one in criteria_of(canary)}
        quotes, book = criteria["quotes_on_stale_book"].passes[0].high, criteria["stale_book"].passes[0].high
        assert quotes < book


@pytest.mark.parametrize(
    ("where", "to", "said"),
    [
        (("colour",), "red", "unknown key 'colour'; allowed: schema_version, name"),
        (("stages", 2, "sizes"), 1, "stages.canary: unknown key 'sizes'; allowed: id, available"),
        (("stages", 2, "entry_sign_offs", "who"), 1, "unknown key 'who'; allowed: roles, distinct_people"),
        (("venue",), "kraken", "venue = 'kraken': input should be 'simulated' or 'bybit'"),
        (("author",), None, "the key 'author' is missing"),
        (("stages", 2, "total_max_quote"), 100, "total_max_quote 100; allowed: at least inventory_max_quote 500"),
        (("stages", 2, "warm_up_s"), 60, "warm_up_s 60; allowed: less than lasts_s 60"),
        (("stages", 2, "criteria"), None, "no criteria file; allowed: every available stage names one"),
        (("stages", 0, "available"), False, "available and unavailable_because contradict"),
        (("stages", 2, "id"), "soak", "allowed: each id once"),
        (("stages", 2, "inventory_max_quote"), 0, "input should be greater than 0"),
        (("stale_after_s",), 1.5, "stale_after_s 1.5; allowed: at least two scrapes"),
        (("blind_share",), 0, "blind_share = 0: input should be greater than 0"),
    ],
)
def test_a_bad_plan_is_one_line_that_names_thing_value_and_allowed(
    tmp_path: Path, where: tuple[Any, ...], to: Any, said: str
) -> None:
    path = edited(SMOKE, tmp_path, *where, to=to)
    with pytest.raises(PlanError) as caught:
        load_plan(path)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def _digest(project: Path) -> str:
    return plan_digest(load_plan(project / "configs" / "rollout.smoke.yaml"), project)


def test_the_plans_digest_covers_plan_criteria_and_settings_and_not_their_comments(project: Path) -> None:
    before = _digest(project)
    criteria = project / "configs" / "criteria" / "canary.yaml"
    criteria.write_text("# another comment\n" + criteria.read_text(encoding="utf-8"), encoding="utf-8")
    assert _digest(project) == before == plan_digest(load_plan(SMOKE))
    criteria.write_text(criteria.read_text(encoding="utf-8").replace('"> 10"', '"> 9"'), encoding="utf-8")
    changed_criteria = _digest(project)
    included = project / "configs" / "criteria" / "every-stage.yaml"
    included.write_text(included.read_text(encoding="utf-8").replace('"== 0"', '"<= 1"', 1), encoding="utf-8")
    changed_included = _digest(project)
    settings = project / "configs" / "bot" / "demo.yaml"
    written(settings, {**content_of(settings), "extra": 1})
    changed_settings = _digest(project)
    edited(SMOKE, project / "configs", "stages", 2, "lasts_s", to=61)
    assert len({before, changed_criteria, changed_included, changed_settings, _digest(project)}) == 5


def test_one_more_person_who_may_sign_is_another_candidate(project: Path) -> None:
    before = _digest(project)
    path = project / "configs" / "approvers.demo.yaml"
    people = content_of(path)
    people["people"].append({"name": "mallory", "roles": ["Quant Lead", "SRE Lead", "Risk Manager"]})
    written(path, people)
    assert _digest(project) != before


def test_a_plan_whose_files_are_missing_has_no_digest(project: Path) -> None:
    (project / "configs" / "bot" / "demo.yaml").unlink()
    with pytest.raises(PlanError, match=r"demo\.yaml: cannot be read: No such file"):
        _digest(project)


def test_each_part_of_a_candidate_makes_another_digest() -> None:
    parts = ["0.1.0+abc", "settings", "plan", "nonce"]
    digests = {candidate_digest(*parts)}
    for at in range(4):
        digests.add(candidate_digest(*[part + "x" if at == index else part for index, part in enumerate(parts)]))
    assert len(digests) == 5
    assert all(len(digest) == 64 for digest in digests)


def test_a_plan_does_not_change_once_loaded() -> None:
    plan: Plan = load_plan(SMOKE)
    with pytest.raises(ValueError, match="frozen"):
        plan.name = "other"  # type: ignore[misc] # that it is refused is the point


def test_a_slow_cancel_all_ends_every_stage_of_the_real_plan_and_the_smoke_plan_forgives_one() -> None:
    """On the simulated venue all processes share the machine, and a bot that is started again begins with one."""

    def outcomes(path: Path, slow_count: int) -> set[Outcome]:
        parts = [part for stage in load_plan(path).stages if stage.env != "shadow" for part in each_part(stage)]
        found = [one for part in parts for one in criteria_of(part) if one.id == "cancel_all_over_1_s"]
        assert len(found) == len(parts)
        assert all('le="1.0"' in one.query for one in found)
        return {measured(one, slow_count).outcome for one in found}

    smoke, real = PLANS
    assert [outcomes(real, count) for count in (0, 1)] == [{Outcome.PASS}, {Outcome.FAIL}]
    assert [outcomes(smoke, count) for count in (0, 1, 2)] == [{Outcome.PASS}, {Outcome.PASS}, {Outcome.FAIL}]


def test_at_a_real_venue_no_more_than_a_twentieth_of_a_watch_may_go_unseen(tmp_path: Path) -> None:
    path = tmp_path / "plan.yaml"
    assert load_plan(REAL).blind_share == Decimal("0.05")
    path.write_text(REAL.read_text().replace("attempts_max: 3", "attempts_max: 3\nblind_share: 0.2"))
    with pytest.raises(PlanError, match=r"blind_share 0\.2 at venue bybit; allowed: at most 0\.05"):
        load_plan(path)
