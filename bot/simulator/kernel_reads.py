"""What the process around the engine reads of the account, in the kernel lane: the same questions at the same times."""

from __future__ import annotations

from collections.abc import Callable, Reversible
from decimal import Decimal
from typing import TYPE_CHECKING, final

from bot.domain import events as ev
from bot.runtime.own_orders import is_ours
from bot.runtime.sender import EXECUTIONS_KEPT, EXECUTIONS_OVERLAP_MS, identity_of
from bot.runtime.statement import FEES_EVERY_NS, WALLET_EVERY_NS, is_due
from bot.simulator import kernel_words as words
from bot.simulator.bybit_access import V5Error
from bot.simulator.funding import Funding
from bot.simulator.orders import Execution, Order
from bot.venues.bybit import calls

if TYPE_CHECKING:
    from bot.simulator.kernel import Kernel

_NS_PER_MS = 1_000_000


@final
class Newest:
    """Names, the newest so many of them."""

    def __init__(self, kept: int) -> None:
        self._kept = kept
        self._names: set[str] = set()
        self._ring: list[str] = []
        self._oldest = 0

    def __contains__(self, name: str) -> bool:
        return name in self._names

    def add(self, name: str) -> bool:
        """Whether it is new; then it is one of them, and the oldest is not any more."""
        names, ring = self._names, self._ring
        before = len(names)
        names.add(name)
        if len(names) == before:
            return False
        if len(ring) < self._kept:
            ring.append(name)
            return True
        names.discard(ring[self._oldest])
        ring[self._oldest] = name
        self._oldest = (self._oldest + 1) % self._kept
        return True


