"""What code runs: the release and a fingerprint of the bot's own sources, so that an edited file is another version."""

from __future__ import annotations

import hashlib
from functools import cache
from pathlib import Path
from typing import Final

RELEASE: Final = "0.1.0"


def sources_digest(package: Path) -> str:
    """SHA-256 (hex) over every `.py` file below `package`: relative path and bytes, in the order of the paths."""
    digest = hashlib.sha256()
    for path in sorted(package.rglob("*.py"), key=lambda p: p.relative_to(package).as_posix()):
        digest.update(path.relative_to(package).as_posix().encode() + b"\0")
        digest.update(path.read_bytes() + b"\0")
    return digest.hexdigest()


@cache
def code_version() -> str:
    """`<release>+<12 hex>`. Read once per process: what runs is what was there when it started."""
    return f"{RELEASE}+{sources_digest(Path(__file__).parent)[:12]}"
