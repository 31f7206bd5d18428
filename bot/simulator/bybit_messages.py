"""The objects of Bybit V5 as the venue writes them: its own encoder, sharing nothing with any client's decoder.

Field names and their order follow the public V5 documentation; what this venue has no notion of carries the value the
documentation shows for "none". Numbers are strings, except where the documentation says otherwise.
"""

from __future__ import annotations

from decimal import Decimal

from bot.domain.instrument import Instrument
from bot.domain.order import Side
from bot.simulator.accounts import LEVERAGE, Account
from bot.simulator.admission import PRICE_MAX
from bot.simulator.depth import DepthMessage, Levels
from bot.simulator.orders import EndReason, Execution, Order, PublicTrade, Status
from bot.simulator.texts import texts
from bot.simulator.venue import Venue

Json = dict[str, object]

SIDES = {Side.BUY: "Buy", Side.SELL: "Sell"}
STATUSES = {
    Status.NEW: "New",
    Status.PARTLY_FILLED: "PartiallyFilled",
    Status.FILLED: "Filled",
    Status.CANCELLED: "Cancelled",
}
REJECT_REASONS = {
    EndReason.NONE: "EC_NoError",
    EndReason.BY_REQUEST: "EC_PerCancelRequest",
    EndReason.POST_ONLY_WOULD_TAKE: "EC_PostOnlyWillTakeLiquidity",
    EndReason.NO_IMMEDIATE_QTY: "EC_NoImmediateQtyToFill",
    EndReason.NOT_ALL_AT_ONCE: "EC_CancelForNoFullFill",
    EndReason.REDUCE_ONLY: "EC_NoError",
}
CANCEL_TYPES = {EndReason.BY_REQUEST: "CancelByUser", EndReason.REDUCE_ONLY: "CancelByReduceOnly"}


def text(value: Decimal) -> str:
    """A decimal as the venue prints it: never with an exponent."""
    return format(value, "f")


