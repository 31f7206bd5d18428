"""One account for processes that are not the bot: kill switch, guard proofs, preflight, drills. Synchronous, by httpx.

Its own session over its own connections, so that it works while the bot hangs. Every call raises a VenueError where
it did not succeed; nothing is ever empty, flat or cancelled because a call failed.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from decimal import Decimal
from types import TracebackType
from typing import Final, Self, TypeVar

import httpx
import msgspec

from bot.domain.events import Filled, FundingPaid
from bot.domain.instrument import Category, Instrument
from bot.domain.order import Side
from bot.venues.bybit import calls, decode, wire
from bot.venues.bybit.account_orders import AccountOrder, OpenOrders, account_order
from bot.venues.bybit.account_positions import HeldPositions
from bot.venues.bybit.calls import Call
from bot.venues.bybit.codes import KEY_CODES, Meaning, meaning, refusal_error
from bot.venues.bybit.hosts import BybitHosts
from bot.venues.bybit.signing import rest_headers
from bot.venues.bybit.timed_transport import TimedTransport
from bot.venues.port import (
    FeeRates,
    ImmediateOrder,
    Position,
    TopOfBook,
    VenueClockSkew,
    VenueError,
    VenueGarbled,
    VenueRefused,
    VenueUnknown,
    VenueUnreachable,
)

T = TypeVar("T")

TIMEOUT_S: Final = 3.0
"""For each wait of a call: a connection, a byte."""

CALL_S_MAX: Final = 5.0
"""For a call as a whole, however many waits it has: one that drips is no answer."""

ANSWER_BYTES_MAX: Final = 8 * 2**20
"""Of one answer's body, unpacked; the longest that the venue has is far below it."""


