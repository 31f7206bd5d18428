"""The record on either database: its inbox, its epochs, and its chain in the same transaction as what it tells of."""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import event, text
from sqlalchemy.exc import IntegrityError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlmodel import Session, SQLModel

from tasks import record_damage
from tasks.flattenings import FLATTENINGS, KEPT_MAX
from tasks.record import Record, RecordError, StopDamaged
from tasks.record_audit import record_fault
from tasks.record_damage import DamagedRow
from tasks.record_engine import open_engine
from tasks.record_stops import CLOCKS_APART_S, Created, clock_here
from tasks.record_tables import Inbox, MeasurementLatest, RollbackStep, Rollout, SignOff, StageRun
from tasks.record_writer import EpochLost, RecordWriter


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An empty record with every table; that the migration makes the same ones is tested with real processes."""
    if request.param == "postgresql":
        emptied: str = request.getfixturevalue("postgres_server").emptied()
        return emptied
    made = f"sqlite:///{tmp_path}/rollout.db"
    engine = open_engine(made)
    SQLModel.metadata.create_all(engine)
    engine.dispose()
    return made


@pytest.fixture
def writer(url: str) -> Iterator[RecordWriter]:
    made = RecordWriter(Record(open_engine(url)), "a")
    made.know_account("simulated")
    yield made
    made.close()


def rollout(name: str = "r", candidate: str = "c" * 64) -> Rollout:
    return Rollout(
        name=name,
        account="a",
        plan_name="p",
        plan_path="/p",
        plan_digest="d",
        code_version="v",
        settings_digest="s",
        nonce="n",
        candidate=candidate,
        author="x",
        requested_by="y",
    )


def stage_run(writer: RecordWriter, step: str = "watch", name: str = "r") -> StageRun:
    writer.add_rollout(rollout(name))
    row = StageRun(rollout=name, account="a", stage="canary", attempt=1, step=step, candidate="c" * 64, plan_path="/p")
    return writer.add_stage_run(row)


def test_a_request_is_answered_once_and_found_by_its_key(writer: RecordWriter) -> None:
    number = writer.submit("a", "stop", {"who": "me"}, "key-1")
    assert writer.submit("a", "stop", {"who": "me"}, "key-1") == number
    assert writer.answer(number) is None
    assert [row.id for row in writer.waiting()] == [number]
    writer.reply(number, done=False, reason="no")
    writer.reply(number, done=True, result={"late": True})
    answer = writer.answer(number)
    assert answer is not None
    assert (answer.state, answer.reason, answer.result) == ("refused", "no", {})
    assert not writer.waiting()


def test_a_stop_is_meant_for_who_was_under_way_and_for_a_flow_run_that_was_created_before_it(
    writer: RecordWriter,
) -> None:
    number = writer.submit_stop_of_what_begins("r", "ada", "lunch")
    said = writer.stop_since("r", "a", number - 1)
    assert said is not None
    assert (said.who, said.why, said.go_on_after) == ("ada", "lunch", said.at)
    assert writer.stop_since("r", "a", number) is None
    stopped_ms, here = int(said.at.timestamp() * 1000), clock_here()
    assert writer.stop_since("r", "a", number, Created(stopped_ms, here)) == said
    assert writer.stop_since("r", "a", number, Created(0, here)) == said
    assert writer.stop_since("r", "a", number, Created(stopped_ms + 1, here)) is None
    assert writer.stop_since("another", "a", number, Created(stopped_ms, here)) is None
    by_two_clocks = writer.stop_since("r", "a", number, Created(stopped_ms + CLOCKS_APART_S * 1000))
    assert by_two_clocks is not None
    assert by_two_clocks.go_on_after - by_two_clocks.at == timedelta(seconds=CLOCKS_APART_S)
    assert writer.stop_since("r", "a", number, Created(stopped_ms + CLOCKS_APART_S * 1000 + 1)) is None


def _without_a_time(writer: RecordWriter, number: int, *, below: bool = False) -> None:
    """As somebody who edits the database by hand can: on either it is no time that Python knows of, and comes behind
    every time or, `below`, before it."""
    no_time = (
        ("-" * below + "infinity") if writer.engine.dialect.name == "postgresql" else "7" if below else "yesterday"
    )
    with writer.engine.begin() as connection:
        connection.exec_driver_sql(f"UPDATE inbox SET created_at = '{no_time}' WHERE id = {number}")  # noqa: S608


def test_a_request_without_a_time_is_told_apart_and_refused_and_the_others_are_served(writer: RecordWriter) -> None:
    damaged, other = (writer.submit("a", "judge", {"stage_run_id": 1}, key) for key in ("one", "other"))
    writer.submit("b", "judge", {}, f"damaged-{damaged}")
    _without_a_time(writer, damaged)
    found = writer.waiting()
    assert found[0] == DamagedRow(damaged, ("created_at",))
    assert [one.id for one in found] == [damaged, other]
    assert isinstance(found[0], DamagedRow)
    writer.refuse_damaged(found[0], {"kind": "damaged", "why": str(found[0])})
    assert [one.id for one in writer.waiting()] == [other]
    answer = writer.answer(damaged)
    assert answer is not None
    assert answer.reason == f"request {damaged} is damaged: created_at cannot be read"
    assert writer.verify_chain("a").ok


@pytest.mark.parametrize("below", [False, True])
def test_a_stop_that_cannot_be_read_is_told_by_number_and_refused_holds_for_what_was_there_and_no_longer(
    writer: RecordWriter, below: bool
) -> None:
    """Who began after it was refused goes on: no row stops rollouts for ever."""
    number = writer.submit_stop_of_what_begins("r", "ada", "lunch")
    _without_a_time(writer, number, below=below)
    queued = Created(int(datetime.now(UTC).timestamp() * 1000), clock_here())
    assert writer.stop_since("r", "a", number) is None, "a run that began after it, as the numbers tell"
    with pytest.raises(StopDamaged, match=f"request {number} is damaged: created_at cannot be read; it is") as it:
        writer.stop_since("r", "a", number, queued)
    assert isinstance(it.value, RecordError)
    (row,) = it.value.rows
    writer.refuse_damaged(row, {"kind": "damaged", "why": str(row)})
    writer.refuse_damaged(row, {"kind": "damaged", "why": str(row)})
    assert [entry.kind for entry in writer.entries("a")].count("refused") == 1
    said = writer.stop_since("r", "a", number, queued)
    assert said is not None
    assert (said.who, said.why) == ("ada", "lunch"), "its words can be read, and are kept"
    assert writer.stop_since("another", "a", number, queued) is None
    later = Created(int(said.go_on_after.timestamp() * 1000) + 1, clock_here())
    assert writer.stop_since("r", "a", number, later) is None
    assert writer.verify_chain("a").ok


def test_a_request_in_a_state_that_there_is_not_is_damaged_and_refused_once(writer: RecordWriter) -> None:
    numbers = [writer.submit("a", "judge", {}, state) for state in ("", "e", "waitin", "waiting ", "Done", "~")]
    answered = [writer.submit("a", "judge", {}, state) for state in ("done", "refused")]
    with writer.engine.begin() as connection:
        connection.exec_driver_sql("UPDATE inbox SET state = idempotency_key")
    found = writer.waiting()
    assert found == [DamagedRow(number, ("state",)) for number in numbers]
    for row in found:
        assert isinstance(row, DamagedRow)
        writer.refuse_damaged(row)
    assert writer.waiting() == []
    assert [getattr(writer.answer(number), "state", None) for number in answered] == ["done", "refused"]


def test_who_waits_for_a_request_that_was_damaged_waits_for_its_refusal(writer: RecordWriter) -> None:
    """Not for an error that nobody expects; one that was answered says in a line that it cannot be read."""
    number = writer.submit("a", "judge", {}, "one")
    _without_a_time(writer, number)
    assert writer.answer(number) is None
    (row,) = writer.waiting()
    assert isinstance(row, DamagedRow)
    writer.refuse_damaged(row)
    answer = writer.answer(number)
    assert answer is not None
    assert (answer.done, answer.reason) == (False, f"request {number} is damaged: created_at cannot be read")
    _without_a_time(writer, number)
    with pytest.raises(RecordError, match=f"^request {number} is damaged: created_at cannot be read$"):
        writer.answer(number)


def test_a_stop_that_can_be_read_holds_beside_one_that_cannot(writer: RecordWriter) -> None:
    damaged, sound = (writer.submit_stop_of_what_begins("r", who, "lunch") for who in ("bob", "ada"))
    _without_a_time(writer, damaged)
    said = writer.stop_since("r", "a", damaged - 1)
    assert said is not None
    assert said.who == "ada"
    with pytest.raises(StopDamaged):
        writer.stop_since("another", "a", damaged - 1)
    assert writer.stop_since("another", "a", sound) is None


def test_a_stop_that_was_answered_and_cannot_be_read_any_more_is_put_right_and_keeps_its_answer(
    writer: RecordWriter,
) -> None:
    number = writer.submit("a", "stop", {"rollout": "", "who": "ada"}, "k")
    writer.reply(number, done=True)
    _without_a_time(writer, number)
    with pytest.raises(StopDamaged) as caught:
        writer.stop_since("r", "a", number - 1)
    writer.refuse_damaged(caught.value.rows[0])
    said, answer = writer.stop_since("r", "a", number - 1), writer.answer(number)
    assert said is not None
    assert answer is not None
    assert (said.who, answer.state) == ("ada", "done")


@pytest.mark.parametrize("error", [PoolTimeout("QueuePool limit"), MemoryError(), OSError(24, "too many open files")])
def test_what_cannot_be_read_just_now_is_no_damage(
    writer: RecordWriter, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    """A stop that is sound is not refused, nor its words dropped, because a machine is short of something."""
    number = writer.submit_stop_of_what_begins(None, "ada", "lunch", "a")

    def fails(*_: object, **__: object) -> None:
        raise error

    with monkeypatch.context() as patched:
        patched.setattr(Session, "exec", fails)
        for read in (writer.waiting, lambda: writer.stop_since("r", "a", number - 1)):
            with pytest.raises(type(error)):
                read()
    assert [type(one) for one in writer.waiting()] == [Inbox]


def test_a_request_of_which_each_column_can_be_read_is_no_damage(
    writer: RecordWriter, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was put right in between, or something else went wrong: it is served, and no stop is overlooked."""
    number = writer.submit_stop_of_what_begins(None, "ada", "lunch", "a")
    (whole,) = writer.waiting()

    def fails(*_: object, **__: object) -> None:
        raise ValueError("no JSON")

    with monkeypatch.context() as patched:
        patched.setattr(Session, "get", fails)
        patched.setattr(record_damage, "_odd", lambda _: ("payload",))
        (again,) = writer.waiting()
        assert isinstance(again, Inbox)
        assert isinstance(whole, Inbox)
        assert again.model_dump() == whole.model_dump()
        assert writer.stop_since("r", "a", number - 1) is not None


