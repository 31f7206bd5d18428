"""A stop that finds no stage open: who was under way when it was said begins nothing more, and who comes later may."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from uuid import uuid4

import httpx
import pytest
from prefect.client.schemas.objects import FlowRun, State, StateType
from prefect.context import FlowRunContext
from sqlalchemy.exc import OperationalError
from sqlmodel import col, update

from flows import rollout, status
from gates.stages import load_plan
from tasks.ask import GuardSilent
from tasks.ask import Refused as NotDone
from tasks.guard import beginning, stopping
from tasks.guard.requests import HANDLERS, _answer
from tasks.guard.state import Active, GuardState, Refused, RefusedForNow, now_ms
from tasks.guard.stopping import NOTHING_RUNS, StoppedByUrl
from tasks.record import Answer, Record
from tasks.record_stops import CLOCKS_APART_S, Created, clock_here
from tasks.record_tables import Inbox, utc_now
from tasks.record_writer import RecordWriter
from tests.support.guard_parts import activate, guard_at, never_close, writing

HERE = clock_here()


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
            (row,) = [one for one in record.waiting() if isinstance(one, Inbox) and one.kind == "stop"]
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
    what = rollout.Beginning(guard.store.record, guard.folder, tmp_path, plan, 7, Created(1_800_000_000_123, HERE))
    with pytest.raises(NotDone, match="enough"):
        rollout.begin.fn(what, "canary", "r", None)
    assert [(one["requests_seen"], one["run_created_ms"], one["run_created_on"]) for one in asked] == [
        (7, 1_800_000_000_123, HERE)
    ]
    guard.store.close()


# ---- a run that was queued when the stop was said -------------------------------------------------------------------


def _queued(record: RecordWriter, *, ms_after_stop: int, on: str = HERE) -> dict[str, Any]:
    """What a flow run hands over that began just now, and was created so long after the newest stop."""
    (*_, stop) = [one for one in record.waiting() if isinstance(one, Inbox) and one.kind == "stop"]
    stopped_ms = int(stop.created_at.timestamp() * 1000)
    seen = record.newest_request()
    return {"requests_seen": seen, "run_created_ms": stopped_ms + ms_after_stop, "run_created_on": on}


def _say_at_the_account(guard: GuardState, name: str | None) -> None:
    """As `rollout stop` does, but where this account's `waiting` shows it."""
    guard.store.record.submit_stop_of_what_begins(name, "ada", "lunch", guard.account)


def _date_back(record: RecordWriter, by_s: float) -> None:
    """The stop was said so long ago."""
    with record.engine.begin() as connection:
        at = utc_now() - timedelta(seconds=by_s)
        connection.execute(update(Inbox).where(col(Inbox.kind) == "stop").values(created_at=at))


@pytest.mark.parametrize("named", [True, False])
def test_a_run_that_was_queued_when_the_stop_was_said_begins_nothing(tmp_path: Path, named: bool) -> None:
    """It saw the whole inbox, stop and all, when it began."""

    async def work() -> None:
        guard = guard_at(tmp_path / "home", "promoted")
        async with writing(guard):
            _say_at_the_account(guard, "next" if named else None)
            queued = _queued(guard.store.record, ms_after_stop=-1)
            said = r"next was stopped by ada: lunch, at 20\d\d-.*Z, when this run was there.*; start a new run to go on"
            with pytest.raises(Refused, match=said):
                await _begin(guard, "next", **queued)
            assert _runs(guard, "next") == []
            if named:  # another rollout is not meant
                await _begin(guard, "other", **queued)
                assert _runs(guard, "other") == ["requested"]

    asyncio.run(work())


def _damage(record: Record, column: str, value: str) -> None:
    with record.engine.begin() as connection:
        connection.exec_driver_sql(f"UPDATE inbox SET {column} = {value} WHERE kind = 'stop'")  # noqa: S608


