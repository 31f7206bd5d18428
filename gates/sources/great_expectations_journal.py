"""The data check: Great Expectations over one run's journal. A process of its own, because it needs 240 MB.

    python -m gates.sources.great_expectations_journal --journal PATH --out FILE

Writes one JSON result, whole or not at all: `status` checked (every expectation was evaluated; `failed` names those
that do not hold), no_rows (nothing to check, which is not a pass) or error. Exit 0: all hold; 1: some fail, or no rows;
2: the journal could not be checked. Nothing here decides: `gates.sources.tables` reads the result.
"""

from __future__ import annotations

import argparse
import json
import os
import sqlite3
import sys
import time
from decimal import Decimal, InvalidOperation
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from bot.domain.order import FLATTEN_PREFIX, QUOTE_PREFIX
from bot.journal import JournalError, JournalReader
from gates.sources.tables import RESULT_SCHEMA

if TYPE_CHECKING:
    from great_expectations.expectations.expectation import Expectation

Table = dict[str, list[Any]]

OWN_ORDER_ID: Final = rf"^(?:{QUOTE_PREFIX}|{FLATTEN_PREFIX})-[0-9]+-[0-9]+$"

FILLS: Final = """
    SELECT DISTINCT json_extract(body, '$.execution_id'), client_order_id, symbol, json_extract(body, '$.side'),
        json_extract(body, '$.price'), json_extract(body, '$.qty_lots'), json_extract(body, '$.is_maker')
    FROM entry WHERE kind = 'Filled'
"""
"""Every execution as it was told. The same one told twice alike is one row; told differently, it is two."""


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="great_expectations_journal", description="Checks the data of one journal.")
    parser.add_argument("--journal", type=Path, required=True, metavar="FILE", help="the journal to look into")
    parser.add_argument("--out", type=Path, required=True, metavar="FILE", help="where the result goes, JSON")
    return parser


def main(arguments: list[str] | None = None) -> int:
    """See the module's text."""
    chosen = _parser().parse_args(arguments)
    result = check(chosen.journal)
    _write(chosen.out, result)
    print(f"{chosen.journal}: {result['status']}: {result['detail']}", file=sys.stderr)
    return {"checked": int(bool(result["failed"])), "no_rows": 1}.get(str(result["status"]), 2)


def check(journal: Path) -> dict[str, Any]:
    """The result for one journal. Never raises for its state."""
    result: dict[str, Any] = {
        "schema_version": RESULT_SCHEMA,
        "journal": str(journal),
        "checked_at_ms": time.time_ns() // 1_000_000,
        "rows": {},
        "failed": [],
        "expectations": [],
    }
    try:
        tables = read_tables(journal)
    except (JournalError, OSError, sqlite3.Error) as error:
        return {**result, "status": "error", "detail": " ".join(str(error).split())}
    result["rows"] = {name: _row_count(table) for name, table in tables.items()}
    empty = [name for name, rows in result["rows"].items() if not rows]
    if empty:
        return {**result, "status": "no_rows", "detail": f"{journal}: no rows in {', '.join(empty)}"}
    outcomes = _evaluate(tables)
    failed = [one["name"] for one in outcomes if not one["success"]]
    detail = f"{len(outcomes) - len(failed)} of {len(outcomes)} expectations hold"
    return {**result, "status": "checked", "detail": detail, "failed": failed, "expectations": outcomes}


def read_tables(journal: Path) -> dict[str, Table]:
    """Fills, orders and entries as columns. Fills are read before orders, so that no fill can outrun its order."""
    with JournalReader(journal) as reader:
        fills = list(reader.rows(FILLS))
        orders = list(reader.rows("SELECT client_order_id, qty_lots FROM orders"))
        entries = list(reader.rows("SELECT seq, at_ns FROM entry ORDER BY seq"))
    own = {str(row[0]) for row in orders}
    in_segments = any(journal.parent.glob("market-*.jsonl"))  # market data shares the numbering of entries
    steps = list(pairwise([(0, entries[0][1]), *entries])) if entries else []
    return {
        "fills": {
            "execution_id": [row[0] for row in fills],
            "client_order_id": [row[1] for row in fills],
            "side": [row[3] for row in fills],
            "price_sign": [_sign(row[4]) for row in fills],
            "qty_lots": [row[5] for row in fills],
            "has_our_order": [int(row[1] in own) for row in fills],
            "quote_as_taker": [int(str(row[1]).startswith(f"{QUOTE_PREFIX}-") and not row[6]) for row in fills],
        },
        "orders": {"client_order_id": [row[0] for row in orders], "qty_lots": [row[1] for row in orders]},
        "entries": {
            "seq_gap": [0 if in_segments else after[0] - before[0] - 1 for before, after in steps],
            "at_step_ns": [after[1] - before[1] for before, after in steps],
        },
    }


