"""Looks for planted secrets in everything that a run left behind, and in what it shows while it runs."""

from __future__ import annotations

import base64
import gzip
import json
import sqlite3
import tarfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import Final

from tasks.account_file import SECRETS
from tasks.state_folder import REPOSITORY, StateFolder, read_json

SQLITE_HEAD: Final = b"SQLite format 3\0"
CORE_PATTERN: Final = Path("/proc/sys/kernel/core_pattern")


def files_that_hold(folder: Path, values: Iterable[str], apart: Iterable[Path] = ()) -> list[str]:
    """Every file under the folder in which a value stands, as text or base64.

    Archives are looked into, and databases table by table: a row that lies on two pages of its file, or that only the
    write-ahead file holds, is found too. `apart`: files and folders that are not looked at.
    """
    forms = _forms(values)
    return [name for name, content in _contents(folder, set(apart)) if any(form in content for form in forms)]


def command_lines_that_hold(values: Iterable[str]) -> list[str]:
    """Every process of this machine that shows a value to whoever lists processes."""
    forms = _forms(values)
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                words = (entry / "cmdline").read_bytes()
            except OSError:  # it has ended meanwhile
                continue
            if any(form in words for form in forms):
                found.append(f"/proc/{entry.name}/cmdline")
    return found


def core_folders(folder: StateFolder, pattern: str | None = None) -> list[Path]:
    """Where an image of a dead process would lie: where processes of a stack work, or where the kernel puts it."""
    pattern = CORE_PATTERN.read_text().strip() if pattern is None else pattern
    places = [folder.root, REPOSITORY, Path.cwd()]
    if pattern.startswith("/"):
        places.append(Path(pattern).parent)
    return [place for place in dict.fromkeys(places) if place.is_dir()]


def cores_that_hold(folders: Iterable[Path], values: Iterable[str]) -> list[str]:
    """Every image of a dead process in one of these folders in which a value stands."""
    forms = _forms(values)
    found = []
    for path in (path for place in folders for path in sorted(place.glob("*core*")) if path.is_file()):
        with path.open("rb") as file:
            kept = b""
            while block := file.read(1 << 24):
                if any(form in kept + block for form in forms):
                    found.append(str(path))
                    break
                kept = block[-256:]
    return found


def stack_secrets(folder: StateFolder, more: Mapping[str, str] | None = None) -> dict[str, str]:
    """Everything that a stack keeps to itself, what it is → the value. `more`: what it was given by its environment."""
    found = dict(more or {})
    for path in sorted(folder.accounts.rglob("*.json")):
        content = read_json(path) or {}
        found.update({f"{path.stem} {name}": str(content[name]) for name in SECRETS if content.get(name)})
        people = content.get("operators") or {}
        found.update({f"{path.stem} operator {name}": str(token) for name, token in people.items()})
    if folder.seeds.exists():
        found.update({f"seed of {name}": str(seed) for name, seed in json.loads(folder.seeds.read_text()).items()})
    if folder.control_token.exists():
        found["control token"] = folder.control_token.read_text().strip()
    return found


def shown_secrets(folder: StateFolder, more: Mapping[str, str] | None = None) -> list[str]:
    """Where a stack shows one of its secrets: files, tables, archives, command lines, images of dead processes.

    Its own places for them are not looked at. Raises LookupError where it has no secret: then nothing was looked for.
    """
    values = list(stack_secrets(folder, more).values())
    if not values:
        raise LookupError(f"{folder.root}: no secret is kept there")
    own = [folder.accounts, folder.seeds, folder.control_token]
    return [
        *files_that_hold(folder.root, values, own),
        *command_lines_that_hold(values),
        *cores_that_hold(core_folders(folder), values),
    ]


def _forms(values: Iterable[str]) -> list[bytes]:
    return [form for value in values for form in (value.encode(), base64.b64encode(value.encode())[:-4])]


def _contents(folder: Path, apart: set[Path]) -> Iterator[tuple[str, bytes]]:
    for path in sorted(folder.rglob("*")):
        if not path.is_file() or path in apart or apart & set(path.parents):
            continue
        if path.name.endswith(".tar.gz"):
            with tarfile.open(path) as archive:
                for member in archive.getmembers():
                    file = archive.extractfile(member)
                    yield f"{path}:{member.name}", file.read() if file else b""
        elif path.suffix == ".gz":
            yield str(path), gzip.decompress(path.read_bytes())
        else:
            content = path.read_bytes()
            yield str(path), content
            if content.startswith(SQLITE_HEAD):
                yield from _tables(path)


def _tables(path: Path) -> Iterator[tuple[str, bytes]]:
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=10)) as database:
        database.text_factory = bytes
        named = database.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall()
        for (name,) in named:
            table = name.decode()
            if table.endswith(("_idx", "_data", "_content", "_docsize", "_config")):
                continue  # a search index's own tables say what the table beside them says
            quoted = table.replace('"', '""')
            rows = database.execute(f'SELECT * FROM "{quoted}"')  # noqa: S608 - a name from the database's own list
            yield f"{path}:{table}", b"\n".join(_cell(cell) for row in rows for cell in row)


def _cell(cell: object) -> bytes:
    return cell if isinstance(cell, bytes) else str(cell).encode()
