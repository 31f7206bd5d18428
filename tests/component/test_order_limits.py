"""Order entry never asks a venue for more than it takes: buckets, what an address may ask, and clocks that are off."""

from __future__ import annotations

import asyncio

import pytest

from bot.venues.bybit import calls
from bot.venues.bybit.rate_limits import (
    ADDRESS_REQUESTS_MAX,
    ADDRESS_WINDOW_MS,
    CANCEL_RESERVE,
    RESET_MAX_MS,
    SHUT_OUT_MS,
    WINDOW_MS,
    RateLimits,
)
from bot.venues.port import Accepted, Unknown, Unreachable, VenueUnreachable
from tests.support.entry_bench import Bench, play

WAYS = pytest.mark.parametrize(
    "way",
    [{"trade_socket": False, "batches": False}, {"batches": False}, {"trade_socket": False}, {}],
    ids=["by REST", "by socket", "in a batch by REST", "in a batch by socket"],
)


@WAYS
def test_of_more_than_an_endpoint_still_takes_the_rest_does_not_leave(way: dict[str, bool]) -> None:
    """Each would be answered that it is one too many, and be of unknown outcome for it."""
    eight = [10 + number for number in range(8)]

    async def work(bench: Bench) -> None:
        if way.get("batches", True):
            await asyncio.gather(*(bench.place(number) for number in range(8)))
        else:
            for number in range(8):
                await bench.place(number)
        outcomes = await asyncio.gather(*(bench.place(number) for number in eight))
        assert [type(outcome) for outcome in outcomes] == [Accepted] * 2 + [Unreachable] * 6
        assert all("rate limit" in outcome.detail for outcome in outcomes if isinstance(outcome, Unreachable))
        assert len(bench.orders) == 10
        gone = await asyncio.gather(*(bench.cancel(number) for number in range(8)), bench.cancel(10), bench.cancel(11))
        assert all(isinstance(outcome, Accepted) for outcome in gone), "cancels have a bucket of their own"
        await asyncio.sleep(1.0)  # simulated time, until the bucket is full again
        again = await asyncio.gather(*(bench.place(20 + number) for number in range(12)))
        assert [type(outcome) for outcome in again] == [Accepted] * 10 + [Unreachable] * 2

    play(work, **way)


@WAYS
def test_of_a_first_turn_nothing_is_known_and_after_it_the_venue_is_believed(way: dict[str, bool]) -> None:
    async def work(bench: Bench) -> None:
        outcomes = await asyncio.gather(*(bench.place(number) for number in range(12)))
        assert [type(outcome) for outcome in outcomes] == [Accepted] * 10 + [Unknown] * 2
        refused = await asyncio.gather(bench.place(20), bench.place(21))
        assert all(isinstance(outcome, Unreachable) and "rate limit" in outcome.detail for outcome in refused)

    play(work, **way)


def test_an_address_that_is_shut_out_asks_nothing_for_ten_minutes_but_to_cancel() -> None:
    async def work(bench: Bench) -> None:
        assert isinstance(await bench.place(1), Accepted)
        bench.link.arm("http_error", "sim-1", {"status": "403"})
        assert isinstance(await bench.place(2), Unknown)
        refused = await bench.place(3)
        assert isinstance(refused, Unreachable)
        assert f"{SHUT_OUT_MS} ms" in refused.detail
        with pytest.raises(VenueUnreachable):
            await bench.adapter.position("BTCUSDT")
        assert bench.sent(calls.POSITIONS) == 0
        assert isinstance(await bench.cancel(1), Accepted), "a cancel is tried all the same"
        assert isinstance(await bench.adapter.cancel_all("BTCUSDT"), Accepted)
        await asyncio.sleep(SHUT_OUT_MS / 1_000)  # simulated time
        assert isinstance(await bench.place(4), Accepted)
        await bench.adapter.position("BTCUSDT")

    play(work, batches=False, trade_socket=False)


