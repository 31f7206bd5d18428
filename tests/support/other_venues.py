"""Stand-ins for Binance, OKX and Bitget on loopback: answers in the shapes those venues give, for ccxt's own parsing.

They match nothing and check no signature. `say` replaces an answer, `requests` keeps what was asked.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple
from urllib.parse import parse_qsl, urlsplit

NOW_MS = 1_780_000_000_000

_BINANCE_SYMBOL = {
    "symbol": "BTCUSDT", "pair": "BTCUSDT", "contractType": "PERPETUAL", "deliveryDate": 4133404800000,
    "onboardDate": 1569398400000, "status": "TRADING", "baseAsset": "BTC", "quoteAsset": "USDT", "marginAsset": "USDT",
    "pricePrecision": 2, "quantityPrecision": 3, "baseAssetPrecision": 8, "quotePrecision": 8, "underlyingType": "COIN",
    "filters": [
        {"filterType": "PRICE_FILTER", "minPrice": "556.80", "maxPrice": "4529764", "tickSize": "0.10"},
        {"filterType": "LOT_SIZE", "stepSize": "0.001", "maxQty": "1000", "minQty": "0.001"},
        {"filterType": "MARKET_LOT_SIZE", "stepSize": "0.001", "maxQty": "120", "minQty": "0.001"},
        {"filterType": "MAX_NUM_ORDERS", "limit": 200},
        {"filterType": "MIN_NOTIONAL", "notional": "100"},
    ],
    "orderTypes": ["LIMIT", "MARKET"], "timeInForce": ["GTC", "IOC", "FOK", "GTX"],
}  # fmt: skip
_OKX_INSTRUMENT = {
    "instType": "SWAP", "instId": "BTC-USDT-SWAP", "uly": "BTC-USDT", "instFamily": "BTC-USDT", "category": "1",
    "baseCcy": "", "quoteCcy": "", "settleCcy": "USDT", "ctVal": "0.01", "ctMult": "1", "ctValCcy": "BTC",
    "optType": "", "stk": "", "listTime": "1573557408000", "expTime": "", "lever": "100", "tickSz": "0.1",
    "lotSz": "0.01", "minSz": "0.01", "ctType": "linear", "alias": "", "state": "live", "maxLmtSz": "100000000",
}  # fmt: skip
_BITGET_CONTRACT = {
    "symbol": "BTCUSDT", "baseCoin": "BTC", "quoteCoin": "USDT", "makerFeeRate": "0.0002", "takerFeeRate": "0.0006",
    "supportMarginCoins": ["USDT"], "minTradeNum": "0.0001", "priceEndStep": "1", "volumePlace": "4", "pricePlace": "1",
    "sizeMultiplier": "0.0001", "symbolType": "perpetual", "minTradeUSDT": "5", "maxSymbolOrderNum": "200",
    "maxPositionNum": "150", "symbolStatus": "normal", "offTime": "-1", "limitOpenTime": "-1", "deliveryTime": "",
    "minLever": "1", "maxLever": "125", "posLimit": "0.1",
}  # fmt: skip


def _okx(*rows: Any) -> dict[str, Any]:
    return {"code": "0", "msg": "", "data": list(rows)}


def _bitget(data: Any) -> dict[str, Any]:
    return {"code": "00000", "msg": "success", "requestTime": NOW_MS, "data": data}


ANSWERS: dict[str, dict[tuple[str, str], Any]] = {
    "binance": {
        ("GET", "/fapi/v1/exchangeInfo"): {"timezone": "UTC", "serverTime": NOW_MS, "symbols": [_BINANCE_SYMBOL]},
        ("GET", "/fapi/v1/time"): {"serverTime": NOW_MS},
        ("GET", "/fapi/v1/depth"): {
            "lastUpdateId": 7, "E": NOW_MS, "T": NOW_MS,
            "bids": [["9999.9", "1.5"], ["9999.8", "2"]], "asks": [["10000.1", "0.7"], ["10000.2", "3"]],
        },
        ("GET", "/fapi/v1/aggTrades"): [
            {"a": 26129, "p": "10000.1", "q": "0.004", "f": 1, "l": 1, "T": NOW_MS - 5, "m": False},
            {"a": 26130, "p": "9999.9", "q": "0.010", "f": 2, "l": 2, "T": NOW_MS - 1, "m": True},
        ],
        ("POST", "/fapi/v1/order"): {
            "orderId": 22542179, "symbol": "BTCUSDT", "status": "NEW", "clientOrderId": "slwq-1-7", "price": "9990.0",
            "avgPrice": "0.00", "origQty": "0.010", "executedQty": "0.000", "cumQuote": "0", "timeInForce": "GTX",
            "type": "LIMIT", "reduceOnly": False, "side": "BUY", "updateTime": NOW_MS,
        },
        ("DELETE", "/fapi/v1/order"): {"orderId": 22542179, "symbol": "BTCUSDT", "status": "CANCELED", "side": "BUY",
                                       "clientOrderId": "slwq-1-7", "price": "9990.0", "origQty": "0.010",
                                       "executedQty": "0", "type": "LIMIT", "timeInForce": "GTX"},
        ("GET", "/fapi/v1/openOrders"): [],
        ("GET", "/fapi/v1/leverageBracket"): [
            {"symbol": "BTCUSDT", "brackets": [{"bracket": 1, "initialLeverage": 125, "notionalCap": 50000,
                                                "notionalFloor": 0, "maintMarginRatio": 0.004, "cum": 0.0}]},
        ],
        ("GET", "/fapi/v3/positionRisk"): [],
        ("GET", "/fapi/v1/commissionRate"): {
            "symbol": "BTCUSDT", "makerCommissionRate": "0.0002", "takerCommissionRate": "0.0004",
        },
        ("GET", "/fapi/v1/userTrades"): [
            {"symbol": "BTCUSDT", "id": 698759, "orderId": 22542179, "side": "SELL", "price": "10000.1", "qty": "0.002",
             "realizedPnl": "0", "quoteQty": "20.0002", "commission": "0.00400004", "commissionAsset": "USDT",
             "time": NOW_MS, "positionSide": "BOTH", "maker": True, "buyer": False},
        ],
        ("DELETE", "/fapi/v1/allOpenOrders"): {"code": 200, "msg": "The operation of cancel all open order is done."},
    },
    "okx": {
        ("GET", "/api/v5/public/instruments"): _okx(_OKX_INSTRUMENT),
        ("GET", "/api/v5/public/time"): _okx({"ts": str(NOW_MS)}),
        ("GET", "/api/v5/market/books"): _okx({
            "asks": [["10000.1", "70", "0", "4"], ["10000.2", "300", "0", "9"]],
            "bids": [["9999.9", "150", "0", "2"], ["9999.8", "200.01", "0", "2"]], "ts": str(NOW_MS),
        }),
        ("GET", "/api/v5/market/trades"): _okx(
            {"instId": "BTC-USDT-SWAP", "side": "sell", "sz": "1.5", "px": "9999.9", "tradeId": "242720720",
             "ts": str(NOW_MS)},
        ),
        ("POST", "/api/v5/trade/batch-orders"): _okx(
            {"clOrdId": "slwqZ1Z7", "ordId": "312269865356374016", "tag": "", "sCode": "0", "sMsg": ""}
        ),
        ("POST", "/api/v5/trade/cancel-order"): _okx(
            {"clOrdId": "", "ordId": "312269865356374016", "sCode": "0", "sMsg": ""}
        ),
        ("GET", "/api/v5/trade/orders-pending"): _okx(),
        ("GET", "/api/v5/account/positions"): _okx(),
        ("GET", "/api/v5/account/trade-fee"): _okx(
            {"category": "1", "delivery": "", "exercise": "", "instType": "SWAP", "level": "Lv1", "maker": "-0.0002",
             "makerU": "-0.0002", "taker": "-0.0005", "takerU": "-0.0005", "ts": str(NOW_MS)}
        ),
        ("GET", "/api/v5/trade/fills-history"): _okx(
            {"instType": "SWAP", "instId": "BTC-USDT-SWAP", "tradeId": "698759", "ordId": "22542179",
             "clOrdId": "slwqZ1Z7", "billId": "1111", "tag": "", "fillPx": "10000.1", "fillSz": "0.2", "side": "sell",
             "posSide": "net", "execType": "M", "feeCcy": "USDT", "fee": "-0.00400004", "ts": str(NOW_MS)},
        ),
    },
    "bitget": {
        ("GET", "/api/v2/mix/market/contracts"): _bitget([_BITGET_CONTRACT]),
        ("GET", "/api/v2/public/time"): _bitget({"serverTime": str(NOW_MS)}),
        ("GET", "/api/v2/mix/market/merge-depth"): _bitget({
            "asks": [["10000.1", "0.7"], ["10000.2", "3"]], "bids": [["9999.9", "1.5"], ["9999.8", "2"]],
            "ts": str(NOW_MS), "scale": "0.1", "precision": "scale0", "isMaxPrecision": "NO",
        }),
        ("GET", "/api/v2/mix/market/fills"): _bitget(
            [{"tradeId": "1", "price": "9999.9", "size": "0.004", "side": "sell", "ts": str(NOW_MS),
              "symbol": "BTCUSDT"}]
        ),
        ("GET", "/api/v2/mix/market/fills-history"): _bitget(
            [{"tradeId": "1", "price": "9999.9", "size": "0.004", "side": "sell", "ts": str(NOW_MS),
              "symbol": "BTCUSDT"}]
        ),
        ("POST", "/api/v2/mix/order/place-order"): _bitget({"clientOid": "slwq-1-7", "orderId": "121211212122"}),
        ("POST", "/api/v2/mix/order/cancel-order"): _bitget({"clientOid": "slwq-1-7", "orderId": "121211212122"}),
        ("GET", "/api/v2/mix/order/orders-pending"): _bitget({"entrustedList": None, "endId": None}),
        ("GET", "/api/v2/mix/position/all-position"): _bitget([]),
        ("GET", "/api/v2/common/trade-rate"): _bitget({"makerFeeRate": "0.0002", "takerFeeRate": "0.0006"}),
        ("GET", "/api/v2/mix/order/fills"): _bitget({
            "fillList": [
                {"tradeId": "698759", "symbol": "BTCUSDT", "orderId": "22542179", "price": "10000.1",
                 "baseVolume": "0.002", "feeDetail": [{"deduction": "no", "feeCoin": "USDT",
                 "totalDeductionFee": "0", "totalFee": "-0.00400004"}], "side": "sell", "quoteVolume": "20.0002",
                 "profit": "0", "enterPointSource": "api", "tradeSide": "sell_single", "posMode": "one_way_mode",
                 "tradeScope": "maker", "cTime": str(NOW_MS)},
            ], "endId": "698759",
        }),
        ("POST", "/api/v2/mix/order/batch-cancel-orders"): _bitget({"successList": [], "failureList": []}),
    },
}  # fmt: skip


class Asked(NamedTuple):
    """One request. `fields`: of its query and its body together."""

    method: str
    path: str
    fields: dict[str, Any]


class StandIn:
    """One venue's answers on a port of its own."""

    def __init__(self, exchange: str) -> None:
        self.exchange = exchange
        self.requests: list[Asked] = []
        self._answers: dict[tuple[str, str], tuple[int, Any]] = {
            key: (200, answer) for key, answer in ANSWERS[exchange].items()
        }
        self.url = ""

    def say(self, method: str, path: str, answer: Any, status: int = 200) -> None:
        """From now on this is answered there."""
        self._answers[method, path] = (status, answer)

    def last(self, method: str, path: str) -> Asked:
        return [one for one in self.requests if (one.method, one.path) == (method, path)][-1]

    def answer(self, method: str, target: str, body: bytes) -> tuple[int, bytes]:
        parts = urlsplit(target)
        fields: dict[str, Any] = dict(parse_qsl(parts.query, keep_blank_values=True))
        if body:
            try:
                fields |= json.loads(body)
            except ValueError:
                fields |= dict(parse_qsl(body.decode(), keep_blank_values=True))
        self.requests.append(Asked(method, parts.path, fields))
        status, answer = self._answers.get((method, parts.path), (404, {"code": "404", "msg": "not stood in for"}))
        return status, answer if isinstance(answer, bytes) else json.dumps(answer).encode()


@contextmanager
def stand_in(exchange: str) -> Iterator[StandIn]:
    venue = StandIn(exchange)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _serve(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            status, answer = venue.answer(self.command, self.path, body)
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        do_GET = do_POST = do_DELETE = do_PUT = _serve

        def log_message(self, format: str, *arguments: object) -> None:
            return

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    venue.url = f"http://127.0.0.1:{server.server_port}"
    try:
        yield venue
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
