"""The evidence folder, written by its own code from a record: complete, hashed, readable offline, safe to open."""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import json
import sqlite3
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from sqlmodel import SQLModel

from bot.stores.sqlite import SCHEMA
from tasks.evidence import gather, write_evidence
from tasks.post_mortem import LOG_BYTES_MAX
from tasks.record import Record
from tasks.record_engine import open_engine
from tasks.record_tables import MeasurementLatest, RollbackStep, Rollout, SignOff, StageRun, utc_now
from tasks.record_writer import RecordWriter

pytestmark = pytest.mark.integration

NOWHERE = "http://127.0.0.1:9"


@pytest.fixture
def writer(tmp_path: Path) -> Iterator[RecordWriter]:
    engine = open_engine(f"sqlite:///{tmp_path}/rollout.db")
    SQLModel.metadata.create_all(engine)
    made = RecordWriter(Record(engine), "a")
    yield made
    made.close()


def rolled_back(writer: RecordWriter, tmp_path: Path) -> int:
    """A stage run that a crossing order ended, with a comment that tries to be more than a comment."""
    writer.add_rollout(
        Rollout(
            name="r",
            account="a",
            plan_name="p",
            plan_path="/p",
            plan_digest="d",
            code_version="v",
            settings_digest="s",
            nonce="n",
            candidate="c" * 64,
            author="x",
            requested_by="y",
        )
    )
    now = utc_now()
    run = writer.add_stage_run(
        StageRun(
            rollout="r",
            account="a",
            stage="canary",
            attempt=1,
            step="rolling_back",
            candidate="c" * 64,
            plan_path="/p",
            reason="candidate",
            decided_criterion="crossing_orders",
            decided_value="1",
            decided_limit="go == 0",
            decided_why="1 count; go == 0",
            decided_others=["taker_fills"],
            state_dir=str(tmp_path / "run"),
            launched_at=now - timedelta(seconds=60),
            breach_at=now - timedelta(seconds=10),
            flat_at=now - timedelta(seconds=8.5),
        )
    )
    number = run.id or 0
    for outcome, criterion in (("FAIL", "crossing_orders"), ("UNKNOWN", "pnl_guard"), ("PASS", "process_up")):
        one = MeasurementLatest(
            stage_run_id=number, criterion_id=criterion, phase="guard", at_ms=1, outcome=outcome, limit="go == 0"
        )
        writer.store_measurements([], [one])
    proof = {"reads": [{"own_open": 0}, {"own_open": 0}]}
    writer.write_rollback_step(
        RollbackStep(stage_run_id=number, number=2, name="cancel_all", state="verified", proof=proof)
    )
    comment = "<script>alert(1)</script>"
    writer.add_sign_off(
        SignOff(
            stage_run_id=number,
            gate="entry",
            person="ada",
            decision="GO",
            accepted=True,
            evidence_digest="e",
            comment=comment,
        )
    )
    return number


def test_without_prometheus_the_page_says_so_and_still_tells_what_decided(writer: RecordWriter, tmp_path: Path) -> None:
    number = rolled_back(writer, tmp_path)
    out = tmp_path / "evidence"
    digest = write_evidence(out, gather(writer, number, "rolled_back", NOWHERE))
    page = (out / "index.html").read_text()
    for words in ("ROLLED BACK", "Observation was lost", "crossing_orders", "go == 0", "Also broken: taker_fills"):
        assert words in page
    assert "+1.50 s" in page, "flat, counted from the breach"
    for outcome in ("FAIL", "UNKNOWN", "PASS"):
        assert f'class="word {outcome}">{outcome}' in page
    assert digest == hashlib.sha256((out / "manifest.json").read_bytes()).hexdigest()


def test_the_page_loads_nothing_and_runs_nothing(writer: RecordWriter, tmp_path: Path) -> None:
    number = rolled_back(writer, tmp_path)
    out = tmp_path / "evidence"
    write_evidence(out, gather(writer, number, "rolled_back", ""))
    page = (out / "index.html").read_text()
    assert "<script" not in page
    assert "&lt;script&gt;" in page
    for loader in ('src="http', "href=", "@import", "url("):
        assert loader not in page


def test_the_manifest_names_every_file_and_nothing_is_readable_by_others(writer: RecordWriter, tmp_path: Path) -> None:
    number = rolled_back(writer, tmp_path)
    out = tmp_path / "evidence"
    write_evidence(out, gather(writer, number, "rolled_back", NOWHERE))
    manifest = json.loads((out / "manifest.json").read_text())
    written = {path.relative_to(out).as_posix() for path in out.rglob("*") if path.is_file()} - {"manifest.json"}
    assert set(manifest["files"]) == written >= {"record.json", "measurements.json", "verdict.json", "data_check.json"}
    for name, sha256 in manifest["files"].items():
        assert hashlib.sha256((out / name).read_bytes()).hexdigest() == sha256
        assert (out / name).stat().st_mode & 0o077 == 0
    assert manifest["record_head"] == writer.head()


def test_what_went_wrong_leaves_journal_and_logs_and_says_what_could_not_be_had(
    writer: RecordWriter, tmp_path: Path
) -> None:
    number = rolled_back(writer, tmp_path)
    out, run, logs = tmp_path / "evidence", tmp_path / "run", tmp_path / "logs"
    for folder in (run, logs):
        folder.mkdir()
    with contextlib.closing(sqlite3.connect(run / "journal.db")) as journal:
        journal.executescript(SCHEMA)
        journal.execute("PRAGMA journal_mode=WAL")
        journal.execute("CREATE TABLE kept_in_wal (one INTEGER)")
        journal.commit()
        (run / "bot.log").write_text("bot's last words\n")
        (logs / "guard-a.log").write_text("x" * (LOG_BYTES_MAX + 10) + "end")
        write_evidence(out, gather(writer, number, "rolled_back", NOWHERE), logs, NOWHERE)
    found = {path.name: path for path in (out / "post-mortem").iterdir()}
    assert set(found) == {"journal.db.gz", "bot.log.gz", "guard-a.log.gz", "left-out.txt"}
    assert gzip.decompress(found["bot.log.gz"].read_bytes()) == b"bot's last words\n"
    guard = gzip.decompress(found["guard-a.log.gz"].read_bytes())
    assert (len(guard), guard[-3:]) == (LOG_BYTES_MAX, b"end"), "of a long log the end"
    (tmp_path / "copy.db").write_bytes(gzip.decompress(found["journal.db.gz"].read_bytes()))
    with contextlib.closing(sqlite3.connect(tmp_path / "copy.db")) as copy:
        assert copy.execute("SELECT count(*) FROM kept_in_wal").fetchone() == (0,)
    left_out = found["left-out.txt"].read_text()
    assert [line.partition(":")[0] for line in left_out.splitlines()] == ["stdout.log", "stderr.log", "metrics.json"]
    page = (out / "index.html").read_text()
    assert "journal.db.gz" in page
    assert "Left out: stdout.log: FileNotFoundError" in page


def test_a_record_that_was_changed_shows_on_the_page(writer: RecordWriter, tmp_path: Path) -> None:
    number = rolled_back(writer, tmp_path)
    with writer.writing() as session:
        session.connection().exec_driver_sql("UPDATE record SET body = '{}' WHERE seq = 1")
    out = tmp_path / "evidence"
    write_evidence(out, gather(writer, number, "rolled_back", ""))
    assert "was changed after it was written" in (out / "index.html").read_text()
