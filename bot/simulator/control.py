"""The simulated venue's control API: accounts, faults and the truth, for whoever holds the token. Pure."""

from __future__ import annotations

import hmac
import re
import secrets
from collections.abc import Callable, Mapping
from dataclasses import replace
from decimal import Decimal
from urllib.parse import parse_qsl

import msgspec

from bot.simulator.accounts import Account, Holder
from bot.simulator.api_keys import GRACE_MAX_S, FormerKey, StandingRefused, changed
from bot.simulator.exchange import Exchange
from bot.simulator.fault_file import FaultFile, fault_file
from bot.simulator.faults import Fault, FaultRefused
from bot.simulator.orders import Refused, TimeInForce
from bot.simulator.venue import Venue

EQUITY_MAX = Decimal(10) ** 12
Reply = tuple[int, Mapping[str, object]]


class ControlRefused(Exception):
    """A request that cannot be served: HTTP status and one line."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class Control:
    """`token` empty: everything is refused. Compared in constant time. `begin`: lets a plan of faults begin, or end."""

    def __init__(self, exchange: Exchange, token: str, begin: Callable[[FaultFile | None], None]) -> None:
        self._exchange = exchange
        self._begin = begin
        self._token = token

    def answer(self, method: str, path: str, query: str, body: bytes, token: str, now_ns: int) -> Reply:
        """Status and JSON object for one request."""
        if not self._token or not hmac.compare_digest(self._token.encode(), token.encode()):
            return 403, {
                "error": "the control API needs the header X-Sim-Token with the token the venue was started with"
            }
        try:
            match method, path:
                case "POST", "/sim/accounts":
                    return 200, self._open_account(_object(body), now_ns)
                case "POST", "/sim/faults":
                    return 200, self._arm(_object(body), now_ns)
                case "POST", "/sim/plan":
                    return 200, self._plan(_object(body))
                case "POST", "/sim/keys":
                    return 200, self._rotate_key(_object(body), now_ns)
                case "POST", "/sim/standing":
                    return 200, self._change_standing(_object(body), now_ns)
                case "GET", "/sim/state":
                    return 200, self._state(dict(parse_qsl(query)), now_ns)
        except ControlRefused as error:
            return error.status, {"error": str(error)}
        has = "POST /sim/accounts, /sim/faults, /sim/plan, /sim/keys, /sim/standing, GET /sim/state"
        return 404, {"error": f"{method} {path}: the control API has {has}"}

    def _open_account(self, body: dict[str, object], now_ns: int) -> Mapping[str, object]:
        _only(body, ("equity_quote",))
        text = str(body.get("equity_quote", "100000"))
        if not re.fullmatch(r"\d{1,13}(\.\d{1,8})?", text) or not 0 < Decimal(text) <= EQUITY_MAX:
            raise ControlRefused(400, f"equity_quote: {text[:40]!r} is not a decimal above 0 up to {EQUITY_MAX:f}")
        holder = open_account(self._exchange, Decimal(text), now_ns)
        return {"account": holder.name, "api_key": holder.api_key, "api_secret": holder.api_secret}

    def _arm(self, body: dict[str, object], now_ns: int) -> Mapping[str, object]:
        parameters = dict(body)
        kind, name = str(parameters.pop("kind", "")), str(parameters.pop("account", ""))
        if name:
            self._holder(name)
        try:
            fault = self._exchange.arm(kind, name, parameters, now_ns)
        except FaultRefused as error:
            raise ControlRefused(400, str(error)) from error
        except Refused as error:
            raise ControlRefused(400, f"{kind}: {error.detail}") from error
        return {"fault_id": fault.fault_id, "kind": fault.kind, "armed_at_ms": fault.armed_at_ns // 1_000_000}

    def _plan(self, body: dict[str, object]) -> Mapping[str, object]:
        """A plan of faults as its file has it, from now on; an empty object ends the one there is."""
        try:
            plan = fault_file(body) if body else None
        except FaultRefused as error:
            raise ControlRefused(400, str(error)) from error
        self._begin(plan)
        return {"plan": plan.name if plan is not None else ""}

    def _rotate_key(self, body: dict[str, object], now_ns: int) -> Mapping[str, object]:
        """A new key for the account; the one it had works for `grace_s` more, and its sockets until then."""
        _only(body, ("account", "grace_s"))
        holder = self._holder(str(body.get("account", "")))
        grace = str(body.get("grace_s", "0"))
        if not re.fullmatch(r"\d{1,4}(\.\d{1,3})?", grace) or Decimal(grace) > GRACE_MAX_S:
            raise ControlRefused(400, f"grace_s: {grace[:20]!r} is not a decimal of 0 to {GRACE_MAX_S}")
        until_ns = now_ns + int(Decimal(grace) * 1_000_000_000)
        holder.keys.former[holder.api_key] = FormerKey(holder.api_secret, until_ns)
        holder.api_key, holder.api_secret = new_key()
        standing = holder.keys.standing
        holder.keys.standing = replace(standing, created_at_ns=now_ns)
        return {"account": holder.name, "api_key": holder.api_key, "api_secret": holder.api_secret}

    def _change_standing(self, body: dict[str, object], now_ns: int) -> Mapping[str, object]:
        changes = dict(body)
        holder = self._holder(str(changes.pop("account", "")))
        try:
            holder.keys.standing = changed(holder.keys.standing, changes, now_ns)
        except StandingRefused as error:
            raise ControlRefused(400, str(error)) from error
        return {"account": holder.name}

    def _state(self, query: Mapping[str, str], now_ns: int) -> Mapping[str, object]:
        """Everything of one holder; `mark_price` is the first symbol's, `mark_prices` those of all."""
        holder, exchange = self._holder(query.get("account", "")), self._exchange
        held = [pair for pair in exchange.accounts(holder) if pair[1].position.lots]
        marks = {venue.instrument.symbol: _mark(venue) for venue in reversed(exchange.venues)}
        return {
            "now_ms": now_ns // 1_000_000,
            "orders": [row for venue, account in exchange.accounts(holder) for row in _orders(venue, account)],
            "positions": [_position(venue, account) for venue, account in held],
            "executions_count": sum(account.executions_count for account in holder.accounts),
            "equity_quote": format(holder.equity_quote(), "f"),
            "coins": {coin: format(amount, "f") for coin, amount in holder.coins.items()},
            "mark_price": _mark(exchange.venues[0]),
            "mark_prices": marks,
            "faults": [_fault_row(fault) for fault in exchange.faults.of_account(holder.name)],
        }

    def _holder(self, name: str) -> Holder:
        holder = self._exchange.holders.get(name)
        if holder is None:
            raise ControlRefused(
                404, f"account: {name[:40]!r} is not one of the {len(self._exchange.holders)} accounts"
            )
        return holder


