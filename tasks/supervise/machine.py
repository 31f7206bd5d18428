"""On which machine a process was noted, and in which boot of it: /proc knows of no other.

A process of an earlier boot of this machine is dead, whatever has its pid now. One of another machine is unknown.
"""

from __future__ import annotations

import hashlib
import os
import re
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

MACHINE_ID = Path("/etc/machine-id")
"""machine-id(5): 32 hexadecimal letters, made when the system was installed."""
BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
"""random(4): made anew by the kernel at each boot."""
PID_NAMESPACE = Path("/proc/self/ns/pid")
"""pid_namespaces(7): which processes /proc shows. No two that live under one kernel have the same number."""
INITIAL_NAMESPACE = "4026531836"
"""Of processes that are in no container (PROC_PID_INIT_INO, include/linux/proc_ns.h)."""
PARTS = 4


class MachineUnknown(Exception):
    """This system does not tell its boot, so nothing noted here could be told from another machine's. One line."""


class Seen(Enum):
    """What /proc of this machine can say of a process that was noted."""

    HERE = "here"
    """Whether it lives."""
    OVER = "over"
    """Nothing, and it needs not: it was of an earlier boot of this machine, so it is dead."""
    ELSEWHERE = "elsewhere"
    """Nothing: whether it lives is unknown."""


@dataclass(frozen=True)
class Machine:
    """A machine in one boot of it. `host`: its name, for people. `machine_id`: a hash of it, empty where it has none.

    `pid_namespace`: its number, empty where the system tells none.
    """

    host: str
    machine_id: str
    boot_id: str
    pid_namespace: str = ""

    def __str__(self) -> str:
        """As it is noted in the record."""
        return "/".join((self.host, self.machine_id, self.boot_id, self.pid_namespace))

    def sees(self, noted: str) -> Seen:
        """Whether a process that was noted with this text can be looked for here. Empty, as it once was: it can.

        Another boot is one of this machine only where both machine-id and name are the same: images are copied with
        their machine-id, and a machine that was renamed is no worse off than one that is not known. In a container
        neither tells a machine: the id is its image's, and the name is what its composition says.
        """
        if not noted:
            return Seen.HERE
        there = _noted(noted)
        if there is None:
            return Seen.ELSEWHERE
        if there.boot_id == self.boot_id:  # one kernel; a container next to this one has other processes in its /proc
            return Seen.HERE if there.pid_namespace == self.pid_namespace else Seen.ELSEWHERE
        same = bool(self.machine_id) and (there.machine_id, there.host) == (self.machine_id, self.host)
        return Seen.OVER if same and self.pid_namespace == INITIAL_NAMESPACE else Seen.ELSEWHERE


def host_of(noted: str) -> str:
    """The name of the machine that was noted; empty where none was."""
    return noted.partition("/")[0]


def same_machine(one: str, other: str) -> bool:
    """Whether two notes name one machine, in whatever boot."""
    return one.split("/")[:2] == other.split("/")[:2]


def one_clock(one: str, other: str) -> bool:
    """Whether times that were noted by these two machines are by one clock: of one kernel, since one boot of it."""
    here, there = _noted(one), _noted(other)
    return here is not None and there is not None and here.boot_id == there.boot_id


def _noted(text: str) -> Machine | None:
    parts = text.split("/")
    return Machine(*parts) if len(parts) == PARTS and parts[2] else None


def this_machine(
    machine_id: Path = MACHINE_ID, boot_id: Path = BOOT_ID, pid_namespace: Path = PID_NAMESPACE
) -> Machine:
    """This one. Without a machine-id, as in many containers, an earlier boot counts as another machine.

    Raises MachineUnknown where the kernel does not tell its boot.
    """
    try:
        boot = boot_id.read_text().strip()
    except OSError as error:
        raise MachineUnknown(f"{boot_id}: {error.strerror}; a guard needs to know in which boot it runs") from None
    if not re.fullmatch(r"[0-9a-f-]{36}", boot):
        raise MachineUnknown(f"{boot_id}: {boot[:40]!r} is no boot id; a guard needs to know in which boot it runs")
    host = re.sub(r"[^\w.-]", "_", os.uname().nodename) or "unnamed"
    return Machine(host, _hashed(machine_id), boot, _namespace(pid_namespace))


def _hashed(path: Path) -> str:
    """As machine-id(5) asks: the id itself is not shown around. Empty where there is none, or not yet one."""
    try:
        told = path.read_text().strip()
    except OSError:
        return ""
    return hashlib.sha256(f"slipway {told}".encode()).hexdigest()[:16] if re.fullmatch("[0-9a-f]{32}", told) else ""


def _namespace(path: Path) -> str:
    try:
        return re.sub(r"\D", "", str(path.readlink()))
    except OSError:
        return ""
