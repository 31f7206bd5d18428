"""What Bybit V5 sends, as it stands on the wire: structs and strict decoding. Pure.

Only fields that are read are declared; others may come and go. Numbers stay the strings the venue sent, so that
nothing passes through a float; `bot.venues.bybit.decode` turns them into ticks, lots and `Decimal`.
Source: Bybit V5 documentation, July 2026. A message that does not fit raises VenueGarbled, which names the field.
"""

from __future__ import annotations

import re
from types import GenericAlias
from typing import Any, TypeVar

import msgspec

from bot.venues.port import VenueGarbled, VenueUnknown

T = TypeVar("T")


class _Wire(msgspec.Struct, frozen=True, rename="camel", gc=False):
    pass


# ---- REST -----------------------------------------------------------------------------------------------------------


class Envelope(_Wire, frozen=True, rename="camel"):
    """Around every REST answer. `ret_code` 0 is success; `time`: the venue's clock, ms."""

    ret_code: int
    ret_msg: str = ""
    result: msgspec.Raw = msgspec.Raw(b"{}")
    time: int = 0
    ret_ext_info: msgspec.Raw = msgspec.Raw(b"{}")


class TradeAnswer(_Wire, frozen=True, rename="camel"):
    """What the trade socket says: to an operation, to `auth`, or a pong. `data` is what REST calls `result`."""

    ret_code: int
    op: str = ""
    req_id: str = ""
    ret_msg: str = ""
    data: msgspec.Raw = msgspec.Raw(b"{}")
    ret_ext_info: msgspec.Raw = msgspec.Raw(b"{}")
    header: dict[str, str] = {}


class ServerTime(_Wire, frozen=True, rename="camel"):
    time_nano: str


class PriceFilter(_Wire, frozen=True, rename="camel"):
    tick_size: str


class LotSizeFilter(_Wire, frozen=True, rename="camel"):
    """Linear names its step `qtyStep` and its least value `minNotionalValue`; spot `basePrecision`, `minOrderAmt`."""

    min_order_qty: str
    max_order_qty: str
    qty_step: str = ""
    base_precision: str = ""
    min_notional_value: str = ""
    min_order_amt: str = ""


class InstrumentRow(_Wire, frozen=True, rename="camel"):
    symbol: str
    status: str
    base_coin: str
    quote_coin: str
    price_filter: PriceFilter
    lot_size_filter: LotSizeFilter


class InstrumentPage(_Wire, frozen=True, rename="camel"):
    rows: list[InstrumentRow] = msgspec.field(name="list")
    next_page_cursor: str = ""


class OrderAck(_Wire, frozen=True, rename="camel"):
    order_id: str
    order_link_id: str = ""


class BatchAck(_Wire, frozen=True, rename="camel"):
    """A row for each order of a batch, in the order of the request; without an id where it was refused."""

    rows: list[OrderAck] = msgspec.field(name="list")


class BatchEnd(_Wire, frozen=True, rename="camel"):
    """How it went with one order of a batch: `code` 0 is success."""

    code: int
    msg: str = ""


class BatchEnds(_Wire, frozen=True, rename="camel"):
    """Beside BatchAck, in `retExtInfo`."""

    rows: list[BatchEnd] = msgspec.field(name="list")


class RawList(_Wire, frozen=True, rename="camel"):
    """Either of the two with its rows still undecoded."""

    rows: list[msgspec.Raw] = msgspec.field(name="list")


class CancelAllAck(_Wire, frozen=True, rename="camel"):
    rows: list[OrderAck] = msgspec.field(name="list")


class OrderRow(_Wire, frozen=True, rename="camel"):
    """An order, by REST or on the `order` topic. `price` is empty for some market orders. `created_time`: whatever is
    there, as no row is to be hidden by it."""

    symbol: str
    order_id: str
    order_link_id: str
    side: str
    price: str
    qty: str
    cum_exec_qty: str
    order_status: str
    reject_reason: str = ""
    reduce_only: bool = False
    category: str = ""
    created_time: Any = None


