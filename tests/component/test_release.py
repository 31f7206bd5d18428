"""Two people have a bot's stop released: who may, with which code, and what the bot is told of it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from flows.releasing import CannotRelease, Wanted, release
from gates.approvers import Approvers
from tasks.guard import releasing
from tasks.guard.releasing import release_ask, release_confirm
from tasks.guard.state import GuardState, Refused
from tasks.operate import Operator, Told
from tasks.record import Answer, Record
from tasks.record_audit import record_fault
from tasks.record_tables import SignOff, utc_now
from tasks.release import Bot, ReleaseDesk, Word
from tasks.sign_off import current_code
from tests.support import desks
from tests.support.desks import NOW_S
from tests.support.guard_parts import activate, guard_at, writing

PEOPLE = (("ada", ["Quant Lead"]), ("grace", ["SRE Lead"]), ("linus", ["Risk Manager"]))
APPROVERS = Approvers.model_validate(
    {"schema_version": 1, "demo": True, "people": [{"name": name, "roles": roles} for name, roles in PEOPLE]}
)


class Desk(desks.Desk):
    """Over the bot of one stage run; `linus` is the candidate's author."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, APPROVERS)
        self.desk = ReleaseDesk(self.record, self.known)
        self.bot = Bot(self.stage_run(), APPROVERS, "linus")

    def says(self, word: str, person: str, code: str | None = None, **more: Any) -> str:
        """Why it is refused; empty where it is accepted."""
        code = self.code(person) if code is None else code
        _, reason = self.desk.take(Word(word, person, code, **{"request_id": "release-1", **more}), self.bot, NOW_S)
        return reason


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    made = Desk(tmp_path)
    yield made
    made.record.close()


def test_two_people_with_a_right_code_each_are_accepted_and_told_in_the_chain_without_it(desk: Desk) -> None:
    assert desk.says("asked", "ada", stop="operator_hold", comment="looked") == ""
    assert desk.says("confirmed", "grace") == ""
    bodies = [json.loads(entry.body) for entry in desk.record.entries("a") if entry.kind == "release"]
    told = [(one["word"], one["person"], one["stop"], one["accepted"]) for one in bodies]
    assert told == [("asked", "ada", "operator_hold", True), ("confirmed", "grace", "operator_hold", True)]
    assert not any(desk.code(person) in str(bodies) for person in ("ada", "grace"))
    assert desk.record.verify_chain("a").ok


@pytest.mark.parametrize(
    ("person", "more", "said"),
    [
        ("mallory", {}, "'mallory' is not one of the approvers"),
        ("linus", {}, "author, who releases nothing"),
        ("ada", {}, "ada asked for it; another person has to confirm"),
        ("grace", {"request_id": "release-2"}, "request 'release-2' is none of this stage run"),
    ],
)
def test_who_may_not_confirm_is_refused_by_name_and_costs_no_code(
    desk: Desk, person: str, more: dict[str, str], said: str
) -> None:
    assert desk.says("asked", "ada") == ""
    assert said in desk.says("confirmed", person, "123456", **more)
    assert desk.record.wrong_codes(person, 900) == []
    assert desk.says("confirmed", "grace") == ""


def test_who_may_not_ask_is_refused_by_name(desk: Desk) -> None:
    assert "'mallory' is not one of the approvers" in desk.says("asked", "mallory", "123456")
    assert "author, who releases nothing" in desk.says("asked", "linus", "123456")
    assert "kind 'flatten': allowed are resume and re-arm" in desk.says("asked", "ada", kind="flatten")


