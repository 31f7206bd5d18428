"""The record seen from the guard's loops: what is told is tried until it is taken, and how long it was not, shows."""

from __future__ import annotations

import asyncio
from typing import cast

from sqlalchemy.exc import OperationalError

from tasks.guard.store import Store
from tasks.record_writer import RecordWriter


class Shelf:
    """A record that refuses so many times."""

    def __init__(self, refusals: int) -> None:
        self.refusals = refusals
        self.loop = asyncio.get_running_loop()
        self.refused = asyncio.Event()
        self.taken: list[str] = []

    def take(self, what: str) -> None:
        if self.refusals:
            self.refusals -= 1
            self.loop.call_soon_threadsafe(self.refused.set)
            raise OperationalError("insert", {}, Exception("database is locked"))
        self.taken.append(what)

    def close(self) -> None:
        pass


def test_what_is_not_taken_is_tried_again_in_order_and_the_time_shows() -> None:
    async def told() -> tuple[Shelf, float, float]:
        shelf = Shelf(refusals=1)
        store = Store(cast(RecordWriter, shelf))
        writing = asyncio.create_task(store.write_told())
        store.tell("first", lambda: shelf.take("first"))
        store.tell("second", lambda: shelf.take("second"))
        await shelf.refused.wait()
        during_s = store.away_s()
        await store.settled()
        after_s = store.away_s()
        writing.cancel()
        store.close()
        return shelf, during_s, after_s

    shelf, during_s, after_s = asyncio.run(told())
    assert shelf.taken == ["first", "second"]
    assert during_s > 0
    assert after_s == 0