class OrderPage(_Wire, frozen=True, rename="camel"):
    rows: list[OrderRow] = msgspec.field(name="list")
    next_page_cursor: str = ""


class OrderPageRaw(_Wire, frozen=True, rename="camel"):
    """The same with its rows still undecoded, for whoever must know the others where one does not fit."""

    rows: list[msgspec.Raw] = msgspec.field(name="list")
    next_page_cursor: str = ""


class ExtraFee(_Wire, frozen=True, rename="camel"):
    fee_coin: str
    fee: str


class ExecutionRow(_Wire, frozen=True, rename="camel"):
    """An execution, by REST or on the `execution` topic. `exec_type` Funding is not a fill. `exec_time`: ms."""

    symbol: str
    order_id: str
    order_link_id: str
    side: str
    exec_id: str
    exec_price: str
    exec_qty: str
    exec_type: str
    exec_time: str
    exec_fee: str
    is_maker: bool
    fee_currency: str = ""
    extra_fees: str | list[ExtraFee] | None = None
    category: str = ""


class ExecutionPage(_Wire, frozen=True, rename="camel"):
    rows: list[ExecutionRow] = msgspec.field(name="list")
    next_page_cursor: str = ""


class PositionRow(_Wire, frozen=True, rename="camel"):
    """By REST the entry is `avgPrice`, on the topic `entryPrice`. `side` is empty or None where `size` is 0."""

    symbol: str
    side: str | None
    size: str
    position_idx: int = 0
    avg_price: str = ""
    entry_price: str = ""
    category: str = ""


class PositionPage(_Wire, frozen=True, rename="camel"):
    rows: list[PositionRow] = msgspec.field(name="list")
    next_page_cursor: str = ""


class PositionPageRaw(_Wire, frozen=True, rename="camel"):
    """The same with its rows still undecoded, for whoever must know the others where one does not fit."""

    rows: list[msgspec.Raw] = msgspec.field(name="list")
    next_page_cursor: str = ""


class CoinRow(_Wire, frozen=True, rename="camel"):
    """Amounts of that coin."""

    coin: str
    equity: str
    wallet_balance: str = ""
    cum_realised_pnl: str = ""


class WalletRow(_Wire, frozen=True, rename="camel"):
    """`total_*` are US dollars. Empty where the account's margin mode has no such number."""

    coin: list[CoinRow]
    total_equity: str = ""
    total_initial_margin: str = ""


class WalletList(_Wire, frozen=True, rename="camel"):
    rows: list[WalletRow] = msgspec.field(name="list")


class FeeRateRow(_Wire, frozen=True, rename="camel"):
    """Fractions of notional; a maker rate below zero is a rebate."""

    symbol: str
    taker_fee_rate: str
    maker_fee_rate: str


class FeeRatePage(_Wire, frozen=True, rename="camel"):
    rows: list[FeeRateRow] = msgspec.field(name="list")


class KeyInformation(_Wire, frozen=True, rename="camel"):
    """What the API key may do. `read_only` 0: it may write. `permissions`: group → rights. `ips` "*": unbound."""

    read_only: int
    permissions: dict[str, list[str]]
    ips: list[str] | None = None
    expired_at: str = ""
    created_at: str = ""
    vip_level: str = ""
    deadline_day: int | None = None
    user_id: int = msgspec.field(default=0, name="userID")


class AccountInformation(_Wire, frozen=True, rename="camel"):
    """How the account is set up. `unified_margin_status`: below 3 it is no unified account."""

    margin_mode: str
    unified_margin_status: int


class BookRows(msgspec.Struct, frozen=True, gc=False):
    """A book by REST or on `orderbook.*`. Rows are (price, size); `ts`, `cts` in ms, on the topic beside `data`."""

    s: str
    b: list[tuple[str, str]]
    a: list[tuple[str, str]]
    u: int
    ts: int = 0
    cts: int = 0


