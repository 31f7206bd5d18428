"""Files for people and checks, written from what the engine knows. They are never read back by the bot.

`orders.jsonl` (own orders that are out now) with `last_snapshot_ts.txt`, `daily_state.json`: replaced as a whole.
`fills.csv`, `minute.csv` (a row a minute and symbol, without gaps): appended to.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Final

from bot.domain.events import Filled
from bot.engine.ledger import Ledger
from bot.engine.showing import positions
from bot.engine.state import State
from bot.runtime.status import plain, pnl_of

MINUTE_NS: Final = 60 * 1_000_000_000
FILL_COLUMNS: Final = (
    "ts_utc", "execution_id", "client_order_id", "symbol", "side", "price", "qty", "fee_quote", "is_maker",
    "realized_pnl_quote",
)  # fmt: skip
MINUTE_COLUMNS: Final = ("minute_utc", "symbol", "state", "mid", "position_qty", "active_orders", "net_quote")


class Exports:
    """One run's export files in `folder`. Raises OSError where they cannot be written."""

    def __init__(self, folder: Path, symbols: Iterable[str]) -> None:
        self._folder = folder
        self._ledger = Ledger(symbols)
        self._fills: list[Filled] = []
        self._minute: int | None = None

    def note_fill(self, fill: Filled) -> None:
        """Keeps a fill for the next write. Repeats of one execution are dropped there."""
        self._fills.append(fill)

    def write(self, state: State, now_ns: int) -> None:
        """Brings every file up to date."""
        self._write_fills(state)
        self._write_minutes(state, now_ns)
        self._write_orders(state, now_ns)
        self._write_day(state, now_ns)

    def _write_fills(self, state: State) -> None:
        rows: list[tuple[str, ...]] = []
        for fill in self._fills:
            instrument = state.instruments[fill.symbol]
            account = self._ledger.accounts[fill.symbol]
            before = account.realized_quote
            if not self._ledger.record(fill, instrument):
                continue
            realized = account.realized_quote - before
            rows.append(
                (
                    utc(fill.at_ns), fill.execution_id, fill.client_order_id, fill.symbol, fill.side.value,
                    plain(fill.price), plain(instrument.qty(fill.qty_lots)), plain(fill.fee_quote),
                    str(fill.is_maker).lower(), plain(realized),
                )
            )  # fmt: skip
        self._append("fills.csv", FILL_COLUMNS, rows)
        self._fills.clear()

    def _write_minutes(self, state: State, now_ns: int) -> None:
        """Minutes in which nobody could write (a hang, a full disk) are written late, with what is known now."""
        minute = now_ns // MINUTE_NS
        first = minute if self._minute is None else self._minute + 1
        held = positions(state)
        rows: list[tuple[str, ...]] = []
        for number in range(first, minute + 1):
            for symbol in state.parameters.symbols:
                mark = state.mark(symbol)
                net = state.ledger.pnl(symbol, mark, state.instruments.get(symbol)).net
                qty = held[symbol]["qty"]
                rows.append(
                    (
                        utc(number * MINUTE_NS), symbol, state.view.value, "" if mark is None else plain(mark), qty,
                        str(state.orders.active(symbol)), plain(net),
                    )
                )  # fmt: skip
        self._append("minute.csv", MINUTE_COLUMNS, rows)
        self._minute = minute

    def _write_orders(self, state: State, now_ns: int) -> None:
        lines = []
        for order in state.orders.all_live():
            instrument = state.instruments[order.symbol]
            record = {
                "client_order_id": order.client_order_id,
                "symbol": order.symbol,
                "side": order.side.value,
                "state": order.state.value,
                "qty": plain(instrument.qty(order.qty_lots)),
                "price": plain(instrument.price(order.price_ticks)),
            }
            lines.append(json.dumps(record, sort_keys=True) + "\n")
        self._replace("orders.jsonl", "".join(lines))
        self._replace("last_snapshot_ts.txt", utc(now_ns) + "\n")

    def _write_day(self, state: State, now_ns: int) -> None:
        record = {
            "date_utc": utc(now_ns)[:10],
            "updated_utc": utc(now_ns),
            "state": state.view.value,
            "pnl_quote": pnl_of(state),
            "traded_notional_quote": plain(state.ledger.traded_notional_quote),
            "loss_24h_quote": plain(Decimal(state.equity.loss_24h_quote)),
            "drawdown_quote": plain(Decimal(state.equity.drawdown_quote)),
            "fills": state.ledger.fills,
            "positions": positions(state),
        }
        self._replace("daily_state.json", json.dumps(record, sort_keys=True, indent=2) + "\n")

    def _append(self, name: str, columns: tuple[str, ...], rows: list[tuple[str, ...]]) -> None:
        path = self._folder / name
        new = not path.exists()
        if not new and not rows:
            return
        with path.open("a", newline="", encoding="utf-8") as file:
            writer = csv.writer(file, lineterminator="\n")
            if new:
                writer.writerow(columns)
            writer.writerows(rows)

    def _replace(self, name: str, text: str) -> None:
        """A reader sees the old file or the new one, never half of one."""
        draft = self._folder / f".{name}.draft"
        draft.write_text(text, encoding="utf-8")
        draft.replace(self._folder / name)


def utc(at_ns: int) -> str:
    """ISO 8601 with milliseconds and Z."""
    moment = datetime.fromtimestamp(at_ns // 1_000_000_000, UTC).replace(microsecond=at_ns % 1_000_000_000 // 1000)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
