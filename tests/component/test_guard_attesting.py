"""The real plan is kept from live by all that is missing, each by name, and no longer once people have said it."""

from __future__ import annotations

import asyncio
import json
import secrets
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import pytest
import yaml
from sqlalchemy import text

from flows.__main__ import main
from flows.attesting import CannotAttest, about
from gates.parts import DrillName
from gates.stages import ROOT, candidate_digest, load_plan, plan_digest
from tasks.account_file import SECRETS
from tasks.attestation import keep_evidence
from tasks.guard import requests
from tasks.guard.beginning import begin
from tasks.guard.requests import answer_for_ever
from tasks.guard.state import GuardState, Refused
from tasks.record import Answer
from tasks.record_migrations import NEWEST_REVISION
from tasks.record_tables import Drill, Inbox, StageRun
from tasks.sign_off import STEP_S, Seeds, current_code
from tasks.state_folder import StateFolder, write_private
from tests.support.guard_parts import guard_at

PEOPLE = {"ada": ["Quant Lead"], "grace": ["SRE Lead"], "linus": ["Risk Manager"]}
ITEMS = {
    "code_review": ("ada", "grace"),
    "tests_green": ("grace",),
    "venue_settings": ("linus",),
    "kill_switch_live_dry_run": ("grace",),
    "position_reconciliation": ("grace",),
    "order_lifecycle": ("ada",),
    "rate_limits": ("grace",),
    "multi_day_soak": ("ada",),
    "secrets_in_place": ("grace",),
    "dashboard_reviewed": ("ada", "linus"),
    "on_call": ("grace",),
    "incident_limits": ("linus",),
}


