"""Symbols that become known while the public stream comes up are asked for as the venue takes it: a few at a time."""

from __future__ import annotations

import asyncio
import json
from random import Random
from typing import Any, cast

import msgspec
import pytest

from bot.domain.events import BookDelta, BookSnapshot, TradePrinted
from bot.domain.instrument import Instrument, unlisted
from bot.simulator.listings import GENERATED
from bot.venues.bybit.decode import Grid
from bot.venues.bybit.public_stream import PublicStream
from bot.venues.bybit.sockets import TOPICS_PER_REQUEST, StreamRefused

SUBSCRIBED = json.dumps({"success": True, "ret_msg": "", "op": "subscribe", "conn_id": "c"})


def test_no_request_names_more_topics_than_the_venue_takes() -> None:
    async def run() -> list[list[str]]:
        first: Instrument = unlisted("AUSDT")
        grids = {"AUSDT": Grid(first)}
        stream = PublicStream("wss://x", cast("Any", None), lambda _event: None, lambda: 1, Random(1), grids)
        stream._greet()
        for letter in "BCDEFGH":
            grids[f"{letter}USDT"] = Grid(unlisted(f"{letter}USDT"))
            stream.add(f"{letter}USDT")
        stream._take(SUBSCRIBED)
        assert stream.is_up
        requests = []
        while not stream._outbox.empty():
            requests.append(json.loads(cast("str", stream._outbox.get_nowait()))["args"])
        return requests

    requests = asyncio.run(run())
    assert max(map(len, requests)) <= TOPICS_PER_REQUEST
    assert {topic.rpartition(".")[2] for topics in requests for topic in topics} == {f"{one}USDT" for one in "ABCDEFGH"}


def test_a_stream_of_which_every_symbol_is_refused_ends_and_one_answer_that_comes_twice_is_one() -> None:
    async def run() -> None:
        grids = {symbol: Grid(unlisted(symbol)) for symbol in ("AUSDT", "BUSDT")}
        stream = PublicStream("wss://x", cast("Any", None), lambda _event: None, lambda: 1, Random(1), grids)

        def answer(number: int, *, taken: bool) -> None:
            stream._take(json.dumps({"success": taken, "ret_msg": "no", "op": "subscribe", "req_id": str(number)}))

        stream._greet()
        answer(1, taken=False)  # of both: 2 and 3 ask for each alone
        answer(2, taken=False)
        answer(2, taken=False)
        assert not stream.is_up
        with pytest.raises(StreamRefused, match="subscribe: no"):
            answer(3, taken=False)
        stream._greet()
        answer(4, taken=True)
        assert stream.is_up

    asyncio.run(run())


def test_of_a_refused_symbol_nothing_is_told_before_its_subscription_is_taken_whatever_comes_of_it() -> None:
    def book(update_id: int, kind: str = "snapshot") -> str:
        rows = {"s": "BUSDT", "b": [["1", "1"]], "a": [["2", "1"]], "u": update_id, "seq": update_id}
        return json.dumps({"topic": "orderbook.50.BUSDT", "type": kind, "ts": 1, "cts": 1, "data": rows})

    async def run() -> list[str]:
        told: list[str] = []
        grids = {symbol: Grid(unlisted(symbol)) for symbol in ("AUSDT", "BUSDT")}
        stream = PublicStream(
            "wss://x", cast("Any", None), lambda event: told.append(type(event).__name__), lambda: 1, Random(1), grids
        )

        def answer(number: int, *, taken: bool) -> None:
            stream._take(json.dumps({"success": taken, "ret_msg": "no", "op": "subscribe", "req_id": str(number)}))

        stream._greet()
        answer(1, taken=False)  # of both: 2 and 3 ask for each alone
        answer(2, taken=True)
        answer(3, taken=False)
        stream._take(book(1))
        stream._pinging()
        stream._take(json.dumps({"success": False, "ret_msg": "not subscribed", "op": "unsubscribe"}))
        answer(4, taken=True)
        stream._take(book(2, "delta"))
        stream._take(book(3))
        return told

    assert asyncio.run(run()) == ["BookLost", "StreamUp", "BookSnapshot"]


def test_whichever_book_changes_each_is_read_as_its_own() -> None:
    """One name begins with the other, and a print is of neither book."""
    events: list[Any] = []
    grids = {symbol: Grid(msgspec.structs.replace(GENERATED, symbol=symbol)) for symbol in ("AUSDT", "AUSDTB")}
    stream = PublicStream("wss://x", cast("Any", None), events.append, lambda: 1, Random(1), grids)

    def book(kind: str, symbol: str, update_id: int) -> str:
        data = {"s": symbol, "b": [["5.1", "0.01"]], "a": [["5.2", "0.01"]], "u": update_id, "seq": update_id}
        topic = f"orderbook.50.{symbol}"
        message = {"topic": topic, "type": kind, "ts": 1, "data": data, "cts": 1}
        return json.dumps(message, separators=(",", ":"))

    prints = [{"T": 1, "s": "AUSDT", "S": "Buy", "v": "0.01", "p": "5.1"}]
    for symbol in grids:
        stream._take(book("snapshot", symbol, 2))
    stream._take(book("delta", "AUSDT", 3))
    stream._take(book("delta", "AUSDTB", 3))
    stream._take(json.dumps({"topic": "publicTrade.AUSDT", "data": prints}, separators=(",", ":")))
    stream._take(book("delta", "AUSDTB", 4))
    stream._take(book("delta", "AUSDT", 4))
    told = [(type(event), event.symbol, getattr(event, "update_id", 0)) for event in events]
    assert told == [
        (BookSnapshot, "AUSDT", 2), (BookSnapshot, "AUSDTB", 2), (BookDelta, "AUSDT", 3), (BookDelta, "AUSDTB", 3),
        (TradePrinted, "AUSDT", 0), (BookDelta, "AUSDTB", 4), (BookDelta, "AUSDT", 4),
    ]  # fmt: skip
