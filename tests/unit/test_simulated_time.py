"""The virtual clock: it jumps to the next timer, gives every event a turn, and refuses what has no simulated time."""

import asyncio
import threading
import time
from collections.abc import Coroutine
from typing import Any

import pytest

from bot.simulator.timeline import NothingLeft, Timeline

START_NS = 1_767_225_600_000_000_000


def play(timeline: Timeline, work: Coroutine[Any, Any, Any]) -> Any:
    with asyncio.Runner(loop_factory=lambda: timeline) as runner:
        return runner.run(work)


def test_a_simulated_day_of_sleep_takes_no_time_and_ends_to_the_nanosecond() -> None:
    timeline = Timeline(START_NS)
    began = time.monotonic()
    play(timeline, asyncio.sleep(86_400.000_000_001))
    assert timeline.now_ns() == START_NS + 86_400_000_000_001
    assert time.monotonic() - began < 1


def test_timers_of_one_moment_fire_in_the_order_in_which_they_were_set_each_with_a_turn_of_its_own() -> None:
    timeline = Timeline(START_NS)
    seen: list[str] = []

    def first() -> None:
        seen.append("first")
        timeline.call_soon(seen.append, "what the first one started")

    async def work() -> None:
        timeline.call_at_ns(START_NS + 10, first)
        timeline.call_at_ns(START_NS + 10, seen.append, "second")
        timeline.call_at_ns(START_NS + 5, seen.append, "earlier")
        await asyncio.sleep(1)

    play(timeline, work())
    assert seen == ["earlier", "first", "what the first one started", "second"]


def test_a_cancelled_timer_moves_no_clock() -> None:
    timeline = Timeline(START_NS)

    async def work() -> int:
        timeline.call_at_ns(START_NS + 7, lambda: None).cancel()
        await asyncio.sleep(0.000_000_009)
        return timeline.now_ns() - START_NS

    assert play(timeline, work()) == 9


def test_time_outs_happen_in_simulated_time() -> None:
    timeline = Timeline(START_NS)

    async def work() -> None:
        async with asyncio.timeout(20):
            await asyncio.Event().wait()

    with pytest.raises(TimeoutError):
        play(timeline, work())
    assert timeline.now_ns() == START_NS + 20_000_000_000


def test_waiting_for_what_can_never_happen_is_an_error_and_not_a_hang() -> None:
    timeline = Timeline(START_NS)
    with pytest.raises(NothingLeft):
        timeline.run_until_complete(asyncio.Event().wait())


def test_threads_and_executors_are_refused() -> None:
    timeline = Timeline(START_NS)

    async def work() -> None:
        await asyncio.to_thread(time.sleep, 0)

    with pytest.raises(RuntimeError, match="executor cannot take part"):
        play(timeline, work())
    other = Timeline(START_NS)
    refused: list[str] = []

    def from_elsewhere() -> None:
        try:
            other.call_soon_threadsafe(lambda: None)
        except RuntimeError as error:
            refused.append(str(error))

    thread = threading.Thread(target=from_elsewhere)
    thread.start()
    thread.join()
    other.close()
    assert refused == ["a thread cannot take part in simulated time"]


def test_the_next_day_of_tenths_of_a_second_stays_on_its_grid() -> None:
    timeline = Timeline(START_NS)

    async def work() -> int:
        due = timeline.time()
        for _ in range(20_000):
            due += 0.1
            await asyncio.sleep(due - timeline.time())
        return abs(timeline.now_ns() - START_NS - 2_000_000_000_000)

    assert play(timeline, work()) <= 10
