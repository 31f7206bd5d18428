"""Which process is meant: a PID alone is reused by the kernel, a PID with its start time is not."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

MARK = "SLIPWAY_STACK"
"""Set in the environment of every child of one supervisor, and so of its children's children: what a killed supervisor
left is found by it."""
SHOWN_WITHIN_S = 1.0


@dataclass(frozen=True)
class Identity:
    """A process: its PID, and its start in clock ticks since boot (field 22 of /proc/PID/stat, proc(5)).

    `over`: it was of a boot that has ended, so it is dead, and what has its numbers now is another process.
    """

    pid: int
    started_ticks: int
    over: bool = False

    def is_alive(self) -> bool:
        """True while exactly this process runs. A zombie is dead: it holds nothing any more."""
        state = None if self.over else _stat(self.pid)
        return state is not None and state[0] not in ("Z", "X") and state[1] == self.started_ticks

    def send(self, signal_number: int) -> None:
        """Signals the process' group where it leads one, else the process alone; if it still is this process."""
        if not self.is_alive():
            return
        try:
            os.killpg(self.pid, signal_number)
        except (PermissionError, ProcessLookupError):  # it leads no group of ours: the process alone
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, signal_number)


def _stat(pid: int) -> tuple[str, int] | None:
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return None
    fields = text.rpartition(")")[2].split()  # the name in brackets may hold spaces and brackets
    return fields[0], int(fields[19])


def identify(pid: int) -> Identity | None:
    """The identity of the process that has this PID now; None where there is none (or only a zombie)."""
    state = _stat(pid)
    if state is None or state[0] in ("Z", "X"):
        return None
    return Identity(pid, state[1])


def spawn(
    command: Sequence[str], environment: Mapping[str, str], log: Path, directory: Path
) -> subprocess.Popen[bytes]:
    """Starts `command` in a session of its own, with both streams appended to `log` and nothing to read.

    A log that cannot be opened keeps nobody from running: what it would have said is lost. It returns when the child
    can be found by what it carries, which execve(2) shows only after it has let go of what `Popen` waits for.
    """
    with _opened(log) as stream:
        child = subprocess.Popen(
            list(command),
            env=dict(environment),
            cwd=directory,
            stdin=subprocess.DEVNULL,
            stdout=stream,
            stderr=stream,
            start_new_session=True,
        )
    end = time.monotonic() + SHOWN_WITHIN_S
    while environment and not _shown(child.pid) and time.monotonic() < end and child.poll() is None:
        time.sleep(0.001)
    return child


def _shown(pid: int) -> bool:
    """Whether /proc shows what the process carries: it shows nothing before execve(2) is through."""
    with contextlib.suppress(OSError):
        return bool(Path(f"/proc/{pid}/environ").read_bytes())
    return False


def _opened(log: Path) -> BinaryIO:
    try:
        log.parent.mkdir(parents=True, exist_ok=True)
        return log.open("ab")
    except OSError:
        return Path(os.devnull).open("ab")


def stop(identities: Sequence[Identity], grace_s: float) -> list[Identity]:
    """SIGTERM to all, SIGKILL to what still lives after `grace_s`; returns those that live even after that."""
    for identity in identities:
        identity.send(signal.SIGTERM)
    left = wait_gone(identities, grace_s)
    for identity in left:
        identity.send(signal.SIGKILL)
    return wait_gone(left, 5.0)


def wait_gone(identities: Sequence[Identity], deadline_s: float) -> list[Identity]:
    """Waits until none lives or the deadline has passed; returns those that still do."""
    end = time.monotonic() + deadline_s
    left = [identity for identity in identities if identity.is_alive()]
    while left and time.monotonic() < end:
        time.sleep(0.02)
        left = [identity for identity in left if identity.is_alive()]
    return left


def marked(mark: str) -> list[Identity]:
    """Every live process whose environment carries this stack's mark, oldest first; never this one."""
    found: list[Identity] = []
    wanted = f"{MARK}={mark}".encode()
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        try:
            environment = (entry / "environ").read_bytes().split(b"\0")
        except (FileNotFoundError, PermissionError, ProcessLookupError):
            continue
        if wanted in environment and (identity := identify(int(entry.name))) is not None:
            found.append(identity)
    return sorted(found, key=lambda identity: identity.started_ticks)


def carrying(word: str, in_command: str) -> list[Identity]:
    """Every live process with `word` in its environment whose command line holds `in_command`."""
    found: list[Identity] = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        try:
            environment = (entry / "environ").read_bytes().split(b"\0")
            command = (entry / "cmdline").read_bytes()
        except (FileNotFoundError, PermissionError, ProcessLookupError):
            continue
        if word.encode() in environment and in_command.encode() in command:
            found += [identity] if (identity := identify(int(entry.name))) is not None else []
    return found


def find_marked(mark: str, command: Sequence[str]) -> Identity | None:
    """The live process of this stack that was started with this command, or it and more words behind; else None."""
    wanted = b"\0".join(word.encode() for word in command)
    for identity in marked(mark):
        try:
            found = Path(f"/proc/{identity.pid}/cmdline").read_bytes()
        except (FileNotFoundError, ProcessLookupError):
            continue
        if found.startswith(wanted + b"\0"):
            return identity
    return None
