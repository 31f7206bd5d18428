"""Who is told what: the happenings and books of all symbols to the topics of Bybit V5's sockets. Pure."""

from __future__ import annotations

from typing import Final

from bot.domain.instrument import Category
from bot.simulator import bybit_messages as messages
from bot.simulator.bybit_boards import Board
from bot.simulator.bybit_messages import Json
from bot.simulator.bybit_sockets import PrivateSession, PublicSession
from bot.simulator.bybit_written import PushedOrders, quoted, written_of
from bot.simulator.exchange import Exchange
from bot.simulator.orders import Executed, Execution, Happening, OrderChanged, PositionChanged, Printed, WalletChanged
from bot.simulator.venue import Venue

_TOPICS: Final = ("order", "execution", "execution.fast", "position", "wallet")


class _Place:
    """One symbol: its board, its words, and what its category calls the private topics."""

    def __init__(self, venue: Venue, sessions: dict[PublicSession, None]) -> None:
        self.venue = venue
        self.category: Category = venue.instrument.category
        self.written = written_of(venue.instrument)
        self.orders = PushedOrders(self.written)
        self.board = Board(venue, sessions, self.written)
        self.symbol_in_quotes = quoted(venue.instrument.symbol)[1:-1]
        self.own_topics = {topic: f"{topic}.{self.category}" for topic in _TOPICS}


