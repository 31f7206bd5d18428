"""The Prometheus source against a real Prometheus: a good answer, and every way in which there is none."""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from decimal import Decimal
from email.message import Message
from pathlib import Path
from typing import Any

import pytest

from gates.criteria import Criterion
from gates.judge import Cause, Measurement, Outcome, judge
from gates.lint import refused_queries
from gates.promql import Selector
from gates.sources.prometheus import Failed, PrometheusSource
from gates.stages import ROOT, load_plan, stage_criteria
from tests.support.loopback import LoopbackServer

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(shutil.which("prometheus") is None, reason="prometheus is not on PATH"),
]

BY = '{account="$account",rollout="$rollout",stage="$stage"}'
PAGE = """
mm_book_age_ms{symbol="A"} 120.5
mm_active_orders{symbol="A"} 2
mm_active_orders{symbol="B"} 3
mm_net_bps NaN
mm_taker_fills_total{symbol="A"} 1
mm_taker_fills_total{symbol="B"} 2
mm_filter_violations_total{symbol="A"} 0
"""


def _healthy(elapsed_s: float) -> str:
    """What a healthy bot shows after so long: every series that the canary's gates read."""
    states = "".join(
        f'mm_trading_state{{state="{state}"}} {int(state == "RUNNING")}\n'
        for state in ("INIT", "RUNNING", "FROZEN", "HELD", "HALTED", "SHUTDOWN")
    )
    orders = round(elapsed_s * 10)
    buckets = "".join(
        f'mm_order_latency_ms_bucket{{symbol="A",le="{edge}"}} {orders}\n' for edge in ("10.0", "500.0", "+Inf")
    )
    return f"""
{states}{buckets}
mm_uncaught_exceptions_total 0
mm_freeze_events_total{{reason="disk_full",class="fault"}} 0
mm_freeze_events_total{{reason="journal_unwritable",class="fault"}} 0
mm_pnl_quote{{symbol="A",kind="realized"}} 3
mm_pnl_quote{{symbol="A",kind="net"}} 1.25
mm_cancel_all_duration_seconds_bucket{{le="1.0"}} 2
mm_cancel_all_duration_seconds_bucket{{le="+Inf"}} 2
mm_cancel_all_duration_seconds_count 2
mm_active_orders{{symbol="A"}} 2
mm_book_age_ms{{symbol="A"}} 80
mm_may_quote_seconds_total{{symbol="A"}} {elapsed_s:.3f}
mm_quoting_seconds_total{{symbol="A",sides="none"}} 0
mm_quoting_seconds_total{{symbol="A",sides="one"}} {elapsed_s * 0.01:.3f}
mm_quoting_seconds_total{{symbol="A",sides="two"}} {elapsed_s * 0.99:.3f}
"""


class Target(LoopbackServer):
    """A small exporter whose page can be taken away."""

    def __init__(self) -> None:
        self.page: str | None = PAGE
        self.healthy = False
        self.begun_s = time.monotonic()
        super().__init__()

    def answer(self, path: str, headers: Message, body: bytes) -> tuple[int, bytes]:
        page = _healthy(time.monotonic() - self.begun_s) if self.healthy else self.page
        return 200 if self.page is not None else 503, (page or "").encode()


class Prometheus:
    """A real one in a fresh folder, scraping one target five times a second."""

    def __init__(self, folder: Path, target_port: int) -> None:
        config = folder / "prometheus.yml"
        config.write_text(
            f"""
global: {{scrape_interval: 200ms, scrape_timeout: 200ms}}
scrape_configs:
  - job_name: bot
    static_configs:
      - targets: ["127.0.0.1:{target_port}"]
        labels: {{account: a, rollout: r, stage: canary, run: r1}}
""",
            encoding="utf-8",
        )
        self._log = folder / "log"
        command = ["prometheus", f"--config.file={config}", f"--storage.tsdb.path={folder / 'data'}"]
        with self._log.open("w") as log:
            self.process = subprocess.Popen(
                [*command, "--web.listen-address=127.0.0.1:0"], stderr=log, stdout=log, start_new_session=True
            )
        self.url = f"http://127.0.0.1:{_eventually(self._port, 'Prometheus says where it listens')}"

    def _port(self) -> str | None:
        found = re.search(r'"Listening on" address=127\.0\.0\.1:(\d+)', self._log.read_text(encoding="utf-8"))
        return found[1] if found else None

    def send(self, number: signal.Signals) -> None:
        os.kill(self.process.pid, number)

    def close(self) -> None:
        self.process.kill()
        self.process.wait(10)


def _eventually(ask: Callable[[], Any], what: str, deadline_s: float = 90) -> Any:
    until = time.monotonic() + deadline_s
    while not (answer := ask()):
        assert time.monotonic() < until, f"not within {deadline_s:g} s: {what}"
        time.sleep(0.05)
    return answer


@pytest.fixture
def target() -> Iterator[Target]:
    made = Target()
    yield made
    made.close()


