"""Copies of shadow reports: `shadow_run_<time>.json`, earlier months in a folder each, gzipped after 30 days.

The time in the name decides, so that copying a folder changes nothing. Nothing is overwritten: a second report of the
same second gets `-2` and so on, unless it is the same to the last byte.
"""

from __future__ import annotations

import gzip
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

GZIP_AFTER: Final = timedelta(days=30)
_NAME: Final = re.compile(r"shadow_run_(\d{8}T\d{6}Z)(-\d+)?\.json")


def archive(folder: Path, text: str, at_ns: int) -> Path:
    """Keeps one report and tidies the others up. Raises OSError where the folder cannot be written."""
    folder.mkdir(parents=True, exist_ok=True)
    moment = datetime.fromtimestamp(at_ns // 1_000_000_000, UTC)
    path = _keep(folder, f"shadow_run_{moment:%Y%m%dT%H%M%SZ}", text)
    tidy(folder, moment)
    return path


def tidy(folder: Path, now: datetime) -> None:
    """Moves reports of earlier months into `YYYY-MM/`, and gzips what is older than 30 days."""
    for path in [*sorted(folder.glob("shadow_run_*.json")), *sorted(folder.glob("????-??/shadow_run_*.json"))]:
        found = _NAME.fullmatch(path.name)
        if found is None:
            continue
        moment = datetime.strptime(found[1], "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
        if path.parent == folder and (moment.year, moment.month) != (now.year, now.month):
            month = folder / f"{moment:%Y-%m}"
            month.mkdir(exist_ok=True)
            path = _moved(path, month)  # noqa: PLW2901 - the same report at its new place
        if now - moment > GZIP_AFTER:
            _gzip(path)


def _keep(folder: Path, stem: str, text: str) -> Path:
    number = 1
    while True:
        path = folder / (f"{stem}.json" if number == 1 else f"{stem}-{number}.json")
        try:
            with path.open("x", encoding="utf-8") as file:
                file.write(text)
        except FileExistsError:
            if path.read_text(encoding="utf-8") == text:
                return path
            number += 1
            continue
        return path


def _moved(path: Path, month: Path) -> Path:
    target = month / path.name
    if target.exists() or target.with_name(target.name + ".gz").exists():
        return path
    return path.rename(target)


def _gzip(path: Path) -> None:
    """The original goes only once the whole copy is there; no time in its header, so that it is stable too."""
    target = path.with_name(path.name + ".gz")
    if target.exists():
        return
    draft = path.with_name(f".{path.name}.draft")
    draft.write_bytes(gzip.compress(path.read_bytes(), mtime=0))
    draft.rename(target)
    path.unlink()
