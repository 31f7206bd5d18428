"""Order entry in Bybit V5: parameters to the venue's own terms, refusals to codes. Pure."""

from __future__ import annotations

from decimal import Decimal, InvalidOperation

from bot.domain.instrument import NotOnGrid
from bot.domain.order import Side
from bot.simulator.accounts import Account
from bot.simulator.bybit_access import V5Error
from bot.simulator.orders import NewOrder, Order, Refusal, Refused, TimeInForce
from bot.simulator.venue import Venue

Params = dict[str, object]

CODES = {
    Refusal.SYMBOL_UNKNOWN: 10001,
    Refusal.QTY_INVALID: 10001,
    Refusal.QTY_BELOW_MIN: 10001,
    Refusal.QTY_ABOVE_MAX: 10001,
    Refusal.NOTIONAL_BELOW_MIN: 110094,
    Refusal.PRICE_INVALID: 10001,
    Refusal.PRICE_OUT_OF_RANGE: 110003,
    Refusal.LINK_ID_INVALID: 10001,
    Refusal.LINK_ID_DUPLICATE: 110072,
    Refusal.ORDER_NOT_FOUND: 110001,
    Refusal.ORDER_UNCHANGED: 10001,
    Refusal.ORDERS_TOO_MANY: 110020,
    Refusal.REDUCE_ONLY: 110017,
    Refusal.BALANCE_INSUFFICIENT: 110007,
    Refusal.NO_LIQUIDITY: 110003,
}
_SIDES = {"Buy": Side.BUY, "Sell": Side.SELL}
CANCEL_ALL_MAX = 500


def v5_error(refused: Refused) -> V5Error:
    """The code the real venue gives for this refusal of a linear order."""
    return V5Error(CODES[refused.refusal], refused.detail)


def check_category(params: Params) -> None:
    category = params.get("category")
    if category != "linear":
        raise V5Error(10001, f"params error: category {category!r} is not linear")


def check_symbol(venue: Venue, params: Params) -> None:
    symbol = params.get("symbol")
    if symbol != venue.instrument.symbol:
        raise V5Error(10001, f"params error: symbol invalid {symbol}")


def create(venue: Venue, account: Account, params: Params, now_ns: int) -> Params:
    """order/create. The order id is returned even for a post-only order that will end at once."""
    check_category(params)
    check_symbol(venue, params)
    new = _new_order(venue, params)
    try:
        order = venue.create(account, new, now_ns)
    except Refused as refused:
        raise v5_error(refused) from refused
    return {"orderId": order.order_id, "orderLinkId": order.link_id}


def amend(venue: Venue, account: Account, params: Params, now_ns: int) -> Params:
    check_category(params)
    check_symbol(venue, params)
    order = find_order(account, params)
    price = _ticks(venue, params["price"]) if params.get("price") else None
    qty = _lots(venue, params["qty"]) if params.get("qty") else None
    if price is None and qty is None:
        raise V5Error(10001, "params error: price or qty is needed")
    try:
        venue.amend(account, order, price, qty, now_ns)
    except Refused as refused:
        raise v5_error(refused) from refused
    return {"orderId": order.order_id, "orderLinkId": order.link_id}


def cancel(venue: Venue, account: Account, params: Params, now_ns: int) -> Params:
    check_category(params)
    check_symbol(venue, params)
    order = find_order(account, params)
    try:
        venue.cancel(account, order, now_ns)
    except Refused as refused:
        raise v5_error(refused) from refused
    return {"orderId": order.order_id, "orderLinkId": order.link_id}


def cancel_all(venue: Venue, account: Account, params: Params, now_ns: int) -> Params:
    """order/cancel-all: by symbol, or by baseCoin or settleCoin; at most 500 at a time."""
    check_category(params)
    instrument = venue.instrument
    if params.get("symbol"):
        check_symbol(venue, params)
    elif not params.get("settleCoin") and not params.get("baseCoin"):
        raise V5Error(10001, "params error: symbol, baseCoin or settleCoin is needed")
    here = (params.get("settleCoin") or instrument.quote, params.get("baseCoin") or instrument.base)
    chosen = list(account.open_orders.values())[:CANCEL_ALL_MAX] if here == (instrument.quote, instrument.base) else []
    for order in chosen:
        venue.cancel(account, order, now_ns)
    cancelled = [{"orderId": order.order_id, "orderLinkId": order.link_id} for order in chosen]
    return {"list": cancelled, "success": "1"}


def find_order(account: Account, params: Params) -> Order:
    """By orderId, else by orderLinkId. Raises V5Error 110001 where there is none, 10001 where neither is given."""
    order_id, link_id = params.get("orderId"), params.get("orderLinkId")
    if not order_id and not link_id:
        raise V5Error(10001, "params error: orderId or orderLinkId is needed")
    order = account.by_id.get(str(order_id)) if order_id else account.by_link.get(str(link_id))
    if order is None:
        raise V5Error(110001, "order not exists or too late to cancel")
    return order


def _new_order(venue: Venue, params: Params) -> NewOrder:
    side = _SIDES.get(str(params.get("side")))
    if side is None:
        raise V5Error(10001, f"params error: side {params.get('side')!r} is not Buy or Sell")
    kind = params.get("orderType")
    if kind not in ("Limit", "Market"):
        raise V5Error(10001, f"params error: orderType {kind!r} is not Limit or Market")
    tif = str(params.get("timeInForce") or "GTC")
    if tif not in TimeInForce.__members__.values():
        raise V5Error(10001, f"params error: timeInForce {tif!r} is not one of {', '.join(TimeInForce)}")
    if params.get("positionIdx", 0) not in (0, "0"):
        raise V5Error(10001, "position idx not match position mode")
    reduce_only = params.get("reduceOnly", False)
    if not isinstance(reduce_only, bool):
        raise V5Error(10001, f"params error: reduceOnly {reduce_only!r} is not true or false")
    price = _ticks(venue, params.get("price")) if kind == "Limit" else None
    qty = _lots(venue, params.get("qty"))
    return NewOrder(str(params.get("orderLinkId") or ""), side, price, qty, TimeInForce(tif), reduce_only)


def _decimal(name: str, value: object) -> Decimal:
    if not isinstance(value, str):
        raise V5Error(10001, f"params error: {name} {value!r} is not a string")
    try:
        number = Decimal(value)
    except InvalidOperation:
        number = Decimal("NaN")
    if not number.is_finite() or number <= 0:
        raise V5Error(10001, f"params error: {name} {value[:40]!r} is not a number above 0")
    return number


def _ticks(venue: Venue, value: object) -> int:
    if isinstance(value, str) and (known := venue.prices_seen.get(value)) is not None:
        return known
    try:
        return venue.prices_seen.keep(str(value), venue.instrument.ticks(_decimal("price", value)))
    except NotOnGrid as error:
        raise V5Error(10001, f"params error: Price invalid: {error}") from error


def _lots(venue: Venue, value: object) -> int:
    if isinstance(value, str) and (known := venue.sizes_seen.get(value)) is not None:
        return known
    try:
        return venue.sizes_seen.keep(str(value), venue.instrument.lots(_decimal("qty", value)))
    except NotOnGrid as error:
        raise V5Error(10001, f"params error: Qty invalid: {error}") from error
