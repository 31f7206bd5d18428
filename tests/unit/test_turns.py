"""Whose turn it is: what a heap of times and numbers says, whatever is cancelled, long past or far ahead."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from bot.simulator.turns import Turn, Turns

START_NS = 1_000
AWAY_NS = st.sampled_from((-7, 0, 0, 1, 5, 5, 60, 10**15))
STEP = st.tuples(st.lists(AWAY_NS, max_size=3), st.none() | st.integers(0, 60))
"""What a turn does: it sets so many timers, and cancels one that was set before, fired or not."""


@settings(max_examples=60)
@given(st.lists(STEP, min_size=1, max_size=40))
def test_timers_fire_in_the_order_that_a_plain_list_of_them_has(steps: list[tuple[list[int], int | None]]) -> None:
    turns, fired, waiting = Turns(START_NS), list[tuple[int, int]](), dict[int, int]()
    timers, left = list[Turn](), iter(steps)

    def fire(number: int) -> None:
        assert (waiting[number], number) == min((at_ns, one) for one, at_ns in waiting.items())
        assert waiting.pop(number) == turns.now_ns
        fired.append((turns.now_ns, number))
        take_step()

    def take_step() -> None:
        set_away_ns, cancelled = next(left, ([], None))
        for away_ns in set_away_ns:
            number = len(timers)
            timers.append(Turn(fire, (number,), None))
            waiting[number] = turns.now_ns + max(0, away_ns)
            turns.at(turns.now_ns + away_ns, timers[-1])
        if cancelled is not None and cancelled < len(timers):
            timers[cancelled].cancel()
            waiting.pop(cancelled, None)

    turns.call_soon(take_step)
    turns.take()
    assert not waiting
    assert fired == sorted(fired)
