"""Evidence is judged again from the samples in it: all the same, or the difference is named, or it is refused."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gates.__main__ import main
from gates.evidence_folder import MANIFEST, sha256_of
from gates.judge import Cause, Outcome, verdict
from tasks.evidence import gather, write_evidence
from tasks.guard.judging import _write
from tasks.guard.keeping import Kept, storing
from tests.support.gate_parts import measured
from tests.support.guard_parts import activate, guard_at, looks, value_of, writing

NOWHERE = "http://127.0.0.1:9"


@pytest.fixture(scope="module")
def judged(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The evidence of a stage that was looked at three times and judged NO-GO."""
    home = tmp_path_factory.mktemp("replay")
    guard = guard_at(home, "watched")
    active = activate(guard)

    async def run() -> None:
        async with writing(guard):
            kept = Kept()
            for bad in ({}, {"halted": Cause.STALE}, {"fault_freezes": Outcome.FAIL}):
                guard.store.tell("look", storing(guard, active, looks(active, **bad), kept))  # type: ignore[arg-type]
            finals = [
                (one, measured(one, value_of(one, Outcome.PASS))) for one in active.criteria if one.phase == "final"
            ]
            found = [*looks(active, fault_freezes=Outcome.FAIL), *finals]
            guard.store.tell("judge", storing(guard, active, found, Kept()))
            await guard.store.settled()
            await _write(guard, active, verdict(active.criteria, [one for _, one in found]))
            write_evidence(home / "evidence", gather(guard.store.record, 1, "judged", NOWHERE))

    asyncio.run(run())
    return home / "evidence"


@pytest.fixture
def evidence(judged: Path, tmp_path: Path) -> Path:
    copy = tmp_path / "evidence"
    for path in judged.rglob("*"):
        if path.is_file():
            target = copy / path.relative_to(judged)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(path.read_bytes())
    return copy


def forge(folder: Path, name: str, change: Callable[[Any], None]) -> None:
    """Changes a file and makes the manifest fit it, as whoever can write the folder could."""
    content = json.loads((folder / name).read_text())
    change(content)
    (folder / name).write_text(json.dumps(content))
    manifest = json.loads((folder / MANIFEST).read_text())
    manifest["files"][name] = sha256_of(folder / name)
    (folder / MANIFEST).write_text(json.dumps(manifest))


def test_evidence_is_found_again_as_it_was(evidence: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["replay", str(evidence)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert max(len(line) for line in lines) <= 80
    assert any(line.startswith("verdict NO-GO by fault_freezes of ") and line.endswith(": same") for line in lines)
    assert lines[-1] == f"evidence {sha256_of(evidence / MANIFEST)[:12]}: as it was judged"
    assert main(["replay", str(evidence), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["same"], told["digest"]) == (True, sha256_of(evidence / MANIFEST))
    outcomes = [one["again"]["outcome"] for one in told["measurements"] if one["criterion"] == "halted"]
    assert outcomes == ["PASS", "UNKNOWN", "PASS", "PASS"]
    assert [one["stored"]["word"] for one in told["verdicts"]] == ["NO_GO"]
    assert not [one for one in told["measurements"] if one["criterion"].startswith("preflight_")]


def test_a_forged_outcome_does_not_fit_its_samples(evidence: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def pass_it(rows: Any) -> None:
        for row in rows:
            if row["criterion_id"] == "fault_freezes" and row["outcome"] == "FAIL":
                row.update(outcome="PASS", value="0")

    forge(evidence, "measurements.json", pass_it)
    assert main(["replay", str(evidence)]) == 1
    said = capsys.readouterr().out
    assert "fault_freezes" in said.split("DIFFERS", 1)[1].splitlines()[0]
    assert "stored PASS 0" in said
    assert "again  FAIL 1" in said
    assert "stands on fault_freezes, of which no reading is stored" in said
    assert "NOT as it was judged" in said
    assert max(len(line) for line in said.splitlines()) <= 80


def test_forged_samples_do_not_fit_their_outcome(evidence: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def clean(rows: Any) -> None:
        for row in rows:
            if row["criterion_id"] == "fault_freezes":
                row["raw"]["samples"][0]["value"] = "0"

    forge(evidence, "measurements.json", clean)
    assert main(["replay", str(evidence), "--json"]) == 1
    told = json.loads(capsys.readouterr().out)
    assert {one["criterion"] for one in told["measurements"] if not one["same"]} == {"fault_freezes"}
    assert told["verdicts"][0]["again"] == {"word": "GO", "decided_by": None}


def test_a_loosened_criterion_and_a_forged_verdict_are_seen(evidence: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def loosen(content: Any) -> None:
        for one in content["parts"][0]:
            if one["id"] == "fault_freezes":
                one["go"] = "<= 5"

    forge(evidence, "criteria.json", loosen)
    assert main(["replay", str(evidence)]) == 1
    assert "again  PASS 1" in capsys.readouterr().out


def test_a_verdict_that_was_written_over_is_seen(evidence: Path, capsys: pytest.CaptureFixture[str]) -> None:
    forge(evidence, "verdict.json", lambda told: told["verdicts"][0].update(word="GO", decided_by=None))
    assert main(["replay", str(evidence)]) == 1
    said = capsys.readouterr().out
    assert "DIFFERS verdict of" in said
    assert "again  NO-GO by fault_freezes" in said


def test_what_is_not_the_evidence_that_its_manifest_names_is_refused(
    evidence: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def refused(folder: Path) -> str:
        assert main(["replay", str(folder)]) == 2
        (line,) = capsys.readouterr().err.splitlines()
        return line

    assert refused(tmp_path / "nowhere") == f"{tmp_path}/nowhere/manifest.json is missing"
    text = (evidence / "measurements.json").read_text()
    (evidence / "measurements.json").write_text(text.replace("PASS", "FAIL", 1))
    assert refused(evidence) == f"{evidence}/measurements.json is not what the manifest names"
    (evidence / "measurements.json").write_text(text)
    (evidence / "more.json").write_text("{}")
    assert refused(evidence) == f"{evidence}/more.json is not named in the manifest"
    (evidence / "more.json").unlink()
    forge(evidence, "measurements.json", lambda rows: rows[-1].pop("raw"))
    assert "not evidence that can be judged again: KeyError 'raw'" in refused(evidence)
    forge(evidence, "criteria.json", lambda content: content.update(missing="the plan changed"))
    assert refused(evidence) == f"{evidence}/criteria.json: the plan changed"
