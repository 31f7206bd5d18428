"""Who is told what: the venue's happenings and book to the topics of Bybit V5's sockets. Pure."""

from __future__ import annotations

from collections.abc import Mapping

from bot.simulator import bybit_messages as messages
from bot.simulator import bybit_public as public
from bot.simulator.accounts import Account
from bot.simulator.bybit_messages import Json
from bot.simulator.bybit_sockets import PrivateSession, PublicSession, encode
from bot.simulator.depth import DepthView
from bot.simulator.orders import Executed, Happening, OrderChanged, PositionChanged, Printed, WalletChanged
from bot.simulator.venue import Venue

DEPTHS = (1, 50, 200, 1000)


class Streams:
    """All open public and private sessions. While the venue is stalled the public ones get nothing."""

    def __init__(self, venue: Venue) -> None:
        self._venue = venue
        symbol = venue.instrument.symbol
        self._views = {f"orderbook.{depth}.{symbol}": DepthView(depth) for depth in DEPTHS}
        self._trades_topic = f"publicTrade.{symbol}"
        self._ticker_topic = f"tickers.{symbol}"
        self._ticker: Json = {}
        self._was_stalled = False
        self._messages = 0
        self.public: dict[PublicSession, None] = {}
        self.private: dict[PrivateSession, None] = {}

    def is_public_topic(self, topic: str) -> bool:
        return topic in self._views or topic in (self._trades_topic, self._ticker_topic)

    def subscribed(self, session: PublicSession, topic: str, now_ns: int) -> None:
        """Start a topic for a session: books and tickers begin with a snapshot."""
        if self._venue.faults.stalled:
            return
        view = self._views.get(topic)
        if view is not None:
            if not any(topic in other.topics for other in self.public if other is not session):
                view.publish(self._venue.book)
            session.send(self._depth_text(view, snapshot=True, now_ns=now_ns))
        elif topic == self._ticker_topic:
            session.send(self._ticker_text("snapshot", public.ticker(self._venue, now_ns), now_ns))

    def distribute(self, now_ns: int, *, market_moved: bool) -> None:
        """Send everything that happened since the last call; the public book and ticker only with `market_moved`."""
        happenings = self._venue.drain()
        stalled = self._venue.faults.stalled
        if not stalled:
            if self._was_stalled:
                self._resume(now_ns)
            self._distribute_trades(happenings, now_ns)
            if market_moved:
                self._distribute_books(now_ns)
                self._distribute_ticker(now_ns)
        self._was_stalled = stalled
        if happenings:
            self._distribute_private(happenings, now_ns)

    # ---- public -------------------------------------------------------------------------------------------------

    def _to_topic(self, topic: str, text: str) -> None:
        for session in self.public:
            if topic in session.topics:
                session.send(text)

    def _wanted(self, topic: str) -> bool:
        return any(topic in session.topics for session in self.public)

    def _resume(self, now_ns: int) -> None:
        for topic, view in self._views.items():
            view.publish(self._venue.book)
            self._to_topic(topic, self._depth_text(view, snapshot=True, now_ns=now_ns))

    def _distribute_trades(self, happenings: list[Happening], now_ns: int) -> None:
        trades = [h.trade for h in happenings if isinstance(h, Printed)]
        if not trades or not self._wanted(self._trades_topic):
            return
        data = [public.public_trade(self._venue.instrument, trade) for trade in trades]
        text = encode({"topic": self._trades_topic, "type": "snapshot", "ts": now_ns // 1_000_000, "data": data})
        self._to_topic(self._trades_topic, text)

    def _distribute_books(self, now_ns: int) -> None:
        changes = self._venue.book.drain_changes()
        for topic, view in self._views.items():
            if self._wanted(topic):  # a view that nobody wants looks at the whole book when somebody does
                message = view.publish(self._venue.book, changes)
                if message is not None:
                    self._to_topic(topic, encode(public.depth(self._venue, message, view.depth, now_ns)))

    def _depth_text(self, view: DepthView, *, snapshot: bool, now_ns: int) -> str:
        return encode(public.depth(self._venue, view.snapshot(), view.depth, now_ns))

    def _distribute_ticker(self, now_ns: int) -> None:
        if not self._wanted(self._ticker_topic):
            return
        ticker = public.ticker(self._venue, now_ns)
        changed = {name: value for name, value in ticker.items() if self._ticker.get(name) != value}
        if changed:
            self._to_topic(
                self._ticker_topic,
                self._ticker_text("delta", {"symbol": self._venue.instrument.symbol, **changed}, now_ns),
            )
        self._ticker = ticker

    def _ticker_text(self, kind: str, data: Mapping[str, object], now_ns: int) -> str:
        stamp = {"cs": self._venue.sequence, "ts": now_ns // 1_000_000}
        return encode({"topic": self._ticker_topic, "type": kind, "data": data, **stamp})

    # ---- private ------------------------------------------------------------------------------------------------

    def _distribute_private(self, happenings: list[Happening], now_ns: int) -> None:
        batch: list[Json] = []
        batch_of: tuple[str, str] | None = None
        after: dict[tuple[str, str], None] = {}
        mark = messages.mark_price(self._venue)
        for happening in happenings:
            match happening:
                case OrderChanged(name, order):
                    key, row = (name, "order"), messages.order(self._venue.instrument, order)
                case Executed(name, execution):
                    key, row = (name, "execution"), messages.execution(self._venue.instrument, execution, mark)
                case PositionChanged(name):
                    after[(name, "position")] = None
                    continue
                case WalletChanged(name):
                    after[(name, "wallet")] = None
                    continue
                case _:
                    continue
            if key != batch_of:
                self._to_account(batch_of, batch, now_ns)
                batch, batch_of = [], key
            batch.append({"category": "linear", **row})
        self._to_account(batch_of, batch, now_ns)
        for key in after:
            account = self._venue.accounts[key[0]]
            if self._listens(account, key[1]):
                self._to_account(key, [self._state_row(account, key[1])], now_ns)

    def _listens(self, account: Account, topic: str) -> bool:
        for session in self.private:
            if session.account is account and (topic in session.topics or f"{topic}.linear" in session.topics):
                return True
        return False

    def _state_row(self, account: Account, topic: str) -> Json:
        if topic == "wallet":
            return messages.wallet(self._venue, account)
        return {"category": "linear", **messages.position(self._venue, account, entry_field="entryPrice")}

    def _to_account(self, key: tuple[str, str] | None, rows: list[Json], now_ns: int) -> None:
        if key is None or not rows:
            return
        name, topic = key
        account = self._venue.accounts[name]
        self._messages += 1
        for session in self.private:
            if session.account is not account:
                continue
            for subscribed in (topic, f"{topic}.linear"):
                if subscribed in session.topics:
                    identity = f"{account.uid}_{self._venue.instrument.symbol}_{self._messages}"
                    head = {"id": identity, "topic": subscribed, "creationTime": now_ns // 1_000_000}
                    session.send(encode({**head, "data": rows}))
        if topic == "execution":
            self._to_account(
                (name, "execution.fast"),
                [messages.fast_execution(row) for row in rows if row["execType"] == "Trade"],
                now_ns,
            )
