"""Two machines on one record: what one cannot see of the other is unknown, and neither acts on the other's account."""

from __future__ import annotations

import asyncio
import getpass
import os
import signal
import subprocess
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from bot.runtime.kill_switch_report import FlattenSent
from flows.__main__ import main
from gates.course import Step
from gates.decision import Action
from tasks import record_lock
from tasks.guard import closing, process
from tasks.guard.grants import BotPermission
from tasks.guard.process import keep_account
from tasks.guard.requests import HANDLERS
from tasks.guard.resume import resume
from tasks.guard.state import Active, GuardState, Refused
from tasks.guard.store import StepRecorder
from tasks.record import Record
from tasks.record_audit import record_fault
from tasks.record_engine import open_engine
from tasks.record_lock import TAKEOVER, AccountTaken
from tasks.record_migrations import NEWEST_REVISION
from tasks.record_tables import Inbox, Lock, utc_now
from tasks.record_writer import RecordWriter
from tasks.rollback import SAID_BY, Closing, OpenOrders, Waits, all_proven, proven_in_words
from tasks.supervise.identity import Identity, identify
from tasks.supervise.machine import INITIAL_NAMESPACE, Machine
from tests.support.guard_parts import guard_at, never_close

ALPHA = Machine("alpha", "id-of-alpha", "boot-of-alpha", INITIAL_NAMESPACE)
BETA = Machine("beta", "id-of-beta", "boot-of-beta", INITIAL_NAMESPACE)
REBOOTED = replace(ALPHA, boot_id="next-boot-of-alpha")
NOBODY = 2**22 - 1
"""A pid that no process of this machine has."""
BOT: dict[str, Any] = {"run": "r-canary-1", "state_dir": "/runs/r-canary-1", "pid": NOBODY, "pid_started_ticks": 5}


class Pair:
    """One account in one SQLite file, opened by two guards that pose as two machines. Only alpha's has begun."""

    def __init__(self, home: Path) -> None:
        self.guard = guard_at(home, "watch", **BOT, machine=str(ALPHA))
        self.alpha = self.guard.store.record
        self.beta = RecordWriter(Record(open_engine(f"sqlite:///{self.guard.folder.record}")), "a")

    def alpha_holds(self, pid: int = NOBODY, machine: str = str(ALPHA)) -> None:
        """By a process that does not show in this machine's /proc, as one of another machine does not."""
        self.alpha.take_account(ALPHA)
        with self.alpha.writing() as session:
            held = session.get_one(Lock, "guard:a")
            held.pid, held.machine = pid, machine

    def says_off(self, machine: str, ago: timedelta) -> int:
        number = self.beta.submit("a", TAKEOVER, {"off": machine, "who": "ada", "reason": "lost"}, f"{machine}{ago}")
        with self.beta.writing() as session:
            row = session.get_one(Inbox, number)
            row.created_at = utc_now() - ago
        return number

    def told(self) -> list[str]:
        return [link.kind for link in self.beta.entries("a")]

    def on(self, machine: Machine) -> GuardState:
        self.guard.machine = machine
        return self.guard


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[Pair]:
    made = Pair(tmp_path / "home")
    yield made
    made.guard.store.close()
    made.beta.close()


@pytest.fixture
def stranger() -> Iterator[Identity]:
    """A process of this machine that has nothing to do with us."""
    child = subprocess.Popen(["sleep", "60"])
    found = identify(child.pid)
    assert found is not None
    yield found
    child.kill()
    child.wait()


def test_an_account_that_another_machine_holds_is_refused_with_its_name_and_what_to_do(pair: Pair) -> None:
    pair.alpha_holds()
    with pytest.raises(AccountTaken) as caught:
        pair.beta.take_account(BETA)
    said = str(caught.value)
    assert "\n" not in said
    assert said.startswith(f"account a is held by a guard on machine alpha (pid {NOBODY}, since 2")
    assert "cannot be seen from beta" in said
    assert said.endswith("switched off, then: rollout takeover a --off alpha")
    assert not pair.beta.holds_account(BETA)


def test_on_its_own_machine_a_dead_guard_s_lock_is_taken_over_at_once_also_one_from_before_machines_were_noted(
    pair: Pair,
) -> None:
    for machine in (str(ALPHA), ""):
        pair.alpha_holds(machine=machine)
        pair.beta.take_account(ALPHA)
        assert pair.beta.holds_account(ALPHA)


def test_after_a_reboot_a_lock_is_over_though_its_pid_and_start_are_those_of_a_process_that_lives(
    pair: Pair, stranger: Identity
) -> None:
    pair.alpha_holds()
    with pair.alpha.writing() as session:
        held = session.get_one(Lock, "guard:a")
        held.pid, held.pid_started_ticks = stranger.pid, stranger.started_ticks
    with pytest.raises(AccountTaken, match=f"account a already has a guard: pid {stranger.pid}"):
        pair.beta.take_account(ALPHA)
    pair.beta.take_account(REBOOTED)
    assert pair.beta.holds_account(REBOOTED)