def test_a_request_that_the_disk_does_not_take_shows_no_code_in_its_error(tmp_path: Path) -> None:
    """Prefect puts the error of a form's run into its log and on its page, and the code may still be good."""
    engine = open_engine(f"sqlite:///{tmp_path}/rollout.db")
    SQLModel.metadata.create_all(engine)
    engine.dispose()
    event.listen(engine, "connect", lambda connection, _: connection.execute("PRAGMA max_page_count = 1"))
    record = Record(engine)

    def submit_many() -> None:
        for number in range(100):
            record.submit("a", "sign_off", {"code": "654321", "comment": "x" * 4000}, f"key-{number}")

    with pytest.raises(OperationalError) as error:
        submit_many()
    engine.dispose()
    assert "full" in str(error.value)
    assert "654321" not in str(error.value)
    assert open_engine("postgresql://somebody@localhost/nothing").hide_parameters


def test_a_key_cannot_serve_two_kinds_of_request(writer: RecordWriter) -> None:
    writer.submit("a", "stop", {}, "key")
    with pytest.raises(RecordError, match="already used"):
        writer.submit("a", "judge", {}, "key")


def test_an_unknown_kind_is_refused_by_name(writer: RecordWriter) -> None:
    with pytest.raises(RecordError, match=r"'sell'.*begin, launch"):
        writer.submit("a", "sell", {}, "key")


