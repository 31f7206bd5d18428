"""Simulated time: an asyncio event loop whose clock jumps to the next timer, and never moves otherwise.

Time is integer nanoseconds. Timers fire one at a time, in the order of their times and, where those are equal, in the
order in which they were set; whatever one of them starts is run to its end before the next one fires. So every event
has a turn of its own, and a run repeats to the nanosecond. Threads, executors and sockets are refused: nothing that
they did would happen in simulated time.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from contextvars import Context
from decimal import getcontext
from typing import Never, TypeVarTuple, cast

from bot.simulator.turns import Turn, Turns

NS_PER_S = 1_000_000_000
_Ts = TypeVarTuple("_Ts")


class NothingLeft(RuntimeError):
    """Somebody waits, but no timer is set and nothing is ready: what it waits for can never happen."""


class Timeline(asyncio.BaseEventLoop):
    """`time()` is seconds since the start, so that floats stay exact to the nanosecond for months.

    `turns`: its core; whoever mounts a venue sets timers there. `now_ns()`: nanoseconds since the epoch, simulated.
    Callbacks and timers run without a context of their own unless they are given one.
    """

    def __init__(self, start_ns: int) -> None:
        super().__init__()
        self.turns = turns = Turns(start_ns)
        self.now_ns: Callable[[], int] = turns.now
        self.call_soon = turns.call_soon  # type: ignore[assignment,method-assign]  # asked several times for each event
        self.call_at = turns.call_at  # type: ignore[assignment,method-assign]  # as are these
        self.time = turns.time  # type: ignore[method-assign]
        self._home = threading.get_ident()
        self._signals: dict[int, Callable[[], asyncio.Handle]] = {}
        getcontext()  # tasks inherit it, and none has to make one of its own when it first counts in decimals

    def call_at_ns(self, when_ns: int, callback: Callable[[*_Ts], object], *args: *_Ts) -> asyncio.Handle:
        """As `call_at`, at an exact time. A time that has passed means now, after everything already set for now."""
        turn = Turn(callback, args, None)
        self.turns.at(when_ns, turn)
        return cast("asyncio.Handle", turn)

    def at_ns(self, when_ns: int, callback: Callable[[*_Ts], object], *args: *_Ts) -> None:
        """As `call_at_ns`, of what nobody will want to cancel."""
        self.turns.at(when_ns, Turn(callback, args, None))

    def stop(self) -> None:
        super().stop()
        self.turns.stopping = True

    def _run_once(self) -> None:
        """Everything until the loop is stopped: `run_forever` calls this again and again, and looks at nothing else."""
        turns = self.turns
        try:
            while not turns.stopping:
                try:
                    turns.take()
                except (SystemExit, KeyboardInterrupt):
                    raise
                except BaseException as error:  # noqa: BLE001 - as asyncio's own handles do
                    self.call_exception_handler({"message": "Exception in a callback", "exception": error})
                    continue
                if not turns.stopping:
                    raise NothingLeft(
                        "simulated time cannot go on: somebody waits, and nothing is left that could happen"
                    )
        finally:
            turns.stopping = False

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
