"""pybit pointed at a venue on loopback, and its callbacks made waitable."""

from __future__ import annotations

import copy
import json
import queue
import threading
import time
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest
from pybit.exceptions import InvalidRequestError
from pybit.unified_trading import HTTP, WebSocket, WebSocketTrading

from tests.support.judged_venue import DEADLINE_S, SYMBOL, JudgedVenue, Key

HERE = {"category": "linear", "symbol": SYMBOL}
Json = dict[str, Any]


def http(venue: JudgedVenue, key: Key | None = None, **options: Any) -> HTTP:
    """A REST client; `options` are pybit's. Nothing is tried twice unless `retry_codes` say so."""
    signs = {"api_key": key.api_key, "api_secret": key.api_secret} if key else {}
    client = HTTP(**{"retry_codes": {-1}, "timeout": DEADLINE_S, "recv_window": 60_000, **signs, **options})
    client.endpoint = venue.ready["rest_url"]
    return client


def touch(client: HTTP) -> tuple[Decimal, Decimal]:
    """Best bid and ask, quote per base."""
    book = client.get_orderbook(**HERE, limit=1)["result"]
    return Decimal(book["b"][0][0]), Decimal(book["a"][0][0])


def terms(client: HTTP, link_id: str, away: int = 600) -> Json:
    """A post-only buy of 0.01 that far below the bid."""
    price = str(touch(client)[0] - away)
    return {
        "symbol": SYMBOL, "side": "Buy", "orderType": "Limit", "qty": "0.010", "price": price,
        "timeInForce": "PostOnly", "orderLinkId": link_id,
    }  # fmt: skip


def refused(code: int) -> Any:
    """The block raises pybit's error with that code."""
    return pytest.raises(InvalidRequestError, match=f"ErrCode: {code}")


class Inbox:
    """What a callback was given, in order."""

    def __init__(self) -> None:
        self._messages: queue.Queue[Json] = queue.Queue()

    def __call__(self, message: Json) -> None:
        self._messages.put(copy.deepcopy(message))  # pybit goes on changing the books it hands out

    def take(self, wanted: Callable[[Json], bool] = lambda message: True) -> Json:
        """The next message that is wanted; those before it are dropped."""
        ends = time.monotonic() + DEADLINE_S
        while True:
            message = self._messages.get(timeout=max(0.0, ends - time.monotonic()))
            if wanted(message):
                return message

    def row(self, wanted: Callable[[Json], bool] = lambda row: True) -> Json:
        """The next row of a private topic that is wanted."""
        message = self.take(lambda m: any(wanted(row) for row in m["data"]))
        return next(row for row in message["data"] if wanted(row))


class _AtLoopback:
    """Connects where it is told, and registers a request before its answer is read.

    pybit sends first and registers after that; over loopback the answer may come in between.
    """

    def __init__(self, loopback_url: str, **options: Any) -> None:
        self._loopback_url = loopback_url
        self._registering = threading.RLock()
        self.opened = 0
        self.frames = Inbox()
        super().__init__(**options)

    def _connect(self, url: str) -> None:
        super()._connect(self._loopback_url)
        self.opened += 1

    def _on_message(self, message: str) -> None:
        with self._registering:
            super()._on_message(message)
        self.frames(json.loads(message))

    def ping(self) -> None:
        self.ws.send(self.custom_ping_message)


class Stream(_AtLoopback, WebSocket):
    """A public stream, or with a key the private one."""

    def __init__(self, venue: JudgedVenue, key: Key | None = None, category: str = "linear") -> None:
        kind = "private" if key else "public" if category == "linear" else f"public_{category}"
        super().__init__(
            venue.ready[f"ws_{kind}_url"],
            testnet=False,
            channel_type="private" if key else category,
            api_key=key.api_key if key else None,
            api_secret=key.api_secret if key else None,
            private_auth_expire=int(DEADLINE_S),
            retries=0,  # for as long as the venue stays away
        )

    def subscribe(self, *args: Any, **options: Any) -> None:
        with self._registering:
            super().subscribe(*args, **options)

    def subscribed(self) -> None:
        """Wait until the venue has confirmed one more subscription."""
        assert self.frames.take(lambda m: m.get("op") == "subscribe")["success"] is True


class Trading(_AtLoopback, WebSocketTrading):
    """Order entry by socket; `send` waits for its answer."""

    def __init__(self, venue: JudgedVenue, key: Key) -> None:
        super().__init__(
            venue.ready["ws_trade_url"],
            testnet=False,
            recv_window=60_000,
            api_key=key.api_key,
            api_secret=key.api_secret,
            private_auth_expire=int(DEADLINE_S),
        )
        assert self.frames.take(lambda m: m.get("op") == "auth")["retCode"] == 0

    def send(self, operation: Callable[..., None], **params: Any) -> Json:
        answer = Inbox()
        with self._registering:
            operation(answer, error_callback=answer, **params)
        return answer.take()