def test_two_who_want_the_same_epoch_get_it_once(url: str) -> None:
    RecordWriter(Record(open_engine(url)), "a").know_account("simulated")

    def take(holder: int) -> bool:
        own = RecordWriter(Record(open_engine(url)), "a")
        try:
            return own.take_epoch(0, str(holder), "test") == 1
        except EpochLost:
            return False
        finally:
            own.close()

    with ThreadPoolExecutor(4) as pool:
        assert sorted(pool.map(take, range(4))) == [False, False, False, True]


def test_a_lost_epoch_names_both(writer: RecordWriter) -> None:
    writer.take_epoch(0, "me", "test")
    with pytest.raises(EpochLost, match="epoch is 1, expected 0"):
        writer.take_epoch(0, "other", "test")


def test_what_happened_is_in_the_chain_and_a_change_of_it_shows(writer: RecordWriter) -> None:
    run = stage_run(writer)
    writer.change_stage_run(run.id or 0, "step", step="watched")
    before = writer.verify_chain("a")
    assert before.ok
    assert [entry.kind for entry in writer.entries("a")] == ["account", "rollout", "stage_run", "step"]
    with writer.writing() as session:
        forged = "UPDATE record SET body = replace(body, 'watched', 'promoted') WHERE seq = 4"
        session.connection().execute(text(forged))
    report = writer.verify_chain("a")
    assert (report.ok, report.broken_at_seq) == (False, 4)


