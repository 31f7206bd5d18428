"""Order entry in Bybit V5: parameters to the venue's own terms, refusals to codes. Pure."""

from __future__ import annotations

import random
from collections.abc import Mapping
from decimal import Decimal, InvalidOperation
from typing import Final

from bot.domain.instrument import Category, NotOnGrid
from bot.domain.order import Side
from bot.simulator.accounts import Account, Holder
from bot.simulator.bybit_access import V5Error
from bot.simulator.bybit_numbers import units
from bot.simulator.bybit_written import written_of
from bot.simulator.exchange import Exchange
from bot.simulator.orders import NewOrder, Order, Refusal, Refused, SelfMatch, Status, TimeInForce
from bot.simulator.venue import Venue

Params = dict[str, object]

CODES: Mapping[Refusal, int] = {
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
    Refusal.POST_ONLY_WOULD_TAKE: 110003,
}
"""Of a linear order."""

SPOT_CODES: Mapping[Refusal, int] = {
    **CODES,
    Refusal.QTY_INVALID: 170137,
    Refusal.QTY_BELOW_MIN: 170136,
    Refusal.QTY_ABOVE_MAX: 170135,
    Refusal.NOTIONAL_BELOW_MIN: 170140,
    Refusal.PRICE_INVALID: 170134,
    Refusal.PRICE_OUT_OF_RANGE: 170132,
    Refusal.LINK_ID_DUPLICATE: 170141,
    Refusal.ORDER_NOT_FOUND: 170142,
    Refusal.BALANCE_INSUFFICIENT: 170131,
    Refusal.NO_LIQUIDITY: 170190,
    Refusal.POST_ONLY_WOULD_TAKE: 170218,
}
NOT_FOUND: Final = {"linear": 110001, "spot": 170213}
SPOT_FILLED = 170139
SPOT_PRICE_TOO_LOW = 170133
_SIDES: Final = {"Buy": Side.BUY, "Sell": Side.SELL}
BATCH_MAX: Final[dict[str, int]] = {"linear": 20, "spot": 10}
"""Orders in one request, by category."""
CANCEL_ALL_MAX = 500
"""Contracts in one cancel-all; which of more is drawn."""
FILTERS: Mapping[Category, tuple[str, ...]] = {
    "linear": ("Order", "OpenOrder", "StopOrder"),
    "spot": ("Order", "StopOrder", "tpslOrder", "OcoOrder", "BidirectionalTpslOrder"),
}
"""Kinds of orders that may be named. Only ordinary ones stand at this venue."""
ORDINARY = ("Order", "OpenOrder")
CONDITIONS = ("triggerPrice", "takeProfit", "stopLoss")


def v5_error(refused: Refused, category: Category = "linear") -> V5Error:
    """The code the real venue gives for this refusal of an order of that category."""
    codes = SPOT_CODES if category == "spot" else CODES
    return V5Error(codes[refused.refusal], refused.detail)


class Desk:
    """Where a request is about: a symbol, and the holder's account there."""

    __slots__ = ("account", "category", "venue")

    def __init__(self, venue: Venue, account: Account) -> None:
        self.venue = venue
        self.account = account
        self.category: Category = venue.instrument.category

    def error(self, refused: Refused, order: Order | None = None) -> V5Error:
        """The code of a refusal; spot tells an order that was filled from one that was cancelled."""
        if self.category == "spot" and order is not None and order.status is Status.FILLED:
            return V5Error(SPOT_FILLED, "Order has been filled.")
        return v5_error(refused, self.category)

    def named(self, link_id: str) -> Order:
        """The order that its client calls so. Raises V5Error: the category's code where there is none."""
        return self._found(self.account.by_link.get(link_id))

    def numbered(self, order_id: str) -> Order:
        """As `named`, by the venue's id."""
        return self._found(self.account.by_id.get(order_id))

    def _found(self, order: Order | None) -> Order:
        if order is None:
            raise V5Error(NOT_FOUND[self.category], "order not exists or too late to cancel")
        return order

    def amend(self, order: Order, price_ticks: int | None, qty_lots: int | None, now_ns: int) -> None:
        """Raises V5Error."""
        try:
            self.venue.amend(self.account, order, price_ticks, qty_lots, now_ns)
        except Refused as refused:
            raise self.error(refused, order) from refused


