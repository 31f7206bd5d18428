"""What must hold after every step of a run, whatever happens. Violations are kept: the loop would survive a raise."""

from __future__ import annotations

from decimal import Decimal

from bot.domain.events import BookDelta, BookSnapshot, Event, Filled
from bot.domain.intent import AmendOrder, Intent, PlaceOrder
from bot.domain.order import Side
from bot.engine.engine import Engine
from bot.engine.parameters import OWN_PREFIX
from bot.simulation import START_NS, Outcome

SYMBOL = "BTCUSDT"


class Invariants:
    """A watch. `violations`: simulated second, event and what was wrong; the first few."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.violations: list[str] = []
        self.steps = self.quotes = self.amends = 0
        self._lots = 0
        self._executions: set[str] = set()

    def __call__(self, event: Event, intents: list[Intent], engine: Engine) -> None:
        self.steps += 1
        state = engine.known
        if isinstance(event, Filled) and event.execution_id not in self._executions:
            self._executions.add(event.execution_id)
            self._lots += event.side.sign * event.qty_lots
        held = state.ledger.accounts[SYMBOL].position_lots
        self._check(held == self._lots, event, f"position {held} lots, sum of fills {self._lots}")
        book = state.books[SYMBOL]
        if isinstance(event, BookDelta | BookSnapshot) and book.synced:
            self._check(book.usable, event, "the book is crossed or one-sided")
        for intent in intents:
            if isinstance(intent, PlaceOrder | AmendOrder):
                self._check_sent(intent, event, engine)

    def _check_sent(self, intent: PlaceOrder | AmendOrder, event: Event, engine: Engine) -> None:
        state = engine.known
        self.quotes += isinstance(intent, PlaceOrder)
        self.amends += isinstance(intent, AmendOrder)
        stopped = ",".join(stop.reason for stop in engine.stops)
        self._check(not stopped, event, f"{type(intent).__name__} while stopped by {stopped}")
        self._check(state.has_grant, event, f"{type(intent).__name__} without a grant")
        order = state.orders.get(intent.client_order_id)
        if order is None:
            self._check(False, event, f"{intent.client_order_id} was sent and is not in the table")
            return
        buys, sells = state.orders.exposed_lots(SYMBOL)
        held = state.ledger.accounts[SYMBOL].position_lots
        lots = held + buys if order.side is Side.BUY else sells - held
        instrument = state.instruments[SYMBOL]
        exposed_quote = instrument.tick_size * instrument.lot_size * lots * state.last_mid2[SYMBOL] / 2
        limit = state.inventory_max_quote
        self._check(exposed_quote <= limit, event, f"{order.side} exposure {exposed_quote} above {limit}")

    def _check(self, holds: bool, event: Event, what: str) -> None:
        if not holds and len(self.violations) < 5:
            self.violations.append(
                f"{self.name}: {(event.at_ns - START_NS) / 1e9:.3f} s, {type(event).__name__}: {what}"
            )

    def check_end(self, outcome: Outcome) -> None:
        """Raises AssertionError naming the run; also where nothing was looked at."""
        assert not self.violations, "\n".join(self.violations)
        assert self.steps > 100, f"{self.name}: only {self.steps} steps"
        left = [order.link_id for order in outcome.account.open_orders.values() if order.link_id.startswith(OWN_PREFIX)]
        assert not left, f"{self.name}: orphans {left}"
        assert outcome.exit_code == 0, f"{self.name}: exit code {outcome.exit_code}"
        told, true = self._lots, outcome.account.position.lots
        assert told == true, f"{self.name}: own position {told} lots, the venue's {true}"
        mark = outcome.venue.instrument.tick_size * outcome.venue.mark_half_ticks / 2
        state = outcome.engine.known
        own = state.ledger.pnl(SYMBOL, mark, state.instruments[SYMBOL]).net
        venue = outcome.venue_equity_quote - Decimal(100_000)
        assert abs(own - venue) < Decimal("0.000001"), f"{self.name}: own net {own}, the venue's {venue}"


def two_sided_share(outcome: Outcome) -> float:
    """The share of the time in which the bot might quote that it had both sides out."""
    counts = outcome.engine.counts
    may = counts[("mm_may_quote_ms_total", (SYMBOL,))]
    return counts[("mm_quoting_ms_total", (SYMBOL, "two"))] / may if may else 0.0
