"""ccxt's unified answers, numbers as text, to our types. Exact: contracts become base by their size; no float.

Raises VenueGarbled naming the field for whatever does not fit.
"""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal, InvalidOperation
from typing import Any, Final

from bot.domain.events import BookSnapshot, Filled, Level, OrderStatus, TradePrinted, VenueOrder
from bot.domain.instrument import Category, Instrument, NotOnGrid
from bot.domain.order import Side
from bot.venues.ccxt.capabilities import Capabilities
from bot.venues.port import VenueGarbled, VenueRefused

NS_PER_MS: Final = 1_000_000
NO_LIMIT: Final = Decimal(10**9)
OKX_POST_ONLY: Final = "31"
"""OKX's `cancelSource` of a post-only order that would have taken."""

_STATUSES: Final = {
    "open": OrderStatus.WORKING,
    "closed": OrderStatus.FILLED,
    "canceled": OrderStatus.CANCELLED,
    "expired": OrderStatus.CANCELLED,
    "rejected": OrderStatus.REJECTED,
}
_SIDES: Final = {"buy": Side.BUY, "sell": Side.SELL}

Answer = Mapping[str, Any]


class Listed:
    """One market: its instrument, its name at ccxt, and how much base one contract is."""

    def __init__(self, instrument: Instrument, name: str, contract_size: Decimal) -> None:
        self.instrument = instrument
        self.name = name
        self.contract_size = contract_size

    def amount(self, qty: Decimal) -> str:
        """Base as the venue counts it, plain digits."""
        return format((qty / self.contract_size).normalize(), "f")


def decimal(value: object, field: str) -> Decimal:
    """A finite number. Raises VenueGarbled, also for what is missing: that is not zero."""
    try:
        found = Decimal(str(value))
    except InvalidOperation:
        raise VenueGarbled(f"{field}: {value!r} is no decimal number") from None
    if not found.is_finite():
        raise VenueGarbled(f"{field}: {value!r} is no finite number")
    return found


def listed(markets: Mapping[str, Answer], symbol: str, category: Category) -> Listed:
    """The market whose base and quote are the symbol. Raises VenueRefused where there is none that trades."""
    kind = "swap" if category == "linear" else "spot"
    for market in markets.values():
        if f"{market['base']}{market['quote']}" == symbol and market["type"] == kind:
            if category == "linear" and not market.get("linear"):
                continue
            if market.get("active") is False:
                raise VenueRefused(f"{symbol}: the venue does not trade it now")
            return _listed(market, symbol, category)
    raise VenueRefused(f"{symbol}: the venue does not list it in category {category}")


def _listed(market: Answer, symbol: str, category: Category) -> Listed:
    size = decimal(market.get("contractSize") or "1", "contractSize") if category == "linear" else Decimal(1)
    tick = decimal(market["precision"]["price"], "precision.price")
    lot = decimal(market["precision"]["amount"], "precision.amount") * size
    limits = market["limits"]
    if tick <= 0 or lot <= 0:
        raise VenueGarbled(f"{symbol}: tick {tick} and lot {lot} have to be above 0")
    amounts = limits["amount"]
    instrument = Instrument(
        symbol=symbol,
        category=category,
        base=market["base"],
        quote=market["quote"],
        tick_size=tick.normalize(),
        lot_size=lot.normalize(),
        qty_min=decimal(amounts["min"], "limits.amount.min") * size if amounts.get("min") else lot,
        qty_max=decimal(amounts["max"], "limits.amount.max") * size if amounts.get("max") else NO_LIMIT,
        notional_min_quote=decimal(limits["cost"]["min"] or "0", "limits.cost.min"),
    )
    return Listed(instrument, market["symbol"], size)


# ---- market data ----------------------------------------------------------------------------------------------------


def book(answer: Answer, market: Listed, update_id: int, at_ns: int) -> BookSnapshot:
    """A whole book. Levels are sorted here: the library sorts them as text."""
    bids, asks = (_levels(answer[side], market, side) for side in ("bids", "asks"))
    return BookSnapshot(
        at_ns,
        market.instrument.symbol,
        tuple(sorted(bids, reverse=True)),
        tuple(sorted(asks)),
        update_id,
        int(answer.get("timestamp") or 0) * NS_PER_MS or at_ns,
    )


