"""Files for people and checks, written from what the engine knows. They are never read back by the bot.

`orders.jsonl` (own orders that are out now) with `last_snapshot_ts.txt`, `daily_state.json`: replaced as a whole; after
midnight UTC the finished day stays as `daily_state-<date>.json`. When a day began is the journal's to know, so that a
restart begins none. Appended to: `fills.csv`, `markouts.csv`, and
`minute.csv`: one row for every minute that has ended, for each symbol, without gaps. A minute is written once it is
over, with what held at its end; minutes in which no process ran are there too, with the state DOWN.
"""

from __future__ import annotations

import csv
import json
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Final

import msgspec

from bot.domain.events import Filled
from bot.domain.instrument import Instrument
from bot.engine.ledger import Ledger
from bot.engine.showing import positions
from bot.engine.state import Day, State
from bot.markouts import COLUMNS as MARKOUT_COLUMNS
from bot.markouts import Markouts, Sampled, figures
from bot.runtime.status import plain, pnl_of

_encode: Final = msgspec.json.Encoder(order="sorted").encode

MINUTE_NS: Final = 60 * 1_000_000_000
DAY_NS: Final = 1440 * MINUTE_NS
FILL_COLUMNS: Final = (
    "ts_utc", "execution_id", "client_order_id", "symbol", "side", "price", "qty", "fee_quote", "is_maker",
    "realized_pnl_quote",
)  # fmt: skip
DOWN: Final = "DOWN"
"""The state of a minute in which no process ran."""
MINUTE_COLUMNS: Final = ("minute_utc", "symbol", "state", "mid", "position_qty", "active_orders", "net_quote")


