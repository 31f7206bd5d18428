"""The venue's Bybit V5 face: one REST request in, one answer out. Pure; mounted in process or served on loopback."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final, NamedTuple, final
from urllib.parse import parse_qsl

import msgspec

from bot.simulator import bybit_batches, bybit_orders, bybit_queries
from bot.simulator.accounts import Holder
from bot.simulator.bybit_access import Limit, RateLimits, V5Error, authenticate
from bot.simulator.bybit_amends import Amends
from bot.simulator.bybit_dcp import DisconnectCancel
from bot.simulator.bybit_messages import ms
from bot.simulator.bybit_orders import Params
from bot.simulator.bybit_written import quoted
from bot.simulator.exchange import Exchange

_ENCODER = msgspec.json.Encoder()
_BODY = msgspec.json.Decoder(dict[str, object])


class Request:
    """`query` as sent, still encoded; header names in lower case."""

    __slots__ = ("body", "headers", "method", "path", "query")

    def __init__(self, method: str, path: str, query: str, body: bytes, headers: dict[str, str]) -> None:
        self.method = method
        self.path = path
        self.query = query
        self.body = body
        self.headers = headers


class Answer:
    """`lost`: the request took effect, but its answer must never reach the client (a fault).

    `number`: what the venue knows it by, 0 where it says nothing; `shown_ms`: what its clock showed then.
    """

    __slots__ = ("_limit", "_number", "_shown_ms", "_skew_ms", "body", "lost", "status")

    def __init__(
        self,
        status: int,
        body: bytes,
        number: int = 0,
        shown_ms: int = 0,
        limit: Limit | None = None,
        skew_ms: int = 0,
        *,
        lost: bool = False,
    ) -> None:
        self.status = status
        self.body = body
        self.lost = lost
        self._number = number
        self._shown_ms = shown_ms
        self._limit = limit
        self._skew_ms = skew_ms

    @property
    def headers(self) -> dict[str, str]:
        """The clock, the answer's number and, of a signed request, what is left of its bucket."""
        if not self._number:
            return {}
        stamp = trace(self._number, self._shown_ms)
        return stamp if self._limit is None else {**stamp, **self._limit.headers(self._skew_ms)}

    def lowered_headers(self) -> dict[str, str]:
        """The same, their names in lower case."""
        if not self._number:
            return {}
        limit = self._limit
        if limit is None:
            return {"timenow": str(self._shown_ms), "traceid": _trace_id(self._number)}
        return {
            "timenow": str(self._shown_ms),
            "traceid": _trace_id(self._number),
            "x-bapi-limit": str(limit.allowed),
            "x-bapi-limit-status": str(limit.left),
            "x-bapi-limit-reset-timestamp": str(limit.resets_at_ms + self._skew_ms),
        }


def trace(number: int, shown_ms: int) -> dict[str, str]:
    """The headers every answer has: the venue's clock, ms, and a number to ask the venue about this answer."""
    return {"Timenow": str(shown_ms), "Traceid": _trace_id(number)}


def _trace_id(number: int) -> str:
    page = number >> 8
    if _traces.page != page:
        _traces.page, _traces.head = page, f"{page:030x}"
    return _traces.head + _LAST_DIGITS[number & 255]


@final
class _Traces:
    """The numbers of answers as they are shown: all but the last two digits of the one that was shown last."""

    __slots__ = ("head", "page")

    def __init__(self) -> None:
        self.page = -1
        self.head = ""


_traces: Final = _Traces()
_LAST_DIGITS: Final = [f"{number:02x}" for number in range(256)]


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
AMEND_BATCH: Final = "/v5/order/amend-batch"
TRADE_OPERATIONS: Mapping[str, str] = {
    "order.create": "/v5/order/create",
    "order.amend": "/v5/order/amend",
    "order.cancel": "/v5/order/cancel",
    "order.create-batch": "/v5/order/create-batch",
    "order.amend-batch": AMEND_BATCH,
    "order.cancel-batch": "/v5/order/cancel-batch",
}


class _Fate:
    """What else becomes of an operation: whether its answer is lost."""

    __slots__ = ("lost",)

    def __init__(self) -> None:
        self.lost = False


_NOTHING: Final[Mapping[str, object]] = {}


class Outcome:
    """What a private operation came to; `lost` as in Answer, `extra` is `retExtInfo`. A text is JSON already.

    `status`: of HTTP; anything but 200 has no envelope.
    """

    __slots__ = ("code", "extra", "limit", "lost", "message", "result", "status")

    def __init__(
        self,
        code: int,
        message: str,
        result: Mapping[str, object] | str,
        limit: Limit | None,
        lost: bool = False,
        extra: Mapping[str, object] | str = _NOTHING,
        status: int = 200,
    ) -> None:
        self.code = code
        self.message = message
        self.result = result
        self.limit = limit
        self.lost = lost
        self.extra = extra
        self.status = status


def _reads_nothing(exchange: Exchange, params: Params, now_ns: int) -> Mapping[str, object]:
    return _NOTHING


