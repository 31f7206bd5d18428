"""What somebody may try against a rollout: each is refused by name and recorded, and nothing is promoted by it."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from gates.course import Step
from gates.stages import ROOT, PlanError, load_plan
from tasks.guard import beginning, refusals, requests
from tasks.guard.refusals import BURST
from tasks.guard.requests import HANDLERS, answer_for_ever
from tasks.guard.state import GuardState
from tasks.record import Answer
from tasks.record_audit import record_fault
from tasks.record_tables import RollbackStep, SignOff, StagePart, VerdictRow
from tasks.sign_off import STEP_S, current_code
from tests.support.guard_parts import DIGEST, activate, guard_at, never_close, writing

SMOKE = ROOT / "configs" / "rollout.smoke.yaml"
Ask = Callable[..., Awaitable[Answer]]


@pytest.fixture(autouse=True)
def _quickly(monkeypatch: pytest.MonkeyPatch) -> None:
    never_close(monkeypatch)
    monkeypatch.setattr(requests, "EVERY_S", 0.01)


def _at(home: Path, step: str, work: Callable[[GuardState, Ask], Awaitable[None]], **columns: Any) -> GuardState:
    """`work` with a guard over a canary at that step that answers its inbox; the guard afterwards, closed."""

    async def run() -> GuardState:
        guard = guard_at(home, step, **columns)
        activate(guard)
        record, asked = guard.store.record, iter(range(1000))

        async def ask(kind: str, payload: dict[str, Any]) -> Answer:
            number = record.submit("a", kind, payload, f"{kind}-{next(asked)}")
            for _ in range(6000):
                if (answer := record.answer(number)) is not None:
                    return answer
                await asyncio.sleep(0.01)
            raise AssertionError(f"{kind} was not answered")

        async with writing(guard):
            answering = asyncio.create_task(answer_for_ever(guard))
            await asyncio.wait_for(work(guard, ask), 120)
            answering.cancel()
            await guard.store.settled()
        return guard

    return asyncio.run(run())


def _signed_by(guard: GuardState, person: str, code: str | None = None, gate: str = "entry") -> dict[str, Any]:
    code = code or current_code(guard.folder.seeds, person, "simulated")
    named = {"stage_run_id": 1, "gate": gate, "person": person, "decision": "GO", "comment": ""}
    return {**named, "code": code, "evidence_prefix": DIGEST[:6]}


def _refusals(guard: GuardState) -> list[str]:
    return [json.loads(one.body)["why"] for one in guard.store.record.entries("a") if one.kind == "refused"]


def test_a_stranger_a_replayed_code_and_guessed_codes_launch_nothing(tmp_path: Path) -> None:
    said: list[str] = []

    async def tried(guard: GuardState, ask: Ask) -> None:
        code = current_code(guard.folder.seeds, "ada", "simulated")
        assert guard.store.record.use_code("ada", int(time.time()) // STEP_S)
        for person, offered in (("mallory", "123456"), ("ada", code), *(("barbara", f"00000{n}") for n in range(7))):
            said.append((await ask("sign_off", _signed_by(guard, person, offered))).reason)
        right = current_code(guard.folder.seeds, "barbara", "simulated")
        said.append((await ask("sign_off", _signed_by(guard, "barbara", right))).reason)
        said.append((await ask("launch", {"stage_run_id": 1})).reason)

    guard = _at(tmp_path / "home", "ready", tried)
    assert "'mallory' is not one of the approvers" in said[0]
    assert "already served" in said[1]
    assert [one[:21] for one in said[2:7]] == [f"wrong code ({left} tries l" for left in (4, 3, 2, 1)] + [
        "wrong code: locked fo"
    ]
    assert all(one.startswith("barbara is locked until") for one in said[7:9])
    assert "barbara is locked until" in said[9], "the right one, too late"
    assert "entry sign-offs are missing: Quant Lead" in said[10]
    kept = [(row.person, row.accepted) for row in guard.store.record.sign_offs(1)]
    assert kept == [("mallory", False), ("ada", False), *[("barbara", False)] * 8]
    assert guard.store.record.stage_run(1).step == "ready"
    assert [entry.kind for entry in guard.store.record.entries("a")].count("sign_off") == len(kept)


EDITS = {
    "a GO put in": "INSERT INTO sign_off (stage_run_id, gate, person, roles, decision, accepted, counts_as_wrong_code, "
    "refused_reason, evidence_digest, comment, at) SELECT id, 'exit', 'ada', '[]', 'GO', 1, 0, '', evidence_digest, "
    "'', '2026-01-01 00:00:00' FROM stage_run",
    "a refusal made a GO": "UPDATE sign_off SET accepted = 1, refused_reason = ''",
    "a NO-GO taken away": "DELETE FROM sign_off",
    "a verdict": "UPDATE stage_run SET verdict = 'GO'",
    "a step": "UPDATE stage_run SET step = 'promoted'",
    "a waived sign-off": "UPDATE stage_run SET predecessor_passed = 1",
    "another evidence": "UPDATE stage_run SET evidence_digest = 'f'",
    "another candidate": "UPDATE stage_run SET candidate = 'd'",
    "another plan": "UPDATE rollout SET plan_digest = 'd'",
    "another author": "UPDATE rollout SET author = 'd'",
    "an age": "UPDATE stage_run SET judged_at = '2031-01-01 00:00:00'",
    "an end": "UPDATE stage_run SET ended_at = '2031-01-01 00:00:00'",
    "an attempt that was none": "UPDATE stage_run SET run = NULL",
    "another plan file": "UPDATE stage_run SET plan_path = 'd'",
    "another folder of evidence": "UPDATE stage_run SET evidence_dir = 'd'",
    "who decided": "UPDATE stage_run SET decided_criterion = 'd'",
    "another nonce": "UPDATE rollout SET nonce = 'd'",
    "other settings": "UPDATE rollout SET settings_digest = 'd'",
    "a judgement": "UPDATE verdict SET word = 'HOLD'",
    "a code that looks unspent": "DELETE FROM used_code",
    "a size": "UPDATE stage_part SET inventory_max_quote = '5'",
    "a step that is proven": "UPDATE rollback_step SET state = 'verified'",
    "a file of evidence": "UPDATE evidence_file SET sha256 = 'd'",
    "a lock that is lifted": "UPDATE sign_off SET counts_as_wrong_code = 0",
    "a link": "UPDATE record SET body = replace(body, 'judged', 'parked') WHERE kind = 'step'",
}


def _fill(guard: GuardState) -> None:
    """What `EDITS` edits: a run, a part, a judgement with its evidence, a spent code, a step of a closing."""
    record = guard.store.record
    record.change_stage_run(1, "bot", run="x", state_dir="/x")
    record.enter_part(StagePart(stage_run_id=1, number=0, name="", inventory_max_quote="1", total_max_quote="1",
                                epoch=0), "")  # fmt: skip
    record.add_verdict(VerdictRow(stage_run_id=1, word="GO"))
    record.add_evidence(1, {"index.html": ("f", 1)})
    no_go = {"decision": "NO-GO", "accepted": True, "evidence_digest": "of another time"}
    assert record.sign(SignOff(stage_run_id=1, gate="exit", person="ada", **no_go), 1)
    record.write_rollback_step(RollbackStep(stage_run_id=1, number=0, name="revoke", state="failing"))


@pytest.mark.parametrize("what", EDITS)
def test_an_edited_row_is_named_and_refuses_promotion_sign_off_and_the_next_begin(tmp_path: Path, what: str) -> None:
    said: dict[str, Answer] = {}

    async def tried(guard: GuardState, ask: Ask) -> None:
        record = guard.store.record
        await ask("sign_off", _signed_by(guard, "ada", "000000", "exit"))
        _fill(guard)
        assert record_fault(record, "a") == ""
        with record.writing() as session:
            session.connection().exec_driver_sql(EDITS[what])
        said["promote"] = await ask("promote", {"stage_run_id": 1})
        said["sign_off"] = await ask("sign_off", _signed_by(guard, "barbara", gate="exit"))
        active, guard.active = guard.active, None
        plan = str(guard.folder.root / "plan.yaml")
        said["begin"] = await ask("begin", {"rollout": "other", "stage": "canary", "plan": plan})
        guard.active = active

    guard = _at(tmp_path / "home", "judged", tried, verdict="HOLD" if what == "a verdict" else "GO")
    fault = record_fault(guard.store.record, "a")
    assert fault
    for kind, answer in said.items():
        assert not answer.done, kind
    if what != "a verdict":  # the guard itself knows its verdict, and refuses by that first
        assert fault in said["promote"].reason
    assert fault in said["sign_off"].reason
    assert fault in said["begin"].reason
    assert any(fault.split(":")[0][:20] in one for one in _refusals(guard))
    assert guard.active is not None
    assert guard.active.step is Step.JUDGED


def test_an_approver_removed_midway_refuses_by_name_until_the_file_is_as_it_was_signed(tmp_path: Path) -> None:
    people = tmp_path / "people.yaml"
    told = yaml.safe_load((ROOT / "tests" / "support" / "approvers_brief.yaml").read_text())
    people.write_text(yaml.safe_dump(told))
    source = tmp_path / "plan.yaml"
    brief = (ROOT / "tests" / "support" / "plan_brief.yaml").read_text()
    source.write_text(brief.replace("tests/support/approvers_brief.yaml", str(people)))
    said: list[Answer] = []

    async def tried(guard: GuardState, ask: Ask) -> None:
        before = people.read_text()
        without = {**told, "people": [one for one in told["people"] if one["name"] != "ada"]}
        people.write_text(yaml.safe_dump(without))
        said.append(await ask("sign_off", _signed_by(guard, "ada")))
        said.append(await ask("launch", {"stage_run_id": 1}))
        people.write_text(before)
        said.append(await ask("sign_off", _signed_by(guard, "ada")))

    guard = _at(tmp_path / "home", "ready", tried, source=source)
    for answer in said[:2]:
        assert not answer.done
        assert "plan, criteria, settings or approvers changed" in answer.reason
    assert said[2].result["counted"] == ["ada"], "the code was not spent"
    assert len(_refusals(guard)) == 1
    assert guard.store.record.stage_run(1).step == "ready"


def test_a_stage_started_twice_at_once_is_one_stage_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def quiet(*_: object) -> None:
        return

    monkeypatch.setattr(beginning, "do_preflight", quiet)
    answers: list[Answer] = []

    async def tried(guard: GuardState, ask: Ask) -> None:
        guard.active = None
        guard.store.record.change_stage_run(1, "step", step="parked")
        wanted = {"stage": "canary", "plan": str(guard.folder.root / "plan.yaml"), "nonce": "n"}
        both = [ask("begin", {**wanted, "rollout": "twice"}) for _ in range(3)]
        answers.extend(await asyncio.gather(*both, ask("begin", {**wanted, "rollout": "other"})))

    guard = _at(tmp_path / "home", "ready", tried)
    assert [answer.done for answer in answers] == [True, True, True, False]
    assert {answer.result["stage_run_id"] for answer in answers[:3]} == {2}
    assert "account a is taken by twice/canary" in answers[3].reason
    assert [run.rollout for run in guard.store.record.stage_runs(account="a")] == ["r", "twice"]
    assert _refusals(guard) == [answers[3].reason]


def test_a_plan_that_skips_a_stage_on_live_is_refused(tmp_path: Path) -> None:
    plan = tmp_path / "plan.yaml"
    text = (ROOT / "configs" / "rollout.yaml").read_text()
    waived = "  - id: canary\n    waive_predecessor: true\n    entry_sign_offs: {roles: [Risk Manager]}\n"
    plan.write_text(text.replace("  - id: canary\n", waived))
    with pytest.raises(PlanError, match=r"stage canary: waive_predecessor at venue bybit; allowed: on simulated"):
        load_plan(plan)
    content = yaml.safe_load(text)
    content["stages"] = [one for one in content["stages"] if one["id"] != "testnet"]
    plan.write_text(yaml.safe_dump(content))
    with pytest.raises(PlanError, match=r"stage canary: after shadow at venue bybit; allowed: shadow, testnet"):
        load_plan(plan)


def test_a_plan_that_does_not_load_is_refused_and_recorded(tmp_path: Path) -> None:
    answers: list[Answer] = []

    async def tried(guard: GuardState, ask: Ask) -> None:
        guard.store.record.change_stage_run(1, "step", step="parked")
        guard.active = None
        (tmp_path / "skips.yaml").write_text(
            (ROOT / "configs" / "rollout.yaml").read_text().replace("author:", "autor:")
        )
        for plan in ("/nowhere.yaml", str(tmp_path / "skips.yaml")):
            answers.append(await ask("begin", {"rollout": "x", "stage": "canary", "plan": plan}))

    guard = _at(tmp_path / "home", "ready", tried)
    assert not any(answer.done for answer in answers)
    assert "/nowhere.yaml" in answers[0].reason
    assert "the key 'author' is missing" in answers[1].reason
    assert _refusals(guard) == [answer.reason for answer in answers]
    assert len(guard.store.record.stage_runs(account="a")) == 1


def test_what_is_asked_again_and_again_is_recorded_once_and_a_flood_is_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(refusals, "EVERY_S", 3600.0)  # a flood that takes long makes no room for one more

    async def tried(guard: GuardState, ask: Ask) -> None:
        for _ in range(3):
            await ask("launch", {"stage_run_id": 1})
        for number in range(BURST + 5):
            await ask("promote", {"stage_run_id": 100 + number})
        guard.refusals._room = 1.0
        await ask("promote", {"stage_run_id": 99})

    guard = _at(tmp_path / "home", "ready", tried)
    told = [json.loads(one.body) for one in guard.store.record.entries("a") if one.kind == "refused"]
    assert [one["kind"] for one in told] == ["launch", *["promote"] * BURST]
    assert told[1]["left_out_before"] == 2
    assert told[-1]["why"] == "stage run 99: no such row"
    assert told[-1]["left_out_before"] == 6
    assert record_fault(guard.store.record, "a") == ""


@pytest.mark.parametrize(
    ("kind", "payload", "said"),
    [
        ("begin", {"rollout": "../x", "stage": "canary", "plan": "p"}, "rollout: '../x'"),
        ("begin", {"rollout": "x", "stage": "canary", "plan": "/nowhere.yaml"}, "account a is taken by r/canary"),
        ("begin", {"rollout": 7, "stage": "canary", "plan": "p"}, "rollout: 7, needs a word"),
        ("begin", {"rollout": "x", "stage": ["canary"], "plan": "p"}, "stage: ['canary'], needs a word"),
        ("launch", {"stage_run_id": "1; DROP TABLE stage_run"}, "needs a whole number"),
        ("promote", {"stage_run_id": 99}, "stage run 99: no such row"),
        ("judge", {}, "stage_run_id: None, needs a whole number"),
        ("sign_off", {"stage_run_id": 1, "gate": "side door"}, "gate 'side door': allowed are entry and exit"),
        ("drill", {"stage_run_id": 1, "name": "everything"}, "drill 'everything' in stage canary; allowed: none"),
        ("stop", {"rollout": "somebody-elses"}, "nothing of somebody-elses runs on account a"),
    ],
)
def test_odd_parameters_are_refused_by_name_and_change_nothing(
    tmp_path: Path, kind: str, payload: dict[str, Any], said: str
) -> None:
    answers: list[Answer] = []

    async def tried(guard: GuardState, ask: Ask) -> None:
        assert kind in HANDLERS
        answers.append(await ask(kind, payload))

    guard = _at(tmp_path / "home", "ready", tried)
    assert not answers[0].done
    assert said in answers[0].reason
    assert (guard.store.record.stage_run(1).step, len(guard.store.record.stage_runs(account="a"))) == ("ready", 1)
    assert [json.loads(one.body)["kind"] for one in guard.store.record.entries("a") if one.kind == "refused"] == [kind]
    assert _refusals(guard) == [answers[0].reason]
