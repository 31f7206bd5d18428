"""The private objects of Bybit V5 as the venue writes them: its own encoder, sharing nothing with any client's decoder.

Field names and their order follow the public V5 documentation; what this venue has no notion of carries the value the
documentation shows for "none". Numbers are strings, except where the documentation says otherwise.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Final, final

from bot.domain.instrument import Instrument
from bot.domain.order import Side
from bot.simulator.accounts import LEVERAGE, MAINTENANCE, Account, Holder
from bot.simulator.depth import Levels
from bot.simulator.exchange import Exchange
from bot.simulator.funding import Funding
from bot.simulator.orders import EndReason, Order, Status
from bot.simulator.texts import texts
from bot.simulator.venue import Venue

Json = dict[str, object]

SIDES: Final = {Side.BUY: "Buy", Side.SELL: "Sell"}
STATUSES: Final = {
    Status.NEW: "New",
    Status.PARTLY_FILLED: "PartiallyFilled",
    Status.FILLED: "Filled",
    Status.CANCELLED: "Cancelled",
}
REJECT_REASONS: Final = {
    EndReason.NONE: "EC_NoError",
    EndReason.BY_REQUEST: "EC_PerCancelRequest",
    EndReason.POST_ONLY_WOULD_TAKE: "EC_PostOnlyWillTakeLiquidity",
    EndReason.NO_IMMEDIATE_QTY: "EC_NoImmediateQtyToFill",
    EndReason.NOT_ALL_AT_ONCE: "EC_CancelForNoFullFill",
    EndReason.REDUCE_ONLY: "EC_NoError",
    EndReason.SELF_MATCH: "EC_BySelfMatch",
    EndReason.RACED: "EC_OrigClOrdIDDoesNotExist",
}
CANCEL_TYPES: Final = {
    EndReason.BY_REQUEST: "CancelByUser",
    EndReason.REDUCE_ONLY: "CancelByReduceOnly",
    EndReason.SELF_MATCH: "CancelBySmp",
}
_CANCELLED: Final = Status.CANCELLED
_AVERAGE_STEP: Final = Decimal("0.00000001")


def text(value: Decimal) -> str:
    """A decimal as the venue prints it: never with an exponent."""
    shown = str(value)  # a third of the price of a format, and the same wherever it has no exponent
    return shown if "E" not in shown else format(value, "f")


def ms(at_ns: int) -> str:
    """What is said at one moment says it several times."""
    if _moment.at_ns != at_ns:
        _moment.at_ns, _moment.text = at_ns, str(at_ns // 1_000_000)
    return _moment.text


@final
class _Moment:
    """The one that was written last."""

    __slots__ = ("at_ns", "text")

    def __init__(self) -> None:
        self.at_ns = 0
        self.text = "0"


_moment: Final = _Moment()


def levels(instrument: Instrument, pairs: Levels) -> list[tuple[str, str]]:
    """Price and size strings; size "0" deletes."""
    prices, sizes = texts(instrument.tick_size), texts(instrument.lot_size)
    return [(prices[price], sizes[lots] if lots else "0") for price, lots in pairs]


def mark_price(venue: Venue) -> Decimal:
    return venue.instrument.tick_size * venue.mark_half_ticks / 2


def status(instrument: Instrument, found: Order) -> str:
    """Spot alone has a word of its own for a cancelled order that carries fills."""
    if found.status is _CANCELLED and found.filled_lots and instrument.category == "spot":
        return "PartiallyFilledCanceled"
    return STATUSES[found.status]


def average_text(instrument: Instrument, found: Order) -> str:
    """The average price of an order that has fills."""
    average = instrument.tick_size * found.filled_cost / found.filled_lots
    return text(average.quantize(_AVERAGE_STEP).normalize())


def fee_detail(instrument: Instrument, found: Order) -> Json:
    """What was paid for an order's fills so far, by coin."""
    paid = found.fees or ({instrument.quote: found.fee_quote} if found.filled_lots else {})
    return {coin: text(amount) for coin, amount in paid.items()}


def funding(instrument: Instrument, found: Funding) -> Json:
    """Funding as an execution: of the position, at the mark, of no order; the fee is what was paid."""
    mark, qty = instrument.tick_size * found.mark_half_ticks / 2, instrument.qty(found.lots)
    return {
        "symbol": instrument.symbol,
        "orderId": found.execution_id,
        "orderLinkId": "",
        "side": SIDES[found.side],
        "orderType": "UNKNOWN",
        "orderPrice": "0",
        "orderQty": "0",
        "leavesQty": "0",
        "execId": found.execution_id,
        "execType": "Funding",
        "execPrice": text(mark),
        "execQty": text(qty),
        "execValue": text(mark * qty),
        "execFee": text(found.paid_quote),
        "feeRate": text(found.rate),
        "feeCurrency": instrument.quote,
        "execTime": ms(found.at_ns),
        "execPnl": "0",
        "isMaker": False,
        "closedSize": "0",
        "markPrice": text(mark),
        "indexPrice": "",
        "underlyingPrice": "",
        "markIv": "",
        "tradeIv": "",
        "blockTradeId": "",
        "stopOrderType": "UNKNOWN",
        "isLeverage": "0",
        "marketUnit": "",
        "createType": "",
        "extraFees": "",
        "seq": found.sequence,
    }


