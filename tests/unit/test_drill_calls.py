"""A call for a drill that is refused announces nothing to the engine."""

from __future__ import annotations

import asyncio
import json
from types import SimpleNamespace
from typing import Any, cast

import pytest

from bot.domain.events import Event
from bot.runtime import operator_api


class _Bot:
    def __init__(self, sockets: int) -> None:
        self.sockets = sockets
        self.told: list[Event] = []

    def now_ns(self) -> int:
        return 1

    def tell(self, event: Event) -> None:
        self.told.append(event)

    def cut_streams(self) -> int:
        return self.sockets

    def status(self) -> dict[str, object]:
        return {"state": "RUNNING"}


def _call(bot: _Bot, name: str, body: dict[str, str]) -> int:
    async def read() -> bytes:
        return json.dumps(body).encode()

    gate = SimpleNamespace(refusal=lambda _request: None)
    handler = operator_api._drill_handler(cast("Any", bot), cast("Any", gate))
    request = SimpleNamespace(match_info={"name": name}, read=read)
    return asyncio.run(cast("Any", handler)(request)).status  # type: ignore[no-any-return]


def test_a_loss_of_streams_is_announced_only_where_a_socket_is_cut() -> None:
    bot = _Bot(0)
    assert (_call(bot, "stream-loss", {}), bot.told) == (409, [])
    bot.sockets = 2
    assert _call(bot, "stream-loss", {}) == 200
    assert len(bot.told) == 1


@pytest.mark.parametrize(
    ("name", "order"), [("freeze", "abc"), ("freeze", "slwq-1-1"), ("orphan", ""), ("orphan", "abc")]
)
def test_an_order_is_named_for_an_orphan_alone_and_is_one_of_ours(name: str, order: str) -> None:
    bot = _Bot(0)
    assert (_call(bot, name, {"order": order}), bot.told) == (422, [])
    assert _call(bot, "orphan", {"order": "slwq-1-1"}) == 200
