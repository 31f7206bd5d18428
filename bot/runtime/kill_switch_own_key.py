"""Which of two keys a try of the kill switch works with: its own, where it has one, or the account's.

Its own has rate limits of its own, and is used where the venue says that it opens the same account as the account's
key: under another account's key nothing of ours is open, and all would look proven. Where it is refused, opens another
account, or the venue does not say whose one of the two is, the account's key serves. Where that is refused or there is
none, its own cancels what is ours and flattens nothing, for it may be another account's; and nothing is proven.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final, NamedTuple, NoReturn

import msgspec

from bot.runtime.kill_switch_key import NewestKey
from bot.runtime.kill_switch_report import Report
from bot.runtime.secrets import OWN_KEY, KeyPair, Scrubber, Secret, SecretMissing, SecretProvider
from bot.venues.bybit.codes import KEY_CODES

REFUSALS: Final = KEY_CODES | {10010}
"""Answers that no call with this key from this address gets past."""


class KeyIncomplete(Exception):
    """Half of a key. The message names the half that is missing."""


class KeyRefused(Exception):
    """The venue refuses the key in use, and there is another one."""


class Whose(NamedTuple):
    """What the venue says of a key. `owner`: whose account it opens; empty: it did not say, and `why` says why not."""

    owner: str
    why: str = ""
    is_refused: bool = False


class Choice(NamedTuple):
    """A key. `doubt`: why nothing is proven under it; empty: it is the account's. `note`: why its own is not used.

    `instead`: what is left where the venue refuses it in the middle.
    """

    pair: KeyPair
    doubt: str = ""
    note: str = ""
    instead: Choice | None = None

    def refused(self) -> NoReturn:
        """Raises KeyRefused."""
        raise KeyRefused

    def told(self, report: Report) -> Report:
        """The report of a run under it, with what there is to say of it; never of a success where there is doubt."""
        if self.doubt:
            errors = [self.doubt, *report.errors]
            return msgspec.structs.replace(report, status="failed", flattened=False, errors=errors)
        return msgspec.structs.replace(report, errors=[*report.errors, self.note]) if self.note else report


class ChosenKey:
    """The key of each try. `scrubber`: knows all that were read."""

    def __init__(self, secrets: SecretProvider, exchange: str, own: KeyPair | None, *, patient: bool) -> None:
        """`patient`: as of NewestKey. Raises as that does where there is no `own`; with one nothing is waited for."""
        self._own = own
        self._missing = "the account's key cannot be read"
        self._newest: NewestKey | None = None
        try:
            self._newest = NewestKey(secrets, exchange, patient=patient or own is not None)
        except SecretMissing as error:
            if own is None:
                raise
            self._missing = str(error)
        self.scrubber = Scrubber(()) if self._newest is None else self._newest.scrubber
        self.scrubber.learn(() if own is None else (own.api_key, own.api_secret))

    def for_a_try(self, ask: Callable[[KeyPair], Whose], say: Callable[[str], None]) -> Choice | None:
        """None where there is no key so far. What keeps its own from being used is said."""
        newest = self._newest
        pair = None if newest is None else newest.for_a_try(lambda one: ask(one).owner, say)
        if self._own is None:
            return None if pair is None else Choice(pair)
        choice = _doubtful(self._own, self._missing) if pair is None else self._between(pair, self._own, ask)
        for line in filter(None, (choice.doubt, choice.note)):
            say(line)
        return choice

    def _between(self, pair: KeyPair, own: KeyPair, ask: Callable[[KeyPair], Whose]) -> Choice:
        opens = ask(own)
        if not opens.owner:  # not a call more before the first cancel: the venue may answer none
            doubtful = None if opens.is_refused else _doubtful(own, opens.why)
            return Choice(pair, note=f"the kill switch's own key is not used: {opens.why}", instead=doubtful)
        theirs = ask(pair)
        owner = theirs.owner or self._owner
        if self._newest is not None:
            self._newest.note_owner(owner)
        if owner == opens.owner:
            return Choice(own, instead=Choice(pair))
        if owner:
            why = f"it opens account {opens.owner}, the account's key {owner}"
            return Choice(pair, note=f"the kill switch's own key is not used: {why}")
        if theirs.is_refused:
            return _doubtful(own, theirs.why)
        note = f"the kill switch's own key is not used: nobody knows whether it is this account's: {theirs.why}"
        return Choice(pair, note=note, instead=_doubtful(own, theirs.why))

    @property
    def _owner(self) -> str:
        return "" if self._newest is None else self._newest.owner

    def learn_owner(self, ask: Callable[[KeyPair], Whose]) -> None:
        """Asks whose the account's key is, where that is not known yet."""
        if self._newest is not None:
            self._newest.learn_owner(lambda one: ask(one).owner)


def _doubtful(own: KeyPair, why: str) -> Choice:
    what = "nobody knows whether the kill switch's own key is this account's"
    return Choice(own, doubt=f"{what}: it cancels what is ours, flattens nothing and proves nothing ({why})")


def own_pair(environ: Mapping[str, str]) -> KeyPair | None:
    """The kill switch's own key; None where it has none. Raises KeyIncomplete."""
    own = {name: value for name in OWN_KEY if (value := environ.get(name, "").strip())}
    if not own:
        return None
    if missing := [name for name in OWN_KEY if name not in own]:
        raise KeyIncomplete(f"{missing[0]} is not set, and {next(iter(own))} is")
    key, secret = (Secret(own[name]) for name in OWN_KEY)
    return KeyPair(key, secret, "own")


def with_a_key_of_the_account(environ: Mapping[str, str]) -> Mapping[str, str]:
    """The environment; where it names no key of an account at all, with the kill switch's own in that place: whoever
    gives one key alone says by it which account is meant. Raises KeyIncomplete."""
    names = (*OWN_KEY.values(), "SECRETS_BACKEND")
    if own_pair(environ) is None or any(environ.get(name) for name in names):
        return environ
    return {**environ, **{OWN_KEY[name]: environ[name] for name in OWN_KEY}, **dict.fromkeys(OWN_KEY, "")}