@pytest.mark.parametrize(
    ("column", "value"), [("payload", "'{'"), ("created_at", "'yesterday'"), ("state", "x'ff'"), ("account", "account")]
)
def test_a_damaged_stop_of_all_accounts_keeps_from_beginning_what_was_there_and_nothing_else(
    tmp_path: Path, column: str, value: str
) -> None:
    """The guard refuses it by its number; whoever comes after that goes on."""

    async def work() -> None:
        guard = guard_at(tmp_path / "home", "promoted")
        record = guard.store.record
        async with writing(guard):
            seen = record.newest_request()
            number = record.submit_stop_of_what_begins("next", "ada", "lunch")
            _damage(record, column, value)
            who = "somebody" if column == "payload" else "ada"
            with pytest.raises(Refused, match=f"rollout next was stopped by {who}"):
                await _begin(guard, "next", requests_seen=seen)
            if column != "account":
                told = [entry.body for entry in record.entries("a") if entry.kind == "refused"]
                assert f"request {number} is damaged: {column} cannot be read" in told[0]
            said = record.stop_since("next", "a", number - 1, Created(0, HERE))
            assert said is not None
            later = {"run_created_ms": int(said.go_on_after.timestamp() * 1000) + 1, "run_created_on": HERE}
            await _begin(guard, "next", requests_seen=record.newest_request(), **later)
            assert _runs(guard, "next") == ["requested"]

    asyncio.run(work())


@pytest.mark.parametrize(
    "value",
    ["'2026-07'", "'2021-99-99'", "'1970-01-01 00:00:00.000000'", "'9999-12-31 23:59:59.999999'", "7", "x'ff'"],
)
def test_a_stop_whose_time_is_none_or_lacks_a_part_holds_for_what_was_queued_and_not_for_ever(
    tmp_path: Path, value: str
) -> None:
    async def work() -> None:
        guard = guard_at(tmp_path / "home", "promoted")
        record = guard.store.record
        async with writing(guard):
            queued = {"run_created_ms": now_ms(), "run_created_on": HERE}
            number = record.submit_stop_of_what_begins("next", "ada", "lunch")
            _damage(record, "created_at", value)
            seen = record.newest_request()
            with pytest.raises(Refused, match="rollout next was stopped by ada: lunch"):
                await _begin(guard, "next", requests_seen=seen, **queued)
            said = record.stop_since("next", "a", number, Created(0, HERE))
            assert said is not None
            later = {"run_created_ms": int(said.go_on_after.timestamp() * 1000) + 1, "run_created_on": HERE}
            await _begin(guard, "next", requests_seen=record.newest_request(), **later)
            assert _runs(guard, "next") == ["requested"]

    asyncio.run(work())


@pytest.mark.parametrize("said", ["bad \udcff", "bad \0", {"\udcff": 1}])
def test_a_stop_with_words_that_no_database_holds_ends_the_stage_and_not_the_guard(tmp_path: Path, said: Any) -> None:
    """As a shell hands over what is no text: `rollout stop --reason $'\\xff'`."""

    async def work() -> None:
        guard = guard_at(tmp_path / "home", "watch")
        activate(guard)
        record = guard.store.record
        async with writing(guard):
            seen = record.newest_request()
            record.submit_stop_of_what_begins("r", "ada", said)
            await _begin(guard, "r", requests_seen=seen)
            assert await guard.store.written_within(5.0)
            assert record.stage_run(1).step == "rolling_back"
            guard.active = None
            record.change_stage_run(1, "step", step="parked")
            with pytest.raises(Refused) as caught:
                await _begin(guard, "r", requests_seen=seen)
            str(caught.value).encode()  # it goes into the answer

    asyncio.run(work())


@pytest.mark.parametrize(("column", "value"), [("payload", "'{'"), ("created_at", "'yesterday'")])
def test_a_damaged_stop_that_a_begin_comes_upon_first_ends_what_runs_all_the_same(
    tmp_path: Path, column: str, value: str
) -> None:
    async def work() -> None:
        guard = guard_at(tmp_path / "home", "watch")
        activate(guard)
        record = guard.store.record
        async with writing(guard):
            seen = record.newest_request()
            number = record.submit("a", "stop", {"stage_run_id": 1, "who": "ada", "reason": "lunch"}, "k")
            _damage(record, column, value)
            await _begin(guard, "r", requests_seen=seen)
            await guard.store.settled()
            run, answer = record.stage_run(1), record.answer(number)
            assert (run.step, run.end_wanted) == ("rolling_back", "park")
            assert answer is not None
            assert not answer.done

    asyncio.run(work())


