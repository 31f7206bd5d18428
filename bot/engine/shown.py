"""What an engine shows of itself. Nothing here changes anything, but for the two `drain_…`, which say what is new."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from decimal import Decimal

from bot.engine.ledger import Pnl
from bot.engine.orders import OwnOrder
from bot.engine.parameters import NS_PER_S
from bot.engine.performance import Performance
from bot.engine.quoting_time import QuotingTime
from bot.engine.showing import gauges, pnl_total, positions
from bot.engine.state import Observation, State
from bot.engine.stop import Stop, View


class Shown:
    """The side of an engine that everybody else may look at. `drift_pct`: see `Reconciliation`."""

    def __init__(
        self, state: State, performance: Performance, drift_pct: Mapping[str, Decimal], time: QuotingTime
    ) -> None:
        self._state = state
        self._time = time
        self._performance = performance
        self._drift_pct = drift_pct

    @property
    def counts(self) -> dict[tuple[str, tuple[str, ...]], int]:
        """Every counter of the engine, whole numbers. Time is under `_ms` names; see `seconds`."""
        self._time.count()
        return self._state.counters.counts

    def drain_changed_counts(self) -> list[tuple[tuple[str, tuple[str, ...]], int]]:
        """The counters that changed since the last call; at first all of them."""
        self._time.count()
        return self._state.counters.counts.drain()

    @property
    def seconds(self) -> dict[tuple[str, tuple[str, ...]], float]:
        """The time counters under the catalogue's names, in seconds."""
        self._time.count()
        return self._state.counters.seconds

    def gauges(self, now_ns: int) -> Iterator[tuple[str, tuple[str, ...], float]]:
        """Every gauge that has a value now; one that is not known is absent."""
        return gauges(self._state, self._performance, self._drift_pct, now_ns)

    def drain_observations(self) -> list[Observation]:
        """Histogram samples since the last call."""
        observations, self._state.observations = self._state.observations, []
        return observations

    @property
    def state(self) -> State:
        """Everything the engine knows, for exports, status and report. To look at only."""
        return self._state

    @property
    def known(self) -> State:
        """The same as `state`."""
        return self._state

    @property
    def view(self) -> View:
        """INIT | RUNNING | FROZEN | HELD | HALTED | SHUTDOWN."""
        return self._state.view

    @property
    def stop(self) -> Stop | None:
        """The stop that shows, the worst of those that hold."""
        principal = self._state.stops.principal
        return None if principal is None else principal.stop

    @property
    def stops(self) -> list[Stop]:
        """All that hold, in the order in which they were entered."""
        return [held.stop for held in self._state.stops.all]

    @property
    def epoch(self) -> int:
        """The highest epoch seen; 0 before the first grant."""
        return self._state.epoch

    def grant_age_s(self, now_ns: int) -> float | None:
        """Since the grant was last renewed; None without one."""
        grant = self._state.grant
        return None if grant is None or now_ns >= grant.expires_at_ns else (now_ns - grant.renewed_at_ns) / NS_PER_S

    def active_orders(self) -> dict[str, int]:
        """Symbol → own orders working, in flight or unknown."""
        return {symbol: self._state.orders.active(symbol) for symbol in self._state.parameters.symbols}

    def live_orders(self) -> list[OwnOrder]:
        """Own orders that may be at the venue. To look at only."""
        return list(self._state.orders.all_live())

    def positions(self) -> dict[str, dict[str, str | None]]:
        """Symbol → {"qty": base, signed; "notional_quote": at mid, signed, None without one}, decimals as text."""
        return positions(self._state)

    def pnl(self) -> Pnl:
        """All symbols together, quote."""
        return pnl_total(self._state)