class Streams:
    """All open public and private sessions. While the exchange is stalled the public ones get nothing."""

    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange
        self._faults = exchange.faults
        self._public: dict[Category, dict[PublicSession, None]] = {name: {} for name in exchange.categories}
        self._places = {venue: _Place(venue, self._public[venue.instrument.category]) for venue in exchange.venues}
        self._boards = [place.board for place in self._places.values()]
        self._by_topic: dict[tuple[str, str], Board] = {
            (place.category, topic): place.board for place in self._places.values() for topic in place.board.topics
        }
        self._was_stalled = False
        self._restarts = 0
        self._messages = 0
        self.private: dict[PrivateSession, None] = {}

    # ---- public sessions --------------------------------------------------------------------------------------------

    def is_public_topic(self, category: Category, topic: str) -> bool:
        return (category, topic) in self._by_topic

    def open_public(self, category: Category, session: PublicSession) -> None:
        self._public[category][session] = None

    def close_public(self, session: PublicSession) -> None:
        for sessions in self._public.values():
            sessions.pop(session, None)

    def subscribed(self, category: Category, session: PublicSession, topic: str, now_ns: int) -> None:
        """Start a topic for a session: books and tickers begin with a snapshot."""
        self._restart()
        if not self._faults.stalled:
            self._by_topic[category, topic].subscribed(session, topic, now_ns)

    def _restart(self) -> None:
        if self._restarts != self._faults.restarts:
            self._restarts = self._faults.restarts
            for board in self._boards:
                board.restart()

    # ---- news -------------------------------------------------------------------------------------------------------

    def distribute(self, now_ns: int, moved: Venue | None = None) -> None:
        """Send what happened since the last call: everywhere, or where the market `moved`, its book and ticker too."""
        if self._faults.stalled:
            self._was_stalled = True
        elif self._was_stalled:
            self._was_stalled = False
            for board in self._boards:
                board.resume(now_ns)
        if moved is not None:
            self._tell(moved, now_ns, market_moved=True)
            return
        for venue in self._exchange.venues:
            if venue.has_news:
                self._tell(venue, now_ns, market_moved=False)

    def next_flush_ns(self) -> int | None:
        """When books that changed before it was time to tell are to be told by `flush`; None: none waits."""
        first_ns: int | None = None
        for board in self._boards:
            due_ns = board.next_flush_ns()
            if due_ns is not None and (first_ns is None or due_ns < first_ns):
                first_ns = due_ns
        return first_ns

    def flush(self, now_ns: int) -> None:
        """Tell of books whose time has come. Nothing while the streams are stalled: then every book comes whole."""
        if not self._faults.stalled and not self._was_stalled:
            for board in self._boards:
                board.flush(now_ns)

    def _tell(self, venue: Venue, now_ns: int, *, market_moved: bool) -> None:
        happenings, place = venue.drain(), self._places[venue]
        if not self._was_stalled:
            if happenings:
                place.board.trades(happenings, now_ns)
            if market_moved:
                place.board.moved(now_ns)
        if happenings:
            self._tell_accounts(place, happenings, now_ns)

    def _tell_accounts(self, place: _Place, happenings: list[Happening], now_ns: int) -> None:
        """Orders and executions as they came, those of one kind and account in one message; then what is left of it."""
        name = topic = looked_at = ""
        rows: list[str] = []
        fast: list[str] = []
        after: dict[tuple[str, str], None] = {}
        venue = place.venue
        for happening in happenings:
            if type(happening) is Printed:
                continue
            if type(happening) is OrderChanged:
                if topic != "order" or name != happening.account:
                    self._told(place, name, topic, rows, fast, now_ns)
                    name, topic, rows, fast = happening.account, "order", [], []
                rows.append(place.orders.text(happening.order))
            elif type(happening) is Executed:
                if topic != "execution" or name != happening.account:
                    self._told(place, name, topic, rows, fast, now_ns)
                    name, topic, rows, fast = happening.account, "execution", [], []
                execution, mark_text = happening.execution, messages.text(messages.mark_price(venue))
                rows.append(place.written.execution(execution, mark_text, pushed=True))
                if isinstance(execution, Execution):
                    fast.append(place.written.fast_execution(execution))
            elif type(happening) is PositionChanged:
                if place.category == "spot" or happening.account == looked_at:  # said again after every operation
                    continue
                looked_at = happening.account
                if self._listens(place, looked_at, "position"):
                    after[looked_at, "position"] = None
            elif type(happening) is WalletChanged and self._listens(place, happening.account, "wallet"):
                after[happening.account, "wallet"] = None
        self._told(place, name, topic, rows, fast, now_ns)
        for whose, what in after:
            self._to_account(place, whose, what, [quoted(self._state_row(venue, whose, what))], now_ns)

    def _told(self, place: _Place, name: str, topic: str, rows: list[str], fast: list[str], now_ns: int) -> None:
        """One message's worth, and of fills their fast form after it."""
        if not rows:
            return
        self._to_account(place, name, topic, rows, now_ns)
        if fast:
            self._to_account(place, name, "execution.fast", fast, now_ns)

    def _listens(self, place: _Place, name: str, topic: str) -> bool:
        holder, own_topic = self._exchange.holders[name], place.own_topics[topic]
        for session in self.private:
            if session.holder is holder and (topic in session.topics or own_topic in session.topics):
                return True
        return False

    def _state_row(self, venue: Venue, name: str, topic: str) -> Json:
        if topic == "wallet":
            return messages.wallet(self._exchange, self._exchange.holders[name])
        return {"category": "linear", **messages.position(venue, venue.accounts[name], entry_field="entryPrice")}

    def _to_account(self, place: _Place, name: str, topic: str, rows: list[str], now_ns: int) -> None:
        """`rows` in JSON."""
        holder, own_topic = self._exchange.holders[name], place.own_topics[topic]
        self._messages += 1
        number, listed = self._messages, rows[0] if len(rows) == 1 else ",".join(rows)
        for session in self.private:
            if session.holder is not holder:
                continue
            topics = session.topics
            for name_of_it in [topic, own_topic]:
                if name_of_it in topics:
                    session.send(
                        f'{{"id":"{holder.uid}_{place.symbol_in_quotes}_{number}","topic":"{name_of_it}",'
                        f'"creationTime":{messages.ms(now_ns)},"data":[{listed}]}}'
                    )
