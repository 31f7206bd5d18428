"""The laws of order entry over a venue at which anything may go wrong at any time, in simulated time and under seeds.

Everybody is told once, never inside `begin`; what was told as not happened never was there, and as taken only what the
venue took; nothing leaves twice, late, without its grant or ahead of what waits; each turn that was taken is accounted
for once; nothing is kept. Answers that are read by their shape end in the same, order by order, as those decoded.
"""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Callable, Mapping
from random import Random
from typing import Any, Final, Never

import pytest

from bot.domain.order import Side
from bot.simulator.listings import GENERATED
from bot.simulator.timeline import Timeline
from bot.venues.bybit import calls, trade_stream
from bot.venues.bybit.calls import Call
from bot.venues.bybit.order_entry import OrderEntry
from bot.venues.bybit.rate_limits import RateLimits
from bot.venues.bybit.rest import BybitRest
from bot.venues.bybit.trade_stream import TradeStream
from bot.venues.bybit.trade_text import Acknowledged, AnswerText
from bot.venues.port import Accepted, Ended, Unknown, Unreachable
from bot.venues.transport import HttpAnswer, NoAnswer, NotSent, SocketClosed

START_NS = 1_767_225_600_000_000_000
TIMEOUT_S = 2.0
BATCH_MAX = 4
SEEDS: Final = 160
EMPTY: Final = b"{}"


class Counted(RateLimits):
    """Path → how many were taken and are not accounted for."""

    def __init__(self) -> None:
        super().__init__()
        self.due: Counter[str] = Counter()
        self._inside = False

    def take(self, path: str, wanted: int, now_ms: int, *, is_cancel: bool) -> int:
        taken = super().take(path, wanted, now_ms, is_cancel=is_cancel)
        self.due[path] += taken
        return taken

    def _accounted(self, path: str, taken: int, how: Callable[[], None]) -> None:
        if self._inside:
            how()
            return
        self._inside = True
        try:
            how()
        finally:
            self._inside = False
        self.due[path] -= taken
        assert self.due[path] >= 0, f"{path}: accounted for twice"

    def told(self, path: str, limit: int, left: int, resets_ms: int, now_ms: int, taken: int = 1) -> None:
        self._accounted(path, taken, lambda: RateLimits.told(self, path, limit, left, resets_ms, now_ms, taken))

    def heard(self, path: str, headers: Mapping[str, str], now_ms: int, taken: int = 1, status: int = 200) -> None:
        self._accounted(path, taken, lambda: RateLimits.heard(self, path, headers, now_ms, taken, status))

    def unheard(self, path: str, taken: int = 1) -> None:
        self._accounted(path, taken, lambda: RateLimits.unheard(self, path, taken))

    def returned(self, path: str, taken: int = 1) -> None:
        self._accounted(path, taken, lambda: RateLimits.returned(self, path, taken))


class Order:
    """One call and what became of it. `written`: how often it was given to a socket or a transport."""

    def __init__(self, number: int, call: Call, begun_s: float) -> None:
        self.number, self.call, self.begun_s = number, call, begun_s
        self.written = 0
        self.was_there = False
        self.was_taken = False
        """by an answer of the venue's about this order"""
        self.told: list[Ended] = []
        self.told_s = 0.0
        self.is_given_up = False
        self.may_leave_untold = False
        """its awaiter was cancelled: of a batch it may still leave with those for whom somebody waits"""
        self.is_the_entry_s = False
        """not its holder's, who has to cancel it"""
        self.by_clock = False
        """its timestamp was refused: the clock was read again before it was told"""