def ms(at_ns: int) -> str:
    return str(at_ns // 1_000_000)


def levels(instrument: Instrument, pairs: Levels) -> list[tuple[str, str]]:
    """Price and size strings; size "0" deletes."""
    prices, sizes = texts(instrument.tick_size), texts(instrument.lot_size)
    return [(prices[price], sizes[lots] if lots else "0") for price, lots in pairs]


def mark_price(venue: Venue) -> Decimal:
    return venue.instrument.tick_size * venue.mark_half_ticks / 2


# ---- public ---------------------------------------------------------------------------------------------------------


def instrument_info(instrument: Instrument, launched_ms: int) -> Json:
    qty_max = text(instrument.qty_max)
    return {
        "symbol": instrument.symbol,
        "contractType": "LinearPerpetual",
        "status": "Trading",
        "baseCoin": instrument.base,
        "quoteCoin": instrument.quote,
        "launchTime": str(launched_ms),
        "deliveryTime": "0",
        "deliveryFeeRate": "",
        "priceScale": str(max(0, -int(instrument.tick_size.as_tuple().exponent))),
        "leverageFilter": {"minLeverage": "1", "maxLeverage": str(LEVERAGE) + ".00", "leverageStep": "0.01"},
        "priceFilter": {
            "minPrice": text(instrument.tick_size),
            "maxPrice": text(PRICE_MAX),
            "tickSize": text(instrument.tick_size),
        },
        "lotSizeFilter": {
            "maxOrderQty": qty_max,
            "minOrderQty": text(instrument.qty_min),
            "qtyStep": text(instrument.lot_size),
            "postOnlyMaxOrderQty": qty_max,
            "maxMktOrderQty": qty_max,
            "minNotionalValue": text(instrument.notional_min_quote),
        },
        "unifiedMarginTrade": True,
        "fundingInterval": 480,
        "settleCoin": instrument.quote,
        "copyTrading": "none",
        "upperFundingRate": "0.005",
        "lowerFundingRate": "-0.005",
        "isPreListing": False,
        "preListingInfo": None,
        "displayName": "",
        "symbolType": "",
        "riskParameters": {"priceLimitRatioX": "0.05", "priceLimitRatioY": "0.1"},
    }


def ticker(venue: Venue) -> Json:
    instrument, book = venue.instrument, venue.book
    bids, asks = book.depth(Side.BUY, 1), book.depth(Side.SELL, 1)
    mark = mark_price(venue)
    last = instrument.price(venue.recent_trades[-1].price_ticks) if venue.recent_trades else mark
    return {
        "symbol": instrument.symbol,
        "lastPrice": text(last),
        "indexPrice": text(mark),
        "markPrice": text(mark),
        "bid1Price": text(instrument.price(bids[0][0])) if bids else "",
        "bid1Size": text(instrument.qty(bids[0][1])) if bids else "",
        "ask1Price": text(instrument.price(asks[0][0])) if asks else "",
        "ask1Size": text(instrument.qty(asks[0][1])) if asks else "",
        "fundingRate": "0",
        "fundingIntervalHour": "8",
    }


def public_trade(instrument: Instrument, trade: PublicTrade) -> Json:
    """As the publicTrade topic shows it."""
    return {
        "T": trade.at_ns // 1_000_000,
        "s": instrument.symbol,
        "S": SIDES[trade.taker],
        "v": texts(instrument.lot_size)[trade.lots],
        "p": texts(instrument.tick_size)[trade.price_ticks],
        "L": "ZeroPlusTick",
        "i": trade.trade_id,
        "BT": False,
        "RPI": False,
        "seq": trade.sequence,
    }


def depth(venue: Venue, message: DepthMessage, depth_asked: int, at_ns: int) -> Json:
    """As the orderbook topic shows it."""
    return {
        "topic": f"orderbook.{depth_asked}.{venue.instrument.symbol}",
        "type": "snapshot" if message.is_snapshot else "delta",
        "ts": at_ns // 1_000_000,
        "data": {
            "s": venue.instrument.symbol,
            "b": levels(venue.instrument, message.bids),
            "a": levels(venue.instrument, message.asks),
            "u": message.update_id,
            "seq": venue.sequence,
        },
        "cts": at_ns // 1_000_000,
    }


# ---- private --------------------------------------------------------------------------------------------------------


def order(instrument: Instrument, found: Order) -> Json:
    value = instrument.tick_size * instrument.lot_size * found.filled_cost
    average = instrument.tick_size * found.filled_cost / found.filled_lots if found.filled_lots else None
    sizes, prices = texts(instrument.lot_size), texts(instrument.tick_size)
    left_value = instrument.qty(found.left_lots) * instrument.price(found.price_ticks)
    return {
        "symbol": instrument.symbol,
        "orderId": found.order_id,
        "orderLinkId": found.link_id,
        "side": SIDES[found.side],
        "orderType": "Market" if found.is_market else "Limit",
        "price": prices[found.price_ticks],
        "qty": sizes[found.qty_lots],
        "timeInForce": found.tif.value,
        "orderStatus": STATUSES[found.status],
        "cancelType": CANCEL_TYPES.get(found.end_reason, "UNKNOWN"),
        "rejectReason": REJECT_REASONS[found.end_reason],
        "reduceOnly": found.reduce_only,
        "leavesQty": sizes[found.left_lots],
        "leavesValue": text(left_value),
        "cumExecQty": sizes[found.filled_lots],
        "cumExecValue": text(value),
        "cumExecFee": text(found.fee_quote),
        "avgPrice": text(average.quantize(Decimal("0.00000001")).normalize()) if average is not None else "",
        "createdTime": ms(found.created_at_ns),
        "updatedTime": ms(found.updated_at_ns),
        "positionIdx": 0,
        "isLeverage": "",
        "orderIv": "",
        "stopOrderType": "",
        "tpslMode": "",
        "triggerPrice": "",
        "takeProfit": "",
        "stopLoss": "",
        "tpTriggerBy": "",
        "slTriggerBy": "",
        "tpLimitPrice": "",
        "slLimitPrice": "",
        "triggerDirection": 0,
        "triggerBy": "",
        "closeOnTrigger": False,
        "lastPriceOnCreated": "",
        "placeType": "",
        "blockTradeId": "",
        "smpType": "None",
        "smpGroup": 0,
        "smpOrderId": "",
        "createType": "CreateByUser",
        "feeCurrency": instrument.quote,
        "cumFeeDetail": {instrument.quote: text(found.fee_quote)} if found.filled_lots else {},
    }


def execution(instrument: Instrument, found: Execution, mark: Decimal) -> Json:
    sizes, prices = texts(instrument.lot_size), texts(instrument.tick_size)
    return {
        "symbol": instrument.symbol,
        "orderId": found.order_id,
        "orderLinkId": found.link_id,
        "side": SIDES[found.side],
        "orderType": "Market" if found.is_market else "Limit",
        "orderPrice": prices[found.order_price_ticks],
        "orderQty": sizes[found.order_qty_lots],
        "leavesQty": sizes[found.left_lots],
        "execId": found.execution_id,
        "execType": "Trade",
        "execPrice": prices[found.price_ticks],
        "execQty": sizes[found.lots],
        "execValue": text(instrument.notional_quote(found.price_ticks, found.lots)),
        "execFee": text(found.fee_quote),
        "feeRate": text(found.fee_rate),
        "feeCurrency": instrument.quote,
        "execTime": ms(found.at_ns),
        "execPnl": text(found.realised_quote),
        "isMaker": found.is_maker,
        "closedSize": sizes[found.closed_lots],
        "markPrice": text(mark),
        "indexPrice": "",
        "underlyingPrice": "",
        "markIv": "",
        "tradeIv": "",
        "blockTradeId": "",
        "stopOrderType": "",
        "isLeverage": "0",
        "marketUnit": "",
        "createType": "CreateByUser",
        "extraFees": "",
        "seq": found.sequence,
    }


def position(venue: Venue, account: Account, *, entry_field: str) -> Json:
    """`entry_field`: `avgPrice` in the answer to a query, `entryPrice` on the stream."""
    instrument, held = venue.instrument, account.position
    mark = mark_price(venue)
    value = instrument.qty(abs(held.lots)) * mark
    updated = account.position_updated_at_ns or account.opened_at_ns
    return {
        "positionIdx": 0,
        "riskId": 1,
        "riskLimitValue": "2000000",
        "symbol": instrument.symbol,
        "side": "" if held.lots == 0 else "Buy" if held.lots > 0 else "Sell",
        "size": text(instrument.qty(abs(held.lots))) if held.lots else "0",
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
        "positionIM": text(value / LEVERAGE),
        "positionMM": text(value / 200),
        "positionBalance": "0",
        "tpslMode": "Full",
        "takeProfit": "",
        "stopLoss": "",
        "trailingStop": "0",
        "unrealisedPnl": text(account.unrealised_quote(venue.mark_half_ticks)),
        "curRealisedPnl": text(account.realised_quote),
        "cumRealisedPnl": text(account.realised_quote),
        "sessionAvgPrice": "",
        "breakEvenPrice": "",
        "createdTime": ms(account.opened_at_ns),
        "updatedTime": ms(updated),
        "seq": venue.sequence,
        "isReduceOnly": False,
        "mmrSysUpdatedTime": "",
        "leverageSysUpdatedTime": "",
    }


def wallet(venue: Venue, account: Account) -> Json:
    half = venue.mark_half_ticks
    equity = account.equity_quote(half)
    used = account.margin_used_quote(half)
    unrealised = text(account.unrealised_quote(half))
    held = text(account.wallet_quote)
    maintenance = text(venue.instrument.qty(abs(account.position.lots)) * mark_price(venue) / 200)
    rate = text((used / equity).quantize(Decimal("0.0001"))) if equity > 0 else ""
    return {
        "accountType": "UNIFIED",
        "accountIMRate": rate,
        "accountMMRate": "0",
        "accountLTV": "0",
        "totalEquity": text(equity),
        "totalWalletBalance": held,
        "totalMarginBalance": text(equity),
        "totalAvailableBalance": text(max(Decimal(0), equity - used)),
        "totalPerpUPL": unrealised,
        "totalInitialMargin": text(used),
        "totalMaintenanceMargin": maintenance,
        "coin": [
            {
                "coin": venue.instrument.quote,
                "equity": text(equity),
                "usdValue": text(equity),
                "walletBalance": held,
                "locked": "0",
                "borrowAmount": "0",
                "accruedInterest": "0",
                "totalOrderIM": "0",
                "totalPositionIM": text(used),
                "totalPositionMM": maintenance,
                "unrealisedPnl": unrealised,
                "cumRealisedPnl": text(account.realised_quote),
                "bonus": "0",
                "availableToWithdraw": "",
                "availableToBorrow": "",
                "marginCollateral": True,
                "collateralSwitch": True,
            }
        ],
    }
