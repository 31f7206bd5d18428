"""Looks for planted secrets in everything that a run left behind, and in what it shows while it runs."""

from __future__ import annotations

import itertools
import json
import os
import sqlite3
import subprocess
import tarfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import Final

from tasks.account_file import SECRETS
from tasks.record_engine import POSTGRESQL, record_address
from tasks.state_folder import REPOSITORY, StateFolder, read_json
from tests.support.planted_forms import forms_of, holds, unpacked

SQLITE_HEAD: Final = b"SQLite format 3\0"
CORE_PATTERN: Final = Path("/proc/sys/kernel/core_pattern")


def files_that_hold(folder: Path, values: Iterable[str], apart: Iterable[Path] = ()) -> list[str]:
    """Every file under the folder in which a value stands, or in whose name, in any form of `planted_forms`.

    Archives are looked into, and databases table by table: a row that lies on two pages of its file, or that only the
    write-ahead file holds, is found too. `apart`: files and folders that are not looked at.
    """
    forms, left_out = forms_of(values), set(apart)
    found: dict[str, None] = {}
    for path in sorted(folder.rglob("*")):
        if path.is_file() and path not in left_out and not left_out & set(path.parents):
            own_name = (str(path), str(path.relative_to(folder)).encode())
            contents = itertools.chain([own_name], _contents(path))
            found.update((name, None) for name, content in contents if holds(content, forms))
    return list(found)


def text_holds(text: str, values: Iterable[str]) -> bool:
    """Whether a value stands in what was shown."""
    return holds(text.encode(), forms_of(values))


def dump_holds(url: str, values: Iterable[str]) -> bool:
    """Whether a value stands in a dump of that PostgreSQL database, all its tables. Raises CalledProcessError."""
    from tests.support.postgres import binary  # it loads the record's tables, which the rest here has no use for

    address = record_address(url)
    shown = address.set(drivername=POSTGRESQL, password=None).render_as_string()
    dump = subprocess.run(
        [binary("pg_dump"), "--inserts", "--dbname", shown],
        env={**os.environ, **({"PGPASSWORD": address.password} if address.password else {})},
        check=True, stdin=subprocess.DEVNULL, capture_output=True,
    ).stdout  # fmt: skip
    forms = forms_of(values)
    return any(holds(content, forms) for _, content in unpacked("dump", dump))


def command_lines_that_hold(values: Iterable[str]) -> list[str]:
    """Every process of this machine that shows a value to whoever lists processes."""
    forms = forms_of(values)
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                words = (entry / "cmdline").read_bytes()
            except OSError:  # it has ended meanwhile
                continue
            if holds(words, forms):
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
    forms = forms_of(values)
    longest = max(map(len, forms), default=0)
    found = []
    for path in (path for place in folders for path in sorted(place.glob("*core*")) if path.is_file()):
        with path.open("rb") as file:
            kept = b""
            while block := file.read(1 << 24):
                if any(form in kept + block for form in forms):
                    found.append(str(path))
                    break
                kept = block[-longest:]
    return found


def stack_secrets(folder: StateFolder, more: Mapping[str, str] | None = None) -> dict[str, str]:
    """Everything that a stack keeps to itself, what it is → the value. `more`: what it was given by its environment."""
    found = dict(more or {})
    for path in sorted(folder.accounts.rglob("*.json")):
        content = read_json(path) or {}
        found.update({f"{path.stem} {name}": str(content[name]) for name in SECRETS if content.get(name)})
    if folder.seeds.exists():
        found.update({f"seed of {name}": str(seed) for name, seed in json.loads(folder.seeds.read_text()).items()})
    if folder.control_token.exists():
        found["control token"] = folder.control_token.read_text().strip()
    return found


def shown_secrets(folder: StateFolder, more: Mapping[str, str] | None = None, record_url: str = "") -> list[str]:
    """Where a stack shows one of its secrets: files, tables, archives, command lines, images of dead processes.

    `record_url`: where its record is; a PostgreSQL database is dumped, a file is looked at anyway. Its own
    places for secrets are not looked at. Raises LookupError where it has no secret: then nothing was looked for; and
    CalledProcessError where the record cannot be dumped.
    """
    values = list(stack_secrets(folder, more).values())
    if not values:
        raise LookupError(f"{folder.root}: no secret is kept there")
    own = [folder.accounts, folder.seeds, folder.control_token]
    return [
        *files_that_hold(folder.root, values, own),
        *command_lines_that_hold(values),
        *cores_that_hold(core_folders(folder), values),
        *(["a dump of the record"] if record_url.startswith(POSTGRESQL) and dump_holds(record_url, values) else []),
    ]


def _contents(path: Path) -> Iterator[tuple[str, bytes]]:
    content = path.read_bytes()
    if path.name.endswith(".tar.gz"):
        with tarfile.open(path) as archive:
            for member in archive.getmembers():
                file = archive.extractfile(member)
                name = f"{path}:{member.name}"
                yield name, member.name.encode()
                yield from unpacked(name, file.read() if file else b"")
        return
    yield from unpacked(str(path), content)
    if content.startswith(SQLITE_HEAD):
        for name, rows in _tables(path):
            yield from unpacked(name, rows)


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