class World:
    """The venue, the ways to it, the grant, and everything that was decided."""

    def __init__(self, seed: int, timeline: Timeline) -> None:
        self.random = Random(seed)
        self.loop = timeline
        self.orders: list[Order] = []
        self.by_id: dict[str, Order] = {}
        self.epoch = 1
        self.troubled = self.random.choice((0.0, 0.1, 0.4))
        """How often anything goes wrong"""
        self.socket: Socket | None = None
        self.socket_log: list[Order] = []
        self.limit = self.random.choice((0, 5, 500))
        self.broken: list[str] = []
        """laws that were"""

    def trouble(self) -> bool:
        return self.random.random() < self.troubled

    def permitted(self, epoch: int) -> bool:
        return epoch == self.epoch

    def arrived(self, path: str, body: Any, *, socket: bool) -> list[Order]:
        """What a request names; it is written just now."""
        rows = body.get("request", [body])
        found = [self.by_id[row["orderLinkId"]] for row in rows if "orderLinkId" in row]
        for order in found:
            order.written += 1
            if order.written > 1:
                self.broken.append(f"{order.number} left twice")
            if order.told and not (order.may_leave_untold and len(found) > 1):
                self.broken.append(f"{order.number} left after it was told {order.told}")
            if order.is_given_up:
                self.broken.append(f"{order.number} left after it was given up")
            if order.call.epoch and not self.permitted(order.call.epoch):
                self.broken.append(f"{order.number} left without its grant")
            if path not in (order.call.path, calls.BATCH_OF.get(order.call.path)):
                self.broken.append(f"{order.number} left by {path}")
        if socket:
            self.socket_log += found
        return found

    def answer(self, path: str, found: list[Order]) -> dict[str, Any]:
        """An envelope, whatever is in it."""
        code = 0
        if self.trouble():
            code = self.random.choice((10002, 10002, 110007, 110001, 10016, 10003))
        for order in found:
            order.was_there = order.was_there or code in (0, 10016)
            order.by_clock = order.by_clock or code == 10002
        envelope: dict[str, Any] = {"retCode": code, "retMsg": "so", "result": {}, "retExtInfo": {}}
        if code:
            return envelope
        if path == calls.CANCEL_ALL:
            envelope["result"] = {"list": []}
        elif path == calls.TIME:
            envelope["result"] = {"timeNano": str(self.loop.now_ns() + self.random.randrange(-50, 50) * 1_000_000)}
        elif path in calls.BATCH_OF.values():
            rows = [{"orderId": f"v{one.number}", "orderLinkId": one.call.client_order_id} for one in found]
            ends = [{"code": self.random.choice((0, 0, 0, 0, 110007)), "msg": ""} for _ in found]
            for order, end in zip(found, ends, strict=True):
                order.was_taken = not end["code"]
            if self.trouble():
                self.random.choice((rows.reverse, rows.clear, ends.clear))()
            envelope["result"], envelope["retExtInfo"] = {"list": rows}, {"list": ends}
        else:
            for order in found:
                order.was_taken = True
                envelope["result"] = {"orderId": f"v{order.number}", "orderLinkId": order.call.client_order_id}
            if self.trouble():
                envelope["result"] = {"odd": 1}
        return envelope

    def header(self) -> dict[str, str]:
        """As the trade socket writes them."""
        now_ms = self.loop.now_ns() // 1_000_000
        named = {name.title(): value for name, value in self.headers().items()}
        if named:
            named["X-Bapi-Limit-Reset-Timestamp"] = str(now_ms)
        return {**named, "Traceid": f"{self.random.getrandbits(64):x}", "Timenow": str(now_ms)}

    def headers(self) -> dict[str, str]:
        if not self.limit:
            return {}
        left = self.random.randrange(self.limit + 1)
        return {"x-bapi-limit": str(self.limit), "x-bapi-limit-status": str(left)}