def test_two_writers_cannot_follow_the_same_link(writer: RecordWriter) -> None:
    with writer.writing() as session:
        insert = text(
            "INSERT INTO record (account, seq, prev_hash, hash, at, kind, body) "
            "SELECT account, 99, prev_hash, 'x', at, kind, body FROM record WHERE seq = 1"
        )
        with pytest.raises(IntegrityError, match=r"(?i)unique constraint.*prev_hash"):
            session.connection().execute(insert)


def test_a_link_that_is_taken_out_or_put_in_shows(writer: RecordWriter) -> None:
    for number in range(3):
        writer.append("note", {"number": number})
    with writer.writing() as session:
        session.connection().execute(text("DELETE FROM record WHERE seq = 3"))
    removed = writer.verify_chain("a")
    assert (removed.ok, removed.broken_at_seq, removed.reason) == (False, 3, "link 3 is missing, found 4")
    with writer.writing() as session:
        session.connection().execute(text("DELETE FROM record WHERE seq = 4"))
    assert writer.verify_chain("a").ok, "cut off at its end: that shows by the head that went out"
    forged = (
        "INSERT INTO record (account, seq, prev_hash, hash, at, kind, body) "
        "SELECT account, 3, hash, 'made up', at, kind, body FROM record WHERE seq = 2"
    )
    with writer.writing() as session:
        session.connection().execute(text(forged))
    inserted = writer.verify_chain("a")
    assert (inserted.ok, inserted.broken_at_seq) == (False, 3)


def test_one_code_signs_once_however_many_ask_at_once(url: str, writer: RecordWriter) -> None:
    run = stage_run(writer)

    def sign(number: int) -> bool:
        own = RecordWriter(Record(open_engine(url)), f"b{number}")  # of accounts that do not wait for one another
        words = {"gate": "exit", "person": "ada", "decision": "GO", "accepted": True, "evidence_digest": "e"}
        try:
            return own.sign(SignOff(stage_run_id=run.id or 0, **words), time_step=7)
        finally:
            own.close()

    with ThreadPoolExecutor(4) as pool:
        assert sorted(pool.map(sign, range(4))) == [False, False, False, True]
    assert len(writer.sign_offs(run.id or 0)) == 1


def test_two_transactions_of_one_account_come_one_after_another(url: str, writer: RecordWriter) -> None:
    """What the first has read still holds when it writes, so both links find their place."""
    other = RecordWriter(Record(open_engine(url)), "a")
    with ThreadPoolExecutor(1) as pool:
        with writer.writing() as session:
            writer._append(session, "note", {"by": "first"})
            late = pool.submit(other.append, "note", {"by": "second"})
            with pytest.raises(TimeoutError):
                late.result(timeout=0.3)
        late.result(timeout=10)
    assert [json.loads(one.body).get("by") for one in writer.entries("a")] == [None, "first", "second"]
    assert writer.verify_chain("a").ok
    other.close()