def test_a_damaged_stop_is_not_answered_by_a_begin_while_it_is_not_known_what_runs(tmp_path: Path) -> None:
    async def work() -> None:
        guard = guard_at(tmp_path / "home", "watch")
        guard.resuming = True
        record = guard.store.record
        async with writing(guard):
            seen = record.newest_request()
            number = record.submit("a", "stop", {"stage_run_id": 1}, "k")
            _damage(record, "payload", "'{'")
            with pytest.raises(RefusedForNow, match="not known yet"):
                await _begin(guard, "next", requests_seen=seen)
            assert record.answer(number) is None
            assert _runs(guard, "next") == []

    asyncio.run(work())


def test_a_damaged_stop_that_was_said_since_the_flow_runs_ends_the_stage_that_it_finds_open(tmp_path: Path) -> None:
    async def work() -> None:
        guard = guard_at(tmp_path / "home", "watch")
        activate(guard)
        record = guard.store.record
        async with writing(guard):
            seen = record.newest_request()
            number = record.submit_stop_of_what_begins("r", "ada", "lunch")
            _damage(record, "payload", "'{'")
            await _begin(guard, "r", requests_seen=seen)
            await guard.store.settled()
            run = record.stage_run(1)
            assert (run.step, run.end_wanted) == ("rolling_back", "park")
            assert f"somebody: request {number} is damaged" in str(run.decided_why)

    asyncio.run(work())


def test_rollout_stop_holds_for_a_run_that_is_queued_until_now(tmp_path: Path) -> None:
    async def work() -> None:
        guard = guard_at(tmp_path / "home", "promoted")
        record = guard.store.record
        async with writing(guard):
            created_ms = now_ms()
            assert status.stop(guard.folder, record, None, "ada", "lunch") == 0
            queued = {"requests_seen": record.newest_request(), "run_created_on": clock_here()}
            with pytest.raises(Refused, match="was stopped by ada: lunch"):
                await _begin(guard, "next", **queued, run_created_ms=created_ms)
            stopped = record.stop_since("next", "a", 0)
            assert stopped is not None
            await _begin(guard, "next", **queued, run_created_ms=int(stopped.at.timestamp() * 1000) + 1)
            assert _runs(guard, "next") == ["requested"]

    asyncio.run(work())


def test_the_address_holds_for_a_run_that_is_queued_also_where_it_ends_what_runs(tmp_path: Path) -> None:
    async def work() -> None:
        guard = guard_at(tmp_path / "home", "watch")
        active = activate(guard)
        async with writing(guard):
            said = await StoppedByUrl(guard)._stop("ada", "lunch")
            assert (said.what, said.step, said.written) == ("r/canary", "rolling_back", True)
            queued = _queued(guard.store.record, ms_after_stop=-1)
            guard.store.record.change_stage_run(active.id, "step", step="parked")
            guard.active = None
            with pytest.raises(Refused, match="was stopped by ada: lunch"):
                await _begin(guard, "next", **queued)

    asyncio.run(work())


def test_a_run_that_is_created_after_the_stop_begins(tmp_path: Path) -> None:
    async def work() -> None:
        guard = guard_at(tmp_path / "home", "promoted")
        async with writing(guard):
            _say_at_the_account(guard, None)
            await _begin(guard, "next", **_queued(guard.store.record, ms_after_stop=1))
            assert _runs(guard, "next") == ["requested"]

    asyncio.run(work())


@pytest.mark.parametrize("on", ["", "other/id/boot-of-another/1"])
def test_by_two_clocks_a_run_begins_once_it_was_created_after_the_stop_by_either(tmp_path: Path, on: str) -> None:
    """Refused for as long as that is not known, and told when a new one will do."""

    async def work() -> None:
        guard = guard_at(tmp_path / "home", "promoted")
        record = guard.store.record
        async with writing(guard):
            _say_at_the_account(guard, "next")
            _date_back(record, 2.0 * CLOCKS_APART_S)
            apart_ms = CLOCKS_APART_S * 1000
            with pytest.raises(Refused, match=r"start a new run after 20\d\d-.*Z, as clocks may differ, to go on"):
                await _begin(guard, "next", **_queued(record, ms_after_stop=apart_ms, on=on))
            assert _runs(guard, "next") == []
            await _begin(guard, "next", **_queued(record, ms_after_stop=apart_ms + 1, on=on))
            assert _runs(guard, "next") == ["requested"]

    asyncio.run(work())


