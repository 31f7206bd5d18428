"""What will happen in the kernel lane, soonest first; equal times in the order of setting. Pure.

A chain, not a heap: what lies ahead of a happening is a handful, and most of what is set takes one of three constant
times, so that it comes after the last that took as long. `Line` says where that one stands, and nobody looks further
ahead than from there.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, final

if TYPE_CHECKING:
    from bot.simulator.kernel import Kernel


class Due:
    """Something that happens at a time."""

    when_ns: int = 0
    is_set: bool = False
    after: Due | None = None
    """What happens next after it, while it is set."""

    def happen(self, kernel: Kernel) -> None:
        raise NotImplementedError


@final
class Call(Due):
    """Whatever else there is: `happened(what)`."""

    def __init__(self, happened: Callable[[Any], None], what: object) -> None:
        self._happened = happened
        self._what = what

    def happen(self, _: Kernel) -> None:
        self._happened(self._what)


@final
class Line:
    """Happenings that take equally long: each comes after the one before it."""

    def __init__(self) -> None:
        self.last: Due | None = None


@final
class Agenda:
    """`put` and `pop`, each the cost of a few comparisons."""

    def __init__(self) -> None:
        self._start = Due()  # before everything, so that nothing is first of all
        self._at_once = self._start

    def put(self, due: Due, when_ns: int) -> None:
        """After everything that is due until then."""
        self._put_after(self._start, due, when_ns)

    def put_in_line(self, line: Line, due: Due, when_ns: int) -> None:
        """The same, sooner found."""
        last = line.last
        line.last = due
        if last is not None and last.is_set and last.when_ns <= when_ns:
            self._put_after(last, due, when_ns)
        else:
            self._put_after(self._start, due, when_ns)

    def put_at_once(self, due: Due, now_ns: int) -> None:
        """Before anything else that is due now, and after what was put so: as a task goes on that waits for nothing."""
        before = self._at_once
        if not before.is_set or before.when_ns != now_ns:  # it has happened, be it set again for later
            before = self._start
        self._at_once = due
        self._put_between(before, due, before.after, now_ns)

    def _put_after(self, before: Due, due: Due, when_ns: int) -> None:
        after = before.after
        while after is not None and after.when_ns <= when_ns:
            before, after = after, after.after
        self._put_between(before, due, after, when_ns)

    def _put_between(self, before: Due, due: Due, after: Due | None, when_ns: int) -> None:
        due.when_ns = when_ns
        due.is_set = True
        due.after = after
        before.after = due

    def pop(self) -> Due:
        """What happens next. Raises IndexError where nothing is left that could happen."""
        due = self._start.after
        if due is None:
            raise IndexError("nothing is left that could happen")
        self._start.after = due.after
        due.after = None
        due.is_set = False
        return due
