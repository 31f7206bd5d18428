"""Every REST call we make, as data: method, path, and the exact bytes that are signed and sent. Pure.

`signed` calls get their headers from `bot.venues.bybit.signing` at the moment of sending, over `payload`.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Final
from urllib.parse import quote

import msgspec

from bot.domain.instrument import Category
from bot.domain.order import Side
from bot.venues.port import ImmediateOrder

TIME: Final = "/v5/market/time"
INSTRUMENTS: Final = "/v5/market/instruments-info"
ORDERBOOK: Final = "/v5/market/orderbook"
CREATE: Final = "/v5/order/create"
AMEND: Final = "/v5/order/amend"
CANCEL: Final = "/v5/order/cancel"
CANCEL_ALL: Final = "/v5/order/cancel-all"
CREATE_BATCH: Final = "/v5/order/create-batch"
AMEND_BATCH: Final = "/v5/order/amend-batch"
CANCEL_BATCH: Final = "/v5/order/cancel-batch"
BATCH_OF: Final = {CREATE: CREATE_BATCH, AMEND: AMEND_BATCH, CANCEL: CANCEL_BATCH}
BATCH_MAX: Final[dict[Category, int]] = {"linear": 20, "spot": 10}
"""Orders that one request may carry."""
DISCONNECT_CANCEL: Final = "/v5/order/disconnected-cancel-all"
OPEN_ORDERS: Final = "/v5/order/realtime"
ORDER_HISTORY: Final = "/v5/order/history"
EXECUTIONS: Final = "/v5/execution/list"
POSITIONS: Final = "/v5/position/list"
WALLET: Final = "/v5/account/wallet-balance"
FEE_RATE: Final = "/v5/account/fee-rate"
KEY_INFORMATION: Final = "/v5/user/query-api"
ACCOUNT_INFORMATION: Final = "/v5/account/info"

BOT_ENDPOINTS: Final = (
    *(TIME, INSTRUMENTS, ORDERBOOK, CREATE, AMEND, CANCEL, CANCEL_ALL, CREATE_BATCH, AMEND_BATCH, CANCEL_BATCH),
    *(OPEN_ORDERS, ORDER_HISTORY, EXECUTIONS, POSITIONS, WALLET, FEE_RATE, KEY_INFORMATION),
)
"""What the adapter calls; the counters of its answers are born with these."""

POSITION_PAGE_ROWS: Final = 200
SETTLE_COINS: Final[dict[Category, tuple[str, ...]]] = {"linear": ("USDT", "USDC"), "spot": ("",)}
"""What a question about the whole account has to be asked for, one by one."""
PAGE_ROWS: Final = 50
EXECUTION_PAGE_ROWS: Final = 100
EXECUTION_WINDOW_MS: Final = 7 * 24 * 3600 * 1000
"""The venue looks at most this far from `startTime`."""

_encode = msgspec.json.Encoder().encode
SYMBOLS_KEPT: Final = 256
_amend_heads: Final[dict[str, dict[str, str]]] = {}
"""Symbol and category to how the body of an amend begins."""
IDS_KEPT: Final = 256
_ids: Final[dict[str, str]] = {}
"""Ids of orders in JSON."""

_SIDE_WORDS: Final = {Side.BUY: "Buy", Side.SELL: "Sell"}


class Call:
    """One request. A GET carries `query`, a POST `text`. `epoch`: of the grant that it needs to leave; 0: of none.

    `orders`: how many of what its endpoint takes in a second it uses up. `client_order_id`, `venue_order_id`: by which
    it names its order, empty where it does not.
    """

    __slots__ = (
        "client_order_id", "epoch", "method", "orders", "path", "query", "signed", "text", "venue_order_id"
    )  # fmt: skip

    def __init__(
        self,
        method: str,
        path: str,
        query: str = "",
        text: str = "",
        signed: bool = True,
        epoch: int = 0,
        orders: int = 1,
        client_order_id: str = "",
        venue_order_id: str = "",
    ) -> None:
        self.method = method
        self.path = path
        self.query = query
        self.text = text
        self.signed = signed
        self.epoch = epoch
        self.orders = orders
        self.client_order_id = client_order_id
        self.venue_order_id = venue_order_id

    @property
    def body(self) -> bytes:
        return self.text.encode()

    @property
    def payload(self) -> bytes:
        """What the signature covers."""
        return (self.text or self.query).encode()

    @property
    def target(self) -> str:
        """Path and query, ready to be sent: nothing may quote it again."""
        return f"{self.path}?{self.query}" if self.query else self.path


def _get(path: str, *, signed: bool = True, cursor: str = "", **fields: str) -> Call:
    query = "&".join(
        f"{name}={value if value.isalnum() and value.isascii() else quote(value, safe='')}"
        for name, value in fields.items()
        if value
    )
    if cursor:
        # the venue hands its cursors out percent-encoded: they go back as they came
        query += "&cursor=" + quote(cursor, safe="%")
    return Call("GET", path, query=query, signed=signed)


def _post(
    path: str, fields: dict[str, str | int | bool], epoch: int = 0, client_order_id: str = "", venue_order_id: str = ""
) -> Call:
    text = _encode(fields).decode()
    return Call(
        "POST", path, text=text, epoch=epoch, client_order_id=client_order_id, venue_order_id=venue_order_id
    )  # fmt: skip


def number(value: Decimal) -> str:
    """A decimal as the venue reads it: plain digits, no exponent."""
    return format(value, "f")


# ---- market data ----------------------------------------------------------------------------------------------------


def server_time() -> Call:
    return _get(TIME, signed=False)


def instruments(category: Category, symbol: str) -> Call:
    return _get(INSTRUMENTS, signed=False, category=category, symbol=symbol)


def orderbook(category: Category, symbol: str) -> Call:
    return _get(ORDERBOOK, signed=False, category=category, symbol=symbol, limit="1")


# ---- orders ---------------------------------------------------------------------------------------------------------


def create_post_only(
    category: Category,
    symbol: str,
    side: Side,
    qty: Decimal,
    price: Decimal,
    client_order_id: str,
    reduce_only: bool,
    epoch: int = 0,
) -> Call:
    """A limit order that the venue refuses rather than lets take."""
    return _create(category, symbol, side, qty, price, client_order_id, "PostOnly", reduce_only, epoch)


def create_immediate(category: Category, order: ImmediateOrder) -> Call:
    """A reduce-only limit order that takes what it can inside its limit and cancels the rest at once."""
    return _create(category, order.symbol, order.side, order.qty, order.price_limit, order.client_order_id, "IOC", True)


def _create(
    category: Category,
    symbol: str,
    side: Side,
    qty: Decimal,
    price: Decimal,
    client_order_id: str,
    time_in_force: str,
    reduce_only: bool,
    epoch: int = 0,
) -> Call:
    fields: dict[str, str | int | bool] = {
        "category": category,
        "symbol": symbol,
        "side": _SIDE_WORDS[side],
        "orderType": "Limit",
        "qty": number(qty),
        "price": number(price),
        "timeInForce": time_in_force,
        "orderLinkId": client_order_id,
    }
    if category == "linear":  # spot has neither positions nor reduce-only
        fields["positionIdx"], fields["reduceOnly"] = 0, reduce_only
    return _post(CREATE, fields, epoch, client_order_id)


def amend(category: Category, symbol: str, client_order_id: str, qty: Decimal, price: Decimal, epoch: int = 0) -> Call:
    return amend_as_written(category, symbol, client_order_id, number(qty), number(price), epoch)


def amend_as_written(category: Category, symbol: str, client_order_id: str, qty: str, price: str, epoch: int) -> Call:
    """As `amend`, with both as `number` writes them: in them nothing needs escaping."""
    heads = _amend_heads.get(symbol)
    if heads is None:
        if len(_amend_heads) >= SYMBOLS_KEPT:
            _amend_heads.clear()
        heads = _amend_heads[symbol] = {}
    head = heads.get(category)
    if head is None:
        head = heads[category] = _encode({"category": category, "symbol": symbol}).decode()[:-1] + ',"orderLinkId":'
    text = f'{head}{_id_in_json(client_order_id)},"qty":"{qty}","price":"{price}"}}'
    return Call("POST", AMEND, "", text, True, epoch, 1, client_order_id)


def _id_in_json(client_order_id: str) -> str:
    """The same few orders are amended again and again."""
    text = _ids.get(client_order_id)
    if text is None:
        if len(_ids) >= IDS_KEPT:
            _ids.clear()
        text = _ids[client_order_id] = _encode(client_order_id).decode()
    return text


def cancel(category: Category, symbol: str, *, client_order_id: str = "", venue_order_id: str = "") -> Call:
    """By the venue's id where it is known, else by ours."""
    if venue_order_id:
        fields: dict[str, str | int | bool] = {"category": category, "symbol": symbol, "orderId": venue_order_id}
        return _post(CANCEL, fields, venue_order_id=venue_order_id)
    fields = {"category": category, "symbol": symbol, "orderLinkId": client_order_id}
    return _post(CANCEL, fields, client_order_id=client_order_id)


