"""Kills one process of a rollout within one step, and proves that it died there.

The guard alone moves the record. So it is halted (SIGSTOP) as soon as the record stands at the step; what still stands
there then stays there, the victim is killed and seen dead, and only then the guard goes on. A cell whose step had
passed by the time the guard stood still is missed, and is never taken for one that was hit.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from sqlalchemy import Engine

from tasks.supervise.identity import Identity, wait_gone
from tests.chaos.moments import MOMENTS, Standing, look

LOOK_EVERY_S = 0.003
DEAD_WITHIN_S = 10.0


def _kill_each(victims: list[Identity]) -> None:
    for one in victims:
        os.kill(one.pid, signal.SIGKILL)


@dataclass(frozen=True)
class Target:
    """What the striker needs of the place where the rollout runs.

    `find`: the victim's processes as they are now; empty where there are none. `kill`: ends them at once. `again`:
    starts it anew, where nobody else does. `holds_record`: the record cannot be read while it is dead.
    """

    guard: Callable[[Standing], Identity]
    find: Callable[[Standing], list[Identity]]
    kill: Callable[[list[Identity]], None] = _kill_each
    again: Callable[[], None] = lambda: None
    holds_record: bool = False


@dataclass(frozen=True)
class Hit:
    """Where the record stood when the victim was dead, and which processes died (none where none was to be found)."""

    at: str
    pids: tuple[int, ...]


class Striker(threading.Thread):
    """Watches the record of one rollout until its step comes, and strikes once. `hit` None: not yet, or missed."""

    def __init__(self, engine: Engine, rollout: str, step: str, target: Target, *, must_find: bool) -> None:
        super().__init__(name=f"strike {step}", daemon=True)
        self.hit: Hit | None = None
        self.missed = ""
        self.error: Exception | None = None
        self._engine, self._rollout, self._target = engine, rollout, target
        self._is_there = MOMENTS[step]
        self._must_find = must_find
        self._over = threading.Event()

    def run(self) -> None:
        try:
            while not self._over.is_set() and self.hit is None and not self.missed:
                at = look(self._engine, self._rollout)
                if at is not None and at.ended:
                    self.missed = self.missed or f"its step was not seen before it was {at.step}"
                elif at is not None and self._is_there(at):
                    self._strike(at)
                self._over.wait(LOOK_EVERY_S)
        except Exception as error:  # noqa: BLE001 - told by `done`, in the thread of the test
            self.error = error

    def done(self) -> Hit | None:
        """Ends it. Raises what it has met."""
        self._over.set()
        self.join(30)
        if self.error is not None:
            raise self.error
        return self.hit

    def _strike(self, at: Standing) -> None:
        guard = self._target.guard(at)
        os.kill(guard.pid, signal.SIGSTOP)
        try:
            _until_halted(guard)
            now = look(self._engine, self._rollout)
            found = self._target.find(now) if now is not None else []
            if now is None or not self._is_there(now):
                self.missed = f"its step was over when the guard stood still: {now.shown() if now else 'gone'}"
                return
            if bool(found) != self._must_find:
                self.missed = f"{len(found)} processes to kill, while {now.shown()}"
                return
            if found:
                self._target.kill(found)
            left = wait_gone(found, DEAD_WITHIN_S)
            assert not left, f"still alive after SIGKILL: {left}"
            # Nobody writes while the guard stands still: what was read before the kill holds after it.
            after = now if self._target.holds_record else look(self._engine, self._rollout)
            self.hit = Hit(after.shown() if after else "gone", tuple(one.pid for one in found))
        finally:
            if guard.is_alive():
                os.kill(guard.pid, signal.SIGCONT)
            if self.hit is not None:
                self._target.again()


def _until_halted(guard: Identity) -> None:
    """Every thread of it stands still: the kernel says T for each."""
    end = time.monotonic() + DEAD_WITHIN_S
    while time.monotonic() < end:
        states = [_state(guard.pid, thread) for thread in os.listdir(f"/proc/{guard.pid}/task")]
        if all(state in ("T", "X", "Z", "") for state in states):
            return
        time.sleep(0.001)
    raise AssertionError(f"guard {guard.pid} was not halted within {DEAD_WITHIN_S:g} s")


def _state(pid: int, thread: str) -> str:
    try:
        with open(f"/proc/{pid}/task/{thread}/stat") as stat:
            return stat.read().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return ""
