"""The in-process mount: the venue's V5 face behind the adapter's `Transport`, in simulated time.

The same face, sessions and bytes as on loopback; what differs is the way between: a message takes as long as `Latency`
says, and the exchange's plan of faults is asked what else becomes of it. All faults of the way live in the mounts:
neither the adapter nor the venue knows of them. Nothing here encodes or decodes.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Final, Literal, NamedTuple, Never

import msgspec

from bot.domain.instrument import Category
from bot.simulator.bybit import V5, Request
from bot.simulator.bybit_sockets import PrivateSession, PublicSession, Session, TradeSession
from bot.simulator.bybit_streams import Streams
from bot.simulator.exchange import Exchange
from bot.simulator.fault_file import Due
from bot.simulator.faults import Pushes, Way
from bot.simulator.timeline import NS_PER_S, Timeline
from bot.simulator.turns import Queue, Queued, Timer, Turns
from bot.simulator.venue import Venue
from bot.venues.bybit.hosts import BybitHosts
from bot.venues.transport import HttpAnswer, NoAnswer, NotSent, SocketClosed

Kind = Literal["public", "private", "trade"]

HOSTS = BybitHosts("http://link", "ws://link/v5/public/linear", "ws://link/v5/private", "ws://link/v5/trade")
"""Addresses that lead to a link; no name of a machine."""

_REST_URL: Final = HOSTS.rest_url
SPOT_HOSTS = msgspec.structs.replace(HOSTS, ws_public_url="ws://link/v5/public/spot")

_KINDS: Mapping[str, tuple[Kind, Category]] = {
    "/v5/public/linear": ("public", "linear"),
    "/v5/public/spot": ("public", "spot"),
    "/v5/private": ("private", "linear"),
    "/v5/trade": ("trade", "linear"),
}
_WAYS: Mapping[Kind, Way] = {"public": "push", "private": "private", "trade": "answer"}
_Future: Final[Any] = asyncio.Future


class Latency(NamedTuple):
    """How long each way takes, nanoseconds. The odd digits keep different ways from ending at the same moment.

    `push_ns` above `answer_ns`: confirmations usually follow the answer to their request, as on the real venue.
    """

    connect_ns: int = 2_000_003
    request_ns: int = 4_000_037
    answer_ns: int = 3_000_019
    push_ns: int = 5_000_011


class Link:
    """A `Transport` to one exchange. The venue's clock is the timeline's."""

    def __init__(self, exchange: Exchange, timeline: Timeline, latency: Latency) -> None:
        self._exchange = exchange
        self._faults = exchange.faults
        self._timeline = timeline
        self._turns: Turns = timeline.turns
        self._latency = latency
        self._request_ns = latency.request_ns
        self._answer_ns = latency.answer_ns
        self._push_ns = latency.push_ns
        self._face = V5(exchange)
        self._streams = Streams(exchange)
        self._sockets: dict[LinkSocket, Session] = {}
        self._requests: dict[LinkSocket, Pushes] = {}
        self._patience: dict[float, Queue] = {}
        self._connections = 0
        self._flush_at_ns = 0

    # ---- the market -------------------------------------------------------------------------------------------------

    def start_market(self) -> None:
        """From now on the market of every symbol moves whenever it is due."""
        for venue in self._exchange.venues:
            self._turns.at(venue.next_at_ns(), _Moving(self, venue))

    def move_market(self, moving: _Moving) -> None:
        """The moment of one market: it moves, everybody is told, and its next moment is waited for."""
        now_ns, venue = self._turns.now_ns, moving.venue
        venue.advance(now_ns)
        self._streams.distribute(now_ns, venue)
        self._turns.at(venue.next_at_ns(), moving)
        self._await_flush()

    def _await_flush(self) -> None:
        """Books of great depth are told of their changes later than at once."""
        due_ns = self._streams.next_flush_ns()
        if due_ns is not None and due_ns != self._flush_at_ns:
            self._flush_at_ns = due_ns
            self._timeline.at_ns(max(due_ns, self._turns.now_ns), self._flush)

    def _flush(self) -> None:
        self._streams.flush(self._turns.now_ns)
        self._await_flush()

    def arm(self, kind: str, account: str, parameters: Mapping[str, object]) -> None:
        """A fault, here and now. Raises FaultRefused."""
        self._exchange.arm(kind, account, parameters, self._turns.now_ns)
        self._cut_as_armed()

    def befall(self, due: Due) -> None:
        """A fault of a plan, now that its time has come."""
        self._exchange.befall(due, self._turns.now_ns)
        self._cut_as_armed()

    def _cut_as_armed(self) -> None:
        for stream in self._faults.take_cuts():
            self.cut(stream)

    # ---- requests ---------------------------------------------------------------------------------------------------

    async def request(
        self, method: str, url: str, headers: Mapping[str, str], body: bytes, timeout_s: float
    ) -> HttpAnswer:
        return await self.begin(method, url, headers, body, timeout_s)

    def begin(
        self, method: str, url: str, headers: Mapping[str, str], body: bytes, timeout_s: float
    ) -> asyncio.Future[HttpAnswer]:
        """The request leaves now. See `bot.venues.transport.Beginning`."""
        turns, faults = self._turns, self._faults
        path, _, query = url.removeprefix(_REST_URL).partition("?")
        asked = Request(method, path, query, body, _lowered(headers))
        answered: asyncio.Future[HttpAnswer] = _Future(loop=self._timeline)
        late = Late(answered, timeout_s)
        now_ns = turns.now_ns
        extra_ns = faults.of("request", now_ns)
        if extra_ns is not None:
            at_ns = now_ns + self._request_ns + extra_ns + faults.latency_ns()
            if faults.doubles("request"):  # as a gateway that tries again: the second answer is the client's
                turns.at(at_ns, _Arriving(self, asked, Late(_Future(loop=self._timeline), timeout_s)))
            turns.at(at_ns, _Arriving(self, asked, late))
        patience = self._patience.get(timeout_s)
        if patience is None:
            patience = self._patience[timeout_s] = Queue()
        turns.queue(patience, now_ns + int(timeout_s * NS_PER_S), late)
        return answered

    def arrive(self, asked: Request, late: Late) -> None:
        """A request is at the venue: it is answered at once, and the answer is on its way."""
        now_ns = self._turns.now_ns
        answer = self._face.answer(asked, now_ns)
        self._streams.distribute(now_ns)
        extra_ns = None if answer.lost else self._faults.of("answer", now_ns)
        if extra_ns is not None:
            shown = HttpAnswer(answer.status, answer.lowered_headers(), answer.body)
            self._turns.at(now_ns + self._answer_ns + extra_ns, _Answering(late, shown))

    def _distribute(self) -> None:
        self._streams.distribute(self._turns.now_ns)

    # ---- sockets ----------------------------------------------------------------------------------------------------

    async def connect(self, url: str, timeout_s: float) -> LinkSocket:
        known = _KINDS.get(url.removeprefix("ws://link"))
        if known is None:
            raise NotSent(f"no socket at {url}")
        connected: asyncio.Future[None] = self._timeline.create_future()
        now_ns = self._turns.now_ns
        self._timeline.call_at_ns(now_ns + self._latency.connect_ns, connected.set_result, None)
        await connected
        if self._faults.is_down(self._turns.now_ns):
            raise NotSent("connection refused")
        self._connections += 1
        socket = LinkSocket(self, known[0])
        self._sockets[socket] = self._session(*known, socket, f"link-{self._connections}")
        return socket

    def _session(self, kind: Kind, category: Category, socket: LinkSocket, name: str) -> Session:
        send = Pushes(self._faults, _WAYS[kind], socket.push)
        if kind == "private":
            private = PrivateSession(name, send, self._face)
            self._streams.private[private] = None
            return private
        if kind == "trade":
            self._requests[socket] = Pushes(self._faults, "request", partial(self._carry_request, socket))
            return TradeSession(name, send, self._face, self._distribute)

        def is_topic(topic: str) -> bool:
            return self._streams.is_public_topic(category, topic)

        def subscribed(session: PublicSession, topic: str) -> None:
            self._streams.subscribed(category, session, topic, self._turns.now_ns)

        public = PublicSession(name, send, is_topic, subscribed)
        self._streams.open_public(category, public)
        return public

    def send(self, socket: LinkSocket, text: str) -> None:
        """Carry a client's message to its session; on the trade socket it is a request."""
        requests = self._requests.get(socket)
        if requests is None:
            self._carry(socket, text, 0)
        else:
            requests(text)

    def _carry_request(self, socket: LinkSocket, text: str) -> None:
        self._carry(socket, text, self._faults.of("request", self._turns.now_ns))

    def _carry(self, socket: LinkSocket, text: str, extra_ns: int | None) -> None:
        now_ns = self._turns.now_ns
        if extra_ns is not None:
            self._turns.at(now_ns + self._request_ns + extra_ns, _Hearing(self, socket, text))

    def hear(self, socket: LinkSocket, text: str) -> None:
        session = self._sockets.get(socket)
        if session is not None:
            session.receive(text, self._turns.now_ns)

    def push(self, socket: LinkSocket, text: str, not_before_ns: int) -> int:
        """Carry a session's message to its client; returns when it arrives. One connection keeps its order."""
        now_ns = self._turns.now_ns
        extra_ns = self._faults.of(socket.way, now_ns)
        if extra_ns is None:
            return not_before_ns
        way_ns = self._answer_ns if socket.kind == "trade" else self._push_ns  # all that is said there is an answer
        at_ns = max(not_before_ns, now_ns + way_ns + extra_ns)
        self._turns.at(at_ns, _Pushing(socket, text))
        return at_ns

    def cut(self, stream: str = "all") -> int:
        """End the open sockets of one kind (public, private, trade), or all; returns how many those were."""
        chosen = [socket for socket in self._sockets if stream in ("all", socket.kind)]
        for socket in chosen:
            self.forget(socket)
            socket.end("connection reset")
        return len(chosen)

    def forget(self, socket: LinkSocket) -> None:
        """The socket is closed: its session ends."""
        session = self._sockets.pop(socket, None)
        self._requests.pop(socket, None)
        if isinstance(session, PublicSession):
            self._streams.close_public(session)
        elif isinstance(session, PrivateSession):
            del self._streams.private[session]
            session.closed(self._turns.now_ns)
            self._await_disconnect_cancel()

    def _await_disconnect_cancel(self) -> None:
        due_ns = self._face.dcp.next_at_ns()
        if due_ns is not None:
            self._timeline.call_at_ns(due_ns, self._disconnect_cancel)

    def _disconnect_cancel(self) -> None:
        self._face.dcp.cancel_due(self._turns.now_ns)
        self._await_disconnect_cancel()  # of others, whose window ends later
        self._distribute()

    async def close(self) -> None:
        self.cut()


