"""Simulated time: an asyncio event loop whose clock jumps to the next timer, and never moves otherwise.

Time is integer nanoseconds. Timers fire one at a time, in the order of their times and, where those are equal, in the
order in which they were set; whatever one of them starts is run to its end before the next one fires. So every event
has a turn of its own, and a run repeats to the nanosecond. Threads, executors and sockets are refused: nothing that
they did would happen in simulated time.
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Callable
from contextvars import Context
from heapq import heappop, heappush
from typing import Never, TypeVarTuple

NS_PER_S = 1_000_000_000
_Ts = TypeVarTuple("_Ts")


class NothingLeft(RuntimeError):
    """Somebody waits, but no timer is set and nothing is ready: what it waits for can never happen."""


class _Turn(asyncio.Handle):
    """A callback's turn. Where nobody gave it a context it runs without one: the copy costs as much as the turn."""

    __slots__ = ()

    def __init__(
        self, callback: Callable[..., object], args: tuple[object, ...], loop: Timeline, context: Context | None
    ) -> None:
        self._callback = callback
        self._args = args
        self._loop = loop
        self._context = context
        self._cancelled = False
        self._repr = None
        self._source_traceback = None

    def run(self) -> None:
        """Never raises but to end the process: what a callback raises goes to the loop's exception handler."""
        try:
            if self._context is None:
                self._callback(*self._args)
            else:
                self._context.run(self._callback, *self._args)
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException as error:  # noqa: BLE001 - as asyncio's own handles do
            shown = {"message": f"Exception in callback {self._callback!r}", "exception": error, "handle": self}
            self._loop.call_exception_handler(shown)


class Timeline(asyncio.BaseEventLoop):
    """`time()` is seconds since the start, so that floats stay exact to the nanosecond for months."""

    def __init__(self, start_ns: int) -> None:
        super().__init__()
        self._start_ns = self._now_ns = start_ns
        self._turn: deque[asyncio.Handle] = deque()
        self._timers: list[tuple[int, int, asyncio.Handle]] = []
        self._timers_set = 0
        self._home = threading.get_ident()
        self._signals: dict[int, Callable[[], asyncio.Handle]] = {}

    def now_ns(self) -> int:
        """Nanoseconds since the epoch, simulated."""
        return self._now_ns

    def time(self) -> float:
        return (self._now_ns - self._start_ns) / NS_PER_S

    def call_soon(
        self, callback: Callable[[*_Ts], object], *args: *_Ts, context: Context | None = None
    ) -> asyncio.Handle:
        handle = _Turn(callback, args, self, context)
        self._turn.append(handle)
        return handle

    def call_at(
        self, when: float, callback: Callable[[*_Ts], object], *args: *_Ts, context: Context | None = None
    ) -> asyncio.TimerHandle:
        return self._set_timer(self.ns_at(when), asyncio.TimerHandle(when, callback, args, self, context))

    def call_at_ns(self, when_ns: int, callback: Callable[[*_Ts], object], *args: *_Ts) -> asyncio.Handle:
        """As `call_at`, at an exact time. A time that has passed means now, after everything already set for now."""
        handle = _Turn(callback, args, self, None)
        self._timers_set += 1
        heappush(self._timers, (when_ns if when_ns > self._now_ns else self._now_ns, self._timers_set, handle))
        return handle

    def ns_at(self, when: float) -> int:
        """The loop's float time as nanoseconds since the epoch."""
        return self._start_ns + round(when * NS_PER_S)

    def _set_timer(self, when_ns: int, handle: asyncio.TimerHandle) -> asyncio.TimerHandle:
        self._timers_set += 1
        heappush(self._timers, (max(when_ns, self._now_ns), self._timers_set, handle))
        return handle

    def _timer_handle_cancelled(self, handle: asyncio.TimerHandle) -> None:
        """A cancelled timer stays in the heap until its time and is passed over there."""

    def _run_once(self) -> None:
        if not self._turn:
            self._jump()
        for _ in range(len(self._turn)):
            handle = self._turn.popleft()
            if not handle._cancelled:
                if type(handle) is _Turn:
                    handle.run()
                else:
                    handle._run()

    def _jump(self) -> None:
        while self._timers:
            when_ns, _, handle = heappop(self._timers)
            if not handle._cancelled:
                self._now_ns = when_ns
                self._turn.append(handle)
                return
        raise NothingLeft("simulated time cannot go on: somebody waits, and nothing is left that could happen")

    # ---- what a process has and a simulation has not --------------------------------------------------------------

    def call_soon_threadsafe(
        self, callback: Callable[[*_Ts], object], *args: *_Ts, context: Context | None = None
    ) -> asyncio.Handle:
        if threading.get_ident() != self._home:
            raise RuntimeError("a thread cannot take part in simulated time")
        return self.call_soon(callback, *args, context=context)

    def run_in_executor(self, executor: object, func: Callable[[*_Ts], object], *args: *_Ts) -> Never:
        raise RuntimeError(f"{func!r}: an executor cannot take part in simulated time")

    def add_signal_handler(self, sig: int, callback: Callable[[*_Ts], object], *args: *_Ts) -> None:
        self._signals[sig] = lambda: self.call_soon(callback, *args)

    def remove_signal_handler(self, sig: int) -> bool:
        return self._signals.pop(sig, None) is not None

    def deliver_signal(self, sig: int) -> None:
        """Run the handler that was added for that signal. Raises KeyError where there is none."""
        self._signals[sig]()
