"""The bot's HTTP: health, readiness, metrics and status for reading; the grant for the guard; stops for people.

Reading needs no token and shows no secret. `/grant` takes the guard's token, everything else the operator's. What was
stopped is released by two people (`resume`, `re-arm`): one asks, another one confirms, and the guard says that it is
they. A wrong token is counted and throttled; a right one is never, because stopping must always work. Bodies are
decoded into exact types: an unknown or ill-typed field is answered 422 with its name.
"""

from __future__ import annotations

import hmac
from collections import deque
from collections.abc import Awaitable, Callable
from decimal import Decimal
from functools import partial
from typing import Annotated, Final, Protocol, TypeVar

import msgspec
from aiohttp import web

from bot.domain.events import DrillRequested, Event, GrantReceived, ShutdownRequested, StopRequested
from bot.domain.order import OWN_PREFIX
from bot.engine.drills import MAKER_POLICY, ORPHAN, STREAM_LOSS
from bot.engine.state import Release
from bot.runtime.exporter import CONTENT_TYPE
from bot.runtime.grant import TTL_S_MAX, GrantHolder, GrantRefused, LowerEpoch
from bot.runtime.operators import AskBody, ConfirmBody, Kind, answer, asked, confirmed, is_confirmed_by

WRONG_TOKENS_MAX: Final = 10
WRONG_TOKENS_WINDOW_NS: Final = 60_000_000_000
BODY_BYTES_MAX: Final = 16_384