def test_an_endpoint_that_is_said_to_be_exhausted_is_not_asked_until_it_takes_more() -> None:
    async def work(bench: Bench) -> None:
        outcomes = [await bench.place(number) for number in range(12)]
        assert [type(outcome) for outcome in outcomes] == [Accepted] * 10 + [Unreachable] * 2
        assert bench.sent(calls.CREATE) == 10
        assert isinstance(await bench.cancel(3), Accepted)
        for _ in range(8):  # reads wait for their turn instead
            await bench.adapter.fee_rates("BTCUSDT")

    play(work, batches=False, trade_socket=False)


def test_of_what_an_address_may_ask_a_part_is_kept_for_cancels() -> None:
    limits = RateLimits()
    for number in range(ADDRESS_REQUESTS_MAX - CANCEL_RESERVE):
        assert limits.wait_ms(calls.CREATE, number, is_cancel=False) == 0
        limits.sent(number)
    now_ms = ADDRESS_REQUESTS_MAX - CANCEL_RESERVE
    assert limits.wait_ms(calls.CREATE, now_ms, is_cancel=False) == ADDRESS_WINDOW_MS - now_ms
    for _ in range(CANCEL_RESERVE):
        assert limits.wait_ms(calls.CANCEL, now_ms, is_cancel=True) == 0
        limits.sent(now_ms)
    assert limits.wait_ms(calls.CANCEL, now_ms, is_cancel=True) > 0
    limits.sent(ADDRESS_WINDOW_MS + now_ms)
    assert limits.wait_ms(calls.CREATE, ADDRESS_WINDOW_MS + now_ms, is_cancel=False) == 0


NOW_MS = 1_767_225_600_000


def said(left: int, resets_ms: int, limit: int = 10) -> dict[str, str]:
    """Headers of an answer."""
    return {
        "x-bapi-limit": str(limit),
        "x-bapi-limit-status": str(left),
        "x-bapi-limit-reset-timestamp": str(resets_ms),
    }


def test_a_moment_that_no_bucket_can_mean_silences_no_endpoint() -> None:
    limits = RateLimits()
    limits.heard(calls.CANCEL, said(0, NOW_MS + 700), NOW_MS)
    assert limits.wait_ms(calls.CANCEL, NOW_MS, is_cancel=True) == 700
    limits.heard(calls.CANCEL, said(0, NOW_MS * 1_000), NOW_MS)  # in microseconds
    assert limits.wait_ms(calls.CANCEL, NOW_MS, is_cancel=True) == RESET_MAX_MS
    assert limits.wait_ms(calls.CANCEL, NOW_MS + RESET_MAX_MS, is_cancel=True) == 0


def take(limits: RateLimits, wanted: int, now_ms: int, path: str = calls.CREATE) -> int:
    return limits.take(path, wanted, now_ms, is_cancel=path in (calls.CANCEL, calls.CANCEL_BATCH))


def test_what_is_under_way_is_not_counted_by_the_venue_yet_and_by_us_already() -> None:
    limits = RateLimits()
    assert take(limits, 3, NOW_MS) == 3
    limits.heard(calls.CREATE, said(9, NOW_MS + 900), NOW_MS + 10)
    assert take(limits, 20, NOW_MS + 10) == 7, "two of three are still on their way there"


def test_what_never_left_comes_back_and_what_nobody_answered_does_not() -> None:
    limits = RateLimits()
    take(limits, 1, NOW_MS)
    limits.heard(calls.CREATE, said(9, NOW_MS + 900), NOW_MS)
    assert take(limits, 9, NOW_MS + 1) == 9
    limits.returned(calls.CREATE, 4)
    limits.unheard(calls.CREATE, 5)
    assert take(limits, 9, NOW_MS + 2) == 4


def test_the_count_is_forgotten_at_the_reset_and_the_whole_limit_is_there_again() -> None:
    limits = RateLimits()
    take(limits, 8, NOW_MS)
    limits.heard(calls.CREATE, said(2, NOW_MS + 600), NOW_MS + 5, taken=8)
    assert take(limits, 9, NOW_MS + 599) == 2
    assert take(limits, 9, NOW_MS + 599) == 0
    assert take(limits, 20, NOW_MS + 600) == 10


