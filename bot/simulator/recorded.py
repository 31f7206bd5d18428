"""A market that really happened: captures of Binance streams, replayed under the venue's own clock.

A capture is one .gz file or a folder of them (in the order of their names); a line is `<local receive ns> <JSON>`.
Two things about such captures decide whether the replay is true:

- *Clocks.* The collector's clock and the exchange's differ (here by more than a second). Only the exchange's times, `E`
  of a depth update and `T` of a trade, order and pace the replay; the local time is used for nothing but to report the
  offset. A trade thus comes before the depth update that already contains it.
- *The snapshot.* Depth updates that were received before the snapshot line but end beyond its `lastUpdateId` belong
  after it. They are kept and applied; dropping them leaves a crossed book. A gap in the update ids is an error: on spot
  ids follow each other, on futures each update names the last id of the one before it (`pu`).

Spot BTCUSDT plays as it is. The coin-margined BTCUSD_PERP counts in contracts of 100 USD; it plays as if it were
BTCUSDT, a contract being what 100 USD buy at its level's price.
At the end the record starts again from its snapshot, all prices moved so that the middle price goes on where it was.
Some old orders stand with a fraction of today's lot; sizes are rounded down to whole lots.
"""

from __future__ import annotations

import gzip
import zlib
from array import array
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from bot.domain.order import Side
from bot.simulator.market import Action, BookChange, BookReset, BookShift, RecordedTrade

TICK_DECIMALS = 2
LOT_DECIMALS = 5
SYMBOL = "BTCUSDT"
CONTRACTS = "BTCUSD_PERP"
CONTRACT_QUOTE = 100
_LOTS_PER_TICK = 10_000_000
"""Lots of BTC in a whole one, times ticks of a quote unit."""


class RecordUnreadable(Exception):
    """The capture cannot be played; one line naming file, line and what is wrong with it."""


class _Envelope(msgspec.Struct):
    data: msgspec.Raw = msgspec.Raw()
    lastUpdateId: int | None = None


class _Kind(msgspec.Struct):
    e: str = ""


class _Depth(msgspec.Struct):
    E: int
    s: str
    U: int
    u: int
    b: list[tuple[str, str]]
    a: list[tuple[str, str]]
    pu: int = 0


class _Trade(msgspec.Struct):
    T: int
    s: str
    p: str
    q: str
    m: bool


class _Snapshot(msgspec.Struct):
    lastUpdateId: int
    bids: list[tuple[str, str]]
    asks: list[tuple[str, str]]
    symbol: str = SYMBOL


_ENVELOPE = msgspec.json.Decoder(_Envelope)
_KIND = msgspec.json.Decoder(_Kind)
_DEPTH = msgspec.json.Decoder(_Depth)
_TRADE = msgspec.json.Decoder(_Trade)
_SNAPSHOT = msgspec.json.Decoder(_Snapshot)


@dataclass(slots=True)
class DepthUpdate:
    """A depth update, its levels flat: price, size, price, size … `first_id` to `last_id` as the exchange counts.

    `previous_id`: last id of the update before it, 0 where the exchange does not say.
    """

    at_ms: int
    previous_id: int
    first_id: int
    last_id: int
    bids: array[int]
    asks: array[int]


@dataclass(slots=True)
class Record:
    """A checked capture: the snapshot and everything after it in the exchange's time."""

    bids: dict[int, int]
    asks: dict[int, int]
    events: list[tuple[int, DepthUpdate | RecordedTrade]] = field(default_factory=list)
    """(exchange time in ms, what happened), in order."""
    clock_offset_ms: int = 0
    """Smallest local receive time minus exchange time: below 0 the collector's clock runs behind."""
    end_shift_ticks: int = 0
    """Middle price at the end minus that at the start, ticks."""

    @property
    def span_ms(self) -> int:
        return self.events[-1][0] - self.events[0][0]