def _does_nothing(exchange: Exchange, holder: Holder, params: Params, now_ns: int) -> Mapping[str, object]:
    return _NOTHING


class _Route:
    """Where a request leads, with all that is looked up for it once. `batch_of`: of a batch, its orders' own route."""

    __slots__ = ("act", "batch_of", "bucket", "creates", "done", "is_post", "is_public", "of_one", "per_s", "read",
                 "spot_bucket", "spot_per_s")  # fmt: skip

    def __init__(self, method: str, path: str, public: _Public | None, private: _Private | None) -> None:
        self.is_public = public is not None
        self.read = public.read if public else _reads_nothing
        self.act = private.act if private else _does_nothing
        self.is_post = method == "POST"
        self.batch_of: _Route | None = None
        self.bucket = path
        self.spot_bucket = f"{path} spot"
        self.per_s = private.per_s if private else 0
        self.spot_per_s = private.rate("spot") if private else 0
        self.of_one = path.removeprefix("/v5/order/")
        self.creates = path == "/v5/order/create"
        self.done = "success" if path.endswith("disconnected-cancel-all") else "OK"


class V5:
    """Routes, signatures, rate limits and envelopes over one exchange. Its clock may be wrong by a fault."""

    def __init__(self, exchange: Exchange) -> None:
        self.exchange = exchange
        self.faults = exchange.faults
        self.dcp = DisconnectCancel(exchange)
        self._limits = RateLimits()
        self._answers = 0
        private = {
            **PRIVATE,
            ("GET", "/v5/account/info"): _Private(self._account_info, 50),
            ("GET", "/v5/account/query-dcp-info"): _Private(self.dcp.show, 5),
            ("POST", "/v5/order/disconnected-cancel-all"): _Private(self.dcp.set_window, 5),
        }
        self._posts: dict[str, _Route] = {}
        self._gets: dict[str, _Route] = {}
        for (method, path), public in PUBLIC.items():
            self._of_method(method)[path] = _Route(method, path, public, None)
        for (method, path), one in private.items():
            self._of_method(method)[path] = _Route(method, path, None, one)
        for path, of_one in bybit_batches.OF_ONE.items():
            route = self._posts[path] = _Route("POST", path, None, None)
            route.batch_of = self._posts[of_one]

    def _of_method(self, method: str) -> dict[str, _Route]:
        return self._posts if method == "POST" else self._gets

    def answer(self, request: Request, now_ns: int) -> Answer:
        """Answer one REST request; everything Bybit says with an HTTP 200 and a code is said so here."""
        faults = self.faults
        if faults.is_down(now_ns):
            return Answer(503, b"")
        route: _Route | None = None
        if request.method == "POST":
            route = self._posts.get(request.path)
        elif request.method == "GET":
            route = self._gets.get(request.path)
        if route is None:
            return Answer(404, b"")
        outcome = self._read(route, request, now_ns) if route.is_public else self._signed(route, request, now_ns)
        if outcome.status != 200:
            return Answer(outcome.status, b"")
        self._answers += 1
        shown_ns = now_ns + faults.skew_ns
        return Answer(
            200, envelope(outcome, shown_ns), self._answers, shown_ns // 1_000_000, outcome.limit,
            faults.skew_ns // 1_000_000, lost=outcome.lost,
        )  # fmt: skip

    def shown_ns(self, now_ns: int) -> int:
        """What the venue's own clock shows."""
        return now_ns + self.faults.skew_ns

    def header_text(self, limit: Limit | None, now_ns: int) -> str:
        """The headers of one more answer on a socket, in JSON: as by REST, what is left of the bucket before them."""
        self._answers += 1
        shown, traced = ms(self.shown_ns(now_ns)), _trace_id(self._answers)
        if limit is None:
            return f'{{"Timenow":"{shown}","Traceid":"{traced}"}}'
        resets_at_ms = limit.resets_at_ms + self.faults.skew_ns // 1_000_000
        return (
            f'{{"X-Bapi-Limit":"{limit.allowed}","X-Bapi-Limit-Status":"{limit.left}",'
            f'"X-Bapi-Limit-Reset-Timestamp":"{resets_at_ms}","Timenow":"{shown}","Traceid":"{traced}"}}'
        )

    def operate(self, holder: Holder, path: str, params: Params, now_ns: int) -> Outcome:
        """A private POST of an authenticated holder, by REST or by the trade socket: one bucket, one meaning."""
        return self._operate(holder, self._posts[path], params, now_ns)

    def _operate(self, holder: Holder, route: _Route, params: Params, now_ns: int) -> Outcome:
        if route.batch_of is not None:
            return self._batch(holder, route, route.batch_of, params, now_ns)
        limit: Limit | None = None
        fate = _Fate()
        try:
            _check_may_write(holder)
            if params.get("category") == "spot":
                limit = self._limits.spend(holder.uid, route.spot_bucket, route.spot_per_s, now_ns)
            else:
                limit = self._limits.spend(holder.uid, route.bucket, route.per_s, now_ns)
            result = self._act(holder, route, params, now_ns, fate)
        except V5Error as error:
            return Outcome(error.code, error.message, {}, error.limit or limit, fate.lost)
        return Outcome(0, route.done, result, limit, fate.lost)

    def _batch(self, holder: Holder, route: _Route, one: _Route, params: Params, now_ns: int) -> Outcome:
        fate = _Fate()
        try:
            _check_may_write(holder)
            orders = bybit_batches.orders_of(self.exchange, params)
            limit = self._limits.spend(holder.uid, route.bucket, BATCH_ORDERS_PER_S, now_ns, len(orders))
        except V5Error as error:
            return Outcome(error.code, error.message, {}, error.limit)
        answer = bybit_batches.run(
            orders,
            limit.taken,
            lambda order: self._act(holder, one, order, now_ns, fate),
            now_ns,
            creates=one.creates,
        )
        return Outcome(0, "OK", answer.rows, limit, fate.lost, answer.ends)

    def amend_batch(self, holder: Holder, amends: Amends, now_ns: int) -> Outcome:
        """As `operate`, of amendments that were read from their text. Where a fault was ever armed none may be: of
        each order the plan would have to be asked."""
        try:
            _check_may_write(holder)
            wanted = len(amends.orders)
            limit = self._limits.spend(holder.uid, AMEND_BATCH, BATCH_ORDERS_PER_S, now_ns, wanted)
        except V5Error as error:
            return Outcome(error.code, error.message, {}, error.limit)
        answer = bybit_batches.amend(amends, limit.taken, now_ns)
        return Outcome(0, "OK", answer.rows, limit, False, answer.ends)

    def _act(self, holder: Holder, route: _Route, params: Params, now_ns: int, fate: _Fate) -> Mapping[str, object]:
        """Do one thing, with what the plan of faults has for it."""
        if self.faults.armed:
            refuse = self.faults.fire("refuse", holder.name, now_ns, request=route.of_one)
            if refuse is not None:
                raise V5Error(int(refuse.number("code")), "refused by an injected fault")
            if route.creates:
                fate.lost |= self._create_faults(holder, now_ns)
        return route.act(self.exchange, holder, params, now_ns)

    def _account_info(self, exchange: Exchange, holder: Holder, params: Params, now_ns: int) -> Mapping[str, object]:
        return bybit_queries.account_info(holder, self.dcp.window_s(holder))

    def _read(self, route: _Route, request: Request, now_ns: int) -> Outcome:
        try:
            return Outcome(0, "OK", route.read(self.exchange, _query(request), now_ns), None)
        except V5Error as error:
            return Outcome(error.code, error.message, {}, None)

    def _signed(self, route: _Route, request: Request, now_ns: int) -> Outcome:
        limit: Limit | None = None
        try:
            signed = request.body if route.is_post else request.query.encode()
            holder = authenticate(self.exchange, request.headers, signed, self.shown_ns(now_ns))
            status = self._broken_status(holder, now_ns) if self.faults.armed else 0
            if status:
                return Outcome(0, "", {}, None, status=status)
            if route.is_post:
                return self._operate(holder, route, _body(request), now_ns)
            limit = self._limits.spend(holder.uid, route.bucket, route.per_s, now_ns)
            return Outcome(0, "OK", route.act(self.exchange, holder, _query(request), now_ns), limit)
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
    """The JSON around every REST answer; around the commonest ones it is written already."""
    result = outcome.result
    if not outcome.code and not outcome.extra and outcome.message == "OK" and not isinstance(result, str):
        return _OK + _ENCODER.encode(result) + _AT + str(now_ns // 1_000_000).encode() + b"}"
    return (
        f'{{"retCode":{outcome.code},"retMsg":{quoted(outcome.message)},"result":{in_json(result)},'
        f'"retExtInfo":{in_json(outcome.extra)},"time":{now_ns // 1_000_000}}}'
    ).encode()


def in_json(value: Mapping[str, object] | str) -> str:
    """A part of an outcome."""
    if isinstance(value, str):
        return value
    return quoted(value) if value else "{}"


_OK: Final = b'{"retCode":0,"retMsg":"OK","result":'
_AT: Final = b',"retExtInfo":{},"time":'


def _check_may_write(holder: Holder) -> None:
    if holder.keys.standing.read_only:
        raise V5Error(10005, "Permission denied, please check your API key permissions.")


def _query(request: Request) -> Params:
    query = request.query
    if "%" not in query and "+" not in query:  # as below, where nothing has to be decoded
        params: Params = {}
        for pair in query.split("&"):
            if pair:
                name, _, value = pair.partition("=")
                params[name] = value
        return params
    return dict(parse_qsl(request.query, keep_blank_values=True))


def _body(request: Request) -> Params:
    try:
        return _BODY.decode(request.body)
    except msgspec.MsgspecError as error:
        raise V5Error(10001, f"params error: the body is not a JSON object: {error}") from error
