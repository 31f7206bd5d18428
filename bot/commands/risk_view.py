"""`risk`: limits, how much of them is used, and the state, as the journal of a state folder last had it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Final

import msgspec

from bot.commands.tables import table
from bot.domain.events import Filled, GrantReceived, InstrumentsRead
from bot.domain.instrument import Instrument
from bot.engine.ledger import Ledger
from bot.engine.parameters import EngineParameters
from bot.engine.recovery import instrument_of
from bot.exports import utc
from bot.journal import JournalReader, check
from bot.runtime.status import plain
from bot.settings_file import ConfigError

Json = dict[str, object]
MINUTE_NS: Final = 60_000_000_000
_DECIMAL_ZERO: Final = Decimal(0)


def risk_view(state_dir: Path) -> Json:
    """Raises JournalError; ConfigError where the journal does not say under which limits the run was."""
    check(state_dir / "journal.db")
    with JournalReader(state_dir / "journal.db") as reader:
        parameters, run = _parameters(reader)
        (now_ns,) = next(reader.rows("SELECT coalesce(max(at_ns), 0) FROM entry"))
        state, stop = _state(reader)
        usage = list(_usage(reader, parameters, state_dir, now_ns))
        totals = reader.totals()
        breaches = {labels: value for (name, labels), value in totals.items() if name == "mm_limit_breaches_total"}
    return {
        "run": run,
        "as_of_utc": utc(now_ns),
        "state": state,
        "stop": stop,
        "usage": usage,
        "breaches": {labels.removeprefix("limit="): value for labels, value in sorted(breaches.items()) if value},
    }


def as_table(view: Json) -> str:
    """For people."""
    usage, stop, breaches = view["usage"], view["stop"], view["breaches"]
    if not isinstance(usage, list) or not isinstance(breaches, dict):
        raise TypeError("not what risk_view() gives")
    rows = [(u["limit"], u["of"], u["used"] or "unknown", u["allowed"], u["unit"], u["used_pct"] or "-") for u in usage]
    held = "" if not isinstance(stop, dict) else f", stopped by {stop['reason']} ({stop['class']}) {stop['detail']}"
    refused = ", ".join(f"{name} {count}" for name, count in breaches.items()) or "none"
    lines = [f"run {view['run']} at {view['as_of_utc']}: {view['state']}{held}".rstrip()]
    return "\n".join([*lines, table(("limit", "of", "used", "allowed", "unit", "%"), rows), f"breaches: {refused}"])


def _parameters(reader: JournalReader) -> tuple[EngineParameters, str]:
    found, run = "", ""
    for entry in reader.entries(kind="Started"):
        body = json.loads(entry.body)
        found, run = body.get("parameters", ""), body["run"]
    if not found:
        raise ConfigError(f"{reader.path}: holds no start of a run with its limits; nothing to compare with")
    try:
        return msgspec.json.decode(found, type=EngineParameters), run
    except (msgspec.DecodeError, ValueError) as error:
        raise ConfigError(f"{reader.path}: limits of another version ({error})") from error


def _state(reader: JournalReader) -> tuple[str, Json | None]:
    """The view that the last change left, and the stop that led to it. INIT before the first change."""
    state, reason = "INIT", ""
    for entry in reader.entries(kind="Note"):
        body = json.loads(entry.body)
        if body["event"] == "stop_changed" and "after" in body["fields"]:
            state, reason = body["fields"]["after"], body["fields"].get("reason", "")
    if not reason:
        return state, None
    query = "SELECT class, resume, detail, at_ns FROM stops WHERE reason = ?1 ORDER BY seq DESC LIMIT 1"
    row = next(reader.rows(query, [reason]), None)
    if row is None:
        return state, {"reason": reason, "class": "", "resume": "", "detail": "", "since_utc": None}
    return state, {
        "reason": reason,
        "class": row[0],
        "resume": row[1],
        "detail": row[2] or "",
        "since_utc": utc(row[3]),
    }


def _usage(reader: JournalReader, parameters: EngineParameters, folder: Path, now_ns: int) -> Iterator[Json]:
    """Positions at the last fill's price: the journal keeps no market data unless it is told to."""
    inventory, total = parameters.inventory_max_quote, parameters.total_max_quote
    for entry in reader.entries(kind="GrantReceived"):
        grant = msgspec.json.decode(entry.body, type=GrantReceived)
        inventory = min(parameters.inventory_max_quote, grant.inventory_max_quote)
        total = min(parameters.total_max_quote, grant.total_max_quote)
    held = _held(reader, parameters.symbols)
    for symbol, notional in held.items():
        yield _line("inventory_max_quote", symbol, notional, inventory, "quote")
    known = [notional for notional in held.values() if notional is not None]
    yield _line(
        "total_max_quote", "all", sum(known, _DECIMAL_ZERO) if len(known) == len(held) else None, total, "quote"
    )
    for limit, kinds, allowed in (
        ("orders_per_min_max", "'PlaceOrder'", parameters.orders_per_min_max),
        ("cancels_per_min_max", "'CancelOrder'", parameters.cancels_per_min_max),
        ("cancel_budget_per_min", "'CancelOrder'", parameters.cancel_budget_per_min),
    ):
        query = f"SELECT count(*) FROM entry WHERE kind IN ({kinds}) AND at_ns > ?1"  # noqa: S608 - names from above
        (count,) = next(reader.rows(query, [now_ns - MINUTE_NS]))
        yield _line(limit, "last minute", Decimal(count), Decimal(allowed), "messages")
    day = _day(folder / "daily_state.json")
    for limit, name, pct in (
        ("daily_loss_pct_hard", "loss_24h_quote", parameters.daily_loss_pct_hard),
        ("drawdown_pct_hard", "drawdown_quote", parameters.drawdown_pct_hard),
    ):
        used = Decimal(str(day[name])) if name in day else None
        yield _line(limit, "24 h" if "24h" in name else "peak", used, total * pct / 100, "quote")


def _held(reader: JournalReader, symbols: tuple[str, ...]) -> dict[str, Decimal | None]:
    """Symbol → absolute notional; None where fills are there but the filters are not."""
    instruments: dict[str, Instrument] = {}
    for entry in reader.entries(kind="InstrumentsRead"):
        instruments[entry.symbol] = instrument_of(msgspec.json.decode(entry.body, type=InstrumentsRead))
    ledger, prices, unknown = Ledger(symbols), {}, set[str]()
    for entry in reader.entries(kind="Filled"):
        fill = msgspec.json.decode(entry.body, type=Filled)
        if fill.symbol not in symbols:
            continue
        if fill.symbol not in instruments:
            unknown.add(fill.symbol)
            continue
        ledger.record(fill, instruments[fill.symbol])
        prices[fill.symbol] = fill.price
    held: dict[str, Decimal | None] = {}
    for symbol in symbols:
        lots = ledger.accounts[symbol].position_lots
        held[symbol] = abs(instruments[symbol].qty(lots) * prices[symbol]) if lots else _DECIMAL_ZERO
        if symbol in unknown:
            held[symbol] = None
    return held


def _day(path: Path) -> Json:
    """The export, or nothing where it is not there or cannot be read: then what it would say is unknown."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _line(limit: str, of: str, used: Decimal | None, allowed: Decimal, unit: str) -> Json:
    return {
        "limit": limit,
        "of": of,
        "used": None if used is None else plain(used.quantize(Decimal("0.01"))),
        "allowed": plain(allowed),
        "unit": unit,
        "used_pct": None
        if used is None or not allowed
        else format((used * 100 / allowed).quantize(Decimal("0.1")), "f"),
    }
