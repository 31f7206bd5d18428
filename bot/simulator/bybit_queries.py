"""Reads in Bybit V5, public and private. Pure."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import Final

import msgspec

from bot.domain.order import Side
from bot.simulator import bybit_messages as messages
from bot.simulator import bybit_public as public
from bot.simulator.accounts import Account, Holder
from bot.simulator.admission import price_limits_ticks
from bot.simulator.api_keys import DAY_NS, utc
from bot.simulator.bybit_access import V5Error, whole
from bot.simulator.bybit_dcp import WINDOW_DEFAULT_S
from bot.simulator.bybit_messages import Json, text
from bot.simulator.bybit_orders import Params, check_category, venue_of
from bot.simulator.bybit_written import written_of
from bot.simulator.exchange import Exchange
from bot.simulator.funding import Funding
from bot.simulator.orders import Execution, Order
from bot.simulator.venue import Venue

CATEGORIES = ("linear", "spot", "inverse", "option")
"""Those that may be asked for; one in which nothing trades here is an empty list and no error."""


# ---- public ---------------------------------------------------------------------------------------------------------


def time(now_ns: int) -> Json:
    return {"timeSecond": str(now_ns // 1_000_000_000), "timeNano": str(now_ns)}


def instruments(exchange: Exchange, params: Params) -> Json:
    """market/instruments-info: what trades in the category, in pages; spot has no pages."""
    category = _category_listed(params)
    count = limit(params, 500, 1000) if category != "spot" else 1000
    listed = exchange.of_category(category)
    if params.get("symbol") and listed:
        listed = [venue_of(exchange, params)]
    if params.get("baseCoin"):
        listed = [venue for venue in listed if venue.instrument.base == params["baseCoin"]]
    if params.get("status", "Trading") != "Trading":
        listed = []
    start = _place(params) if params.get("cursor") else 0
    launched_ms = 1_585_526_400_000  # the launch of the real BTCUSDT contract
    rows = [public.instrument_info(venue.instrument, launched_ms) for venue in listed[start : start + count]]
    more = len(listed) > start + count
    return {"category": category, "list": rows, "nextPageCursor": _cursor(start + count) if more else ""}


def orderbook(exchange: Exchange, params: Params, now_ns: int) -> Json:
    venue = venue_of(exchange, params)
    spot = venue.instrument.category == "spot"
    count = limit(params, 1 if spot else 25, 200 if spot else 500)
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


def tickers(exchange: Exchange, params: Params, now_ns: int) -> Json:
    category = _category_listed(params)
    listed = exchange.of_category(category)
    if params.get("symbol") and listed:
        listed = [venue_of(exchange, params)]
    return {"category": category, "list": [public.ticker(venue, now_ns) for venue in listed]}


def price_limit(exchange: Exchange, params: Params, now_ns: int) -> Json:
    venue = venue_of(exchange, {"category": exchange.categories[0], **params})
    highest_buy, lowest_sell = price_limits_ticks(venue.mark_half_ticks)
    instrument = venue.instrument
    return {
        "symbol": instrument.symbol,
        "buyLmt": text(instrument.price(highest_buy)),
        "sellLmt": text(instrument.price(lowest_sell)),
        "ts": messages.ms(now_ns),
    }


def recent_trades(exchange: Exchange, params: Params) -> Json:
    venue = venue_of(exchange, params)
    spot = venue.instrument.category == "spot"
    chosen = venue.recent_trades[: -limit(params, 60 if spot else 500, 60 if spot else 1000) - 1 : -1]
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
    return {"category": instrument.category, "list": rows}


# ---- private --------------------------------------------------------------------------------------------------------


class _Row:
    """A row and its place among all of its kind, over all symbols: time, number at its symbol, symbol."""

    def __init__(self, at_ns: int, number: int, place: int, venue: Venue) -> None:
        self.key = (at_ns << 72) | (number << 8) | place
        self.venue = venue

    def shown(self) -> object:
        """As the answer has it."""
        raise NotImplementedError


class _OrderRow(_Row):
    def __init__(self, place: int, venue: Venue, order: Order) -> None:
        super().__init__(order.created_at_ns, order.key, place, venue)
        self._order = order

    def shown(self) -> object:
        return msgspec.Raw(written_of(self.venue.instrument).order(self._order, pushed=False))


class _ExecutionRow(_Row):
    def __init__(self, place: int, venue: Venue, execution: Execution | Funding) -> None:
        super().__init__(execution.at_ns, execution.sequence, place, venue)
        self._execution = execution

    def shown(self) -> object:
        mark_text = text(messages.mark_price(self.venue))
        written = written_of(self.venue.instrument)
        return msgspec.Raw(written.execution(self._execution, mark_text, pushed=False))


def open_orders(exchange: Exchange, holder: Holder, params: Params, now_ns: int) -> Json:
    """order/realtime: open orders; with openOnly=1, or for one id, recently closed ones too, unless forgotten."""
    category = _category_listed(params)
    if category == "linear":
        _check_scope(params)
    closed_too = params.get("openOnly") == "1" or params.get("orderId") or params.get("orderLinkId")
    forgotten_ns = exchange.forgotten_before_ns

    def rows(account: Account) -> Iterable[Order]:
        yield from account.open_orders.values()
        if closed_too:
            yield from (one for one in list(account.closed_orders)[-500:] if one.updated_at_ns >= forgotten_ns)

    return _order_page(exchange, holder, params, category, rows)


def order_history(exchange: Exchange, holder: Holder, params: Params, now_ns: int) -> Json:
    """order/history: what has ended. Of a cancelled order without a fill the venue knows for a day."""
    known_ns = now_ns - DAY_NS

    def rows(account: Account) -> Iterable[Order]:
        return (one for one in account.closed_orders if one.filled_lots or one.updated_at_ns >= known_ns)

    return _order_page(exchange, holder, params, _category_listed(params), rows)


def executions(exchange: Exchange, holder: Holder, params: Params, now_ns: int) -> Json:
    category = _category_listed(params)
    wanted_type = params.get("execType") or ""
    wanted = _Wanted(params)
    rows: list[_Row] = []
    for place, (venue, account) in enumerate(_asked(exchange, holder, params, category)):
        if wanted_type in ("", "Trade"):
            for one in account.executions:
                if wanted.takes(one.order_id, one.link_id, one.at_ns):
                    rows.append(_ExecutionRow(place, venue, one))
        if wanted_type in ("", "Funding"):
            for paid in account.fundings:
                if wanted.takes(paid.execution_id, "", paid.at_ns):
                    rows.append(_ExecutionRow(place, venue, paid))
    page, cursor = _page(rows, params, default=50, most=100)
    return {"category": category, "list": page, "nextPageCursor": cursor}


def positions(exchange: Exchange, holder: Holder, params: Params, now_ns: int) -> Json:
    """position/list: a named symbol is shown flat too; by settleCoin only what is held. Spot has none."""
    category = _category_listed(params)
    if category != "linear":
        return {"category": category, "list": [], "nextPageCursor": ""}
    _check_scope(params)
    named = bool(params.get("symbol"))
    rows = [
        messages.position(venue, account, entry_field="avgPrice")
        for venue, account in _asked(exchange, holder, params, category)
        if named or account.position.lots
    ]
    if holder.keys.standing.hedges:  # one row a direction; this venue itself nets
        rows = [{**row, "positionIdx": direction} for row in rows for direction in (1, 2)]
    return {"category": category, "list": rows, "nextPageCursor": ""}


def wallet_balance(exchange: Exchange, holder: Holder, params: Params, now_ns: int) -> Json:
    """account/wallet-balance; with `coin` only the rows of those coins."""
    if params.get("accountType") != "UNIFIED":
        raise V5Error(10001, f"params error: accountType {params.get('accountType')!r} is not UNIFIED")
    return {"list": [messages.wallet(exchange, holder, str(params.get("coin") or ""))]}


def account_info(holder: Holder, dcp_window_s: int | None) -> Json:
    """`dcp_window_s`: after which disconnection orders are cancelled, seconds; None: they are not."""
    return {
        "marginMode": holder.keys.standing.margin_mode,
        "updatedTime": messages.ms(holder.opened_at_ns),
        "unifiedMarginStatus": 5,
        "dcpStatus": "OFF" if dcp_window_s is None else "ON",
        "timeWindow": dcp_window_s or WINDOW_DEFAULT_S,
        "smpGroup": 0,
        "isMasterTrader": False,
        "spotHedgingStatus": "OFF",
    }


def fee_rate(exchange: Exchange, holder: Holder, params: Params, now_ns: int) -> Json:
    category = check_category(exchange, params)
    listed = [venue_of(exchange, params)] if params.get("symbol") else exchange.of_category(category)
    standing = holder.keys.standing
    rows = [
        {
            "symbol": venue.instrument.symbol,
            "takerFeeRate": standing.taker_fee_rate or text(venue.fees.taker),
            "makerFeeRate": standing.maker_fee_rate or text(venue.fees.maker),
        }
        for venue in listed
    ]
    return {"category": category, "list": rows}


def coins(exchange: Exchange, holder: Holder, params: Params, now_ns: int) -> Json:
    """asset/coin/query-info: the coins there are; nothing can be deposited or withdrawn, so they have no chains."""
    known = dict.fromkeys(coin for v in exchange.venues for coin in (v.instrument.base, v.instrument.quote))
    names = [name for name in known if params.get("coin", name) == name]
    return {"rows": [{"name": name, "coin": name, "remainAmount": "0", "chains": []} for name in names]}


def query_api(exchange: Exchange, holder: Holder, params: Params, now_ns: int) -> Json:
    """user/query-api: the key as it stands. A key that does not expire is written as one that did long ago."""
    standing = holder.keys.standing
    left_ns = None if standing.expires_at_ns is None else standing.expires_at_ns - now_ns
    return {
        "id": str(holder.uid),
        "note": holder.name,
        "apiKey": holder.api_key,
        "readOnly": int(standing.read_only),
        "secret": "",
        "permissions": {
            "ContractTrade": ["Order", "Position"],
            "Spot": ["SpotTrade"] if "spot" in exchange.categories else [],
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
        "createdAt": utc(standing.created_at_ns or holder.opened_at_ns),
        "unified": 0,
        "uta": 1,
        "userID": holder.uid,
        "inviterID": 0,
        "vipLevel": "No VIP",
        "mktMakerLevel": "0",
        "affiliateID": 0,
        "rsaPublicKey": "",
        "isMaster": True,
        "parentUid": "0",
        "kycLevel": "LEVEL_DEFAULT",
        "kycRegion": "",
        "userIDInt64": str(holder.uid),
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


def limit(params: Params, default: int, most: int) -> int:
    """The `limit` parameter. Raises V5Error 10001 outside 1 to `most`."""
    value = str(params.get("limit") or default)
    count = whole(value)
    if count is None or not 1 <= count <= most:
        raise V5Error(10001, f"params error: limit {value[:20]!r} is outside 1 to {most}")
    return count


def _check_scope(params: Params) -> None:
    if not any(params.get(name) for name in ("symbol", "settleCoin", "baseCoin", "orderId", "orderLinkId")):
        raise V5Error(10001, "params error: symbol, settleCoin or baseCoin is needed")


def _asked(exchange: Exchange, holder: Holder, params: Params, category: str) -> Iterable[tuple[Venue, Account]]:
    """The holder's accounts that a query is about. Raises V5Error 10001 for a symbol that does not trade here."""
    if params.get("symbol") and exchange.of_category(category):
        venue_of(exchange, params)
    for venue, account in exchange.accounts(holder, category):
        instrument = venue.instrument
        asked = (("symbol", instrument.symbol), ("settleCoin", instrument.quote), ("baseCoin", instrument.base))
        if all((params.get(name) or own) == own for name, own in asked):
            yield venue, account


