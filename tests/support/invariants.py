"""What must hold after every step of a run, whatever happens. Violations are kept: the loop would survive a raise."""

from __future__ import annotations

from decimal import Decimal

from bot.domain.events import BookDelta, BookSnapshot, Event, Filled
from bot.domain.intent import AmendOrder, Intent, PlaceOrder
from bot.domain.order import OWN_PREFIX, Side
from bot.engine.engine import Engine
from bot.simulation import ACCOUNT, START_NS, Outcome


class Invariants:
    """A watch. `violations`: simulated second, event and what was wrong; the first few."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.violations: list[str] = []
        self.steps = self.quotes = self.amends = 0
        self._lots: dict[str, int] = {}
        self._executions: set[str] = set()

    def __call__(self, event: Event, intents: list[Intent], engine: Engine) -> None:
        self.steps += 1
        state = engine.known
        if isinstance(event, Filled) and event.execution_id not in self._executions:
            self._executions.add(event.execution_id)
            self._lots[event.symbol] = self._lots.get(event.symbol, 0) + event.side.sign * event.qty_lots
        for symbol, account in state.ledger.accounts.items():
            held, told = account.position_lots, self._lots.get(symbol, 0)
            self._check(held == told, event, f"{symbol}: position {held} lots, sum of fills {told}")
        if isinstance(event, BookDelta | BookSnapshot) and state.books[event.symbol].synced:
            self._check(state.books[event.symbol].usable, event, "the book is crossed or one-sided")
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
        symbol = order.symbol
        buys, sells = state.orders.exposed_lots(symbol)
        held = state.ledger.accounts[symbol].position_lots
        lots = held + buys if order.side is Side.BUY else sells - held
        instrument = state.instruments[symbol]
        exposed_quote = instrument.tick_size * instrument.lot_size * lots * state.last_mid2[symbol] / 2
        limit = state.inventory_max_quote
        self._check(exposed_quote <= limit, event, f"{symbol}: {order.side} exposure {exposed_quote} above {limit}")

    def _check(self, holds: bool, event: Event, what: str) -> None:
        if not holds and len(self.violations) < 5:
            self.violations.append(
                f"{self.name}: {(event.at_ns - START_NS) / 1e9:.3f} s, {type(event).__name__}: {what}"
            )

    def check_end(self, outcome: Outcome) -> None:
        """Raises AssertionError naming the run; also where nothing was looked at."""
        assert not self.violations, "\n".join(self.violations)
        assert self.steps > 100, f"{self.name}: only {self.steps} steps"
        assert outcome.exit_code == 0, f"{self.name}: exit code {outcome.exit_code}"
        state, own = outcome.engine.known, Decimal(0)
        for venue, account in outcome.exchange.accounts(outcome.holder):
            symbol = venue.instrument.symbol
            left = [order.link_id for order in account.open_orders.values() if order.link_id.startswith(OWN_PREFIX)]
            assert not left, f"{self.name}: {symbol}: orphans {left}"
            altered = _altered_lots(outcome, symbol)
            told, true = self._lots.get(symbol, 0), account.position.lots - altered
            assert told == true, f"{self.name}: {symbol}: own position {told} lots, the venue's {true} of own fills"
            own += state.ledger.pnl(symbol, account.mark_price(), state.instruments[symbol]).net
        if any(fault.kind in MONEY_FAULTS for fault in outcome.exchange.faults.of_account(ACCOUNT)):
            return
        net = outcome.venue_equity_quote - Decimal(100_000)
        assert abs(own - net) < Decimal("0.000001"), f"{self.name}: own net {own}, the venue's {net}"


MONEY_FAULTS = ("position_altered", "insolvent")
"""Money that came or went by no execution: the venue's equity is then no longer what was traded."""


def _altered_lots(outcome: Outcome, symbol: str) -> int:
    """What came to the position by no execution; faults that name no symbol happen at the first."""
    first = outcome.venue.instrument.symbol
    found = outcome.exchange.faults.of_kind("position_altered")
    return sum(int(fault.number("lots")) for fault in found if (fault.symbol or first) == symbol)


def two_sided_share(outcome: Outcome) -> float:
    """The share of the time in which the bot might quote that it had both sides out."""
    counts, symbol = outcome.engine.counts, outcome.venue.instrument.symbol
    may = counts[("mm_may_quote_ms_total", (symbol,))]
    return counts[("mm_quoting_ms_total", (symbol, "two"))] / may if may else 0.0
