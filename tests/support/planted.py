"""Looks for planted secrets in everything that a run left behind."""

from __future__ import annotations

import base64
import gzip
import tarfile
from collections.abc import Iterable, Iterator
from pathlib import Path

from tasks.account_file import SECRETS, load_account
from tasks.state_folder import StateFolder


def files_that_hold(folder: Path, values: Iterable[str], apart: Iterable[Path] = ()) -> list[str]:
    """Every file under the folder in which a value stands, as text or base64; archives are looked into.

    `apart`: files and folders that are not looked at.
    """
    wanted = [form for value in values for form in (value.encode(), base64.b64encode(value.encode())[:-4])]
    return [name for name, content in _contents(folder, set(apart)) if any(form in content for form in wanted)]


def shown_secrets(folder: StateFolder, account: str) -> list[str]:
    """Every file of a state folder, but the account's own, in which one of the account's secrets stands."""
    access = load_account(folder.root, account)
    return files_that_hold(folder.root, [getattr(access, name) for name in SECRETS], [folder.accounts])


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
            yield str(path), path.read_bytes()
