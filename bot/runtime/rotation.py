"""A key that changes while the bot runs: noticed, tried out, and only then used. No restart, no order lost.

The backend is asked every `every_s`, and at once where the venue has refused the key in use. A new pair must first be
taken by the venue for a signed read, and open the same account; one that is refused, or another account's, is said so
and never used, and one of which nothing was heard is tried again. While the venue has not said whose the pair in use
is, no other is used: that is waited for at the start, for a bounded time, and asked again at each look. Whatever fails,
the pair in use stays: a failed read is not an empty one.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final, Never, Protocol

from bot.runtime.logs import JsonLog
from bot.runtime.secrets import KeyPair, Secret, SecretMissing, SecretsUnreadable
from bot.venues.port import VenueError, VenueRefused

NAME: Final = "bot.runtime.rotation"
LOOK_S: Final = 0.25
"""How often it is seen whether a read is due or the venue has refused the key."""
LEARN_WITHIN_S: Final = 60.0
"""So long the venue is asked at the start whose the first key is."""
REFUSED_EVERY_S: Final = 2.0
"""Neither the backend nor the venue is asked more often than this while the venue refuses."""


class KeyUser(Protocol):
    """The adapter, as far as keys concern it."""

    @property
    def key_refusals(self) -> int:
        """How often the venue has refused the key since the start."""

    async def key_account(self, api_key: str, api_secret: str) -> str:
        """The account that pair opens, by one signed read. Raises VenueError; VenueRefused: it is not taken."""

    def use_key(self, api_key: str, api_secret: str) -> None:
        """From the next request on."""


class KeyRotation:
    """One account's key, kept current. `first`: the pair the adapter was made with. `read` raises as a provider."""

    def __init__(
        self,
        exchange: str,
        read: Callable[[str], Awaitable[KeyPair]],
        first: KeyPair,
        user: KeyUser,
        log: JsonLog,
        every_s: float,
        look_s: float = LOOK_S,
        learn_within_s: float = LEARN_WITHIN_S,
    ) -> None:
        self._exchange = exchange
        self._read = read
        self._current = first
        self._user = user
        self._log = log
        self._every_s = every_s
        self._look_s = look_s
        self._learn_within_s = learn_within_s
        self._unlearnt = "no answer"
        self._refused: Secret | None = None
        self.tells_accounts = True
        """Whether the venue's hosts say whose a key is. Demo trading's do not: there the first key stays."""
        self.account = ""
        """Whose key it is, by the venue's word; empty before it was learnt."""
        self.rotations = 0

    async def run(self) -> Never:
        """Until cancelled."""
        loop = asyncio.get_running_loop()
        if not self.tells_accounts:
            message = (
                "these hosts do not say whose a key is, so the one in use is never replaced: a new one by a restart"
            )
            self._log.write("WARNING", NAME, "secret_not_rotated", {"message": message})
            await loop.create_future()
        await self.learn_account()
        asked_at_s, refusals = loop.time(), self._user.key_refusals
        while True:
            await asyncio.sleep(self._look_s)
            waited_s, now_refused = loop.time() - asked_at_s, self._user.key_refusals
            if waited_s >= self._every_s or (now_refused > refusals and waited_s >= REFUSED_EVERY_S):
                asked_at_s, refusals = loop.time(), now_refused
                await self.look()

    async def learn_account(self) -> None:
        """While the first pair still is the venue's: later nobody could say whose it was. Says so where it gives up."""
        try:
            async with asyncio.timeout(self._learn_within_s):
                said = False
                while not await self._learnt():
                    if not said:
                        said = True
                        self._log.write("WARNING", NAME, "secret_account_unknown", {"message": self._unlearnt})
                    await asyncio.sleep(REFUSED_EVERY_S)
        except TimeoutError:
            what = f"not learnt within {self._learn_within_s:g} s whose the key in use is ({self._unlearnt})"
            message = f"{what}; no new key is used before it is"
            self._log.write("ERROR", NAME, "secret_account_unknown", {"message": message})

    async def _learnt(self) -> bool:
        """Whether it is known whose the pair in use is; asks once where it is not."""
        if not self.account:
            try:
                self.account = await self._user.key_account(*_revealed(self._current))
            except VenueError as error:
                self._unlearnt = str(error)
        return bool(self.account)

    async def look(self) -> None:
        """Asks the backend once, and takes over what is new and good."""
        try:
            pair = await self._read(self._exchange)
        except (SecretMissing, SecretsUnreadable) as error:
            self._log.write("WARNING", NAME, "secret_unreadable", {"message": str(error)})
            return
        if pair.api_key == self._current.api_key and pair.api_secret == self._current.api_secret:
            return
        self._log.conceal((pair.api_key, pair.api_secret))
        fields: dict[str, str | int | float | bool | None] = {"api_key": str(pair.api_key), "version": pair.version}
        if not await self._learnt():
            message = f"whose the key in use is is not known ({self._unlearnt})"
            self._log.write("WARNING", NAME, "secret_untried", {**fields, "message": message})
            return
        try:
            account = await self._user.key_account(*_revealed(pair))
            if account != self.account:
                raise VenueRefused(f"it opens account {account}, not {self.account}")
        except VenueRefused as error:
            if self._refused != pair.api_secret:  # said once for each pair
                self._refused = pair.api_secret
                self._log.write("ERROR", NAME, "secret_refused", {**fields, "message": str(error)})
            return
        except VenueError as error:
            self._log.write("WARNING", NAME, "secret_untried", {**fields, "message": str(error)})
            return
        self._user.use_key(*_revealed(pair))
        self._current = pair
        self.rotations += 1
        self._log.write("INFO", NAME, "secret_rotated", fields)


def _revealed(pair: KeyPair) -> tuple[str, str]:
    return pair.api_key.reveal(), pair.api_secret.reveal()
