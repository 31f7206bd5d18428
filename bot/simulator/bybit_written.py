"""The venue's commonest messages, written straight as text: orders and executions, trades and books.

Byte for byte what its encoder would make of them, which a test compares; but no object is built, and what never changes
of an instrument is written once. Nothing that goes in needs escaping: numbers, words of the venue's own, and ids of the
characters that admission lets through.
"""

from __future__ import annotations

from typing import Final

import msgspec

from bot.domain.instrument import Instrument
from bot.domain.order import Side
from bot.simulator.bybit_messages import (
    CANCEL_TYPES,
    REJECT_REASONS,
    SIDES,
    average_text,
    fee_detail,
    funding,
    ms,
    status,
    text,
)
from bot.simulator.bybit_numbers import Grid
from bot.simulator.depth import DepthMessage, Levels
from bot.simulator.funding import Funding
from bot.simulator.orders import Execution, Order, PublicTrade, SelfMatch, Status, TimeInForce

_ENCODER: Final = msgspec.json.Encoder()
_TRADE_ID: Final = "00000000-0000-4000-8000-"
_ZEROS: Final = "0" * 12
INSTRUMENTS_KEPT: Final = 64
ORDERS_KEPT: Final = 256
_SELL: Final = Side.SELL
_NEW: Final = Status.NEW
_SIDES: Final[dict[Side, str]] = SIDES
_TIMES_IN_FORCE: Final[dict[TimeInForce, str]] = {kind: kind.value for kind in TimeInForce}
_SELF_MATCHES: Final[dict[SelfMatch, str]] = {kind: kind.value for kind in SelfMatch}
_REST: Final = (
    '","positionIdx":0,"isLeverage":"","orderIv":"","stopOrderType":"","tpslMode":"","triggerPrice":"","takeProfit":"",'
    '"stopLoss":"","tpTriggerBy":"","slTriggerBy":"","tpLimitPrice":"","slLimitPrice":"","triggerDirection":0,'
    '"triggerBy":"","closeOnTrigger":false,"lastPriceOnCreated":"","placeType":"","blockTradeId":"","smpType":"'
)
"""Of an order, between its times and its self-match: what this venue has no notion of."""