def _orders(venue: Venue, account: Account) -> list[Mapping[str, object]]:
    instrument = venue.instrument
    return [
        {
            "order_id": order.order_id,
            "client_order_id": order.link_id,
            "category": instrument.category,
            "symbol": instrument.symbol,
            "side": order.side.value,
            "price": format(instrument.price(order.price_ticks), "f"),
            "qty": format(instrument.qty(order.qty_lots), "f"),
            "filled_qty": format(instrument.qty(order.filled_lots), "f"),
            "post_only": order.tif is TimeInForce.POST_ONLY,
            "reduce_only": order.reduce_only,
            "ahead_qty": format(instrument.qty(venue.book.ahead_lots(order.key)), "f"),
        }
        for order in account.open_orders.values()
    ]


def _position(venue: Venue, account: Account) -> Mapping[str, object]:
    return {
        "symbol": venue.instrument.symbol,
        "qty": format(venue.instrument.qty(account.position.lots), "f"),
        "entry_price": format(account.entry_price().normalize(), "f"),
    }


def _mark(venue: Venue) -> str:
    return format(venue.instrument.tick_size * venue.mark_half_ticks / 2, "f")


def open_account(exchange: Exchange, equity_quote: Decimal, now_ns: int) -> Holder:
    """A new account with a key and a secret nobody can guess."""
    return exchange.open_account(*new_key(), equity_quote, now_ns)


def new_key() -> tuple[str, str]:
    """A key and a secret nobody can guess."""
    return secrets.token_hex(9), secrets.token_hex(18)


def _fault_row(fault: Fault) -> Mapping[str, object]:
    return {
        "fault_id": fault.fault_id,
        "kind": fault.kind,
        "parameters": dict(fault.parameters),
        "armed_at_ms": fault.armed_at_ns // 1_000_000,
        "fired_at_ms": fault.fired_at_ns // 1_000_000 if fault.fired_at_ns is not None else None,
    }


def _object(body: bytes) -> dict[str, object]:
    try:
        return msgspec.json.decode(body or b"{}", type=dict[str, object])
    except msgspec.MsgspecError as error:
        raise ControlRefused(400, f"the body is not a JSON object: {error}") from error


def _only(body: dict[str, object], allowed: tuple[str, ...]) -> None:
    for name in body:
        if name not in allowed:
            raise ControlRefused(400, f"{name}: unknown field; allowed are {', '.join(allowed)}")
