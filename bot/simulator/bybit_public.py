"""The public objects of Bybit V5 as the venue writes them: instrument and ticker."""

from __future__ import annotations

from decimal import Decimal

from bot.domain.instrument import Instrument
from bot.domain.order import Side
from bot.simulator.accounts import LEVERAGE
from bot.simulator.admission import PRICE_MAX
from bot.simulator.bybit_messages import Json, mark_price, ms, text
from bot.simulator.venue import Venue

_HOUR_NS = 3_600 * 1_000_000_000


def instrument_info(instrument: Instrument, launched_ms: int) -> Json:
    """As its category shows it: spot has other names and no contract."""
    if instrument.category == "spot":
        return _spot_info(instrument)
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


def _spot_info(instrument: Instrument) -> Json:
    qty_max = text(instrument.qty_max)
    return {
        "symbol": instrument.symbol,
        "baseCoin": instrument.base,
        "quoteCoin": instrument.quote,
        "innovation": "0",
        "status": "Trading",
        "marginTrading": "none",
        "stTag": "0",
        "lotSizeFilter": {
            "basePrecision": text(instrument.lot_size),
            "quotePrecision": "0.00000001",
            "minOrderQty": text(instrument.qty_min),
            "maxOrderQty": qty_max,
            "minOrderAmt": text(instrument.notional_min_quote),
            "maxOrderAmt": "8000000",
            "maxLimitOrderQty": qty_max,
            "maxMarketOrderQty": qty_max,
            "postOnlyMaxLimitOrderSize": qty_max,
        },
        "priceFilter": {"tickSize": text(instrument.tick_size)},
        "riskParameters": {"priceLimitRatioX": "0.05", "priceLimitRatioY": "0.1"},
        "symbolType": "",
    }


SPOT_TICKER = (
    *("symbol", "lastPrice", "highPrice24h", "lowPrice24h", "prevPrice24h", "volume24h", "turnover24h"),
    *("price24hPcnt", "bid1Price", "bid1Size", "ask1Price", "ask1Size"),
)


def ticker(venue: Venue, now_ns: int) -> Json:
    """As market/tickers shows it; spot knows neither mark nor funding."""
    whole = _ticker(venue, now_ns)
    if venue.instrument.category == "spot":
        return {**{name: whole[name] for name in SPOT_TICKER}, "usdIndexPrice": whole["indexPrice"]}
    return whole


def _ticker(venue: Venue, now_ns: int) -> Json:
    """What the real venue says of 24 h is said here of the prints that are remembered: `recent_trades`."""
    instrument, book = venue.instrument, venue.book
    next_funding_ns = venue.funding.next_ns(now_ns)
    bids, asks = book.depth(Side.BUY, 1), book.depth(Side.SELL, 1)
    mark = mark_price(venue)
    trades = venue.recent_trades
    last = instrument.price(trades[-1].price_ticks) if trades else mark
    first = instrument.price(trades[0].price_ticks) if trades else mark
    high = instrument.price(max(trade.price_ticks for trade in trades)) if trades else mark
    low = instrument.price(min(trade.price_ticks for trade in trades)) if trades else mark
    lots = sum(trade.lots for trade in trades)
    turnover = instrument.tick_size * instrument.lot_size * sum(trade.price_ticks * trade.lots for trade in trades)
    return {
        "symbol": instrument.symbol,
        "lastPrice": text(last),
        "indexPrice": text(mark),
        "markPrice": text(mark),
        "prevPrice24h": text(first),
        "price24hPcnt": text(((last - first) / first).quantize(Decimal("0.000001"))),
        "highPrice24h": text(high),
        "lowPrice24h": text(low),
        "prevPrice1h": text(first),
        "openInterest": "0",
        "openInterestValue": "0",
        "turnover24h": text(turnover),
        "volume24h": text(instrument.qty(lots)),
        "bid1Price": text(instrument.price(bids[0][0])) if bids else "",
        "bid1Size": text(instrument.qty(bids[0][1])) if bids else "",
        "ask1Price": text(instrument.price(asks[0][0])) if asks else "",
        "ask1Size": text(instrument.qty(asks[0][1])) if asks else "",
        "fundingRate": text(venue.funding.rate(next_funding_ns)),
        "nextFundingTime": ms(next_funding_ns),
        "fundingIntervalHour": str(max(1, venue.funding.interval_ns // _HOUR_NS)),
        "fundingCap": "0.005",
        "predictedDeliveryPrice": "",
        "basisRate": "",
        "deliveryFeeRate": "",
        "deliveryTime": "0",
        "basis": "",
        "preOpenPrice": "",
        "preQty": "",
        "curPreListingPhase": "",
        "basisRateYear": "",
    }