def position(venue: Venue, account: Account, *, entry_field: str) -> Json:
    """`entry_field`: `avgPrice` in the answer to a query, `entryPrice` on the stream."""
    instrument, held = venue.instrument, account.position
    mark = mark_price(venue)
    value = instrument.qty(abs(held.lots)) * mark
    initial, maintenance = text(value / LEVERAGE), text(value / MAINTENANCE)
    size, realised = texts(instrument.lot_size)[abs(held.lots)], text(account.realised_quote)
    updated = account.position_updated_at_ns or account.opened_at_ns
    return {
        "positionIdx": 0,
        "riskId": 1,
        "riskLimitValue": "2000000",
        "symbol": instrument.symbol,
        "side": "" if held.lots == 0 else "Buy" if held.lots > 0 else "Sell",
        "size": size if held.lots else "0",
        entry_field: text(account.entry_price().normalize()) if held.lots else "0",
        "positionValue": text(value) if held.lots else "0",
        "tradeMode": 0,
        "positionStatus": "Normal",
        "autoAddMargin": 0,
        "adlRankIndicator": 0,
        "leverage": str(LEVERAGE),
        "markPrice": text(mark),
        "liqPrice": "",
        "bustPrice": "",
        "positionIM": initial,
        "positionIMByMp": initial,
        "positionMM": maintenance,
        "positionMMByMp": maintenance,
        "positionBalance": "0",
        "tpslMode": "Full",
        "takeProfit": "",
        "stopLoss": "",
        "trailingStop": "0",
        "unrealisedPnl": text(account.unrealised_quote(venue.mark_half_ticks)),
        "curRealisedPnl": realised,
        "cumRealisedPnl": realised,
        "sessionAvgPrice": "",
        "breakEvenPrice": "",
        "createdTime": ms(account.opened_at_ns),
        "updatedTime": ms(updated),
        "seq": venue.sequence,
        "isReduceOnly": False,
        "mmrSysUpdatedTime": "",
        "leverageSysUpdatedTime": "",
    }


def wallet(exchange: Exchange, holder: Holder, coins: str = "") -> Json:
    """The unified account. `coins`: names with commas between them, of which alone rows are shown; empty: of all."""
    equity, used = holder.equity_quote(), holder.margin_used_quote()
    worth = holder.worth_quote()
    unrealised = equity - holder.coins[holder.quote]
    locked = holder.locked(holder.quote)
    maintenance = holder.maintenance_quote()
    rate, least_rate = (
        text((margin / equity).quantize(Decimal("0.0001"))) if equity > 0 else "" for margin in (used, maintenance)
    )
    wanted = coins.split(",") if coins else list(holder.coins)
    return {
        "accountType": "UNIFIED",
        "accountIMRate": rate,
        "accountIMRateByMp": rate,
        "accountMMRate": least_rate,
        "accountMMRateByMp": least_rate,
        "accountLTV": "0",
        "totalEquity": text(worth),
        "totalWalletBalance": text(worth - unrealised),
        "totalMarginBalance": text(worth),
        "totalAvailableBalance": text(max(Decimal(0), equity - used - locked)),
        "totalPerpUPL": text(unrealised),
        "totalInitialMargin": text(used),
        "totalInitialMarginByMp": text(used),
        "totalMaintenanceMargin": text(maintenance),
        "totalMaintenanceMarginByMp": text(maintenance),
        "coin": [_coin(exchange, holder, name) for name in holder.coins if name in wanted],
    }


def _coin(exchange: Exchange, holder: Holder, name: str) -> Json:
    held, locked = holder.coins[name], holder.locked(name)
    is_quote = name == holder.quote
    equity = holder.equity_quote() if is_quote else held
    realised = sum((one.realised_quote for one in holder.accounts if not one.is_spot), Decimal(0))
    return {
        "coin": name,
        "equity": text(equity),
        "usdValue": text(equity * _worth_of_one(exchange, holder, name)),
        "walletBalance": text(held),
        "locked": text(locked),
        "borrowAmount": "0",
        "accruedInterest": "0",
        "totalOrderIM": "0",
        "totalPositionIM": text(holder.margin_used_quote()) if is_quote else "0",
        "totalPositionMM": text(holder.maintenance_quote()) if is_quote else "0",
        "unrealisedPnl": text(equity - held),
        "cumRealisedPnl": text(realised) if is_quote else "0",
        "bonus": "0",
        "availableToWithdraw": "",
        "availableToBorrow": "",
        "marginCollateral": True,
        "collateralSwitch": True,
        "spotHedgingQty": "0",
        "spotBorrow": "0",
    }


def _worth_of_one(exchange: Exchange, holder: Holder, coin: str) -> Decimal:
    """In quote; a coin that spot does not trade counts nothing."""
    if coin == holder.quote:
        return Decimal(1)
    venues = (venue for venue in exchange.of_category("spot") if venue.instrument.base == coin)
    return next((mark_price(venue) for venue in venues), Decimal(0))