def cancel_all(category: Category, symbol: str) -> Call:
    return _post(CANCEL_ALL, {"category": category, "symbol": symbol})


def cancel_everything(category: Category, coin: str) -> Call:
    """Every order that settles in that coin; of spot, which needs none, every order."""
    return _post(CANCEL_ALL, {"category": category, **({"settleCoin": coin} if coin else {})})


def batch(several: list[Call]) -> Call:
    """Calls of one kind and one category as one; it needs the newest grant that any of them needs."""
    first, epoch = several[0], 0
    category = first.text[: first.text.find(",") + 1]  # `_post` writes it first, and it is a word without a comma
    if not category.startswith('{"category":"'):
        raise ValueError(f"{first.path}: no order that can go in a batch")
    rows: list[str] = []
    for call in several:
        if not call.text.startswith(category):
            raise ValueError(f"{call.path}: orders of one batch have one category")
        rows.append(call.text[len(category) :])
        epoch = max(epoch, call.epoch)
    text = f'{category}"request":[{{{",{".join(rows)}]}}'
    return Call("POST", BATCH_OF[first.path], "", text, True, epoch, len(several))


def disconnect_cancel(category: Category, window_s: int) -> Call:
    """Cancel all orders of the account that long after its last guarding connection has gone, 3 to 300 s."""
    product = "SPOT" if category == "spot" else "DERIVATIVES"
    return _post(DISCONNECT_CANCEL, {"product": product, "timeWindow": window_s})


