"""The simulated venue's control API: accounts, faults and the truth, for whoever holds the token. Pure."""

from __future__ import annotations

import hmac
import re
import secrets
from collections.abc import Mapping
from dataclasses import replace
from decimal import Decimal
from urllib.parse import parse_qsl

import msgspec

from bot.simulator.accounts import Account
from bot.simulator.api_keys import GRACE_MAX_S, FormerKey, StandingRefused, changed
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
    """`token` empty: everything is refused. Compared in constant time."""

    def __init__(self, venue: Venue, token: str) -> None:
        self._venue = venue
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
                case "POST", "/sim/keys":
                    return 200, self._rotate_key(_object(body), now_ns)
                case "POST", "/sim/standing":
                    return 200, self._change_standing(_object(body), now_ns)
                case "GET", "/sim/state":
                    return 200, self._state(dict(parse_qsl(query)), now_ns)
        except ControlRefused as error:
            return error.status, {"error": str(error)}
        has = "POST /sim/accounts, /sim/faults, /sim/keys, /sim/standing, GET /sim/state"
        return 404, {"error": f"{method} {path}: the control API has {has}"}

    def _open_account(self, body: dict[str, object], now_ns: int) -> Mapping[str, object]:
        _only(body, ("equity_quote",))
        text = str(body.get("equity_quote", "100000"))
        if not re.fullmatch(r"\d{1,13}(\.\d{1,8})?", text) or not 0 < Decimal(text) <= EQUITY_MAX:
            raise ControlRefused(400, f"equity_quote: {text[:40]!r} is not a decimal above 0 up to {EQUITY_MAX:f}")
        account = open_account(self._venue, Decimal(text), now_ns)
        return {"account": account.name, "api_key": account.api_key, "api_secret": account.api_secret}

    def _arm(self, body: dict[str, object], now_ns: int) -> Mapping[str, object]:
        parameters = dict(body)
        kind, name = str(parameters.pop("kind", "")), str(parameters.pop("account", ""))
        if name:
            self._account(name)
        try:
            fault = self._venue.arm(kind, name, parameters, now_ns)
        except FaultRefused as error:
            raise ControlRefused(400, str(error)) from error
        except Refused as error:
            raise ControlRefused(400, f"{kind}: {error.detail}") from error
        return {"fault_id": fault.fault_id, "kind": fault.kind, "armed_at_ms": fault.armed_at_ns // 1_000_000}

    def _rotate_key(self, body: dict[str, object], now_ns: int) -> Mapping[str, object]:
        """A new key for the account; the one it had works for `grace_s` more, and its sockets until then."""
        _only(body, ("account", "grace_s"))
        account = self._account(str(body.get("account", "")))
        grace = str(body.get("grace_s", "0"))
        if not re.fullmatch(r"\d{1,4}(\.\d{1,3})?", grace) or Decimal(grace) > GRACE_MAX_S:
            raise ControlRefused(400, f"grace_s: {grace[:20]!r} is not a decimal of 0 to {GRACE_MAX_S}")
        until_ns = now_ns + int(Decimal(grace) * 1_000_000_000)
        account.keys.former[account.api_key] = FormerKey(account.api_secret, until_ns)
        account.api_key, account.api_secret = new_key()
        standing = account.keys.standing
        account.keys.standing = replace(standing, created_at_ns=now_ns)
        return {"account": account.name, "api_key": account.api_key, "api_secret": account.api_secret}

    def _change_standing(self, body: dict[str, object], now_ns: int) -> Mapping[str, object]:
        changes = dict(body)
        account = self._account(str(changes.pop("account", "")))
        try:
            account.keys.standing = changed(account.keys.standing, changes, now_ns)
        except StandingRefused as error:
            raise ControlRefused(400, str(error)) from error
        return {"account": account.name}

    def _state(self, query: Mapping[str, str], now_ns: int) -> Mapping[str, object]:
        account = self._account(query.get("account", ""))
        venue, instrument = self._venue, self._venue.instrument
        orders = [
            {
                "order_id": order.order_id,
                "client_order_id": order.link_id,
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
        held = account.position.lots
        position = {
            "symbol": instrument.symbol,
            "qty": format(instrument.qty(held), "f"),
            "entry_price": format(account.entry_price().normalize(), "f"),
        }
        return {
            "now_ms": now_ns // 1_000_000,
            "orders": orders,
            "positions": [position] if held else [],
            "executions_count": account.executions_count,
            "equity_quote": format(account.equity_quote(venue.mark_half_ticks), "f"),
            "mark_price": format(instrument.tick_size * venue.mark_half_ticks / 2, "f"),
            "faults": [_fault_row(fault) for fault in venue.faults.of_account(account.name)],
        }

    def _account(self, name: str) -> Account:
        account = self._venue.accounts.get(name)
        if account is None:
            raise ControlRefused(404, f"account: {name[:40]!r} is not one of the {len(self._venue.accounts)} accounts")
        return account


def open_account(venue: Venue, equity_quote: Decimal, now_ns: int) -> Account:
    """A new account with a key and a secret nobody can guess."""
    return venue.open_account(*new_key(), equity_quote, now_ns)


def new_key() -> tuple[str, str]:
    """A key and a secret nobody can guess."""
    return secrets.token_hex(9), secrets.token_hex(18)


def _fault_row(fault: Fault) -> Mapping[str, object]:
    return {
        "fault_id": fault.fault_id,
        "kind": fault.kind,
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
