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
from typing import Any, Never, TypeVarTuple

NS_PER_S = 1_000_000_000
_Ts = TypeVarTuple("_Ts")


class NothingLeft(RuntimeError):
    """Somebody waits, but no timer is set and nothing is ready: what it waits for can never happen."""


class _Turn(asyncio.Handle):
    """A callback's turn. Where nobody gave it a context it runs without one: the copy costs as much as the turn."""

    __slots__ = ()

    def __init__(self, callback: Callable[..., object], args: tuple[object, ...], context: Context | None) -> None:
        self._callback = callback
        self._args = args
        self._context = context
        self._cancelled = False

    def cancel(self) -> None:
        self._cancelled = True

    def __repr__(self) -> str:
        return f"<turn of {self._callback!r}>"


class Timeline(asyncio.BaseEventLoop):
    """`time()` is seconds since the start, so that floats stay exact to the nanosecond for months."""

    _stopping: bool
    """The base class's own: `stop` sets it, and only between two turns is it looked at."""

    def __init__(self, start_ns: int) -> None:
        super().__init__()
        self._start_ns = self._now_ns = start_ns
        self._turn: deque[asyncio.Handle] = deque()
        self._timers: list[tuple[int, int, Callable[..., object] | None, Any]] = []
        """(when, number, callback, its arguments), or (when, number, None, a handle that may be cancelled)."""
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
        handle = _Turn(callback, args, context)
        self._turn.append(handle)
        return handle

    def call_at(
        self, when: float, callback: Callable[[*_Ts], object], *args: *_Ts, context: Context | None = None
    ) -> asyncio.TimerHandle:
        handle = asyncio.TimerHandle(when, callback, args, self, context)
        self._set_timer(self.ns_at(when), handle)
        return handle

    def call_at_ns(self, when_ns: int, callback: Callable[[*_Ts], object], *args: *_Ts) -> asyncio.Handle:
        """As `call_at`, at an exact time. A time that has passed means now, after everything already set for now."""
        handle = _Turn(callback, args, None)
        self._set_timer(when_ns, handle)
        return handle

    def at_ns(self, when_ns: int, callback: Callable[[*_Ts], object], *args: *_Ts) -> None:
        """As `call_at_ns`, of what nobody will want to cancel: it costs less."""
        self._timers_set = number = self._timers_set + 1
        heappush(self._timers, (when_ns if when_ns > self._now_ns else self._now_ns, number, callback, args))

    def ns_at(self, when: float) -> int:
        """The loop's float time as nanoseconds since the epoch."""
        return self._start_ns + round(when * NS_PER_S)

    def _set_timer(self, when_ns: int, handle: asyncio.Handle) -> None:
        self._timers_set += 1
        heappush(self._timers, (max(when_ns, self._now_ns), self._timers_set, None, handle))

    def _timer_handle_cancelled(self, handle: asyncio.TimerHandle) -> None:
        """A cancelled timer stays in the heap until its time and is passed over there."""

    def _run_once(self) -> None:
        """Everything until the loop is stopped: `run_forever` calls this again and again, and looks at nothing else."""
        while not self._stopping:
            try:
                self._take_turns()
            except (SystemExit, KeyboardInterrupt, NothingLeft):
                raise
            except BaseException as error:  # noqa: BLE001 - as asyncio's own handles do
                self.call_exception_handler({"message": "Exception in a callback", "exception": error})

    def _take_turns(self) -> None:
        """Turns and, where none is waiting, the next timer. Raises what a callback raises: its turn is over then."""
        turns, timers = self._turn, self._timers
        handle: Any
        while not self._stopping:
            if turns:
                handle = turns.popleft()
            elif timers:
                when_ns, _, callback, args = heappop(timers)
                if callback is not None:
                    self._now_ns = when_ns
                    callback(*args)
                    continue
                handle = args
                if handle._cancelled:
                    continue
                self._now_ns = when_ns
            else:
                raise NothingLeft("simulated time cannot go on: somebody waits, and nothing is left that could happen")
            if handle._cancelled:
                continue
            if handle._context is None:
                handle._callback(*handle._args)
            else:
                handle._context.run(handle._callback, *handle._args)

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
