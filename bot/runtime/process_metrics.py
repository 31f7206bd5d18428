"""What the process around the engine counts and knows: logs, exceptions, sockets, REST answers, readiness, build."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Final, TypeVar

from bot.domain.counts import Counts
from bot.metrics import FILTER_SOURCES, LOG_LEVELS
from bot.venues.feed import VenueFigures

Labels = tuple[str, ...]
K = TypeVar("K")

READINESS: Final = ("GREEN", "YELLOW", "RED")
READINESS_REASONS: Final = ("exchange", "risk", "state")


class ProcessMetrics:
    """A metric source beside the engine. `checks`: the readiness checks by name, as `/ready` shows them."""

    def __init__(
        self,
        venue: VenueFigures,
        log_counts: Mapping[str, int],
        checks: Callable[[], Mapping[str, bool]],
        *,
        version: str,
        digest: str,
        live_enabled: bool,
    ) -> None:
        self._venue = venue
        self._log_counts = log_counts
        self._checks = checks
        self._build = (version, digest)
        self._live_enabled = live_enabled
        self._lost = Counts(READINESS_REASONS)
        self._last: dict[str, bool] = dict.fromkeys(READINESS_REASONS, False)
        self._told: dict[str, int] = {}
        self.uncaught_exceptions = 0
        self.filter_fetch_errors = 0
        self.filter_sources = Counts(FILTER_SOURCES)
        self.exports_written_at_ns: int | None = None
        self.iterations: Callable[[], int] = lambda: 0
        """set by whoever counts the market updates"""

    @property
    def counts(self) -> Mapping[tuple[str, Labels], int]:
        counts: dict[tuple[str, Labels], int] = {(name, ()): value for name, value in self._plain()}
        counts.update({("mm_log_records_total", (lvl,)): self._log_counts[lvl] for lvl in LOG_LEVELS})
        counts.update({("readiness_reason_total", (reason,)): n for reason, n in self._lost.items()})
        counts.update({("mm_symbol_filters_source_total", (source,)): n for source, n in self.filter_sources.items()})
        counts.update({("mm_http_responses_total", key): n for key, n in self._venue.http_responses.items()})
        return counts

    def drain_changed_counts(self) -> list[tuple[tuple[str, Labels], int]]:
        """Counters that changed since the last call; at first all of them."""
        told = self._told
        changed: list[tuple[tuple[str, Labels], int]] = []
        for name, value in self._plain():
            if told.get(name) != value:
                told[name] = value
                changed.append(((name, ()), value))
        answers = self._venue.http_responses
        changed += [(("mm_http_responses_total", key), n) for key, n in _changes(answers)]
        changed += [(("mm_log_records_total", (lvl,)), n) for lvl, n in _changes(self._log_counts)]
        changed += [(("readiness_reason_total", (reason,)), n) for reason, n in _changes(self._lost)]
        changed += [(("mm_symbol_filters_source_total", (name,)), n) for name, n in _changes(self.filter_sources)]
        return changed

    def _plain(self) -> tuple[tuple[str, int], ...]:
        """Counters without labels."""
        return (
            ("mm_uncaught_exceptions_total", self.uncaught_exceptions),
            ("mm_symbol_filters_fetch_errors_total", self.filter_fetch_errors),
            ("mm_ws_reconnects_total", self._venue.ws_reconnects),
        )

    def gauges(self, now_ns: int) -> Iterator[tuple[str, Labels, float]]:
        yield "mm_build_info", self._build, 1.0
        yield "mm_live_enable", (), float(self._live_enabled)
        yield "mm_iterations", (), float(self.iterations())
        status = self.readiness()
        for name in READINESS:
            yield "readiness_status", (name,), float(name == status)
        for endpoint, ratio in self._venue.rate_limit_headroom.items():
            yield "mm_rate_limit_headroom_ratio", (endpoint,), ratio
        for kind, count in self._venue.connections_open.items():
            yield "mm_connections_open", (kind,), float(count)
        if self.exports_written_at_ns is not None:
            yield "mm_snapshot_age_seconds", (), (now_ns - self.exports_written_at_ns) / 1e9

    def readiness(self) -> str:
        """GREEN: every check holds. RED: the venue cannot be reached. YELLOW: anything else that is missing."""
        checks = self._checks()
        if all(checks.values()):
            return "GREEN"
        return "YELLOW" if checks.get("exchange") else "RED"

    def note_readiness(self) -> None:
        """Counts the checks that were lost since the last look."""
        for reason, good in self._checks().items():
            if self._last.get(reason) and not good:
                self._lost[reason] += 1
            self._last[reason] = good


def _changes(counts: Mapping[K, int]) -> Iterable[tuple[K, int]]:
    """What changed since the last call, where the owner of these counters knows; else all of them."""
    return counts.drain() if isinstance(counts, Counts) else counts.items()
