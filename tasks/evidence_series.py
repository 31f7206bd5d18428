"""The curves of a stage run: from Prometheus where it answers, else from the journal's fills, and says which.

PnL and inventory have both witnesses; the quoted spread comes from the journal, which knows every price sent. Plots
are for looking: their numbers are floats and decide nothing.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec

from bot.journal import JournalError, JournalReader, is_there
from tasks.record_tables import StageRun, utc_now

TIMEOUT_S = 4.0
POINTS_MAX = 2000

Points = list[tuple[datetime, float]]
BySymbol = dict[str, Points]


@dataclass
class Series:
    """Curves over UTC time; PnL of all symbols together.

    `source_note`: where they come from, in a sentence; `blind`: Prometheus did not answer.
    """

    pnl_quote: Points = field(default_factory=list)
    inventory_quote: BySymbol = field(default_factory=dict)
    spread_bps: BySymbol = field(default_factory=dict)
    fills: list[tuple[datetime, str, float]] = field(default_factory=list)
    marks: list[tuple[datetime, str]] = field(default_factory=list)
    blind: bool = False
    source_note: str = ""


def read_series(run: StageRun, state_dir: Path | None, prometheus_url: str) -> Series:
    """All curves of the run. Never raises for a source that is gone: the series says what is missing."""
    series = Series(marks=_marks(run))
    journal_error = _from_journal(series, state_dir)
    begun = run.launched_at
    if begun is None:
        series.source_note = "Nothing was launched in this stage run, so there is nothing to draw."
        return series
    ended = min(run.ended_at or run.bot_gone_at or utc_now(), utc_now()) + timedelta(seconds=2)
    try:
        pnl, inventory = _from_prometheus(run, prometheus_url, begun - timedelta(seconds=2), ended)
    except _Blind as error:
        series.blind = True
        series.source_note = (
            f"Prometheus did not answer when this page was written ({error}). PnL and inventory are drawn from the "
            "journal's fills, marked at the last fill's price."
        )
    else:
        series.pnl_quote, series.inventory_quote = pnl, inventory
        series.source_note = "PnL and inventory from Prometheus; spread and fills from the journal."
    if journal_error:
        series.source_note += f" The journal could not be read: {journal_error}."
    return series


class _Blind(Exception):
    pass


def _from_prometheus(run: StageRun, url: str, begun: datetime, ended: datetime) -> tuple[Points, BySymbol]:
    import requests
    from prometheus_api_client import MetricRangeDataFrame, PrometheusConnect
    from prometheus_api_client.exceptions import PrometheusApiClientException
    from urllib3.util.retry import Retry

    class BoundedSession(requests.Session):
        """Every request within the time-out; no proxy between us and loopback."""

        def request(self, *args: Any, **kwargs: Any) -> requests.Response:
            kwargs["timeout"] = TIMEOUT_S
            return super().request(*args, **kwargs)

    if not url:
        raise _Blind("no address is known")
    session = BoundedSession()
    session.trust_env = False
    client = PrometheusConnect(url=url, retry=Retry(total=0), session=session)
    step_s = max(1, int((ended - begun).total_seconds() / POINTS_MAX))
    chosen = f'account="{run.account}",rollout="{run.rollout}",stage="{run.stage}"'
    curves: list[BySymbol] = []
    for query in (f'sum(mm_pnl_quote{{{chosen},kind="net"}})', f"sum by (symbol) (mm_position_quote{{{chosen}}})"):
        try:
            answer = client.custom_query_range(query, start_time=begun, end_time=ended, step=f"{step_s}s")
        except (requests.RequestException, PrometheusApiClientException, KeyError, ValueError) as error:
            raise _Blind(type(error).__name__) from error
        if not answer:
            curves.append({})
            continue
        frame = MetricRangeDataFrame(answer, ts_as_datetime=False)
        names = frame["symbol"] if "symbol" in frame else [""] * len(frame)
        by_symbol: BySymbol = {}
        for name, (at, value) in zip(names, frame["value"].items(), strict=True):
            by_symbol.setdefault(str(name), []).append((datetime.fromtimestamp(float(at), UTC), float(value)))
        curves.append(by_symbol)
    return curves[0].get("", []), curves[1]


def _from_journal(series: Series, state_dir: Path | None) -> str:
    """Fills, quoted spread, and the fallback curves. Returns why it could not, in words."""
    if state_dir is None or not is_there(state_dir / "journal.db"):
        return "there is none" if state_dir is not None else ""
    try:
        with JournalReader(state_dir / "journal.db") as reader:
            _walk(series, reader)
    except (JournalError, OSError, ValueError, KeyError) as error:
        return " ".join(str(error).split())
    return ""


def _walk(series: Series, reader: JournalReader) -> None:
    grids = _grids(reader)
    cash, position, price_of = 0.0, dict.fromkeys(grids, 0.0), dict.fromkeys(grids, 0.0)
    placed: dict[str, tuple[str, str]] = {}
    best: dict[tuple[str, str], float] = {}
    seen: set[str] = set()
    for entry in reader.entries():
        if entry.kind not in ("PlaceOrder", "AmendOrder", "Filled"):
            continue
        body = msgspec.json.decode(entry.body)
        at = datetime.fromtimestamp(entry.at_ns / 1e9, UTC)
        if entry.kind == "Filled" and entry.direction == "in":
            if body["execution_id"] in seen:
                continue
            seen.add(body["execution_id"])
            symbol, side = str(body["symbol"]), str(body["side"])
            price, qty = float(body["price"]), float(body["qty_lots"]) * grids[symbol][1]
            signed = qty if side.lower().startswith("b") else -qty
            cash -= signed * price + float(body["fee_quote"])
            position[symbol] += signed
            price_of[symbol] = price
            series.fills.append((at, side, price))
            series.pnl_quote.append((at, cash + sum(position[one] * price_of[one] for one in grids)))
            series.inventory_quote.setdefault(symbol, []).append((at, position[symbol] * price))
        elif entry.kind in ("PlaceOrder", "AmendOrder"):
            told = (str(body.get("symbol", "")), str(body.get("side", "")).lower()[:1])
            symbol, side = placed.setdefault(entry.client_order_id, told)
            best[symbol, side] = float(body["price_ticks"]) * grids[symbol][0]
            bid, ask = best.get((symbol, "b"), 0.0), best.get((symbol, "s"), 0.0)
            if ask > bid > 0:
                spread_bps = (ask - bid) / ((ask + bid) / 2) * 10_000
                series.spread_bps.setdefault(symbol, []).append((at, spread_bps))


def _grids(reader: JournalReader) -> dict[str, tuple[float, float]]:
    """Symbol to its tick and lot size."""
    bodies = (msgspec.json.decode(entry.body) for entry in reader.entries(kind="InstrumentsRead"))
    found = {str(body["symbol"]): (float(body["tick_size"]), float(body["lot_size"])) for body in bodies}
    if not found:
        raise KeyError("no instrument was read in this run")
    return found


def _marks(run: StageRun) -> list[tuple[datetime, str]]:
    named = (
        (run.watch_from, "watch"),
        (run.judged_at, "judged"),
        (run.breach_at, "breach"),
        (run.bot_gone_at, "bot gone"),
        (run.flat_at, "flat"),
    )
    return [(at, name) for at, name in named if at is not None]
