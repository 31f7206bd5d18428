"""A stage's folder of evidence: whether it is what its manifest names, and what stands in it. It is only read.

The manifest names every other file with its SHA-256; the SHA-256 of the manifest is the evidence's digest.
"""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any, Final

MANIFEST: Final = "manifest.json"
CRITERIA: Final = "criteria.json"
MEASUREMENTS: Final = "measurements.json"
VERDICT: Final = "verdict.json"


class EvidenceError(Exception):
    """Evidence that cannot be used. The message is one line for a person."""


def sha256_of(path: Path) -> str:
    """Hex. Raises OSError."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def manifest_fault(folder: Path) -> str:
    """Why the folder is not what its manifest names, naming the file; empty where it is."""
    try:
        named = dict(json.loads((folder / MANIFEST).read_text(encoding="utf-8"))["files"])
        for name, sha256 in sorted(named.items()):
            if sha256_of(folder / name) != sha256:
                return f"{folder / name} is not what the manifest names"
        more = sorted(names_in(folder) - {*named, MANIFEST})
        if more:
            return f"{folder / more[0]} is not named in the manifest"
    except FileNotFoundError as error:
        return f"{error.filename} is missing"
    except (OSError, ValueError, KeyError, TypeError) as error:
        return f"{folder} cannot be read: {type(error).__name__}"
    return ""


def names_in(folder: Path) -> set[str]:
    """Whatever stands in it, below it too, but for folders of its own: a link to one counts. Raises OSError where a
    folder cannot be read, for what is in it nobody knows."""

    def unread(error: OSError) -> None:
        raise error

    found: set[str] = set()
    for at, folders, files in os.walk(folder, onerror=unread):
        links = [name for name in folders if (Path(at) / name).is_symlink()]
        found |= {(Path(at) / name).relative_to(folder).as_posix() for name in (*files, *links)}
    return found


def read_json(folder: Path, name: str) -> Any:
    """The content of a file of the folder. Raises EvidenceError."""
    try:
        return json.loads((folder / name).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise EvidenceError(f"{folder / name}: cannot be read: {type(error).__name__}") from None
