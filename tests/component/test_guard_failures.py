"""A guard in which something fails that nobody expected: it goes on, it says so, and nothing stands still for ever."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from sqlalchemy.exc import OperationalError

from flows import status
from gates.decision import Action, Decision
from tasks.evidence_process import Built, EvidenceFailed
from tasks.guard import beginning, closing, launching, watching
from tasks.guard import store as store_module
from tasks.guard.beginning import do_preflight
from tasks.guard.closing import end_stage
from tasks.guard.state import Active, GuardState
from tasks.notify import Delivery
from tasks.record_tables import Outbox
from tasks.state_folder import StateFolder
from tests.support.asked_guard import run_guard


async def _closed(active: Active) -> None:
    assert active.closing is not None
    await active.closing


@pytest.fixture
def no_evidence(monkeypatch: pytest.MonkeyPatch) -> None:
    async def refused(*_: object) -> None:
        raise OSError(12, "Cannot allocate memory")

    monkeypatch.setattr(closing, "build_evidence", refused)
    monkeypatch.setattr(closing, "BUNDLE_AGAIN_S", (0.01,))


@pytest.mark.usefixtures("no_evidence")
def test_a_preflight_that_breaks_off_parks_the_stage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def broken(*_: object) -> None:
        raise RuntimeError("nobody expected this")

    monkeypatch.setattr(beginning, "preflight", broken)

    async def work(guard: GuardState, active: Active) -> None:
        await do_preflight(guard, active)
        await _closed(active)

    run, _ = run_guard(tmp_path / "home", work)
    assert (run.step, run.reason, run.decided_criterion) == ("parked", "environment", "preflight")
    assert run.decided_why == "RuntimeError: nobody expected this"


@pytest.mark.usefixtures("no_evidence")
def test_a_closing_that_breaks_off_pages_and_begins_anew_until_it_is_proven(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tries = list[int]()
    closes = closing._close_once

    async def breaks_off(guard: GuardState, active: Active) -> None:
        tries.append(1)
        if len(tries) < 3:
            raise OSError(24, "Too many open files")
        await closes(guard, active)

    monkeypatch.setattr(closing, "_close_once", breaks_off)
    monkeypatch.setattr(closing, "CLOSE_AGAIN_S", (0.01,))

    async def work(guard: GuardState, active: Active) -> None:
        end_stage(guard, active, closing.by_people("test", "stop"))
        await _closed(active)
        assert guard.active is None

    run, notices = run_guard(tmp_path / "home", work)
    assert run.step == "parked"
    assert len(tries) == 3
    paged = [one.text for one in notices if one.kind == "rollback_failed"]
    assert len(paged) == 1, "the same failure pages once"
    assert "Too many open files" in paged[0]


@pytest.mark.parametrize(("failures", "built"), [(2, True), (3, False)])
def test_a_bundle_is_tried_again_for_a_while_and_then_told_and_not_claimed(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    failures: int,
    built: bool,
) -> None:
    tries = list[str]()

    async def builds(folder: StateFolder, record: object, row: object, url: str, ends: str) -> Built:
        tries.append(ends)
        if len(tries) <= failures:
            raise OSError(28, "No space left on device")
        return Built(tmp_path / "evidence", "abc", {"index.html": ("0" * 64, 1)})

    monkeypatch.setattr(closing, "build_evidence", builds)
    monkeypatch.setattr(closing, "BUNDLE_AGAIN_S", (0.01, 0.01))

    async def work(guard: GuardState, active: Active) -> None:
        end_stage(guard, active, closing.by_people("test", "stop"))
        await _closed(active)
        row = guard.store.record.rollback_steps(active.id)[4]
        error = "" if built else "OSError: [Errno 28] No space left on device"
        assert (row.name, row.state, row.attempts, row.error) == (
            "bundle",
            "verified" if built else "failing",
            3,
            error,
        )
        status._await_end(guard.folder, guard.store.record, active.row, 0)

    run, notices = run_guard(tmp_path / "home", work)
    said = capsys.readouterr().out
    assert run.step == "parked", "what is proven is proven; the bundle holds it up for a bounded time alone"
    assert tries == ["parked"] * 3
    told = [one.text for one in notices if one.kind == "bundle_failed"]
    assert len(told) == (0 if built else 1)
    end = next(one.text for one in notices if one.kind == "parked")
    skipped = "not verified: revoke_grant, stop_bot, cancel_all, flatten (skipped: nothing was launched in this stage"
    failed = "bundle (failing: OSError: [Errno 28] No space left on device)"
    for words in (end, said):
        assert skipped in words
        assert (failed in words) is not built
        assert ("bundle built" in words) is built
        assert "every step is proven" not in words
        assert "flat," not in words
    if not built:
        assert "not built in 3 tries, the stage ends without it: OSError" in told[0]


def test_a_bundle_that_takes_long_to_fail_is_not_tried_past_its_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tries = list[str]()

    async def fails(*given: object) -> Built:
        tries.append("")
        raise EvidenceFailed("not built within 90 s")

    monkeypatch.setattr(closing, "build_evidence", fails)
    monkeypatch.setattr(closing, "BUNDLE_WITHIN_S", 0.0)

    async def work(guard: GuardState, active: Active) -> None:
        end_stage(guard, active, closing.by_people("test", "stop"))
        await _closed(active)

    _, notices = run_guard(tmp_path / "home", work)
    assert len(tries) == 1
    assert any("not built in 1 try" in one.text for one in notices)


def test_the_outbox_goes_on_whatever_a_delivery_or_the_record_raises(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watching, "OUTBOX_EVERY_S", 0.01)
    delivered, broken = list[str](), list[int]()

    async def deliver(notice: Outbox) -> Delivery:
        if notice.kind == "bad":
            raise UnicodeError("https://hooks.slack.com/secret-path")
        delivered.append(notice.text)
        return Delivery()

    monkeypatch.setattr(watching, "deliverer", lambda: deliver)

    async def work(guard: GuardState, active: Active) -> None:
        due = guard.store.record.due_notices

        def breaks_once() -> object:
            broken.append(1)
            if len(broken) == 1:
                raise OSError(5, "Input/output error")
            return due()

        monkeypatch.setattr(guard.store.record, "due_notices", breaks_once)
        guard.store.record.put_notice("k1", "bad", "first")
        guard.store.record.put_notice("k2", "good", "second")
        loop = asyncio.create_task(watching.deliver_notices(guard))
        while not delivered:
            assert not loop.done(), loop
            await asyncio.sleep(0.01)
        loop.cancel()

    _, notices = run_guard(tmp_path / "home", work)
    assert delivered == ["second"]
    bad = next(one for one in notices if one.kind == "bad")
    assert bad.error == "not delivered: UnicodeError"


def test_a_record_that_is_away_keeps_no_notice_from_people_and_none_goes_out_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watching, "OUTBOX_EVERY_S", 0.01)
    monkeypatch.setattr(watching, "UNTAKEN_S", 0.1)
    monkeypatch.setattr(store_module, "RETRY_S", 0.01)
    delivered = list[str]()

    async def deliver(notice: Outbox) -> Delivery:
        delivered.append(f"{notice.kind}: {notice.text}")
        return Delivery("Slack answered HTTP 500" if len(delivered) == 1 else "")

    monkeypatch.setattr(watching, "deliverer", lambda: deliver)

    async def work(guard: GuardState, active: Active) -> None:
        full = list[int]()

        def disk_full() -> None:
            full.append(1)
            if len(delivered) < 3:
                raise OperationalError("INSERT", {}, Exception("database or disk is full"))

        guard.store.tell("measurements", disk_full)
        guard.notice(active, "no_go", "NO-GO, candidate")
        guard.notice(active, "rollback_failed", "ROLLBACK_FAILED")
        loops = [asyncio.create_task(one(guard)) for one in (watching.deliver_untaken, watching.deliver_notices)]

        async def until_told(count: int) -> None:
            while len(delivered) < count or guard.untaken:
                assert not any(loop.done() for loop in loops), loops
                await asyncio.sleep(0.01)

        await until_told(3)
        guard.notice(active, "parked", "parked flat")
        await until_told(4)
        await asyncio.sleep(0.1)  # whatever went out twice would by now
        for loop in loops:
            loop.cancel()

    _, notices = run_guard(tmp_path / "home", work)
    assert [one.partition(":")[0] for one in delivered] == ["no_go", "rollback_failed", "no_go", "parked"]
    assert "[r/canary] NO-GO, candidate (not in the record yet)" in delivered[0]
    assert [one.kind for one in notices if one.delivered_at is not None] == ["no_go", "rollback_failed", "parked"]


def test_a_notice_goes_out_once_though_the_record_is_away_when_it_has(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    delivered, refused = list[str](), list[int]()

    async def deliver(notice: Outbox) -> Delivery:
        delivered.append(notice.text)
        return Delivery()

    async def work(guard: GuardState, active: Active) -> None:
        record = guard.store.record
        tried = record.notice_tried

        def away_at_first(number: int, error: str, again_in_s: float | None) -> None:
            refused.append(number)
            if len(refused) <= 2:
                raise OperationalError("update", {}, Exception("the server closed the connection"))
            tried(number, error, again_in_s)

        monkeypatch.setattr(record, "notice_tried", away_at_first)
        record.put_notice("k", "go", "GO")
        await watching.deliver_due(guard, deliver)
        while guard.tried:
            await watching.deliver_due(guard, deliver)
            await asyncio.sleep(0.01)
        await watching.deliver_due(guard, deliver)

    _, (notice,) = run_guard(tmp_path / "home", work)
    assert delivered == ["GO"]
    assert notice.delivered_at is not None


def test_a_launch_that_the_record_does_not_take_at_its_end_parks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The bot trades by then: a stage that stood at LAUNCHING for ever would never be watched, nor ended."""
    ended = list[Decision]()
    monkeypatch.setattr(launching, "end_stage", lambda guard, active, decision: ended.append(decision))

    async def started(guard: GuardState, active: Active, *_: object) -> None:
        return None

    monkeypatch.setattr(launching, "_start_or_find", started)
    monkeypatch.setattr(launching, "_take_over", started)

    def away(*_: object, **__: object) -> None:
        raise OperationalError("insert", {}, Exception("the server closed the connection"))

    async def work(guard: GuardState, active: Active) -> None:
        active.row.step = "launching"
        active.criteria = tuple(one.model_copy(update={"unknown_deadline_s": 0.05}) for one in active.criteria)
        monkeypatch.setattr(guard.store.record, "enter_part", away)
        await launching.launch(guard, active)

    run_guard(tmp_path / "home", work)
    assert [(one.action, one.reason) for one in ended] == [(Action.PARK, "environment")]
