"""The virtual clock: it jumps to the next timer, gives every event a turn, and refuses what has no simulated time."""

import asyncio
import threading
import time
from collections.abc import Coroutine
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bot.simulator.link import Late
from bot.simulator.timeline import NothingLeft, Timeline
from bot.simulator.turns import Queue, Turns
from bot.venues.transport import NoAnswer

START_NS = 1_767_225_600_000_000_000


def play(timeline: Timeline, work: Coroutine[Any, Any, Any]) -> Any:
    with asyncio.Runner(loop_factory=lambda: timeline) as runner:
        return runner.run(work)


def test_a_simulated_day_of_sleep_takes_no_time_and_ends_to_the_nanosecond() -> None:
    timeline = Timeline(START_NS)
    began = time.monotonic()
    play(timeline, asyncio.sleep(86_400.000_000_001))
    assert timeline.now_ns() == START_NS + 86_400_000_000_001
    assert time.monotonic() - began < 60


@given(st.one_of(st.floats(-1.0, 1e9), st.integers(0, 10**7).map(lambda halves: halves * 0.5e-9), st.just(1e200)))
def test_a_time_in_seconds_is_the_nearest_nanosecond_and_of_two_the_even_one(when: float) -> None:
    assert Turns(0).ns_at(when) == round(when * 1_000_000_000)


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


def test_timers_with_and_without_a_handle_keep_the_order_in_which_they_were_set() -> None:
    timeline = Timeline(START_NS)
    seen: list[int] = []

    async def work() -> None:
        timeline.at_ns(START_NS + 10, seen.append, 1)
        timeline.call_at_ns(START_NS + 10, seen.append, 2)
        timeline.at_ns(START_NS - 10, seen.append, 0)
        timeline.at_ns(START_NS + 10, seen.append, 3)
        await asyncio.sleep(1)

    play(timeline, work())
    assert seen == [0, 1, 2, 3]


def test_what_a_timer_raises_goes_to_the_handler_and_the_next_one_fires_all_the_same() -> None:
    timeline = Timeline(START_NS)
    seen: list[object] = []

    def fail(what: str) -> None:
        raise ValueError(what)

    async def work() -> None:
        timeline.set_exception_handler(lambda _loop, context: seen.append(str(context["exception"])))
        timeline.at_ns(START_NS + 10, fail, "without a handle")
        timeline.call_at_ns(START_NS + 20, fail, "with one")
        timeline.call_soon(fail, "at once")
        timeline.at_ns(START_NS + 30, seen.append, "the next")
        await asyncio.sleep(1)

    play(timeline, work())
    assert seen == ["at once", "without a handle", "with one", "the next"]


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


def test_timers_of_a_queue_fire_among_the_others_as_if_each_were_alone_and_cancelled_ones_move_no_clock() -> None:
    timeline = Timeline(0)
    turns, queue = timeline.turns, Queue()
    answered = {name: timeline.create_future() for name in "abcde"}
    lates = {name: Late(future, 1.0) for name, future in answered.items()}
    seen: list[tuple[int, str]] = []

    def look() -> None:
        seen.append((turns.now_ns, "".join(name for name, future in answered.items() if future.done())))

    turns.queue(queue, 10, lates["a"])
    timeline.at_ns(20, look)
    for name, when_ns in (("b", 20), ("c", 20), ("d", 30)):
        turns.queue(queue, when_ns, lates[name])
    timeline.at_ns(20, look)
    lates["b"].cancel()
    lates["d"].cancel()
    turns.take()
    assert seen == [(20, "a"), (20, "ac")]
    assert turns.now_ns == 20
    turns.queue(queue, 40, lates["e"])
    turns.take()
    assert turns.now_ns == 40
    for name in "ace":
        assert isinstance(answered[name].exception(), NoAnswer)
    timeline.close()