class Written:
    """Messages about one instrument."""

    def __init__(self, instrument: Instrument) -> None:
        self._instrument = instrument
        self.prices, self.sizes = Grid(instrument.tick_size), Grid(instrument.lot_size)
        self.values = Grid(instrument.tick_size * instrument.lot_size)
        """Of quantity times price."""
        self._no_value = self.values.value(0)
        symbol = quoted(instrument.symbol)
        self._quote = quote = quoted(instrument.quote)
        self._order_head = f'"symbol":{symbol},"orderId":"'
        self._order_quote = f'","createType":"CreateByUser","feeCurrency":{quote},"cumFeeDetail":'
        self._category = f'"category":"{instrument.category}",'
        self._fast_head = f'{{{self._category}"symbol":{symbol},"execId":"'
        self._trade_symbol = f',"s":{symbol},"S":"'
        self._book_symbol = f',"data":{{"s":{symbol},"b":['

    def order(self, found: Order, *, pushed: bool) -> str:
        """An order; on the stream with what answers to queries leave out.

        What this venue has no notion of carries the value the documentation shows for "none".
        """
        prices, sizes = self.prices, self.sizes
        filled_lots, left_lots, price_ticks, reason = (
            found.filled_lots, found.left_lots, found.price_ticks, found.end_reason
        )  # fmt: skip
        fees = found.fees
        whose = self._order_quote
        detail = "{}"
        if fees or filled_lots:
            detail = quoted(fee_detail(self._instrument, found))
            if fees:
                whose = f'","createType":"CreateByUser","feeCurrency":{quoted(next(iter(fees)))},"cumFeeDetail":'
        average = average_text(self._instrument, found) if filled_lots else ""
        filled_value = self.values.value(found.filled_cost) if filled_lots else self._no_value
        rest = ""
        if pushed:
            rest = f',"closedPnl":"{text(found.realised_quote)}","rpiTakerAccess":false,"rpiMatchedQty":"0"'
        return (
            f'{{{self._category if pushed else ""}{self._order_head}{found.order_id}",'
            f'"orderLinkId":"{found.link_id}","side":"{_SIDES[found.side]}",'
            f'"orderType":"{"Market" if found.is_market else "Limit"}","price":"{prices.text(price_ticks)}",'
            f'"qty":"{sizes.text(found.qty_lots)}","timeInForce":"{_TIMES_IN_FORCE[found.tif]}",'
            f'"orderStatus":"{status(self._instrument, found)}",'
            f'"cancelType":"{CANCEL_TYPES.get(reason, "UNKNOWN")}","rejectReason":"{REJECT_REASONS[reason]}",'
            f'"reduceOnly":{"true" if found.reduce_only else "false"},"leavesQty":"{sizes.text(left_lots)}",'
            f'"leavesValue":"{self.values.value(left_lots * price_ticks)}","cumExecQty":"{sizes.text(filled_lots)}",'
            f'"cumExecValue":"{filled_value}","cumExecFee":"{text(found.fee_quote)}",'
            f'"avgPrice":"{average}","createdTime":"{found.created_at_ns // 1_000_000}",'
            f'"updatedTime":"{found.updated_at_ns // 1_000_000}{_REST}{_SELF_MATCHES[found.self_match]}",'
            f'"smpGroup":0,"smpOrderId":"{found.self_match_id}{whose}{detail}{rest}}}'
        )

    def execution(self, found: Execution | Funding, mark_text: str, *, pushed: bool) -> str:
        """A fill or a funding; on the stream with its category before it. `mark_text`: the mark of now."""
        category = self._category if pushed else ""
        if isinstance(found, Funding):
            return f"{{{category}{quoted(funding(self._instrument, found))[1:]}"
        prices, sizes = self.prices, self.sizes
        price_ticks, lots = found.price_ticks, found.lots
        coin = quoted(found.fee_coin) if found.fee_coin else self._quote
        return (
            f'{{{category}{self._order_head}{found.order_id}","orderLinkId":"{found.link_id}",'
            f'"side":"{_SIDES[found.side]}","orderType":"{"Market" if found.is_market else "Limit"}",'
            f'"orderPrice":"{prices.text(found.order_price_ticks)}","orderQty":"{sizes.text(found.order_qty_lots)}",'
            f'"leavesQty":"{sizes.text(found.left_lots)}","execId":"{found.execution_id}","execType":"Trade",'
            f'"execPrice":"{prices.text(price_ticks)}","execQty":"{sizes.text(lots)}",'
            f'"execValue":"{self.values.value(price_ticks * lots)}","execFee":"{text(found.fee_quote)}",'
            f'"feeRate":"{text(found.fee_rate)}","feeCurrency":{coin},"execTime":"{found.at_ns // 1_000_000}",'
            f'"execPnl":"{text(found.realised_quote)}","isMaker":{"true" if found.is_maker else "false"},'
            f'"closedSize":"{sizes.text(found.closed_lots)}","markPrice":"{mark_text}","indexPrice":"",'
            f'"underlyingPrice":"","markIv":"","tradeIv":"","blockTradeId":"","stopOrderType":"","isLeverage":"0",'
            f'"marketUnit":"","createType":"CreateByUser","extraFees":"","seq":{found.sequence}}}'
        )

    def fast_execution(self, found: Execution) -> str:
        """A fill as `execution.fast` shows it: little of it, and of a maker's fill without the client's id."""
        return (
            f'{self._fast_head}{found.execution_id}","execPrice":"{self.prices.text(found.price_ticks)}",'
            f'"execQty":"{self.sizes.text(found.lots)}","orderId":"{found.order_id}",'
            f'"isMaker":{"true" if found.is_maker else "false"},"side":"{_SIDES[found.side]}",'
            f'"execTime":"{found.at_ns // 1_000_000}","seq":{found.sequence},'
            f'"orderLinkId":"{"" if found.is_maker else found.link_id}"}}'
        )

    def trade(self, trade: PublicTrade) -> str:
        """A print as the publicTrade topic shows it; its id as PublicTrade has it, which makes it at a higher price."""
        number = hex(trade.sequence)[2:]
        return (
            f'{{"T":{trade.at_ns // 1_000_000}{self._trade_symbol}{"Sell" if trade.taker is _SELL else "Buy"}",'
            f'"v":"{self.sizes.text(trade.lots)}","p":"{self.prices.text(trade.price_ticks)}","L":"ZeroPlusTick",'
            f'"i":"{_TRADE_ID}{_ZEROS[len(number) :]}{number}","BT":false,"RPI":false,"seq":{trade.sequence}}}'
        )

    def book(self, topic: str, message: DepthMessage, sequence: int, at_ms: int) -> str:
        """A whole message of the orderbook topic; `topic` in JSON."""
        stamp = str(at_ms)
        pieces: list[str] = [
            '{"topic":', topic, _SNAPSHOT if message.is_snapshot else _DELTA, stamp, self._book_symbol,
        ]  # fmt: skip
        self._levels(message.bids, pieces)
        pieces.append('],"a":[')
        self._levels(message.asks, pieces)
        pieces += ['],"u":', str(message.update_id), ',"seq":', str(sequence), '},"cts":', stamp, "}"]
        return "".join(pieces)

    def _levels(self, pairs: Levels, pieces: list[str]) -> None:
        if not pairs:
            return
        prices, sizes = self.prices, self.sizes
        first = len(pieces)
        for price, lots in pairs:
            pieces.append(prices.opening(price))
            pieces.append(sizes.text(lots) if lots else "0")
        pieces[first] = pieces[first][_BEHIND_A_LEVEL:]
        pieces.append('"]')


