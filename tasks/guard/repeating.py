"""The candidate's shadow run made twice over on the scripted market: whether both reports are the same to the byte, and
what such a run places and fills. On a real market a quote that is good stands, so those shares say nothing there."""

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
from tasks.guard.launching import sizes_of
from tasks.guard.state import Active
from tasks.launch import Sizes, repeatable_command
from tasks.state_folder import write_private

log = logging.getLogger("slipway.guard.repeating")
ITERATIONS = 50
DEADLINE_S = 60.0
KEPT = ("PATH", "HOME", "LANG", "TMPDIR", "PYTHONPATH")
MOMENT = "2026-01-01T00:00:00Z"
"""The one moment in a report that is not part of the run."""


async def repeat_run(active: Active) -> None:
    """Leaves its result in the bot's state folder. What kept it from being made is told there, and is no pass."""
    path = repeat_file(active)
    if path is None:
        return
    sizes, settings = sizes_of(active), under_root(active.plan.settings)
    with tempfile.TemporaryDirectory(prefix="slipway-repeat-") as folder:
        try:
            first, second = [await _report(sizes, settings, Path(folder), str(seed)) for seed in (1, 2)]
            found: dict[str, Any] = {"status": "repeated", "same": first == second, **_counted(first)}
            found["sha256"] = [hashlib.sha256(one).hexdigest() for one in (first, second)]
        except (OSError, TimeoutError, _NotMade) as error:
            found = {"status": "not made", "detail": str(error) or type(error).__name__}
    log.info("repeated run: %s", found)
    write_private(path, json.dumps(found) + "\n")


class _NotMade(Exception):
    """A run that gave no report; one line."""


def _counted(report: bytes) -> dict[str, int]:
    """What the run did, by its own report. Raises _NotMade."""
    try:
        told = json.loads(report)
        orders = told["orders"]
        counted = {
            "iterations": told["execution"]["iterations"],
            "placed": orders["placed"],
            "filled": orders["filled"],
        }
    except (ValueError, KeyError, TypeError) as error:
        raise _NotMade(f"a shadow run left no report that can be read: {type(error).__name__}") from None
    return {name: int(count) for name, count in counted.items()}


async def _report(sizes: Sizes, settings: Path, folder: Path, hash_seed: str) -> bytes:
    """The report of one run; under another hash seed each time, because a report must not depend on it."""
    out = folder / f"report-{hash_seed}.json"
    environment = {name: os.environ[name] for name in KEPT if name in os.environ}
    process = await asyncio.create_subprocess_exec(
        *repeatable_command(sizes, settings, ITERATIONS, out),
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