class KernelReads:
    """Probes and whole reads of one account; remembers which executions were told, and by whom."""

    def __init__(self, kernel: Kernel, *, reads_fees: bool) -> None:
        self._kernel = kernel
        self._reads_fees = reads_fees
        self._fees_read_ns: int | None = None
        self._wallet_asked_ns: int | None = None
        self._known = Newest(EXECUTIONS_KEPT)
        self._swept: dict[str, None] = {}
        self._since_ms: int | None = None

    def is_repeat(self, execution: ev.Filled | ev.FundingPaid) -> bool:
        """Whether it was told before, by stream or read, and the process would drop it."""
        if not self.known_execution(execution):
            return False
        return isinstance(execution, ev.FundingPaid) or not self.heard_after_sweep(execution)

    def known_execution(self, execution: ev.Filled | ev.FundingPaid) -> bool:
        """Whether this execution was told before; remembers it."""
        if not self._known.add(identity_of(execution)):
            return True
        self._since_ms = max(execution.venue_at_ns // _NS_PER_MS, self._since_ms or 0)
        return False

    def heard_after_sweep(self, fill: ev.Filled) -> bool:
        """Whether a read told this execution and the private stream tells it now, for the first time."""
        if fill.execution_id not in self._swept:
            return False
        del self._swept[fill.execution_id]
        return True

    def probe(self, client_order_id: str) -> None:
        kernel, asked_at_ns = self._kernel, self._kernel.now_ns

        def look() -> ev.VenueOrder | None:
            order = kernel.account.by_link.get(client_order_id)
            return None if order is None else words.venue_order(kernel.venue.instrument.symbol, order)

        def answered(order: ev.VenueOrder | V5Error | None) -> None:
            if isinstance(order, V5Error):
                self._failed("order", calls.OPEN_ORDERS, order)
            elif order is None:
                kernel.read(look, in_history, calls.ORDER_HISTORY)
            else:
                kernel.tell(ev.OrderUpdated(kernel.now_ns, order, asked_at_ns))

        def in_history(order: ev.VenueOrder | V5Error | None) -> None:
            if isinstance(order, V5Error):
                self._failed("order", calls.ORDER_HISTORY, order)
            else:
                kernel.tell(ev.OrderNotFound(kernel.now_ns, client_order_id, asked_at_ns))

        kernel.read(look, answered, calls.OPEN_ORDERS)

    def account(self) -> None:
        """Executions, then open orders, then the position; the first time only the venue's clock is asked."""
        kernel = self._kernel
        if self._since_ms is None:
            venue_ms = (kernel.now_ns + kernel.request_ns) // _NS_PER_MS
            kernel.clock_read(kernel.now_ns)
            kernel.at(kernel.now_ns + kernel.request_ns + kernel.answer_ns, self._clock_read, venue_ms)
            return
        since_ms, asked_at_ns = self._since_ms - EXECUTIONS_OVERLAP_MS, kernel.now_ns

        def act() -> list[Execution | Funding]:
            return _since(kernel.account.executions, since_ms) + _since(kernel.account.fundings, since_ms)

        def answered(answer: list[Execution | Funding] | V5Error) -> None:
            if isinstance(answer, V5Error):
                self._failed("executions", calls.EXECUTIONS, answer)
                self._read_open_orders()
            else:
                self._read_open_orders()  # asked before what the fills decide is sent, as the process's task goes on
                self._tell_swept(answer, asked_at_ns)

        kernel.read(act, answered, calls.EXECUTIONS)

    def _tell_swept(self, found: list[Execution | Funding], asked_at_ns: int) -> None:
        """Those that were not told before: the earliest millisecond first, and the newest first within one."""
        kernel, now_ns = self._kernel, self._kernel.now_ns
        instrument = kernel.venue.instrument
        unknown = [one for one in found if _identity(one) not in self._known]
        unknown.sort(key=_earlier_first)
        told = [words.execution(now_ns, instrument, one) for one in unknown]
        new = [one for one in told if isinstance(one, ev.Filled)]
        paid = [one for one in told if isinstance(one, ev.FundingPaid)]
        unheard: list[ev.Filled | ev.FundingPaid] = [*new, *paid]
        identities = tuple((fill.execution_id, fill.venue_at_ns) for fill in new)
        swept = ev.ExecutionsSwept(now_ns, instrument.symbol, asked_at_ns, identities)
        kernel.tell_all([swept, *(one for one in unheard if not self.is_repeat(one))])
        for fill in new:
            self._swept[fill.execution_id] = None
        while len(self._swept) > EXECUTIONS_KEPT:
            del self._swept[next(iter(self._swept))]

    def _clock_read(self, venue_ms: int) -> None:
        self._since_ms = venue_ms + EXECUTIONS_OVERLAP_MS
        self._read_open_orders()

    def _read_open_orders(self) -> None:
        kernel = self._kernel
        asked_at_ns, told, symbol = kernel.now_ns, kernel.strangers.told, kernel.venue.instrument.symbol

        def act() -> tuple[ev.VenueOrder, ...]:
            newest_first = reversed(kernel.account.open_orders.values())
            return tuple(words.venue_order(symbol, order) for order in newest_first)

        def answered(answer: tuple[ev.VenueOrder, ...] | V5Error) -> None:
            if isinstance(answer, V5Error):
                self._failed("open_orders", calls.OPEN_ORDERS, answer)
            else:
                kernel.strangers.read(symbol, answer, told)
                kernel.tell(ev.OpenOrdersRead(kernel.now_ns, symbol, asked_at_ns, answer))
            self._read_position()

        kernel.read(act, answered, calls.OPEN_ORDERS)

    def own_orders(self, answered: Callable[[list[Order] | V5Error], None]) -> None:
        """Our own that stand, newest first, for cancelling them one by one."""
        kernel, symbol = self._kernel, self._kernel.venue.instrument.symbol
        told = kernel.strangers.told

        def act() -> list[Order]:
            return list(reversed(kernel.account.open_orders.values()))

        def read(answer: list[Order] | V5Error) -> None:
            if isinstance(answer, V5Error):
                answered(answer)
                return
            kernel.strangers.read(symbol, (words.venue_order(symbol, order) for order in answer), told)
            answered([order for order in answer if is_ours(order.link_id)])

        kernel.read(act, read, calls.OPEN_ORDERS)

    def _read_position(self) -> None:
        kernel = self._kernel
        asked_at_ns = kernel.now_ns

        def answered(answer: tuple[int, Decimal] | V5Error) -> None:
            self._read_statement()  # asked before what the position decides is sent
            if isinstance(answer, V5Error):
                self._failed("position", calls.POSITIONS, answer)
            else:
                kernel.tell(ev.PositionRead(kernel.now_ns, kernel.venue.instrument.symbol, asked_at_ns, *answer))

        kernel.read(lambda: words.position(kernel.account), answered, calls.POSITIONS)

    def _read_statement(self) -> None:
        """Fees where somebody goes by them, then the wallet, each where it is due."""
        kernel = self._kernel
        if not self._reads_fees or not is_due(self._fees_read_ns, kernel.now_ns, FEES_EVERY_NS):
            self._read_wallet()
            return

        def answered(answer: tuple[Decimal, Decimal] | V5Error) -> None:
            self._read_wallet()
            if isinstance(answer, V5Error):
                self._failed("fees", calls.FEE_RATE, answer)
                return
            self._fees_read_ns = kernel.now_ns
            symbol = kernel.venue.instrument.symbol
            kernel.tell(ev.FeesRead(kernel.now_ns, symbol, *answer, f"api:bybit:{symbol}"))

        kernel.read(lambda: words.fees(kernel.venue), answered, calls.FEE_RATE)

    def _read_wallet(self) -> None:
        kernel = self._kernel
        if not is_due(self._wallet_asked_ns, kernel.now_ns, WALLET_EVERY_NS):
            return
        self._wallet_asked_ns = kernel.now_ns

        def answered(answer: tuple[Decimal, Decimal, Decimal] | V5Error) -> None:
            if isinstance(answer, V5Error):
                self._failed("wallet", calls.WALLET, answer)
            else:
                kernel.tell(ev.WalletRead(kernel.now_ns, *answer))

        kernel.read(lambda: words.wallet(kernel.venue, kernel.account), answered, calls.WALLET)

    def _failed(self, what: str, path: str, error: V5Error) -> None:
        kernel, symbol = self._kernel, self._kernel.venue.instrument.symbol
        detail = f"{path}: {error.code} {error.message}"
        kernel.tell(ev.ReadFailed(kernel.now_ns, what, symbol, detail))


def _since(kept: Reversible[Execution | Funding], since_ms: int) -> list[Execution | Funding]:
    """What happened from that millisecond on, newest first."""
    found: list[Execution | Funding] = []
    for one in reversed(kept):
        if one.at_ns // _NS_PER_MS < since_ms:
            break
        found.append(one)
    return found


def _identity(found: Execution | Funding) -> str:
    """As `identity_of` what is told of it."""
    return found.execution_id if isinstance(found, Execution) else f"funding {found.execution_id}"


def _earlier_first(found: Execution | Funding) -> tuple[int, int]:
    return found.at_ns // _NS_PER_MS, -found.sequence