# ---- streams --------------------------------------------------------------------------------------------------------


class _AckEnvelope(_Wire, frozen=True, rename="camel"):
    """`Envelope` around `OrderAck`, whole."""

    ret_code: int
    result: OrderAck
    ret_msg: str = ""
    time: int = 0
    ret_ext_info: msgspec.Raw = msgspec.Raw(b"{}")


class Push(msgspec.Struct, frozen=True, gc=False):
    """Anything a socket says: data (`topic` set) or the answer to an operation (`op` set). Times in ms."""

    topic: str = ""
    type: str = ""
    ts: int = 0
    cts: int = 0
    data: msgspec.Raw = msgspec.Raw(b"")
    op: str = ""
    success: bool | None = None
    ret_msg: str = ""
    req_id: str | int | None = None


class BookPush(msgspec.Struct, frozen=True, gc=False):
    """A message of `orderbook.*` as a whole; `Push` with its `data` already decoded."""

    topic: str
    data: BookRows
    type: str = ""
    ts: int = 0
    cts: int = 0


class OrderPush(msgspec.Struct, frozen=True, gc=False):
    """A message of `order` as a whole; `Push` with its `data` already decoded."""

    topic: str
    data: list[OrderRow]
    type: str = ""
    ts: int = 0
    cts: int = 0
    op: str = ""
    success: bool | None = None
    ret_msg: str = ""
    req_id: str | int | None = None


class ExecutionPush(msgspec.Struct, frozen=True, gc=False):
    """As OrderPush, of `execution`."""

    topic: str
    data: list[ExecutionRow]
    type: str = ""
    ts: int = 0
    cts: int = 0
    op: str = ""
    success: bool | None = None
    ret_msg: str = ""
    req_id: str | int | None = None


class TradeRow(msgspec.Struct, frozen=True, gc=False):
    """A public trade: time in ms, symbol, taker's side, size, price."""

    T: int
    s: str
    S: str
    v: str
    p: str


class TradePush(msgspec.Struct, frozen=True, gc=False):
    """As OrderPush, of `publicTrade.*`."""

    topic: str
    data: list[TradeRow]
    type: str = ""
    ts: int = 0
    cts: int = 0
    op: str = ""
    success: bool | None = None
    ret_msg: str = ""
    req_id: str | int | None = None


# ---- decoding -------------------------------------------------------------------------------------------------------

_decoders: dict[object, msgspec.json.Decoder[Any]] = {}
_lists: dict[type, Any] = {}
"""Kind of row to a list of such."""


def decode(kind: type[T], raw: bytes | str | msgspec.Raw, where: str) -> T:
    """The bytes as `kind`. Raises VenueGarbled with `where` and the path of the field that does not fit."""
    decoder = _decoders.get(kind)
    if decoder is None:
        decoder = _decoders[kind] = msgspec.json.Decoder(kind)
    try:
        value: T = decoder.decode(raw)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise VenueGarbled(f"{where}: {error}") from None
    return value


def decode_rows(kind: type[T], raw: bytes | str | msgspec.Raw, where: str) -> list[T]:
    """A JSON array of `kind`. Raises VenueGarbled as `decode`."""
    listed: Any = _lists.get(kind)
    if listed is None:
        listed = _lists[kind] = GenericAlias(list, (kind,))
    rows: list[T] = decode(listed, raw, where)
    return rows


_BOOK_BYTES, _BOOK_TEXT = b'{"topic":"orderbook.', '{"topic":"orderbook.'
_book_push = msgspec.json.Decoder(BookPush)


def book_push(raw: bytes | str) -> BookPush | None:
    """A message of `orderbook.*` in one pass over it. None: it is none, or has to be looked at in two to say why not.

    Nearly everything that a public stream says is a book, and the venue writes the topic first.
    """
    if not (raw.startswith(_BOOK_TEXT) if isinstance(raw, str) else raw.startswith(_BOOK_BYTES)):
        return None
    try:
        return _book_push.decode(raw)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None


