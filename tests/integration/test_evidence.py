"""The evidence folder, written by its own code from a record: complete, hashed, readable offline, safe to open."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from sqlmodel import SQLModel

from tasks.evidence import gather, write_evidence
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
    written = {path.name for path in out.iterdir()} - {"manifest.json"}
    assert set(manifest["files"]) == written >= {"record.json", "measurements.json", "verdict.json", "data_check.json"}
    for name, sha256 in manifest["files"].items():
        assert hashlib.sha256((out / name).read_bytes()).hexdigest() == sha256
        assert (out / name).stat().st_mode & 0o077 == 0
    assert manifest["record_head"] == writer.head()


def test_a_record_that_was_changed_shows_on_the_page(writer: RecordWriter, tmp_path: Path) -> None:
    number = rolled_back(writer, tmp_path)
    with writer.writing() as session:
        session.connection().exec_driver_sql("UPDATE record SET body = '{}' WHERE seq = 1")
    out = tmp_path / "evidence"
    write_evidence(out, gather(writer, number, "rolled_back", ""))
    assert "was changed after it was written" in (out / "index.html").read_text()