class _Wanted:
    """Which rows a query is about: by an id, and between two times."""

    def __init__(self, params: Params) -> None:
        self._params = params
        self._order_id, self._link_id = params.get("orderId") or None, params.get("orderLinkId") or None
        self._from_ms = self._to_ms = NO_BOUND
        self._has_read_from = self._has_read_to = False

    def takes(self, order_id: str, link_id: str, at_ns: int) -> bool:
        """Raises V5Error 10001 for a bound that is no time: only where there is a row that it might be about."""
        if self._order_id is not None and self._order_id != order_id:
            return False
        if self._link_id is not None and self._link_id != link_id:
            return False
        at_ms = at_ns // 1_000_000
        if not self._has_read_from:
            self._from_ms, self._has_read_from = _bound_ms("startTime", self._params), True
        if at_ms < self._from_ms:
            return False
        if not self._has_read_to:
            self._to_ms, self._has_read_to = _bound_ms("endTime", self._params), True
        return self._to_ms == NO_BOUND or at_ms <= self._to_ms


NO_BOUND: Final = -1


def _bound_ms(name: str, params: Params) -> int:
    bound = params.get(name)
    if not bound:
        return NO_BOUND
    bound_ms = whole(str(bound))
    if bound_ms is None:
        raise V5Error(10001, f"params error: {name} {str(bound)[:40]!r} is not a time in ms")
    return bound_ms