class PushedOrders:
    """One venue's orders as the stream shows them.

    One that nothing was filled of is told again and again, moved: all that stands between what a move changes is
    written once for each size.
    """

    def __init__(self, written: Written) -> None:
        self._written = written
        self._resting: dict[str, _Resting] = {}
        """By the venue's id, which no two orders of one venue share."""

    def text(self, found: Order) -> str:
        """As `Written.order`."""
        written = self._written
        if found.filled_lots or found.status is not _NEW or found.self_match_id:
            return written.order(found, pushed=True)
        resting = self._resting.get(found.order_id)
        if resting is None or resting.qty_lots != found.qty_lots:
            if len(self._resting) >= ORDERS_KEPT:
                self._resting.clear()
            resting = self._resting[found.order_id] = _Resting(written.order(found, pushed=True), found.qty_lots)
        price_ticks = found.price_ticks
        return (
            f"{resting.head}{written.prices.text(price_ticks)}{resting.behind_price}"
            f"{written.values.text(found.qty_lots * price_ticks)}{resting.behind_value}"
            f"{ms(found.updated_at_ns)}{resting.behind_updated}"
        )


class _Resting:
    """An order that nothing was filled of, but for its price and what changes with it."""

    __slots__ = ("behind_price", "behind_updated", "behind_value", "head", "qty_lots")

    def __init__(self, written: str, qty_lots: int) -> None:
        self.qty_lots: Final = qty_lots
        self.head, rest = _around(written, '"price":"')
        self.behind_price, rest = _around(rest, '"leavesValue":"')
        self.behind_value, self.behind_updated = _around(rest, '"updatedTime":"')


def _around(written: str, opening: str) -> tuple[str, str]:
    """What stands before the value after that opening, and what stands behind it."""
    first = written.index(opening) + len(opening)
    return written[:first], written[written.index('"', first) :]


_BEHIND_A_LEVEL: Final = len('"],')
_SNAPSHOT: Final = ',"type":"snapshot","ts":'
_DELTA: Final = ',"type":"delta","ts":'

_of_object: dict[int, tuple[Instrument, Written]] = {}
"""By the instrument's own identity, beside it, so that no other object can come to the same one."""


def written_of(instrument: Instrument) -> Written:
    """The messages about that instrument."""
    found = _of_object.get(id(instrument))
    if found is not None:
        return found[1]
    if len(_of_object) >= INSTRUMENTS_KEPT:
        _of_object.clear()
    made = Written(instrument)
    _of_object[id(instrument)] = (instrument, made)
    return made


def quoted(value: object) -> str:
    """As JSON."""
    return _ENCODER.encode(value).decode()