def test_a_stop_of_the_future_says_from_when_on_a_new_run_begins(tmp_path: Path) -> None:
    """The clock was set back since: until it has caught up every new run counts as older than the stop."""

    async def work() -> None:
        guard = guard_at(tmp_path / "home", "promoted")
        async with writing(guard):
            _say_at_the_account(guard, "next")
            _date_back(guard.store.record, -3600.0)
            queued = {**_queued(guard.store.record, ms_after_stop=0), "run_created_ms": now_ms()}
            with pytest.raises(Refused, match=r"start a new run after 20\d\d-.*Z, as the clock was set back, to go on"):
                await _begin(guard, "next", **queued)

    asyncio.run(work())


def test_a_run_that_was_created_in_the_future_is_told_to_set_the_clocks(tmp_path: Path) -> None:
    async def work() -> None:
        guard = guard_at(tmp_path / "home", "promoted")
        async with writing(guard):
            later_ms = now_ms() + 2 * CLOCKS_APART_S * 1000
            with pytest.raises(Refused, match=r"run_created_ms: .* s from now; set the clocks .* start a new run"):
                await _begin(guard, "next", run_created_ms=later_ms, run_created_on=HERE)

    asyncio.run(work())


@pytest.mark.parametrize("created", [None, "x", True, -1, 1.5])
def test_what_is_no_time_of_creation_is_refused_by_name(tmp_path: Path, created: object) -> None:
    async def work() -> None:
        guard = guard_at(tmp_path / "home", "promoted")
        async with writing(guard):
            with pytest.raises(Refused, match="run_created_ms: "):
                await _begin(guard, "next", run_created_ms=created)

    asyncio.run(work())


@pytest.mark.parametrize(
    ("server", "machine"),
    [("http://127.0.0.1:4200/api", HERE), ("http://prefect.example:4200/api", ""), ("", "")],
)
def test_the_flow_says_when_it_was_created_and_by_which_clock(
    monkeypatch: pytest.MonkeyPatch, server: str, machine: str
) -> None:
    monkeypatch.setenv("PREFECT_API_URL", server)
    at = datetime(2026, 5, 1, 12, 0, 0, 999_900, UTC)
    run = FlowRun.model_validate({"flow_id": uuid4(), "created": at})
    monkeypatch.setattr(FlowRunContext, "get", lambda: SimpleNamespace(flow_run=run))
    assert rollout.run_created() == Created(int(at.timestamp()) * 1000 + 999, machine)


def test_a_run_of_which_the_server_tells_no_creation_is_older_than_every_stop(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(FlowRunContext, "get", lambda: SimpleNamespace(flow_run=FlowRun(flow_id=uuid4())))
    assert rollout.run_created().at_ms == 0


def test_a_stage_that_begins_while_the_record_goes_away_is_checked_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Asked again it is the stage that is open already, which nobody would check."""

    async def work() -> None:
        guard = guard_at(tmp_path / "home", "promoted")
        checked = []

        async def check(guard: GuardState, active: Active) -> None:
            checked.append(active.row.rollout)

        monkeypatch.setattr(beginning, "do_preflight", check)
        asked, stop_since = [], guard.store.record.stop_since

        def goes_away(*given: Any) -> Any:
            asked.append(given)
            if len(asked) == 2:
                raise OperationalError("SELECT", None, Exception("database is locked"))
            return stop_since(*given)

        monkeypatch.setattr(guard.store.record, "stop_since", goes_away)
        async with writing(guard):
            with pytest.raises(OperationalError):
                await _begin(guard, "next")
            await asyncio.sleep(0)
            assert (await _begin(guard, "next"))["step"] == "requested"
            assert checked == ["next"]

    asyncio.run(work())


@pytest.mark.parametrize(("error", "again"), [(NotDone("stopped"), False), (GuardSilent("not yet"), True)])
def test_a_refused_begin_is_not_tried_again(error: Exception, again: bool) -> None:
    """It might find the stage that a newer run has begun, and follow that."""
    assert rollout.begin.retry_condition_fn is rollout.is_no_refusal
    assert rollout.is_no_refusal(None, None, State(type=StateType.FAILED, data=error)) is again
