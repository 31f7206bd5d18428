"""One archive of everything somebody needs who looks into a failed run: logs, journals, tables, ports. No secrets."""

from __future__ import annotations

import io
import json
import sqlite3
import subprocess
import tarfile
import time
from pathlib import Path

from tasks.state_folder import StateFolder, read_json

BYTES_EACH_MAX = 20_000_000
"""Of a longer log only its end is taken."""


def save_bundle(folder: StateFolder, why: str) -> Path:
    """Writes `bundles/<time>.tar.gz` and returns its path. What cannot be read is named in it, and left out."""
    folder.bundles.mkdir(parents=True, exist_ok=True)
    path = folder.bundles / f"{time.strftime('%Y%m%d-%H%M%S', time.gmtime())}-{time.time_ns() % 10**6:06d}.tar.gz"
    unreadable: list[str] = []
    with tarfile.open(path, "w:gz", compresslevel=3) as archive:
        for source in _files(folder):
            try:
                content = _database(source) if source.suffix == ".db" else _end_of(source)
            except (OSError, sqlite3.Error) as error:
                unreadable.append(f"{source}: {error}")
                continue
            _add(archive, str(source.relative_to(folder.root)), content)
        _add(archive, "ports.txt", _ports())
        _add(archive, "why.txt", "\n".join([why, *unreadable, ""]).encode())
        _add(archive, "accounts.txt", _accounts(folder))
    path.chmod(0o600)
    return path


def _files(folder: StateFolder) -> list[Path]:
    """No account file, no seed, no token: what is taken is listed here."""
    newest_runs = sorted(folder.runs.glob("*"), key=lambda run: run.stat().st_mtime)[-3:]
    found = [folder.table, folder.record, folder.prometheus / "prometheus.yml", *folder.targets.glob("*.json")]
    found += [*folder.logs.glob("*.log"), *folder.logs.glob("*.log.1")]
    for run in newest_runs:
        found += [*run.glob("*.log"), *run.glob("journal.db"), *run.glob("journal.redis")]
    return [path for path in found if path.is_file()]


def _end_of(path: Path) -> bytes:
    with path.open("rb") as file:
        size = path.stat().st_size
        file.seek(max(0, size - BYTES_EACH_MAX))
        return file.read()


def _database(path: Path) -> bytes:
    """A consistent copy of a SQLite file that others write to (the file alone lacks what stands in its WAL)."""
    with sqlite3.connect(f"file:{path}?mode=ro", uri=True) as source, sqlite3.connect(":memory:") as copy:
        source.backup(copy)
        return copy.serialize()


def _ports() -> bytes:
    for command in (["ss", "-ltnp"], ["cat", "/proc/net/tcp"]):
        try:
            return subprocess.run(command, capture_output=True, timeout=5, check=True).stdout
        except (OSError, subprocess.SubprocessError):
            continue
    return b"neither ss nor /proc/net/tcp can be read\n"


def _accounts(folder: StateFolder) -> bytes:
    """Which accounts there are and where; their keys and tokens stay out."""
    rows = [read_json(path) or {} for path in sorted(folder.accounts.glob("*.json"))]
    shown = ("account", "venue", "rollout", "rest_url")
    return json.dumps([{name: row.get(name) for name in shown} for row in rows], indent=2).encode()


def _add(archive: tarfile.TarFile, name: str, content: bytes) -> None:
    entry = tarfile.TarInfo(name)
    entry.size = len(content)
    entry.mtime = int(time.time())
    archive.addfile(entry, io.BytesIO(content))
