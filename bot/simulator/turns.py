"""Whose turn it is in simulated time: callbacks in the order in which they were asked for, then the next timer. Pure.

The clock is an attribute here and moves only when a timer fires. Whoever sets many timers makes a kind of `Timer` of
its own: it carries what it needs, and nothing is packed into arguments and unpacked again.
"""

from __future__ import annotations

from collections.abc import Callable
from contextvars import Context
from typing import Final

NS_PER_S: Final = 1_000_000_000
_EXACT_BELOW: Final = 2.0**52
"""Below it a float has a place for halves."""


class Timer:
    """What happens at a set time. One that was cancelled stays where it is until that time and moves no clock."""

    is_cancelled: bool = False
    at_ns: int = 0
    number: int = 0
    """Of those of one moment, the lower one's turn is first."""
    later: Timer | None = None
    """The one after it, where both wait."""

    def fire(self) -> None:
        raise NotImplementedError

    def cancel(self) -> None:
        self.is_cancelled = True


class Queued(Timer):
    """A timer of a queue."""

    queue: Queue | None = None
    next: Queued | None = None


class Queue:
    """Timers that are set in the order of their times, as those of one delay are: only the first is among the others.

    Most time-outs are cancelled before anybody looks at them, and then cost no place there.
    """

    def __init__(self) -> None:
        self.first: Queued | None = None
        self.last: Queued | None = None


class Turn(Timer):
    """A callback's turn. Where nobody gave it a context it runs without one: the copy costs as much as the turn."""

    _source_traceback: None = None
    """What asyncio looks for on a handle of its own."""

    def __init__(self, callback: Callable[..., object], args: tuple[object, ...], context: Context | None) -> None:
        self._callback = callback
        self._args = args
        self._context = context
        self.next: Turn | None = None
        """whose turn is after this one, where both wait for theirs"""

    def fire(self) -> None:
        callback, args, context = self._callback, self._args, self._context
        count = len(args)
        if context is None:
            if count == 0:
                callback()
            elif count == 1:
                callback(args[0])
            else:
                callback(*args)
        elif count == 0:
            context.run(callback)
        elif count == 1:
            context.run(callback, args[0])
        else:
            context.run(callback, *args)

    def cancelled(self) -> bool:
        return self.is_cancelled

    def __repr__(self) -> str:
        return f"<turn of {self._callback!r}>"


class Turns:
    """Every event has a turn of its own. Timers of one moment fire in the order in which they were set."""

    def __init__(self, start_ns: int) -> None:
        self.now_ns = start_ns
        self.stopping = False
        """Looked at between two turns."""
        self._start_ns = start_ns
        self._first: Turn | None = None
        self._last: Turn | None = None
        self._soonest: Timer | None = None
        self._latest: Timer | None = None
        self._timers_set = 0

    def now(self) -> int:
        """Nanoseconds since the epoch, simulated."""
        return self.now_ns

    def call_soon(self, callback: Callable[..., object], *args: object, context: Context | None = None) -> Turn:
        """As an asyncio loop's."""
        turn = Turn(callback, args, context)
        last = self._last
        if last is None:
            self._first = turn
        else:
            last.next = turn
        self._last = turn
        return turn

    def time(self) -> float:
        """As an asyncio loop's: seconds since the start."""
        return (self.now_ns - self._start_ns) / NS_PER_S

    def ns_at(self, when: float) -> int:
        """The loop's float time as nanoseconds since the epoch."""
        value = when * NS_PER_S
        if not 0.0 <= value < _EXACT_BELOW:
            return self._start_ns + round(value)
        whole = int(value)  # from here on as `round` does it, which compiled is a call of Python's
        part = value - whole
        return self._start_ns + (whole + 1 if part > 0.5 or (part == 0.5 and whole % 2) else whole)

    def call_at(
        self, when: float, callback: Callable[..., object], *args: object, context: Context | None = None
    ) -> Turn:
        """As an asyncio loop's."""
        turn = Turn(callback, args, context)
        self.at(self.ns_at(when), turn)
        return turn

    def at(self, when_ns: int, timer: Timer) -> None:
        """Set a timer that is not set. A time that has passed means now, after everything already set for now."""
        self._timers_set = number = self._timers_set + 1
        self._set(when_ns if when_ns > self.now_ns else self.now_ns, number, timer)

    def _set(self, when_ns: int, number: int, timer: Timer) -> None:
        """A chain, not a heap: few wait at a time, most of those that are set are among the next to fire."""
        timer.at_ns, timer.number = when_ns, number
        latest = self._latest
        if latest is None:
            self._soonest = self._latest = timer
            return
        if when_ns > latest.at_ns or (when_ns == latest.at_ns and number > latest.number):
            latest.later = self._latest = timer
            return
        before: Timer | None = None
        after = self._soonest
        while after is not None and (after.at_ns < when_ns or (after.at_ns == when_ns and after.number < number)):
            before, after = after, after.later
        timer.later = after
        if before is None:
            self._soonest = timer
        else:
            before.later = timer

    def queue(self, queue: Queue, when_ns: int, timer: Queued) -> None:
        """As `at`; `when_ns` is not before that of the last one in the queue."""
        self._timers_set = number = self._timers_set + 1
        timer.at_ns, timer.number, timer.queue = when_ns, number, queue
        last, queue.last = queue.last, timer
        if last is None:
            queue.first = timer
            self._set(when_ns, number, timer)
        else:
            last.next = timer

    def _advance(self, queue: Queue) -> None:
        """Its first timer has had its time: the next that still waits takes its place."""
        first = queue.first
        timer: Queued | None = None
        if first is not None:
            timer, first.next = first.next, None  # one by one: a chain would be let go of in a call within a call
        while timer is not None and timer.is_cancelled:
            following, timer.next = timer.next, None
            timer = following
        queue.first = timer
        if timer is None:
            queue.last = None
        else:
            self._set(timer.at_ns, timer.number, timer)

    def take(self) -> None:
        """Turns and, where none is waiting, the next timer, until `stopping` or until nothing is left.

        Raises what a callback raises: its turn is over then.
        """
        while not self.stopping:
            turn = self._first
            if turn is not None:
                following = turn.next
                self._first = following
                if following is None:
                    self._last = None
                else:
                    turn.next = None  # whoever keeps a handle keeps no others by it
                if not turn.is_cancelled:
                    turn.fire()
                continue
            timer = self._soonest
            if timer is None:
                return
            later = timer.later
            self._soonest = later
            if later is None:
                self._latest = None
            else:
                timer.later = None
            if isinstance(timer, Queued) and timer.queue is not None:
                self._advance(timer.queue)
            if not timer.is_cancelled:
                self.now_ns = timer.at_ns
                timer.fire()
