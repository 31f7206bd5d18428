"""The exporter shows every entry of the catalogue and no other, and every counter's label sets are born at 0."""

from __future__ import annotations

from collections.abc import Mapping

from bot.assembly import EngineMetrics
from bot.config import BotConfig
from bot.domain.order import Side
from bot.engine.engine import Engine
from bot.engine.parameters import EngineParameters
from bot.metrics import (
    BLOCK_REASONS,
    CATALOGUE,
    DIVERGENCE_TYPES,
    FILTER_SOURCES,
    LOG_LEVELS,
    QUOTING_SIDES,
    STANDARD,
    TRADING_STATES,
    exposed_names,
)
from bot.runtime.exporter import Exporter
from bot.runtime.process_metrics import ProcessMetrics
from bot.venues.bybit.adapter import BybitAdapter
from bot.venues.bybit.hosts import hosts_for

SYMBOLS = BotConfig().execution.symbols


class NoVenue:
    """An adapter that has not spoken to anybody yet."""

    http_responses: Mapping[tuple[str, str], int] = {}
    rate_limit_headroom: Mapping[str, float] = {}
    ws_reconnects = 0
    connections_open: Mapping[str, int] = {"public": 0, "private": 0, "trade": 0}


def page() -> str:
    engine = Engine(EngineParameters(symbols=SYMBOLS))
    checks = {"exchange": False, "risk": True, "state": False}
    process = ProcessMetrics(
        NoVenue(), dict.fromkeys(LOG_LEVELS, 0), lambda: checks, version="v", digest="d", live_enabled=True
    )
    return Exporter((EngineMetrics(engine), process), SYMBOLS, lambda: 0).render().decode()


def families(text: str) -> dict[str, str]:
    """Name → type, as declared on the page."""
    lines = [line.split(" ") for line in text.splitlines() if line.startswith("# TYPE ")]
    return {line[2]: line[3] for line in lines}


def series(text: str) -> set[str]:
    return {line.rpartition(" ")[0] for line in text.splitlines() if not line.startswith("#")}


def test_every_entry_of_the_catalogue_is_exposed_with_its_kind_and_nothing_else_is() -> None:
    shown = families(page())
    assert {name: kind for name, kind in shown.items() if name not in STANDARD} == {
        metric.name: metric.kind for metric in CATALOGUE
    }


def test_every_series_has_a_name_that_a_query_may_use() -> None:
    assert {name.partition("{")[0] for name in series(page())} <= exposed_names()


def test_the_standard_process_metrics_are_exposed() -> None:
    assert set(STANDARD) - {"up"} <= {name.partition("{")[0] for name in series(page())}


def test_every_label_set_of_a_counter_is_there_before_the_first_order() -> None:
    shown = series(page())
    (symbol,) = SYMBOLS
    expected = {f'mm_orders_placed_total{{side="{side}",symbol="{symbol}"}}' for side in Side}
    expected |= {f'mm_orders_blocked_total{{reason="{reason}",symbol="{symbol}"}}' for reason in BLOCK_REASONS}
    expected |= {f'mm_recon_divergence_total{{type="{kind}"}}' for kind in DIVERGENCE_TYPES}
    expected |= {f'mm_symbol_filters_source_total{{source="{source}"}}' for source in FILTER_SOURCES}
    expected |= {f'mm_quoting_seconds_total{{sides="{sides}",symbol="{symbol}"}}' for sides in QUOTING_SIDES}
    expected |= {f'mm_trading_state{{state="{state}"}}' for state in TRADING_STATES}
    expected |= {f'mm_log_records_total{{lvl="{lvl}"}}' for lvl in LOG_LEVELS}
    expected |= {f'mm_crossing_orders_total{{symbol="{symbol}"}}', "mm_uncaught_exceptions_total"}
    assert expected <= shown


def test_every_counter_without_a_venues_word_in_its_labels_has_a_series() -> None:
    shown = {name.partition("{")[0] for name in series(page())}
    counters = {metric.name for metric in CATALOGUE if metric.kind == "counter"}
    assert counters - shown == {"mm_http_responses_total"}


def test_the_adapters_answers_are_born_at_0() -> None:
    adapter = BybitAdapter(hosts_for("testnet", "linear"), "key", "secret", SYMBOLS, lambda: 0)
    assert adapter.http_responses
    assert set(adapter.http_responses.values()) == {0}


def test_what_is_not_known_before_the_first_fill_is_absent() -> None:
    shown = {name.partition("{")[0] for name in series(page())}
    assert not shown & {"mm_net_bps", "mm_fill_rate", "mm_maker_taker_ratio", "mm_edge_bps", "mm_grant_age_seconds"}
