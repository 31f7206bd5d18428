"""A journal that is cut, newer, or has no room: one clear line, a failing exit code, nothing changed or overwritten."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bot.__main__ import main
from bot.journal import JournalReader
from tests.support.small_disk import mounted

ROOT = Path(__file__).resolve().parents[2]
READERS = (("trace", "slwq-0-1", "--state-dir"), ("risk", "--state-dir"), ("replay",))


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A state folder that a run left, the journal in one file."""
    folder = tmp_path_factory.mktemp("whole")
    run = subprocess.run(
        [sys.executable, "-m", "bot", "run", "--shadow", "--iterations", "10", "--durable-state", "--state-dir", "s"],
        cwd=folder,
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT)},
        capture_output=True,
        check=True,
    )
    assert run.stdout
    db = sqlite3.connect(folder / "s" / "journal.db")
    db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    db.close()
    for left in (folder / "s").glob("journal.db-*"):
        left.unlink()
    return folder / "s"


def refused(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    capsys.readouterr()
    assert main(list(arguments)) == 2, arguments
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.count("\n") == 1, said.err
    return said.err


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(share=st.floats(0, 1, exclude_max=True))
def test_a_journal_cut_at_any_byte_is_refused_by_everybody_and_left_as_it_is(
    share: float, whole: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    content = (whole / "journal.db").read_bytes()
    folder = tmp_path / "cut"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    cut = content[: int(len(content) * share)]
    (folder / "journal.db").write_bytes(cut)
    said = refused(capsys, "run", "--shadow", "--durable-state", "--recover", "--state-dir", str(folder))
    assert "journal.db: damaged journal" in said
    for reader in READERS:
        assert "journal.db: damaged journal" in refused(capsys, *reader, str(folder))
    assert (folder / "journal.db").read_bytes() == cut


def test_a_journal_of_a_newer_schema_is_refused_with_both_versions_and_left_as_it_is(
    whole: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copytree(whole, tmp_path / "newer")
    path = tmp_path / "newer" / "journal.db"
    db = sqlite3.connect(path)
    db.execute("UPDATE meta SET value = '99' WHERE key = 'schema_version'")
    db.commit()
    db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    db.close()
    before = hashlib.sha256(path.read_bytes()).hexdigest()
    commands = [*(tuple((*reader, "newer")) for reader in READERS)]
    commands.append(("run", "--shadow", "--durable-state", "--recover", "--state-dir", "newer"))
    for command in commands:
        said = refused(capsys, *command)
        assert "schema_version is 99, this version reads" in said
    assert hashlib.sha256(path.read_bytes()).hexdigest() == before


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 5 MB."""
    with mounted(tmp_path / "disk", "5m") as folder:
        yield folder


def fill_up(path: Path) -> None:
    """Leaves not one page free."""
    with path.open("wb", buffering=0) as filler:
        while True:
            try:
                filler.write(b"x" * 4096)
            except OSError:
                return


def on_small_disk(disk: Path, cwd: Path, reserve_mb: int, *flags: str) -> subprocess.CompletedProcess[str]:
    (cwd / "s.yaml").write_text(f"journal: {{disk_reserve_mb: {reserve_mb}}}\n", encoding="utf-8")
    return subprocess.run(
        [sys.executable, "-m", "bot", "run", "--shadow", "--durable-state", "--state-dir", str(disk / "s"),
         "--settings", "s.yaml", "--iterations", "4000", "--log-file", str(cwd / "log"), *flags],
        cwd=cwd, env={"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=False,
        timeout=120,
    )  # fmt: skip


@pytest.mark.integration
def test_with_a_reserve_quoting_stops_before_writing_does(small_disk: Path, tmp_path: Path) -> None:
    """The reserve is reached while there is still room: the stop itself is in the journal, and so is every order."""
    done = on_small_disk(small_disk, tmp_path, 1)
    assert done.returncode == 1
    plain = [line for line in done.stderr.splitlines() if not line.startswith("{")]
    assert plain == ["mm-bot: disk_full: quoting stopped, see the log"]
    with JournalReader(small_disk / "s" / "journal.db") as reader:
        kinds = [(entry.seq, entry.kind) for entry in reader.entries()]
        stop = next(seq for seq, kind in kinds if kind == "StopRequested")
        fills = next(reader.rows("SELECT count(*) FROM fills"))[0]
    assert not any(kind in ("PlaceOrder", "AmendOrder") for seq, kind in kinds if seq > stop)
    report = json.loads(done.stdout)
    assert 0 < report["execution"]["iterations"] < 4000
    assert report["orders"]["filled"] == fills
    assert report["risk"]["frozen"] is True


@pytest.mark.integration
def test_a_disk_that_is_full_at_once_ends_the_run_and_what_was_written_stays(small_disk: Path, tmp_path: Path) -> None:
    first = on_small_disk(small_disk, tmp_path, 1, "--iterations", "20")
    assert first.returncode == 0, first.stderr[-500:]
    with JournalReader(small_disk / "s" / "journal.db") as reader:
        before = [entry.body for entry in reader.entries()]
        last_seq = max(entry.seq for entry in reader.entries())
    fill_up(small_disk / "filler")
    done = on_small_disk(small_disk, tmp_path, 1, "--recover")
    assert done.returncode in (1, 2)
    plain = [line for line in done.stderr.splitlines() if not line.startswith("{")]
    assert len(plain) == 1, plain
    assert plain[0].startswith("mm-bot: ")
    (small_disk / "filler").unlink()
    with JournalReader(small_disk / "s" / "journal.db") as reader:
        after = [entry.body for entry in reader.entries()]
        placed = sum(entry.kind == "PlaceOrder" for entry in reader.entries(after_seq=last_seq))
    assert after[: len(before)] == before
    assert placed == 0
