"""The guard where people, the venue, the record, the files or the guard itself fail. Real parts, a plan of seconds."""

from __future__ import annotations

import signal
import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tasks.launch import find_bots
from tasks.record_tables import StageRun
from tests.support.guard_stack import GuardStack
from tests.support.plans import BRIEF, patient_brief
from tests.support.proofs import SAFETY_STEPS, proofs

pytestmark = [pytest.mark.integration, pytest.mark.timeout(1200)]
UNKNOWN_S = 4
"""What the brief plan lets a datum be unknown, and the record away."""


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GuardStack]:
    """Venue and Prometheus once for all: each test is a rollout of its own on the same account."""
    folder = tmp_path_factory.mktemp("brief")
    plan = folder / "plan.yaml"
    plan.write_text(patient_brief())
    stack = GuardStack(folder / "home", plan)
    try:
        stack.start_guard()
        yield stack
    finally:
        stack.close()


@pytest.fixture
def brief(shared: GuardStack) -> Iterator[GuardStack]:
    """With a living guard, and a copy of the brief plan that a test may damage."""
    shared.plan_path.write_text(patient_brief())
    if shared.processes["guard"].poll() is not None:
        shared.start_guard()
    try:
        yield shared
    finally:
        shared.processes["venue"].send_signal(signal.SIGCONT)


def _launch(stack: GuardStack, rollout: str, person: str, step: str = "launching") -> int:
    """Begun, signed by `person`, told to launch, and there."""
    number = stack.begin(rollout)
    assert stack.sign(number, "entry", person).done
    assert stack.ask("launch", {"stage_run_id": number}).done
    stack.wait_step(number, (step,), 30)
    return number


def test_people_end_a_stage_by_silence_or_by_a_no_go(brief: GuardStack) -> None:
    stack = brief
    stack.plan_path.write_text(BRIEF.read_text())
    silent = stack.wait_step(stack.begin("silent"), ("parked",), 20)
    assert (silent.reason, silent.decided_criterion, silent.decided_why) == ("people", "sign_off", "nobody signed")
    reminders = [notice.text for notice in stack.record.notices(stack.account) if notice.kind == "reminder"]
    assert len(reminders) == 1
    assert "Quant Lead" in reminders[0]
    stack.plan_path.write_text(patient_brief())
    for comment, step in (("not on a Friday", "parked"), ("candidate: its spread is wrong", "rolled_back")):
        number = stack.begin(step)
        assert stack.sign(number, "entry", "ada", "NO-GO", comment=comment).done
        run = stack.wait_step(number, (step,), 20)
        assert run.reason == "people"
        assert "ada" in str(run.decided_why)
        assert comment in str(run.decided_why)
        assert run.run is None, "nothing was ever launched"
        steps = stack.record.rollback_steps(number)
        assert [one.state for one in steps if one.name in SAFETY_STEPS] == ["skipped"] * 4


def test_a_guard_killed_while_launching_and_while_promoting_is_continued_with_the_one_bot(brief: GuardStack) -> None:
    stack = brief
    number = _launch(stack, "killed", "barbara")
    stack.until("the bot is being started", (stack.folder.runs / "killed-canary-1" / "stdout.log").exists, 10)
    stack.kill("guard")
    assert stack.record.stage_run(number).step == "launching"
    stack.start_guard()
    stack.wait_step(number, ("watch",), 20)
    bot = stack.bot()
    stack.wait_step(number, ("watched",), 20)
    assert stack.ask("judge", {"stage_run_id": number}).result["word"] == "GO"
    assert stack.bot() == bot
    stack.promote(number)
    stack.kill("guard")
    assert stack.record.stage_run(number).step == "promoting"
    stack.start_guard()
    run = stack.wait_step(number, ("promoted",), 30)
    proofs(stack, run)
    assert _bots_ever(run) == 1


