"""`edge-report`: what quoting earned and cost, from a run's exports: spread captured, markouts, slippage, fees.

Means are weighted by notional. A figure that nobody could sample (the run ended before its horizon) is left out of its
mean and its number of samples shows it; without any sample it is null, never 0.
"""

from __future__ import annotations

import csv
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Final

from bot.commands.tables import table
from bot.journal import JournalReader, check
from bot.markouts import COLUMNS
from bot.runtime.status import plain
from bot.settings_file import ConfigError

Json = dict[str, object]
Row = dict[str, str]

FIGURES: Final = ("spread_captured_bps", "slippage_bps", "markout_1s_bps", "markout_5s_bps", "markout_60s_bps")
_STEP: Final = Decimal("0.0001")


def edge_report(state_dir: Path) -> Json:
    """Per symbol and side and in all. Raises JournalError; ConfigError where an export is missing or no such file."""
    path = state_dir / "markouts.csv"
    rows = _rows(path)
    check(state_dir / "journal.db")
    with JournalReader(state_dir / "journal.db") as reader:
        meta = reader.meta()
        (fills,) = next(reader.rows("SELECT count(*) FROM fills"))
    groups: dict[str, list[Row]] = {"all": rows}
    for row in rows:
        groups.setdefault(row["symbol"], []).append(row)
        groups.setdefault(f"{row['symbol']} {row['side']}", []).append(row)
    return {
        "run": meta.get("run", ""),
        "account": meta.get("account", ""),
        "fills_in_journal": fills,
        "fills_sampled": len(rows),
        "groups": {name: _group(group) for name, group in sorted(groups.items())},
    }


def as_table(found: Json) -> str:
    """For people: one line a group, bps."""
    groups = found["groups"]
    if not isinstance(groups, dict):
        raise TypeError("not what edge_report() gives")
    head = ("group", "fills", "notional", *FIGURES, "fees_bps", "net_of_fees_bps")
    rows = []
    for name, group in groups.items():
        cells = [group[figure]["mean"] for figure in FIGURES]
        rest = (group["fees_bps"], group["net_of_fees_bps"])
        rows.append(
            (name, str(group["fills"]), group["notional_quote"], *("-" if c is None else c for c in (*cells, *rest)))
        )
    sampled = f"run {found['run']}: {found['fills_sampled']} of {found['fills_in_journal']} fills sampled"
    return f"{sampled}\n{table(head, rows)}"


def _rows(path: Path) -> list[Row]:
    try:
        with path.open(encoding="utf-8", newline="") as file:
            reader = csv.DictReader(file)
            rows = list(reader)
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8 text"
        raise ConfigError(f"{path}: cannot be read ({reason}); a run with --durable-state writes it") from error
    if tuple(reader.fieldnames or ()) != COLUMNS:
        raise ConfigError(f"{path}: not the columns of this version ({','.join(COLUMNS)})")
    for number, row in enumerate(rows, start=2):
        try:
            for name in ("price", "qty", "fee_quote"):
                Decimal(row[name])
        except (InvalidOperation, TypeError):
            raise ConfigError(f"{path}:{number}: {name} {row[name]!r} is not a number") from None
    return rows


def _group(rows: list[Row]) -> Json:
    notionals = [Decimal(row["price"]) * Decimal(row["qty"]) for row in rows]
    total = sum(notionals, Decimal(0))
    fees = sum((Decimal(row["fee_quote"]) for row in rows), Decimal(0))
    group: Json = {
        "fills": len(rows),
        "notional_quote": plain(total.quantize(Decimal("0.01"))),
        "fees_quote": plain(fees),
    }
    for figure in FIGURES:
        pairs = [(Decimal(row[figure]), weight) for row, weight in zip(rows, notionals, strict=True) if row[figure]]
        group[figure] = {"mean": _mean(pairs), "samples": len(pairs)}
    group["fees_bps"] = _text(fees * 10_000 / total) if total else None
    captured = group["spread_captured_bps"]
    mean = captured["mean"] if isinstance(captured, dict) else None
    group["net_of_fees_bps"] = None if mean is None or not total else _text(Decimal(str(mean)) - fees * 10_000 / total)
    return group


def _mean(pairs: list[tuple[Decimal, Decimal]]) -> str | None:
    weight = sum((weight for _, weight in pairs), Decimal(0))
    return _text(sum((value * share for value, share in pairs), Decimal(0)) / weight) if weight else None


def _text(value: Decimal) -> str:
    return format(value.quantize(_STEP), "f")
