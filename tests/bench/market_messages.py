"""The public stream of the edge benches: a book of 50 levels and what changes in it, as Bybit V5 writes it.

Measured on a real capture (Binance spot BTCUSDT, 6,493 tenths of a second): 15.7 levels change in a tenth, and in 8 %
of the tenths the middle moves. The venue sends five messages in a tenth; so one of these changes 3 levels on average
(1 to 5, near the touch more often than far from it), and 1.6 % of them move a best price. That is a calm market: most
messages change no best price, and a quote has nothing to follow.
"""

from __future__ import annotations

from collections.abc import Iterator
from random import Random

import msgspec

SYMBOL = "BTCUSDT"
TOPIC = f"orderbook.50.{SYMBOL}"
LEVELS = 50
MIDDLE_TICKS = 600_000
"""Of 0.1 quote; a lot is 0.001 base."""
MOVES = 0.016
AT_MS = 1_767_225_600_000
EVERY_MS = 20

Rows = list[tuple[str, str]]


def price(ticks: int) -> str:
    return f"{ticks // 10}.{ticks % 10}" if ticks % 10 else str(ticks // 10)


def size(lots: int) -> str:
    return f"{lots // 1000}.{lots % 1000:03d}".rstrip("0").rstrip(".") if lots else "0"


class Market:
    """A book around a middle that wanders by whole ticks and comes back; no level is missing on either side."""

    def __init__(self, seed: int, bid_ticks: int = MIDDLE_TICKS) -> None:
        self._draw = Random(seed)
        self._home = self._bid = bid_ticks
        self._update_id = 1_000_000

    def snapshot(self) -> bytes:
        bids = [(price(self._bid - n), size(self._lots())) for n in range(LEVELS)]
        asks = [(price(self._bid + 1 + n), size(self._lots())) for n in range(LEVELS)]
        return self._message("snapshot", bids, asks)

    def delta(self) -> bytes:
        draw = self._draw
        if draw.random() < MOVES:
            return self.move(1 if draw.random() < 0.5 - 0.02 * (self._bid - self._home) else -1)
        bids: dict[str, str] = {}
        asks: dict[str, str] = {}
        for _ in range(draw.randint(1, 5)):
            away = min(int(draw.expovariate(0.1)), LEVELS - 1)
            if draw.random() < 0.5:
                bids[price(self._bid - away)] = size(self._lots())
            else:
                asks[price(self._bid + 1 + away)] = size(self._lots())
        return self._message("delta", list(bids.items()), list(asks.items()))

    def move(self, ticks: int) -> bytes:
        """Everything that many ticks up or down: levels are taken out and put in at the touch and at the far ends."""
        old, self._bid = self._bid, self._bid + ticks
        before, now = range(old - LEVELS + 1, old + 1), range(self._bid - LEVELS + 1, self._bid + 1)
        bids = [*self._put([tick for tick in now if tick not in before]), *_gone(before, now)]
        before, now = range(old + 1, old + LEVELS + 1), range(self._bid + 1, self._bid + LEVELS + 1)
        asks = [*self._put([tick for tick in now if tick not in before]), *_gone(before, now)]
        return self._message("delta", bids, asks)

    def _put(self, ticks: list[int]) -> Rows:
        return [(price(tick), size(self._lots())) for tick in ticks]

    def _lots(self) -> int:
        return self._draw.randint(1, 4_000)

    def _message(self, kind: str, bids: Rows, asks: Rows) -> bytes:
        self._update_id += 1
        at_ms = AT_MS + (self._update_id - 1_000_001) * EVERY_MS
        data = {"s": SYMBOL, "b": bids, "a": asks, "u": self._update_id, "seq": 7_961_638_724 + self._update_id}
        return msgspec.json.encode({"topic": TOPIC, "type": kind, "ts": at_ms, "data": data, "cts": at_ms - 1})


def _gone(before: range, now: range) -> Rows:
    return [(price(tick), "0") for tick in before if tick not in now]


def frame(payload: bytes) -> bytes:
    """One whole text frame of a server: not masked (RFC 6455, section 5.2)."""
    length = len(payload)
    if length < 126:
        head = bytes((0x81, length))
    elif length < 1 << 16:
        head = bytes((0x81, 126)) + length.to_bytes(2, "big")
    else:
        head = bytes((0x81, 127)) + length.to_bytes(8, "big")
    return head + payload


def stream(seed: int, deltas: int) -> Iterator[bytes]:
    """A snapshot and that many changes of it."""
    market = Market(seed)
    yield market.snapshot()
    for _ in range(deltas):
        yield market.delta()
