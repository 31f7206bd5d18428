"""Orders that leave at once and have no task: the same bytes, outcomes and counts as of those that are awaited."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from msgspec import structs

from bot.domain.intent import AmendOrder, CancelOrder, PlaceOrder
from bot.domain.order import Side
from bot.simulator.listings import GENERATED
from bot.venues.bybit import calls
from bot.venues.port import Accepted, Ended, Outcome, Refused, Unknown, Unreachable
from tests.support.entry_bench import Bench, play

PLACE = PlaceOrder(0, "slwq-1-1", "BTCUSDT", Side.BUY, 550_000, 10, 1)
AMEND = AmendOrder(0, "slwq-1-1", "BTCUSDT", 551_000, 10, 1)
CANCEL = CancelOrder(0, "slwq-1-1", "BTCUSDT")
Intents = PlaceOrder | AmendOrder | CancelOrder
ANSWERED_S = 0.05


def begin(bench: Bench, intent: Intents) -> tuple[asyncio.Future[object], list[Ended]]:
    heard: list[Ended] = []
    under_way = bench.adapter.begin(intent, GENERATED, heard.append)
    assert under_way is not None
    return under_way, heard


async def begun(bench: Bench, intent: Intents) -> Ended:
    _, heard = begin(bench, intent)
    await asyncio.sleep(ANSWERED_S)  # simulated time
    (outcome,) = heard
    return outcome


async def awaited(bench: Bench, intent: Intents) -> Outcome:
    asked_s = asyncio.get_running_loop().time()
    if isinstance(intent, PlaceOrder):
        outcome = await bench.adapter.place(intent, GENERATED)
    elif isinstance(intent, AmendOrder):
        outcome = await bench.adapter.amend(intent, GENERATED)
    else:
        outcome = await bench.adapter.cancel(intent)
    await asyncio.sleep(asked_s + ANSWERED_S - asyncio.get_running_loop().time())  # as long as the other way
    return outcome


WAYS = [(False, False), (True, False), (False, True), (True, True)]
"""(batches, trade_socket)"""


def outcomes_of(
    way: Callable[..., object], arm: Callable[[Bench], None], intents: list[Intents], by: tuple[bool, bool]
) -> object:
    async def work(bench: Bench) -> object:
        arm(bench)
        found = [await way(bench, intent) for intent in intents]  # type: ignore[misc]
        latencies = [(name, labels) for name, labels, _ in bench.adapter.drain_observations()]
        return found, bench.orders, dict(bench.adapter.http_responses), latencies, bench.adapter.rate_limit_headroom

    return play(work, batches=by[0], trade_socket=by[1])


@pytest.mark.parametrize("by", WAYS)
@pytest.mark.parametrize(
    "arm",
    [
        lambda _: None,
        lambda bench: bench.link.arm("refuse", "sim-1", {"request": "amend", "code": 10002}),
        lambda bench: bench.link.arm("refuse", "sim-1", {"request": "create", "code": 110007}),
        lambda bench: bench.link.arm("refuse", "sim-1", {"request": "cancel", "code": 10003}),
    ],
)
def test_what_comes_of_a_begun_order_is_what_comes_of_an_awaited_one(
    arm: Callable[[Bench], None], by: tuple[bool, bool]
) -> None:
    intents: list[Intents] = [PLACE, AMEND, CANCEL, CANCEL]
    assert outcomes_of(begun, arm, intents, by) == outcomes_of(awaited, arm, intents, by)


@pytest.mark.parametrize("trade_socket", [False, True])
def test_it_has_left_when_begin_returns_and_needs_no_turn_of_the_loop(trade_socket: bool) -> None:
    async def work(bench: Bench) -> None:
        tasks = len(asyncio.all_tasks())
        _, heard = begin(bench, PLACE)
        await asyncio.sleep(0.0041)  # simulated time: it has arrived
        assert bench.orders == ["slwq-1-1"]
        assert len(asyncio.all_tasks()) == tasks
        await asyncio.sleep(ANSWERED_S)
        assert isinstance(heard[0], Accepted)

    play(work, batches=False, trade_socket=trade_socket)


@pytest.mark.parametrize("trade_socket", [False, True])
def test_what_is_begun_in_one_turn_leaves_as_one_request_cancels_first_and_without_a_task(trade_socket: bool) -> None:
    others = [structs.replace(PLACE, client_order_id=f"slwq-1-{number}") for number in (2, 3)]

    async def work(bench: Bench) -> None:
        tasks = len(asyncio.all_tasks())
        begun_together = [begin(bench, intent) for intent in (PLACE, *others)]
        assert len({id(under_way) for under_way, _ in begun_together}) == 1, "one request"
        await asyncio.sleep(ANSWERED_S)  # simulated time
        assert [type(outcome) for _, heard in begun_together for outcome in heard] == [Accepted] * 3
        assert begun_together[0][0].done()
        at_venue = bench.orders
        again, cancelled = begin(bench, others[0]), begin(bench, CANCEL)
        assert len(asyncio.all_tasks()) == tasks
        await asyncio.sleep(ANSWERED_S)
        assert isinstance(again[1][0], Unknown), "that id was used"
        assert isinstance(cancelled[1][0], Accepted)
        assert (at_venue, bench.orders) == (["slwq-1-1", "slwq-1-2", "slwq-1-3"], ["slwq-1-2", "slwq-1-3"])
        by_rest = [bench.sent(path) for path in (calls.CREATE_BATCH, calls.CREATE, calls.CANCEL)]
        assert by_rest == ([0, 0, 0] if trade_socket else [1, 1, 1])

    play(work, trade_socket=trade_socket)


def test_of_what_was_gathered_only_what_a_grant_still_covers_leaves() -> None:
    other = structs.replace(PLACE, client_order_id="slwq-1-2", epoch=2)

    async def work(bench: Bench) -> None:
        bench.adapter._entry._permitted = lambda epoch: epoch == 2
        (_, first), (_, second) = begin(bench, PLACE), begin(bench, other)
        assert (first, second) == ([], []), "never told before begin has returned"
        await asyncio.sleep(ANSWERED_S)  # simulated time
        assert [type(outcome) for outcome in (*first, *second)] == [Unreachable, Accepted]
        assert bench.orders == ["slwq-1-2"]

    play(work, trade_socket=False)


@pytest.mark.parametrize("trade_socket", [False, True])
def test_what_was_gathered_and_is_given_up_before_it_leaves_does_not_leave(trade_socket: bool) -> None:
    async def work(bench: Bench) -> None:
        under_way, heard = begin(bench, PLACE)
        under_way.cancel()
        await asyncio.sleep(ANSWERED_S)  # simulated time
        assert [type(outcome) for outcome in heard] == [asyncio.CancelledError]
        assert bench.orders == []

    play(work, trade_socket=trade_socket)


@pytest.mark.parametrize("trade_socket", [False, True])
def test_who_closes_tells_all_that_is_under_way_and_keeps_none_of_it(trade_socket: bool) -> None:
    async def work(bench: Bench) -> None:
        _, left = begin(bench, PLACE)
        await asyncio.sleep(0.002)  # simulated time: it has left and is not there
        _, gathered = begin(bench, CANCEL)
        entry = bench.adapter._entry
        await entry.close()
        await asyncio.sleep(ANSWERED_S)
        assert [type(outcome) for outcome in (*left, *gathered)] == [asyncio.CancelledError] * 2
        assert (entry._open, entry._gathered) == ({}, {})

    play(work, trade_socket=trade_socket)


def test_a_refused_timestamp_is_told_once_the_clock_was_read_again() -> None:
    async def work(bench: Bench) -> None:
        read_before = bench.sent(calls.TIME)
        bench.link.arm("refuse", "sim-1", {"request": "create", "code": 10002})
        assert isinstance(await begun(bench, PLACE), Unknown)
        assert bench.sent(calls.TIME) == read_before + 1

    play(work, batches=False, trade_socket=False)


def test_what_is_given_up_is_told_as_cancelled_and_its_turn_is_not_kept() -> None:
    async def work(bench: Bench) -> None:
        under_way, heard = begin(bench, PLACE)
        under_way.cancel()
        await asyncio.sleep(ANSWERED_S)  # simulated time
        assert [type(outcome) for outcome in heard] == [asyncio.CancelledError]

    play(work, batches=False, trade_socket=False)


def test_a_create_without_filters_is_not_begun() -> None:
    async def work(bench: Bench) -> None:
        assert bench.adapter.begin(PLACE, None, lambda _: None) is None
        assert isinstance(await begun(bench, CANCEL), Accepted | Refused)

    play(work, batches=False, trade_socket=False)


@pytest.mark.parametrize("trade_socket", [False, True])
def test_who_fails_when_it_is_told_keeps_nobody_else_from_being_told_or_from_leaving(trade_socket: bool) -> None:
    others = [structs.replace(PLACE, client_order_id=f"slwq-1-{number}") for number in (2, 3)]

    async def work(bench: Bench) -> None:
        failed: list[object] = []
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda _, context: failed.append(str(context.get("exception"))))
        heard: list[Ended] = []

        def fails(_: Ended) -> None:
            raise RuntimeError("nobody expected it")

        bench.adapter.begin(PLACE, GENERATED, fails)
        for other in others:
            bench.adapter.begin(other, GENERATED, heard.append)
        await asyncio.sleep(ANSWERED_S)  # simulated time
        assert [type(outcome) for outcome in heard] == [Accepted, Accepted]
        bench.adapter._entry._permitted = lambda epoch: epoch != 1
        bench.adapter.begin(structs.replace(AMEND, epoch=1), GENERATED, fails)
        bench.adapter.begin(structs.replace(PLACE, client_order_id="slwq-1-4", epoch=2), GENERATED, heard.append)
        await asyncio.sleep(ANSWERED_S)
        assert [type(outcome) for outcome in heard[2:]] == [Accepted]
        assert failed == ["nobody expected it"] * 2

    play(work, trade_socket=trade_socket)


@pytest.mark.parametrize("by", WAYS)
@pytest.mark.parametrize("begins_to_close", ["in the same turn", "later"])
def test_who_closes_while_the_clock_is_read_again_leaves_nobody_untold(
    by: tuple[bool, bool], begins_to_close: str
) -> None:
    async def work(bench: Bench) -> None:
        entry = bench.adapter._entry
        settling = entry.settle_later
        bench.link.arm("refuse", "sim-1", {"request": "create", "code": 10002})
        reached = asyncio.Event()

        def noted(*args: Any) -> None:
            settling(*args)
            reached.set()
            if begins_to_close == "in the same turn":
                for task in entry._tasks:
                    task.cancel()

        entry.settle_later = noted  # type: ignore[method-assign,assignment]
        _, heard = begin(bench, PLACE)
        await reached.wait()
        await entry.close()
        assert [type(outcome) for outcome in heard] == [asyncio.CancelledError]
        assert (entry._open, entry._gathered, entry._tasks) == ({}, {}, set())

    play(work, batches=by[0], trade_socket=by[1])


@pytest.mark.parametrize("trade_socket", [False, True])
def test_who_closes_has_told_all_when_it_returns_though_their_holder_gave_them_up_before(trade_socket: bool) -> None:
    async def work(bench: Bench) -> None:
        under_way, given_up = begin(bench, PLACE)
        await asyncio.sleep(0.002)  # simulated time: it has left and is not there
        _, kept = begin(bench, AMEND)
        await asyncio.sleep(0.001)
        under_way.cancel()
        await bench.adapter._entry.close()
        assert [type(outcome) for outcome in (*given_up, *kept)] == [asyncio.CancelledError] * 2

    play(work, trade_socket=trade_socket)


def test_what_is_decided_after_a_gathered_order_was_given_up_leaves_all_the_same() -> None:
    async def work(bench: Bench) -> None:
        under_way, given_up = begin(bench, PLACE)
        under_way.cancel()
        _, heard = begin(bench, structs.replace(PLACE, client_order_id="slwq-1-2"))
        await asyncio.sleep(ANSWERED_S)  # simulated time
        assert [type(outcome) for outcome in (*given_up, *heard)] == [asyncio.CancelledError, Accepted]
        assert bench.orders == ["slwq-1-2"]

    play(work)


@pytest.mark.parametrize("batches", [False, True])
def test_a_request_that_cannot_be_begun_by_rest_is_not_counted_as_under_way_for_ever(batches: bool) -> None:
    async def work(bench: Bench) -> None:
        def odd(*_: object) -> None:
            raise RuntimeError("nobody expected it")

        heard: list[Ended] = []
        rest = bench.adapter._rest
        begins, rest._begin = rest._begin, odd  # type: ignore[assignment]
        try:
            bench.adapter.begin(PLACE, GENERATED, heard.append)
        except RuntimeError as error:
            heard.append(error)
        await asyncio.sleep(ANSWERED_S)  # simulated time
        rest._begin = begins
        assert [str(outcome) for outcome in heard] == ["nobody expected it"]
        assert rest.limits.bucket(calls.CREATE).under_way == 0

    play(work, batches=batches, trade_socket=False)