_trade_push = msgspec.json.Decoder(TradePush)
_TRADE_BYTES, _TRADE_TEXT = b'{"topic":"publicTrade.', '{"topic":"publicTrade.'


def trade_push(raw: bytes | str) -> TradePush | None:
    """As `book_push`, of `publicTrade.*`."""
    if not (raw.startswith(_TRADE_TEXT) if isinstance(raw, str) else raw.startswith(_TRADE_BYTES)):
        return None
    try:
        found = _trade_push.decode(raw)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None
    return None if found.success is False else found


_order_push, _execution_push = msgspec.json.Decoder(OrderPush), msgspec.json.Decoder(ExecutionPush)
_TOPIC_WITHIN = 160
"""Characters from the begin: the venue writes an id before the topic."""


def account_push(raw: bytes | str) -> OrderPush | ExecutionPush | None:
    """As `book_push`, of `order` and `execution`."""
    if isinstance(raw, str):
        is_order = raw.find('"topic":"order"', 0, _TOPIC_WITHIN) > 0
        is_execution = not is_order and raw.find('"topic":"execution"', 0, _TOPIC_WITHIN) > 0
    else:
        is_order = raw.find(b'"topic":"order"', 0, _TOPIC_WITHIN) > 0
        is_execution = not is_order and raw.find(b'"topic":"execution"', 0, _TOPIC_WITHIN) > 0
    found: OrderPush | ExecutionPush
    try:
        if is_order:
            found = _order_push.decode(raw)
        elif is_execution:
            found = _execution_push.decode(raw)
        else:
            return None
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None
    whole = found.topic == ("order" if is_order else "execution") and found.success is not False
    return found if whole else None


_NAMED = re.compile(rb'"(?:topic|s)"\s*:\s*"(?:[A-Za-z0-9_]{1,40}\.){0,4}([A-Za-z0-9]{1,40})"')


def symbols_named(raw: bytes | str) -> set[str]:
    """What a message names as its topic's or its data's symbol, whatever else is in it; empty where nothing is."""
    return {found.decode() for found in _NAMED.findall(raw.encode(errors="replace") if isinstance(raw, str) else raw)}


def envelope(status: int, body: bytes, where: str) -> Envelope:
    """The envelope of a REST answer. Raises VenueUnknown for an HTTP failure, VenueGarbled for anything else.

    403 is the address limit, 429 a rate limit, 5xx the venue in trouble: none of them says what became of the request.
    Nor does another failure around a body that speaks of success.
    """
    if status in {403, 429} or status >= 500:
        raise VenueUnknown(f"{where}: HTTP {status}", status)
    try:
        found = decode(Envelope, body, where)
    except VenueGarbled as error:
        raise VenueGarbled(f"{error} (HTTP {status})", status if status != 200 else 0) from None
    if status != 200 and not found.ret_code:
        raise VenueUnknown(f"{where}: HTTP {status} around a success", status)
    return found


_ack_envelope = msgspec.json.Decoder(_AckEnvelope)


def acknowledged(status: int, body: bytes) -> str | None:
    """The venue's id of the order that a success of one order is about, in one pass over it.

    None: it is no such, or has to be looked at in two to say why not.
    """
    if status != 200:
        return None
    try:
        found = _ack_envelope.decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None
    return None if found.ret_code else found.result.order_id


def next_cursor(cursor: str, seen: set[str], where: str) -> str:
    """The cursor of the next page, empty after the last. Raises VenueGarbled where the venue goes in a circle."""
    if not cursor:
        return ""
    if cursor in seen:
        raise VenueGarbled(f"{where}: nextPageCursor {cursor!r} comes a second time")
    seen.add(cursor)
    return cursor