# ---- reads of the account -------------------------------------------------------------------------------------------


def open_orders(category: Category, symbol: str, cursor: str = "", coin: str = "") -> Call:
    """Of one symbol, or of all that settle in that coin; of spot with neither, all."""
    return _get(
        OPEN_ORDERS, category=category, symbol=symbol, settleCoin=coin, openOnly="0", limit=str(PAGE_ROWS),
        cursor=cursor,
    )  # fmt: skip


def recent_orders(category: Category, symbol: str, coin: str = "") -> Call:
    """The newest orders, those that have ended included; one page, as it happens."""
    return _get(
        OPEN_ORDERS, category=category, symbol=symbol, settleCoin=coin, openOnly="1", limit=str(PAGE_ROWS)
    )  # fmt: skip


def order_now(category: Category, symbol: str, client_order_id: str) -> Call:
    """One order among the open and the lately closed."""
    return _get(OPEN_ORDERS, category=category, symbol=symbol, orderLinkId=client_order_id)


def order_before(category: Category, symbol: str, client_order_id: str) -> Call:
    """One order in history."""
    return _get(ORDER_HISTORY, category=category, symbol=symbol, orderLinkId=client_order_id)


def executions(category: Category, symbol: str, start_ms: int, end_ms: int, cursor: str = "") -> Call:
    """`end_ms` at most EXECUTION_WINDOW_MS after `start_ms`."""
    return _get(
        EXECUTIONS,
        category=category,
        symbol=symbol,
        startTime=str(start_ms),
        endTime=str(end_ms),
        limit=str(EXECUTION_PAGE_ROWS),
        cursor=cursor,
    )


def execution_windows(since_ms: int, until_ms: int) -> list[tuple[int, int]]:
    """The windows that cover both ends, each as long as the venue allows at most."""
    windows: list[tuple[int, int]] = []
    start_ms = since_ms
    while start_ms <= until_ms:
        end_ms = min(start_ms + EXECUTION_WINDOW_MS, until_ms)
        windows.append((start_ms, end_ms))
        start_ms = end_ms + 1
    return windows


def position(category: Category, symbol: str) -> Call:
    return _get(POSITIONS, category=category, symbol=symbol)


def positions_held(category: Category, coin: str, cursor: str = "") -> Call:
    """Of all symbols that settle in that coin; what is flat is not shown."""
    return _get(POSITIONS, category=category, settleCoin=coin, limit=str(POSITION_PAGE_ROWS), cursor=cursor)


def wallet(coin: str) -> Call:
    return _get(WALLET, accountType="UNIFIED", coin=coin)


def fee_rate(category: Category, symbol: str) -> Call:
    """Of one symbol, or with an empty one of all."""
    return _get(FEE_RATE, category=category, symbol=symbol)


def key_information() -> Call:
    return _get(KEY_INFORMATION)


def account_information() -> Call:
    return _get(ACCOUNT_INFORMATION)
