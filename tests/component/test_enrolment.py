"""Real people get their one-time codes: once, shown once, and anew only where two others have confirmed it."""

from __future__ import annotations

import asyncio
import hashlib
import io
import json
import os
import re
import shutil
import sqlite3
import sys
import time
from collections.abc import Iterator, Sequence
from datetime import timedelta
from pathlib import Path

import pyotp
import pytest
import yaml
from sqlalchemy import text

from flows.__main__ import main
from gates.stages import ROOT
from tasks import enrolment, sign_off
from tasks.account_file import SECRETS
from tasks.enrolment import hand_over, item_of, new_seed
from tasks.guard import requests
from tasks.guard.requests import answer_for_ever
from tasks.guard.state import GuardState
from tasks.record_migrations import NEWEST_REVISION
from tasks.record_tables import Attested, Inbox, utc_now
from tasks.sign_off import STEP_S
from tasks.state_folder import write_private
from tests.support.guard_parts import guard_at, writing

PEOPLE = {"ada": ["Quant Lead"], "grace": ["SRE Lead"], "linus": ["Risk Manager"], "barbara": ["SRE Lead"]}
AUTHOR = "barbara"


@pytest.fixture
def guard(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[GuardState]:
    """The guard of an account at the real venue; nobody is enrolled. The plan and its people are beside it."""
    home = tmp_path / "home"
    made = guard_at(home, "parked")
    tokens = dict.fromkeys(SECRETS, "k" * 32)
    access = {"account": "a", "venue": "bybit", "env": "live", **tokens}
    write_private(made.folder.accounts / "a.json", json.dumps(access))
    made.folder.seeds.unlink()
    people = [{"name": name, "roles": roles} for name, roles in PEOPLE.items()]
    (tmp_path / "people.yaml").write_text(yaml.safe_dump({"schema_version": 1, "people": people}))
    plan = yaml.safe_load((ROOT / "configs" / "rollout.yaml").read_text())
    plan |= {"approvers": str(tmp_path / "people.yaml"), "author": AUTHOR}
    (tmp_path / "plan.yaml").write_text(yaml.safe_dump(plan))
    with made.store.record.engine.begin() as connection:  # the command has nothing to migrate
        connection.execute(text("CREATE TABLE alembic_version (version_num VARCHAR(32) NOT NULL)"))
        connection.execute(text("INSERT INTO alembic_version VALUES (:newest)"), {"newest": NEWEST_REVISION})
    monkeypatch.setenv("SLIPWAY_HOME", str(home))
    monkeypatch.delenv("SLIPWAY_RECORD_URL", raising=False)
    monkeypatch.setattr(requests, "EVERY_S", 0.01)
    yield made
    made.store.close()


class Said(list[str]):
    """What a command printed, and its exit code."""

    code: int

    @property
    def secret(self) -> str:
        return next(one.split()[1] for one in self if one.startswith("secret "))


def run(guard: GuardState, capsys: pytest.CaptureFixture[str], *words: str) -> Said:
    """The command, from a thread, while the guard serves its inbox."""

    async def asked() -> int:
        answering = asyncio.create_task(answer_for_ever(guard))
        plan = guard.folder.root.parent / "plan.yaml"
        try:
            return await asyncio.wait_for(asyncio.to_thread(main, ["enroll", *words, "--plan", str(plan)]), 20)
        finally:
            answering.cancel()

    code = asyncio.run(asked())
    captured = capsys.readouterr()
    said = Said((captured.out + captured.err).splitlines())
    said.code = code
    return said


def code_of(secret: str, back_s: float = 0) -> str:
    return str(pyotp.TOTP(secret).at(int(time.time() - back_s)))


def enrolled(guard: GuardState, capsys: pytest.CaptureFixture[str], names: Sequence[str]) -> dict[str, str]:
    return {name: run(guard, capsys, name).secret for name in names}


def confirm(guard: GuardState, capsys: pytest.CaptureFixture[str], person: str, by: str, code: str) -> Said:
    return run(guard, capsys, person, "--confirm", "--by", by, "--code", code)


def test_a_person_is_enrolled_once_and_the_secret_is_shown_once(
    guard: GuardState, capsys: pytest.CaptureFixture[str]
) -> None:
    said = run(guard, capsys, "ada")
    assert said.code == 0, said
    assert said[-1] == f"otpauth://totp/slipway:ada?secret={said.secret}&issuer=slipway"
    assert any("█" in line or "▀" in line for line in said), "a code to scan"
    assert guard.seeds.matching_step("ada", code_of(said.secret), time.time()) is not None, "and its codes are taken"
    assert guard.folder.seeds.stat().st_mode & 0o077 == 0
    assert list(guard.folder.new_seeds.iterdir()) == [], "nothing of it is left where it was handed over"
    again = run(guard, capsys, "ada")
    assert (again.code, again) == (
        1,
        [
            "rollout: refused: ada is enrolled already; anew only where others confirm it (`rollout enroll ada "
            "--confirm --by NAME`): missing 2 more people"
        ],
    )
    assert guard.seeds.read()["ada"] == said.secret, "and the codes stay what they are"


def test_the_code_of_who_confirms_may_come_from_stdin(
    guard: GuardState, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    secrets = enrolled(guard, capsys, ["ada", "grace"])
    monkeypatch.setattr(sys, "stdin", io.StringIO(f"{code_of(secrets['grace'])}\n"))
    said = confirm(guard, capsys, "ada", "grace", "-")
    assert (said.code, said) == (0, ["grace confirmed that ada is to be enrolled anew: missing 1 more person"])


def test_the_record_and_a_notice_say_who_was_enrolled_and_neither_has_the_secret(
    guard: GuardState, capsys: pytest.CaptureFixture[str]
) -> None:
    secret = run(guard, capsys, "ada").secret
    (link,) = [one for one in guard.store.record.entries("a") if one.kind == "enrolled"]
    body = json.loads(link.body)
    assert (body["person"], body["confirmed_by"], body["account"]) == ("ada", [], "a")
    (notice,) = [one for one in guard.store.record.notices("a") if one.kind == "enrolled"]
    assert notice.text == f"[a] ada was enrolled (record {link.hash[:12]})"
    assert guard.store.record.verify_chain("a").ok
    with sqlite3.connect(guard.folder.record) as db:
        assert secret not in "\n".join(db.iterdump())


def test_two_others_who_confirm_let_a_person_be_enrolled_anew_and_the_old_codes_end(
    guard: GuardState, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sign_off, "STEPS_BACK", 9)  # else a code of the step before is too old where a step just ends
    secrets = enrolled(guard, capsys, ["ada", "grace", "linus"])
    first = confirm(guard, capsys, "ada", "grace", code_of(secrets["grace"]))
    assert (first.code, first) == (0, ["grace confirmed that ada is to be enrolled anew: missing 1 more person"])
    assert "missing 1 more person" in run(guard, capsys, "ada")[0]
    twice = confirm(guard, capsys, "ada", "grace", code_of(secrets["grace"], STEP_S))
    assert "missing 1 more person" in twice[0], "one person counts once"
    second = confirm(guard, capsys, "ada", "linus", code_of(secrets["linus"]))
    assert second == [
        "linus confirmed that ada is to be enrolled anew: `rollout enroll ada` gives a new secret within 24 h"
    ]
    new = run(guard, capsys, "ada").secret
    assert new != secrets["ada"]
    assert guard.seeds.read() == {**secrets, "ada": new}
    assert guard.seeds.matching_step("ada", code_of(secrets["ada"]), time.time()) is None
    link = [one for one in guard.store.record.entries("a") if one.kind == "enrolled"][-1]
    assert json.loads(link.body)["confirmed_by"] == ["grace", "linus"]
    assert "missing 2 more people" in run(guard, capsys, "ada")[0], "what was confirmed has served"
    kinds = [one.kind for one in guard.store.record.notices("a")]
    assert kinds.count("enrolment_confirmed") == 3


@pytest.mark.parametrize(
    ("person", "by", "code", "said"),
    [
        ("ada", "ada", "right", "ada confirms others, never themself"),
        ("ada", AUTHOR, "right", "barbara is the candidate's author, who confirms nothing"),
        ("ada", "mallory", "000000", "'mallory' is not one of the approvers"),
        ("linus", "grace", "right", "linus is not enrolled yet: the first time nobody has to confirm it"),
        ("ada", "grace", "000000", "wrong code (4 tries left)"),
        ("ada", "linus", "000000", "wrong code (4 tries left)"),
    ],
)
def test_who_may_not_confirm_is_refused_by_name(
    guard: GuardState, capsys: pytest.CaptureFixture[str], person: str, by: str, code: str, said: str
) -> None:
    secrets = enrolled(guard, capsys, ["ada", "grace", "barbara"])
    given = code_of(secrets[by]) if code == "right" else code
    refused = confirm(guard, capsys, person, by, given)
    assert (refused.code, refused) == (1, [f"rollout: refused: {said}"])
    assert guard.seeds.read() == secrets


def test_a_code_that_has_served_confirms_nothing_more_and_wrong_ones_lock(
    guard: GuardState, capsys: pytest.CaptureFixture[str]
) -> None:
    secrets = enrolled(guard, capsys, ["ada", "grace", "linus"])
    code = code_of(secrets["grace"])
    assert confirm(guard, capsys, "ada", "grace", code).code == 0
    assert "already served" in confirm(guard, capsys, "linus", "grace", code)[0]
    said = [confirm(guard, capsys, "ada", "linus", "000000")[0] for _ in range(6)]
    assert "locked for 15 minutes" in said[4]
    assert "linus is locked until" in said[5]


def test_a_confirmation_of_yesterday_counts_no_more(
    guard: GuardState, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    secrets = enrolled(guard, capsys, ["ada", "grace", "linus"])
    for by in ("grace", "linus"):
        assert confirm(guard, capsys, "ada", by, code_of(secrets[by])).code == 0
    later = utc_now() + timedelta(seconds=enrolment.CONFIRMED_WITHIN_S - 1)
    monkeypatch.setattr(enrolment, "utc_now", lambda: later + timedelta(seconds=61))
    assert "missing 2 more people" in run(guard, capsys, "ada")[0]
    monkeypatch.setattr(enrolment, "utc_now", lambda: later - timedelta(seconds=60))
    assert run(guard, capsys, "ada").code == 0


def test_what_was_put_into_the_record_by_hand_confirms_nothing(
    guard: GuardState, capsys: pytest.CaptureFixture[str]
) -> None:
    secrets = enrolled(guard, capsys, ["ada", "grace", "linus"])
    with guard.store.record.writing() as session:
        for by in ("grace", "linus"):
            session.add(Attested(account="a", candidate="", item=item_of("ada"), person=by, roles=[], accepted=True))
    said = run(guard, capsys, "ada")
    assert said.code == 1
    assert "the record was changed by hand: attestation 1 of enroll ada by grace is not what the chain tells" in said[0]
    assert guard.seeds.read() == secrets


def test_taking_the_file_of_seeds_away_lets_nobody_be_enrolled_as_if_for_the_first_time(
    guard: GuardState, capsys: pytest.CaptureFixture[str]
) -> None:
    enrolled(guard, capsys, ["ada"])
    guard.folder.seeds.unlink()
    assert "ada is enrolled already" in run(guard, capsys, "ada")[0]


def test_a_guard_that_dies_after_the_link_ends_what_it_began(guard: GuardState) -> None:
    """The same row is served again: the seed is there then, and nothing is written twice."""
    seed = new_seed()
    _, digest = hand_over(guard.folder.new_seeds, seed)
    plan = str(guard.folder.root.parent / "plan.yaml")
    payload = {"person": "ada", "plan": plan, "seed_sha256": digest}
    number = guard.store.record.submit("a", "enroll", payload, "k")

    async def served() -> None:
        async with writing(guard):
            answering = asyncio.create_task(answer_for_ever(guard))
            while guard.store.record.answer(number) is None:  # noqa: ASYNC110 - another thread writes it
                await asyncio.sleep(0.01)
            answering.cancel()
            guard.folder.seeds.unlink()
            with guard.store.record.writing() as session:
                row = session.get(Inbox, number)
                assert row is not None
                row.state = "waiting"
                session.add(row)
            answering = asyncio.create_task(answer_for_ever(guard))
            while guard.store.record.answer(number) is None:  # noqa: ASYNC110 - another thread writes it
                await asyncio.sleep(0.01)
            answering.cancel()
            answer = guard.store.record.answer(number)
            assert answer is not None
            assert answer.done, answer.reason
            assert guard.seeds.read() == {"ada": seed}
            assert [one.kind for one in guard.store.record.entries("a")].count("enrolled") == 1

    asyncio.run(asyncio.wait_for(served(), 20))


@pytest.mark.parametrize("left", ["nothing", "another", "open", "no hash"])
def test_a_seed_that_was_not_left_as_it_must_be_enrols_nobody(guard: GuardState, left: str) -> None:
    seed = new_seed()
    path, digest = hand_over(guard.folder.new_seeds, seed)
    if left == "nothing":
        path.unlink()
    elif left == "another":
        path.write_text(new_seed())
    elif left == "open":
        path.chmod(0o644)
    else:
        digest = "../seeds"
    payload = {"person": "ada", "plan": str(guard.folder.root.parent / "plan.yaml"), "seed_sha256": digest}
    number = guard.store.record.submit("a", "enroll", payload, "k")

    async def served() -> str:
        answering = asyncio.create_task(answer_for_ever(guard))
        while (answer := guard.store.record.answer(number)) is None:  # noqa: ASYNC110 - another thread writes it
            await asyncio.sleep(0.01)
        answering.cancel()
        assert not answer.done
        return answer.reason

    reason = asyncio.run(asyncio.wait_for(served(), 20))
    assert re.search(r"the new seed is not there|not a seed as it was left|not a SHA-256", reason)
    assert seed not in reason
    assert not guard.folder.seeds.exists()
    assert [one for one in guard.store.record.entries("a") if one.kind == "enrolled"] == []


def test_what_cannot_be_enrolled_is_refused_in_one_line_before_a_guard_is_asked(
    guard: GuardState, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    plan = ["--plan", str(tmp_path / "plan.yaml")]
    for words, said in (
        (["mallory", *plan], "'mallory' is not an approver of production; allowed: ada, grace, linus, barbara"),
        (["ada", "--account", "b", *plan], "--account: b; allowed: a"),
        (["ada", "--by", "grace", *plan], "--by and --code without --confirm; allowed: with it"),
        (["ada", "--confirm", *plan], "--confirm: --by not given; allowed: grace, linus"),
        (["ada", "--confirm", "--by", "grace", *plan], "--code: not given, and there is no terminal"),
        (
            ["ada", "--plan", "configs/rollout.smoke.yaml"],
            "--account: none given; allowed: none is set up at simulated",
        ),
    ):
        assert main(["enroll", *words]) == 2, words
        (line,) = capsys.readouterr().err.splitlines()
        assert said in line
    shutil.copy(ROOT / "configs" / "approvers.demo.yaml", tmp_path / "people.yaml")
    assert "demo people" in run(guard, capsys, "ada")[0]
    monkeypatch.setenv("SLIPWAY_HOME", str(tmp_path / "empty"))
    os.makedirs(tmp_path / "empty")
    assert main(["enroll", "ada", *plan]) == 2
    assert "allowed: none is set up at bybit" in capsys.readouterr().err


def test_a_seed_is_named_after_its_hash_and_is_its_owners_alone(tmp_path: Path) -> None:
    seed = new_seed()
    path, digest = hand_over(tmp_path / "new", seed)
    assert (path.name, digest) == (f"{digest}.seed", hashlib.sha256(seed.encode()).hexdigest())
    assert path.stat().st_mode & 0o777 == 0o600
