"""`trace ORDER`: everything the journal knows of one order, in order, and what it came to."""

from __future__ import annotations

import json
from decimal import Decimal
from pathlib import Path

from bot.commands.tables import table
from bot.exports import utc
from bot.journal import Entry, JournalReader, check
from bot.runtime.status import plain
from bot.settings_file import ConfigError

Json = dict[str, object]

_ENDS = {"filled": "filled", "cancelled": "cancelled", "rejected": "rejected"}
_HELD_BACK = ("order_blocked", "risk_check_blocked")
_QUERY = """
SELECT seq, at_ns, direction, kind, symbol, client_order_id, body FROM entry
WHERE client_order_id = ?1 OR (kind = 'Note' AND json_extract(body, '$.fields.client_order_id') = ?1)
ORDER BY seq
"""
_CANCEL_ALLS = """
SELECT seq, at_ns, direction, kind, symbol, client_order_id, body FROM entry
WHERE kind = 'CancelAll' AND seq BETWEEN ?1 AND ?2 ORDER BY seq
"""
_FILTERS = (
    "SELECT body FROM entry WHERE kind = 'InstrumentsRead' AND symbol = ?1 AND seq < ?2 ORDER BY seq DESC LIMIT 1"
)


def trace(state_dir: Path, order: str) -> Json:
    """Raises JournalError; ConfigError where the journal knows no such order."""
    check(state_dir / "journal.db")
    with JournalReader(state_dir / "journal.db") as reader:
        entries = [Entry(*row) for row in reader.rows(_QUERY, [order])]
        if not entries:
            raise ConfigError(f"{order}: {reader.path} knows no such order")
        last_fate = max((entry.seq for entry in entries if entry.kind != "Note"), default=entries[-1].seq)
        stops = [Entry(*row) for row in reader.rows(_CANCEL_ALLS, [entries[0].seq, last_fate])]
        symbol = next((entry.symbol for entry in entries if entry.symbol), "")
        filters = next(reader.rows(_FILTERS, [symbol, last_fate]), None)
    steps = sorted(entries + stops, key=lambda entry: entry.seq)
    instrument: Json = json.loads(filters[0]) if filters else {}
    return {
        "order": order,
        "summary": _summary(order, symbol, entries, instrument),
        "steps": [_step(entry) for entry in steps],
    }


def as_table(traced: Json) -> str:
    """For people: the summary, then one line a step with the time since the first."""
    summary, steps = traced["summary"], traced["steps"]
    if not isinstance(summary, dict) or not isinstance(steps, list):
        raise TypeError("not what trace() gives")
    first = steps[0]["at_ns"]
    rows = [
        (str(s["seq"]), s["utc"], f"+{(s['at_ns'] - first) / 1e6:.3f}", s["direction"], s["kind"], _words(s["body"]))
        for s in steps
    ]
    head = table(("what", "value"), [(name, "-" if value is None else str(value)) for name, value in summary.items()])
    return f"{head}\n\n{table(('seq', 'time', 'ms', '', 'kind', 'what'), rows)}"


def _step(entry: Entry) -> Json:
    body = json.loads(entry.body)
    return {
        "seq": entry.seq,
        "at_ns": entry.at_ns,
        "utc": utc(entry.at_ns),
        "direction": entry.direction,
        "kind": f"{entry.kind} {body['event']}" if entry.kind == "Note" else entry.kind,
        "body": body,
    }


def _words(body: Json) -> str:
    """The fields that the other columns do not show already."""
    fields = body.get("fields") or body.get("order") or body
    hidden = ("type", "at_ns", "client_order_id", "symbol", "venue_at_ns")
    if not isinstance(fields, dict):
        return ""
    return " ".join(f"{name}={value}" for name, value in fields.items() if name not in hidden)


def _summary(order: str, symbol: str, entries: list[Entry], instrument: Json) -> Json:
    """Prices in quote and quantities in base where the filters were read, else in ticks and lots."""
    bodies = [(entry, json.loads(entry.body)) for entry in entries]
    tick, lot = (Decimal(str(instrument.get(name, 1))) for name in ("tick_size", "lot_size"))
    place: Json = next((body for entry, body in bodies if entry.kind in ("PlaceOrder", "FlattenReduceOnly")), {})
    fills = {body["execution_id"]: body for entry, body in bodies if entry.kind == "Filled"}
    lots = sum(fill["qty_lots"] for fill in fills.values())
    value = sum((Decimal(fill["price"]) * fill["qty_lots"] for fill in fills.values()), Decimal(0))
    price, sent_lots = place.get("price_ticks", place.get("price_limit_ticks")), place.get("qty_lots")
    acknowledged = next((entry for entry, _ in bodies if entry.kind == "OrderAccepted"), None)
    sent = next((entry for entry, _ in bodies if entry.kind in ("PlaceOrder", "FlattenReduceOnly")), None)
    return {
        "client_order_id": order,
        "symbol": symbol,
        "side": place.get("side"),
        "price": plain(tick * price) if isinstance(price, int) else None,
        "qty": plain(lot * sent_lots) if isinstance(sent_lots, int) else None,
        "unit": "quote and base" if instrument else "ticks and lots: filters are not in the journal",
        "state": _state(bodies),
        "amends": sum(entry.kind == "AmendOrder" for entry, _ in bodies),
        "filled_qty": plain(lot * lots),
        "filled_price": plain(value / lots) if lots else None,
        "fees_quote": plain(sum((Decimal(fill["fee_quote"]) for fill in fills.values()), Decimal(0))),
        "acknowledged_after_ms": (
            None if acknowledged is None or sent is None else (acknowledged.at_ns - sent.at_ns) / 1_000_000
        ),
    }


def _state(bodies: list[tuple[Entry, Json]]) -> str:
    """The venue's last word, or what was last sent."""
    state = "unknown"
    for entry, body in bodies:
        order = body.get("order")
        if isinstance(order, dict):
            refused = bool(order.get("post_only_refused"))
            state = "rejected (post-only)" if refused else str(order["status"])
        elif body.get("event") in _HELD_BACK:
            state = "held back" if state == "unknown" else state
        elif entry.kind in _SAYS:
            state = _SAYS[entry.kind] if state not in _ENDS else state
    return state


_SAYS = {
    "PlaceOrder": "sent",
    "FlattenReduceOnly": "sent",
    "OrderAccepted": "acknowledged",
    "OrderRefused": "rejected",
    "OrderUnreachable": "never sent",
    "OrderUncertain": "unknown",
    "OrderNotFound": "not found",
}
