"""The three kinds of Bybit V5 sockets, as sessions over text messages. Pure: a session is told what came in and when,
and hands what goes out to `send`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from typing import Final, Protocol, cast

import msgspec

from bot.simulator.accounts import Holder
from bot.simulator.bybit import TRADE_OPERATIONS, V5, Outcome, in_json
from bot.simulator.bybit_access import RECV_WINDOW_MS, V5Error, authenticate_socket, check_timestamp, is_timely
from bot.simulator.bybit_amends import IS_COMPILED, OPERATION, Amends, AmendTexts
from bot.simulator.bybit_dcp import TOPICS as DCP_TOPICS
from bot.simulator.bybit_frame import Frame
from bot.simulator.bybit_orders import Params
from bot.simulator.bybit_written import quoted

Send = Callable[[str], None]
_ENCODER: Final = msgspec.json.Encoder()
_OK: Final = '"OK"'
_AMENDED: Final = quoted(OPERATION)
REQUEST_IDS_KEPT = 10_000
_BY_CATEGORY = ("order", "execution", "execution.fast", "position")
PRIVATE_TOPICS = frozenset(
    {"wallet", *DCP_TOPICS, *_BY_CATEGORY}
    | {f"{topic}.{category}" for topic in _BY_CATEGORY for category in ("linear", "spot", "inverse", "option")}
)
"""Those of other categories may be asked for, and carry nothing here."""


_FRAMES: Final = msgspec.json.Decoder(Frame)


def encode(message: Mapping[str, object]) -> str:
    return _ENCODER.encode(message).decode()


class Session(Protocol):
    """One socket. `receive` never raises for what a client can send."""

    def receive(self, text: str, now_ns: int) -> None: ...


def _frame(text: str) -> Frame | None:
    try:
        frame = _FRAMES.decode(text)
    except (msgspec.MsgspecError, UnicodeError):
        return None
    frame.req_id, frame.reqId = str(frame.req_id), str(frame.reqId)
    return frame


class PublicSession:
    """Subscriptions to market data. `subscribed` is told of each new topic, after the acknowledgement went out."""

    def __init__(
        self,
        connection_id: str,
        send: Send,
        is_topic: Callable[[str], bool],
        subscribed: Callable[[PublicSession, str], None],
    ) -> None:
        self.send = send
        self.topics: dict[str, None] = {}
        self._connection_id = connection_id
        self._is_topic = is_topic
        self._subscribed = subscribed

    def receive(self, text: str, now_ns: int) -> None:
        frame = _frame(text)
        if frame is None:
            self._reply("", "", "error:request format invalid")
        elif frame.op == "ping":
            self._reply("ping", frame.req_id, "pong", success=True)
        elif frame.op == "subscribe":
            self._subscribe(frame)
        elif frame.op == "unsubscribe":
            for topic in frame.args:
                self.topics.pop(str(topic), None)
            self._reply("unsubscribe", frame.req_id, "", success=True)
        else:
            self._reply(frame.op, frame.req_id, f"error:unknown op {frame.op[:40]!r}")

    def _subscribe(self, frame: Frame) -> None:
        topics = [str(topic) for topic in frame.args]
        for topic in topics:
            if not self._is_topic(topic):
                self._reply("subscribe", frame.req_id, f"error:handler not found,topic:{topic}")
                return
            if topic in self.topics:
                self._reply("subscribe", frame.req_id, f"error:already subscribed,topic:{topic}")
                return
        if not topics:
            self._reply("subscribe", frame.req_id, "error:no topic in args")
            return
        self._reply("subscribe", frame.req_id, "", success=True)
        for topic in topics:
            self.topics[topic] = None
            self._subscribed(self, topic)

    def _reply(self, op: str, req_id: str | int, message: str, *, success: bool = False) -> None:
        reply = {"success": success, "ret_msg": message, "conn_id": self._connection_id, "req_id": req_id, "op": op}
        self.send(encode(reply))


class PrivateSession:
    """An account's own stream: nothing before a successful `auth`."""

    def __init__(self, connection_id: str, send: Send, face: V5) -> None:
        self.send = send
        self.holder: Holder | None = None
        self.topics: dict[str, None] = {}
        self._guarding: list[str] = []
        self.api_key = ""
        """What it authenticated with."""
        self._connection_id = connection_id
        self._face = face

    def receive(self, text: str, now_ns: int) -> None:
        frame = _frame(text)
        if frame is None:
            self._reply("", "", "error:request format invalid")
        elif frame.op == "ping":
            pong = {"req_id": frame.req_id, "op": "pong", "args": [str(now_ns // 1_000_000)]}
            self.send(encode({**pong, "conn_id": self._connection_id}))
        elif frame.op == "auth":
            self._authenticate(frame, now_ns)
        elif frame.op == "subscribe":
            self._subscribe(frame)
        elif frame.op == "unsubscribe":
            self._unsubscribe(frame)
        else:
            self._reply(frame.op, frame.req_id, f"error:unknown op {frame.op[:40]!r}")

    def closed(self, now_ns: int) -> None:
        """The connection is gone: where it was the one that kept the account's orders, their window begins."""
        guarding, self._guarding = self._guarding, []
        for topic in guarding:
            if self.holder is not None:
                self._face.dcp.disconnected(self.holder, topic, now_ns)

    def _authenticate(self, frame: Frame, now_ns: int) -> None:
        try:
            self.holder = authenticate_socket(self._face.exchange, frame.args, self._face.shown_ns(now_ns))
        except V5Error as error:
            self._reply("auth", frame.req_id, error.message)
            return
        self.api_key = str(frame.args[0])
        self._reply("auth", frame.req_id, "", success=True)

    def _subscribe(self, frame: Frame) -> None:
        topics = [str(topic) for topic in frame.args]
        unknown = [topic for topic in topics if topic not in PRIVATE_TOPICS]
        if self.holder is None:
            self._reply("subscribe", frame.req_id, "Request not authorized")
        elif unknown or not topics:
            self._reply("subscribe", frame.req_id, f"error:handler not found,topic:{','.join(unknown)}")
        else:
            self.topics.update(dict.fromkeys(topics))
            for topic in topics:
                if topic in DCP_TOPICS and topic not in self._guarding:
                    self._guarding.append(topic)
                    self._face.dcp.connected(self.holder, topic)
            self._reply("subscribe", frame.req_id, "", success=True)

    def _unsubscribe(self, frame: Frame) -> None:
        for topic in map(str, frame.args):
            self.topics.pop(topic, None)
            if topic in self._guarding and self.holder is not None:
                self._guarding.remove(topic)
                self._face.dcp.released(self.holder, topic)
        self._reply("unsubscribe", frame.req_id, "", success=True)

    def _reply(self, op: str, req_id: str | int, message: str, *, success: bool = False) -> None:
        reply: dict[str, object] = {"success": success, "ret_msg": message, "op": op, "req_id": req_id}
        if not success:
            reply["request"] = {"op": op}  # by this a refused `auth` is told from other refusals
        self.send(encode({**reply, "conn_id": self._connection_id}))


class TradeSession:
    """Order entry by socket: same buckets, same checks and same answers as by REST."""

    def __init__(self, connection_id: str, send: Send, face: V5, acted: Callable[[], None]) -> None:
        self.send = send
        self._connection_id = connection_id
        self._connection_text = quoted(connection_id)
        self._face = face
        self._acted = acted
        self._holder: Holder | None = None
        self.api_key = ""
        """What it authenticated with."""
        self.reads_texts = IS_COMPILED
        """Whether what a client writes again and again is read without being decoded: with no other effect."""
        self._amends: AmendTexts | None = None
        """Of whoever authenticated"""
        self._used_ids: set[str] = set()
        self._used_in_turn: deque[str] = deque()
        """The same, the oldest first: of a dictionary it is looked for among all that went before."""

    def receive(self, text: str, now_ns: int) -> None:
        if self._amends is not None and self._holder is not None and not self._face.faults.armed:
            amends = self._amends.read(text)
            if amends is not None and self._amend(self._holder, amends, now_ns):
                return
        frame = _frame(text)
        if frame is None:
            self._reply(Frame(), 10001, "request format invalid", now_ns)
        elif frame.op == "ping":
            pong = {"retCode": 0, "retMsg": "OK", "op": "pong", "data": [str(now_ns // 1_000_000)]}
            self.send(encode({**pong, "connId": self._connection_id}))
        elif frame.op == "auth":
            self._authenticate(frame, now_ns)
        elif frame.op not in TRADE_OPERATIONS:
            self._reply(frame, 10404, f"op type {frame.op[:40]!r} is not found", now_ns)
        elif self._holder is None:
            self._reply(frame, 10005, "Permission denied: authenticate first", now_ns)
        else:
            self._operate(self._holder, frame, text, now_ns)

    def _authenticate(self, frame: Frame, now_ns: int) -> None:
        code, message = 0, "OK"
        try:
            self._holder = authenticate_socket(self._face.exchange, frame.args, self._face.shown_ns(now_ns))
            self.api_key = str(frame.args[0])
            self._amends = AmendTexts(self._face.exchange, self._holder) if self.reads_texts else None
        except V5Error as error:
            code, message = error.code, error.message
        self.send(encode({"retCode": code, "retMsg": message, "op": "auth", "connId": self._connection_id}))

    def _amend(self, holder: Holder, amends: Amends, now_ns: int) -> bool:
        """Amendments that were read from their text. False: nothing was done, and why is for `_operate` to say."""
        number, shown_ms = amends.number, self._face.shown_ns(now_ns) // 1_000_000
        if number in self._used_ids or not is_timely(amends.stamp_ms, amends.window_ms, shown_ms):
            return False
        self._use(number)
        outcome = self._face.amend_batch(holder, amends, now_ns)
        self._answer(f'"{number}"', _AMENDED, outcome, now_ns)
        self._acted()
        return True

    def _use(self, number: str) -> None:
        if number not in self._used_ids:
            self._used_ids.add(number)
            self._used_in_turn.append(number)
            if len(self._used_in_turn) > REQUEST_IDS_KEPT:
                self._used_ids.remove(self._used_in_turn.popleft())

    def _operate(self, holder: Holder, frame: Frame, text: str, now_ns: int) -> None:
        number = str(frame.reqId)
        if number and number in self._used_ids:
            self._reply(frame, 20006, "reqId is duplicated", now_ns)
            return
        timestamp = str(frame.header.get("X-BAPI-TIMESTAMP", ""))
        window = str(frame.header.get("X-BAPI-RECV-WINDOW", RECV_WINDOW_MS))
        params = frame.args[0] if len(frame.args) == 1 else None
        try:
            check_timestamp(timestamp, window, self._face.shown_ns(now_ns))
            if not isinstance(params, dict):
                raise V5Error(10001, "params error: args must hold one object")
        except V5Error as error:
            self._reply(frame, error.code, error.message, now_ns)
            return
        self._use(number)
        named = cast("Params", params)
        if self._face.faults.storm(now_ns) is not None:
            self._reply(frame, 10429, "System level frequency protection", now_ns)
            return
        outcome = self._face.operate(holder, TRADE_OPERATIONS[frame.op], named, now_ns)
        if not outcome.lost:
            self._answer(quoted(frame.reqId), quoted(frame.op), outcome, now_ns)
        if self._amends is not None and frame.op == OPERATION and not outcome.code:
            self._amends.learn(text, window, named)
        self._acted()

    def _reply(self, frame: Frame, code: int, message: str, now_ns: int) -> None:
        self._answer(quoted(frame.reqId), quoted(frame.op), Outcome(code, message, {}, None), now_ns)

    def _answer(self, number: str, op: str, outcome: Outcome, now_ns: int) -> None:
        """`number`, `op`: in JSON."""
        message = outcome.message
        shown = _OK if message == "OK" else quoted(message)
        self.send(
            f'{{"reqId":{number},"retCode":{outcome.code},"retMsg":{shown},"op":{op},'
            f'"data":{in_json(outcome.result)},"retExtInfo":{in_json(outcome.extra)},'
            f'"header":{self._face.header_text(outcome.limit, now_ns)},"connId":{self._connection_text}}}'
        )