@pytest.mark.parametrize("resets_ms", [0, NOW_MS, NOW_MS + 7], ids=["none", "now", "now by another clock"])
def test_without_a_moment_of_reset_the_count_is_forgotten_a_second_after_the_last_answer(resets_ms: int) -> None:
    limits = RateLimits()
    take(limits, 8, NOW_MS - 5)
    limits.heard(calls.CREATE, said(2, resets_ms), NOW_MS, taken=8)
    assert take(limits, 9, NOW_MS + 900) == 2
    limits.heard(calls.CREATE, {}, NOW_MS + 950, taken=2)
    assert limits.wait_ms(calls.CREATE, NOW_MS + 950, is_cancel=False) == WINDOW_MS
    assert take(limits, 20, NOW_MS + 950 + WINDOW_MS) == 10


def test_answers_of_one_window_that_overtake_each_other_give_nothing_back() -> None:
    limits = RateLimits()
    take(limits, 2, NOW_MS)
    limits.heard(calls.CREATE, said(4, NOW_MS + 600), NOW_MS + 5)
    limits.heard(calls.CREATE, said(5, NOW_MS + 600), NOW_MS + 6)
    assert take(limits, 9, NOW_MS + 7) == 3, "four less the one that was under way then"


def test_a_cancel_is_held_back_by_the_word_of_the_venue_alone() -> None:
    limits = RateLimits()
    take(limits, 8, NOW_MS, calls.CANCEL_BATCH)
    limits.heard(calls.CANCEL_BATCH, said(2, NOW_MS + 600), NOW_MS, taken=8)
    assert take(limits, 6, NOW_MS, calls.CANCEL_BATCH) == 6, "by our count four too many"
    limits.heard(calls.CANCEL_BATCH, said(0, NOW_MS + 600), NOW_MS, taken=6)
    assert take(limits, 6, NOW_MS, calls.CANCEL_BATCH) == 0


def test_a_clock_that_is_put_right_leaves_no_endpoint_waiting_for_the_time_it_showed() -> None:
    """A bucket's moment, the count of the address and its time outside are as far away as they were."""

    async def work(bench: Bench) -> None:
        bench.link.arm("clock_skew", "", {"ms": 60_000})
        await bench.place(0)  # its time was refused, and the clock read again
        for number in range(10):
            await bench.place(1 + number)
        assert "rate limit" in getattr(await bench.place(20), "detail", "")
        bench.link.arm("clock_skew", "", {"ms": 0})
        await bench.cancel(1)  # so is this one's
        assert isinstance(await bench.place(21), Unreachable), "the second is not over"
        await asyncio.sleep(WINDOW_MS / 1_000)  # simulated time
        assert isinstance(await bench.place(22), Accepted)

    play(work, batches=False, trade_socket=False)


def test_a_clock_that_is_read_after_waiting_for_its_turn_is_not_off_by_the_wait() -> None:
    async def work(bench: Bench) -> None:
        rest = bench.adapter._rest
        before_ms = rest.clock_offset_ms
        for _ in range(ADDRESS_REQUESTS_MAX - CANCEL_RESERVE):
            rest.limits.sent(rest.venue_now_ms() - ADDRESS_WINDOW_MS + 1_000)
        loop = asyncio.get_running_loop()
        began_s = loop.time()
        await rest.sync_clock()
        assert loop.time() - began_s >= 1.0, "it had to wait"
        assert abs(rest.clock_offset_ms - before_ms) <= 1

    play(work)


@pytest.mark.parametrize("number", ["9" * 400, "9" * 5_000, "٣", "-1", "1.5", ""])
def test_a_header_that_is_no_number_that_means_anything_says_nothing(number: str) -> None:
    """An answer with it is an answer all the same."""
    for name in said(3, NOW_MS + 900):
        limits = RateLimits()
        take(limits, 1, NOW_MS)
        limits.heard(calls.CREATE, {**said(3, NOW_MS + 900), name: number}, NOW_MS)
        assert limits.headroom == ({calls.CREATE: 0.3} if "reset" in name else {})
        assert 3 <= take(limits, 20, NOW_MS + 1) <= 20