def test_a_code_serves_once_whether_for_a_release_or_for_a_sign_off(desk: Desk) -> None:
    code = desk.code("grace")
    assert desk.says("asked", "ada") == ""
    signed = SignOff(
        stage_run_id=1, gate="entry", person="grace", decision="GO", accepted=True, evidence_digest="d", roles=[]
    )
    assert desk.record.sign(signed, int(NOW_S) // 30)
    assert "already served" in desk.says("confirmed", "grace", code)
    assert "wrong code" in desk.says("confirmed", "grace", desk.code("ada"))
    assert desk.says("confirmed", "grace", desk.code("grace", back_s=30)) == ""


def test_wrong_codes_lock_the_person_for_everything(desk: Desk) -> None:
    said = [desk.says("asked", "ada", "000000") for _ in range(5)]
    assert "4 tries left" in said[0]
    assert "locked for 15 minutes" in said[4]
    assert "locked until" in desk.says("asked", "ada")
    assert desk.says("asked", "grace") == ""


def test_a_word_that_waited_longer_than_its_code_lives_is_refused_as_stale(desk: Desk) -> None:
    assert desk.says("asked", "ada", asked_at_s=NOW_S - 300).startswith("sent 300 s ago")


class Held:
    """A bot that is held: it takes a request, and a confirmation by somebody else. `calls`: what it was told."""

    def __init__(self) -> None:
        self.calls: list[tuple[Any, ...]] = []
        self.used = False

    async def release_ask(self, *said: Any) -> Told:
        self.calls.append(("ask", *said))
        return Told(True, body={"request_id": said[1], "covers": ["operator_hold"], "state": "HELD"})

    async def release_confirm(self, *said: Any) -> Told:
        self.calls.append(("confirm", *said))
        if self.used:
            return Told(False, f"HTTP 409: used: request '{said[1]}' has released what it covers")
        self.used = True
        return Told(True, body={"request_id": said[1], "released": ["operator_hold"], "state": "INIT"})


class Asked:
    """The guard of a running canary, asked as by its inbox."""

    def __init__(self, home: Path) -> None:
        self.guard: GuardState = guard_at(home, "watch")
        self.bot = Held()
        active = activate(self.guard)
        active.operator = cast(Operator, self.bot)
        self.number = 0

    async def ask(self, person: str, *, number: int | None = None, **more: Any) -> dict[str, Any]:
        return await release_ask(self.guard, self._payload(person, number, more))

    async def confirm(self, person: str, request_id: str, *, number: int | None = None, **more: Any) -> dict[str, Any]:
        return await release_confirm(self.guard, self._payload(person, number, {"request_id": request_id, **more}))

    def _payload(self, person: str, number: int | None, more: dict[str, Any]) -> dict[str, Any]:
        self.number += 1
        code = current_code(self.guard.folder.seeds, person, "simulated")
        known = {"inbox_id": number or self.number, "asked_at_s": None}
        return {"person": person, "code": code, "comment": "looked", **known, **more}

    def kinds(self) -> list[str]:
        return [entry.kind for entry in self.guard.store.record.entries("a")]


def test_what_two_people_said_is_told_to_the_bot_kept_and_noticed(tmp_path: Path) -> None:
    asked = Asked(tmp_path / "home")

    async def work() -> None:
        async with writing(asked.guard):
            told = await asked.ask("ada", stop="operator_hold")
            number = told["request_id"]
            assert (told["covers"], told["state"]) == (["operator_hold"], "HELD")
            done = await asked.confirm("barbara", number)
            assert done["released"] == ["operator_hold"]
            assert asked.bot.calls == [
                ("ask", "resume", number, "ada", "operator_hold", "looked", False),
                ("confirm", "resume", number, "barbara", "looked", False, asked.guard.epoch),
            ]
            await asked.guard.store.settled()
            assert asked.kinds()[-4:] == ["release", "release_answer", "release", "release_answer"]
            texts = [one.text for one in asked.guard.store.record.notices("a") if one.kind == "release"]
            assert [text.split(" ")[1] for text in texts] == ["ada", "barbara"]

    asyncio.run(work())


def test_the_same_request_again_tells_the_bot_the_same_and_judges_no_code_anew(tmp_path: Path) -> None:
    asked = Asked(tmp_path / "home")

    async def work() -> None:
        async with writing(asked.guard):
            first = await asked.ask("ada", number=7)
            assert await asked.ask("ada", number=7, code="000000") == first
            await asked.confirm("barbara", first["request_id"], number=8)
            again = await asked.confirm("barbara", first["request_id"], number=8, code="000000")
            assert again["request_id"] == first["request_id"], "released, and its answer got lost"
            assert len(asked.guard.store.record.releases(1)) == 2
            assert [call[2] for call in asked.bot.calls] == [first["request_id"]] * 4

    asyncio.run(work())


@pytest.mark.parametrize("since", ["an hour", "another bot"])
def test_a_word_that_was_taken_once_says_nothing_to_what_runs_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, since: str
) -> None:
    """Whoever can put an answered request back to waiting must not release what held since, with no code at all."""
    asked = Asked(tmp_path / "home")

    async def work() -> None:
        async with writing(asked.guard):
            first = await asked.ask("ada", number=7)
            await asked.confirm("barbara", first["request_id"], number=8)
            told = len(asked.bot.calls)
            if since == "an hour":
                monkeypatch.setattr(releasing, "utc_now", lambda: utc_now() + timedelta(hours=1))
            else:
                active = asked.guard.active
                assert active is not None
                active.row = active.row.model_copy(update={"id": 2})
            for again in (asked.ask("ada", number=7), asked.confirm("barbara", first["request_id"], number=8)):
                with pytest.raises(Refused, match="ask again"):
                    await again
            assert len(asked.bot.calls) == told

    asyncio.run(work())


