"""The venue's Bybit V5 face: one REST request in, one answer out. Pure; mounted in process or served on loopback."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple
from urllib.parse import parse_qsl

import msgspec

from bot.simulator import bybit_batches, bybit_orders, bybit_queries
from bot.simulator.accounts import Holder
from bot.simulator.bybit_access import Limit, RateLimits, V5Error, authenticate
from bot.simulator.bybit_dcp import DisconnectCancel
from bot.simulator.bybit_orders import Params
from bot.simulator.exchange import Exchange

_ENCODER = msgspec.json.Encoder()
_BODY = msgspec.json.Decoder(dict[str, object])


class Request(msgspec.Struct, frozen=True, gc=False):
    """`query` as sent, still encoded; header names in lower case."""

    method: str
    path: str
    query: str
    body: bytes
    headers: Mapping[str, str]


@dataclass(slots=True)
class Answer:
    """`lost`: the request took effect, but its answer must never reach the client (a fault)."""

    status: int
    body: bytes
    headers: dict[str, str] = field(default_factory=dict)
    lost: bool = False


class _Public(NamedTuple):
    read: Callable[[Exchange, Params, int], Mapping[str, object]]


class _Private(NamedTuple):
    """`per_s` linear; `spot_per_s` where spot has another number."""

    act: Callable[[Exchange, Holder, Params, int], Mapping[str, object]]
    per_s: int
    spot_per_s: int = 0

    def rate(self, category: object) -> int:
        return self.spot_per_s or self.per_s if category == "spot" else self.per_s


PUBLIC: Mapping[tuple[str, str], _Public] = {
    ("GET", "/v5/market/time"): _Public(lambda e, p, now: bybit_queries.time(now + e.faults.skew_ns)),
    ("GET", "/v5/market/instruments-info"): _Public(lambda e, p, now: bybit_queries.instruments(e, p)),
    ("GET", "/v5/market/orderbook"): _Public(bybit_queries.orderbook),
    ("GET", "/v5/market/tickers"): _Public(bybit_queries.tickers),
    ("GET", "/v5/market/price-limit"): _Public(bybit_queries.price_limit),
    ("GET", "/v5/market/recent-trade"): _Public(lambda e, p, now: bybit_queries.recent_trades(e, p)),
}
PRIVATE: Mapping[tuple[str, str], _Private] = {
    ("POST", "/v5/order/create"): _Private(bybit_orders.create, 10, 20),
    ("POST", "/v5/order/amend"): _Private(bybit_orders.amend, 10),
    ("POST", "/v5/order/cancel"): _Private(bybit_orders.cancel, 10, 20),
    ("POST", "/v5/order/cancel-all"): _Private(bybit_orders.cancel_all, 10, 20),
    ("GET", "/v5/order/realtime"): _Private(bybit_queries.open_orders, 50),
    ("GET", "/v5/order/history"): _Private(bybit_queries.order_history, 50),
    ("GET", "/v5/execution/list"): _Private(bybit_queries.executions, 50),
    ("GET", "/v5/position/list"): _Private(bybit_queries.positions, 50),
    ("GET", "/v5/account/wallet-balance"): _Private(bybit_queries.wallet_balance, 50),
    ("GET", "/v5/account/fee-rate"): _Private(bybit_queries.fee_rate, 5),
    ("GET", "/v5/user/query-api"): _Private(bybit_queries.query_api, 10),
    ("GET", "/v5/asset/coin/query-info"): _Private(bybit_queries.coins, 5),
}
BATCH_ORDERS_PER_S = 10
TOO_MANY_VISITS = 10006
TRADE_OPERATIONS: Mapping[str, str] = {
    "order.create": "/v5/order/create",
    "order.amend": "/v5/order/amend",
    "order.cancel": "/v5/order/cancel",
    "order.create-batch": "/v5/order/create-batch",
    "order.amend-batch": "/v5/order/amend-batch",
    "order.cancel-batch": "/v5/order/cancel-batch",
}


@dataclass(slots=True)
class _Fate:
    lost: bool = False


class Outcome(msgspec.Struct, frozen=True, gc=False):
    """What a private operation came to; `lost` as in Answer, `extra` is `retExtInfo`."""

    code: int
    message: str
    result: Mapping[str, object]
    limit: Limit | None
    lost: bool = False
    extra: Mapping[str, object] = {}
    status: int = 200
    """Of HTTP; anything but 200 has no envelope."""


class V5:
    """Routes, signatures, rate limits and envelopes over one exchange. Its clock may be wrong by a fault."""

    def __init__(self, exchange: Exchange) -> None:
        self.exchange = exchange
        self.faults = exchange.faults
        self.dcp = DisconnectCancel(exchange)
        self._limits = RateLimits()
        self._answers = 0
        self._private: Mapping[tuple[str, str], _Private] = {
            **PRIVATE,
            ("GET", "/v5/account/info"): _Private(self._account_info, 50),
            ("GET", "/v5/account/query-dcp-info"): _Private(self.dcp.show, 5),
            ("POST", "/v5/order/disconnected-cancel-all"): _Private(self.dcp.set_window, 5),
        }

    def answer(self, request: Request, now_ns: int) -> Answer:
        """Answer one REST request; everything Bybit says with an HTTP 200 and a code is said so here."""
        if self.faults.is_down(now_ns):
            return Answer(503, b"")
        key = (request.method, request.path)
        public = PUBLIC.get(key)
        is_batch = request.method == "POST" and request.path in bybit_batches.OF_ONE
        if public is None and key not in self._private and not is_batch:
            return Answer(404, b"")
        outcome = self._read(public, request, now_ns) if public else self._signed(request, now_ns)
        if outcome.status != 200:
            return Answer(outcome.status, b"")
        headers = {**self.trace(now_ns), **self.limit_headers(outcome)}
        return Answer(200, envelope(outcome, self.shown_ns(now_ns)), headers, outcome.lost)

    def limit_headers(self, outcome: Outcome | None) -> dict[str, str]:
        """What is left of the bucket, and when by the venue's own clock it is full again."""
        if outcome is None or outcome.limit is None:
            return {}
        return outcome.limit.headers(self.faults.skew_ns // 1_000_000)

    def shown_ns(self, now_ns: int) -> int:
        """What the venue's own clock shows."""
        return now_ns + self.faults.skew_ns

    def trace(self, now_ns: int) -> dict[str, str]:
        """The headers every answer has: the venue's clock, ms, and a number to ask the venue about this answer."""
        self._answers += 1
        return {"Timenow": str(self.shown_ns(now_ns) // 1_000_000), "Traceid": f"{self._answers:032x}"}

    def operate(self, holder: Holder, path: str, params: Params, now_ns: int) -> Outcome:
        """A private POST of an authenticated holder, by REST or by the trade socket: one bucket, one meaning."""
        if path in bybit_batches.OF_ONE:
            return self._batch(holder, path, params, now_ns)
        limit: Limit | None = None
        fate = _Fate()
        try:
            _check_may_write(holder)
            category = params.get("category")
            bucket = f"{path} spot" if category == "spot" else path
            limit = self._limits.spend(holder.uid, bucket, self._private[("POST", path)].rate(category), now_ns)
            result = self._act(holder, path, params, now_ns, fate)
        except V5Error as error:
            return Outcome(error.code, error.message, {}, error.limit or limit, fate.lost)
        return Outcome(0, "success" if path.endswith("disconnected-cancel-all") else "OK", result, limit, fate.lost)

    def _batch(self, holder: Holder, path: str, params: Params, now_ns: int) -> Outcome:
        fate = _Fate()
        one = bybit_batches.OF_ONE[path]
        try:
            _check_may_write(holder)
            orders = bybit_batches.orders_of(self.exchange, params)
            limit = self._limits.spend(holder.uid, path, BATCH_ORDERS_PER_S, now_ns, len(orders))
        except V5Error as error:
            return Outcome(error.code, error.message, {}, error.limit)
        answer = bybit_batches.run(
            orders,
            limit.taken,
            lambda order: self._act(holder, one, order, now_ns, fate),
            now_ns,
            creates=one == "/v5/order/create",
        )
        return Outcome(0, "OK", {"list": answer.rows}, limit, fate.lost, {"list": answer.ends})

    def _act(self, holder: Holder, path: str, params: Params, now_ns: int, fate: _Fate) -> Mapping[str, object]:
        """Do one thing, with what the plan of faults has for it."""
        refuse = self.faults.fire("refuse", holder.name, now_ns, request=path.removeprefix("/v5/order/"))
        if refuse is not None:
            raise V5Error(int(refuse.number("code")), "refused by an injected fault")
        if path == "/v5/order/create":
            fate.lost |= self._create_faults(holder, now_ns)
        return self._private[("POST", path)].act(self.exchange, holder, params, now_ns)

    def _account_info(self, exchange: Exchange, holder: Holder, params: Params, now_ns: int) -> Mapping[str, object]:
        return bybit_queries.account_info(holder, self.dcp.window_s(holder))

    def _read(self, entry: _Public, request: Request, now_ns: int) -> Outcome:
        try:
            return Outcome(0, "OK", entry.read(self.exchange, _query(request), now_ns), None)
        except V5Error as error:
            return Outcome(error.code, error.message, {}, None)

    def _signed(self, request: Request, now_ns: int) -> Outcome:
        is_post = request.method == "POST"
        limit: Limit | None = None
        try:
            signed = request.body if is_post else request.query.encode()
            holder = authenticate(self.exchange, request.headers, signed, self.shown_ns(now_ns))
            status = self._broken_status(holder, now_ns)
            if status:
                return Outcome(0, "", {}, None, status=status)
            if is_post:
                return self.operate(holder, request.path, _body(request), now_ns)
            entry = self._private[(request.method, request.path)]
            limit = self._limits.spend(holder.uid, request.path, entry.per_s, now_ns)
            return Outcome(0, "OK", entry.act(self.exchange, holder, _query(request), now_ns), limit)
        except V5Error as error:
            return Outcome(error.code, error.message, {}, error.limit or limit)

    def _broken_status(self, holder: Holder, now_ns: int) -> int:
        """The HTTP status of a request that a fault keeps from happening; 0: none does. Raises V5Error 10006."""
        storm = self.faults.storm(now_ns)
        if storm == TOO_MANY_VISITS:
            raise V5Error(TOO_MANY_VISITS, "Too many visits. Exceeded the API Rate Limit.")
        if storm is not None:
            return storm
        broken = self.faults.fire("http_error", holder.name, now_ns)
        return 0 if broken is None else int(broken.number("status"))

    def _create_faults(self, holder: Holder, now_ns: int) -> bool:
        refuse = self.faults.fire("refuse_create", holder.name, now_ns)
        if refuse is not None:
            raise V5Error(int(refuse.number("code")), "refused by an injected fault")
        return self.faults.fire("accept_then_timeout", holder.name, now_ns) is not None


def envelope(outcome: Outcome, now_ns: int) -> bytes:
    """The JSON around every REST answer."""
    return _ENCODER.encode(
        {
            "retCode": outcome.code,
            "retMsg": outcome.message,
            "result": outcome.result,
            "retExtInfo": outcome.extra,
            "time": now_ns // 1_000_000,
        }
    )


def _check_may_write(holder: Holder) -> None:
    if holder.keys.standing.read_only:
        raise V5Error(10005, "Permission denied, please check your API key permissions.")


def _query(request: Request) -> Params:
    return dict(parse_qsl(request.query, keep_blank_values=True))


def _body(request: Request) -> Params:
    try:
        return _BODY.decode(request.body)
    except msgspec.MsgspecError as error:
        raise V5Error(10001, f"params error: the body is not a JSON object: {error}") from error
