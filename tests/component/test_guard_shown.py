"""What the guard shows of itself to Prometheus: the alerts stand on it, so it must be what the tables say."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from sqlmodel import select

from gates.course import Step
from tasks.guard import watching
from tasks.guard.resume import resume
from tasks.guard.state import GuardState
from tasks.guard.watching import deliver_due, watch_people
from tasks.notify import Delivery
from tasks.record_tables import Outbox
from tasks.record_writer import Notice
from tests.support.guard_parts import activate, guard_at, never_close, writing


def _shown(guard: GuardState, name: str, **labels: str) -> float | None:
    return guard.shown._registry.get_sample_value(name, labels)


def test_sign_offs_are_pending_only_while_somebody_is_asked(tmp_path: Path) -> None:
    guard = guard_at(tmp_path, Step.READY.value)
    active = activate(guard)

    async def shows(wanted: bool) -> None:
        watching = asyncio.create_task(watch_people(guard))
        for _ in range(1000):
            if (_shown(guard, "rollout_signoffs_pending") != 0) is wanted:
                break
            await asyncio.sleep(0.01)
        watching.cancel()
        assert (_shown(guard, "rollout_signoffs_pending") != 0) is wanted

    asyncio.run(shows(True))
    active.row.step = Step.ROLLING_BACK.value
    asyncio.run(shows(False))
    guard.active = None
    guard.shown.pending(sign_offs=2)
    asyncio.run(shows(False))
    guard.store.close()


@pytest.fixture
def _again_in_an_hour(monkeypatch: pytest.MonkeyPatch) -> None:
    """What was refused becomes due where the test says so, and nowhere before by what the test itself takes."""
    monkeypatch.setattr(watching, "again_in_s", lambda _attempts: 3600.0)


@pytest.mark.usefixtures("_again_in_an_hour")
def test_a_notice_that_waits_for_its_next_try_is_pending_too(tmp_path: Path) -> None:
    guard = guard_at(tmp_path, Step.WATCH.value)
    seen = []

    async def refuses(notice: Outbox) -> Delivery:
        return Delivery("HTTP 400", about_this_one=True) if notice.key == "k" and len(seen) < 2 else Delivery()

    async def work() -> None:
        guard.store.record.queue_notices([Notice("k", "go", "GO"), Notice("other", "go", "GO")])
        async with writing(guard):
            for number in range(4):
                await deliver_due(guard, refuses)
                seen.append(_shown(guard, "rollout_outbox_pending"))
                await guard.store.settled()
                if number == 1:
                    _is_due(guard, "k")

    asyncio.run(work())
    assert seen == [2, 1, 1, 0], "both; the one that is tried again later; the same once it is due; none"


async def _tried_in_turn(guard: GuardState, away_for: int, *, about_this_one: bool = False) -> list[str]:
    """The keys in the order of their tries: `a` and `b` are queued, the first `away_for` tries fail; then `c` comes."""
    tried: list[str] = []

    async def deliver(notice: Outbox) -> Delivery:
        tried.append(notice.key)
        return Delivery("HTTP 500", about_this_one) if len(tried) <= away_for else Delivery()

    guard.store.record.queue_notices([Notice(key, "go", key) for key in ("a", "b")])
    async with writing(guard):
        for _ in range(2):
            await deliver_due(guard, deliver)
            await guard.store.settled()
        guard.store.record.queue_notices([Notice("c", "go", "c")])
        for _ in range(2):
            await deliver_due(guard, deliver)
            await guard.store.settled()
    return tried


def test_while_slack_is_away_no_notice_overtakes_an_older_one_and_a_new_one_has_all_tried_again(tmp_path: Path) -> None:
    guard = guard_at(tmp_path, Step.WATCH.value)
    assert asyncio.run(_tried_in_turn(guard, away_for=1)) == ["a", "a", "b", "c"]


@pytest.mark.usefixtures("_again_in_an_hour")
def test_a_notice_that_is_refused_for_what_it_says_holds_up_no_other(tmp_path: Path) -> None:
    guard = guard_at(tmp_path, Step.WATCH.value)
    assert asyncio.run(_tried_in_turn(guard, away_for=1, about_this_one=True)) == ["a", "b", "c"]


@pytest.mark.parametrize("again_in_s", [60.0, 0.0])
def test_however_many_are_refused_the_next_one_is_told_and_each_goes_out_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, again_in_s: float
) -> None:
    monkeypatch.setattr(watching, "again_in_s", lambda _attempts: again_in_s)
    guard = guard_at(tmp_path, Step.WATCH.value)
    refused = [f"refused-{number:02}" for number in range(45)]
    told: list[str] = []

    async def deliver(notice: Outbox) -> Delivery:
        if notice.key in refused and "later" not in told:
            return Delivery("Slack answered HTTP 400", about_this_one=True)
        told.append(notice.key)
        return Delivery()

    async def work() -> None:
        guard.store.record.queue_notices([Notice(key, "go", key) for key in [*refused, "later"]])
        async with writing(guard):
            for _ in range(4):
                await deliver_due(guard, deliver)
                await guard.store.settled()
            assert told[0] == "later"
            for key in refused:
                _is_due(guard, key)
            for _ in range(4):
                await deliver_due(guard, deliver)
                await guard.store.settled()

    asyncio.run(work())
    assert told == ["later", *refused]


def _is_due(guard: GuardState, key: str) -> None:
    with guard.store.record.writing() as session:
        row = session.exec(select(Outbox).where(Outbox.key == key)).one()
        row.next_at = row.created_at
        session.add(row)


def test_a_guard_that_takes_up_a_stage_shows_where_it_stands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    never_close(monkeypatch)
    guard = guard_at(tmp_path, Step.ROLLBACK_FAILED.value, end_wanted="roll_back", decided_criterion="placed")

    async def work() -> None:
        async with writing(guard):
            await resume(guard)

    asyncio.run(work())
    assert _shown(guard, "rollout_stage_state", stage="canary", state="rollback_failed") == 1