def test_a_refusal_is_recorded_and_the_bot_hears_nothing_of_it(tmp_path: Path) -> None:
    asked = Asked(tmp_path / "home")

    async def work() -> None:
        async with writing(asked.guard):
            number = (await asked.ask("ada"))["request_id"]
            for person, more, said in (
                ("ada", {}, "ada asked for it"), ("barbara", {"code": "000000"}, "wrong code (4 tries left)"),
                ("barbara", {"code": ""}, "code: '', needs a word"),
            ):  # fmt: skip
                with pytest.raises(Refused) as caught:
                    await asked.confirm(person, number, **more)
                assert said in str(caught.value)
            with pytest.raises(Refused, match="'mallory' is not one of the approvers"):
                await release_ask(
                    asked.guard, {"person": "mallory", "code": "123456", "inbox_id": 99, "asked_at_s": None}
                )
            assert [call[0] for call in asked.bot.calls] == ["ask"]
            kept = [(row.word, row.person) for row in asked.guard.store.record.releases(1) if not row.accepted]
            assert kept == [("confirmed", "ada"), ("confirmed", "barbara"), ("asked", "mallory")]

    asyncio.run(work())


def test_an_asking_that_was_put_in_by_hand_lets_nobody_release_alone(tmp_path: Path) -> None:
    asked = Asked(tmp_path / "home")

    async def work() -> None:
        async with writing(asked.guard):
            record = asked.guard.store.record
            with record.writing() as session:
                session.connection().exec_driver_sql(
                    "INSERT INTO release (stage_run_id, request_id, word, kind, stop, consent, person, roles, accepted,"
                    " counts_as_wrong_code, refused_reason, comment, at) VALUES (1, 'release-1', 'asked', 'resume',"
                    " '*', 0, 'ada', '[]', 1, 0, '', '', '2026-01-01 00:00:00')"
                )
            assert "release 1 of ada at stage run 1 is not what the chain tells" in record_fault(record, "a")
            with pytest.raises(Refused, match="release 1 of ada at stage run 1 is not what the chain tells"):
                await asked.confirm("barbara", "release-1")
            assert asked.bot.calls == []

    asyncio.run(work())


def test_where_no_bot_runs_there_is_nothing_to_release(tmp_path: Path) -> None:
    asked = Asked(tmp_path / "home")
    assert asked.guard.active is not None
    asked.guard.active.operator = None

    async def work() -> None:
        with pytest.raises(Refused, match="no bot runs on account a"):
            await asked.ask("ada")

    asyncio.run(work())
    asked.guard.store.close()


class Answers:
    """A record with open stage runs, in whose inbox the guard's answer is already there."""

    def __init__(self, answer: Answer, *rollouts: str) -> None:
        self._answer = answer
        self._runs = [SimpleNamespace(rollout=name, stage="canary", account="a", step="watch") for name in rollouts]
        self.asked: list[tuple[str, dict[str, Any]]] = []

    def stage_runs(self) -> list[SimpleNamespace]:
        return self._runs

    def submit(self, account: str, kind: str, payload: dict[str, Any], key: str) -> int:
        self.asked.append((kind, payload))
        return 1

    def answer(self, number: int) -> Answer:
        return self._answer


def _release(record: Answers, *, request_id: str | None = None, rollout: str | None = None) -> int:
    return release(cast(Record, record), Wanted(request_id, "ada", "123456", "why", "*", False, rollout))


def test_the_commands_ask_the_guard_and_say_what_came_of_it(capsys: pytest.CaptureFixture[str]) -> None:
    asked = Answers(Answer(1, "done", "", {"request_id": "release-1", "covers": ["operator_hold"]}), "r")
    assert _release(asked) == 0
    assert capsys.readouterr().out.splitlines() == [
        "release-1: ada asks to release operator_hold of r/canary",
        "another person: rollout resume-confirm release-1 --by NAME",
    ]
    said = {"person": "ada", "code": "123456", "comment": "why", "consent": False}
    assert asked.asked == [("release_ask", {**said, "stop": "*", "kind": "resume"})]
    refused = Answers(Answer(1, "refused", "wrong code (4 tries left)", {}), "r")
    assert _release(refused, request_id="release-1") == 1
    assert capsys.readouterr().out == "rollout: refused: wrong code (4 tries left)\n"
    assert refused.asked[0][0] == "release_confirm"


@pytest.mark.parametrize(
    ("rollouts", "named", "said"),
    [
        ((), None, "--rollout: none given; allowed: none has a stage that is open"),
        (("r", "s"), None, "--rollout: none given, and several are open; allowed: r, s"),
        (("r", "s"), "t", "--rollout: t; allowed: r, s"),
    ],
)
def test_whose_bot_is_meant_is_asked_where_it_is_not_plain(
    rollouts: tuple[str, ...], named: str | None, said: str
) -> None:
    record = Answers(Answer(1, "done", "", {}), *rollouts)
    with pytest.raises(CannotRelease) as caught:
        _release(record, rollout=named)
    assert str(caught.value) == said
    assert record.asked == []