def test_a_word_that_the_machine_is_off_hands_the_account_over_and_is_told_in_the_chain(pair: Pair) -> None:
    pair.alpha_holds()
    number = pair.says_off("alpha", timedelta(seconds=30))
    pair.beta.take_account(BETA)
    answer = pair.beta.answer(number)
    assert answer is not None
    assert (answer.done, answer.result) == (True, {"off": "alpha", "by": "beta"})
    assert pair.told()[-1] == TAKEOVER
    assert (pair.beta.holds_account(BETA), pair.alpha.holds_account(ALPHA)) == (True, False)
    assert pair.beta.said_off(1, str(REBOOTED)) == "ada", "the machine is off, whichever boot it was in"
    assert (pair.beta.said_off(1, str(BETA)), pair.beta.said_off(2, str(ALPHA))) == (None, None)
    assert record_fault(pair.beta, "a") == ""


@pytest.mark.parametrize(("column", "value"), [("created_at", "'yesterday'"), ("payload", "'{'"), ("payload", "'[]'")])
def test_a_word_that_cannot_be_read_hands_nothing_over_and_keeps_no_other_from_it(
    pair: Pair, column: str, value: str
) -> None:
    pair.alpha_holds()
    damaged = pair.says_off("alpha", timedelta(seconds=31))
    with pair.beta.engine.begin() as connection:
        connection.exec_driver_sql(f"UPDATE inbox SET {column} = {value}")  # noqa: S608
    with pytest.raises(AccountTaken, match="is held by a guard on machine alpha"):
        pair.beta.take_account(BETA)
    number = pair.says_off("alpha", timedelta(seconds=30))
    pair.beta.take_account(BETA)
    assert pair.beta.holds_account(BETA)
    answer = pair.beta.answer(number)
    assert answer is not None
    assert answer.done
    assert [one.id for one in pair.beta.waiting()] == [damaged], "the guard that begins refuses it"


@pytest.mark.parametrize(
    ("machine", "ago", "reason"),
    [
        ("alpha", timedelta(seconds=1), None),
        ("gamma", timedelta(seconds=30), "the account is held on alpha, not on 'gamma'"),
        ("alpha", timedelta(minutes=11), "said more than 10 minutes ago: make sure again"),
    ],
    ids=["too fresh: a guard that lives would refuse it", "another machine", "too old"],
)
def test_a_word_that_is_not_good_hands_nothing_over(
    pair: Pair, machine: str, ago: timedelta, reason: str | None
) -> None:
    pair.alpha_holds()
    number = pair.says_off(machine, ago)
    with pytest.raises(AccountTaken, match="is held by a guard on machine alpha"):
        pair.beta.take_account(BETA)
    answer = pair.beta.answer(number)
    assert (None if answer is None else (answer.done, answer.reason)) == (None if reason is None else (False, reason))
    assert TAKEOVER not in pair.told()


