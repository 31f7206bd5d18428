"""How long a create may still come to the venue after the last that was heard of it."""

from __future__ import annotations

import asyncio
from typing import cast

import pytest

from bot.domain.intent import PlaceOrder
from bot.domain.order import Side
from bot.engine.recovery import instrument_of
from bot.runtime.grant import GrantHolder
from bot.runtime.sender import Sender
from bot.venues.port import Accepted, Outcome, Unknown, VenuePort
from tests.support.engine_driver import START, SYMBOL, S, filters


class Holder(GrantHolder):
    def valid(self, epoch: int, now_ns: int) -> bool:
        return True


class Venue:
    """Answers a create with `outcome`, or never."""

    def __init__(self, outcome: Outcome | None) -> None:
        self.outcome = outcome
        self.now = START

    def now_ns(self) -> int:
        return self.now

    async def place(self, intent: PlaceOrder, instrument: object) -> Outcome:
        if self.outcome is None:
            await asyncio.Event().wait()
        assert self.outcome is not None
        return self.outcome


@pytest.mark.parametrize(
    ("outcome", "late_s"), [(Accepted("v"), -1.0), (Unknown(0, "no answer"), 3.0), (None, 3.0)],
    ids=["accepted", "unknown", "still under way"],
)  # fmt: skip
def test_a_create_may_come_until_its_receive_window_is_over_unless_it_was_answered(
    outcome: Outcome | None, late_s: float
) -> None:
    async def run() -> float:
        venue = Venue(outcome)
        sender = Sender(cast(VenuePort, venue), Holder("a"), venue.now_ns, lambda _event: None, lambda *_: None)
        sender.instruments[SYMBOL] = instrument_of(filters(venue.now))
        sender.send([PlaceOrder(venue.now, "slwq-1-1", SYMBOL, Side.BUY, 1, 1, 1)])
        assert await sender.settle(0.05)
        venue.now += 2 * S
        found = sender.late_s(5.0)
        await sender.close()
        return found

    assert asyncio.run(run()) == late_s


class Silent:
    """Never answers a create, and counts those that came."""

    def __init__(self) -> None:
        self.came = 0

    async def place(self, _intent: PlaceOrder, _instrument: object) -> Outcome:
        self.came += 1
        await asyncio.Event().wait()
        raise AssertionError("nobody waits for ever and goes on")


def test_nothing_is_sent_any_more_once_the_sender_closes() -> None:
    """While it waits for what it abandons, events still come: what they would have sent would meet a closed session."""

    async def run() -> tuple[int, list[str]]:
        venue, failed = Silent(), list[str]()
        sender = Sender(
            cast(VenuePort, venue),
            Holder("a"),
            lambda: START,
            lambda _event: None,
            lambda _, where: failed.append(where),
        )
        sender.instruments[SYMBOL] = instrument_of(filters(START))
        sender.send([PlaceOrder(START, "slwq-1-1", SYMBOL, Side.BUY, 1, 1, 1)])
        await asyncio.sleep(0)
        closing = asyncio.ensure_future(sender.close())
        await asyncio.sleep(0)
        sender.send([PlaceOrder(START, "slwq-1-2", SYMBOL, Side.BUY, 1, 1, 1)])
        await closing
        left = len(asyncio.all_tasks()) - 1
        sender.send([PlaceOrder(START, "slwq-1-3", SYMBOL, Side.BUY, 1, 1, 1)])
        await asyncio.sleep(0)
        assert (left, len(asyncio.all_tasks()) - 1) == (0, 0)
        return venue.came, failed

    assert asyncio.run(run()) == (1, [])
