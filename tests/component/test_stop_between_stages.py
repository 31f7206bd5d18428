"""A stop that finds no stage open: who was under way when it was said begins nothing more, and who comes later may."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import httpx
import pytest
from sqlalchemy.exc import OperationalError

from flows import rollout, status
from gates.stages import load_plan
from tasks.ask import Refused as NotDone
from tasks.guard import beginning, stopping
from tasks.guard.requests import HANDLERS, _answer
from tasks.guard.state import GuardState, Refused
from tasks.guard.stopping import NOTHING_RUNS, StoppedByUrl
from tasks.record import Answer, Record
from tests.support.guard_parts import activate, guard_at, never_close, writing


@pytest.fixture(autouse=True)
def _nothing_is_checked_or_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    async def nothing(*_: Any) -> None:
        return None

    monkeypatch.setattr(beginning, "do_preflight", nothing)
    never_close(monkeypatch)


async def _begin(guard: GuardState, name: str, **more: Any) -> dict[str, Any]:
    """As the inbox would hand it over, were it asked for now."""
    wanted = {"rollout": name, "stage": "canary", "plan": str(guard.folder.root / "plan.yaml"), "nonce": name}
    record = guard.store.record
    asked = record.submit("a", "begin", wanted, f"begin-{name}-{record.newest_request()}")
    return await HANDLERS["begin"](guard, {**wanted, "inbox_id": asked, **more})


def _runs(guard: GuardState, name: str) -> list[str]:
    return [run.step for run in guard.store.record.stage_runs(rollout=name)]


@pytest.mark.parametrize("named", [True, False])
def test_the_next_stage_of_a_rollout_that_was_stopped_between_two_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], named: bool
) -> None:
    async def work() -> None:
        guard = guard_at(tmp_path / "home", "promoted")
        async with writing(guard):
            record = guard.store.record
            seen = record.newest_request()  # as its flow did when it began
            assert status.stop(guard.folder, record, "next" if named else None, "ada", "lunch") == 0
            said = " ".join(capsys.readouterr().out.split())
            assert "no stage is open" in said
            assert "begins no further stage" in said
            with pytest.raises(Refused, match="rollout next was stopped by ada: lunch"):
                await _begin(guard, "next", requests_seen=seen)
            assert _runs(guard, "next") == []
            if named:  # another rollout is not meant
                await _begin(guard, "other", requests_seen=seen)
                assert _runs(guard, "other") == ["requested"]

    asyncio.run(work())


def test_a_run_of_the_deployment_that_begins_after_the_stop_goes_on(tmp_path: Path) -> None:
    async def work() -> None:
        guard = guard_at(tmp_path / "home", "promoted")
        async with writing(guard):
            status.stop(guard.folder, guard.store.record, "next", "ada", "lunch")
            await _begin(guard, "next", requests_seen=guard.store.record.newest_request())
            assert _runs(guard, "next") == ["requested"]

    asyncio.run(work())


def test_a_request_that_waited_for_its_guard_while_the_stop_was_said_begins_nothing(tmp_path: Path) -> None:
    """Also where it does not say since when its flow runs: it was asked before the stop."""

    async def work() -> None:
        guard = guard_at(tmp_path / "home", "promoted")
        async with writing(guard):
            asked = guard.store.record.newest_request()
            status.stop(guard.folder, guard.store.record, "next", "ada", "lunch")
            with pytest.raises(Refused, match="was stopped by ada"):
                await _begin(guard, "next", inbox_id=asked)

    asyncio.run(work())


def test_a_stop_that_comes_while_the_stage_is_being_begun_ends_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever said it saw no open stage yet."""

    async def work() -> None:
        guard = guard_at(tmp_path / "home", "promoted")
        record = guard.store.record
        add = record.add_stage_run

        def late(*given: Any) -> Any:
            assert status.stop(guard.folder, record, "next", "ada", "lunch") == 0
            return add(*given)

        monkeypatch.setattr(record, "add_stage_run", late)
        async with writing(guard):
            began = await _begin(guard, "next", requests_seen=record.newest_request())
            await guard.store.settled()
            assert began["step"] == "rolling_back"
            (run,) = record.stage_runs(rollout="next")
            assert (run.step, run.decided_why) == ("rolling_back", "ada: lunch")

    asyncio.run(work())


@pytest.mark.parametrize("seen", ["x", True, -1, 1.5])
def test_what_is_no_number_of_a_request_is_refused_by_name(tmp_path: Path, seen: object) -> None:
    async def work() -> None:
        guard = guard_at(tmp_path / "home", "promoted")
        async with writing(guard):
            with pytest.raises(Refused, match="requests_seen: "):
                await _begin(guard, "next", requests_seen=seen)

    asyncio.run(work())


