"""Where everything of one stack lives: the state folder (`SLIPWAY_HOME`, default `.slipway` beside the code).

One folder holds the record, the logs, the journals and the keys of one stack, so that removing it removes everything,
and two stacks (a user's and a test's) never meet. The folder and every file with a secret in it is its owner's alone.
"""

from __future__ import annotations

import json
import os
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).resolve().parent.parent


class StateFolderUnusable(Exception):
    """Nothing can be kept in the folder that is to hold everything. One line for people."""


@dataclass(frozen=True)
class StateFolder:
    """The paths inside the state folder. Making the object touches nothing; `create` makes the folders."""

    root: Path

    @classmethod
    def here(cls) -> StateFolder:
        """The folder named by `SLIPWAY_HOME`, else `.slipway` in the repository. Raises StateFolderUnusable."""
        named = os.environ.get("SLIPWAY_HOME", "")
        try:
            root = Path(named).expanduser().resolve() if named else REPOSITORY / ".slipway"
            if root.exists() and not root.is_dir():
                raise _unusable(root, "it is no folder")
        except (OSError, RuntimeError) as error:  # a name too long, no way there, no such user's home
            raise _unusable(Path(named), getattr(error, "strerror", None) or str(error)) from None
        return cls(root)

    @property
    def table(self) -> Path:
        return self.root / "stack.json"

    @property
    def logs(self) -> Path:
        return self.root / "logs"

    @property
    def record(self) -> Path:
        return self.root / "rollout.db"

    @property
    def record_url(self) -> str:
        return os.environ.get("SLIPWAY_RECORD_URL", "") or f"sqlite:///{self.record}"

    @property
    def prefect(self) -> Path:
        return self.root / "prefect"

    @property
    def prometheus(self) -> Path:
        return self.root / "prometheus"

    @property
    def targets(self) -> Path:
        return self.prometheus / "targets"

    @property
    def rules(self) -> Path:
        """The alert rules that Prometheus has loaded; what stands in it is read again when it is told to."""
        return self.prometheus / "rules"

    @property
    def backups(self) -> Path:
        return self.root / "backups"

    def kill_switch_reports(self, account: str) -> Path:
        """Where every kill switch of the account leaves its report."""
        return self.root / "kill_switch" / account

    @property
    def accounts(self) -> Path:
        return self.root / "accounts"

    @property
    def retired_accounts(self) -> Path:
        """Simulated accounts whose rollouts have ended, or whose venue is gone. No guard is started for them."""
        return self.accounts / "retired"

    @property
    def runs(self) -> Path:
        return self.root / "runs"

    @property
    def evidence(self) -> Path:
        return self.root / "evidence"

    @property
    def attestations(self) -> Path:
        """Copies of what people attested with, each below its own hash."""
        return self.root / "attestations"

    @property
    def bundles(self) -> Path:
        return self.root / "bundles"

    @property
    def seeds(self) -> Path:
        return self.root / "approvers" / "seeds.json"

    @property
    def new_seeds(self) -> Path:
        """Where whoever enrols leaves a seed until the guard has taken it."""
        return self.root / "approvers" / "new"

    @property
    def control_token(self) -> Path:
        return self.root / "control_token"

    @property
    def suspended(self) -> Path:
        """A file here named as a process suspends its supervision: it is not started again while the file stands."""
        return self.root / "suspended"

    def log(self, process: str) -> Path:
        return self.logs / f"{process}.log"

    def create(self) -> None:
        """Makes the folder and its rooms, closed to everybody else. Raises StateFolderUnusable."""
        rooms = (self.logs, self.prefect, self.targets, self.accounts, self.retired_accounts, self.runs)
        try:
            for room in (self.root, *rooms, self.evidence, self.bundles, self.seeds.parent, self.suspended):
                room.mkdir(parents=True, exist_ok=True)
            self.root.chmod(0o700)
        except OSError as error:
            raise _unusable(self.root, error.strerror or type(error).__name__) from None
        if not os.access(self.root, os.W_OK | os.X_OK):
            raise _unusable(self.root, "it cannot be written")


def _unusable(root: Path, why: str) -> StateFolderUnusable:
    return StateFolderUnusable(f"SLIPWAY_HOME: {root}: {why}; allowed: a folder that you can write, or none")


def write_private(path: Path, content: str, *, durable: bool = False) -> None:
    """Writes `content` so that a reader sees the old file or the new one, never half, and only its owner may read.

    `durable`: so does whoever reads it after the machine has lost its power, and what is written stays.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")  # made 0600
    try:
        with os.fdopen(handle, "w") as file:
            file.write(content)
            if durable:
                file.flush()
                os.fsync(file.fileno())
        Path(name).replace(path)
    except OSError:
        Path(name).unlink(missing_ok=True)
        raise
    if durable:
        _sync_folder(path.parent)


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def read_json(path: Path) -> dict[str, Any] | None:
    """The object in `path`; None where there is no such file or it does not hold one."""
    try:
        content = json.loads(path.read_text())
    except (FileNotFoundError, ValueError):
        return None
    return content if isinstance(content, dict) else None
