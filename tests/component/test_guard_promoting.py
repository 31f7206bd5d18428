"""At the moment of promotion everything is looked at again, and until the bot is proven gone it can still be ended."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from gates.course import Step
from gates.criteria import Criterion
from gates.decision import Action, GuardHistory
from gates.judge import Cause, Measurement, Outcome
from tasks.evidence_process import signed_evidence_fault
from tasks.guard import judging, looking, promoting
from tasks.guard.grants import BotPermission
from tasks.guard.judging import judge_stage
from tasks.guard.looking import last_look
from tasks.guard.measuring import decide
from tasks.guard.promoting import promote_stage
from tasks.guard.state import Active, GuardState, Refused, now_ms
from tasks.launch import BotProcess, start_process
from tasks.record_tables import utc_now
from tasks.supervise.identity import identify
from tests.support.bot_rig import wait_for
from tests.support.gate_parts import measured
from tests.support.guard_parts import activate, guard_at, looks, never_close, value_of, writing


@pytest.fixture(autouse=True)
def _nothing_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    never_close(monkeypatch)


def _evidence(home: Path) -> dict[str, object]:
    """Signed evidence of one file, as columns of a judged stage run."""
    folder = home / "evidence" / "judged"
    folder.mkdir(parents=True)
    (folder / "index.html").write_text("GO")
    files = {"index.html": hashlib.sha256(b"GO").hexdigest()}
    (folder / "manifest.json").write_text(json.dumps({"files": files}))
    digest = hashlib.sha256((folder / "manifest.json").read_bytes()).hexdigest()
    return {"verdict": "GO", "evidence_dir": str(folder.parent), "evidence_digest": digest}


def _judged(tmp_path: Path) -> GuardState:
    home = tmp_path / "home"
    return guard_at(home, "judged", **_evidence(home))


def _sees(monkeypatch: pytest.MonkeyPatch, module: object, **bad: Outcome | Cause) -> None:
    async def measure(guard: GuardState, active: Active, criteria: object) -> object:
        return [pair for pair in looks(active, **bad) if pair[0] in list(criteria)]  # type: ignore[call-overload]

    monkeypatch.setattr(module, "measure_now", measure)


@pytest.mark.parametrize(
    ("seen", "said", "step"),
    [
        ({}, "", Step.PROMOTING),
        ({"halted": Cause.SOURCE_UNREACHABLE}, "halted UNKNOWN", Step.JUDGED),
        ({"fault_freezes": Cause.NO_DATA}, "fault_freezes UNKNOWN", Step.JUDGED),
        ({"fault_freezes": Outcome.FAIL}, "became rolling_back", Step.ROLLING_BACK),
    ],
)
def test_only_what_passes_now_is_promoted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seen: dict[str, Outcome | Cause], said: str, step: Step
) -> None:
    _sees(monkeypatch, promoting, **seen)

    async def asked() -> tuple[str, Step]:
        guard = _judged(tmp_path)
        active, refusal = activate(guard), ""
        async with writing(guard):
            try:
                await promote_stage(guard, active)
            except Refused as error:
                refusal = str(error)
        return refusal, active.step

    refusal, reached = asyncio.run(asked())
    assert reached is step
    assert said in refusal
    assert bool(refusal) == bool(said)


def test_a_promotion_that_meets_an_adoption_is_refused_to_be_asked_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _sees(monkeypatch, promoting)

    async def asked() -> Active:
        guard = _judged(tmp_path)
        active = activate(guard)
        async with writing(guard):
            active.launching = True
            with pytest.raises(Refused, match="ask again"):
                await promote_stage(guard, active)
            active.launching, active.history = False, None
            with pytest.raises(Refused, match="ask again"):
                await promote_stage(guard, active)
        return active

    assert asyncio.run(asked()).step is Step.JUDGED


def test_evidence_that_is_not_what_was_signed_is_refused_by_name_and_recorded_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _sees(monkeypatch, promoting)

    async def asked() -> list[str]:
        guard = _judged(tmp_path)
        active = activate(guard)
        page = Path(str(active.row.evidence_dir)) / "judged" / "index.html"
        page.write_text("GO!")
        async with writing(guard):
            for _ in range(2):
                with pytest.raises(Refused, match=r"index\.html is not what the manifest names"):
                    await promote_stage(guard, active)
            await guard.store.settled()
            kinds = [entry.kind for entry in guard.store.record.entries("a")]
        assert active.step is Step.JUDGED
        return kinds

    assert asyncio.run(asked()).count("refused") == 1


def test_every_way_in_which_signed_evidence_can_differ_is_named(tmp_path: Path) -> None:
    columns = _evidence(tmp_path)
    folder, digest = Path(str(columns["evidence_dir"])) / "judged", str(columns["evidence_digest"])
    assert signed_evidence_fault(folder, digest) == ""
    assert "does not have the digest" in signed_evidence_fault(folder, "0" * 64)
    (folder / "more.json").write_text("{}")
    assert "more.json is not named" in signed_evidence_fault(folder, digest)
    (folder / "index.html").unlink()
    assert "index.html is missing" in signed_evidence_fault(folder, digest)
    (folder / "manifest.json").unlink()
    assert "manifest.json is missing" in signed_evidence_fault(folder, digest)


def test_a_death_that_a_round_of_looks_finds_first_says_how_the_bot_ended(tmp_path: Path) -> None:
    async def decided() -> str | None:
        guard = guard_at(tmp_path, "watch")
        active = activate(guard)
        run = tmp_path / "run"
        sleeps = start_process([sys.executable, "-c", "import time; time.sleep(600)"], run, {})
        os.kill(sleeps.pid, signal.SIGKILL)
        wait_for("it is dead", lambda: not sleeps.is_alive())
        active.bot = BotProcess("r-1", sleeps, run, "http://127.0.0.1:9")
        one = next(each for each in active.criteria if each.id == "process_up")
        assert active.history is not None
        active.history = active.history.after([measured(one, value_of(one, Outcome.FAIL), now_ms())])
        async with writing(guard):
            decide(guard, active)
        return active.row.decided_why

    said = asyncio.run(decided())
    assert said is not None
    assert "killed by SIGKILL" in said


def test_while_promoting_the_journal_still_decides_and_what_our_own_stop_breaks_does_not(tmp_path: Path) -> None:
    async def decided() -> list[tuple[Step, str | None]]:
        found = []
        for at, (name, before) in enumerate((("process_up", False), ("process_up", True), ("fault_freezes", False))):
            guard = guard_at(tmp_path / str(at), "promoting")
            active = activate(guard)
            active.promoting_since_ms = 10**15 if before else 0
            one = next(each for each in active.criteria if each.id == name)
            assert active.history is not None
            active.history = active.history.after([measured(one, value_of(one, Outcome.FAIL), now_ms())])
            active.closing = guard.spawn(asyncio.sleep(60), "closing")
            async with writing(guard):
                decide(guard, active)
            active.closing.cancel()
            found.append((active.step, active.row.decided_criterion))
        return found

    ignored, seen_before, journal = asyncio.run(decided())
    assert ignored == (Step.PROMOTING, None)
    assert seen_before == (Step.ROLLING_BACK, "process_up")
    assert journal == (Step.ROLLING_BACK, "fault_freezes")


@pytest.mark.parametrize(
    ("seen", "action", "reason"),
    [
        ({}, Action.CONTINUE, None),
        ({"fault_freezes": Outcome.FAIL}, Action.ROLL_BACK, "candidate"),
        ({"fault_freezes": Cause.SOURCE_ERROR}, Action.PARK, "environment"),
    ],
)
def test_the_last_look_at_the_journal_decides_whether_it_was_a_promotion(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    seen: dict[str, Outcome | Cause],
    action: Action,
    reason: str | None,
) -> None:
    _sees(monkeypatch, looking, **seen)
    monkeypatch.setattr(looking, "LOOK_AGAIN_S", 0.01)

    async def looked() -> tuple[Action, str | None]:
        guard = guard_at(tmp_path / "home", "promoting")
        active = activate(guard)
        active.criteria = tuple(one.model_copy(update={"unknown_deadline_s": 0.05}) for one in active.criteria)
        async with writing(guard):
            found = await last_look(guard, active)
        return found.action, found.reason

    assert asyncio.run(looked()) == (action, reason)


def test_a_bot_that_dies_before_its_promotion_stops_it_is_told_from_one_that_was_stopped(tmp_path: Path) -> None:
    async def stopped(child: subprocess.Popen[bytes], kill_first: bool) -> int:
        guard = guard_at(tmp_path / str(kill_first), "promoting")
        active, died = activate(guard), []
        identity = identify(child.pid)
        assert identity is not None
        active.bot = BotProcess("run", identity, tmp_path, "")
        permission = BotPermission(guard, active, lambda: None, lambda: died.append(1))
        async with writing(guard):
            if kill_first:
                os.kill(child.pid, 9)
                child.wait()
            reaped = asyncio.create_task(asyncio.to_thread(child.wait))
            gone, _ = await permission.stop()
            await reaped
        assert gone
        assert active.stop_asked
        return len(died)

    for kill_first in (True, False):
        with subprocess.Popen(["sleep", "60"]) as child:
            assert asyncio.run(stopped(child, kill_first)) == int(kill_first)


@pytest.mark.parametrize("step", [Step.JUDGED, Step.WATCHED])
def test_a_look_that_waited_for_the_record_makes_nothing_last_longer_that_the_loops_saw_meanwhile(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: Step
) -> None:
    """A candidate that is not seen for a moment is not rolled back, nor parked, by how long a write took."""
    waited_ms = 8000

    async def work() -> None:
        home = tmp_path / "home"
        watched = {"part_from": utc_now(), "watch_from": utc_now(), "watched_at": utc_now()}
        guard = guard_at(home, step.value, **(_evidence(home) if step is Step.JUDGED else watched))
        active = activate(guard)
        one = next(one for one in active.criteria if one.phase == "guard" and not one.windowed)
        since_ms = now_ms() - 1000
        assert active.history is not None

        def unseen(at_ms: int) -> Measurement:
            return measured(one, Cause.SOURCE_UNREACHABLE, at_ms)

        active.history = GuardHistory(since_ms).after([measured(one, value_of(one, Outcome.PASS), since_ms - 1000)])
        active.history = active.history.after([unseen(since_ms), unseen(now_ms())])

        async def look(*_: object) -> list[tuple[Criterion, Measurement]]:
            return [(one, unseen(now_ms() - waited_ms))]

        monkeypatch.setattr(promoting, "measure_now", look)
        monkeypatch.setattr(judging, "measure_now", look)
        async with writing(guard):
            if step is Step.JUDGED:
                with pytest.raises(Refused, match="every critical criterion must PASS"):
                    await promote_stage(guard, active)
            else:
                await judge_stage(guard, active)
        streak = active.history.streaks[one.id]
        assert streak.unknown_since_ms == since_ms
        assert streak.last.at_ms >= since_ms + 1000

    asyncio.run(work())