class Socket:
    """A trade socket that is full at times, breaks, and answers late, twice, oddly or never."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._full = False
        self._room: asyncio.Future[None] | None = None
        self._ended = ""
        self._end: asyncio.Future[None] = world.loop.create_future()
        self._take: Callable[[bytes | str], None] | None = None
        self._inbox: list[str] = []
        self._woken: asyncio.Future[None] | None = None

    def takes(self) -> bool:
        return not self._full

    def fill(self, full: bool) -> None:
        self._full = full
        if not full and self._room is not None and not self._room.done():
            self._room.set_result(None)

    async def drained(self) -> None:
        while self._full and not self._ended:
            if self._room is None or self._room.done():
                self._room = self._world.loop.create_future()
            await asyncio.shield(self._room)
        if self._ended:
            raise SocketClosed(self._ended)

    async def send(self, text: str) -> None:
        self.send_now(text)

    def send_now(self, text: str) -> None:
        world, message = self._world, json.loads(text)
        op = message["op"]
        if op == "auth":
            if not self._ended:
                world.loop.call_soon(self.say, '{"op":"auth","retCode":0}')
            return
        if op == "ping":
            world.loop.call_soon(self.say, '{"op":"pong","retCode":0}')
            return
        path = next(path for path, one in _OPERATIONS.items() if one == op)
        found = world.arrived(path, message["args"][0], socket=True)
        if self._ended or (world.trouble() and world.trouble()):
            raise SocketClosed(self._ended or "reset")
        answer = world.answer(path, found)
        said = {"op": op, "reqId": message["reqId"], "retCode": answer["retCode"], "retMsg": "so"}
        said |= {"data": answer["result"], "retExtInfo": answer["retExtInfo"], "header": world.header()}
        if world.trouble():
            what = world.random.choice(("never", "late", "garbled", "other", "cut"))
            if what == "never":
                return
            if what == "cut":
                world.loop.call_later(world.random.random(), self.break_)
                return
            if what == "garbled":
                world.loop.call_later(world.random.random(), self.say, text[:20])
                return
            if what == "other":
                world.loop.call_later(world.random.random(), self.say, _written(said | {"reqId": "0-999999"}))
                return
            world.loop.call_later(TIMEOUT_S + world.random.choice((-0.1, 0, 0.1)), self.say, _written(said))
            return
        for _ in range(1 + world.trouble()):
            world.loop.call_later(world.random.choice((0.0, 0.01, 0.3)), self.say, _written(said))

    def say(self, text: str) -> None:
        if self._ended:
            return
        if self._take is None:
            self._inbox.append(text)
            if self._woken is not None and not self._woken.done():
                self._woken.set_result(None)
            return
        try:
            self._take(text)
        except Exception as error:  # noqa: BLE001 - it belongs to whoever waits
            self._take = None
            if not self._end.done():
                self._end.set_exception(error)

    async def receive(self) -> str:
        while not self._inbox:
            if self._ended:
                raise SocketClosed(self._ended)
            self._woken = self._world.loop.create_future()
            await self._woken
        return self._inbox.pop(0)

    async def hand_over(self, take: Callable[[bytes | str], None]) -> Never:
        while self._inbox:
            take(self._inbox.pop(0))
        self._take = take
        await self._end
        raise SocketClosed(self._ended)

    def break_(self) -> None:
        if not self._ended:
            self._ended = "cut"
            self.fill(False)
            if self._woken is not None and not self._woken.done():
                self._woken.set_result(None)
            if not self._end.done():
                self._end.set_result(None)

    async def close(self) -> None:
        if self._world.trouble():
            await asyncio.sleep(self._world.random.random())
        self.break_()


def _written(said: dict[str, Any]) -> str:
    return json.dumps(said, separators=(",", ":"))


_OPERATIONS: Final = {
    calls.CREATE: "order.create",
    calls.AMEND: "order.amend",
    calls.CANCEL: "order.cancel",
    calls.CREATE_BATCH: "order.create-batch",
    calls.AMEND_BATCH: "order.amend-batch",
    calls.CANCEL_BATCH: "order.cancel-batch",
}


class Network:
    """Its requests need a task, as over aiohttp."""

    def __init__(self, world: World) -> None:
        self.world = world

    async def connect(self, url: str, timeout_s: float) -> Socket:
        await asyncio.sleep(0.002)
        if self.world.trouble():
            raise NotSent("refused")
        socket = self.world.socket = Socket(self.world)
        return socket

    async def request(
        self, method: str, url: str, headers: Mapping[str, str], body: bytes, timeout_s: float
    ) -> HttpAnswer:
        world = self.world
        path = url.partition("?")[0]
        wrong = (
            world.random.choice(("not sent", "never", "status", "garbled", "odd", "late")) if world.trouble() else ""
        )
        if wrong == "not sent":
            await asyncio.sleep(world.random.choice((0, 0.1)))
            raise NotSent("no route")
        found = world.arrived(path, json.loads(body or EMPTY), socket=False)
        if wrong == "odd" and path != calls.TIME:
            raise RuntimeError("nobody expected it")
        answer = world.answer(path, found)
        await asyncio.sleep(world.random.choice((0, 0.01, 0.3)) if wrong != "late" else TIMEOUT_S - 0.001)
        if wrong == "never":
            await asyncio.sleep(TIMEOUT_S - 0.3)
            raise NoAnswer("no answer")
        status = world.random.choice((403, 500, 502)) if wrong == "status" else 200
        text = json.dumps(answer).encode()
        return HttpAnswer(status, world.headers(), text[:9] if wrong == "garbled" else text)

    async def close(self) -> None: ...


class PromptNetwork(Network):
    """Its requests leave at once, as over the simulator's link."""

    def begin(
        self, method: str, url: str, headers: Mapping[str, str], body: bytes, timeout_s: float
    ) -> asyncio.Future[HttpAnswer]:
        """Written in this turn: by a task whose first step is done here."""
        asking = self.request(method, url, headers, body, timeout_s)
        answered: asyncio.Future[HttpAnswer] = self.world.loop.create_future()
        try:
            waits = asking.send(None)
        except StopIteration as done:
            answered.set_result(done.value)
            return answered
        except Exception as error:  # noqa: BLE001 - it is the request's
            answered.set_exception(error)
            return answered
        if waits is not None:
            waits._asyncio_future_blocking = False

        async def rest() -> HttpAnswer:
            if waits is not None:
                await waits
            while True:
                try:
                    more = asking.send(None)
                except StopIteration as done:
                    return done.value  # type: ignore[no-any-return]
                if more is None:
                    await asyncio.sleep(0)
                else:
                    more._asyncio_future_blocking = False
                    await more

        return asyncio.ensure_future(rest())


