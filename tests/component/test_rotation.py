"""A key that changes while the bot runs: what is new and good is taken over, and nothing else."""

from __future__ import annotations

import asyncio
import contextlib
import io
import json
import time

from bot.runtime.logs import JsonLog
from bot.runtime.rotation import KeyRotation
from bot.runtime.secrets import KeyPair, Secret, SecretMissing, SecretsUnreadable
from bot.venues.port import VenueError, VenueRefused, VenueUnknown

LOOK_S = 0.01
LEARN_S = 0.1


def pair(name: str) -> KeyPair:
    return KeyPair(Secret(f"key-of-{name}-0123456789"), Secret(f"secret-of-{name}"), name)


class Backend:
    """Gives what it holds: a pair, or an error."""

    def __init__(self, holds: KeyPair | Exception) -> None:
        self.holds = holds
        self.asked = 0

    async def pair(self, exchange: str) -> KeyPair:
        self.asked += 1
        if isinstance(self.holds, Exception):
            raise self.holds
        return self.holds


class Venue:
    """Takes the keys of its table; `down`: what it answers instead."""

    def __init__(self) -> None:
        self.accounts = {name: "1" for name in ("first", "second")} | {"other": "2"}
        self.down: VenueError | None = None
        self.hangs = False
        self.used: list[str] = []
        self.key_refusals = 0
        self.asked, self.changed = asyncio.Event(), asyncio.Event()

    async def key_account(self, api_key: str, api_secret: str) -> str:
        self.asked.set()
        if self.hangs:
            await asyncio.Event().wait()
        if self.down is not None:
            raise self.down
        account = self.accounts.get(api_key.split("-")[2])
        if account is None:
            raise VenueRefused("10003 API key is invalid.", 10003)
        return account

    def use_key(self, api_key: str, api_secret: str) -> None:
        self.used.append(api_key.split("-")[2])
        self.changed.set()


class Rig:
    def __init__(self, every_s: float = 3600.0) -> None:
        self.text = io.StringIO()
        self.log = JsonLog((self.text,), time.time_ns)
        self.backend, self.venue = Backend(pair("first")), Venue()
        self.rotation = KeyRotation(
            "bybit", self.backend.pair, pair("first"), self.venue, self.log, every_s, LOOK_S, LEARN_S
        )

    def events(self) -> list[str]:
        return [json.loads(line)["event"] for line in self.text.getvalue().splitlines()]


async def looked(rig: Rig, *held: KeyPair | Exception) -> None:
    """The account is learnt, then the backend is looked at once for each of `held`."""
    await rig.rotation.learn_account()
    for one in held:
        rig.backend.holds = one
        await rig.rotation.look()


def test_a_new_pair_of_the_same_account_is_used_and_shown_masked() -> None:
    rig = Rig()
    asyncio.run(looked(rig, pair("first"), pair("second"), pair("second")))
    assert rig.venue.used == ["second"]
    assert rig.events() == ["secret_rotated"]
    assert "key-...6789" in rig.text.getvalue()
    assert "secret-of-second" not in rig.text.getvalue()


def test_whatever_fails_the_pair_in_use_stays() -> None:
    rig = Rig()
    asyncio.run(looked(rig, SecretMissing("mm-bot/prod/bybit is not saved"), SecretsUnreadable("aws: no answer")))
    assert rig.venue.used == []
    assert rig.events() == ["secret_unreadable", "secret_unreadable"]


def test_a_pair_the_venue_refuses_is_never_used_and_said_once() -> None:
    rig = Rig()
    asyncio.run(looked(rig, pair("bad"), pair("bad"), pair("other"), pair("second")))
    assert rig.venue.used == ["second"]
    assert rig.events() == ["secret_refused", "secret_refused", "secret_rotated"]
    assert "it opens account 2, not 1" in rig.text.getvalue()


def test_a_pair_of_which_nothing_was_heard_is_tried_again() -> None:
    async def run(rig: Rig) -> None:
        await rig.rotation.learn_account()
        rig.backend.holds, rig.venue.down = pair("second"), VenueUnknown("no answer in 2 s")
        await rig.rotation.look()
        assert rig.venue.used == []
        rig.venue.down = None
        await rig.rotation.look()

    rig = Rig()
    asyncio.run(run(rig))
    assert rig.venue.used == ["second"]
    assert rig.events() == ["secret_untried", "secret_rotated"]


def test_a_venue_that_never_says_whose_the_key_is_is_not_waited_for_for_ever() -> None:
    rig = Rig()
    rig.venue.down = VenueUnknown("no answer in 2 s")

    async def run() -> None:
        async with asyncio.timeout(20):
            await looked(rig, pair("second"))
        assert rig.venue.used == []  # nobody can say that it is the same account's
        rig.venue.down = None
        await rig.rotation.look()

    asyncio.run(run())
    assert rig.venue.used == ["second"]
    assert rig.events() == ["secret_account_unknown", "secret_account_unknown", "secret_untried", "secret_rotated"]
    said = [json.loads(line)["message"] for line in rig.text.getvalue().splitlines()[:3]]
    assert said[0] == "no answer in 2 s"
    assert (
        said[1] == "not learnt within 0.1 s whose the key in use is (no answer in 2 s); no new key is used before it is"
    )
    assert said[2] == "whose the key in use is is not known (no answer in 2 s)"


def test_a_hanging_venue_is_left_after_the_time_it_has() -> None:
    rig = Rig()
    rig.venue.hangs = True

    async def run() -> None:
        async with asyncio.timeout(20):
            await rig.rotation.learn_account()

    asyncio.run(run())
    assert rig.rotation.account == ""
    assert rig.events() == ["secret_account_unknown"]
    assert "not learnt within 0.1 s whose the key in use is (no answer)" in rig.text.getvalue()


def test_while_the_venue_refuses_the_key_the_backend_is_asked_before_its_time() -> None:
    async def run(rig: Rig) -> None:
        running = asyncio.create_task(rig.rotation.run())
        async with asyncio.timeout(20):
            await rig.venue.asked.wait()
            rig.backend.holds = pair("second")
            rig.venue.key_refusals += 1
            await rig.venue.changed.wait()
        running.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await running

    rig = Rig()
    asyncio.run(run(rig))
    assert rig.backend.asked == 1


def test_where_no_host_says_whose_a_key_is_the_first_one_stays_and_that_is_said() -> None:
    async def run() -> Rig:
        rig = Rig(every_s=0.01)
        rig.rotation.tells_accounts = False
        rig.backend.holds = pair("second")
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(20 * LOOK_S):
                await rig.rotation.run()
        return rig

    rig = asyncio.run(run())
    assert rig.events() == ["secret_not_rotated"]
    assert (rig.backend.asked, rig.venue.used, rig.venue.asked.is_set()) == (0, [], False)
