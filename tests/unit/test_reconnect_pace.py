"""How long a stream waits before it connects again: doubling up to a ceiling, and spread, so that many do not come at
once."""

from __future__ import annotations

from random import Random
from typing import Any, cast

import pytest

from bot.venues.bybit.sockets import BACKOFF_FIRST_S, BACKOFF_MAX_S, Stream


class Waiting(Stream):
    """A stream that is never connected."""

    def __init__(self, seed: int) -> None:
        super().__init__("public", "wss://x", cast("Any", None), lambda _event: None, lambda: 1, Random(seed))

    def waits_s(self, attempts: int) -> list[float]:
        return [self._backoff_s() for _ in range(attempts)]


CEILINGS_S = [BACKOFF_FIRST_S * 2**attempt for attempt in range(6)] + [BACKOFF_MAX_S] * 20


@pytest.mark.parametrize("seed", [1, 2])
def test_each_failed_attempt_doubles_the_wait_up_to_a_ceiling(seed: int) -> None:
    assert CEILINGS_S[:8] == [0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 10.0, 10.0]
    waits_s = Waiting(seed).waits_s(len(CEILINGS_S))
    for wait_s, ceiling_s in zip(waits_s, CEILINGS_S, strict=True):
        assert ceiling_s / 2 <= wait_s <= ceiling_s
    at_ceiling_s = waits_s[6:]
    assert max(at_ceiling_s) - min(at_ceiling_s) > BACKOFF_MAX_S / 4, "nearly the whole half is used"


def test_under_one_seed_they_repeat_and_under_another_they_do_not_meet() -> None:
    assert Waiting(1).waits_s(12) == Waiting(1).waits_s(12)
    apart = zip(Waiting(1).waits_s(12), Waiting(2).waits_s(12), strict=True)
    assert all(one != other for one, other in apart)
