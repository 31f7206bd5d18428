"""The kill switch tried again and again until it is proven: for a venue that stays away longer than anybody foresaw.

Each try is a whole run by itself, with a session and a key of its own, and proves by its own reads alone. So nothing
grows with the time it takes, and a key that was changed meanwhile is found. What it says is bounded too.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Final

from bot.runtime.kill_switch_report import Report

TRY_S_MAX: Final = 600.0
LINES_MAX: Final = 200
"""Different lines that are said; one more tells that there are others."""


class Sparing:
    """Says each line once, and of many different ones only LINES_MAX: days of the same trouble are a page of log."""

    def __init__(self, say: Callable[[str], None]) -> None:
        self._say = say
        self._said: set[str] = set()

    def __call__(self, line: str) -> None:
        if line in self._said or len(self._said) > LINES_MAX:
            return
        self._said.add(line)
        self._say(line if len(self._said) <= LINES_MAX else f"{LINES_MAX} different lines were said; others are not")


def until_proven(
    one: Callable[[float], Report],
    first_s: float,
    say: Callable[[str], None],
    keep: Callable[[Report], object],
    wait: Callable[[float], None] = time.sleep,
    pause_s: float = 1.0,
) -> Report:
    """The report of the first try that proves what was asked; there is no other end.

    `one`: a try of so many seconds. Each lasts twice as long as the one before, to TRY_S_MAX: the first may be too
    short for a venue that answers slowly. `keep`: given every report of one that failed. `say`: a line a try, always.
    """
    for_s, tries = min(first_s, TRY_S_MAX), 0
    while (report := one(for_s)).exit_code:
        tries += 1
        keep(report)
        for_s = min(2 * for_s, TRY_S_MAX)
        say(f"not proven after {tries} of its tries{_why(report.errors)}; the next lasts {for_s:g} s")
        wait(pause_s)
    return report


def _why(errors: Sequence[str]) -> str:
    return f" ({errors[0]})" if errors else ""
