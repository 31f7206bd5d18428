"""`risk`: limits, how much of them is used, and the state, as the journal of a state folder last had it."""

from __future__ import annotations

import json
from decimal import Decimal
from pathlib import Path
from typing import TypeVar

import msgspec

from bot.commands.risk_usage import Known, Usage, usage
from bot.commands.tables import table
from bot.domain.events import Filled, GrantReceived, WalletRead
from bot.engine.engine import Engine
from bot.engine.money import DayStart
from bot.engine.parameters import EngineParameters
from bot.exports import utc
from bot.journal import JournalReader, check
from bot.replaying import restore
from bot.runtime.status import plain
from bot.settings_file import ConfigError

Json = dict[str, object]
T = TypeVar("T")


def risk_view(state_dir: Path) -> Json:
    """Raises JournalError; ConfigError where the journal does not say under which limits the run was."""
    check(state_dir / "journal.db")
    with JournalReader(state_dir / "journal.db") as reader:
        parameters, run = _parameters(reader)
        (now_ns,) = next(reader.rows("SELECT coalesce(max(at_ns), 0) FROM entry"))
        state, stop = _state(reader)
        lines = [_line(one) for one in usage(_known(reader, parameters, now_ns), reader)]
        totals = reader.totals()
        breaches = {labels: value for (name, labels), value in totals.items() if name == "mm_limit_breaches_total"}
    return {
        "run": run,
        "as_of_utc": utc(now_ns),
        "state": state,
        "stop": stop,
        "usage": lines,
        "breaches": {labels.removeprefix("limit="): value for labels, value in sorted(breaches.items()) if value},
    }


def as_table(view: Json) -> str:
    """For people."""
    lines, stop, breaches = view["usage"], view["stop"], view["breaches"]
    if not isinstance(lines, list) or not isinstance(breaches, dict):
        raise TypeError("not what risk_view() gives")
    rows = [(u["limit"], u["of"], u["used"] or "unknown", u["allowed"], u["unit"], u["used_pct"] or "-") for u in lines]
    held = "" if not isinstance(stop, dict) else f", stopped by {stop['reason']} ({stop['class']}) {stop['detail']}"
    refused = ", ".join(f"{name} {count}" for name, count in breaches.items()) or "none"
    head = [f"run {view['run']} at {view['as_of_utc']}: {view['state']}{held}".rstrip()]
    return "\n".join([*head, table(("limit", "of", "used", "allowed", "unit", "%"), rows), f"breaches: {refused}"])


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


def _known(reader: JournalReader, parameters: EngineParameters, now_ns: int) -> Known:
    """The engine as the journal's last entry left it, with a price for every symbol that had a fill or an entry."""
    engine = Engine(parameters)
    restore(engine, reader.path)
    state = engine.known
    for entry in reader.entries(kind="Filled"):
        fill = msgspec.json.decode(entry.body, type=Filled)
        if fill.symbol in state.instruments:
            state.last_mid2[fill.symbol] = int(fill.price * 2 / state.instruments[fill.symbol].tick_size)
    for symbol, account in state.ledger.accounts.items():
        if account.position_lots and symbol in state.instruments and symbol not in state.last_mid2:
            instrument = state.instruments[symbol]
            entry_price = account.cost_quote / instrument.qty(account.position_lots)
            state.last_mid2[symbol] = int(entry_price * 2 / instrument.tick_size)
    starts: dict[str, DayStart] = {}
    for entry in reader.entries(kind="Note"):
        note = json.loads(entry.body)
        if note["event"] == "budget_day":
            fields = note["fields"]
            starts[fields["strategy"]] = DayStart(
                fields["day"], Decimal(fields["net_quote"]), Decimal(fields["turnover_quote"])
            )
    grant, wallet = _last(reader, GrantReceived), _last(reader, WalletRead)
    return Known(state, grant, wallet, starts, now_ns)


def _last(reader: JournalReader, kind: type[T]) -> T | None:
    """The newest event of that kind."""
    query = "SELECT body FROM entry WHERE kind = ?1 ORDER BY seq DESC LIMIT 1"
    row = next(reader.rows(query, [kind.__name__]), None)
    return None if row is None else msgspec.json.decode(row[0], type=kind)


def _line(usage: Usage) -> Json:
    used, allowed = usage.used, usage.allowed
    return {
        "limit": usage.limit,
        "of": usage.of,
        "used": None if used is None else plain(used.quantize(Decimal("0.01"))),
        "allowed": plain(allowed),
        "unit": usage.unit,
        "used_pct": None
        if used is None or not allowed
        else format((used * 100 / allowed).quantize(Decimal("0.1")), "f"),
    }