def _bots_ever(run: StageRun) -> int:
    """How many bots told that they were ready on this run's state folder; none of them lives."""
    state_dir = Path(str(run.state_dir))
    assert not find_bots(state_dir)
    return (state_dir / "stdout.log").read_text().count('"obs_url"')


def test_a_bot_that_died_with_its_guard_is_found_dead_and_not_replaced(brief: GuardStack) -> None:
    stack = brief
    number = _launch(stack, "both", "cecilia", "watch")
    stack.kill("guard")
    stack.kill_bot()
    stack.start_guard()
    run = stack.wait_step(number, ("rolled_back",), 30)
    assert (run.reason, run.decided_criterion, run.decided_value) == ("candidate", "process_up", "0")
    assert run.decided_limit == "go == 1"
    proofs(stack, run)
    assert _bots_ever(run) == 1


def test_what_cannot_be_proven_is_told_and_tried_until_it_is(brief: GuardStack) -> None:
    """The venue hangs with quotes standing, the guard dies, the next one can read neither plan nor key."""
    stack = brief
    number = _launch(stack, "unproven", "dorothy", "watch")
    stack.until("quotes stand", lambda: stack.truth()["orders"], 10)
    access = stack.folder.accounts / f"{stack.account}.json"
    key = access.read_text()
    stack.processes["venue"].send_signal(signal.SIGSTOP)
    stack.kill("guard")
    stack.plan_path.write_text("nonsense: true\n")
    access.write_text("{")
    guard = stack.start_guard()
    run = stack.wait_step(number, ("rollback_failed",), 20)
    assert (run.none_open_at, run.flat_at, run.ended_at) == (None, None, None)
    assert run.bot_gone_at is not None, "stopping needs neither the venue nor the key"
    stack.processes["venue"].send_signal(signal.SIGCONT)
    # What the bot asked for before it ended may reach the venue now or not; nobody can read it, so nobody claims it.
    stack.until("the venue answers again", lambda: "orders" in stack.truth(), 10)
    assert stack.record.stage_run(number).step == "rollback_failed"
    assert stack.record.stage_run(number).none_open_at is None
    access.write_text(key)
    run = stack.wait_step(number, ("parked",), 30)
    assert (run.reason, run.decided_criterion) == ("environment", "files")
    assert "plan.yaml:1:" in str(run.decided_why)
    proofs(stack, run)
    assert guard.poll() is None, "the guard never ended: it is the one that pages"
    kinds = [one.kind for one in stack.record.notices(stack.account) if one.key.startswith(f"{number}:")]
    assert kinds.count("page") == 1
    assert kinds.count("rollback_failed") == 1
    assert kinds.index("rollback_failed") < kinds.index("parked")


def test_a_record_that_is_away_past_the_deadline_parks_the_stage_before_it_is_back(brief: GuardStack) -> None:
    stack = brief
    stack.plan_path.write_text(patient_brief(UNKNOWN_S))
    number = _launch(stack, "unrecorded", "emmy", "watch")
    stack.until("quotes stand", lambda: stack.truth()["orders"], 10)
    bot = stack.bot()
    assert bot is not None
    with _locked(stack.folder.record):
        since = time.monotonic()
        stack.until("the bot is gone", lambda: not bot.is_alive(), 10)
        stack.until("none open and flat", stack.is_clean, 20)
        assert time.monotonic() - since >= UNKNOWN_S, "not before the deadline"
        assert stack.record.stage_run(number).step in ("watch", "watched"), "nobody could write"
    run = stack.wait_step(number, ("parked",), 30)
    assert (run.reason, run.decided_criterion) == ("environment", "blind")
    assert run.decided_limit == f"known within {UNKNOWN_S} s"
    assert "the record has taken nothing" in str(run.decided_why)
    proofs(stack, run)


@contextmanager
def _locked(database: Path) -> Iterator[None]:
    """Nobody else can write while it lasts."""
    other = sqlite3.connect(database, isolation_level=None)
    try:
        other.execute("BEGIN EXCLUSIVE")
        yield
        other.execute("ROLLBACK")
    finally:
        other.close()