def check_category(exchange: Exchange, params: Params) -> Category:
    """The category, where something of it trades. Raises V5Error 10001."""
    asked = params.get("category")
    for category in exchange.categories:
        if asked == category:
            return category
    traded = " or ".join(exchange.categories)
    raise V5Error(10001, f"params error: category {params.get('category')!r} is not {traded}")


def venue_of(exchange: Exchange, params: Params) -> Venue:
    """Where the request's symbol trades. Raises V5Error 10001."""
    venue = exchange.venue(params.get("category"), params.get("symbol"))
    if venue is None:
        check_category(exchange, params)
        raise V5Error(10001, f"params error: symbol invalid {params.get('symbol')}")
    return venue


def desk_of(exchange: Exchange, holder: Holder, params: Params) -> Desk:
    """As `venue_of`, with the holder's account there."""
    venue = venue_of(exchange, params)
    return Desk(venue, venue.accounts[holder.name])


def create(exchange: Exchange, holder: Holder, params: Params, now_ns: int) -> Params:
    """order/create. A contract's post-only order gets its id even where it will end at once."""
    desk = desk_of(exchange, holder, params)
    new = _new_order(desk.venue, params)
    try:
        order = desk.venue.create(desk.account, new, now_ns)
    except Refused as refused:
        if desk.category == "spot" and refused.refusal is Refusal.PRICE_OUT_OF_RANGE and new.side is Side.SELL:
            raise V5Error(SPOT_PRICE_TOO_LOW, refused.detail) from refused
        raise desk.error(refused) from refused
    return {"orderId": order.order_id, "orderLinkId": order.link_id}


def amend(exchange: Exchange, holder: Holder, params: Params, now_ns: int) -> Params:
    desk = desk_of(exchange, holder, params)
    order = find_order(desk, params)
    new_price, new_qty = params.get("price"), params.get("qty")
    price = _ticks(desk.venue, new_price) if new_price else None
    qty = lots_of(desk.venue, new_qty) if new_qty else None
    if price is None and qty is None:
        raise V5Error(10001, "params error: price or qty is needed")
    desk.amend(order, price, qty, now_ns)
    return {"orderId": order.order_id, "orderLinkId": order.link_id}


def cancel(exchange: Exchange, holder: Holder, params: Params, now_ns: int) -> Params:
    desk = desk_of(exchange, holder, params)
    order = find_order(desk, params)
    try:
        desk.venue.cancel(desk.account, order, now_ns)
    except Refused as refused:
        raise desk.error(refused, order) from refused
    return {"orderId": order.order_id, "orderLinkId": order.link_id}


def cancel_all(exchange: Exchange, holder: Holder, params: Params, now_ns: int) -> Params:
    """order/cancel-all: by symbol, or by baseCoin or settleCoin (spot needs neither); at most 500 contracts at a time.

    `orderFilter` names one kind of orders: spot means ordinary ones where it is not given, contracts all.
    """
    category = check_category(exchange, params)
    ordinary = _order_filter(category, params) in ORDINARY
    if params.get("symbol"):
        desks = [desk_of(exchange, holder, params)]
    else:
        if category == "linear" and not params.get("settleCoin") and not params.get("baseCoin"):
            raise V5Error(10001, "params error: symbol, baseCoin or settleCoin is needed")
        desks = [Desk(*one) for one in exchange.accounts(holder, category) if _concerns(one[0], params)]
    chosen = [(desk, order) for desk in desks for order in desk.account.open_orders.values()] if ordinary else []
    if category == "linear" and len(chosen) > CANCEL_ALL_MAX:
        chosen = random.Random(now_ns).sample(chosen, CANCEL_ALL_MAX)  # noqa: S311 - repeats with the clock
    for desk, order in chosen:
        if order.status.is_open:  # a reduce-only order may end with one cancelled before it
            desk.venue.cancel(desk.account, order, now_ns)
    cancelled = [{"orderId": order.order_id, "orderLinkId": order.link_id} for _, order in chosen]
    return {"list": cancelled, "success": "1"}