class Player:
    """Decides at random, and holds the world to the laws."""

    def __init__(self, seed: int, timeline: Timeline) -> None:
        world = self.world = World(seed, timeline)
        chance = self.random = world.random
        self.batches = chance.random() < 0.5
        network = PromptNetwork(world) if chance.random() < 0.5 else Network(world)
        self.limits = Counted()
        rest = BybitRest(network, "", "key", "secret", timeline.now_ns, 5000, TIMEOUT_S, self.limits)
        self.trade: TradeStream | None = None
        if chance.random() < 0.8:
            self.trade = TradeStream(
                "ws://trade", network, timeline.now_ns, Random(seed), rest.resync_quietly, "key", "secret",
                rest.venue_now_ms, 5000, world.permitted,
            )  # fmt: skip
        self.rest = rest
        self.entry = OrderEntry(rest, self.trade, TIMEOUT_S, BATCH_MAX if self.batches else 1, world.permitted)
        self.under_way: list[tuple[Order, asyncio.Future[Any]]] = []
        self.awaiting: list[tuple[Order, asyncio.Task[None]]] = []
        self.failures: list[BaseException] = []
        self.nested = 0
        timeline.set_exception_handler(self._failed)

    def _failed(self, _: object, context: dict[str, Any]) -> None:
        error = context.get("exception")
        if not isinstance(error, ZeroDivisionError):  # that one is ours
            self.failures.append(error or RuntimeError(str(context)))

    def decide(self) -> None:
        """One order, in one of all ways."""
        world, chance = self.world, self.random
        number = len(world.orders) + 1
        name = f"slwq-7-{number}"
        epoch = chance.choice((world.epoch, world.epoch, 0, world.epoch - 1))
        kind = chance.random()
        if kind < 0.45:
            price, qty = GENERATED.price(550_000), GENERATED.qty(10)
            call = calls.create_post_only("linear", "BTCUSDT", Side.BUY, qty, price, name, False, epoch)
        elif kind < 0.65:
            call = calls.amend_as_written("linear", "BTCUSDT", name, "1", "2", epoch)
        elif kind < 0.95:
            call = calls.cancel("linear", "BTCUSDT", client_order_id=name)
        else:
            call = calls.cancel_all("linear", "BTCUSDT")
        order = Order(number, call, world.loop.time())
        world.orders.append(order)
        world.by_id[name] = order
        if call.path == calls.CANCEL_ALL or chance.random() < 0.3:
            self.awaiting.append((order, asyncio.ensure_future(self._await(order))))
            return
        inside = True

        def ended(outcome: Ended) -> None:
            if inside:
                world.broken.append(f"{number} was told inside begin")
            self._told(order, outcome)
            if self.nested < 20 and chance.random() < 0.2:
                self.nested += 1
                self.decide()
            if world.trouble():
                raise ZeroDivisionError

        future = self.entry.begin(call, ended)
        inside = False
        if future is None:
            self.awaiting.append((order, asyncio.ensure_future(self._await(order))))
            return
        order.is_the_entry_s = self.batches or any(request.done is future for request in self.entry._open)
        self.under_way.append((order, future))

    async def _await(self, order: Order) -> None:
        try:
            outcome: Ended = await self.entry.mutate(order.call)
        except BaseException as error:  # noqa: BLE001 - it is told too
            self._told(order, error)
            return
        self._told(order, outcome)

    def _told(self, order: Order, outcome: Ended) -> None:
        order.told.append(outcome)
        order.told_s = self.world.loop.time()
        if len(order.told) > 1:
            self.world.broken.append(f"{order.number} was told twice: {order.told}")

    async def play(self) -> None:
        chance = self.random
        running = asyncio.ensure_future(self.trade.run()) if self.trade is not None else None
        await asyncio.sleep(0.1)
        closes_at = chance.choice((None, chance.randrange(40)))
        for step in range(40):
            await asyncio.sleep(chance.choice((0, 0, 0.001, 0.05, 0.4)))
            self._happen()
            for _ in range(chance.choice((0, 1, 1, 2, 7))):
                self.decide()
            if step == closes_at:
                await self._close()
        if closes_at is None:
            await asyncio.sleep(3 * TIMEOUT_S + 1)
            await self._close()
        await asyncio.sleep(3 * TIMEOUT_S + 1)
        if running is not None:
            assert not running.done(), running.exception()
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)
        await asyncio.sleep(3 * TIMEOUT_S)
        self.judge()

    def _happen(self) -> None:
        world, chance = self.world, self.random
        if chance.random() < 0.1:
            world.epoch += 1
        socket = world.socket
        if socket is not None and chance.random() < 0.3:
            socket.fill(chance.random() < 0.5)
        if socket is not None and world.trouble() and chance.random() < 0.2:
            socket.break_()
        if self.under_way and chance.random() < 0.1:
            order, future = chance.choice(self.under_way)
            if not future.done():
                future.cancel()
                for other, shared in self.under_way:
                    other.is_given_up = other.is_given_up or (shared is future and not other.written)
        if self.awaiting and chance.random() < 0.1:
            order, task = chance.choice(self.awaiting)
            if not task.done():
                task.cancel()
                order.may_leave_untold = True

    async def _close(self) -> None:
        """Everybody who was gathered, or waits for the socket, is told when it returns."""
        begun = [order for order, _ in self.under_way if not order.told and order.is_the_entry_s]
        await self.entry.close()
        untold = [order.number for order in begun if not order.told]
        assert not untold, f"{untold} were not told when it had closed"

    def judge(self) -> None:
        world = self.world
        assert not world.broken, world.broken
        assert not self.failures, [repr(one) for one in self.failures]
        for order in world.orders:
            name = f"{order.number} ({order.call.path}), begun at {order.begun_s}: {order.told}"
            is_cancelled_early = not order.told and order.written == 0  # its task was cancelled before its first step
            assert len(order.told) == 1 or is_cancelled_early, name
            if is_cancelled_early:
                assert any(one is order and task.cancelled() for one, task in self.awaiting), name
                continue
            (outcome,) = order.told
            if order.call.path == calls.CANCEL_ALL:
                continue
            patience_s = TIMEOUT_S + (2 * TIMEOUT_S if order.by_clock else 0) + 0.001
            assert order.told_s - order.begun_s <= patience_s, f"{name} at {order.told_s}"
            if isinstance(outcome, Unreachable):
                assert not order.written, name
            if isinstance(outcome, (Accepted, Unknown)):
                assert order.written, name
            if isinstance(outcome, Accepted) and not outcome.gone:
                assert order.was_taken, name
                assert outcome.venue_order_id == f"v{order.number}", name
        assert not +self.limits.due, self.limits.due
        entry, trade = self.entry, self.trade
        assert (entry._open, entry._gathered, entry._tasks) == ({}, {}, set())
        if trade is not None:
            assert (trade._open, list(trade._due), trade._alarm) == ({}, [], None)
        kinds = {order.call.path for order in world.socket_log} if self.batches else {""}
        for kind in kinds:  # of those that were begun: what is awaited begins a turn later
            numbers = [
                one.number for one in world.socket_log if self._is_begun(one) and (not kind or one.call.path == kind)
            ]
            assert numbers == sorted(numbers), f"overtaken: {numbers}"

    def _is_begun(self, order: Order) -> bool:
        return any(one is order for one, _ in self.under_way)


