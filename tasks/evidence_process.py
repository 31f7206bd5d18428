"""Starts `python -m tasks.evidence` and checks what it left. The guard itself never loads pandas or matplotlib."""

from __future__ import annotations

import asyncio
import os
import sys
from dataclasses import dataclass
from pathlib import Path

from gates.evidence_folder import MANIFEST, manifest_fault, sha256_of
from tasks.record import Record
from tasks.record_tables import StageRun
from tasks.state_folder import REPOSITORY, StateFolder

DEADLINE_S = 90.0
KEPT_ENVIRONMENT = ("PATH", "HOME", "LANG", "TMPDIR", "SLIPWAY_STACK", "MM_REDIS_PASSWORD")


class EvidenceFailed(Exception):
    """The evidence could not be built. One line with the process's last words."""


@dataclass(frozen=True)
class Built:
    """`files`: path relative to `folder` → (SHA-256, bytes). `digest`: of the manifest, which names them all."""

    folder: Path
    digest: str
    files: dict[str, tuple[str, int]]


def evidence_folder(folder: StateFolder, row: StageRun) -> Path:
    return folder.evidence / row.rollout / f"{row.stage}-{row.attempt}"


def judged_name(record: Record, row: StageRun) -> str:
    """The folder of what people sign at the end of the part in which the stage run stands, by how many parts it has
    begun: one that it was stepped down to is judged again, and what was signed for it the first time stays."""
    visits = len(record.parts(row.id or 0))
    return "judged" if visits <= 1 else f"judged-{visits}"


async def build_evidence(folder: StateFolder, record: Record, row: StageRun, prometheus_url: str, ends: str) -> Built:
    """`ends` judged: what people sign, in a folder of its own that nothing changes later. Else how the stage ends."""
    whole = evidence_folder(folder, row)
    target = whole
    if ends == "judged":
        target = whole / await asyncio.to_thread(judged_name, record, row)
    command = [sys.executable, "-m", "tasks.evidence", "--stage-run", str(row.id), "--out", str(target), "--ends", ends]
    command += ["--logs", str(folder.logs)]
    environment = {
        **{name: os.environ[name] for name in KEPT_ENVIRONMENT if name in os.environ},
        "SLIPWAY_RECORD_URL": record.engine.url.render_as_string(hide_password=False),
        "SLIPWAY_PROMETHEUS_URL": prometheus_url,
        "MPLCONFIGDIR": str(folder.root / "matplotlib"),
    }
    try:
        process = await asyncio.create_subprocess_exec(
            *command,
            cwd=REPOSITORY,
            env=environment,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE,
            start_new_session=True,
        )
    except OSError as error:
        raise EvidenceFailed(f"the process that builds evidence did not start: {error.strerror}") from None
    try:
        _, said = await asyncio.wait_for(process.communicate(), DEADLINE_S)
    except TimeoutError:
        raise EvidenceFailed(f"evidence was not built within {DEADLINE_S:g} s") from None
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    if process.returncode != 0:
        lines = said.decode(errors="replace").strip().splitlines() or ["no output"]
        raise EvidenceFailed(f"evidence was not built: {lines[-1]}")
    return read_built(target)


def read_built(folder: Path) -> Built:
    """What stands in the folder, hashed anew. Raises EvidenceFailed where the manifest is missing."""
    manifest = folder / MANIFEST
    if not manifest.exists():
        raise EvidenceFailed(f"{manifest}: missing")
    files = {
        path.relative_to(folder).as_posix(): (sha256_of(path), path.stat().st_size)
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }
    return Built(folder, sha256_of(manifest), files)


def signed_evidence_fault(folder: Path, digest: str) -> str:
    """Why what stands in the folder is not the evidence of that digest, naming the file; empty where it is."""
    manifest = folder / MANIFEST
    try:
        if sha256_of(manifest) != digest:
            return f"{manifest} does not have the digest {digest[:12]} that was signed"
    except OSError as error:
        return f"{manifest} is missing" if isinstance(error, FileNotFoundError) else f"{folder} cannot be read: OSError"
    return manifest_fault(folder)
