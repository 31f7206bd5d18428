"""A venue that does not answer a closing until it is back."""

from __future__ import annotations

import asyncio
from decimal import Decimal
from functools import partial

import pytest

from tasks.guard import closing
from tasks.rollback import DeskError, OpenOrders, Waits


class VenueAway:
    """A desk whose venue answers nothing until `back` is set; then nothing is open and nothing is held."""

    def __init__(self, back: asyncio.Event) -> None:
        self._back = back

    def _answers(self) -> None:
        if not self._back.is_set():
            raise DeskError("the venue does not answer")

    async def cancel_all(self) -> str:
        self._answers()
        return "none"

    async def read_open(self) -> OpenOrders:
        self._answers()
        return OpenOrders(0, 0)

    async def read_positions(self) -> dict[str, Decimal]:
        self._answers()
        return {"BTCUSDT": Decimal(0)}

    def close(self) -> None:
        return


def close_at(monkeypatch: pytest.MonkeyPatch, venue: VenueAway) -> None:
    """Every closing goes on at that venue, without the waits of a real one."""
    waits = partial(Waits, between_reads_s=0.0, retry_s=(0.01,))
    monkeypatch.setattr(closing, "_desk", lambda *_: venue)
    monkeypatch.setattr(closing, "Waits", lambda _, deadline_s: waits(0.0, deadline_s))
