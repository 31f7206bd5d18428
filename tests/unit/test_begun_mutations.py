"""What leaves without a task of its own: looked at again when it is written, told whatever happens, kept in order."""

from __future__ import annotations

import asyncio
import gc
import warnings
from collections.abc import Awaitable, Callable
from typing import Any, cast

from msgspec import structs

from bot.domain.intent import AmendOrder, CancelOrder, Intent, PlaceOrder
from bot.domain.order import Side
from bot.engine.recovery import instrument_of
from bot.runtime.grant import GrantHolder
from bot.runtime.sender import Sender
from bot.runtime.symbol_filters import SymbolFilters
from bot.venues.bybit import calls
from bot.venues.bybit.adapter import BybitAdapter
from bot.venues.bybit.rate_limits import ADDRESS_REQUESTS_MAX, CANCEL_RESERVE
from bot.venues.port import Accepted, Ended, Outcome, Unreachable, VenuePort, VenueUnknown
from tests.support.engine_driver import START, SYMBOL, filters
from tests.support.scripted_venue import HOSTS, NOW_NS, ScriptedTransport, refused

INSTRUMENT = instrument_of(filters(START))
PLACE = PlaceOrder(START, "slwq-1-1", SYMBOL, Side.BUY, 1, 1, 1)
AMEND = AmendOrder(START, "slwq-1-2", SYMBOL, 2, 1, 1, "amend 2")
CANCEL = CancelOrder(START, "slwq-1-3", SYMBOL, "", "cancel 3")


class Holder(GrantHolder):
    def valid(self, epoch: int, now_ns: int) -> bool:
        return True


def adapter_on(transport: ScriptedTransport, permitted: Callable[[int], bool] = lambda _: True) -> BybitAdapter:
    return BybitAdapter(
        HOSTS, "key-0123456789ab", "the-secret", [SYMBOL], lambda: NOW_NS,
        transport=transport, permitted=permitted, trade_socket=False, batches=False,
    )  # fmt: skip


def creates(transport: ScriptedTransport) -> int:
    return sum(url.endswith(calls.CREATE) for _, url, _, _ in transport.requests)


def test_a_grant_that_lapsed_before_the_create_is_written_keeps_it_here() -> None:
    async def run() -> tuple[list[Ended], int, dict[tuple[str, str], int]]:
        transport, holds, heard = ScriptedTransport(), [True], list[Ended]()
        transport.always(calls.CREATE, {"orderId": "v"})
        adapter = adapter_on(transport, lambda _: holds[0])
        before = dict(adapter.http_responses)
        assert adapter.begin(PLACE, INSTRUMENT, heard.append) is not None
        holds[0] = False
        await asyncio.sleep(0.01)
        changed = {key: count for key, count in adapter.http_responses.items() if count != before[key]}
        return heard, creates(transport), changed

    heard, sent, changed = asyncio.run(run())
    assert [type(outcome) for outcome in heard] == [Unreachable]
    assert (sent, changed) == (0, {})


def test_what_is_given_up_before_it_is_written_leaves_nothing_behind() -> None:
    async def run() -> tuple[list[str], int]:
        transport, heard = ScriptedTransport(), list[Ended]()
        transport.always(calls.CREATE, {"orderId": "v"})
        under_way = adapter_on(transport).begin(PLACE, INSTRUMENT, heard.append)
        assert under_way is not None
        under_way.cancel()
        await asyncio.sleep(0.01)
        return [type(outcome).__name__ for outcome in heard], creates(transport)

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert asyncio.run(run()) == (["CancelledError"], 0)


def test_an_error_while_the_clock_is_read_again_is_told_too() -> None:
    async def run() -> list[Ended]:
        transport, heard = ScriptedTransport(), list[Ended]()
        transport.then(calls.CREATE, refused(10002))
        transport.then(calls.TIME, RuntimeError("nobody expected it"))
        assert adapter_on(transport).begin(PLACE, INSTRUMENT, heard.append) is not None
        await asyncio.sleep(0.01)
        return heard

    assert [str(outcome) for outcome in asyncio.run(run())] == ["nobody expected it"]


class Port:
    """Begins what it is told to, and keeps what it heard of."""

    def __init__(self, fails_on: type | None = None) -> None:
        self.fails_on = fails_on
        self.came: list[str] = []
        self.begun: list[tuple[asyncio.Future[Any], Callable[[Ended], None]]] = []

    def begin(self, intent: Any, _: object, ended: Callable[[Ended], None]) -> asyncio.Future[Any]:
        if self.fails_on is type(intent):
            raise RuntimeError("nobody expected it")
        self.came.append(intent.client_order_id)
        future = asyncio.get_running_loop().create_future()
        self.begun.append((future, ended))
        return future

    async def cancel_all(self, _: str) -> Outcome:
        self.came.append("all")
        return Accepted()


