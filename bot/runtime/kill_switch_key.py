"""Under which key a kill switch works that goes on for as long as it takes: the key may be changed meanwhile.

A new pair is used only where the venue says that it opens the same account as the one before: under another account's
key nothing of ours is open, and all would look proven. Whose the first pair is can be learnt only while it is still the
venue's; where that was not, a new one is not used, and that is said.
"""

from __future__ import annotations

from collections.abc import Callable

from bot.runtime.secrets import KeyPair, Scrubber, SecretMissing, SecretProvider, SecretsUnreadable


class NewestKey:
    """The account's key as it can be read now, else the last that was good. `scrubber`: knows all that were read."""

    def __init__(self, secrets: SecretProvider, exchange: str, *, patient: bool) -> None:
        """`patient`: a backend that cannot be asked is asked again. Raises SecretMissing; SecretsUnreadable if not."""
        self._secrets = secrets
        self._exchange = exchange
        self._pair: KeyPair | None = None
        self._owner = ""
        self._is_unused = False
        self.scrubber = Scrubber(())
        try:
            self._pair = self._read()
            self._is_unused = True
        except SecretsUnreadable:
            if not patient:
                raise

    def for_a_try(self, owner_of: Callable[[KeyPair], str], say: Callable[[str], None]) -> KeyPair | None:
        """None where none could be read so far. `owner_of`: whose account a pair opens, empty where nobody tells.

        What goes wrong is said, and so is a new pair that is not used.
        """
        if self._is_unused:
            self._is_unused = False
            return self._pair
        try:
            newest = self._read()
        except (SecretMissing, SecretsUnreadable) as error:
            say(str(error))
            return self._pair
        if self._pair is None or _same(newest, self._pair):
            self._pair = newest
            return newest
        owner = owner_of(newest)
        if owner and owner == self._owner:
            self._pair = newest
        else:
            opens = f"opens account {owner}" if owner else "opens nobody knows what"
            whose = f"account {self._owner}'s" if self._owner else "nobody knows whose"
            say(f"the key was changed to {newest.api_key}, which {opens}; the one in use is {whose} and stays")
        return self._pair

    def learn_owner(self, owner_of: Callable[[KeyPair], str]) -> None:
        """Asks whose the pair in use is, where that is not known yet."""
        if self._pair is not None and not self._owner:
            self._owner = owner_of(self._pair)

    @property
    def owner(self) -> str:
        """Whose the pair in use is, as far as the venue has said; empty: it has not."""
        return self._owner

    def note_owner(self, owner: str) -> None:
        """The venue was asked whose the pair in use is, and said it; empty: it did not."""
        self._owner = owner or self._owner

    def _read(self) -> KeyPair:
        pair = self._secrets.pair(self._exchange)
        self.scrubber.learn((pair.api_key, pair.api_secret))
        return pair


def _same(one: KeyPair, other: KeyPair) -> bool:
    return one.api_key == other.api_key and one.api_secret == other.api_secret
