"""Checklists: what loads, what is refused, what people still have to say, and no item that nobody could fulfil."""

from __future__ import annotations

import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from gates.approvers import Person
from gates.checklists import ALWAYS, ON_THE_LIST, PREFLIGHT_CHECKS, Item, Said, load_checklist, unattested
from gates.criteria import CriteriaError
from gates.lint import lint_file, lint_not_yet, lint_plan
from gates.stages import ROOT, PlanError, cannot_be_measured, checklist_of, load_plan, plan_digest
from tasks.preflight import CHECKS
from tasks.preflight_listed import LISTED, item_limit
from tests.support.plans import REAL, written

LISTS = ROOT / "configs" / "checklists"
NOW = datetime(2026, 1, 31, tzinfo=UTC)
CANDIDATE = "c" * 64
WORDS = {"title": "It was looked at", "why": "Somebody has to have looked."}
PEOPLE = [
    Person.model_validate({"name": name, "roles": roles})
    for name, roles in (("ada", ["Quant Lead"]), ("grace", ["SRE Lead"]), ("linus", ["Risk Manager"]))
]


def item(**changes: Any) -> dict[str, Any]:
    return {"id": "reviewed", **WORDS, **changes}


def test_every_check_that_an_item_may_name_is_made_and_the_other_way_round() -> None:
    assert list(ALWAYS) == [row[0] for row in CHECKS]
    assert list(ON_THE_LIST) == list(LISTED)


def test_the_shipped_lists_load_and_name_all_that_is_made_before_every_grant() -> None:
    live, simulated = (load_checklist(LISTS / f"{name}.yaml") for name in ("live", "simulated"))
    for one in (live, simulated):
        assert set(ALWAYS) <= {item.check for item in one.items}
        assert {item.phase for item in one.items} == {"preflight"}
    assert not simulated.attestations, "nobody has to be asked for the demo"
    assert {"code_review", "dashboard_reviewed"} <= {one.id for one in live.attestations}
    assert {one.check for one in live.items} >= set(PREFLIGHT_CHECKS)


def test_an_item_is_a_criterion_that_passes_at_1_alone() -> None:
    one = Item.model_validate(item(id="preflight_disk"))
    assert (one.check, one.unit, str(one.go), one.limit) == ("preflight_disk", "flag", "== 1", "go == 1")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ({"items": [item(check="preflight_moon")]}, "unknown check 'preflight_moon'; allowed: preflight_clock"),
        ({"items": [item()]}, "unknown check 'reviewed'"),
        ({"items": [item(drill={"name": "freeze"}, attestation={})]}, "drill and attestation; allowed: one of"),
        ({"items": [item(check="drill_passed")]}, "reviewed: check drill_passed without a drill; allowed: `drill:`"),
        ({"items": [item(id="drill_passed")]}, "drill_passed: check drill_passed without a drill; allowed"),
        ({"items": [item(check="attested")]}, "reviewed: check attested without an attestation; allowed: `attestation"),
        ({"items": [item(drill={"name": "earthquake"})]}, "'freeze'"),
        ({"items": [item(attestation={"by": {"distinct_people": 0}})]}, "by asks for nobody; allowed: at least one"),
        ({"items": [item(attestation={"max_age_s": 0})]}, "max_age_s"),
        ({"items": [item(attestation={}), item(attestation={})]}, "'reviewed' stands twice; allowed: once"),
        ({"items": [item(attestation={}, severity="advisory")]}, "severity"),
        ({"items": []}, "items"),
        ({"include": "list.yaml", "items": [item(attestation={})]}, "leads back here"),
    ],
)
def test_a_bad_list_is_refused_in_one_line(tmp_path: Path, content: dict[str, Any], said: str) -> None:
    path = written(tmp_path / "list.yaml", content)
    with pytest.raises(CriteriaError) as raised:
        load_checklist(path)
    assert said in str(raised.value)
    assert str(raised.value).startswith(f"{path}:")
    assert "\n" not in str(raised.value)