class LinkSocket:
    """One open connection as its client sees it."""

    def __init__(self, link: Link, kind: Kind) -> None:
        self.kind: Kind = kind
        self.way: Way = _WAYS[kind]
        self._link = link
        self._inbox: deque[str] = deque()
        self._waiting: asyncio.Future[None] | None = None
        self._ended = ""
        self._last_push_ns = 0
        self._take: Callable[[str], None] | None = None

    async def send(self, text: str) -> None:
        if self._ended:
            raise SocketClosed(self._ended)
        self._link.send(self, text)

    def takes(self) -> bool:
        return True

    def send_now(self, text: str) -> None:
        if self._ended:
            raise SocketClosed(self._ended)
        self._link.send(self, text)

    async def drained(self) -> None:
        if self._ended:
            raise SocketClosed(self._ended)

    async def receive(self) -> str:
        while not self._inbox:
            if self._ended:
                raise SocketClosed(self._ended)
            self._waiting = asyncio.get_running_loop().create_future()
            await self._waiting
        return self._inbox.popleft()

    async def hand_over(self, take: Callable[[bytes | str], None]) -> Never:
        """Messages go to `take` in the turn in which they arrive: no task is woken between."""
        while self._inbox:
            take(self._inbox.popleft())
        self._take = take
        try:
            while not self._ended:
                self._waiting = asyncio.get_running_loop().create_future()
                await self._waiting
        finally:
            self._take = None
        raise SocketClosed(self._ended)

    async def close(self) -> None:
        self._link.forget(self)
        self.end("closed")

    def push(self, text: str) -> None:
        """The venue sends."""
        self._last_push_ns = self._link.push(self, text, self._last_push_ns)

    def arrive(self, text: str) -> None:
        """What the venue sent is here. After the end it is lost."""
        if self._ended:
            return
        if self._take is None:
            self._inbox.append(text)
            self._wake()
            return
        try:
            self._take(text)
        except Exception as error:  # noqa: BLE001 - it belongs to whoever waits in `hand_over`
            self._take = None
            if self._waiting is not None and not self._waiting.done():
                self._waiting.set_exception(error)

    def end(self, reason: str) -> None:
        """Idempotent; whoever waits in `receive` is told."""
        if not self._ended:
            self._ended = reason
            self._inbox.clear()
            self._wake()

    def _wake(self) -> None:
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_result(None)


