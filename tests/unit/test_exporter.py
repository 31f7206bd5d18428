"""The exporter: reads its sources at a scrape, shows what is known, and leaves out what is not."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from bot.metrics import ORDER_LATENCY_EDGES_MS
from bot.runtime.exporter import Distribution, Exporter


class Fixed:
    """A source with the given counts and gauges."""

    def __init__(self, counts: dict[tuple[str, tuple[str, ...]], float]) -> None:
        self.counts = counts
        self.shown: list[tuple[str, tuple[str, ...], float]] = []

    def gauges(self, now_ns: int) -> Iterator[tuple[str, tuple[str, ...], float]]:
        yield from self.shown


def exporter_of(*sources: Fixed) -> Exporter:
    return Exporter(sources, ("BTCUSDT",), lambda: 0)


def samples(exporter: Exporter) -> dict[str, float]:
    lines = [line for line in exporter.render().decode().splitlines() if not line.startswith("#")]
    return {name: float(value) for name, _, value in (line.rpartition(" ") for line in lines)}


def test_a_declared_counter_is_there_at_0_and_follows_its_owner() -> None:
    source = Fixed({("mm_crossing_orders_total", ("BTCUSDT",)): 0})
    exporter = exporter_of(source)
    assert samples(exporter)['mm_crossing_orders_total{symbol="BTCUSDT"}'] == 0
    source.counts["mm_crossing_orders_total", ("BTCUSDT",)] = 3
    assert samples(exporter)['mm_crossing_orders_total{symbol="BTCUSDT"}'] == 3


def test_counts_of_several_owners_add_up() -> None:
    key = ("mm_recon_runs_total", ())
    assert samples(exporter_of(Fixed({key: 2}), Fixed({key: 3})))["mm_recon_runs_total"] == 5


def test_an_unknown_gauge_is_absent_and_not_0() -> None:
    source = Fixed({})
    exporter = exporter_of(source)
    assert not any(name.startswith("mm_net_bps") for name in samples(exporter))
    source.shown.append(("mm_net_bps", (), -1.5))
    assert samples(exporter)["mm_net_bps"] == -1.5


def test_a_metric_that_is_not_in_the_catalogue_is_an_error() -> None:
    with pytest.raises(KeyError, match="mm_invented_total"):
        exporter_of(Fixed({("mm_invented_total", ()): 1})).render()


def test_an_observation_on_an_edge_counts_as_at_or_below_it() -> None:
    distribution = Distribution(ORDER_LATENCY_EDGES_MS)
    for value in (10.0, 10.1, 3000.0):
        distribution.observe(value)
    assert distribution.buckets() == [
        ("10.0", 1), ("50.0", 2), ("100.0", 2), ("250.0", 2), ("500.0", 2), ("1000.0", 2), ("2500.0", 2), ("+Inf", 3),
    ]  # fmt: skip
    assert distribution.sum == pytest.approx(3020.1)


def test_histograms_are_there_before_the_first_observation() -> None:
    exporter = exporter_of()
    assert samples(exporter)['mm_order_latency_ms_count{symbol="BTCUSDT"}'] == 0
    exporter.observe([("mm_order_latency_ms", ("BTCUSDT",), 42.0)])
    shown = samples(exporter)
    assert shown['mm_order_latency_ms_count{symbol="BTCUSDT"}'] == 1
    assert shown['mm_order_latency_ms_bucket{le="10.0",symbol="BTCUSDT"}'] == 0
    assert shown['mm_order_latency_ms_bucket{le="50.0",symbol="BTCUSDT"}'] == 1


def test_an_observation_of_an_undeclared_label_set_is_an_error() -> None:
    with pytest.raises(KeyError):
        exporter_of().observe([("mm_order_latency_ms", ("ETHUSDT",), 1.0)])
