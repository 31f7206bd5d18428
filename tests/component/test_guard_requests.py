"""What people say to the guard is neither lost, nor outvoted, nor answered before it is written."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from gates.approvers import SignOffs
from gates.course import Step
from gates.judge import Outcome
from gates.stages import ROOT
from gates.windows import PromotionWindows
from tasks.guard import beginning, requests, watching
from tasks.guard.requests import answer_for_ever
from tasks.guard.resume import resume
from tasks.guard.state import GuardState
from tasks.guard.watching import watch_people
from tasks.preflight import AGAIN_AT_LAUNCH, Checked
from tasks.record import Answer
from tasks.record_tables import Inbox, SignOff, StageRun, utc_now
from tasks.sign_off import Request, current_code
from tests.support.guard_parts import DIGEST, activate, guard_at, never_close, writing

WITHIN_S = 30.0


@pytest.fixture(autouse=True)
def _quickly(monkeypatch: pytest.MonkeyPatch) -> None:
    never_close(monkeypatch)
    monkeypatch.setattr(requests, "EVERY_S", 0.01)
    monkeypatch.setattr(watching, "PEOPLE_EVERY_S", 0.01)


async def _until(found: Callable[[], Any], within_s: float = WITHIN_S) -> Any:
    end = asyncio.get_running_loop().time() + within_s
    while not (value := found()):
        assert asyncio.get_running_loop().time() < end, "not in time"
        await asyncio.sleep(0.01)
    return value


async def _watched_over(guard: GuardState, monkeypatch: pytest.MonkeyPatch) -> None:
    """The guard has looked at what people owe it, for three whole turns, and what came of it is written."""
    turns, pending = list[int](), guard.shown.pending

    def counted(**shown: int) -> None:
        turns.append(1)
        pending(**shown)

    monkeypatch.setattr(guard.shown, "pending", counted)
    people = asyncio.create_task(watch_people(guard))
    await _until(lambda: len(turns) > 3)
    people.cancel()
    await guard.store.settled()


async def _answered(guard: GuardState, number: int) -> Answer:
    """The guard takes up its inbox until that request is answered."""
    task = asyncio.create_task(answer_for_ever(guard))
    try:
        answer = await _until(lambda: guard.store.record.answer(number))
    finally:
        task.cancel()
    assert isinstance(answer, Answer)
    return answer


def _signing(guard: GuardState, person: str, decision: str, comment: str = "") -> dict[str, Any]:
    code = current_code(guard.folder.seeds, person, "simulated")
    named = {"stage_run_id": 1, "gate": "entry", "person": person, "decision": decision, "comment": comment}
    return {**named, "code": code, "evidence_prefix": DIGEST[:6]}


def test_a_stop_is_acknowledged_once_it_is_written_and_not_before(tmp_path: Path) -> None:
    async def asked() -> tuple[Answer | None, str, Answer, StageRun]:
        guard = guard_at(tmp_path / "home", "watch")
        activate(guard)
        record = guard.store.record
        number = record.submit("a", "stop", {"stage_run_id": 1, "who": "ada", "reason": "lunch"}, "k")
        answering = asyncio.create_task(answer_for_ever(guard))
        await _until(lambda: guard.active is not None and guard.active.step is Step.ROLLING_BACK)
        await asyncio.sleep(0.1)
        early, stored = record.answer(number), record.stage_run(1).step
        async with writing(guard):
            answer = await _until(lambda: record.answer(number))
            answering.cancel()
            run = record.stage_run(1)
        return early, stored, answer, run

    early, stored, answer, run = asyncio.run(asked())
    assert (early, stored) == (None, "watch"), "nothing was written, so nothing is promised"
    assert answer.done
    assert (run.step, run.decided_why) == ("rolling_back", "ada: lunch")


def test_an_accepted_no_go_that_the_guard_did_not_live_to_act_on_ends_the_stage_when_it_is_back(tmp_path: Path) -> None:
    async def back(digest: str) -> StageRun:
        guard = guard_at(tmp_path / digest[:3], "ready")
        signed = SignOff(
            stage_run_id=1,
            gate="entry",
            person="ada",
            decision="NO-GO",
            accepted=True,
            evidence_digest=digest,
            comment="candidate: its spread is wrong",
        )
        guard.store.record.add_sign_off(signed)
        async with writing(guard):
            await resume(guard)
            await guard.store.settled()
            return guard.store.record.stage_run(1)

    run = asyncio.run(back(DIGEST))
    assert (run.step, run.end_wanted, run.reason) == ("rolling_back", "roll_back", "people")
    assert "ada signed NO-GO naming the candidate: candidate: its spread" in str(run.decided_why)
    assert asyncio.run(back("f" * 64)).step == "ready", "it was over other evidence"


def test_the_same_request_again_gets_the_first_answer(tmp_path: Path) -> None:
    async def asked() -> tuple[Answer, Answer, Answer, Answer]:
        guard = guard_at(tmp_path / "home", "ready")
        active, record = activate(guard), guard.store.record
        async with writing(guard):
            wrong = record.submit("a", "sign_off", {**_signing(guard, "barbara", "GO"), "code": "0"}, "wrong")
            first_wrong = await _answered(guard, wrong)
            number = record.submit("a", "sign_off", _signing(guard, "ada", "NO-GO"), "no-go")
            first = await _answered(guard, number)
            for again in (wrong, number):  # the guard died before its answer was written
                _forget_answer(guard, again)
            active.row.step = Step.PARKED.value
            second_wrong, second = await _answered(guard, wrong), await _answered(guard, number)
            assert len(record.sign_offs(1)) == 2, "nothing was judged again"
        assert [one.kind for one in record.notices("a")].count("signed") == 1, "nothing was told again"
        return first_wrong, second_wrong, first, second

    first_wrong, second_wrong, first, second = asyncio.run(asked())
    assert (first_wrong.done, second_wrong.done) == (False, False)
    assert second_wrong.reason == "wrong code"
    assert (first.done, second.done) == (True, True)


def test_a_reason_that_no_database_can_hold_is_kept_as_well_as_it_can_be(tmp_path: Path) -> None:
    async def stopped() -> tuple[Answer, StageRun]:
        guard = guard_at(tmp_path / "home", "ready")
        activate(guard)
        async with writing(guard):
            odd = {"rollout": "r", "who": "me\0", "reason": "half a letter \ud800", "more": [{"\udfff": 1}]}
            number = guard.store.record.submit("a", "stop", odd, "odd")
            answer = await _answered(guard, number)
            await guard.store.settled()
            return answer, guard.store.record.stage_run(1)

    answer, run = asyncio.run(stopped())
    assert answer.done
    assert run.decided_why == "me\N{REPLACEMENT CHARACTER}: half a letter \N{REPLACEMENT CHARACTER}"


def test_a_sign_off_whose_guard_died_before_it_told_of_it_is_told_by_the_next(tmp_path: Path) -> None:
    async def asked() -> list[str]:
        guard = guard_at(tmp_path / "home", "ready")
        active, record = activate(guard), guard.store.record
        number = record.submit("a", "sign_off", _signing(guard, "ada", "GO"), "go")
        (row,) = record.waiting()
        assert isinstance(row, Inbox)
        request = Request("ada", "entry", "GO", str(row.payload["code"]), DIGEST[:6], inbox_id=number)
        assert guard.desk.judge(request, active.gate("entry")).accepted  # and then the guard died
        async with writing(guard):
            assert (await _answered(guard, number)).done
        return [one.text for one in record.notices("a") if one.kind == "signed"]

    (told,) = asyncio.run(asked())
    assert "ada signed GO (entry)" in told


def _forget_answer(guard: GuardState, number: int) -> None:
    with guard.store.record.writing() as session:
        row = session.get(Inbox, number)
        assert row is not None
        row.state = "waiting"
        session.add(row)


def test_a_row_that_nobody_expected_is_refused_once_and_holds_up_no_other(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def asked() -> tuple[Answer, Answer]:
        guard = guard_at(tmp_path / "home", "ready")
        activate(guard)
        record = guard.store.record
        poison = record.submit("a", "launch", {"stage_run_id": 10**30}, "poison")
        other = record.submit("a", "judge", {"stage_run_id": 1}, "other")
        async with writing(guard):
            return await _answered(guard, poison), await _answered(guard, other)

    poison, other = asyncio.run(asked())
    assert (poison.done, poison.reason) == (False, "the guard could not handle it: OverflowError")
    assert "nothing to judge yet" in other.reason
    assert len([one for one in caplog.records if "OverflowError" in one.getMessage()]) == 1


@pytest.mark.parametrize("payload", ["null", "7", "[1]", '"code"'])
def test_a_request_whose_words_are_no_object_is_refused_once(tmp_path: Path, payload: str) -> None:
    async def asked() -> Answer:
        guard = guard_at(tmp_path / "home", "ready")
        activate(guard)
        number = guard.store.record.submit("a", "launch", {}, "odd")
        with guard.store.record.engine.begin() as connection:
            connection.exec_driver_sql("UPDATE inbox SET payload = ?", (payload,))
        async with writing(guard):
            return await _answered(guard, number)

    answer = asyncio.run(asked())
    assert not answer.done
    assert "is damaged: payload cannot be read" in answer.reason


@pytest.mark.parametrize(
    ("column", "value"),
    [
        *((name, "CAST(x'ff41' AS TEXT)") for name in ("kind", "payload", "idempotency_key", "reason", "result")),
        *(("created_at", value) for value in ("CAST(x'ff41' AS TEXT)", "'yesterday'", "7")),
        ("answered_at", "CAST(x'ff41' AS TEXT)"),
        ("payload", "'{'"),
        *((name, "x'ff41'") for name in ("kind", "payload", "idempotency_key", "reason", "result", "created_at")),
    ],
)
def test_a_request_that_cannot_be_read_is_refused_by_number_and_the_others_are_served(
    tmp_path: Path, column: str, value: str
) -> None:
    """As in a database that somebody edited by hand: SQLite keeps whatever bytes are put in."""

    async def asked() -> tuple[int, Answer, Answer, list[dict[str, Any]]]:
        guard = guard_at(tmp_path / "home", "ready")
        activate(guard)
        record = guard.store.record
        damaged = record.submit("a", "sign_off", {"stage_run_id": 1, "code": "123456"}, "damaged")
        other = record.submit("a", "judge", {"stage_run_id": 1}, "other")
        with record.engine.begin() as connection:
            connection.exec_driver_sql(f"UPDATE inbox SET {column} = {value} WHERE id = {damaged}")  # noqa: S608
        async with writing(guard):
            served = await _answered(guard, other)
            refused = await _answered_damaged(guard, damaged)
            told = [json.loads(one.body) for one in record.entries("a") if one.kind == "refused"]
            with record.engine.begin() as connection:
                kept = connection.exec_driver_sql("SELECT * FROM inbox").fetchall()
            assert "123456" not in str(kept), "a code does not stay"
            assert record.waiting() == []
        return damaged, served, refused, told

    number, served, refused, told = asyncio.run(asked())
    assert "nothing to judge yet" in served.reason
    assert (refused.done, refused.reason) == (False, f"request {number} is damaged: {column} cannot be read")
    assert {"kind": "damaged", "why": refused.reason} in told


def _still_waits(guard: GuardState, number: int) -> bool:
    """Asked of no column that may be damaged."""
    with guard.store.record.engine.begin() as connection:
        query = "SELECT 1 FROM inbox WHERE id = ? AND state = 'waiting'"
        return connection.exec_driver_sql(query, (number,)).fetchone() is not None


def test_a_stop_whose_words_cannot_be_read_holds_for_everything_that_was_under_way(tmp_path: Path) -> None:
    async def asked() -> None:
        guard = guard_at(tmp_path / "home", "promoted")
        record = guard.store.record
        number = record.submit_stop_of_what_begins("r", "ada", "lunch", "a")
        with record.engine.begin() as connection:
            connection.exec_driver_sql("UPDATE inbox SET payload = CAST(x'ff41' AS TEXT)")
        async with writing(guard):
            assert not (await _answered_damaged(guard, number)).done
            why = f"request {number} is damaged: payload cannot be read; it is a stop"
            for name in ("r", "another"):
                said = record.stop_since(name, "a", number - 1)
                assert said is not None
                assert (said.who, said.why) == ("somebody", why)
            assert record.stop_since("r", "a", number) is None

    asyncio.run(asked())


def test_a_stop_whose_words_cannot_be_read_parks_what_runs_on_its_account(tmp_path: Path) -> None:
    """Somebody wanted to stop here, and one stage alone can be meant. No promotion, and no fault of the candidate."""

    async def asked(step: str) -> tuple[int, StageRun, Answer]:
        guard = guard_at(tmp_path / step, step)
        activate(guard)
        record = guard.store.record
        number = record.submit("a", "stop", {"stage_run_id": 1, "who": "ada", "reason": "lunch"}, "k")
        with record.engine.begin() as connection:
            connection.exec_driver_sql("UPDATE inbox SET payload = CAST(x'ff41' AS TEXT)")
        async with writing(guard):
            answer = await _answered_damaged(guard, number)
            await guard.store.settled()
            return number, record.stage_run(1), answer

    for step in ("ready", "watch", "judged", "promoting"):
        number, run, answer = asyncio.run(asked(step))
        assert (run.step, run.end_wanted, run.reason) == ("rolling_back", "park", "people")
        assert run.decided_why == f"somebody: request {number} is damaged: payload cannot be read; it is a stop"
        assert not answer.done


@pytest.mark.parametrize(("meant", "ends"), [(1, True), (7, False)])
def test_a_damaged_stop_of_which_the_words_can_be_read_ends_the_stage_that_it_names(
    tmp_path: Path, meant: int, ends: bool
) -> None:
    async def asked() -> StageRun:
        guard = guard_at(tmp_path / "home", "watch")
        activate(guard)
        record = guard.store.record
        number = record.submit("a", "stop", {"stage_run_id": meant, "who": "ada", "reason": "lunch"}, "k")
        with record.engine.begin() as connection:
            connection.exec_driver_sql("UPDATE inbox SET created_at = 'yesterday'")
        async with writing(guard):
            await _answered_damaged(guard, number)
            await guard.store.settled()
            return record.stage_run(1)

    run = asyncio.run(asked())
    assert (run.step, run.decided_why) == (("rolling_back", "ada: lunch") if ends else ("watch", None))


def test_a_damaged_stop_waits_until_it_is_known_what_runs(tmp_path: Path) -> None:
    async def asked() -> StageRun:
        guard = guard_at(tmp_path / "home", "watch")
        guard.resuming = True
        record = guard.store.record
        number = record.submit("a", "stop", {"stage_run_id": 1}, "k")
        with record.engine.begin() as connection:
            connection.exec_driver_sql("UPDATE inbox SET payload = '{'")
        async with writing(guard):
            answering = asyncio.create_task(answer_for_ever(guard))
            await asyncio.sleep(0.2)
            assert _still_waits(guard, number)
            activate(guard)
            guard.resuming = False
            await _until(lambda: not _still_waits(guard, number))
            answering.cancel()
            await guard.store.settled()
            return record.stage_run(1)

    assert asyncio.run(asked()).step == "rolling_back"


@pytest.mark.parametrize("state", ["x'ff'", "'waitin'", "''", "x'776169746966'"])
def test_a_stop_whose_state_cannot_be_read_is_not_overlooked(tmp_path: Path, state: str) -> None:
    async def asked() -> tuple[StageRun, Answer]:
        guard = guard_at(tmp_path / "home", "watch")
        activate(guard)
        record = guard.store.record
        number = record.submit("a", "stop", {"stage_run_id": 1, "who": "ada", "reason": "lunch"}, "k")
        other = record.submit("a", "judge", {"stage_run_id": 7}, "other")
        record.reply(other, done=True)
        with record.engine.begin() as connection:
            connection.exec_driver_sql(f"UPDATE inbox SET state = {state} WHERE id = {number}")  # noqa: S608
        async with writing(guard):
            answering = asyncio.create_task(answer_for_ever(guard))
            await _until(lambda: record.stage_run(1).step != "watch" and not record.waiting())
            answering.cancel()
            await guard.store.settled()
            answer = record.answer(number)
            assert answer is not None
            return record.stage_run(1), answer

    run, answer = asyncio.run(asked())
    assert (run.step, run.decided_why) == ("rolling_back", "ada: lunch")
    assert answer.state == "refused"


def test_a_damaged_row_that_is_no_stop_ends_nothing(tmp_path: Path) -> None:
    async def asked() -> str:
        guard = guard_at(tmp_path / "home", "watch")
        activate(guard)
        record = guard.store.record
        number = record.submit("a", "judge", {"stage_run_id": 1}, "k")
        with record.engine.begin() as connection:
            connection.exec_driver_sql("UPDATE inbox SET payload = '{'")
        async with writing(guard):
            await _answered_damaged(guard, number)
            await guard.store.settled()
            return record.stage_run(1).step

    assert asyncio.run(asked()) == "watch"


async def _answered_damaged(guard: GuardState, number: int) -> Answer:
    task = asyncio.create_task(answer_for_ever(guard))
    await _until(lambda: not _still_waits(guard, number))
    task.cancel()
    answer = guard.store.record.answer(number)
    assert answer is not None
    return answer


@pytest.mark.parametrize(("step", "what"), [("watched", "judge"), ("judged", "promote")])
def test_a_step_that_nobody_asks_for_expires_and_parks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str, what: str
) -> None:
    now = utc_now()
    monkeypatch.setattr(watching, "utc_now", lambda: now)  # what the test itself takes is no part of it

    async def waited(ago_s: float) -> StageRun:
        at = now - timedelta(seconds=ago_s)
        guard = guard_at(tmp_path / f"{ago_s}", step, watched_at=at, judged_at=at)
        activate(guard)
        async with writing(guard):
            await _watched_over(guard, monkeypatch)
            return guard.store.record.stage_run(1)

    run = asyncio.run(waited(5.1))
    assert (run.step, run.end_wanted, run.reason) == ("rolling_back", "park", "people")
    assert (run.decided_criterion, run.decided_why) == (what, f"nobody asked to {what} within 5 s")
    assert asyncio.run(waited(4.9)).step == step


SMOKE = ROOT / "configs" / "rollout.smoke.yaml"


@pytest.mark.parametrize(
    ("stage", "gate", "waited_h", "ended"),
    [
        ("testnet", "exit", 2, ""),
        ("testnet", "exit", 25, "park"),
        ("canary", "exit", 2, "park"),
        ("canary", "entry", 2, "park"),
    ],
)
def test_silence_parks_on_live_and_holds_before_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stage: str, gate: str, waited_h: int, ended: str
) -> None:
    async def waited() -> tuple[StageRun, list[str], list[str]]:
        at, step = utc_now() - timedelta(hours=waited_h), "ready" if gate == "entry" else "judged"
        columns = {"reminded_at": at, "ready_at": at, "judged_at": at, "part": int(stage == "testnet")}
        guard = guard_at(tmp_path / "home", step, source=SMOKE, stage=stage, **columns)
        record = guard.store.record
        activate(guard)
        async with writing(guard):
            await _watched_over(guard, monkeypatch)
            notices = [one.text for one in record.notices("a") if one.kind == "hold"]
            return record.stage_run(1), notices, [one.body for one in record.entries("a") if one.kind == "hold"]

    run, notices, recorded = asyncio.run(waited())
    assert run.end_wanted == (ended or None)
    assert len(notices) == len(recorded) == (0 if ended else 1), "told and recorded once"
    if ended:
        assert (run.reason, run.decided_criterion, run.decided_why) == ("people", "sign_off", "nobody signed")
    else:
        assert run.step == "judged"
        assert "HOLD: exit sign-offs expired, missing" in notices[0]


def test_a_plan_that_changed_under_the_signature_is_never_granted_again(tmp_path: Path) -> None:
    async def back() -> StageRun:
        guard = guard_at(tmp_path / "home", "promoting")
        plan = guard.folder.root / "plan.yaml"
        plan.write_text(plan.read_text().replace("inventory_max_quote: 500", "inventory_max_quote: 501"))
        async with writing(guard):
            await resume(guard)
            await guard.store.settled()
            assert guard.active is not None
            assert guard.active.stage.inventory_max_quote == 500, "closed by the plan that the record keeps"
            assert not guard.granting
            return guard.store.record.stage_run(1)

    run = asyncio.run(back())
    assert (run.step, run.end_wanted, run.reason) == ("rolling_back", "park", "environment")
    assert run.decided_criterion == "plan_as_signed"
    assert "changed under the signature" in str(run.decided_why)


@pytest.mark.parametrize(
    ("bad", "age_s", "said"),
    [
        ("preflight_flat", 0, "preflight_flat FAIL 0.004"),
        ("preflight_no_orders", 0, "preflight_no_orders FAIL"),
        ("", 31 * 86_400, "31 d"),
        ("", 0, ""),
    ],
)
def test_what_changed_since_preflight_refuses_the_launch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, bad: str, age_s: int, said: str
) -> None:
    launched: list[int] = []

    async def preflight(subject: object, names: frozenset[str]) -> list[Checked]:
        return [
            Checked(name, name, Outcome.FAIL if name == bad else Outcome.PASS, "0.004", "0") for name in sorted(names)
        ]

    async def launch(guard: GuardState, active: object) -> None:
        launched.append(1)

    monkeypatch.setattr(beginning, "preflight", preflight)
    monkeypatch.setattr(requests, "launch", launch)

    async def asked() -> tuple[Answer, str]:
        guard = guard_at(tmp_path / "home", "ready", ready_at=utc_now() - timedelta(seconds=age_s))
        activate(guard)
        record = guard.store.record
        async with writing(guard):
            signed = record.submit("a", "sign_off", _signing(guard, "ada", "GO"), "sign")
            assert (await _answered(guard, signed)).done
            answer = await _answered(guard, record.submit("a", "launch", {"stage_run_id": 1}, "launch"))
        return answer, record.stage_run(1).step

    answer, step = asyncio.run(asked())
    assert {"preflight_flat", "preflight_no_orders", "preflight_clock", "preflight_candidate"} <= AGAIN_AT_LAUNCH
    assert said.replace("31 d", "the preflight that was signed is 26784") in answer.reason
    assert answer.done is not bool(said)
    assert (step, launched) == (("ready", []) if said else ("launching", [1]))


MONDAY = datetime(2026, 11, 30, tzinfo=UTC)


@pytest.mark.parametrize(
    ("judged_h_ago", "signed_h_ago", "at_hour", "ended"),
    [
        (88, 80, 8.6, ""),  # six minutes after the window opened: nobody could have asked before
        (88, 80, 8.0, ""),  # it is closed
        (88, 80, 10.6, "park"),  # open for longer than people have to ask
        (3, 1.5, 14.0, ""),  # open all the time, but signed late
        (3, 2.5, 14.0, "park"),
    ],
)
def test_a_signed_stage_is_not_parked_for_the_time_in_which_its_window_was_closed(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    judged_h_ago: float,
    signed_h_ago: float,
    at_hour: float,
    ended: str,
) -> None:
    now = MONDAY + timedelta(hours=at_hour)
    monkeypatch.setattr(watching, "utc_now", lambda: now)
    windows = PromotionWindows(days=("mon", "tue", "wed", "thu"), hours="08:30-15:30")

    async def waited() -> StageRun:
        guard = guard_at(tmp_path / "home", "judged", judged_at=now - timedelta(hours=judged_h_ago))
        active, record = activate(guard), guard.store.record
        active.plan = active.plan.model_copy(update={"promotion": windows})
        asked = {"sign_off_expiry_s": 2 * 3600.0, "exit_sign_offs": SignOffs(roles=("Quant Lead",))}
        active.stage = active.stage.model_copy(update=asked)
        assert active.approvers is not None
        quant = next(one.name for one in active.approvers.people if "Quant Lead" in one.roles)
        signed = {"gate": "exit", "person": quant, "decision": "GO", "evidence_digest": DIGEST, "accepted": True}
        record.add_sign_off(SignOff(stage_run_id=1, **signed, at=now - timedelta(hours=signed_h_ago)))
        async with writing(guard):
            await watching._people_of(guard, active)
            await guard.store.settled()
            return record.stage_run(1)

    assert asyncio.run(waited()).end_wanted == (ended or None)