# ---- what timers wait for -------------------------------------------------------------------------------------------


class _Moving(Timer):
    """A market and its next moment; one for as long as it moves."""

    def __init__(self, link: Link, venue: Venue) -> None:
        self._link = link
        self.venue = venue

    def fire(self) -> None:
        self._link.move_market(self)


class _Arriving(Timer):
    """A request on its way to the venue."""

    def __init__(self, link: Link, asked: Request, late: Late) -> None:
        self._link = link
        self._asked = asked
        self._late = late

    def fire(self) -> None:
        self._link.arrive(self._asked, self._late)


class _Hearing(Timer):
    """A client's message on its way to the session."""

    def __init__(self, link: Link, socket: LinkSocket, text: str) -> None:
        self._link = link
        self._socket = socket
        self._text = text

    def fire(self) -> None:
        self._link.hear(self._socket, self._text)


class _Answering(Timer):
    """An answer on its way to its client, who may have given up."""

    def __init__(self, late: Late, answer: HttpAnswer) -> None:
        self._late = late
        self._answer = answer

    def fire(self) -> None:
        self._late.answer(self._answer)


class Late(Queued):
    """The end of a client's patience with one request, unless it is answered before."""

    def __init__(self, answered: asyncio.Future[HttpAnswer], timeout_s: float) -> None:
        self._answered = answered
        self._timeout_s = timeout_s

    def answer(self, answer: HttpAnswer) -> None:
        """Nothing is late any more."""
        self.is_cancelled = True
        if not self._answered.done():
            self._answered.set_result(answer)

    def fire(self) -> None:
        if not self._answered.done():
            self._answered.set_exception(NoAnswer(f"no answer in {self._timeout_s} s"))


class _Pushing(Timer):
    """A session's message on its way to its client."""

    def __init__(self, socket: LinkSocket, text: str) -> None:
        self._socket = socket
        self._text = text

    def fire(self) -> None:
        self._socket.arrive(self._text)


def _lowered(headers: Mapping[str, str]) -> dict[str, str]:
    """Names as both sides look for them."""
    lowered: dict[str, str] = {}
    given: dict[str, str] = headers if isinstance(headers, dict) else dict(headers)
    for name, value in given.items():
        known = _LOWER.get(name)
        if known is None:
            known = name.lower()
            if len(_LOWER) < NAMES_KEPT:
                _LOWER[name] = known
        lowered[known] = value
    return lowered


NAMES_KEPT: Final = 64
_LOWER: Final[dict[str, str]] = {}
"""Names of headers as clients write them, to the same in lower case."""