def test_the_address_stops_what_would_begin_on_its_account(tmp_path: Path) -> None:
    async def work() -> None:
        guard = guard_at(tmp_path / "home", "promoted")
        guard.loop = asyncio.get_running_loop()
        seen = guard.store.record.newest_request()
        port = guard.shown.serve(StoppedByUrl(guard))
        async with writing(guard):
            async with httpx.AsyncClient(timeout=60) as client:
                headers, said = {"Authorization": f"Bearer {'k' * 32}"}, {"who": "ada", "reason": "lunch"}
                answer = await client.post(f"http://127.0.0.1:{port}/stop", headers=headers, json=said)
            assert answer.status_code == 200
            assert answer.json() == {"what": "account a", "step": "nothing_runs", "written": True}
            with pytest.raises(Refused, match="was stopped by ada: lunch"):
                await _begin(guard, "next", requests_seen=seen)
        guard.shown.close()

    asyncio.run(work())


def test_a_stop_at_the_address_while_the_record_is_away_holds_once_it_is_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def work() -> None:
        guard = guard_at(tmp_path / "home", "promoted")
        record = guard.store.record
        seen, submit, tries = record.newest_request(), record.submit_stop_of_what_begins, iter(range(3))

        def away(*given: Any) -> int:
            if next(tries) < 2:
                raise OperationalError("INSERT", {}, Exception("database is locked"))
            return submit(*given)

        monkeypatch.setattr(record, "submit_stop_of_what_begins", away)
        monkeypatch.setattr(stopping, "WRITTEN_WITHIN_S", 0.01)
        async with writing(guard):
            said = await StoppedByUrl(guard)._stop("ada", "lunch")
            assert not said.written
            with pytest.raises(Refused, match="was stopped by ada: lunch"):
                await _begin(guard, "next", requests_seen=seen)

    asyncio.run(work())


def test_the_address_stops_what_follows_a_stage_that_has_just_been_promoted(tmp_path: Path) -> None:
    """The guard puts it away once the record has taken its end, and its flow asks for the next one by then."""

    async def work() -> None:
        guard = guard_at(tmp_path / "home", "promoted")
        activate(guard)
        seen = guard.store.record.newest_request()
        async with writing(guard):
            said = await StoppedByUrl(guard)._stop("ada", "lunch")
            assert (said.step, said.written) == (NOTHING_RUNS, True)
            with pytest.raises(Refused, match="was stopped by ada: lunch"):
                await _begin(guard, "next", requests_seen=seen)
            assert _runs(guard, "next") == []

    asyncio.run(work())


def test_a_stop_of_what_begins_is_answered_as_done_and_ends_nothing_that_began_after_it(tmp_path: Path) -> None:
    async def work() -> None:
        guard = guard_at(tmp_path / "home", "promoted")
        record = guard.store.record
        async with writing(guard):
            await StoppedByUrl(guard)._stop("ada", "lunch")
            await _begin(guard, "next", requests_seen=record.newest_request())
            (row,) = [one for one in record.waiting() if one.kind == "stop"]
            await _answer(guard, row)
            answer = record.answer(row.id or 0)
            assert answer is not None
            assert (answer.done, answer.result) == (True, {"step": NOTHING_RUNS})
            assert _runs(guard, "next") == ["requested"]

    asyncio.run(work())


def test_a_stop_at_the_address_while_a_stage_is_begun_ends_it_also_where_it_is_written_late(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was said before the stage was known here, and the record did not take it just then."""

    async def work() -> None:
        guard = guard_at(tmp_path / "home", "promoted")
        record, loop = guard.store.record, asyncio.get_running_loop()
        add, submit, tries = record.add_stage_run, record.submit_stop_of_what_begins, iter(range(9))
        stops = list[asyncio.Task[Any]]()

        def away(*given: Any) -> int:
            if next(tries) < 2:
                raise OperationalError("INSERT", {}, Exception("database is locked"))
            return submit(*given)

        def late(*given: Any) -> Any:
            asyncio.run_coroutine_threadsafe(_said(), loop).result()
            return add(*given)

        async def _said() -> None:
            stops.append(loop.create_task(StoppedByUrl(guard)._stop("ada", "lunch")))
            await asyncio.sleep(0)  # by then it is told

        monkeypatch.setattr(record, "submit_stop_of_what_begins", away)
        monkeypatch.setattr(record, "add_stage_run", late)
        async with writing(guard):
            began = await _begin(guard, "next", requests_seen=record.newest_request())
            assert began["step"] == "rolling_back"

    asyncio.run(work())


def test_the_flow_says_up_to_where_it_had_seen_the_inbox(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[dict[str, Any]] = []

    def ask(record: Record, account: str, kind: str, payload: dict[str, Any], key: str) -> Answer:
        asked.append(payload)
        return Answer(1, "refused", "enough")

    class Logger:
        def info(self, *_: object) -> None: ...

    guard = guard_at(tmp_path / "home", "promoted")
    monkeypatch.setattr(rollout, "ask_guard", ask)
    monkeypatch.setattr(rollout, "get_run_logger", Logger)
    plan = load_plan(guard.folder.root / "plan.yaml")
    what = rollout.Beginning(guard.store.record, guard.folder, tmp_path, plan, 7)
    with pytest.raises(NotDone, match="enough"):
        rollout.begin.fn(what, "canary", "r", None)
    assert [one["requests_seen"] for one in asked] == [7]
    guard.store.close()