Body = TypeVar("Body")
Json = dict[str, object]
Reason = Annotated[str, msgspec.Meta(min_length=1, max_length=200)]
Limit = Decimal
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class GrantLimits(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Ceilings of this grant, quote: per symbol and in total. `symbols`: where alone risk may be added; none: all."""

    inventory_max_quote: Limit
    total_max_quote: Limit
    symbols: tuple[str, ...] = ()


class GrantBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What the guard sends. `ttl_s` 0 revokes."""

    account: Annotated[str, msgspec.Meta(min_length=1)]
    epoch: Annotated[int, msgspec.Meta(ge=1)]
    limits: GrantLimits
    ttl_s: Annotated[float, msgspec.Meta(ge=0, le=TTL_S_MAX)]


class StopBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Why, and who says so. `key`: idempotency key; a stop under a key that was used is not entered again."""

    reason: Reason
    operator: Annotated[str, msgspec.Meta(min_length=1, max_length=80)] = "operator"
    key: Annotated[str, msgspec.Meta(max_length=100)] = ""


class DrillBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Who drills. `order`: for the drill `orphan` alone, the client order id that another client is about to place."""

    operator: Annotated[str, msgspec.Meta(min_length=1, max_length=80)] = "operator"
    order: Annotated[str, msgspec.Meta(max_length=36)] = ""


class Bot(Protocol):
    """What the HTTP side needs of the process."""

    grant: GrantHolder

    def now_ns(self) -> int: ...

    def tell(self, event: Event) -> None:
        """Puts an event through the engine's door; decided and journaled when it returns."""

    def status(self) -> Json: ...

    def release(self, release_id: str) -> Release | None:
        """What the engine has to say of a request to release stops; None where it knows none of that id."""

    @property
    def release_expires_s(self) -> int: ...

    def cut_streams(self) -> int:
        """Closes the bot's own sockets under its feet, as a venue would; each is opened again by itself. How many."""

    def checks(self) -> dict[str, bool]: ...

    def metrics(self) -> bytes: ...


class WrongTokens:
    """How many wrong tokens there were in a minute, and what to answer to the next one."""

    def __init__(self, now_ns: Callable[[], int]) -> None:
        self._now_ns = now_ns
        self._wrong: deque[int] = deque()

    def refusal(self) -> web.Response:
        """401, or 429 after too many."""
        now_ns = self._now_ns()
        while self._wrong and now_ns - self._wrong[0] > WRONG_TOKENS_WINDOW_NS:
            self._wrong.popleft()
        if len(self._wrong) >= WRONG_TOKENS_MAX:
            return _json({"error": "too many wrong tokens, try again in a minute"}, 429)
        self._wrong.append(now_ns)
        return _json({"error": "wrong or missing token"}, 401)


class TokenGate:
    """Compares bearer tokens in constant time; counts wrong ones per minute."""

    def __init__(self, token: str, now_ns: Callable[[], int]) -> None:
        self._token = token.encode()
        self._wrong = WrongTokens(now_ns)

    def refusal(self, request: web.Request) -> web.Response | None:
        """None where the token is right; else the answer to give."""
        right = hmac.compare_digest(_bearer(request).encode(), self._token)
        return None if self._token and right else self._wrong.refusal()


def _bearer(request: web.Request) -> str:
    """The token offered, empty without one."""
    scheme, _, offered = request.headers.get("Authorization", "").partition(" ")
    return offered.strip() if scheme.lower() == "bearer" else ""


def build_app(bot: Bot, *, grant_token: str, approve_token: str, armed: bool = False) -> web.Application:
    """The application. An empty token means that nothing is accepted where it would be needed.

    `armed`: what re-arming needs of the process itself holds (MM_LIVE_ENABLE on live).
    """
    app = web.Application(client_max_size=BODY_BYTES_MAX)
    app.add_routes(_reading_routes(bot))
    app.router.add_post("/grant", _grant_handler(bot, TokenGate(grant_token, bot.now_ns)))
    gate = TokenGate(approve_token, bot.now_ns)
    for path, event in STOPPING_CALLS.items():
        app.router.add_post(path, _stop_handler(bot, gate, event))
    app.router.add_post("/drill/{name}", _drill_handler(bot, gate))
    for kind in RELEASING_CALLS:
        app.router.add_post(f"/api/ui/{kind}-request", _ask_handler(bot, gate, kind, armed=armed))
        app.router.add_post(f"/api/ui/{kind}-confirm", _confirm_handler(bot, gate, kind, grant_token, armed=armed))
    return app


def _reading_routes(bot: Bot) -> list[web.RouteDef]:
    async def health(_request: web.Request) -> web.Response:
        return _json({"status": "ok"})

    async def ready(_request: web.Request) -> web.Response:
        checks = bot.checks()
        good = all(checks.values())
        return _json({"checks": checks, "status": "ok" if good else "fail"}, 200 if good else 503)

    async def metrics(_request: web.Request) -> web.Response:
        return web.Response(body=bot.metrics(), headers={"Content-Type": CONTENT_TYPE})

    async def status(_request: web.Request) -> web.Response:
        return _json(bot.status())

    return [
        web.get("/health", health),
        web.get("/healthz", health),
        web.get("/ready", ready),
        web.get("/metrics", metrics),
        web.get("/api/ui/status", status),
    ]


def _grant_handler(bot: Bot, gate: TokenGate) -> Handler:
    async def grant(request: web.Request) -> web.Response:
        if (refusal := gate.refusal(request)) is not None:
            return refusal
        raw = await request.read()
        try:
            body = _decode(raw, GrantBody)
            for field in ("inventory_max_quote", "total_max_quote"):
                value = getattr(body.limits, field)
                if not value.is_finite() or value < 0:
                    raise msgspec.ValidationError(
                        f"{value} is not a finite amount of at least 0 - at `$.limits.{field}`"
                    )
        except msgspec.ValidationError as error:
            return _json({"error": _field_error(error)}, 422)
        now_ns = bot.now_ns()
        limits = body.limits
        try:
            event: GrantReceived = bot.grant.take(
                body.account,
                body.epoch,
                limits.inventory_max_quote,
                limits.total_max_quote,
                body.ttl_s,
                now_ns,
                limits.symbols,
            )
        except LowerEpoch as error:
            return _json({"error": str(error), "epoch_held": error.epoch_held}, 409)
        except GrantRefused as error:
            return _json({"error": str(error)}, 409)
        bot.tell(event)
        return _json(
            {
                "account": body.account,
                "epoch": body.epoch,
                "expires_in_s": bot.grant.expires_in_s(now_ns),
                "state": bot.status()["state"],
            }
        )

    return grant


def _stop_handler(bot: Bot, gate: TokenGate, event: Callable[[int, StopBody], Event]) -> Handler:
    async def stop(request: web.Request) -> web.Response:
        if (refusal := gate.refusal(request)) is not None:
            return refusal
        raw = await request.read()
        try:
            body = _decode(raw, StopBody)
        except msgspec.ValidationError as error:
            return _json({"error": _field_error(error)}, 422)
        bot.tell(event(bot.now_ns(), body))
        return _json({"state": bot.status()["state"], "reason": body.reason})

    return stop


def _drill_handler(bot: Bot, gate: TokenGate) -> Handler:
    async def drill(request: web.Request) -> web.Response:
        if (refusal := gate.refusal(request)) is not None:
            return refusal
        name = request.match_info["name"]
        if name not in DRILLS:
            return _json({"error": f"drill {name!r}: allowed are {', '.join(DRILLS)}"}, 404)
        raw = await request.read()
        try:
            body = _decode(raw, DrillBody)
        except msgspec.ValidationError as error:
            return _json({"error": _field_error(error)}, 422)
        if not (body.order.startswith(OWN_PREFIX) if name == ORPHAN else body.order == ""):
            needed = f"needs one that begins with {OWN_PREFIX}" if name == ORPHAN else f"allowed for {ORPHAN} alone"
            return _json({"error": f"order: {body.order!r}, {needed}"}, 422)
        if name == STREAM_LOSS and not bot.cut_streams():  # not announced: the next loss would pass for planned
            return _json({"error": f"drill {name!r}: no socket is open that could be cut"}, 409)
        bot.tell(DRILLS[name](bot.now_ns(), body))
        return _json({"state": bot.status()["state"], "drill": name})

    return drill


def _ask_handler(bot: Bot, gate: TokenGate, kind: Kind, *, armed: bool) -> Handler:
    async def ask(request: web.Request) -> web.Response:
        if (refusal := gate.refusal(request)) is not None:
            return refusal
        raw = await request.read()
        try:
            body = _decode(raw, AskBody)
        except msgspec.ValidationError as error:
            return _json({"error": _field_error(error)}, 422)
        event = asked(kind, body, bot.now_ns(), armed=armed)
        bot.tell(event)
        return _release_answer(bot, kind, event.release_id, "")

    return ask


def _confirm_handler(bot: Bot, gate: TokenGate, kind: Kind, grant_token: str, *, armed: bool) -> Handler:
    async def confirm(request: web.Request) -> web.Response:
        if (refusal := gate.refusal(request)) is not None:
            return refusal
        raw = await request.read()
        try:
            body = _decode(raw, ConfirmBody)
        except msgspec.ValidationError as error:
            return _json({"error": _field_error(error)}, 422)
        if not is_confirmed_by(grant_token, bot.grant.epoch, body):
            return _json({"error": "wrong_code: the guard has not said that this person confirms this request"}, 403)
        known = bot.release(body.request_id)
        before = "" if known is None else known.word
        if known is None or known.kind == kind:  # the engine journals a word on a request that there is not, too
            bot.tell(confirmed(body, bot.now_ns(), armed=armed))
        return _release_answer(bot, kind, body.request_id, before)

    return confirm


def _release_answer(bot: Bot, kind: Kind, release_id: str, before: str) -> web.Response:
    status, body = answer(kind, release_id, bot.release, before, bot.release_expires_s)
    return _json({**body, "state": bot.status()["state"]}, status)


def _asked(reason: str, resume: str, now_ns: int, body: StopBody) -> Event:
    """`reason` is a row of the engine's table of stops; the person's words go beside who said them."""
    return StopRequested(now_ns, reason, "planned", resume, f"{body.operator} ({body.reason})", body.key)


def _freeze(now_ns: int, body: StopBody) -> Event:
    """A drill resumes by itself; any other freeze by people."""
    if body.reason == "drill":
        return _asked("drill", "auto", now_ns, body)
    return _asked("operator_freeze", "people", now_ns, body)


RELEASING_CALLS: Final[tuple[Kind, ...]] = ("resume", "re-arm")

STOPPING_CALLS: Final[dict[str, Callable[[int, StopBody], Event]]] = {
    "/api/ui/freeze": _freeze,
    "/api/ui/hold": partial(_asked, "operator_hold", "people"),
    # cancelling what would be quoted again at once proves nothing: it freezes until the hysteresis is over
    "/api/ui/cancel-all": partial(_asked, "operator_cancel_all", "auto"),
    "/api/ui/shutdown": lambda now_ns, body: ShutdownRequested(now_ns, f"{body.operator} ({body.reason})"),
}


DRILLS: Final[dict[str, Callable[[int, DrillBody], Event]]] = {
    "freeze": lambda now_ns, body: StopRequested(now_ns, "drill", "planned", "auto", body.operator),
    MAKER_POLICY: lambda now_ns, body: DrillRequested(now_ns, MAKER_POLICY, body.operator),
    ORPHAN: lambda now_ns, body: DrillRequested(now_ns, ORPHAN, body.operator, body.order),
    STREAM_LOSS: lambda now_ns, body: DrillRequested(now_ns, STREAM_LOSS, body.operator),
}
"""What `POST /drill/{name}` makes happen."""


def _decode(raw: bytes, kind: type[Body]) -> Body:
    """Raises msgspec.ValidationError, also for what is no JSON at all."""
    try:
        return msgspec.json.decode(raw, type=kind)
    except msgspec.ValidationError:
        raise
    except msgspec.DecodeError as error:
        raise msgspec.ValidationError(f"not a JSON object ({error}) - at `$`") from error


def _field_error(error: msgspec.ValidationError) -> str:
    """msgspec's message with the field in front: `limits.total_max_quote: Expected …`."""
    message, _, where = str(error).partition(" - at `$")
    field = where.rstrip("`").lstrip(".") or "body"
    return f"{field}: {message}"


def _json(body: Json, status: int = 200) -> web.Response:
    return web.Response(body=msgspec.json.encode(body), status=status, content_type="application/json")