@pytest.mark.parametrize("first", range(0, SEEDS, 40))
def test_the_laws_hold_whatever_fails(first: int) -> None:
    for seed in range(first, first + 40):
        run(seed)


def test_by_its_shape_an_answer_is_read_as_it_is_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    decoded = [run(seed) for seed in range(SEEDS)]
    read: list[Acknowledged] = []

    class Counting(AnswerText):
        def read(self, text: str) -> Acknowledged | None:
            found = super().read(text)
            if found is not None:
                read.append(found)
            return found

    monkeypatch.setattr(trade_stream, "IS_COMPILED", True)
    monkeypatch.setattr(trade_stream, "AnswerText", Counting)
    for seed, told in enumerate(decoded):
        assert run(seed) == told, f"seed {seed}"
    assert sum(one.is_batch for one in read) > SEEDS // 8
    assert sum(not one.is_batch for one in read) > SEEDS


def run(seed: int) -> list[str]:
    """What each order was told, and when."""
    timeline = Timeline(START_NS)
    player = Player(seed, timeline)
    with asyncio.Runner(loop_factory=lambda: timeline) as runner:
        try:
            runner.run(player.play())
        except BaseException as error:
            error.add_note(f"seed {seed}")
            raise
    return [f"{order.number} {order.told!r} {order.told_s}" for order in player.world.orders]
