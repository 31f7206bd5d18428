"""Getting ready: nothing is quoted until market, account and permission are all known.

After every start, and again after every reconnect of the private stream, open orders and position of each symbol are
read. At the start an own order that is found is a leftover: it is cancelled, and the account read again until none is
left. The position found at the start is taken over as it is, and again where it is another one before the first quote:
a leftover may fill meanwhile, and the fills of this process alone do not tell what was held before them.

A symbol whose filters could not be read is held by itself and holds up no other, unless an earlier process left a
position there that cannot be valued yet: it is asked for again and again, and quoted once its filters, its orders and
its position are there.
"""

from __future__ import annotations

from bot.domain.events import InstrumentsRead, OpenOrdersRead, OrderStatus, PositionRead
from bot.domain.instrument import Category, Instrument
from bot.domain.intent import ReadAccount
from bot.domain.order import OWN_PREFIX
from bot.engine.money import net_by_symbol
from bot.engine.parameters import NS_PER_MS, NS_PER_S
from bot.engine.reconciliation import adopt, cancel_orphan, same_position
from bot.engine.state import NEVER_NS, State

_RE_READ_NS = 500 * NS_PER_MS
_PATIENCE_NS = 2 * NS_PER_S
_HELD_RE_READ_NS = 5 * NS_PER_S
"""How often a symbol that is held by itself is asked for, beside a bot that quotes."""