def _expectations() -> list[tuple[str, str, Expectation]]:
    """(table, name in words, expectation), in the order in which they are shown."""
    from great_expectations.expectations.core.expect_column_values_to_be_between import ExpectColumnValuesToBeBetween
    from great_expectations.expectations.core.expect_column_values_to_be_in_set import ExpectColumnValuesToBeInSet
    from great_expectations.expectations.core.expect_column_values_to_be_unique import ExpectColumnValuesToBeUnique
    from great_expectations.expectations.core.expect_column_values_to_match_regex import ExpectColumnValuesToMatchRegex
    from great_expectations.expectations.core.expect_column_values_to_not_be_null import ExpectColumnValuesToNotBeNull

    return [
        ("fills", "every fill has an id", ExpectColumnValuesToNotBeNull(column="execution_id")),
        ("fills", "no execution is told in two ways", ExpectColumnValuesToBeUnique(column="execution_id")),
        (
            "fills",
            "fills carry our own order ids",
            ExpectColumnValuesToMatchRegex(column="client_order_id", regex=OWN_ORDER_ID),
        ),
        (
            "fills",
            "every fill has an order of ours",
            ExpectColumnValuesToBeInSet(column="has_our_order", value_set=[1]),
        ),
        (
            "fills",
            "every fill of a quote is a maker's",
            ExpectColumnValuesToBeInSet(column="quote_as_taker", value_set=[0]),
        ),
        ("fills", "sides are buy or sell", ExpectColumnValuesToBeInSet(column="side", value_set=["buy", "sell"])),
        ("fills", "prices are above 0", ExpectColumnValuesToBeInSet(column="price_sign", value_set=[1])),
        ("fills", "fill sizes are above 0", ExpectColumnValuesToBeBetween(column="qty_lots", min_value=1)),
        ("orders", "no order id is used twice", ExpectColumnValuesToBeUnique(column="client_order_id")),
        ("orders", "order sizes are above 0", ExpectColumnValuesToBeBetween(column="qty_lots", min_value=1)),
        (
            "orders",
            "orders carry our own ids",
            ExpectColumnValuesToMatchRegex(column="client_order_id", regex=OWN_ORDER_ID),
        ),
        ("entries", "no entry is missing", ExpectColumnValuesToBeInSet(column="seq_gap", value_set=[0])),
        ("entries", "time never runs back", ExpectColumnValuesToBeBetween(column="at_step_ns", min_value=0)),
    ]


def _evaluate(tables: dict[str, Table]) -> list[dict[str, Any]]:
    os.environ["GX_ANALYTICS_ENABLED"] = "false"  # read at import: nothing leaves this machine
    import great_expectations as gx
    import pandas as pd

    context = gx.get_context(mode="ephemeral")
    source = context.data_sources.add_pandas("journal")
    batches = {}
    for name, table in tables.items():
        whole = source.add_dataframe_asset(name).add_batch_definition_whole_dataframe("all")
        batches[name] = whole.get_batch(batch_parameters={"dataframe": pd.DataFrame(table)})
    outcomes = []
    for table_name, name, expectation in _expectations():
        found = batches[table_name].validate(expectation)
        outcomes.append({"table": table_name, "name": name, "success": bool(found.success), **_numbers(found)})
    return outcomes


def _numbers(found: Any) -> dict[str, Any]:
    """How many rows did not hold, a few of them, and what went wrong where it could not be evaluated."""
    numbers = found.result or {}
    raised = (found.exception_info or {}).get("exception_message")
    return {
        "rows": int(numbers.get("element_count") or 0),
        "unexpected": int(numbers.get("unexpected_count") or 0),
        "examples": [str(value) for value in (numbers.get("partial_unexpected_list") or [])[:5]],
        "error": " ".join(str(raised).split()) if raised else "",
    }


def _row_count(table: Table) -> int:
    return max((len(column) for column in table.values()), default=0)


def _sign(price: Any) -> int:
    """1, 0 or -1; 0 too where it is no number."""
    try:
        value = Decimal(str(price))
    except InvalidOperation:
        return 0
    return 0 if not value.is_finite() or value == 0 else int(value.copy_sign(1) == value) * 2 - 1


def _write(path: Path, result: dict[str, Any]) -> None:
    """Whole or not at all, for its owner alone."""
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_name(path.name + ".new")
    with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8") as file:
        json.dump(result, file, indent=1, sort_keys=True)
        file.write("\n")
        file.flush()
        os.fsync(file.fileno())
    fresh.replace(path)


if __name__ == "__main__":
    sys.exit(main())