@pytest.fixture
def prometheus(tmp_path: Path, target: Target) -> Iterator[Prometheus]:
    made = Prometheus(tmp_path, target.port)
    yield made
    made.close()


def _criterion(query: str, **changes: Any) -> Criterion:
    values: dict[str, Any] = {
        "id": "asked",
        "title": "Asked",
        "source": "promql",
        "query": query,
        "unit": "bps",
        "go": "< 500",
        "phase": "guard",
        "unknown_deadline_s": 10,
        "why": "It is a test of the source.",
    }
    return Criterion.model_validate(values | changes)


def _ask(url: str, asked: Criterion, *, at_s: float | None = None, **selected: Any) -> Measurement:
    """One measurement by a source of its own."""
    at = time.time() if at_s is None else at_s
    values: dict[str, Any] = {"account": "a", "rollout": "r", "stage": "canary", "since_s": at - 600}

    async def measure() -> Measurement:
        async with PrometheusSource(url, timeout_s=20.0, stale_after_s=3.0, scrape_every_s=0.2) as source:
            (reading,) = await source.measure([asked], Selector(**(values | selected)), at)
            return judge(asked, reading, round(at * 1000))

    return asyncio.run(measure())


def _passing(url: str) -> None:
    asked = _criterion(f"max(mm_book_age_ms{BY})")
    _eventually(lambda: _ask(url, asked).outcome is Outcome.PASS, "the target is scraped and passes")


def test_a_good_answer_is_exact_and_everything_else_is_unknown_with_its_cause(
    prometheus: Prometheus, target: Target
) -> None:
    _passing(prometheus.url)
    good = _ask(prometheus.url, _criterion(f"max(mm_book_age_ms{BY})"))
    assert str(good.value) == "120.5"
    assert good.query == 'max(mm_book_age_ms{account="a",rollout="r",stage="canary"})'
    assert _ask(prometheus.url, _criterion(f"max(mm_margin_ratio{BY})")).cause is Cause.NO_DATA
    assert _ask(prometheus.url, _criterion(f"max(mm_net_bps{BY})")).cause is Cause.NOT_FINITE
    assert _ask(prometheus.url, _criterion(f"max(mm_book_age_ms{BY}) / 0")).cause is Cause.NOT_FINITE
    assert _ask(prometheus.url, _criterion(f"mm_active_orders{BY}")).cause is Cause.SEVERAL_SERIES
    assert _ask(prometheus.url, _criterion(f"mm_active_orders{BY}", reduce="sum")).value == 5
    refused = _ask(prometheus.url, _criterion(f"max(mm_book_age_ms{BY}"))
    assert refused.cause is Cause.SOURCE_ERROR
    assert "Prometheus answered 400: bad_data: " in refused.reason
    assert "\n" not in refused.reason
    a_range = _ask(prometheus.url, _criterion(f"mm_book_age_ms{BY}[1s]"))
    assert (a_range.cause, "a range" in a_range.reason) == (Cause.SOURCE_ERROR, True)


def test_another_bots_series_are_never_taken_for_this_ones(prometheus: Prometheus) -> None:
    _passing(prometheus.url)
    found = _ask(prometheus.url, _criterion(f"max(mm_book_age_ms{BY})"), account="b")
    assert (found.outcome, found.cause) == (Outcome.UNKNOWN, Cause.STALE)
    assert "has not scraped this bot" in found.reason


def test_a_target_that_falls_silent_is_no_data_even_where_a_range_still_has_values(
    prometheus: Prometheus, target: Target
) -> None:
    _passing(prometheus.url)
    target.page = None
    ranged = _criterion(f"max(max_over_time(mm_book_age_ms{BY}[$window]))", window_s=60, min_coverage=0)
    found = _eventually(
        lambda: one if (one := _ask(prometheus.url, ranged)).cause is Cause.NO_DATA else None,
        "the silence is noticed after 3 s",
    )
    silent = re.search(r"has not answered a scrape for ([0-9.]+) s", found.reason)
    assert silent is not None, found.reason
    assert float(silent[1]) >= 3


def test_scrapes_that_stopped_are_stale(prometheus: Prometheus) -> None:
    """What Prometheus would say after a pause of its own: samples older than 3 s, with no scrape since."""
    _passing(prometheus.url)
    found = _ask(prometheus.url, _criterion(f"max(mm_book_age_ms{BY})"), at_s=time.time() + 4)
    assert found.cause is Cause.STALE
    assert "limit 3 s" in found.reason


def test_a_window_that_began_before_the_scrapes_is_partial(prometheus: Prometheus) -> None:
    _passing(prometheus.url)
    asked = _criterion(f"max(avg_over_time(mm_book_age_ms{BY}[$window]))", window_s=300)
    found = _ask(prometheus.url, asked)
    assert (found.outcome, found.cause) == (Outcome.UNKNOWN, Cause.PARTIAL_WINDOW)
    assert found.coverage is not None
    assert found.coverage < 1
    begun_s = time.time()
    full = _eventually(
        lambda: one if (one := _ask(prometheus.url, asked, since_s=begun_s)).sample_count else None, "a short window"
    )
    _eventually(
        lambda: _ask(prometheus.url, asked, since_s=begun_s).outcome is Outcome.PASS, "a window seen in full passes"
    )
    assert full.limit == "go < 500"


