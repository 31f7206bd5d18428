"""What somebody needs who looks into a run that went wrong, beside its page: journal, logs, the last hour of metrics.

Everything is compressed and kept in the evidence folder, so that it is hashed and named in the manifest with the rest.
What cannot be had is named in `left-out.txt`; a post-mortem that lacks something is better than none.
"""

from __future__ import annotations

import gzip
import json
import shutil
import sqlite3
from collections.abc import Callable, Sequence
from contextlib import closing
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from bot.journal import is_there
from tasks.record_tables import StageRun, utc_now

FOLDER = "post-mortem"
LEFT_OUT = "left-out.txt"
LOG_BYTES_MAX = 20_000_000
"""Of a longer log only its end is taken."""
METRICS_FOR = timedelta(hours=1)
METRICS_STEP_S = 5
TIMEOUT_S = 10.0
OF_THE_BOT = ("bot.log", "stdout.log", "stderr.log")


def save_post_mortem(out: Path, run: StageRun, logs: Path | None, prometheus_url: str) -> None:
    """Writes `post-mortem/` below `out`; what an earlier try left there is replaced. Never raises for a source."""
    target = out / FOLDER
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir(parents=True, mode=0o700)
    left_out: list[str] = []

    def save(name: str, work: Callable[[Path], None]) -> None:
        path = target / f"{name}.gz"
        try:
            work(path)
            path.chmod(0o600)
        except Exception as error:  # noqa: BLE001 - whatever keeps one from being saved keeps no other
            path.unlink(missing_ok=True)
            left_out.append(f"{name}: {type(error).__name__}: {' '.join(str(error).split())}"[:300])

    state_dir = Path(run.state_dir) if run.state_dir else None
    if state_dir is None:
        left_out.append("journal and logs of the bot: nothing was launched in this stage run")
    else:
        save("journal.db", lambda path: _journal(state_dir / "journal.db", path))
        for name in OF_THE_BOT:
            save(name, lambda path, name=name: _end_of(state_dir / name, path))  # type: ignore[misc]
    for log in _logs(logs, run.account):
        save(log.name, lambda path, log=log: _end_of(log, path))  # type: ignore[misc]
    save("metrics.json", lambda path: _metrics(run, prometheus_url, path))
    (target / LEFT_OUT).write_text("\n".join([*left_out, ""]) if left_out else "nothing\n", encoding="utf-8")
    (target / LEFT_OUT).chmod(0o600)


def files_of(out: Path) -> list[tuple[str, int]]:
    """What stands there: name and bytes; nothing where no post-mortem was written."""
    return [(path.name, path.stat().st_size) for path in sorted((out / FOLDER).glob("*")) if path.is_file()]


def left_out_of(out: Path) -> Sequence[str]:
    """What could not be had, each in a line."""
    path = out / FOLDER / LEFT_OUT
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    return [] if lines == ["nothing"] else lines


def _logs(logs: Path | None, account: str) -> list[Path]:
    """Those of the processes that watched over the account, as the supervisor names them."""
    if logs is None:
        return []
    names = ("guard", f"guard-{account}", f"watchdog-{account}", "prometheus")
    return [path for name in names for path in (logs / f"{name}.log.1", logs / f"{name}.log") if _has_words(path)]


def _has_words(path: Path) -> bool:
    return path.is_file() and path.stat().st_size > 0


def _journal(source: Path, path: Path) -> None:
    """A consistent copy, though others may write to it: the file alone lacks what stands in its WAL."""
    if not is_there(source):
        raise FileNotFoundError(f"{source}: there is none")
    whole = path.with_suffix("")
    try:
        with (
            closing(sqlite3.connect(f"file:{source}?mode=ro", uri=True)) as journal,
            closing(sqlite3.connect(whole)) as copy,
        ):
            journal.backup(copy)
        with whole.open("rb") as found, gzip.open(path, "wb", compresslevel=3) as packed:
            shutil.copyfileobj(found, packed)
    finally:
        whole.unlink(missing_ok=True)


def _end_of(source: Path, path: Path) -> None:
    with source.open("rb") as found, gzip.open(path, "wb", compresslevel=3) as packed:
        found.seek(max(0, source.stat().st_size - LOG_BYTES_MAX))
        shutil.copyfileobj(found, packed)


def _metrics(run: StageRun, url: str, path: Path) -> None:
    """Every series of the account over the hour that ended with the run, as Prometheus answers."""
    import requests

    if not url:
        raise ConnectionError("no address of Prometheus is known")
    ended = min(run.ended_at or utc_now(), utc_now())
    asked = {
        "query": f'{{account="{run.account}"}}',
        "start": _seconds(ended - METRICS_FOR),
        "end": _seconds(ended),
        "step": str(METRICS_STEP_S),
    }
    with requests.Session() as session:
        session.trust_env = False
        answer = session.get(f"{url.rstrip('/')}/api/v1/query_range", params=asked, timeout=TIMEOUT_S)
    answer.raise_for_status()
    told: dict[str, Any] = answer.json()
    with gzip.open(path, "wt", compresslevel=3, encoding="utf-8") as packed:
        json.dump({"asked": asked, **told}, packed)


def _seconds(at: datetime) -> str:
    return f"{at.timestamp():.3f}"
