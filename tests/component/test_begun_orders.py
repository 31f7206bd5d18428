"""Orders that leave at once and have no task: the same bytes, outcomes and counts as of those that are awaited."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from bot.domain.intent import AmendOrder, CancelOrder, PlaceOrder
from bot.domain.order import Side
from bot.simulator.listings import GENERATED
from bot.venues.bybit import calls
from bot.venues.port import Accepted, Ended, Outcome, Refused, Unknown
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
    if isinstance(intent, PlaceOrder):
        return await bench.adapter.place(intent, GENERATED)
    if isinstance(intent, AmendOrder):
        return await bench.adapter.amend(intent, GENERATED)
    return await bench.adapter.cancel(intent)


def outcomes_of(way: Callable[..., object], arm: Callable[[Bench], None], intents: list[Intents]) -> object:
    async def work(bench: Bench) -> object:
        arm(bench)
        found = [await way(bench, intent) for intent in intents]  # type: ignore[misc]
        latencies = [(name, labels) for name, labels, _ in bench.adapter.drain_observations()]
        return found, bench.orders, dict(bench.adapter.http_responses), latencies, bench.adapter.rate_limit_headroom

    return play(work, batches=False, trade_socket=False)


@pytest.mark.parametrize(
    "arm",
    [
        lambda _: None,
        lambda bench: bench.link.arm("refuse", "sim-1", {"request": "amend", "code": 10002}),
        lambda bench: bench.link.arm("refuse", "sim-1", {"request": "create", "code": 110007}),
        lambda bench: bench.link.arm("refuse", "sim-1", {"request": "cancel", "code": 10003}),
    ],
)
def test_what_comes_of_a_begun_order_is_what_comes_of_an_awaited_one(arm: Callable[[Bench], None]) -> None:
    intents: list[Intents] = [PLACE, AMEND, CANCEL, CANCEL]
    assert outcomes_of(begun, arm, intents) == outcomes_of(awaited, arm, intents)


def test_it_has_left_when_begin_returns_and_needs_no_turn_of_the_loop() -> None:
    async def work(bench: Bench) -> None:
        _, heard = begin(bench, PLACE)
        tasks = len(asyncio.all_tasks())
        await asyncio.sleep(0.0041)  # simulated time: it has arrived
        assert bench.orders == ["slwq-1-1"]
        assert len(asyncio.all_tasks()) == tasks
        await asyncio.sleep(ANSWERED_S)
        assert isinstance(heard[0], Accepted)

    play(work, batches=False, trade_socket=False)


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


@pytest.mark.parametrize(("batches", "trade_socket"), [(True, False), (False, True)])
def test_nothing_is_begun_where_orders_go_in_batches_or_by_the_trade_socket(batches: bool, trade_socket: bool) -> None:
    async def work(bench: Bench) -> None:
        heard: list[Ended] = []
        assert bench.adapter.begin(PLACE, GENERATED, heard.append) is None
        await asyncio.sleep(ANSWERED_S)  # simulated time
        assert (heard, bench.orders) == ([], [])

    play(work, batches=batches, trade_socket=trade_socket)


def test_a_create_without_filters_is_not_begun() -> None:
    async def work(bench: Bench) -> None:
        assert bench.adapter.begin(PLACE, None, lambda _: None) is None
        assert isinstance(await begun(bench, CANCEL), Accepted | Refused)

    play(work, batches=False, trade_socket=False)
