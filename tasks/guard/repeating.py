"""The candidate's shadow run made twice over, and whether both reports are the same to the byte."""

from __future__ import annotations

import asyncio
import hashlib
import json
import logging
import os
import tempfile
from pathlib import Path
from typing import Any

from gates.stages import under_root
from tasks.guard.facts import repeat_file
from tasks.guard.state import Active
from tasks.launch import repeatable_command
from tasks.state_folder import write_private

log = logging.getLogger("slipway.guard.repeating")
ITERATIONS = 50
DEADLINE_S = 60.0
MOMENT = "2026-01-01T00:00:00Z"
"""The one moment in a report that is not part of the run."""


async def repeat_run(active: Active) -> None:
    """Leaves its result in the bot's state folder. What kept it from being made is told there, and is no pass."""
    path = repeat_file(active)
    if path is None:
        return
    symbols, settings = active.whole.symbols, under_root(active.plan.settings)
    with tempfile.TemporaryDirectory(prefix="slipway-repeat-") as folder:
        try:
            first, second = [await _report(symbols, settings, Path(folder), str(seed)) for seed in (1, 2)]
        except (OSError, TimeoutError, _NotMade) as error:
            found: dict[str, Any] = {"status": "not made", "detail": str(error) or type(error).__name__}
        else:
            digests = [hashlib.sha256(one).hexdigest() for one in (first, second)]
            found = {"status": "repeated", "same": first == second, "sha256": digests, "iterations": ITERATIONS}
    log.info("repeated run: %s", found)
    write_private(path, json.dumps(found) + "\n")


class _NotMade(Exception):
    """A run that gave no report; one line."""


async def _report(symbols: tuple[str, ...], settings: Path, folder: Path, hash_seed: str) -> bytes:
    """The report of one run; under another hash seed each time, because a report must not depend on it."""
    out = folder / f"report-{hash_seed}.json"
    environment = {name: os.environ[name] for name in ("PATH", "HOME", "LANG", "TMPDIR") if name in os.environ}
    process = await asyncio.create_subprocess_exec(
        *repeatable_command(symbols, settings, ITERATIONS, out),
        cwd=folder,
        env={**environment, "MM_FREEZE_UTC_ISO": MOMENT, "PYTHONHASHSEED": hash_seed},
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
        start_new_session=True,
    )
    try:
        _, said = await asyncio.wait_for(process.communicate(), DEADLINE_S)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    if process.returncode != 0 or not out.exists():
        lines = said.decode(errors="replace").strip().splitlines() or ["it said nothing"]
        raise _NotMade(f"a shadow run ended with {process.returncode}: {lines[-1][:200]}")
    return out.read_bytes()