def _order_filter(category: Category, params: Params) -> str:
    """Raises V5Error 10001 for a kind that the category does not have."""
    chosen = str(params.get("orderFilter") or "Order")
    if chosen not in FILTERS[category]:
        allowed = ", ".join(FILTERS[category])
        raise V5Error(10001, f"params error: orderFilter {chosen[:40]!r} is not one of {allowed}")
    return chosen


def _concerns(venue: Venue, params: Params) -> bool:
    instrument = venue.instrument
    here = (params.get("settleCoin") or instrument.quote, params.get("baseCoin") or instrument.base)
    return here == (instrument.quote, instrument.base)


def find_order(desk: Desk, params: Params) -> Order:
    """By orderId, else by orderLinkId. Raises V5Error: the category's code where there is none, 10001 without an id."""
    order_id, link_id = params.get("orderId"), params.get("orderLinkId")
    if not order_id and not link_id:
        raise V5Error(10001, "params error: orderId or orderLinkId is needed")
    return desk.numbered(str(order_id)) if order_id else desk.named(str(link_id))


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
    conditions = [name for name in CONDITIONS if params.get(name)]
    if conditions or _order_filter(venue.instrument.category, params) not in ORDINARY:
        named = ", ".join(conditions) or f"orderFilter {params['orderFilter']}"
        raise V5Error(10001, f"params error: conditional orders are not offered here: {named}")
    tag = str(params.get("smpType") or "None")
    if tag not in SelfMatch.__members__.values():
        raise V5Error(10001, f"params error: smpType {tag[:40]!r} is not one of {', '.join(SelfMatch)}")
    if params.get("positionIdx", 0) not in (0, "0"):
        raise V5Error(10001, "position idx not match position mode")
    reduce_only = params.get("reduceOnly", False)
    if reduce_only and venue.instrument.category == "spot":
        raise V5Error(10001, "params error: spot has no reduceOnly")
    if not isinstance(reduce_only, bool):
        raise V5Error(10001, f"params error: reduceOnly {reduce_only!r} is not true or false")
    price = _ticks(venue, params.get("price")) if kind == "Limit" else None
    by_value = _is_by_value(venue, kind, side, params)
    qty = _market_buy_lots(venue, params) if by_value else lots_of(venue, params.get("qty"))
    link_id = str(params.get("orderLinkId") or "")
    return NewOrder(link_id, side, price, qty, TimeInForce(tif), reduce_only, SelfMatch(tag))


def _is_by_value(venue: Venue, kind: object, side: Side, params: Params) -> bool:
    """A spot market buy says how much quote it spends, unless `marketUnit` says otherwise."""
    is_spot_market_buy = venue.instrument.category == "spot" and kind == "Market" and side is Side.BUY
    return is_spot_market_buy and params.get("marketUnit", "quoteCoin") == "quoteCoin"


def _market_buy_lots(venue: Venue, params: Params) -> int:
    best = venue.book.best(Side.SELL)
    if best is None:
        raise V5Error(SPOT_CODES[Refusal.NO_LIQUIDITY], "nothing stands on the side a market order would take from")
    return venue.instrument.lots_floor(_decimal("qty", params.get("qty")) / venue.instrument.price(best))


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
    if isinstance(value, str) and (plain := units(value, written_of(venue.instrument).prices.places)) > 0:
        return venue.prices_seen.keep(value, plain)
    try:
        return venue.prices_seen.keep(str(value), venue.instrument.ticks(_decimal("price", value)))
    except NotOnGrid as error:
        code = SPOT_CODES[Refusal.PRICE_INVALID] if venue.instrument.category == "spot" else 10001
        raise V5Error(code, f"params error: Price invalid: {error}") from error


def lots_of(venue: Venue, value: object) -> int:
    if isinstance(value, str) and (known := venue.sizes_seen.get(value)) is not None:
        return known
    if isinstance(value, str) and (plain := units(value, written_of(venue.instrument).sizes.places)) > 0:
        return venue.sizes_seen.keep(value, plain)
    try:
        return venue.sizes_seen.keep(str(value), venue.instrument.lots(_decimal("qty", value)))
    except NotOnGrid as error:
        code = SPOT_CODES[Refusal.QTY_INVALID] if venue.instrument.category == "spot" else 10001
        raise V5Error(code, f"params error: Qty invalid: {error}") from error