class AccountClient:
    """Reads and mutations of one account. `wall_ms`: wall clock in ms; the venue's offset is read at first use.

    `renew_key`: asked for the key of now where the venue refuses the one in use; never raises.
    """

    def __init__(
        self,
        hosts: BybitHosts,
        api_key: str,
        api_secret: str,
        *,
        category: Category = "linear",
        recv_window_ms: int = 5000,
        timeout_s: float = TIMEOUT_S,
        call_s_max: float = CALL_S_MAX,
        wall_ms: Callable[[], int] = lambda: time.time_ns() // decode.NS_PER_MS,
        http_transport: httpx.BaseTransport | None = None,
        renew_key: Callable[[], tuple[str, str]] | None = None,
    ) -> None:
        self._renew_key = renew_key
        self._api_key = api_key
        self._api_secret = api_secret
        self._category: Category = category
        self._recv_window_ms = recv_window_ms
        self._wall_ms = wall_ms
        self._clock_offset_ms: int | None = None
        self._instruments: dict[str, Instrument] = {}
        self._rest_url = hosts.rest_url
        self._bound = _Bound()
        self._http = httpx.Client(
            timeout=timeout_s,
            trust_env=False,
            follow_redirects=False,
            transport=TimedTransport(call_s_max) if http_transport is None else http_transport,
            headers={"Content-Type": "application/json"},
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @contextmanager
    def within(self, left_s: Callable[[], float]) -> Iterator[None]:
        """While this lasts, a call of this thread ends when those seconds are over, and none begins after that:
        VenueUnreachable says so."""
        before, self._bound.left_s = self._bound.left_s, left_s
        try:
            yield
        finally:
            self._bound.left_s = before

    def close(self) -> None:
        """Closes the connections."""
        self._http.close()

    # ---- market -----------------------------------------------------------------------------------------------------

    def server_time_ms(self) -> int:
        """The venue's clock; keeps the offset for signing."""
        sent_ms = self._wall_ms()
        answer = self._read_once(calls.server_time(), wire.ServerTime)
        venue_ms = decode.whole(answer.time_nano, "timeNano") // decode.NS_PER_MS
        self._clock_offset_ms = venue_ms - (sent_ms + self._wall_ms()) // 2
        return venue_ms

    @property
    def clock_offset_ms(self) -> int | None:
        """The venue's clock minus ours; None before the first reading."""
        return self._clock_offset_ms

    def instrument(self, symbol: str) -> Instrument:
        """The filters of one symbol, read once. VenueRefused names a symbol that is not listed or does not trade."""
        if symbol not in self._instruments:
            page = self._read(calls.instruments(self._category, symbol), wire.InstrumentPage)
            self._instruments[symbol] = decode.listed_instrument(page, symbol, self._category)
        return self._instruments[symbol]

    def top_of_book(self, symbol: str) -> TopOfBook:
        """Best bid and ask now."""
        return decode.top_of_book(self._read(calls.orderbook(self._category, symbol), wire.BookRows))

    # ---- reads of the account ---------------------------------------------------------------------------------------

    def open_orders(self, symbols: Sequence[str]) -> list[AccountOrder]:
        """All working orders of these symbols, whoever sent them, over all pages. A status nobody knows is working.

        No symbols: those of the whole account, in this category. Raises OrdersNotWhole, with what could be read, where
        something was and something was not.
        """
        found = OpenOrders()
        for symbol, coin in self._scopes(symbols):
            try:
                for row in self._open_rows(symbol, coin):
                    found.take(row, symbol)
            except VenueGarbled as error:  # it answers: the next question may go better
                found.fail(error)
            except VenueError as error:
                found.fail(error)
                break
        return found.whole()

    def recent_orders(self, symbols: Sequence[str]) -> list[AccountOrder]:
        """The newest orders of each symbol, whoever sent them, ended ones included; at most a page each.

        No symbols: those of the whole account, in this category.
        """
        scopes = self._scopes(symbols)
        pages = (self._read(calls.recent_orders(self._category, *scope), wire.OrderPage) for scope in scopes)
        rows = (row for page in pages for row in page.rows)
        return [account_order(row) for row in rows if not symbols or row.symbol in symbols]

    def order(self, symbol: str, client_order_id: str) -> AccountOrder | None:
        """One order of ours, working, ended or of long ago. None: the venue shows none by that id."""
        for call in (calls.order_now, calls.order_before):
            page = self._read(call(self._category, symbol, client_order_id), wire.OrderPage)
            for row in page.rows:
                if (row.symbol, row.order_link_id) == (symbol, client_order_id):
                    return account_order(row)
        return None

    def _scopes(self, symbols: Sequence[str]) -> list[tuple[str, str]]:
        """(symbol, settle coin) of every question that is to be asked, one of each pair empty."""
        if symbols:
            return [(symbol, "") for symbol in symbols]
        return [("", coin) for coin in calls.SETTLE_COINS[self._category]]

    def positions(self, symbols: Sequence[str]) -> list[Position]:
        """One position for each symbol, flat ones included (quantity 0). No symbols: all that are held.

        Raises PositionsNotWhole, with what could be read, where something was and something was not.
        """
        found = HeldPositions()
        for symbol, coin in self._scopes(symbols):
            try:
                for row in self._position_rows(symbol, coin):
                    found.take(row, symbol)
                if symbol:
                    found.ask(symbol)
            except VenueGarbled as error:  # it answers: the next question may go better
                found.fail(error)
            except VenueError as error:
                found.fail(error)
                break
        return found.whole()

    def executions(self, symbol: str, since_ms: int) -> list[Filled]:
        """Fills since then, oldest first, over all pages."""
        return [one for one in self.accounted(symbol, since_ms) if isinstance(one, Filled)]

    def accounted(self, symbol: str, since_ms: int) -> list[Filled | FundingPaid]:
        """Fills and fundings since then, oldest first, over all pages: what moves the account's money."""
        instrument = self.instrument(symbol)
        until_ms = self._venue_now_ms() + 1000
        found: list[Filled | FundingPaid] = []
        for start_ms, end_ms in calls.execution_windows(since_ms, until_ms):
            for row in self._execution_rows(symbol, start_ms, end_ms):
                event = decode.execution(row, instrument, self._wall_ms() * decode.NS_PER_MS)
                if event is not None:
                    found.append(event)
        return sorted(found, key=lambda event: event.venue_at_ns)

    def wallet_equity_quote(self, coin: str = "USDT") -> Decimal:
        """Equity of the quote coin, in it."""
        return decode.coin_equity_quote(self._read(calls.wallet(coin), wire.WalletList), coin)

    def key_information(self) -> wire.KeyInformation:
        """What this key may do, where it is bound to, when it ends."""
        return self._read(calls.key_information(), wire.KeyInformation)

    def account_information(self) -> wire.AccountInformation:
        """How the account is set up: margin mode, unified or not."""
        return self._read(calls.account_information(), wire.AccountInformation)

    def fee_rates(self, symbols: Sequence[str]) -> dict[str, FeeRates]:
        """The account's tier for these symbols, by one call: the venue takes few of them in a second."""
        page = self._read(calls.fee_rate(self._category, ""), wire.FeeRatePage)
        return {symbol: decode.fee_rates(page, symbol) for symbol in symbols}

    def is_one_way(self, symbol: str) -> bool:
        """Whether the symbol has one position, not one for each direction. Raises VenueGarbled for no row at all."""
        rows = self._read(calls.position(self._category, symbol), wire.PositionPage).rows
        own = [row for row in rows if row.symbol == symbol]
        if not own:
            raise VenueGarbled(f"{calls.POSITIONS}: no row for {symbol}")
        return len(own) == 1 and not own[0].position_idx

    # ---- mutations --------------------------------------------------------------------------------------------------

    def cancel_all(self, symbol: str) -> int:
        """Cancels every order of that symbol, whoever sent it. How many the venue says it cancelled."""
        envelope = self._mutate(calls.cancel_all(self._category, symbol))
        return len(wire.decode(wire.CancelAllAck, envelope.result, calls.CANCEL_ALL).rows)

    def cancel_everything(self) -> int:
        """Cancels every order of the account in this category, whoever sent it. How many the venue says it cancelled.

        Raises what the last that failed raised, after all were tried.
        """
        cancelled, failed = 0, None
        for coin in calls.SETTLE_COINS[self._category]:
            try:
                envelope = self._mutate(calls.cancel_everything(self._category, coin))
                cancelled += len(wire.decode(wire.CancelAllAck, envelope.result, calls.CANCEL_ALL).rows)
            except VenueError as error:
                failed = error
        if failed is not None:
            raise failed
        return cancelled

    def cancel(self, order: AccountOrder) -> bool:
        """Cancels one order. False: it had already ended."""
        return self._cancel(calls.cancel(self._category, order.symbol, venue_order_id=order.venue_order_id))

    def cancel_own(self, symbol: str, client_order_id: str) -> bool:
        """Cancels one order of ours by its own id, unseen. False: it had already ended, or never was."""
        return self._cancel(calls.cancel(self._category, symbol, client_order_id=client_order_id))

    def _cancel(self, call: Call) -> bool:
        try:
            self._mutate(call)
        except VenueRefused as error:
            if meaning(error.code) is Meaning.GONE:
                return False
            raise
        return True

    def place_immediate(self, order: ImmediateOrder) -> str:
        """Reduce-only immediate-or-cancel. The venue's order id."""
        return self._create(calls.create_immediate(self._category, order))

    def place_post_only(self, symbol: str, side: Side, qty: Decimal, price: Decimal, client_order_id: str) -> str:
        """A post-only limit order, for drills and tests. The venue's order id."""
        return self._create(
            calls.create_post_only(self._category, symbol, side, qty, price, client_order_id, reduce_only=False)
        )

    def _create(self, call: Call) -> str:
        envelope = self._mutate(call)
        return wire.decode(wire.OrderAck, envelope.result, call.path).order_id

    # ---- sending ----------------------------------------------------------------------------------------------------

    def _open_rows(self, symbol: str, coin: str) -> Iterator[msgspec.Raw]:
        seen: set[str] = set()
        cursor = ""
        while True:
            page = self._read(calls.open_orders(self._category, symbol, cursor, coin), wire.OrderPageRaw)
            yield from page.rows
            cursor = wire.next_cursor(page.next_page_cursor, seen, calls.OPEN_ORDERS) if page.rows else ""
            if not cursor:
                return

    def _position_rows(self, symbol: str, coin: str) -> Iterator[msgspec.Raw]:
        if symbol:
            yield from self._read(calls.position(self._category, symbol), wire.PositionPageRaw).rows
            return
        seen: set[str] = set()
        cursor = ""
        while True:
            page = self._read(calls.positions_held(self._category, coin, cursor), wire.PositionPageRaw)
            yield from page.rows
            cursor = wire.next_cursor(page.next_page_cursor, seen, calls.POSITIONS) if page.rows else ""
            if not cursor:
                return

    def _execution_rows(self, symbol: str, start_ms: int, end_ms: int) -> Iterator[wire.ExecutionRow]:
        seen: set[str] = set()
        cursor = ""
        while True:
            call = calls.executions(self._category, symbol, start_ms, end_ms, cursor)
            page = self._read(call, wire.ExecutionPage)
            yield from (row for row in page.rows if row.symbol == symbol)
            cursor = wire.next_cursor(page.next_page_cursor, seen, calls.EXECUTIONS) if page.rows else ""
            if not cursor:
                return

    def _read(self, call: Call, kind: type[T]) -> T:
        try:
            return self._read_once(call, kind)
        except VenueClockSkew:
            self.server_time_ms()
            return self._read_once(call, kind)

    def _read_once(self, call: Call, kind: type[T]) -> T:
        return wire.decode(kind, self._send(call).result, call.path)

    def _mutate(self, call: Call) -> wire.Envelope:
        """Sent once. After a refused timestamp the clock is resynchronised and the error raised all the same."""
        try:
            return self._send(call)
        except VenueClockSkew:
            self._clock_offset_ms = None
            raise

    def _send(self, call: Call) -> wire.Envelope:
        """A request whose key was refused did not happen: with another key it is sent once more."""
        try:
            return self._send_once(call)
        except VenueRefused as error:
            if error.code not in KEY_CODES or self._renew_key is None:
                raise
            used = (self._api_key, self._api_secret)
            self._api_key, self._api_secret = self._renew_key()
            if (self._api_key, self._api_secret) == used:
                raise
            return self._send_once(call)

    def _send_once(self, call: Call) -> wire.Envelope:
        headers: dict[str, str] = {}
        if call.signed:
            headers = rest_headers(
                self._api_key, self._api_secret, self._venue_now_ms(), self._recv_window_ms, call.payload
            )
        left_s = self._bound.left_s()
        if left_s <= 0:
            raise VenueUnreachable(f"{call.path}: no time is left for it")
        content = call.body or None
        try:
            with self._http.stream(
                call.method, self._rest_url + call.target, headers=headers, content=content,
                extensions={"left_s": left_s},
            ) as answer:  # fmt: skip
                body = _whole(answer, call.path)
        except (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout, httpx.UnsupportedProtocol) as error:
            raise VenueUnreachable(f"{call.path}: {type(error).__name__}: {error}") from None
        except httpx.HTTPError as error:
            raise VenueUnknown(f"{call.path}: {type(error).__name__}: {error}") from None
        envelope = wire.envelope(answer.status_code, body, call.path)
        if envelope.ret_code:
            raise refusal_error(envelope.ret_code, envelope.ret_msg, call.path)
        return envelope

    def _venue_now_ms(self) -> int:
        if self._clock_offset_ms is None:
            self.server_time_ms()
        return self._wall_ms() + (self._clock_offset_ms or 0)


class _Bound(threading.local):
    """How many seconds the calls of this thread have left; endless where nobody has said."""

    def __init__(self) -> None:
        self.left_s: Callable[[], float] = lambda: math.inf


def _whole(answer: httpx.Response, where: str) -> bytes:
    """The body of an answer. Raises VenueUnknown where it has more than ANSWER_BYTES_MAX bytes."""
    body = bytearray()
    for part in answer.iter_bytes():
        body += part
        if len(body) > ANSWER_BYTES_MAX:
            raise VenueUnknown(f"{where}: the answer has more than {ANSWER_BYTES_MAX} bytes")
    return bytes(body)
