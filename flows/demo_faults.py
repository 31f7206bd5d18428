"""The faults of `rollout demo --fault X`: each is made to happen for real, a few seconds into the watch."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from decimal import ROUND_DOWN, Decimal
from pathlib import Path

import httpx
import msgspec
import yaml

from bot.domain.order import QUOTE_PREFIX
from bot.venues.bybit.signing import rest_headers
from tasks.account_file import load_account
from tasks.record_tables import StageRun
from tasks.simulated_account import VenueUnreachable, control
from tasks.state_folder import StateFolder
from tasks.supervise.identity import Identity
from tasks.supervise.table import Table

RECV_WINDOW_MS = 5000
TIMEOUT_S = 5.0
ORPHAN_DISTANCE = Decimal("0.9")
"""The orphan buys at nine tenths of the best bid: it cannot fill while anybody looks."""


class FaultNotInjected(Exception):
    """The fault could not be made to happen; one line."""


def inject(name: str, folder: StateFolder, table: Table, run: StageRun) -> str:
    """Makes the fault happen; returns in words what was done. Raises FaultNotInjected."""
    try:
        return _FAULTS[name](folder, table, run)
    except (VenueUnreachable, httpx.HTTPError, OSError, ValueError, KeyError) as error:
        raise FaultNotInjected(f"fault {name}: could not be injected: {error}") from None


ENDED_BY = {"stall": "unstall", "loss": "loss_over"}
"""Faults that stay in the market, and what ends them."""


def clear(folder: StateFolder, table: Table, fault: str) -> None:
    """Takes out of the market what a fault left there, for whoever uses the venue next."""
    control(folder, table.endpoints["venue_rest_url"], "faults", {"kind": ENDED_BY[fault]})


def begin_plan(folder: StateFolder, rest_url: str, file: Path) -> str:
    """Lets the simulated venue go through a plan of faults from now on; returns its name. Raises FaultNotInjected."""
    try:
        content = yaml.safe_load(file.read_text(encoding="utf-8"))
        if not isinstance(content, dict) or not content:
            raise FaultNotInjected(f"--faults: {file}: not a mapping with name, seed and faults")
        return str(control(folder, rest_url, "plan", content)["plan"])
    except (OSError, UnicodeDecodeError, yaml.YAMLError, VenueUnreachable) as error:
        raise FaultNotInjected(f"--faults: {file}: {' '.join(str(error).split())}") from None


def end_plan(folder: StateFolder, rest_url: str) -> None:
    """Ends it: whoever uses the venue next is not harmed."""
    control(folder, rest_url, "plan", {})


def _crash(folder: StateFolder, table: Table, run: StageRun) -> str:
    if run.pid is None or run.pid_started_ticks is None:
        raise ValueError("the record names no process of the bot")
    bot = Identity(run.pid, run.pid_started_ticks)
    if not bot.is_alive():
        raise ValueError(f"the bot, pid {run.pid}, does not run")
    os.kill(run.pid, signal.SIGKILL)
    return f"SIGKILL to the bot, pid {run.pid}"


def _crossing(folder: StateFolder, table: Table, run: StageRun) -> str:
    _arm(folder, table, run, "crossing")
    return "the venue lets the bot's next quote cross and fill as taker"


def _loss(folder: StateFolder, table: Table, run: StageRun) -> str:
    # Against a position worth the jump: a fraction of one quote would not reach the limits.
    _arm(folder, table, run, "loss", jump_pct="30", position_quote_min="90")
    return "the price jumps 30 % against the bot's position as soon as it holds 90 quote"


def _stall(folder: StateFolder, table: Table, run: StageRun) -> str:
    _arm(folder, table, run, "stall", everybody=True)
    return "the venue's public sockets stay open and carry no more data"


def _arm(
    folder: StateFolder, table: Table, run: StageRun, kind: str, *, everybody: bool = False, **parameters: str
) -> None:
    account = {} if everybody else {"account": run.account}
    control(folder, table.endpoints["venue_rest_url"], "faults", {"kind": kind, **account, **parameters})


def _orphan(folder: StateFolder, table: Table, run: StageRun) -> str:
    """An order with the bot's own key and prefix which no bot sent: what a lost process would leave behind."""
    access = load_account(folder.root, run.account)
    with httpx.Client(base_url=access.rest_url, timeout=TIMEOUT_S, trust_env=False) as client:
        symbol = _symbol(run)
        query = {"category": "linear", "symbol": symbol}
        instrument = client.get("/v5/market/instruments-info", params=query).json()["result"]["list"][0]
        book = client.get("/v5/market/orderbook", params={**query, "limit": "1"}).json()["result"]
        tick = Decimal(instrument["priceFilter"]["tickSize"])
        lots = instrument["lotSizeFilter"]
        price = (Decimal(book["b"][0][0]) * ORPHAN_DISTANCE / tick).to_integral_value(ROUND_DOWN) * tick
        step, least = Decimal(lots["qtyStep"]), Decimal(lots["minOrderQty"])
        notional = Decimal(lots.get("minNotionalValue", "5"))
        qty = max(least, (notional * Decimal("1.5") / price / step).to_integral_value() * step)
        order = {
            "category": "linear",
            "symbol": symbol,
            "side": "Buy",
            "orderType": "Limit",
            "price": f"{price:f}",
            "qty": f"{qty:f}",
            "timeInForce": "PostOnly",
            "orderLinkId": f"{QUOTE_PREFIX}-0-{time.time_ns() % 10**9}",
        }
        body = msgspec.json.encode(order)
        headers = rest_headers(access.api_key, access.api_secret, time.time_ns() // 1_000_000, RECV_WINDOW_MS, body)
        answer = client.post(
            "/v5/order/create", content=body, headers={**headers, "Content-Type": "application/json"}
        ).json()
    if answer.get("retCode") != 0:
        raise ValueError(f"the venue refused the order: {answer.get('retCode')} {answer.get('retMsg')}")
    return f"order {order['orderLinkId']}: buy {qty:f} at {price:f}, placed behind the bot's back"


def _symbol(run: StageRun) -> str:
    from gates.stages import load_plan

    return load_plan(Path(run.plan_path)).stage(run.stage).symbols[0]


def _blind(folder: StateFolder, table: Table, run: StageRun) -> str:
    """Suspends the supervision of Prometheus first, so that it stays away until the next `up` or `demo`."""
    row = table.row("prometheus")
    if row is None or not row.identity.is_alive():
        raise ValueError("Prometheus does not run")
    (folder.suspended / "prometheus").touch()
    row.identity.send(signal.SIGKILL)
    return f"SIGKILL to Prometheus, pid {row.pid}; it is not started again"


_FAULTS: dict[str, Callable[[StateFolder, Table, StageRun], str]] = {
    "crash": _crash,
    "crossing": _crossing,
    "loss": _loss,
    "orphan": _orphan,
    "stall": _stall,
    "blind": _blind,
}