def _order_page(
    exchange: Exchange, holder: Holder, params: Params, category: str, orders: Callable[[Account], Iterable[Order]]
) -> Json:
    status = params.get("orderStatus")
    wanted = _Wanted(params)
    rows: list[_Row] = []
    for place, (venue, account) in enumerate(_asked(exchange, holder, params, category)):
        for order in orders(account):
            if wanted.takes(order.order_id, order.link_id, order.created_at_ns) and (
                not status or messages.status(venue.instrument, order) == status
            ):
                rows.append(_OrderRow(place, venue, order))
    page, cursor = _page(rows, params, default=20, most=50)
    return {"category": category, "list": page, "nextPageCursor": cursor}


def _page(rows: list[_Row], params: Params, *, default: int, most: int) -> tuple[list[object], str]:
    """Newest first; the cursor names the last key shown."""
    count = limit(params, default, most)
    ordered = sorted(rows, key=_key, reverse=True)
    if params.get("cursor"):
        below = _place(params)
        ordered = [row for row in ordered if row.key < below]
    page = ordered[:count]
    return [row.shown() for row in page], _cursor(page[-1].key) if len(ordered) > count else ""


def _key(row: _Row) -> int:
    return row.key


def _cursor(place: int) -> str:
    """Percent-encoded once, as the real venue's is."""
    return f"page_token%3D{place}%26"


def _place(params: Params) -> int:
    found = re.search(r"page_token(?:=|%3D|%253D)(\d+)", str(params["cursor"]))
    place = None if found is None else whole(found.group(1))
    if place is None:
        raise V5Error(10001, f"params error: cursor {str(params['cursor'])[:60]!r} is not one of ours")
    return place