def test_a_refused_connection_and_a_hung_server_are_unreachable_and_cost_one_time_out(prometheus: Prometheus) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    refused = _ask(f"http://127.0.0.1:{port}", _criterion(f"max(mm_book_age_ms{BY})"))
    assert refused.cause is Cause.SOURCE_UNREACHABLE
    _passing(prometheus.url)
    asked = [_criterion(f"max(mm_book_age_ms{BY})", id=f"asked_{at}") for at in range(20)]

    async def round_of_twenty() -> list[Cause | None]:
        async with PrometheusSource(prometheus.url, timeout_s=2.0) as source:
            readings = await source.measure(asked, Selector("a", "r", "canary", 0), time.time())
            return [reading.failure for reading in readings]

    prometheus.send(signal.SIGSTOP)
    try:
        begun_s = time.monotonic()
        failures = asyncio.run(round_of_twenty())
        took_s = time.monotonic() - begun_s
    finally:
        prometheus.send(signal.SIGCONT)
    assert failures == [Cause.SOURCE_UNREACHABLE] * 20
    assert took_s < 20, "one after another they would take forty"


def test_something_that_is_not_prometheus_is_a_source_error(target: Target) -> None:
    """The exporter answers a POST with 501 and a page."""
    found = _ask(f"http://127.0.0.1:{target.port}", _criterion(f"max(mm_book_age_ms{BY})"))
    assert found.cause is Cause.SOURCE_ERROR
    assert "without an answer in Prometheus' form" in found.reason


def test_totals_are_summed_over_labels_and_what_is_not_there_is_left_out(prometheus: Prometheus) -> None:
    _passing(prometheus.url)
    names = ("mm_taker_fills_total", "mm_filter_violations_total", "mm_crossing_orders_total")

    async def totals() -> Any:
        async with PrometheusSource(prometheus.url) as source:
            return await source.totals(names, Selector("a", "r", "canary", 0), time.time())

    found = asyncio.run(totals())
    assert not isinstance(found, Failed)
    assert found == {"mm_taker_fills_total": 3, "mm_filter_violations_total": 0}


def _all_of_the_canary(url: str, since_s: float) -> dict[str, Measurement]:
    """Every PromQL criterion of the smoke plan's canary, measured now."""
    criteria = stage_criteria(load_plan(ROOT / "configs" / "rollout.smoke.yaml"), "canary")
    by_id = {one.id: one for one in criteria}

    async def measure() -> dict[str, Measurement]:
        async with PrometheusSource(url, stale_after_s=3.0, scrape_every_s=0.2) as source:
            at_s = time.time()
            readings = await source.measure(criteria, Selector("a", "r", "canary", since_s), at_s)
        return {one.criterion_id: judge(by_id[one.criterion_id], one, round(at_s * 1000)) for one in readings}

    return asyncio.run(measure())


def test_a_healthy_bot_passes_every_promql_gate_of_the_canary(prometheus: Prometheus, target: Target) -> None:
    target.healthy = True
    _passing(prometheus.url)
    since_s = time.time()
    until = time.monotonic() + 90
    while bad := [one for one in _all_of_the_canary(prometheus.url, since_s).values() if one.outcome != "PASS"]:
        assert time.monotonic() < until, [(one.criterion_id, one.reason) for one in bad]
        time.sleep(0.2)
    found = _all_of_the_canary(prometheus.url, since_s)
    assert len(found) >= 13
    assert str(found["pnl_guard"].value) == "1.25"
    assert found["quotes_on_stale_book"].value == 80
    assert found["two_sided_quoting"].value == pytest.approx(Decimal("0.99"), abs=Decimal("0.005"))


def test_prometheus_takes_every_query_of_the_shipped_gates(prometheus: Prometheus, tmp_path: Path) -> None:
    plans = [ROOT / "configs" / "rollout.smoke.yaml", ROOT / "configs" / "rollout.yaml"]
    assert asyncio.run(refused_queries([], plans, prometheus.url)) == []
    bad = tmp_path / "bad.yaml"
    criteria = ROOT / "configs" / "criteria"
    text = (criteria / "networked.yaml").read_text(encoding="utf-8")
    (tmp_path / "every-stage.yaml").write_text((criteria / "every-stage.yaml").read_text(encoding="utf-8"))
    bad.write_text(text.replace("query: max(mm_trading_state", "query: maxi(mm_trading_state", 1), encoding="utf-8")
    (fault,) = asyncio.run(refused_queries([bad], [], prometheus.url))
    assert "halted.query: Prometheus answered 400: bad_data" in fault
    assert "maxi" in fault
