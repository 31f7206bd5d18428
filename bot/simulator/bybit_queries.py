"""Reads in Bybit V5, public and private. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import TypeVar

from bot.domain.order import Side
from bot.simulator import bybit_messages as messages
from bot.simulator import bybit_public as public
from bot.simulator.accounts import Account
from bot.simulator.admission import price_limits_ticks
from bot.simulator.api_keys import DAY_NS, utc
from bot.simulator.bybit_access import V5Error
from bot.simulator.bybit_dcp import WINDOW_DEFAULT_S
from bot.simulator.bybit_messages import Json, text
from bot.simulator.bybit_orders import Params, check_category, check_symbol
from bot.simulator.funding import Funding
from bot.simulator.orders import Execution, Order
from bot.simulator.venue import Venue

HERE = "linear"
"""The one category this venue trades."""
CATEGORIES = ("linear", "spot", "inverse", "option")
_Row = TypeVar("_Row")


# ---- public ---------------------------------------------------------------------------------------------------------


def time(now_ns: int) -> Json:
    return {"timeSecond": str(now_ns // 1_000_000_000), "timeNano": str(now_ns)}


def instruments(venue: Venue, params: Params) -> Json:
    """market/instruments-info: the one contract; categories that exist elsewhere are empty here, and so is page two."""
    category = _category_listed(params)
    limit(params, 500, 1000)
    if params.get("symbol") and category == HERE:
        check_symbol(venue, params)
    wanted = params.get("status", "Trading") == "Trading" and params.get("baseCoin") in (None, venue.instrument.base)
    shown = category == HERE and wanted and not params.get("cursor")
    launched_ms = 1_585_526_400_000  # the launch of the real BTCUSDT contract
    rows = [public.instrument_info(venue.instrument, launched_ms)] if shown else []
    return {"category": category, "list": rows, "nextPageCursor": ""}


def orderbook(venue: Venue, params: Params, now_ns: int) -> Json:
    check_category(params)
    check_symbol(venue, params)
    count = limit(params, 25, 500)
    instrument, book = venue.instrument, venue.book
    return {
        "s": instrument.symbol,
        "b": messages.levels(instrument, book.depth(Side.BUY, count)),
        "a": messages.levels(instrument, book.depth(Side.SELL, count)),
        "ts": now_ns // 1_000_000,
        "u": venue.sequence,
        "seq": venue.sequence,
        "cts": now_ns // 1_000_000,
    }


def tickers(venue: Venue, params: Params, now_ns: int) -> Json:
    category = _category_listed(params)
    if category != HERE:
        return {"category": category, "list": []}
    if params.get("symbol"):
        check_symbol(venue, params)
    return {"category": category, "list": [public.ticker(venue, now_ns)]}


def price_limit(venue: Venue, params: Params, now_ns: int) -> Json:
    check_symbol(venue, params)
    highest_buy, lowest_sell = price_limits_ticks(venue.mark_half_ticks)
    instrument = venue.instrument
    return {
        "symbol": instrument.symbol,
        "buyLmt": text(instrument.price(highest_buy)),
        "sellLmt": text(instrument.price(lowest_sell)),
        "ts": messages.ms(now_ns),
    }


def recent_trades(venue: Venue, params: Params) -> Json:
    check_category(params)
    check_symbol(venue, params)
    chosen = venue.recent_trades[: -limit(params, 500, 1000) - 1 : -1]
    instrument = venue.instrument
    rows = [
        {
            "execId": trade.trade_id,
            "symbol": instrument.symbol,
            "price": text(instrument.price(trade.price_ticks)),
            "size": text(instrument.qty(trade.lots)),
            "side": messages.SIDES[trade.taker],
            "time": messages.ms(trade.at_ns),
            "isBlockTrade": False,
            "isRPITrade": False,
            "seq": str(trade.sequence),
        }
        for trade in chosen
    ]
    return {"category": "linear", "list": rows}


# ---- private --------------------------------------------------------------------------------------------------------


def open_orders(venue: Venue, account: Account, params: Params) -> Json:
    """order/realtime: open orders; with openOnly=1, or for one id, recently closed ones too."""
    if (category := _category_listed(params)) != HERE:
        return _nothing(category)
    _check_scope(venue, params)
    rows: list[Order] = list(account.open_orders.values())
    if params.get("openOnly") == "1" or params.get("orderId") or params.get("orderLinkId"):
        rows += list(account.closed_orders)[-500:]
    return _order_page(venue, rows, params)


def order_history(venue: Venue, account: Account, params: Params) -> Json:
    if (category := _category_listed(params)) != HERE:
        return _nothing(category)
    return _order_page(venue, account.closed_orders, params)


def executions(venue: Venue, account: Account, params: Params) -> Json:
    if (category := _category_listed(params)) != HERE:
        return _nothing(category)
    wanted_type = params.get("execType") or ""
    rows: list[Execution | Funding] = []
    if wanted_type in ("", "Trade"):
        rows += [one for one in account.executions if _wanted(params, one.order_id, one.link_id, one.at_ns)]
    if wanted_type in ("", "Funding"):
        rows += [one for one in account.fundings if _wanted(params, one.execution_id, "", one.at_ns)]
    rows = [] if _other_symbol(venue, params) else rows
    page, cursor = _page(rows, [found.sequence for found in rows], params, default=50, most=100)
    mark = messages.mark_price(venue)
    found_rows = [messages.execution(venue.instrument, found, mark) for found in page]
    return {"category": HERE, "list": found_rows, "nextPageCursor": cursor}


def positions(venue: Venue, account: Account, params: Params) -> Json:
    """position/list: a named symbol is shown flat too; by settleCoin only what is held."""
    if (category := _category_listed(params)) != HERE:
        return _nothing(category)
    _check_scope(venue, params)
    shown = bool(params.get("symbol")) or account.position.lots != 0
    if params.get("settleCoin", venue.instrument.quote) != venue.instrument.quote:
        shown = False
    rows = [messages.position(venue, account, entry_field="avgPrice")] if shown else []
    if account.keys.standing.hedges:  # one row a direction; this venue itself nets
        rows = [{**row, "positionIdx": direction} for row in rows for direction in (1, 2)]
    return {"category": HERE, "list": rows, "nextPageCursor": ""}


def wallet_balance(venue: Venue, account: Account, params: Params) -> Json:
    """account/wallet-balance; with `coin` only the rows of those coins."""
    if params.get("accountType") != "UNIFIED":
        raise V5Error(10001, f"params error: accountType {params.get('accountType')!r} is not UNIFIED")
    return {"list": [messages.wallet(venue, account, str(params.get("coin") or ""))]}


def account_info(account: Account, dcp_window_s: int | None) -> Json:
    """`dcp_window_s`: after which disconnection orders are cancelled, seconds; None: they are not."""
    return {
        "marginMode": account.keys.standing.margin_mode,
        "updatedTime": messages.ms(account.opened_at_ns),
        "unifiedMarginStatus": 5,
        "dcpStatus": "OFF" if dcp_window_s is None else "ON",
        "timeWindow": dcp_window_s or WINDOW_DEFAULT_S,
        "smpGroup": 0,
        "isMasterTrader": False,
        "spotHedgingStatus": "OFF",
    }


def fee_rate(venue: Venue, account: Account, params: Params) -> Json:
    check_category(params)
    if params.get("symbol"):
        check_symbol(venue, params)
    standing = account.keys.standing
    row = {
        "symbol": venue.instrument.symbol,
        "takerFeeRate": standing.taker_fee_rate or text(venue.fees.taker),
        "makerFeeRate": standing.maker_fee_rate or text(venue.fees.maker),
    }
    return {"category": "linear", "list": [row]}


def coins(venue: Venue, params: Params) -> Json:
    """asset/coin/query-info: the coins there are; nothing can be deposited or withdrawn, so they have no chains."""
    names = [name for name in (venue.instrument.base, venue.instrument.quote) if params.get("coin", name) == name]
    return {"rows": [{"name": name, "coin": name, "remainAmount": "0", "chains": []} for name in names]}


def query_api(account: Account, now_ns: int) -> Json:
    """user/query-api: the key as it stands. A key that does not expire is written as one that did long ago."""
    standing = account.keys.standing
    left_ns = None if standing.expires_at_ns is None else standing.expires_at_ns - now_ns
    return {
        "id": str(account.uid),
        "note": account.name,
        "apiKey": account.api_key,
        "readOnly": int(standing.read_only),
        "secret": "",
        "permissions": {
            "ContractTrade": ["Order", "Position"],
            "Spot": [],
            "Wallet": ["AccountTransfer", "Withdraw"] if standing.withdraws else [],
            "Options": [],
            "Derivatives": ["DerivativesTrade"],
            "CopyTrading": [],
            "BlockTrade": [],
            "Exchange": [],
            "NFT": [],
            "Affiliate": [],
            "Earn": [],
        },
        "ips": list(standing.ips),
        "type": 1,
        "deadlineDay": -2 if left_ns is None else left_ns // DAY_NS,
        "expiredAt": utc(standing.expires_at_ns),
        "createdAt": utc(standing.created_at_ns or account.opened_at_ns),
        "unified": 0,
        "uta": 1,
        "userID": account.uid,
        "inviterID": 0,
        "vipLevel": "No VIP",
        "mktMakerLevel": "0",
        "affiliateID": 0,
        "rsaPublicKey": "",
        "isMaster": True,
        "parentUid": "0",
        "kycLevel": "LEVEL_DEFAULT",
        "kycRegion": "",
        "userIDInt64": str(account.uid),
        "inviterIDInt64": "0",
        "affiliateIDInt64": "0",
    }


# ---- scope, filters and pages ---------------------------------------------------------------------------------------


def _category_listed(params: Params) -> str:
    """The category, where its absence from this venue is an empty list and not an error."""
    category = str(params.get("category"))
    if category not in CATEGORIES:
        raise V5Error(10001, f"params error: category {category[:20]!r} is not one of {', '.join(CATEGORIES)}")
    return category


def _nothing(category: str) -> Json:
    return {"category": category, "list": [], "nextPageCursor": ""}


def limit(params: Params, default: int, most: int) -> int:
    """The `limit` parameter. Raises V5Error 10001 outside 1 to `most`."""
    value = str(params.get("limit") or default)
    if not value.isdecimal() or not 1 <= int(value) <= most:
        raise V5Error(10001, f"params error: limit {value[:20]!r} is outside 1 to {most}")
    return int(value)


def _check_scope(venue: Venue, params: Params) -> None:
    if params.get("symbol"):
        check_symbol(venue, params)
    elif not any(params.get(name) for name in ("settleCoin", "baseCoin", "orderId", "orderLinkId")):
        raise V5Error(10001, "params error: symbol, settleCoin or baseCoin is needed")


def _other_symbol(venue: Venue, params: Params) -> bool:
    instrument = venue.instrument
    return (
        params.get("symbol", instrument.symbol) != instrument.symbol
        or params.get("settleCoin", instrument.quote) != instrument.quote
        or params.get("baseCoin", instrument.base) != instrument.base
    )


def _wanted(params: Params, order_id: str, link_id: str, at_ns: int) -> bool:
    if params.get("orderId") and params["orderId"] != order_id:
        return False
    if params.get("orderLinkId") and params["orderLinkId"] != link_id:
        return False
    at_ms = at_ns // 1_000_000
    for name, sign in (("startTime", 1), ("endTime", -1)):
        bound = params.get(name)
        if bound:
            if not str(bound).isdecimal():
                raise V5Error(10001, f"params error: {name} {bound!r} is not a time in ms")
            if sign * (at_ms - int(str(bound))) < 0:
                return False
    return True


def _order_page(venue: Venue, orders: Iterable[Order], params: Params) -> Json:
    status = params.get("orderStatus")
    rows = [
        order
        for order in orders
        if _wanted(params, order.order_id, order.link_id, order.created_at_ns)
        and (not status or messages.STATUSES[order.status] == status)
    ]
    rows = [] if _other_symbol(venue, params) else rows
    page, cursor = _page(rows, [order.key for order in rows], params, default=20, most=50)
    found = [messages.order(venue.instrument, order) for order in page]
    return {"category": "linear", "list": found, "nextPageCursor": cursor}


def _page(
    rows: Sequence[_Row], keys: Sequence[int], params: Params, *, default: int, most: int
) -> tuple[list[_Row], str]:
    """Newest first; the cursor names the last key shown, percent-encoded once as the real venue's is."""
    count = limit(params, default, most)
    ordered = sorted(zip(keys, rows, strict=True), key=lambda pair: -pair[0])
    cursor = params.get("cursor")
    if cursor:
        below = re.search(r"page_token(?:=|%3D|%253D)(\d+)", str(cursor))
        if below is None:
            raise V5Error(10001, f"params error: cursor {str(cursor)[:60]!r} is not one of ours")
        ordered = [pair for pair in ordered if pair[0] < int(below.group(1))]
    page = ordered[:count]
    more = len(ordered) > count
    return [row for _, row in page], f"page_token%3D{page[-1][0]}%26" if more else ""
