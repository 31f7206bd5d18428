"""Who is told what: the happenings and books of all symbols to the topics of Bybit V5's sockets. Pure."""

from __future__ import annotations

from bot.domain.instrument import Category
from bot.simulator import bybit_messages as messages
from bot.simulator.bybit_boards import Board
from bot.simulator.bybit_messages import Json
from bot.simulator.bybit_sockets import PrivateSession, PublicSession, encode
from bot.simulator.exchange import Exchange
from bot.simulator.orders import Executed, Happening, OrderChanged, PositionChanged, WalletChanged
from bot.simulator.venue import Venue


class Streams:
    """All open public and private sessions. While the exchange is stalled the public ones get nothing."""

    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange
        self._public: dict[Category, dict[PublicSession, None]] = {name: {} for name in exchange.categories}
        self._boards = {venue: Board(venue, self._public[venue.instrument.category]) for venue in exchange.venues}
        self._by_topic = {
            (venue.instrument.category, topic): board for venue, board in self._boards.items() for topic in board.topics
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
        if not self._exchange.faults.stalled:
            self._by_topic[category, topic].subscribed(session, topic, now_ns)

    def _restart(self) -> None:
        if self._restarts != self._exchange.faults.restarts:
            self._restarts = self._exchange.faults.restarts
            for board in self._boards.values():
                board.restart()

    # ---- news -------------------------------------------------------------------------------------------------------

    def distribute(self, now_ns: int, moved: Venue | None = None) -> None:
        """Send what happened since the last call: everywhere, or where the market `moved`, its book and ticker too."""
        if self._exchange.faults.stalled:
            self._was_stalled = True
        elif self._was_stalled:
            self._was_stalled = False
            for board in self._boards.values():
                board.resume(now_ns)
        if moved is not None:
            self._tell(moved, now_ns, market_moved=True)
            return
        for venue in self._exchange.venues:
            if venue.has_news:
                self._tell(venue, now_ns, market_moved=False)

    def next_flush_ns(self) -> int | None:
        """When books that changed before it was time to tell are to be told by `flush`; None: none waits."""
        dues = [due_ns for board in self._boards.values() if (due_ns := board.next_flush_ns()) is not None]
        return min(dues, default=None)

    def flush(self, now_ns: int) -> None:
        """Tell of books whose time has come. Nothing while the streams are stalled: then every book comes whole."""
        if not self._exchange.faults.stalled and not self._was_stalled:
            for board in self._boards.values():
                board.flush(now_ns)

    def _tell(self, venue: Venue, now_ns: int, *, market_moved: bool) -> None:
        happenings = venue.drain()
        if not self._was_stalled:
            board = self._boards[venue]
            board.trades(happenings, now_ns)
            if market_moved:
                board.moved(now_ns)
        if happenings:
            self._tell_accounts(venue, happenings, now_ns)

    def _tell_accounts(self, venue: Venue, happenings: list[Happening], now_ns: int) -> None:
        batch: list[Json] = []
        batch_of: tuple[str, str] | None = None
        after: dict[tuple[str, str], None] = {}
        instrument, mark = venue.instrument, messages.mark_price(venue)
        for happening in happenings:
            if isinstance(happening, OrderChanged):
                key, row = (happening.account, "order"), messages.pushed_order(instrument, happening.order)
            elif isinstance(happening, Executed):
                row = {"category": instrument.category, **messages.execution(instrument, happening.execution, mark)}
                key = (happening.account, "execution")
            else:
                if isinstance(happening, WalletChanged):
                    after[(happening.account, "wallet")] = None
                elif isinstance(happening, PositionChanged) and instrument.category != "spot":
                    after[(happening.account, "position")] = None
                continue
            if key != batch_of:
                self._to_account(venue, batch_of, batch, now_ns)
                batch, batch_of = [], key
            batch.append(row)
        self._to_account(venue, batch_of, batch, now_ns)
        for key in after:
            if self._listens(*key, instrument.category):
                self._to_account(venue, key, [self._state_row(venue, *key)], now_ns)

    def _listens(self, name: str, topic: str, category: Category) -> bool:
        holder = self._exchange.holders[name]
        for session in self.private:
            if session.holder is holder and (topic in session.topics or f"{topic}.{category}" in session.topics):
                return True
        return False

    def _state_row(self, venue: Venue, name: str, topic: str) -> Json:
        if topic == "wallet":
            return messages.wallet(self._exchange, self._exchange.holders[name])
        return {"category": "linear", **messages.position(venue, venue.accounts[name], entry_field="entryPrice")}

    def _to_account(self, venue: Venue, key: tuple[str, str] | None, rows: list[Json], now_ns: int) -> None:
        if key is None or not rows:
            return
        name, topic = key
        holder, instrument = self._exchange.holders[name], venue.instrument
        self._messages += 1
        for session in self.private:
            if session.holder is not holder:
                continue
            for subscribed in (topic, f"{topic}.{instrument.category}"):
                if subscribed in session.topics:
                    identity = f"{holder.uid}_{instrument.symbol}_{self._messages}"
                    head = {"id": identity, "topic": subscribed, "creationTime": now_ns // 1_000_000}
                    session.send(encode({**head, "data": rows}))
        if topic == "execution":
            fast = [messages.fast_execution(row) for row in rows if row["execType"] == "Trade"]
            self._to_account(venue, (name, "execution.fast"), fast, now_ns)
