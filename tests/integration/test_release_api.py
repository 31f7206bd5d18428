"""Releasing stops over HTTP: two people whom the guard has judged, refused by name where that is not what happened."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from decimal import Decimal
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
from bot.runtime.operators import release_code
from bot.runtime.serving import Http, serve

pytestmark = pytest.mark.integration

APPROVE, GRANT, EPOCH = "o" * 32, "g" * 32, 7
Call = Callable[..., Awaitable[tuple[int, dict[str, Any]]]]


class Bot:
    """An engine that holds or has halted, behind the operator API. `told`: what went through its door."""

    def __init__(self, stop: str) -> None:
        self.engine = Engine(EngineParameters(symbols=("BTCUSDT",), mode="live"))
        self.grant = GrantHolder("a1")
        self.grant.take("a1", EPOCH, Decimal(1), Decimal(1), 5.0, 0)
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


def talk(bot: Bot, talking: Callable[[Call], Awaitable[None]], *, armed: bool = True, grant_token: str = GRANT) -> None:
    """Serves that bot while `talking` calls it."""

    async def serving() -> None:
        runner, url = await serve(bot, Http("127.0.0.1", 0, grant_token, APPROVE, armed))
        assert runner is not None
        async with ClientSession(url) as session:

            async def call(path: str, token: str, **body: object) -> tuple[int, dict[str, Any]]:
                headers = {"Authorization": f"Bearer {token}"}
                async with session.post(f"/api/ui/{path}", json=body, headers=headers) as answer:
                    return answer.status, await answer.json()

            await talking(call)
        await runner.cleanup()

    asyncio.run(serving())


def asks(who: str, **more: object) -> dict[str, Any]:
    return {"token": APPROVE, "operator": who, "reason": "w", **more}


def says(who: str, request_id: str, **more: object) -> dict[str, Any]:
    """What the guard says of a second person whose one-time code was right."""
    return {**asks(who, request_id=request_id), "code": release_code(GRANT, EPOCH, request_id, who), **more}


def test_two_people_resume_a_held_bot_and_the_journal_has_who_and_why() -> None:
    bot = Bot("operator_hold")

    async def talking(call: Call) -> None:
        code, asked = await call("resume-request", **asks("ada", stop="operator_hold", reason="drift explained"))
        assert (code, asked["state"], asked["asked_by"], asked["covers"]) == (202, "HELD", "ada", ["operator_hold"])
        assert asked["expires_in_s"] == 300
        code, done = await call("resume-confirm", **says("grace", asked["request_id"], reason="checked the venue"))
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
        _, asked = await call("resume-request", **asks("ada"))
        await call("resume-confirm", **says("grace", asked["request_id"]))
        assert (await call("hold", APPROVE, reason="look", key="k-1"))[1]["state"] == "INIT"  # a late repeat
        assert (await call("hold", APPROVE, reason="look", key="k-2"))[1]["state"] == "HELD"

    talk(bot, talking)
    assert bot.engine.counts["mm_duplicate_operations_total", ()] == 2


def test_two_people_re_arm_a_halted_bot_and_both_consent() -> None:
    bot = Bot("kill_switch")

    async def talking(call: Call) -> None:
        code, refused = await call("re-arm-request", **asks("ada", stop="kill_switch"))
        assert (code, refused["error"].split(":")[0]) == (403, "consent")
        _, asked = await call("re-arm-request", **asks("ada", stop="kill_switch", consent=True))
        code, refused = await call("re-arm-confirm", **says("grace", asked["request_id"]))
        assert (code, refused["error"].split(":")[0], refused["state"]) == (403, "consent", "HALTED")
        code, done = await call("re-arm-confirm", **says("grace", asked["request_id"], consent=True))
        assert (code, done["released"]) == (200, ["kill_switch"])

    talk(bot, talking)


def test_a_process_that_is_not_armed_is_never_re_armed() -> None:
    bot = Bot("kill_switch")

    async def talking(call: Call) -> None:
        code, refused = await call("re-arm-request", **asks("ada", consent=True))
        assert (code, refused["error"].split(":")[0]) == (403, "consent")

    talk(bot, talking, armed=False)
    assert bot.engine.view == "HALTED"


def test_what_is_not_two_people_in_time_is_refused_by_name() -> None:
    bot = Bot("operator_hold")

    async def talking(call: Call) -> None:
        _, asked = await call("resume-request", **asks("ada"))
        number = asked["request_id"]
        for who, more, code, name in (
            ("ada", {}, 409, "same_person"), (" ADA ", {}, 409, "same_person"),
            ("grace", {"token": GRANT}, 401, "wrong or missing token"),
            ("grace", {"token": ""}, 401, "wrong or missing token"),
        ):  # fmt: skip
            got, refused = await call("resume-confirm", **says(who, number, **more))
            assert (got, refused["error"].split(":")[0]) == (code, name)
        got, refused = await call("re-arm-confirm", **says("grace", number, consent=True))
        assert (got, refused["error"].split(":")[0]) == (409, "other_kind")
        got, refused = await call("resume-confirm", **says("grace", "never"))
        assert (got, refused["error"].split(":")[0]) == (404, "unknown")
        got, refused = await call("resume-confirm", APPROVE, request_id=number, operator="grace")
        assert (got, "code" in refused["error"]) == (422, True)
        bot.late_ns = 301_000_000_000
        got, refused = await call("resume-confirm", **says("grace", number))
        assert (got, refused["error"].split(":")[0]) == (409, "expired")
        assert bot.engine.view == "HELD"
        _, again = await call("resume-request", **asks("grace"))
        got, _ = await call("resume-confirm", **says("ada", again["request_id"]))
        assert got == 200
        got, refused = await call("resume-confirm", **says("ada", again["request_id"]))
        assert (got, refused["error"].split(":")[0]) == (409, "used")
        got, refused = await call("resume-request", **asks("ada"))
        assert (got, refused["error"].split(":")[0]) == (409, "nothing")

    talk(bot, talking)


def test_the_operators_token_alone_confirms_nothing() -> None:
    """Whoever may stop a bot holds it too, and could call themselves by two names."""
    bot = Bot("operator_hold")

    async def talking(call: Call) -> None:
        _, asked = await call("resume-request", **asks("ada"))
        number = asked["request_id"]
        for code in (
            "123456", "x", release_code(APPROVE, EPOCH, number, "grace"), release_code(GRANT, EPOCH, number, "linus"),
            release_code(GRANT, EPOCH, "another", "grace"),
        ):  # fmt: skip
            got, refused = await call("resume-confirm", **says("grace", number, code=code))
            assert (got, refused["error"].split(":")[0]) == (403, "wrong_code")
        assert bot.engine.view == "HELD"

    talk(bot, talking)
    assert not [event for event in bot.told if isinstance(event, ReleaseConfirmed)]


def test_what_was_said_to_one_process_is_worth_nothing_to_the_next_whatever_that_one_remembers() -> None:
    """A new process is given a new epoch, one on a journal of its own too."""
    bot = Bot("operator_hold")
    bot.grant.take("a1", EPOCH + 1, Decimal(1), Decimal(1), 5.0, 0)

    async def talking(call: Call) -> None:
        _, asked = await call("resume-request", **asks("ada", request_id="release-0001"))
        got, refused = await call("resume-confirm", **says("grace", asked["request_id"]))
        assert (got, refused["error"].split(":")[0]) == (403, "wrong_code")
        code = release_code(GRANT, EPOCH + 1, "release-0001", "grace")
        assert (await call("resume-confirm", **says("grace", "release-0001", code=code)))[0] == 200

    talk(bot, talking)


def test_a_bot_without_a_guard_confirms_nothing_at_all() -> None:
    bot = Bot("operator_hold")

    async def talking(call: Call) -> None:
        _, asked = await call("resume-request", **asks("ada"))
        number = asked["request_id"]
        got, _ = await call("resume-confirm", **says("grace", number, code=release_code("", EPOCH, number, "grace")))
        assert got == 403

    talk(bot, talking, grant_token="")
    assert bot.engine.view == "HELD"


def test_a_request_that_is_sent_again_under_its_own_id_is_the_same_request() -> None:
    bot = Bot("operator_hold")

    async def talking(call: Call) -> None:
        for _ in range(2):
            got, asked = await call("resume-request", **asks("ada", request_id="release-0001"))
            assert (got, asked["request_id"]) == (202, "release-0001")
        got, refused = await call("resume-request", **asks("ada", request_id="no good"))
        assert (got, refused["error"].split(":")[0]) == (422, "request_id")
        assert (await call("resume-confirm", **says("grace", "release-0001")))[0] == 200

    talk(bot, talking)


def test_wrong_tokens_are_throttled_and_a_right_one_is_not() -> None:
    bot = Bot("operator_hold")

    async def talking(call: Call) -> None:
        codes = [(await call("resume-request", **asks("ada", token="x" * 20)))[0] for _ in range(11)]
        assert codes == [401] * 10 + [429]
        assert (await call("resume-request", **asks("ada")))[0] == 202

    talk(bot, talking)


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
