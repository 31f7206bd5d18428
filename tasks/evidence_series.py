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


@dataclass
class Series:
    """Curves over UTC time. `source_note`: where they come from, in a sentence; `blind`: Prometheus did not answer."""

    pnl_quote: Points = field(default_factory=list)
    inventory_quote: Points = field(default_factory=list)
    spread_bps: Points = field(default_factory=list)
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


def _from_prometheus(run: StageRun, url: str, begun: datetime, ended: datetime) -> tuple[Points, Points]:
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
    curves: list[Points] = []
    for query in (f'sum(mm_pnl_quote{{{chosen},kind="net"}})', f"sum(mm_position_quote{{{chosen}}})"):
        try:
            answer = client.custom_query_range(query, start_time=begun, end_time=ended, step=f"{step_s}s")
        except (requests.RequestException, PrometheusApiClientException, KeyError, ValueError) as error:
            raise _Blind(type(error).__name__) from error
        if not answer:
            curves.append([])
            continue
        frame = MetricRangeDataFrame(answer, ts_as_datetime=False)
        curves.append([(datetime.fromtimestamp(float(at), UTC), float(value)) for at, value in frame["value"].items()])
    return curves[0], curves[1]


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
    tick, lot = _grid(reader)
    cash, position, placed = 0.0, 0.0, dict[str, str]()
    best: dict[str, float] = {}
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
            side = str(body["side"])
            price, qty = float(body["price"]), float(body["qty_lots"]) * lot
            signed = qty if side.lower().startswith("b") else -qty
            cash -= signed * price + float(body["fee_quote"])
            position += signed
            series.fills.append((at, side, price))
            series.pnl_quote.append((at, cash + position * price))
            series.inventory_quote.append((at, position * price))
        elif entry.kind in ("PlaceOrder", "AmendOrder"):
            side = placed.setdefault(entry.client_order_id, str(body.get("side", "")))
            best[side.lower()[:1]] = float(body["price_ticks"]) * tick
            if "b" in best and "s" in best and best["s"] > best["b"]:
                mid = (best["s"] + best["b"]) / 2
                series.spread_bps.append((at, (best["s"] - best["b"]) / mid * 10_000))


def _grid(reader: JournalReader) -> tuple[float, float]:
    for entry in reader.entries(kind="InstrumentsRead"):
        body = msgspec.json.decode(entry.body)
        return float(body["tick_size"]), float(body["lot_size"])
    raise KeyError("no instrument was read in this run")


def _marks(run: StageRun) -> list[tuple[datetime, str]]:
    named = (
        (run.watch_from, "watch"),
        (run.judged_at, "judged"),
        (run.breach_at, "breach"),
        (run.bot_gone_at, "bot gone"),
        (run.flat_at, "flat"),
    )
    return [(at, name) for at, name in named if at is not None]
