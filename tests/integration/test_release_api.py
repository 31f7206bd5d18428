"""Releasing stops over HTTP: two people with tokens of their own, refused by name where that is not what happened."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from aiohttp import ClientSession

from bot.domain.events import (
    CancelAllAnswered,
    DrillRequested,
    Event,
    OpenOrdersRead,
    ReleaseAsked,
    ReleaseConfirmed,
    Started,
    StopRequested,
)
from bot.domain.intent import CancelAll, Intent
from bot.engine.engine import Engine
from bot.engine.parameters import EngineParameters
from bot.engine.state import Release
from bot.runtime.clock import Clock
from bot.runtime.grant import GrantHolder
from bot.runtime.operator_api import Json
from bot.runtime.operators import OPERATORS, Operators, OperatorsRefused, read_operators
from bot.runtime.serving import Http, serve

pytestmark = pytest.mark.integration

ADA, GRACE = "ada-token-" + "a" * 20, "grace-token-" + "g" * 20
APPROVE, GRANT = "o" * 32, "g" * 32
PEOPLE = f"ada={ADA},grace={GRACE}"
Call = Callable[..., Awaitable[tuple[int, dict[str, Any]]]]


class Bot:
    """An engine that holds or has halted, behind the operator API. `told`: what went through its door."""

    def __init__(self, stop: str) -> None:
        self.engine = Engine(EngineParameters(symbols=("BTCUSDT",), mode="live"))
        self.grant = GrantHolder("a1")
        self.clock = Clock()
        self.told: list[Event] = []
        self.decided: list[Intent] = []
        self.late_ns = 0
        self.sockets = 2
        for event in (
            Started(self.now_ns(), "r", "live", "d", "v", ("BTCUSDT",)),
            StopRequested(self.now_ns(), stop, "planned", "people", "test"),
        ):
            self.tell(event)
        self.prove()

    def prove(self) -> None:
        key = next(intent.key for intent in self.decided if isinstance(intent, CancelAll))
        self.tell(CancelAllAnswered(self.now_ns(), key, "accepted"))
        self.tell(OpenOrdersRead(self.now_ns(), "BTCUSDT", self.now_ns(), ()))

    def now_ns(self) -> int:
        return self.clock.now_ns() + self.late_ns

    def tell(self, event: Event) -> None:
        self.told.append(event)
        self.decided += self.engine.receive(event)

    def release(self, release_id: str) -> Release | None:
        return self.engine.known.releases.get(release_id)

    @property
    def release_expires_s(self) -> int:
        return self.engine.known.parameters.release_expires_s

    def status(self) -> Json:
        return {"state": self.engine.view.value}

    def cut_streams(self) -> int:
        return self.sockets

    def checks(self) -> dict[str, bool]:
        return {}

    def metrics(self) -> bytes:
        return b""


def talk(bot: Bot, talking: Callable[[Call], Awaitable[None]], *, armed: bool = True, people: str = PEOPLE) -> None:
    """Serves that bot while `talking` calls it."""

    async def serving() -> None:
        operators = Operators(read_operators(people, (APPROVE, GRANT)), armed=armed)
        runner, url = await serve(bot, Http("127.0.0.1", 0, GRANT, APPROVE, operators))
        assert runner is not None
        async with ClientSession(url) as session:

            async def call(path: str, token: str, **body: object) -> tuple[int, dict[str, Any]]:
                headers = {"Authorization": f"Bearer {token}"}
                async with session.post(f"/api/ui/{path}", json=body, headers=headers) as answer:
                    return answer.status, await answer.json()

            await talking(call)
        await runner.cleanup()

    asyncio.run(serving())


def test_two_people_resume_a_held_bot_and_the_journal_has_who_and_why() -> None:
    bot = Bot("operator_hold")

    async def talking(call: Call) -> None:
        code, asked = await call("resume", ADA, reason="operator_hold", why="drift explained")
        assert (code, asked["state"], asked["asked_by"], asked["covers"]) == (202, "HELD", "ada", ["operator_hold"])
        assert asked["expires_in_s"] == 300
        code, done = await call("resume/confirm", GRACE, request_id=asked["request_id"], why="checked the venue")
        assert (code, done["released"], done["state"]) == (200, ["operator_hold"], "INIT")

    talk(bot, talking)
    asked, confirmed = bot.told[-2:]
    assert isinstance(asked, ReleaseAsked)
    assert isinstance(confirmed, ReleaseConfirmed)
    assert (asked.kind, asked.who, asked.why) == ("resume", "ada", "drift explained")
    assert (confirmed.who, confirmed.why, confirmed.release_id) == ("grace", "checked the venue", asked.release_id)


def test_a_stop_that_is_sent_again_under_its_key_is_not_entered_again() -> None:
    bot = Bot("operator_hold")

    async def talking(call: Call) -> None:
        for _ in range(2):
            assert (await call("hold", APPROVE, reason="look", key="k-1"))[0] == 200
        _, asked = await call("resume", ADA, reason="operator_hold", why="looked")
        await call("resume/confirm", GRACE, request_id=asked["request_id"], why="seen")
        assert (await call("hold", APPROVE, reason="look", key="k-1"))[1]["state"] == "INIT"  # a late repeat
        assert (await call("hold", APPROVE, reason="look", key="k-2"))[1]["state"] == "HELD"

    talk(bot, talking)
    assert bot.engine.counts["mm_duplicate_operations_total", ()] == 2


def test_two_people_re_arm_a_halted_bot_and_both_consent() -> None:
    bot = Bot("kill_switch")

    async def talking(call: Call) -> None:
        code, refused = await call("re-arm", ADA, reason="kill_switch", why="fixed")
        assert (code, refused["error"].split(":")[0]) == (403, "consent")
        _, asked = await call("re-arm", ADA, reason="kill_switch", why="fixed", consent=True)
        code, refused = await call("re-arm/confirm", GRACE, request_id=asked["request_id"], why="yes")
        assert (code, refused["error"].split(":")[0], refused["state"]) == (403, "consent", "HALTED")
        code, done = await call("re-arm/confirm", GRACE, request_id=asked["request_id"], why="yes", consent=True)
        assert (code, done["released"]) == (200, ["kill_switch"])

    talk(bot, talking)


def test_a_process_that_is_not_armed_is_never_re_armed() -> None:
    bot = Bot("kill_switch")

    async def talking(call: Call) -> None:
        code, refused = await call("re-arm", ADA, reason="*", why="fixed", consent=True)
        assert (code, refused["error"].split(":")[0]) == (403, "consent")

    talk(bot, talking, armed=False)
    assert bot.engine.view == "HALTED"


def test_what_is_not_two_people_in_time_is_refused_by_name() -> None:
    bot = Bot("operator_hold")

    async def talking(call: Call) -> None:
        _, asked = await call("resume", ADA, reason="*", why="w")
        number = asked["request_id"]
        for token, code, name in (
            (ADA, 409, "same_person"), (APPROVE, 401, "wrong or missing token"), (GRANT, 401, "wrong or missing token"),
            ("", 401, "wrong or missing token"),
        ):  # fmt: skip
            got, refused = await call("resume/confirm", token, request_id=number, why="w")
            assert (got, refused["error"].split(":")[0]) == (code, name)
        got, refused = await call("re-arm/confirm", GRACE, request_id=number, why="w", consent=True)
        assert (got, refused["error"].split(":")[0]) == (409, "other_kind")
        got, refused = await call("resume/confirm", GRACE, request_id="never", why="w")
        assert (got, refused["error"].split(":")[0]) == (404, "unknown")
        got, refused = await call("resume/confirm", GRACE, request_id=number)
        assert (got, "why" in refused["error"]) == (422, True)
        bot.late_ns = 301_000_000_000
        got, refused = await call("resume/confirm", GRACE, request_id=number, why="w")
        assert (got, refused["error"].split(":")[0]) == (409, "expired")
        assert bot.engine.view == "HELD"
        _, again = await call("resume", GRACE, reason="*", why="w")
        got, _ = await call("resume/confirm", ADA, request_id=again["request_id"], why="w")
        assert got == 200
        got, refused = await call("resume/confirm", ADA, request_id=again["request_id"], why="w")
        assert (got, refused["error"].split(":")[0]) == (409, "used")
        got, refused = await call("resume", ADA, reason="*", why="w")
        assert (got, refused["error"].split(":")[0]) == (409, "nothing")

    talk(bot, talking)


def test_wrong_tokens_are_throttled_and_a_right_one_is_not() -> None:
    bot = Bot("operator_hold")

    async def talking(call: Call) -> None:
        codes = [(await call("resume", "x" * 20, reason="*", why="w"))[0] for _ in range(11)]
        assert codes == [401] * 10 + [429]
        assert (await call("resume", ADA, reason="*", why="w"))[0] == 202

    talk(bot, talking)


def test_without_two_operators_nothing_can_be_released() -> None:
    bot = Bot("operator_hold")

    async def talking(call: Call) -> None:
        assert (await call("resume", ADA, reason="*", why="w"))[0] == 401
        assert (await call("resume", "", reason="*", why="w"))[0] == 401

    talk(bot, talking, people="")


@pytest.mark.parametrize(
    ("text", "named"),
    [
        (f"ada={ADA}", "1 of them"),
        (f"ada={ADA},Ada={GRACE}", "'Ada' twice"),
        (f"ada={ADA},grace={ADA}", "'grace' has the token of another"),
        (f"ada={ADA},grace={APPROVE}", "'grace' has the token of another"),
        (f"ada={ADA},grace=short", "'grace' has a token of 5 characters"),
        (f"ada={ADA},{GRACE}", "entry 2"),
    ],
)
def test_operators_that_are_not_two_people_are_refused_without_a_token_in_the_line(text: str, named: str) -> None:
    with pytest.raises(OperatorsRefused) as caught:
        read_operators(text, (APPROVE, GRANT))
    said = str(caught.value)
    assert said.startswith(f"{OPERATORS}: ")
    assert named in said
    assert all(token not in said for token in (ADA, GRACE, APPROVE))


def test_a_drill_needs_the_operators_token_and_a_name_that_there_is() -> None:
    bot = Bot("operator_hold")

    async def talking(call: Call) -> None:
        for path, token, body, code, said in (
            ("maker-policy", GRANT, {}, 401, "wrong or missing token"),
            ("fire", APPROVE, {}, 404, "allowed are freeze, maker-policy"),
            ("freeze", APPROVE, {"who": "me"}, 422, "who"),
            ("orphan", APPROVE, {}, 422, "order: '', needs one that begins with slw"),
            ("orphan", APPROVE, {"order": "manual-7"}, 422, "order: 'manual-7', needs one that begins with slw"),
            ("freeze", APPROVE, {"order": "slwq-1-7"}, 422, "allowed for orphan alone"),
        ):
            found, answer = await call(f"../../drill/{path}", token, **body)
            assert (found, said in answer["error"]) == (code, True), answer
        told = len(bot.told)
        assert (await call("../../drill/maker-policy", APPROVE, operator="guard"))[0] == 200
        assert (await call("../../drill/freeze", APPROVE))[1] == {"state": "HELD", "drill": "freeze"}
        drilled, frozen = bot.told[told:]
        assert isinstance(drilled, DrillRequested)
        assert drilled.who == "guard"
        assert isinstance(frozen, StopRequested)
        assert (frozen.reason, frozen.stop_class, frozen.resume) == ("drill", "planned", "auto")
        assert (await call("../../drill/orphan", APPROVE, order="slwq-1-7"))[0] == 200
        assert bot.engine.known.planned_orphans == {"slwq-1-7"}
        assert (await call("../../drill/stream-loss", APPROVE))[0] == 200
        assert bot.engine.known.loss_is_planned
        bot.sockets = 0
        code, answer = await call("../../drill/stream-loss", APPROVE)
        assert (code, answer["error"]) == (409, "drill 'stream-loss': no socket is open that could be cut")

    talk(bot, talking)
