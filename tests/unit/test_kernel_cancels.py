"""A cancel-all of the kernel lane made of single cancels is told as the worst of them, as the process tells it."""

from __future__ import annotations

from typing import Any

import pytest

from bot.domain.intent import CancelAll
from bot.simulator.bybit_access import V5Error
from bot.simulator.kernel import Kernel
from bot.simulator.kernel_words import NotLeft

DONE = None
GONE = V5Error(110001, "order not exists or too late to cancel")
REFUSED = V5Error(10001, "params error")
UNKNOWN = V5Error(10006, "Too many visits.")
NOT_LEFT = NotLeft("the rate limit is reached")


@pytest.mark.parametrize(
    ("answers", "word"),
    [
        ([DONE, GONE], "accepted"),
        ([DONE, REFUSED], "refused"),
        ([DONE, NOT_LEFT], "unreachable"),
        ([NOT_LEFT, REFUSED, DONE], "unreachable"),
        ([REFUSED, UNKNOWN, NOT_LEFT], "unknown"),
    ],
)
def test_the_worst_answer_counts(answers: list[V5Error | None], word: str) -> None:
    kernel, coming, told = Kernel.__new__(Kernel), iter(answers), list[Any]()
    kernel.now_ns = 1
    kernel.request = lambda act, answered, path: answered(next(coming))  # type: ignore[method-assign]
    kernel.tell_all = told.extend  # type: ignore[method-assign,assignment]
    kernel._cancel_each(CancelAll(1, "stop-1", ("BTCUSDT",), "why"), [None] * len(answers))  # type: ignore[list-item]
    assert [event.outcome for event in told] == [word]