def test_the_command_hands_the_account_over_and_says_to_whom(
    pair: Pair, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(record_lock, "TAKEOVER_AFTER", timedelta(0))
    monkeypatch.setenv("SLIPWAY_HOME", str(pair.guard.folder.root))
    monkeypatch.setenv("SLIPWAY_RECORD_URL", f"sqlite:///{pair.guard.folder.record}")
    monkeypatch.setattr(getpass, "getuser", lambda: "ada")
    with pair.beta.engine.begin() as connection:  # the tables are those of the newest revision: nothing to migrate
        connection.execute(text("CREATE TABLE alembic_version (version_num VARCHAR(32) NOT NULL)"))
        connection.execute(text("INSERT INTO alembic_version VALUES (:newest)"), {"newest": NEWEST_REVISION})
    pair.alpha_holds()

    def started_again_and_again() -> None:
        until_s = time.monotonic() + 30
        while True:
            try:
                return pair.beta.take_account(BETA)
            except AccountTaken:
                assert time.monotonic() < until_s
                time.sleep(0.05)

    with ThreadPoolExecutor(1) as beside:
        taken = beside.submit(started_again_and_again)
        assert main(["takeover", "a", "--off", "gamma"]) == 1
        assert "refused: the account is held on alpha, not on 'gamma'" in capsys.readouterr().out
        assert main(["takeover", "a", "--off", "alpha", "--reason", "its power is off"]) == 0
        taken.result()
    assert capsys.readouterr().out == "account a: ada says that alpha is off; its guard is the one on beta now\n"
    assert main(["takeover", "b", "--off", "alpha"]) == 2
    assert "takeover b; allowed: a" in capsys.readouterr().err


def test_a_guard_that_lives_refuses_that_its_account_is_taken_over(pair: Pair) -> None:
    async def asked() -> None:
        payload = {"off": "alpha", "who": "ada", "reason": "", "inbox_id": 1}
        with pytest.raises(Refused, match=r"has a guard that lives, on machine alpha \(pid \d+\): nothing is taken"):
            await HANDLERS[TAKEOVER](pair.on(ALPHA), payload)

    asyncio.run(asked())
    assert TAKEOVER not in pair.told()


def test_a_guard_whose_account_was_taken_over_ends(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "KEEP_EVERY_S", 0.01)

    async def kept() -> None:
        keeping = asyncio.create_task(keep_account(pair.on(ALPHA)))
        done, _ = await asyncio.wait({keeping}, timeout=0.2)
        assert not done, "as long as the lock is its own it goes on"
        with pair.beta.writing() as session:
            session.get_one(Lock, "guard:a").machine = str(BETA)
        with pytest.raises(AccountTaken, match="account a was taken over"):
            await asyncio.wait_for(keeping, 10)

    pair.alpha.take_account(ALPHA)
    asyncio.run(kept())


def test_a_guard_gives_its_account_back_only_where_nothing_is_open_and_it_is_its_own(pair: Pair) -> None:
    pair.alpha.take_account(ALPHA)
    pair.alpha.give_back_account(ALPHA)
    assert pair.alpha.holds_account(ALPHA), "its open stage's bot may be on this machine"
    pair.alpha.change_stage_run(1, "step", step="parked", ended_at=utc_now())
    pair.beta.give_back_account(BETA)
    assert pair.alpha.holds_account(ALPHA), "it is not beta's"
    pair.alpha.give_back_account(ALPHA)
    pair.beta.take_account(BETA)
    assert pair.beta.holds_account(BETA)
    assert TAKEOVER not in pair.told()


@pytest.mark.parametrize("is_open", [True, False], ids=["a stage is open", "nothing is open"])
def test_a_guard_that_ends_in_order_leaves_the_account_to_others_where_nothing_is_open(
    pair: Pair, is_open: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    never_close(monkeypatch)
    if not is_open:
        pair.alpha.change_stage_run(1, "step", step="parked", ended_at=utc_now())
    begun = asyncio.Event()

    async def beat(_: GuardState) -> None:
        begun.set()
        await asyncio.Event().wait()

    async def ran() -> int:
        running = asyncio.create_task(process.run_guard(pair.on(ALPHA)))
        await asyncio.wait_for(begun.wait(), 10)
        os.kill(os.getpid(), signal.SIGTERM)
        return await asyncio.wait_for(running, 20)

    monkeypatch.setattr(process, "beat", beat)
    pair.alpha.take_account(ALPHA)
    assert asyncio.run(ran()) == 0
    assert pair.beta.holds_account(ALPHA) is is_open


def _taken_up(pair: Pair, machine: Machine, look: Callable[[GuardState, Active], Awaitable[None]]) -> None:
    """The stage run is taken up by a guard on that machine, and looked at."""

    async def run() -> None:
        guard = pair.on(machine)
        writing = asyncio.create_task(guard.store.write_told())
        await resume(guard)
        await asyncio.gather(*(task for task in guard.tasks if task.get_name() == "adopt"))
        active = guard.active
        assert active is not None
        await look(guard, active)
        await guard.store.settled()
        writing.cancel()

    asyncio.run(run())


def _permission(guard: GuardState, active: Active) -> BotPermission:
    return BotPermission(guard, active, lambda: None, lambda: None)


def test_a_bot_of_another_machine_is_neither_dead_nor_without_a_grant(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    never_close(monkeypatch)

    async def look(guard: GuardState, active: Active) -> None:
        decision = active.decision
        assert decision is not None
        assert (decision.action, decision.reason, decision.criterion_id) == (Action.PARK, "environment", "adopt")
        assert decision.sentence == "its bot was started on machine alpha: whether it lives cannot be seen from beta"
        assert (active.bot, active.operator) == (None, None), "at its port here somebody else would be asked"
        for step in (_permission(guard, active).revoke, _permission(guard, active).stop):
            sure, proof = await step()
            assert not sure
            assert "unknown: the bot was started on machine alpha, which cannot be seen from beta" in proof["detail"]
            assert "rollout takeover a --off alpha" in proof["detail"]

    _taken_up(pair, BETA, look)


def test_after_a_reboot_its_bot_is_dead_and_no_process_that_has_its_numbers_now_is_touched(
    pair: Pair, stranger: Identity, monkeypatch: pytest.MonkeyPatch
) -> None:
    never_close(monkeypatch)
    pair.alpha.change_stage_run(1, "bot", pid=stranger.pid, pid_started_ticks=stranger.started_ticks)

    async def look(guard: GuardState, active: Active) -> None:
        decision = active.decision
        assert decision is not None
        assert (decision.action, decision.reason, decision.criterion_id) == (Action.PARK, "environment", "adopt")
        said = (
            f"its bot, pid {stranger.pid}, was started in an earlier boot of this machine, which was booted again since"
        )
        assert decision.sentence == said
        sure, proof = await _permission(guard, active).stop()
        assert (sure, proof["by"]) == (True, "was dead")

    _taken_up(pair, REBOOTED, look)
    assert stranger.is_alive()


@pytest.mark.parametrize(("machine", "action"), [(ALPHA, Action.ROLL_BACK), (REBOOTED, Action.PARK)])
@pytest.mark.parametrize("step", ["launching", "judged"])
def test_only_a_bot_that_died_in_this_boot_is_the_candidate_s_fault(
    pair: Pair, monkeypatch: pytest.MonkeyPatch, step: str, machine: Machine, action: Action
) -> None:
    never_close(monkeypatch)
    pair.alpha.change_stage_run(1, "step", step=step)

    async def look(guard: GuardState, active: Active) -> None:
        await asyncio.gather(*(task for task in guard.tasks if task.get_name() == "launch"))
        assert active.decision is not None
        assert active.decision.action is action

    _taken_up(pair, machine, look)


def test_a_reboot_while_it_was_promoted_parks_and_burns_nothing(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    pair.alpha.change_stage_run(1, "step", step="promoting")

    async def look(guard: GuardState, active: Active) -> None:
        gone = BotPermission(guard, active, lambda: None, lambda: closing._on_dead(guard, active))
        assert (await gone.stop())[0]
        assert (active.row.step, active.row.end_wanted, active.row.reason) == ("rolling_back", "park", "environment")

    never_close(monkeypatch)
    _taken_up(pair, REBOOTED, look)


def test_a_launch_that_another_machine_had_begun_starts_no_second_bot(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It notes where it starts before it starts: also without a pid there may be a bot."""
    never_close(monkeypatch)
    pair.alpha.change_stage_run(1, "step", step="launching")
    pair.alpha.change_stage_run(1, "bot", pid=None, pid_started_ticks=None)
    started = list[object]()
    monkeypatch.setattr("tasks.guard.launching.start_process", lambda *words: started.append(words))

    async def look(_: GuardState, active: Active) -> None:
        assert active.decision is not None
        assert active.decision.criterion_id == "adopt"
        assert active.step is Step.ROLLING_BACK

    _taken_up(pair, BETA, look)
    assert started == []


class _Desk:
    """A venue that answers, and shows nothing of ours."""

    async def cancel_all(self) -> str:
        return "none"

    async def read_open(self) -> OpenOrders:
        return OpenOrders(0, 0)

    async def flatten(self, sent: Callable[[Sequence[FlattenSent]], None]) -> str:
        return "flat"

    async def read_positions(self) -> dict[str, Decimal]:
        return {}


def test_a_closing_is_not_proven_before_a_person_says_that_the_machine_is_off_and_then_says_whose_word_it_is(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    never_close(monkeypatch)

    async def look(guard: GuardState, active: Active) -> None:
        failed = asyncio.get_running_loop().create_future()
        running = asyncio.create_task(_closing(guard, active, failed).run())
        assert "revoke_grant, stop_bot, cancel_all" in await asyncio.wait_for(failed, 10)
        await guard.store.settled()
        assert not running.done()
        assert guard.store.record.stage_run(1).bot_gone_at is None
        payload = {"off": "alpha", "who": "ada", "reason": "its power is off", "inbox_id": 1}
        assert await HANDLERS[TAKEOVER](guard, payload) == {"off": "alpha", "by": "beta"}
        await asyncio.wait_for(running, 10)
        await guard.store.settled()

    _taken_up(pair, BETA, look)
    rows = pair.beta.rollback_steps(1)
    assert {row.name: row.proof.get(SAID_BY) for row in rows} == {
        "revoke_grant": "ada", "stop_bot": "ada", "cancel_all": None, "flatten": None,
    }  # fmt: skip
    assert pair.beta.stage_run(1).bot_gone_at is not None
    assert not all_proven(rows)
    assert proven_in_words(rows).startswith("bot gone by the word of ada, no open order, flat, grant revoked by the w")
    assert record_fault(pair.beta, "a") == ""


def _closing(guard: GuardState, active: Active, failed: asyncio.Future[str]) -> Closing:
    async def on_failed(words: str) -> None:
        failed.set_result(words)

    recorder = StepRecorder(guard.store, active.id, lambda _: [], guard.telling)
    waits = Waits(0.0, 0.2, patience_s=0.05, revoke_patience_s=0.05, between_reads_s=0.01, retry_s=(0.01,))
    return Closing(active.id, _permission(guard, active), _Desk(), recorder, waits, True, on_failed)