@pytest.fixture
def guard(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[GuardState]:
    """The guard of an account at the real venue, whose approvers are enrolled. The plan is beside it."""
    home = tmp_path / "home"
    made = guard_at(home, "parked")
    tokens = dict.fromkeys(SECRETS, "k" * 32)
    access = {"account": "a", "venue": "bybit", "env": "live", **tokens}
    write_private(made.folder.accounts / "a.json", json.dumps(access))
    shutil.copytree(ROOT / "configs", tmp_path / "configs")
    people = [{"name": name, "roles": roles} for name, roles in PEOPLE.items()]
    (tmp_path / "people.yaml").write_text(yaml.safe_dump({"schema_version": 1, "people": people}))
    plan = yaml.safe_load((tmp_path / "configs" / "rollout.yaml").read_text())
    plan["approvers"] = str(tmp_path / "people.yaml")
    for stage in plan["stages"]:
        for one in (stage, *stage.get("parts", ())):
            for key in ("criteria", "checklist"):
                if key in one:
                    one[key] = str(tmp_path / one[key])
    (tmp_path / "plan.yaml").write_text(yaml.safe_dump(plan))
    made.folder.seeds.unlink()
    Seeds(made.folder.seeds).add(list(PEOPLE))
    monkeypatch.setenv("SLIPWAY_HOME", str(home))
    monkeypatch.delenv("SLIPWAY_RECORD_URL", raising=False)
    monkeypatch.setattr(requests, "EVERY_S", 0.01)
    yield made
    made.store.close()


def measurable(folder: Path) -> None:
    """Nothing is left that could not be measured: what remains are drills and people."""
    for path in (folder / "configs").rglob("*.yaml"):
        content = yaml.safe_load(path.read_text())
        if isinstance(content, dict) and content.pop("not_yet_measurable", None):
            path.write_text(yaml.safe_dump(content))


def begun(guard: GuardState, folder: Path, stage: str = "canary") -> str:
    """Why the stage does not begin."""
    payload = {"rollout": "real", "stage": stage, "plan": str(folder / "plan.yaml"), "nonce": ""}
    with pytest.raises(Refused) as raised:
        asyncio.run(begin(guard, payload))
    said = str(raised.value)
    assert "\n" not in said
    return said


def candidate(folder: Path) -> str:
    return about(StateFolder(folder / "home"), folder / "plan.yaml", None, None).candidate


def drilled(guard: GuardState, digest: str, *names: str) -> None:
    """As if the candidate had passed these drills on testnet."""
    run = StageRun(
        rollout="r", account="a", stage="testnet", attempt=1, step="promoted", candidate=digest, plan_path=""
    )
    number = guard.store.record.add_stage_run(run).id or 0
    for name in names:
        drill = guard.store.record.add_drill(Drill(stage_run_id=number, name=name))
        guard.store.record.end_drill(drill, "passed", {})


def ask(guard: GuardState, folder: Path, item: str, by: str, **changes: Any) -> Answer:
    """Through the inbox, as the command does; every call has a code of its own."""
    (folder / f"{item}.txt").write_text(f"{by} looked at {item}")
    kept = keep_evidence(folder / f"{item}.txt", guard.folder.attestations)
    payload = {
        "item": item, "person": by, "code": current_code(guard.folder.seeds, by, "simulated"),
        "plan": str(folder / "plan.yaml"), "evidence": str(kept.path), "sha256": kept.sha256,
        "size_bytes": kept.size_bytes, "nonce": "", **changes,
    }  # fmt: skip
    return asyncio.run(_answer(guard, payload))


async def _answer(guard: GuardState, payload: dict[str, Any]) -> Answer:
    return await _answered(guard, guard.store.record.submit("a", "attest", payload, secrets.token_hex(4)))


async def _answered(guard: GuardState, number: int) -> Answer:
    answering = asyncio.create_task(answer_for_ever(guard))
    end = asyncio.get_running_loop().time() + 10
    while (found := guard.store.record.answer(number)) is None:
        assert asyncio.get_running_loop().time() < end
        await asyncio.sleep(0.01)
    answering.cancel()
    return found


def forget_codes(guard: GuardState) -> None:
    """As if half a minute had passed: the same person may use the next code."""
    with guard.store.record.engine.begin() as connection:
        connection.execute(text("DELETE FROM used_code"))


def newest(guard: GuardState) -> None:
    """The tables are those of the newest revision, so the command has nothing to migrate."""
    with guard.store.record.engine.begin() as connection:
        connection.execute(text("CREATE TABLE alembic_version (version_num VARCHAR(32) NOT NULL)"))
        connection.execute(text("INSERT INTO alembic_version VALUES (:newest)"), {"newest": NEWEST_REVISION})


def test_everything_that_keeps_the_shipped_plan_from_live_is_named(guard: GuardState, tmp_path: Path) -> None:
    said = begun(guard, tmp_path)
    assert said.startswith("stage canary of production does not start on live: not yet measurable: ")
    for name in ("alerts_loaded", "alerts_tested", "two_addresses", "`gates lint --plan` says what each needs"):
        assert name in said
    assert "drill_freeze: drill freeze was not made at testnet by this candidate" in said
    for item in ITEMS:
        assert f"{item}: missing " in said


def test_it_is_people_and_drills_that_let_the_stage_on(guard: GuardState, tmp_path: Path) -> None:
    measurable(tmp_path)
    digest = candidate(tmp_path)
    assert digest != candidate_digest("v", "s", plan_digest(load_plan(tmp_path / "plan.yaml")), "")
    drilled(guard, digest, *get_args(DrillName))
    for item, people in ITEMS.items():
        assert f"{item}: missing" in begun(guard, tmp_path)
        for person in people:
            answer = ask(guard, tmp_path, item, person)
            assert answer.done, answer.reason
            assert answer.result["candidate"] == digest
            forget_codes(guard)
    # Nothing is missing any more. What is left are the criteria that the shipped files name as not yet measurable: a
    # plan with files of its own cannot leave them out.
    said = begun(guard, tmp_path)
    assert said.startswith("stage canary of production does not start on live: not yet measurable: no_critical_alert, ")
    assert said.endswith("readiness_green (`gates lint --plan` says what each needs)")
    evidence = next((guard.folder.attestations).rglob("on_call.txt"))
    evidence.write_text("nobody is")
    assert "on_call: missing SRE Lead; grace's evidence is not the file that was attested" in begun(guard, tmp_path)
    (tmp_path / "configs" / "criteria" / "soak.yaml").write_text(
        (tmp_path / "configs" / "criteria" / "soak.yaml").read_text().replace("title: ", "title: Really ", 1)
    )
    said = begun(guard, tmp_path)
    assert f"incident_limits: missing Risk Manager; linus's is for candidate {digest[:12]}, this is" in said
    assert "drill_freeze: drill freeze was not made at testnet by this candidate" in said


def test_what_cannot_be_an_attestation_is_refused_by_name(guard: GuardState, tmp_path: Path) -> None:
    assert "is not attested by people" in ask(guard, tmp_path, "preflight_disk", "ada").reason
    assert "not one of the approvers" in ask(guard, tmp_path, "on_call", "grace", person="mallory").reason
    assert "wrong code (4 tries left)" in ask(guard, tmp_path, "on_call", "grace", code="000000").reason
    assert "does not hash to" in ask(guard, tmp_path, "on_call", "grace", sha256="f" * 64).reason
    assert (
        "is not kept; allowed: a file below" in ask(guard, tmp_path, "on_call", "grace", evidence="/etc/passwd").reason
    )
    assert "size_bytes: '1', needs a whole number" in ask(guard, tmp_path, "on_call", "grace", size_bytes="1").reason
    assert "code: None, needs a word" in ask(guard, tmp_path, "on_call", "grace", code=None).reason
    assert "cannot be read" in ask(guard, tmp_path, "on_call", "grace", plan=str(tmp_path / "no.yaml")).reason
    assert ask(guard, tmp_path, "on_call", "grace").done, "and none of it cost the right code"


def test_a_code_that_is_no_word_stands_neither_in_the_answer_nor_in_the_record(
    guard: GuardState, tmp_path: Path
) -> None:
    said = ask(guard, tmp_path, "on_call", "grace", code=123456).reason
    assert said == "code: not shown, needs a word"
    with guard.store.record.reading() as session:
        assert session.get(Inbox, 1).payload["code"] == "(not kept)"  # type: ignore[union-attr]
    assert not any("123456" in entry.body for entry in guard.store.record.entries("a"))


def test_the_same_request_again_gets_the_first_answer(guard: GuardState, tmp_path: Path) -> None:
    first = ask(guard, tmp_path, "code_review", "grace")
    assert first.result["missing"] == ["missing 1 more person"]
    with guard.store.record.writing() as session:
        row = session.get(Inbox, 1)
        assert row is not None
        assert row.payload["code"] == "(not kept)"
        row.state = "waiting"
        session.add(row)

    assert asyncio.run(_answered(guard, 1)) == first
    assert len(guard.store.record.attestations("a")) == 1


def test_the_command_lists_what_is_missing_and_refuses_what_it_cannot_take(
    guard: GuardState, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plan = ["--plan", str(tmp_path / "plan.yaml")]
    ask(guard, tmp_path, "on_call", "grace")
    newest(guard)
    assert main(["attest", *plan]) == 1
    out = capsys.readouterr().out
    assert f"candidate {candidate(tmp_path)[:12]}: {len(ITEMS)} to attest" in out
    assert "+ on_call: Somebody is on call" in out
    assert "- code_review: Two people reviewed the code" in out
    assert "    missing 2 more people" in out
    for words, said in (
        (["attest", "on_call", *plan], "--by, --evidence not given; allowed: both"),
        (["attest", "on_call", *plan, "--by", "grace", "--code", "1", "--evidence", "/no"], "--evidence /no: No such"),
        (
            ["attest", "on_call", *plan, "--by", "grace", "--evidence", str(tmp_path / "plan.yaml")],
            "--code: not given, and there is no terminal to ask for it",
        ),
        (["attest", *plan, "--account", "b"], "--account b; allowed: a"),
        (["attest", "--rollout", "nobody"], "rollout 'nobody' is not known"),
        (["attest", "--plan", "configs/rollout.smoke.yaml"], "allowed: --rollout NAME"),
    ):
        assert main(words) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert said in line


def test_a_known_rollout_is_spoken_of_as_the_candidate_it_is(guard: GuardState, tmp_path: Path) -> None:
    rollout = guard.store.record.rollout("r")
    of = about(guard.folder, tmp_path / "plan.yaml", rollout, None)
    assert (of.candidate, of.nonce, of.account) == ("c", "x", "a")
    with pytest.raises(CannotAttest, match="--account b; allowed: a, where r is"):
        about(guard.folder, tmp_path / "plan.yaml", rollout, "b")


def test_a_code_is_good_for_its_step_and_the_one_before(guard: GuardState, tmp_path: Path) -> None:
    older = current_code(guard.folder.seeds, "grace", "simulated", time.time() - 3 * STEP_S)
    assert "wrong code" in ask(guard, tmp_path, "on_call", "grace", code=older).reason


def test_what_is_missing_can_be_read_before_there_is_an_account_and_a_word_needs_one(
    guard: GuardState, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    newest(guard)
    (guard.folder.accounts / "a.json").unlink()
    plan = ["--plan", str(tmp_path / "plan.yaml")]
    assert main(["attest", *plan]) == 1
    assert "- on_call: Somebody is on call" in capsys.readouterr().out
    said = ["--by", "grace", "--code", "123456", "--evidence", str(tmp_path / "plan.yaml")]
    assert main(["attest", "on_call", *plan, *said]) == 2
    assert capsys.readouterr().err == "rollout: --account: none given; allowed: none is set up yet\n"
