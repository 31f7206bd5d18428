"""Several symbols in the wire lane: one bot, one connection, and a simulated venue for each symbol behind it.

The simulated venue knows one instrument. Here one mount leads to several of them: requests go by the symbol that they
name, a subscription is split by its topics, and what the venues push comes out of one socket in the order of time.
Each venue has an account of its own under the bot's key: orders and positions are by symbol anyway, the wallet is not
shared.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections import Counter, deque
from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import Never

import msgspec

from bot.domain.instrument import Instrument
from bot.simulation import ACCOUNT, START_NS
from bot.simulator.link import Fate, Latency, Link, LinkSocket
from bot.simulator.market import Market
from bot.simulator.server import GENERATED
from bot.simulator.timeline import Timeline
from bot.simulator.venue import Venue
from bot.venues.transport import HttpAnswer, SocketClosed

_SYMBOL = re.compile(r'(?:^|[?&])symbol=(\w+)|"symbol":"(\w+)"')


def instruments(count: int) -> tuple[Instrument, ...]:
    """The generated instrument under as many names; the first keeps its own."""
    others = (msgspec.structs.replace(GENERATED, symbol=f"SYM{number}USDT") for number in range(2, count + 1))
    return (GENERATED, *others)


class SeveralLinks(Link):
    """The first venue's link, with the others behind it. `links`: symbol to the link that carries it."""

    def __init__(
        self,
        venue: Venue,
        timeline: Timeline,
        latency: Latency,
        fate: Fate,
        others: Mapping[str, Venue],
    ) -> None:
        super().__init__(venue, timeline, latency, fate)
        self.links: dict[str, Link] = {venue.instrument.symbol: self}
        for symbol, other in others.items():
            self.links[symbol] = Link(other, timeline, latency, fate)

    def start_market(self) -> None:
        super().start_market()
        for link in self._others():
            link.start_market()

    async def request(
        self, method: str, url: str, headers: Mapping[str, str], body: bytes, timeout_s: float
    ) -> HttpAnswer:
        found = _SYMBOL.search(body.decode() or url.partition("?")[2])
        link = self.links[found[1] or found[2]] if found else self
        if link is self:
            return await super().request(method, url, headers, body, timeout_s)
        return await link.request(method, url, headers, body, timeout_s)

    async def connect(self, url: str, timeout_s: float) -> LinkSocket:
        sockets = {next(iter(self.links)): await super().connect(url, timeout_s)}
        for symbol, link in self.links.items():
            if link is not self:
                sockets[symbol] = await link.connect(url, timeout_s)
        return SeveralSockets(self, sockets)

    def _others(self) -> list[Link]:
        return [link for link in self.links.values() if link is not self]

    async def close(self) -> None:
        await super().close()
        for link in self._others():
            await link.close()


class SeveralSockets(LinkSocket):
    """One socket to the bot, one to each venue. A request is answered once, however many venues answer it."""

    def __init__(self, link: Link, sockets: Mapping[str, LinkSocket]) -> None:
        first = next(iter(sockets.values()))
        super().__init__(link, first.kind)
        self._sockets = dict(sockets)
        self._owed: Counter[str] = Counter()
        self._came: deque[bytes | str] = deque()
        self._news = asyncio.Event()
        self._over = ""
        self._pumps = [asyncio.get_running_loop().create_task(self._pump(symbol)) for symbol in sockets]

    async def send(self, text: str) -> None:
        frame = json.loads(text)
        by_symbol: dict[str, list[str]] = {symbol: [] for symbol in self._sockets}
        for topic in frame.get("args", ()):
            symbol = str(topic).rpartition(".")[2]
            for name in [symbol] if symbol in by_symbol else list(by_symbol):
                by_symbol[name].append(topic)
        asked = [symbol for symbol, topics in by_symbol.items() if topics] or list(by_symbol)
        self._owed[asked[0]] += 1
        for symbol in asked:
            mine = {**frame, "args": by_symbol[symbol]} if "args" in frame else frame
            await self._sockets[symbol].send(json.dumps(mine))

    async def receive(self) -> str:
        while not self._came:
            if self._over:
                raise SocketClosed(self._over)
            self._news.clear()
            await self._news.wait()
        return str(self._came.popleft())

    async def hand_over(self, take: Callable[[bytes | str], None]) -> Never:
        """Gives every message from now on to `take`. Raises SocketClosed, and what `take` raises."""
        while True:
            take(await self.receive())

    async def close(self) -> None:
        for pump in self._pumps:
            pump.cancel()
        for socket in self._sockets.values():
            await socket.close()
        self._over = self._over or "closed"
        self._news.set()

    async def _pump(self, symbol: str) -> None:
        while True:
            try:
                text = await self._sockets[symbol].receive()
            except SocketClosed as closed:
                self._over = str(closed)
                self._news.set()
                return
            if '"topic"' not in text:
                if not self._owed[symbol]:
                    continue
                self._owed[symbol] -= 1
            self._came.append(text)
            self._news.set()


class Several:
    """The `link` of a scenario with several symbols. `venues`: all of the last run, by symbol."""

    def __init__(self, count: int, market: Callable[[int], Market], equity_quote: Decimal = Decimal(100_000)) -> None:
        self._instruments = instruments(count)
        self._market = market
        self._equity_quote = equity_quote
        self.venues: dict[str, Venue] = {}

    @property
    def symbols(self) -> tuple[str, ...]:
        return tuple(instrument.symbol for instrument in self._instruments)

    def __call__(self, venue: Venue, timeline: Timeline, latency: Latency, fate: Fate) -> Link:
        account = venue.accounts[ACCOUNT]
        self.venues = {venue.instrument.symbol: venue}
        for number, instrument in enumerate(self._instruments[1:], 2):
            other = Venue(instrument, self._market(number), seed=number, now_ns=START_NS, fees=venue.fees)
            other.open_account(account.api_key, account.api_secret, self._equity_quote, START_NS)
            self.venues[instrument.symbol] = other
        others = {symbol: other for symbol, other in self.venues.items() if other is not venue}
        return SeveralLinks(venue, timeline, latency, fate, others)
