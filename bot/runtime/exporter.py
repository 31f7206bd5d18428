"""Shows what the catalogue lists, and nothing else, in Prometheus' text format.

Nothing is counted here: counters and gauges are read from their owners when Prometheus asks. Only histograms are
kept, as bucket counts. Every label set that an owner declares is there at 0 from the first scrape, because a counter
that is born at 1 never shows an increase.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Final, Protocol

from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.metrics_core import Metric as Family
from prometheus_client.registry import Collector

from bot.metrics import CATALOGUE, OPERATIONS, Metric

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"

Labels = tuple[str, ...]
Sample = tuple[str, Labels, float]


class Source(Protocol):
    """Something that owns metrics: the engine, the process around it."""

    @property
    def counts(self) -> Mapping[tuple[str, Labels], float]:
        """Counter name and label values, in catalogue order, to the count (or to seconds)."""

    def gauges(self, now_ns: int) -> Iterable[Sample]:
        """What is known now; what is unknown is left out, never shown as 0."""


class Distribution:
    """One histogram's label set: how many observations fell at or below each edge."""

    def __init__(self, edges: tuple[float, ...]) -> None:
        self._edges = edges
        self._counts = [0] * (len(edges) + 1)
        self._sum = 0.0

    def observe(self, value: float) -> None:
        self._counts[bisect_left(self._edges, value)] += 1
        self._sum += value

    def buckets(self) -> list[tuple[str, float]]:
        """Cumulative, as Prometheus wants them, `+Inf` last."""
        running, rows = 0, []
        for edge, count in zip((*self._edges, "+Inf"), self._counts, strict=True):
            running += count
            rows.append((str(edge), float(running)))
        return rows

    @property
    def sum(self) -> float:
        return self._sum


class Exporter(Collector):
    """The bot's `/metrics`."""

    def __init__(
        self,
        sources: Iterable[Source],
        symbols: Iterable[str],
        now_ns: Callable[[], int],
    ) -> None:
        self._sources = tuple(sources)
        self._now_ns = now_ns
        self._distributions: dict[str, dict[Labels, Distribution]] = {}
        declared: dict[str, list[Labels]] = {
            "mm_order_latency_ms": [(symbol,) for symbol in symbols],
            "mm_execution_latency_seconds": [(operation,) for operation in OPERATIONS],
        }
        for metric in CATALOGUE:
            if metric.kind == "histogram":
                label_sets = declared.get(metric.name, [()])
                self._distributions[metric.name] = {labels: Distribution(metric.edges) for labels in label_sets}
        self._registry = CollectorRegistry(auto_describe=False)
        ProcessCollector(registry=self._registry)
        self._registry.register(self)

    def observe(self, observations: Iterable[Sample]) -> None:
        """Adds histogram observations. KeyError for a name or a label set that was never declared."""
        for name, labels, value in observations:
            self._distributions[name][labels].observe(value)

    def render(self) -> bytes:
        """The whole page. Always the classic text format, in which a gauge may be called `…_total`."""
        return generate_latest(self._registry)

    def collect(self) -> Iterator[Family]:
        """Called by the registry at each scrape. KeyError where a source shows what the catalogue does not list."""
        now_ns = self._now_ns()
        values: dict[str, dict[Labels, float]] = {metric.name: {} for metric in CATALOGUE}
        for source in self._sources:
            for (name, labels), count in source.counts.items():
                values[name][labels] = values[name].get(labels, 0) + count
            for name, labels, value in source.gauges(now_ns):
                values[name][labels] = value
        for metric in CATALOGUE:
            yield self._family(metric, values[metric.name])

    def describe(self) -> Iterator[Family]:
        """Nothing: values are asked for at a scrape, not at registration."""
        return iter(())

    def _family(self, metric: Metric, values: Mapping[Labels, float]) -> Family:
        text = f"{metric.meaning} Unit: {metric.unit}."
        if metric.kind == "histogram":
            histogram = HistogramMetricFamily(metric.name, text, labels=metric.labels)
            for labels, distribution in self._distributions[metric.name].items():
                histogram.add_metric(labels, distribution.buckets(), distribution.sum)
            return histogram
        if metric.kind == "counter":
            counter = CounterMetricFamily(metric.name, text, labels=metric.labels)
            for labels, value in values.items():
                counter.add_metric(labels, value)
            return counter
        gauge = GaugeMetricFamily(metric.name, text, labels=metric.labels)
        for labels, value in values.items():
            gauge.add_metric(labels, value)
        return gauge
