"""An adapter that runs, what its sink heard, and waiting for what it is to hear."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from bot.domain.events import Event
from bot.venues.bybit.adapter import BybitAdapter


class Hearing:
    """Entered by the subclass, which starts the adapter with `heard.append`; leaving it closes the adapter."""

    adapter: BybitAdapter

    def __init__(self) -> None:
        self.heard: list[Event] = []

    async def __aexit__(self, *_: object) -> None:
        await self.adapter.close()

    async def until(self, condition: Callable[[], bool]) -> None:
        for _ in range(10_000):
            if condition():
                return
            await asyncio.sleep(0.005)
        raise TimeoutError(f"the condition did not come true; heard last {self.heard[-5:]}")

    def of(self, kind: type) -> list[Any]:
        return [event for event in self.heard if isinstance(event, kind)]