def test_what_cannot_be_had_yet_is_listed_and_keeps_the_real_plan_from_live() -> None:
    path = LISTS / "live.yaml"
    assert lint_file(path) == []
    lines = lint_not_yet(path)
    assert any("alerts_loaded (all loaded, none firing): not yet measurable: critical alert" in line for line in lines)
    plan = load_plan(REAL)
    for stage in plan.stages:
        wanted = {one.id for one in checklist_of(stage).not_yet}
        assert wanted <= {one.id for one in cannot_be_measured(stage)}
        assert bool(wanted) == (stage.env == "live")


@pytest.fixture
def project(tmp_path: Path) -> Path:
    shutil.copytree(ROOT / "configs", tmp_path / "configs")
    return tmp_path


def test_a_changed_checklist_is_another_candidate(project: Path) -> None:
    plan = load_plan(project / "configs" / "rollout.yaml")
    before = plan_digest(plan, project)
    for name in ("live.yaml", "every-grant.yaml"):
        path = project / "configs" / "checklists" / name
        path.write_text(path.read_text().replace("title: ", "title: Really ", 1))
        assert plan_digest(plan, project) != before
        before = plan_digest(plan, project)


def test_a_real_plan_without_a_checklist_on_live_does_not_load(tmp_path: Path) -> None:
    path = tmp_path / "plan.yaml"
    path.write_text(REAL.read_text().replace("    checklist: configs/checklists/live.yaml\n", "", 1))
    with pytest.raises(PlanError, match="stage canary is live at bybit without a checklist; allowed: one is named"):
        load_plan(path)


def test_an_item_that_nobody_could_ever_fulfil_is_refused(project: Path) -> None:
    path = project / "configs" / "rollout.yaml"
    path.write_text(path.read_text().replace("name: maker-policy", "name: freeze"))
    approvers = project / "configs" / "approvers.yaml"
    approvers.write_text(approvers.read_text().replace("SRE Lead", "Risk Manager"))
    faults = lint_plan(path, project)
    said = "stage canary: drill_maker_policy: drill.name 'maker-policy'; allowed: a drill that stage testnet"
    assert any(said in fault for fault in faults)
    assert any("tests_green: attestation.by can never be complete" in fault and "SRE Lead" in fault for fault in faults)


def test_who_is_missing_is_said_and_whose_word_is_void_and_why() -> None:
    one = Item.model_validate(item(attestation={"by": {"roles": ["SRE Lead"], "distinct_people": 2}}))
    fresh = NOW - timedelta(days=1)

    def lacks(*said: Said) -> tuple[str, ...]:
        return unattested(one, PEOPLE, said, CANDIDATE, "linus", NOW)

    assert lacks() == ("missing SRE Lead, 1 more person",)
    assert lacks(Said("reviewed", "linus", CANDIDATE, fresh)) == ("missing SRE Lead, 1 more person",), "the author"
    assert lacks(Said("another", "grace", CANDIDATE, fresh)) == ("missing SRE Lead, 1 more person",)
    both = [Said("reviewed", name, CANDIDATE, fresh) for name in ("ada", "grace")]
    assert lacks(*both) == ()
    assert lacks(*both, Said("reviewed", "ada", "d" * 64, NOW)) == (), "another candidate's takes nothing away"
    assert lacks(both[0], both[1]._replace(intact=False))[1] == "grace's evidence is not the file that was attested"
    old = both[1]._replace(at=NOW - timedelta(days=31))
    assert lacks(both[0], old) == ("missing SRE Lead", "grace's is 31.0 d old, allowed: at most 30 d")
    assert lacks(both[0], old, both[1]) == (), "said anew"


def test_the_limit_of_an_item_says_who_and_how_old() -> None:
    by = {"by": {"roles": ["SRE Lead"], "distinct_people": 3}, "max_age_s": 86400}
    assert item_limit(Item.model_validate(item(attestation=by))) == "by SRE Lead, 2 people, <= 1 d old"
    assert item_limit(Item.model_validate(item(drill={"name": "freeze"}))) == "passed, <= 30 d old"