class Exports:
    """One run's export files in `folder`. `last_ns`: the last sign of life of the run that is continued, 0 without one.

    Raises OSError where they cannot be written; what was not written is kept for the next try.
    """

    def __init__(self, folder: Path, last_ns: int = 0) -> None:
        self._folder = folder
        self._fills: list[tuple[Filled, Decimal | None]] = []
        self._rows: list[tuple[str, ...]] = []
        self._markouts = Markouts()
        self._sampled: list[Sampled] = []
        self._minute: int | None = last_ns // MINUTE_NS if last_ns else None
        self._down_until: int | None = None
        self._day: Day | None = None
        self._finished_days: list[dict[str, object]] = []

    def note_fill(self, fill: Filled, state: State) -> None:
        """Keeps a fill for the next write. Call before the engine is told of it; what it books already is dropped."""
        if fill.symbol not in state.books or state.ledger.knows(fill.execution_id):
            return
        instrument, order = state.instruments.get(fill.symbol), state.orders.get(fill.client_order_id)
        self._fills.append((fill, None if instrument is None else _realized_by(fill, instrument, state)))
        if instrument is not None:
            quoted = None if order is None else instrument.price(order.price_ticks)
            self._markouts.filled(fill, instrument, quoted, state.mark(fill.symbol))

    def sample(self, state: State, now_ns: int) -> None:
        """Call on every turn of the clock: markouts are taken at the newest mid, and a day that ends is closed."""
        self._turn_day(state, now_ns)
        if not self._markouts.due(now_ns):
            return
        mids = {symbol: state.mark(symbol) for symbol in state.parameters.symbols}
        self._sampled += self._markouts.sample(mids, now_ns)

    def write(self, state: State, now_ns: int) -> None:
        """Brings every file up to date."""
        self._write_fills(state)
        self._write_markouts()
        self._write_minutes(state, now_ns)
        self._write_orders(state, now_ns)
        self._write_day(state, now_ns)

    def finish(self, state: State, now_ns: int) -> None:
        """The last write of a run: fills whose later markouts nobody will see are written with what there is."""
        self._sampled += self._markouts.rest()
        self.write(state, now_ns)

    def _write_fills(self, state: State) -> None:
        """What a fill realized is left empty where it came before the filters that say what it was worth."""
        waiting: list[tuple[Filled, Decimal | None]] = []
        for fill, realized in self._fills:
            instrument = state.instruments.get(fill.symbol)
            if instrument is None:
                waiting.append((fill, realized))
                continue
            self._rows.append(
                (
                    utc(fill.at_ns), fill.execution_id, fill.client_order_id, fill.symbol, fill.side.value,
                    plain(fill.price), plain(instrument.qty(fill.qty_lots)), plain(fill.fee_quote),
                    str(fill.is_maker).lower(), "" if realized is None else plain(realized),
                )
            )  # fmt: skip
        self._fills = waiting
        self._append("fills.csv", FILL_COLUMNS, self._rows)
        self._rows.clear()

    def _write_markouts(self) -> None:
        rows = []
        for one in self._sampled:
            fill, quoted = one.fill, "" if one.quoted is None else plain(one.quoted)
            rows.append(
                (
                    utc(fill.at_ns), fill.execution_id, fill.client_order_id, fill.symbol, fill.side.value,
                    plain(fill.price), quoted, plain(one.qty), plain(fill.fee_quote), *figures(one),
                )
            )  # fmt: skip
        self._append("markouts.csv", MARKOUT_COLUMNS, rows)
        self._sampled.clear()

    def _write_minutes(self, state: State, now_ns: int) -> None:
        """Minutes in which nobody could write (a hang, a full disk) are written late, with what is known now."""
        current = now_ns // MINUTE_NS
        if self._down_until is None:
            self._down_until = current
        first = current if self._minute is None else self._minute
        held = positions(state)
        rows: list[tuple[str, ...]] = []
        for number in range(first, current):
            for symbol in state.parameters.symbols:
                when = utc(number * MINUTE_NS)
                if number < self._down_until:
                    rows.append((when, symbol, DOWN, "", "", "", ""))
                    continue
                mark = state.mark(symbol)
                net = state.ledger.pnl(symbol, mark, state.instruments.get(symbol)).net
                rows.append(
                    (
                        when, symbol, state.view.value, "" if mark is None else plain(mark), held[symbol]["qty"] or "",
                        str(state.orders.active(symbol)), "" if net is None else plain(net),
                    )
                )  # fmt: skip
        self._append("minute.csv", MINUTE_COLUMNS, rows)
        self._minute = current

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

    def _turn_day(self, state: State, now_ns: int) -> None:
        """A day that ended, in this process or before it, is kept for the next write as it stood at its end."""
        if state.day is self._day:
            return
        ended, self._day = state.day_before, state.day
        if ended is not None and state.day is not None:
            record = self._day_record(state, ended, now_ns)
            net, fills = state.day.net_quote - ended.net_quote, state.day.fills - ended.fills
            self._finished_days.append({**record, "net_today_quote": plain(net), "fills_today": fills})

    def _write_day(self, state: State, now_ns: int) -> None:
        self._turn_day(state, now_ns)
        for record in self._finished_days:
            self._replace(f"daily_state-{record['date_utc']}.json", _pretty(record))
        self._finished_days.clear()
        today = Day(now_ns // DAY_NS, Decimal(0), 0) if state.day is None else state.day
        self._replace("daily_state.json", _pretty(self._day_record(state, today, now_ns)))

    def _day_record(self, state: State, day: Day, now_ns: int) -> dict[str, object]:
        net = pnl_of(state)["net"]
        stated = not state.statement_is_stale(now_ns)  # the worse of two words is not known where one is missing
        loss = max(state.equity.loss_24h_quote, state.venue_equity.loss_24h_quote)
        drawdown = max(state.equity.drawdown_quote, state.venue_equity.drawdown_quote)
        return {
            "date_utc": utc(day.day * DAY_NS)[:10],
            "updated_utc": utc(now_ns),
            "state": state.view.value,
            "pnl_quote": pnl_of(state),
            "net_today_quote": None if net is None else plain(Decimal(net) - day.net_quote),
            "fills_today": state.ledger.fills - day.fills,
            "traded_notional_quote": plain(state.ledger.traded_notional_quote),
            "loss_24h_quote": plain(loss) if stated else None,
            "drawdown_quote": plain(drawdown) if stated else None,
            "fills": state.ledger.fills,
            "positions": positions(state),
        }

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


def _realized_by(fill: Filled, instrument: Instrument, state: State) -> Decimal:
    """What a fill will have realized once it is booked: on the position as the ledger has it, wherever it came from."""
    apart = Ledger((fill.symbol,))
    apart.accounts[fill.symbol] = account = state.ledger.accounts[fill.symbol].copy()
    before = account.realized_quote
    apart.record(fill, instrument)
    return account.realized_quote - before


def _pretty(record: dict[str, object]) -> str:
    return msgspec.json.format(_encode(record), indent=2).decode() + "\n"


def utc(at_ns: int) -> str:
    """ISO 8601 with milliseconds and Z."""
    moment = datetime.fromtimestamp(at_ns // 1_000_000_000, UTC).replace(microsecond=at_ns % 1_000_000_000 // 1000)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