def load_record(path: Path) -> Record:
    """Read and check a capture. Raises RecordUnreadable with one line for people."""
    updates: list[DepthUpdate] = []
    trades: list[tuple[int, RecordedTrade]] = []
    snapshot: _Snapshot | None = None
    offset_ms: int | None = None
    for place, local_ns, payload in _lines(_files(path)):
        try:
            found = _decode(payload)
        except (msgspec.MsgspecError, ValueError) as error:
            raise RecordUnreadable(f"{place}: not a line of a capture: {error}") from error
        if isinstance(found, _Snapshot):
            snapshot = snapshot or found
            continue
        if isinstance(found, DepthUpdate):
            updates.append(found)
            at_ms = found.at_ms
        elif found is not None:
            trades.append(found)
            at_ms = found[0]
        else:
            continue
        offset_ms = min(local_ns // 1_000_000 - at_ms, offset_ms if offset_ms is not None else 1 << 62)
    if snapshot is None:
        raise RecordUnreadable(f"{path}: has no snapshot line (one with lastUpdateId), so no book can be built")
    record = _assemble(path, snapshot, updates, trades)
    record.clock_offset_ms = offset_ms or 0
    return record


def _files(path: Path) -> list[Path]:
    if path.is_dir():
        files = sorted(path.glob("*.gz"))
        if not files:
            raise RecordUnreadable(f"{path}: the folder holds no .gz capture")
        return files
    if not path.is_file():
        raise RecordUnreadable(f"{path}: no such file or folder")
    return [path]


def _lines(files: list[Path]) -> Iterator[tuple[str, int, bytes]]:
    for file in files:
        number = 0
        try:
            with gzip.open(file) as lines:
                for number, line in enumerate(lines, 1):
                    if b"@bookTicker" in line[:80]:
                        continue
                    local, _, payload = line.partition(b" ")
                    if not local.isdigit() or not payload:
                        raise RecordUnreadable(f"{file}:{number}: not `<local time, ns> <JSON>`")
                    yield f"{file}:{number}", int(local), payload
        except (OSError, EOFError, zlib.error) as error:
            raise RecordUnreadable(f"{file}: cannot be read after line {number}: {error}") from error


def _decode(payload: bytes) -> DepthUpdate | tuple[int, RecordedTrade] | _Snapshot | None:
    envelope = _ENVELOPE.decode(payload)
    if envelope.lastUpdateId is not None:
        return _SNAPSHOT.decode(payload)
    body = bytes(envelope.data) or payload
    kind = _KIND.decode(body).e
    if kind == "depthUpdate":
        depth = _DEPTH.decode(body)
        _check_symbol(depth.s)
        return DepthUpdate(depth.E, depth.pu, depth.U, depth.u, _flat(depth.b, depth.s), _flat(depth.a, depth.s))
    if kind == "trade":
        trade = _TRADE.decode(body)
        _check_symbol(trade.s)
        price = ticks(trade.p)
        lots = _lots(price, trade.q, trade.s)
        return (trade.T, RecordedTrade(Side.SELL if trade.m else Side.BUY, price, lots)) if lots else None
    return None


def _check_symbol(symbol: str) -> None:
    if symbol not in (SYMBOL, CONTRACTS):
        raise ValueError(f"symbol {symbol!r}; only {SYMBOL} and {CONTRACTS} can be played")


def ticks(text: str) -> int:
    """A price as whole ticks. Raises ValueError where it lies between two."""
    if text.partition(".")[2][TICK_DECIMALS:].strip("0"):
        raise ValueError(f"price {text} has more than {TICK_DECIMALS} decimals")
    return _shifted_down(text, TICK_DECIMALS)


def lots_floor(text: str) -> int:
    """A size as whole lots, rounded down."""
    return _shifted_down(text, LOT_DECIMALS)


def _lots(price_ticks: int, text: str, symbol: str) -> int:
    """A size as whole lots of BTC, rounded down; of a contract, what its quote amount buys at that price."""
    if symbol == SYMBOL:
        return lots_floor(text)
    return _shifted_down(text, 0) * CONTRACT_QUOTE * _LOTS_PER_TICK // price_ticks


def _shifted_down(text: str, decimals: int) -> int:
    units, _, fraction = text.partition(".")
    digits = units + fraction[:decimals].ljust(decimals, "0")
    if not digits.isdecimal():
        raise ValueError(f"{text[:40]!r} is not a decimal numeral of 0 or more")
    return int(digits)


def _flat(levels: list[tuple[str, str]], symbol: str) -> array[int]:
    flat = array("q")
    for price, size in levels:
        price_ticks = ticks(price)
        if price_ticks <= 0:
            raise ValueError(f"price {price} is not above 0")
        flat.append(price_ticks)
        flat.append(_lots(price_ticks, size, symbol))
    return flat


def _pairs(flat: array[int]) -> Iterator[tuple[int, int]]:
    return zip(flat[::2], flat[1::2], strict=True)


def _assemble(
    path: Path, snapshot: _Snapshot, updates: list[DepthUpdate], trades: list[tuple[int, RecordedTrade]]
) -> Record:
    try:
        _check_symbol(snapshot.symbol)
        bids, asks = (dict(_pairs(_flat(side, snapshot.symbol))) for side in (snapshot.bids, snapshot.asks))
    except ValueError as error:
        raise RecordUnreadable(f"{path}: the snapshot: {error}") from error
    record = Record(dict(bids), dict(asks))
    last_id = snapshot.lastUpdateId
    at_ms = 0
    top = _Top(path, bids, asks)
    top.check("the snapshot is crossed")
    for update in updates:
        if update.last_id <= last_id:
            continue
        before = update.previous_id or update.first_id - 1
        if before > last_id:
            raise RecordUnreadable(f"{path}: depth updates {last_id + 1} to {before} are missing")
        last_id = update.last_id
        at_ms = max(at_ms, update.at_ms)
        record.events.append((at_ms, update))
        for side, levels in ((bids, update.bids), (asks, update.asks)):
            for price, lots in _pairs(levels):
                if lots:
                    side[price] = lots
                else:
                    side.pop(price, None)
        top.changed(update)
        top.check(f"the book is crossed after depth update {last_id}")
    if not record.events or not (bids and asks and record.bids and record.asks):
        raise RecordUnreadable(f"{path}: no depth update follows the snapshot, or a side of the book is empty")
    first_ms = record.events[0][0]
    record.events += [(t, trade) for t, trade in trades if t >= first_ms]
    record.events.sort(key=lambda event: (event[0], isinstance(event[1], DepthUpdate)))
    record.end_shift_ticks = (max(bids) + min(asks) - max(record.bids) - min(record.asks)) // 2
    return record


class _Top:
    """The best prices of a book that is being built; the whole side is looked at only where its best was taken away."""

    def __init__(self, path: Path, bids: dict[int, int], asks: dict[int, int]) -> None:
        self._path = path
        self._bids, self._asks = bids, asks
        self._bid, self._ask = max(bids, default=0), min(asks, default=0)

    def changed(self, update: DepthUpdate) -> None:
        bids, asks = self._bids, self._asks
        self._bid = max([self._bid, *(price for price, lots in _pairs(update.bids) if lots)])
        if self._bid not in bids:
            self._bid = max(bids, default=0)
        self._ask = min([self._ask or 1 << 62, *(price for price, lots in _pairs(update.asks) if lots)])
        if self._ask not in asks:
            self._ask = min(asks, default=0)

    def check(self, what: str) -> None:
        """Raises RecordUnreadable where both sides are there and the bid is not below the ask."""
        if self._bid and self._ask and self._bid >= self._ask:
            raise RecordUnreadable(f"{self._path}: {what}: bid {self._bid} against ask {self._ask} (ticks)")


class RecordedMarket:
    """Plays a record in real time, again and again. Own orders never change the size it shows."""

    fixed_background = True

    def __init__(self, record: Record) -> None:
        self._record = record
        self._index = 0
        self._shift = 0
        self._origin_ns = 0
        """The venue's time at which the record's time 0 lies."""

    def start(self, now_ns: int) -> BookReset:
        self._origin_ns = now_ns - self._record.events[0][0] * 1_000_000
        return self._snapshot()

    def next_at_ns(self) -> int:
        return self._origin_ns + self._record.events[self._index][0] * 1_000_000

    def jump(self, ticks: int) -> BookShift:
        self._shift += ticks
        return BookShift(ticks)

    def step(self) -> list[Action]:
        _, event = self._record.events[self._index]
        actions: list[Action] = [self._shifted(event)]
        self._index += 1
        if self._index == len(self._record.events):
            at_ns = self._origin_ns + self._record.events[-1][0] * 1_000_000
            self._index = 0
            self._shift += self._record.end_shift_ticks
            self._origin_ns = at_ns + 100_000_000 - self._record.events[0][0] * 1_000_000
            actions.append(self._snapshot())
        return actions

    def _snapshot(self) -> BookReset:
        shift = self._shift
        bids = {price + shift: lots for price, lots in self._record.bids.items() if price + shift > 0}
        return BookReset(bids, {price + shift: lots for price, lots in self._record.asks.items() if price + shift > 0})

    def _shifted(self, event: DepthUpdate | RecordedTrade) -> BookChange | RecordedTrade:
        shift = self._shift
        if isinstance(event, RecordedTrade):
            return RecordedTrade(event.taker, event.price_ticks + shift, event.lots)
        bids = [(price + shift, lots) for price, lots in _pairs(event.bids) if price + shift > 0]
        return BookChange(bids, [(price + shift, lots) for price, lots in _pairs(event.asks) if price + shift > 0])