def test_a_text_that_not_every_database_holds_stops_nothing(writer: RecordWriter) -> None:
    run = stage_run(writer)
    writer.submit("a", "stop", {"reason": "a\0b"}, "nul")
    (asked,) = writer.waiting()
    assert isinstance(asked, Inbox)
    assert asked.payload["reason"] == "a\0b"
    writer.change_stage_run(run.id or 0, "step", decided_why="a\0b")
    assert writer.put_notice("k", "stop", "a\0b")
    assert writer.stage_run(run.id or 0).decided_why in ("a\0b", "a\N{REPLACEMENT CHARACTER}b")
    assert writer.verify_chain("a").ok


def test_one_account_has_one_unfinished_stage_run(writer: RecordWriter) -> None:
    run = stage_run(writer)
    with pytest.raises(RecordError, match="account a is taken by r/canary"):
        stage_run(writer, name="r2")
    writer.change_stage_run(run.id or 0, "step", step="parked")
    assert stage_run(writer, name="r2").id != run.id


def test_a_rollout_does_not_change_its_candidate(writer: RecordWriter) -> None:
    writer.add_rollout(rollout())
    writer.add_rollout(rollout())
    with pytest.raises(RecordError, match="a changed candidate needs a new rollout"):
        writer.add_rollout(rollout(candidate="e" * 64))


def test_open_and_newest_unfinished_find_only_what_is_not_final(writer: RecordWriter) -> None:
    run = stage_run(writer)
    for found in (writer.open_stage_run("r", "canary"), writer.newest_unfinished("canary", "p")):
        assert found is not None
        assert found.id == run.id
    assert writer.newest_unfinished("canary", "another-plan") is None
    writer.change_stage_run(run.id or 0, "step", step="promoted")
    assert writer.open_stage_run("r", "canary") is None
    assert writer.newest_unfinished("canary", "p") is None


def test_times_come_back_in_utc_and_a_naive_one_is_refused(writer: RecordWriter) -> None:
    run = stage_run(writer)
    at = datetime(2026, 1, 2, 3, 4, 5, 678000, UTC)
    writer.change_stage_run(run.id or 0, "proven", breach_at=at)
    assert writer.stage_run(run.id or 0).breach_at == at
    assert writer.timeline(run.id or 0)["breach"] == "2026-01-02T03:04:05.678Z"
    with pytest.raises(Exception, match="has no zone"):
        writer.change_stage_run(run.id or 0, "proven", breach_at=datetime(2026, 1, 2))  # noqa: DTZ001 - the point of it


def test_a_code_serves_once(writer: RecordWriter) -> None:
    assert [writer.use_code("ada", 7), writer.use_code("ada", 7), writer.use_code("bob", 7)] == [True, False, True]


def test_a_notice_is_queued_once_and_kept_until_it_is_delivered(writer: RecordWriter) -> None:
    assert [writer.put_notice("k", "go", "GO"), writer.put_notice("k", "go", "GO")] == [True, False]
    (due,) = writer.due_notices()
    writer.notice_tried(due.id or 0, "Slack is away", again_in_s=60)
    assert not writer.due_notices()
    (kept,) = writer.notices("a")
    assert (kept.attempts, kept.error, kept.delivered_at) == (1, "Slack is away", None)


def test_a_step_of_a_rollback_is_one_row_however_often_it_is_written(writer: RecordWriter) -> None:
    run = stage_run(writer)
    for state in ("started", "failing", "verified"):
        row = RollbackStep(stage_run_id=run.id or 0, number=2, name="cancel_all", state=state, proof={"s": state})
        writer.write_rollback_step(row)
    (found,) = writer.rollback_steps(run.id or 0)
    assert (found.state, found.proof) == ("verified", {"s": "verified"})
    told = [entry for entry in writer.entries("a") if entry.kind == "rollback_step"]
    assert len(told) == 3


