"""Symbols that become known while the public stream comes up are asked for as the venue takes it: a few at a time."""

from __future__ import annotations

import asyncio
import json
from random import Random
from typing import Any, cast

from bot.domain.instrument import Instrument, unlisted
from bot.venues.bybit.decode import Grid
from bot.venues.bybit.public_stream import PublicStream
from bot.venues.bybit.sockets import TOPICS_PER_REQUEST

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