class Recovery:
    """Which symbols' account state has been read since the private stream came up."""

    def __init__(self, state: State) -> None:
        self._state = state
        self._orders_read: dict[str, bool] = dict.fromkeys(state.parameters.symbols, False)
        self._position_read: dict[str, bool] = dict.fromkeys(state.parameters.symbols, False)
        self._ask_due_ns: dict[str, int] = {}
        self._leftovers: dict[str, int] = {}
        self.filters_read: set[str] = set()
        """symbols whose filters this process was told; those of an earlier one serve its book-keeping alone"""
        self.restored = False
        """True where an earlier process's journal was replayed: then positions are known and compared, not adopted"""

    def begin(self) -> None:
        """The private stream came up: what was read before may have changed."""
        for symbol in self._state.parameters.symbols:
            self._forget(symbol)
            self._ask(symbol)

    def _forget(self, symbol: str) -> None:
        self._orders_read[symbol] = self._position_read[symbol] = False
        self._state.unread.add(symbol)

    def filters(self, symbol: str) -> None:
        """Filters of that symbol were told. Before the first quote of all it is one of those that are waited for."""
        self.filters_read.add(symbol)
        state = self._state
        if not state.ready:
            state.held.discard(symbol)
        elif symbol in state.held and state.private_up_since_ns:
            self._forget(symbol)
            self._ask(symbol)

    def release(self, symbol: str) -> bool:
        """Whether that symbol was held until now, and nothing of it is missing any more."""
        state, held = self._state, self._state.held
        if not state.ready or symbol not in held or symbol not in self.filters_read:
            return False
        if not self.symbol_read(symbol) or not state.books[symbol].usable or symbol in state.blocked:
            return False
        if state.parameters.require_fee_resolution and symbol not in state.venue_fees:
            return False
        held.discard(symbol)
        return True

    def _ask(self, symbol: str) -> None:
        state = self._state
        self._ask_due_ns[symbol] = state.now_ns + (_HELD_RE_READ_NS if self._holds_up_none(symbol) else _PATIENCE_NS)
        state.emit(ReadAccount(state.now_ns, symbol))

    def symbol_read(self, symbol: str) -> bool:
        return self._orders_read[symbol] and self._position_read[symbol]

    def _holds_up_none(self, symbol: str) -> bool:
        return self._state.ready and symbol in self._state.held

    @property
    def account_read(self) -> bool:
        """Open orders and position were read after the private stream came up, of every symbol that is not held."""
        state = self._state
        if not state.private_up_since_ns:
            return False
        for symbol, orders_read in self._orders_read.items():
            if not (orders_read and self._position_read[symbol]) and symbol not in state.held:
                return False
        return True

    def tick(self) -> None:
        """Ask again where an answer is missing or a leftover has to be gone first."""
        if self._state.private_up_since_ns and (self._state.held or not self.account_read):
            for symbol, due_ns in self._ask_due_ns.items():
                if self._state.now_ns >= due_ns and not self.symbol_read(symbol):
                    self._ask(symbol)
        self._have_it_stated_again()

    @property
    def due_ns(self) -> int:
        """When the account is asked for its statement again, which does not come by itself; never where it does."""
        symbol = self._asked_for_a_statement()
        return NEVER_NS if symbol is None else self._ask_due_ns.get(symbol, 0)

    def _have_it_stated_again(self) -> None:
        symbol = self._asked_for_a_statement()
        if symbol is not None and self._state.now_ns >= self._ask_due_ns.get(symbol, 0):
            self._ask(symbol)

    def _asked_for_a_statement(self) -> str | None:
        """With whose account a statement that is missing is asked for; None where none is missing, or others ask.

        The first is, where it did not come with the account: who has a cap on leverage would wait for it for ever. And
        who waits long for permission waits with one that counts: before the first quote nobody else asks.
        """
        state = self._state
        if state.is_shadow or not state.private_up_since_ns:
            return None
        missing = self.account_read if state.wallet is None else not state.ready and state.statement is None
        return next((one for one in state.parameters.symbols if one not in state.held), None) if missing else None

    def failed(self, symbol: str) -> None:
        """A failed read says nothing; ask again soon."""
        if symbol in self._ask_due_ns and not self._holds_up_none(symbol):
            self._ask_due_ns[symbol] = min(self._ask_due_ns[symbol], self._state.now_ns + _RE_READ_NS)

    def orders_read(self, event: OpenOrdersRead) -> None:
        """Before the first quote: cancel leftovers. Later: reconciliation looks at what is in it."""
        state = self._state
        if not state.private_up_since_ns or event.asked_at_ns < state.private_up_since_ns:
            return
        leftovers = [
            order
            for order in event.orders
            if order.status is OrderStatus.WORKING and order.client_order_id.startswith(OWN_PREFIX)
        ]
        quoted = state.ready and event.symbol not in state.held
        if quoted or not leftovers:
            self._orders_read[event.symbol] = True
            return
        for order in leftovers:
            if state.now_ns - self._leftovers.get(order.client_order_id, -_PATIENCE_NS) >= _PATIENCE_NS:
                self._leftovers[order.client_order_id] = state.now_ns
                cancel_orphan(state, event.symbol, order.client_order_id, order.venue_order_id)
        self._ask_due_ns[event.symbol] = state.now_ns + _RE_READ_NS

    def position_read(self, event: PositionRead) -> None:
        state = self._state
        if not state.private_up_since_ns or event.asked_at_ns < state.private_up_since_ns:
            return
        instrument = state.instruments.get(event.symbol)
        if instrument is None:
            return
        account = state.ledger.accounts[event.symbol]
        known = self.restored and event.symbol in state.adopted_ns
        quoted = state.ready and event.symbol not in state.held
        if self._holds_up_none(event.symbol) and event.qty_lots and state.mark(event.symbol) is None:
            # taken over before it can be valued, it would blind the limits on losing under the others' quotes
            self._ask_due_ns[event.symbol] = state.now_ns + _PATIENCE_NS
            return
        if not quoted and not known:
            if account.fills and state.last_execution_ns[event.symbol] >= event.asked_at_ns:
                self._ask_due_ns[event.symbol] = state.now_ns + _RE_READ_NS  # nobody knows whether that fill is in it
                return
            if not self._position_read[event.symbol] or not same_position(account, event, instrument):
                adopt(state, event.symbol, event.qty_lots, event.entry_price, instrument, event.dust_base)
        if known and not quoted and not same_position(account, event, instrument):
            # executions of the meantime are swept with every read; what stays different is reconciliation's to count
            self._ask_due_ns[event.symbol] = state.now_ns + _RE_READ_NS
            return
        self._position_read[event.symbol] = True
        state.unread.discard(event.symbol)

    def ready(self) -> bool:
        """Everything that quoting needs is there, of every symbol whose filters are."""
        state = self._state
        known = [symbol for symbol in state.parameters.symbols if symbol not in state.held]
        return (
            bool(known)
            and self.account_read
            and bool(state.public_up_since_ns)
            and all(state.books[symbol].usable for symbol in known if symbol not in state.frozen)
            and any(state.books[symbol].usable for symbol in known)
            and net_by_symbol(state) is not None  # a held symbol's position that cannot be valued counts in no limit
            and state.has_grant
            and not state.orders.any_live()
            and self.fees_resolved
            and (state.statement is not None or (state.parameters.leverage_max is None and state.wallet is None))
        )

    @property
    def fees_resolved(self) -> bool:
        """The venue stated its fees for every symbol that is not held, or nobody asked that it should."""
        state = self._state
        needed = set(state.parameters.symbols) - state.held
        return not state.parameters.require_fee_resolution or needed <= state.venue_fees.keys()

    def report(self) -> None:
        """Tell the log what was found."""
        state = self._state
        positions = {symbol: account.position_lots for symbol, account in state.ledger.accounts.items()}
        state.note(
            "INFO",
            "recovery",
            leftovers=len(self._leftovers),
            positions=",".join(f"{symbol}={lots}" for symbol, lots in positions.items()),
        )
        self._leftovers.clear()


def instrument_of(event: InstrumentsRead) -> Instrument:
    """The event's filters. Raises ValueError for a category the engine does not know, or a step that is no step."""
    category: Category
    if event.category == "linear":
        category = "linear"
    elif event.category == "spot":
        category = "spot"
    else:
        raise ValueError(f"{event.symbol}: category {event.category} is not one of linear, spot")
    if event.tick_size <= 0 or event.lot_size <= 0:
        raise ValueError(f"{event.symbol}: tick size {event.tick_size} and lot size {event.lot_size} must be above 0")
    return Instrument(
        event.symbol,
        category,
        event.base,
        event.quote,
        event.tick_size,
        event.lot_size,
        event.qty_min,
        event.qty_max,
        event.notional_min_quote,
    )