def _levels(rows: Any, market: Listed, field: str) -> list[Level]:
    found: list[Level] = []
    for row in rows:
        price, amount = decimal(row[0], f"{field}.price"), decimal(row[1], f"{field}.amount")
        if amount < 0:
            raise VenueGarbled(f"{field}.amount: {amount} is below 0")
        lots = market.instrument.lots_floor(amount * market.contract_size)
        if lots:
            found.append((_ticks(price, market.instrument, f"{field}.price"), lots))
    return found


def trade(answer: Answer, market: Listed, at_ns: int) -> TradePrinted:
    """A public trade; the side is the taker's."""
    return TradePrinted(
        at_ns,
        market.instrument.symbol,
        _ticks(decimal(answer["price"], "price"), market.instrument, "price"),
        market.instrument.lots_floor(decimal(answer["amount"], "amount") * market.contract_size),
        side(answer.get("side")),
        int(answer["timestamp"]) * NS_PER_MS,
    )


# ---- the account ----------------------------------------------------------------------------------------------------


def side(text: object) -> Side:
    """Raises VenueGarbled."""
    found = _SIDES.get(str(text))
    if found is None:
        raise VenueGarbled(f"side: {text!r}, allowed: buy sell")
    return found


def order(answer: Answer, market: Listed, venue: Capabilities) -> VenueOrder:
    """An order as the venue shows it. A post-only refusal is REJECTED, whichever status carries it."""
    instrument = market.instrument
    found = _STATUSES.get(str(answer.get("status")))
    if found is None:
        raise VenueGarbled(f"status: {answer.get('status')!r} of order {answer.get('id')} is none we know")
    refused = is_post_only_refusal(answer, venue.exchange)
    price = answer.get("price")
    return VenueOrder(
        symbol=instrument.symbol,
        client_order_id=venue.id_here(str(answer.get("clientOrderId") or "")),
        venue_order_id=str(answer["id"]),
        side=side(answer.get("side")),
        price_ticks=_ticks(decimal(price, "price"), instrument, "price") if price else 0,
        qty_lots=_lots(answer, "amount", market),
        filled_lots=_lots(answer, "filled", market),
        status=OrderStatus.REJECTED if refused else found,
        reason="post-only order would have taken" if refused else "",
        post_only_refused=refused,
    )


def is_post_only_refusal(answer: Answer, exchange: str) -> bool:
    """Ended by the venue because it would have taken. Binance: a GTX order that expired; OKX: by its cancel source."""
    info = answer.get("info") or {}
    if exchange == "binance":
        return info.get("timeInForce") == "GTX" and info.get("status") == "EXPIRED"
    return exchange == "okx" and info.get("cancelSource") == OKX_POST_ONLY


def fill(answer: Answer, market: Listed, venue: Capabilities, at_ns: int) -> Filled:
    """One execution. Its fee in quote, positive paid; one in base is worth the execution's price."""
    instrument = market.instrument
    price = decimal(answer["price"], "price")
    fee = answer.get("fee") or {}
    cost = decimal(fee.get("cost"), "fee.cost")
    if cost and fee.get("currency") == instrument.base:
        cost *= price
    elif cost and fee.get("currency") != instrument.quote:
        allowed = f"{instrument.quote} {instrument.base}"
        raise VenueGarbled(f"fee.currency: {fee.get('currency')!r} of {instrument.symbol}, allowed: {allowed}")
    maker = answer.get("takerOrMaker")
    if maker not in ("maker", "taker"):
        raise VenueGarbled(f"takerOrMaker: {maker!r}, allowed: maker taker")
    info = answer.get("info") or {}
    return Filled(
        at_ns,
        execution_id=str(answer["id"]),
        client_order_id=venue.id_here(str(info.get("clOrdId") or "")),
        venue_order_id=str(answer["order"]),
        symbol=instrument.symbol,
        side=side(answer.get("side")),
        price=price,
        qty_lots=_lots(answer, "amount", market),
        fee_quote=cost,
        is_maker=maker == "maker",
        venue_at_ns=int(answer["timestamp"]) * NS_PER_MS,
    )


def _ticks(price: Decimal, instrument: Instrument, field: str) -> int:
    try:
        return instrument.ticks(price)
    except NotOnGrid as error:
        raise VenueGarbled(f"{field}: {error}") from None


def _lots(answer: Answer, field: str, market: Listed) -> int:
    try:
        return market.instrument.lots(decimal(answer.get(field), field) * market.contract_size)
    except NotOnGrid as error:
        raise VenueGarbled(f"{field}: {error}") from None