def sender_on(port: Port) -> tuple[Sender, list[str]]:
    failed = list[str]()
    sender = Sender(
        cast(VenuePort, port), Holder("a"), lambda: START, lambda _: None, lambda _, where: failed.append(where)
    )
    sender.instruments[SYMBOL] = INSTRUMENT
    return sender, failed


def on_sender(port: Port, work: Callable[[Sender], Awaitable[object]]) -> tuple[object, list[str]]:
    async def run() -> tuple[object, list[str]]:
        sender, failed = sender_on(port)
        try:
            return await work(sender), failed
        finally:
            await sender.close()

    return asyncio.run(run())


def test_one_that_cannot_be_begun_keeps_no_other_from_leaving() -> None:
    port, intents = Port(fails_on=AmendOrder), list[Intent]([AMEND, PLACE, CANCEL])

    async def work(sender: Sender) -> None:
        sender.send(intents)

    assert on_sender(port, work) == (None, ["sending AmendOrder"])
    assert port.came == ["slwq-1-3", "slwq-1-1"]


def test_an_answer_that_is_not_told_yet_leaves_its_create_uncertain() -> None:
    """Its timestamp was refused, and until the clock has been read again nobody is told of it."""
    port = Port()

    async def work(sender: Sender) -> float:
        sender.send([PLACE])
        port.begun[0][0].set_result(None)
        assert await sender.settle(0.01)
        return sender.late_s(5.0)

    assert on_sender(port, work) == (5.0, [])


def test_an_answer_that_comes_while_the_sender_closes_starts_no_read() -> None:
    port = Port()

    async def work(sender: Sender) -> None:
        class Filters:
            def doubt(self, *_: object) -> bool:
                return True

            async def look(self, _: str) -> None:
                port.came.append("look")

        sender.filters = cast(SymbolFilters, Filters())
        sender.send([PLACE])
        under_way, ended = port.begun[0]
        under_way.add_done_callback(lambda _: ended(Accepted("v")))
        under_way.set_result(None)
        await sender.close()
        await asyncio.sleep(0.01)

    on_sender(port, work)
    assert port.came == ["slwq-1-1"]


def test_what_was_begun_counts_for_the_address_before_it_is_written() -> None:
    async def run() -> tuple[bool, bool]:
        transport = ScriptedTransport()
        transport.always(calls.CREATE, {"orderId": "v"})
        adapter = adapter_on(transport)
        for _ in range(ADDRESS_REQUESTS_MAX - CANCEL_RESERVE - 1):
            adapter._rest.limits.sent(NOW_NS // 1_000_000)
        found = [adapter.begin(PLACE, INSTRUMENT, lambda _: None) is not None for _ in range(2)]
        await asyncio.sleep(0.01)
        return found[0], found[1]

    assert asyncio.run(run()) == (True, False)


def test_of_a_shared_future_those_that_were_not_told_yet_are_still_under_way() -> None:
    """Of a batch some are told at once that they did not leave; the others may still arrive."""
    port = Port()

    async def work(sender: Sender) -> tuple[bool, float, float]:
        shared = asyncio.get_running_loop().create_future()
        heard: list[Callable[[Ended], None]] = []

        def begin(_: object, __: object, ended: Callable[[Ended], None]) -> asyncio.Future[Any]:
            heard.append(ended)
            return shared

        sender._begins = begin
        sender.send([PLACE, structs.replace(PLACE, client_order_id="slwq-1-4")])
        heard[0](Unreachable("too many"))
        waited = await sender.settle(0.01)
        late_s = sender.late_s(5.0)
        heard[1](Accepted("v"))
        assert not await sender.settle(0.01)
        sender.send([structs.replace(PLACE, client_order_id="slwq-1-5")])
        await sender.close()
        assert shared.cancelled()
        return waited, late_s, len(heard)

    assert on_sender(port, work) == ((True, 5.0, 3), [])


def test_a_clock_that_cannot_be_read_is_nobody_s_mistake_where_all_who_waited_were_cancelled() -> None:
    async def run() -> list[object]:
        unexpected: list[object] = []
        asyncio.get_running_loop().set_exception_handler(lambda _, context: unexpected.append(context))
        transport = ScriptedTransport()
        transport.then(calls.CREATE, refused(10002))
        adapter = adapter_on(transport)

        async def slow(*_: object) -> None:
            await asyncio.sleep(0.002)
            raise VenueUnknown("no answer")

        adapter._rest._read_now = slow  # type: ignore[method-assign,assignment]
        adapter.begin(PLACE, INSTRUMENT, lambda _: None)
        while adapter._rest._syncing is None:  # noqa: ASYNC110 - nobody says when
            await asyncio.sleep(0)
        await adapter._entry.close()
        await asyncio.sleep(0.01)
        adapter._rest._syncing = None
        gc.collect()
        return unexpected

    assert asyncio.run(run()) == []