def test_what_an_earlier_guard_flattened_is_kept_in_the_proof_of_the_next(writer: RecordWriter) -> None:
    run = stage_run(writer)

    def write(state: str, **proof: Any) -> None:
        writer.write_rollback_step(
            RollbackStep(stage_run_id=run.id or 0, number=3, name="flatten", state=state, proof=proof)
        )

    first: dict[str, Any] = {"began_at": "2026-01-01T00:00:00.000Z", "held": {"BTCUSDT": "0.15"}}
    second = {"began_at": "2026-01-01T00:01:00.000Z", "held": {"BTCUSDT": "0.05"}, "orders": []}
    write("started")
    write("started", flattenings=[first])
    write("started")  # the guard died, and the next begins the step anew
    first = first | {"orders": [{"symbol": "BTCUSDT", "id": "slwf-0-1", "taken": True}]}  # as a last word of the first
    write("failing", flattenings=[first])
    write("started")
    write("verified", positions={"BTCUSDT": "0"}, flattenings=[second])
    (found,) = writer.rollback_steps(run.id or 0)
    assert found.proof == {"positions": {"BTCUSDT": "0"}, "flattenings": [first, second]}
    told = [json.loads(entry.body) for entry in writer.entries("a") if entry.kind == "rollback_step"]
    assert told[-1]["proof"] == found.proof
    assert record_fault(writer, "a") == ""


@pytest.mark.parametrize("edited", ['{"flattenings": 1}', '{"flattenings": [1, {"held": {}}, {"began_at": []}]}'])
def test_an_edited_proof_keeps_no_step_out_of_the_record(writer: RecordWriter, edited: str) -> None:
    run, told = stage_run(writer), {"began_at": "1", "held": {}}
    row = RollbackStep(stage_run_id=run.id or 0, number=3, name="flatten", state="failing")
    writer.write_rollback_step(row)
    with writer.writing() as session:
        session.execute(text("UPDATE rollback_step SET proof = :edited"), {"edited": edited})
    row.proof = {FLATTENINGS: [told]}
    writer.write_rollback_step(row)
    (found,) = writer.rollback_steps(run.id or 0)
    assert found.proof == {FLATTENINGS: [told]}


def test_of_many_flattenings_the_newest_are_kept(writer: RecordWriter) -> None:
    run = stage_run(writer)
    row = RollbackStep(stage_run_id=run.id or 0, number=3, name="flatten", state="failing")
    for number in range(KEPT_MAX + 3):
        row.proof = {FLATTENINGS: [{"began_at": f"{number}", "held": {}}]}
        writer.write_rollback_step(row)
    (found,) = writer.rollback_steps(run.id or 0)
    assert [one["began_at"] for one in found.proof[FLATTENINGS]] == [f"{3 + number}" for number in range(KEPT_MAX)]


def test_the_newest_measurement_replaces_the_one_before(writer: RecordWriter) -> None:
    run = stage_run(writer)
    for at_ms, outcome in ((1, "PASS"), (2, "FAIL")):
        one = MeasurementLatest(stage_run_id=run.id or 0, criterion_id="x", phase="guard", at_ms=at_ms, outcome=outcome)
        writer.store_measurements([], [one])
    assert [row.outcome for row in writer.measurements_latest(run.id or 0)] == ["FAIL"]


def test_sign_offs_are_read_by_gate_and_acceptance(writer: RecordWriter) -> None:
    run = stage_run(writer)
    for gate, accepted in (("entry", True), ("exit", False)):
        row = SignOff(
            stage_run_id=run.id or 0,
            gate=gate,
            person="ada",
            decision="GO",
            accepted=accepted,
            evidence_digest="e",
            counts_as_wrong_code=not accepted,
        )
        writer.add_sign_off(row)
    assert [one.gate for one in writer.sign_offs(run.id or 0, accepted=True)] == ["entry"]
    assert len(writer.wrong_codes("ada", 900)) == 1


def test_a_reader_does_not_wait_for_a_writer(url: str, writer: RecordWriter) -> None:
    reader = Record(open_engine(url))
    with writer.writing() as session:
        session.add(Inbox(account="a", kind="stop", idempotency_key="open"))
        session.flush()
        assert reader.entries("a")
    reader.close()
