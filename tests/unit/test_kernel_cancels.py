"""A cancel-all of the kernel lane made of single cancels is told as the worst of them, as the process tells it."""

from __future__ import annotations

import pytest

from bot.simulator.bybit_access import V5Error
from bot.simulator.kernel_requests import Tally
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
    tally = Tally("stop-1", len(answers))
    told = [tally.told(1, answer) for answer in answers]
    assert told[:-1] == [None] * (len(answers) - 1)
    assert told[-1] is not None
    assert (told[-1].outcome, told[-1].key) == (word, "stop-1")
