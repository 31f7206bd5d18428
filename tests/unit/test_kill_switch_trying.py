"""The kill switch tried until it is proven: no end but a proof, no claim before it, and a bounded log."""

from __future__ import annotations

import pytest

from bot.runtime.kill_switch_key import NewestKey
from bot.runtime.kill_switch_own_key import ChosenKey, Whose
from bot.runtime.kill_switch_report import Report
from bot.runtime.kill_switch_trying import LINES_MAX, TRY_S_MAX, Sparing, until_proven
from bot.runtime.secrets import KeyPair, KeyType, Secret, SecretMissing, SecretsUnreadable


class Backend:
    """Holds what it is told to hold; an exception is what it answers with."""

    backend = "memory"

    def __init__(self, holds: KeyPair | Exception) -> None:
        self.holds = holds
        self.asked = 0

    def get(self, exchange: str, key_type: KeyType) -> Secret:
        raise NotImplementedError

    def pair(self, exchange: str) -> KeyPair:
        self.asked += 1
        if isinstance(self.holds, Exception):
            raise self.holds
        return self.holds


def pair(name: str) -> KeyPair:
    return KeyPair(Secret(f"{name}-key-0123456789"), Secret(f"{name}-secret-0123456789"), name)


def opens(one: KeyPair) -> str:
    """Whose account a pair opens at the venue; empty: it does not say."""
    return {"old": "7", "new": "7", "strange": "8"}.get(one.version, "")


def report(status: str, *errors: str) -> Report:
    return Report(status, "a", "b", 0, [], [], False, list(errors))  # type: ignore[arg-type]


def test_it_goes_on_until_one_try_proves_it_and_each_is_given_twice_the_time() -> None:
    asked, said, kept, waited = [], [], [], []

    def one(for_s: float) -> Report:
        asked.append(for_s)
        return report("executed") if len(asked) == 8 else report("failed", "connection refused")

    proven = until_proven(one, 21.0, said.append, kept.append, waited.append)
    assert proven.status == "executed"
    assert asked == [21.0, 42.0, 84.0, 168.0, 336.0, TRY_S_MAX, TRY_S_MAX, TRY_S_MAX]
    assert [one.status for one in kept] == ["failed"] * 7  # nobody who reads it meanwhile takes it for done
    assert waited == [1.0] * 7
    assert said[0] == "not proven after 1 of its tries (connection refused); the next lasts 42 s"
    assert len(said) == 7


def test_a_first_try_that_proves_it_is_all() -> None:
    said: list[str] = []
    assert until_proven(lambda _for_s: report("dry_run"), 900.0, said.append, said.append, said.append).exit_code == 0
    assert said == []


def test_the_same_line_is_said_once_and_many_different_ones_come_to_an_end() -> None:
    said: list[str] = []
    say = Sparing(said.append)
    for number in range(LINES_MAX * 3):
        say("the venue is away")
        say(f"cancel of slwq-1-{number} failed")
    assert said.count("the venue is away") == 1
    assert len(said) == LINES_MAX + 1
    assert said[-1] == f"{LINES_MAX} different lines were said; others are not"


def test_a_key_that_was_changed_is_used_by_the_next_try_where_it_opens_the_same_account() -> None:
    said: list[str] = []
    backend = Backend(pair("old"))
    key = NewestKey(backend, "bybit", patient=True)
    assert (key.for_a_try(opens, said.append), backend.asked) == (pair("old"), 1)
    key.learn_owner(opens)
    backend.holds = pair("new")
    assert key.for_a_try(opens, said.append) == pair("new")
    for away in (SecretsUnreadable("the cloud is away"), SecretMissing("api_secret is not saved")):
        backend.holds = away
        assert key.for_a_try(opens, said.append) == pair("new")
    assert said == ["the cloud is away", "api_secret is not saved"]
    assert key.scrubber.scrub("old-secret-0123456789 new-key-0123456789") == "*** ***"


@pytest.mark.parametrize(
    ("newest", "learnt", "what"),
    [
        ("strange", "old", "which opens account 8; the one in use is account 7's and stays"),
        ("revoked", "old", "which opens nobody knows what; the one in use is account 7's and stays"),
        ("new", "", "which opens account 7; the one in use is nobody knows whose and stays"),
    ],
)
def test_under_another_accounts_key_all_would_look_proven_so_it_is_not_used(
    newest: str, learnt: str, what: str
) -> None:
    said: list[str] = []
    backend = Backend(pair("old"))
    key = NewestKey(backend, "bybit", patient=True)
    key.for_a_try(opens, said.append)
    key.learn_owner(opens if learnt else lambda _pair: "")
    backend.holds = pair(newest)
    assert key.for_a_try(opens, said.append) == pair("old")
    assert said == [f"the key was changed to {pair(newest).api_key}, {what}"]


def test_without_a_key_yet_it_waits_for_one_only_where_it_has_the_time() -> None:
    said: list[str] = []
    backend = Backend(SecretsUnreadable("the cloud is away"))
    with pytest.raises(SecretsUnreadable):
        NewestKey(backend, "bybit", patient=False)
    key = NewestKey(backend, "bybit", patient=True)
    assert key.for_a_try(opens, said.append) is None
    assert said == ["the cloud is away"]
    backend.holds = pair("old")
    assert key.for_a_try(opens, said.append) == pair("old")
    with pytest.raises(SecretMissing):
        NewestKey(Backend(SecretMissing("BYBIT_API_KEY is not set")), "bybit", patient=True)


def test_whose_the_accounts_key_is_once_known_stays_known_when_the_venue_refuses_it() -> None:
    said: list[str] = []
    key = ChosenKey(Backend(pair("old")), "bybit", pair("own"), patient=True)
    opened = {"old": Whose("7"), "own": Whose("7")}
    for opened["old"] in (Whose("7"), Whose("", "10003 revoked", is_refused=True), Whose("", "no answer")):
        choice = key.for_a_try(lambda one: opened[one.version], said.append)
        assert choice is not None
        assert (choice.pair, choice.doubt) == (pair("own"), "")
    opened["own"] = Whose("8")
    choice = key.for_a_try(lambda one: opened[one.version], said.append)
    assert choice is not None
    assert (choice.pair, choice.doubt, choice.instead) == (pair("old"), "", None)
    assert said == ["the kill switch's own key is not used: it opens account 8, the account's key 7"]
    assert key.scrubber.scrub("old-secret-0123456789 own-secret-0123456789") == "*** ***"


def test_while_the_accounts_key_cannot_be_read_its_own_cancels_and_proves_nothing() -> None:
    said: list[str] = []
    backend = Backend(SecretsUnreadable("the cloud is away"))
    key = ChosenKey(backend, "bybit", pair("own"), patient=False)
    choice = key.for_a_try(lambda _one: Whose("7"), said.append)
    assert choice is not None
    assert choice.pair == pair("own")
    proven = report("executed")
    assert (choice.told(proven).exit_code, choice.told(proven).errors) == (1, [choice.doubt])
    assert said == ["the cloud is away", choice.doubt]
    backend.holds = pair("old")
    choice = key.for_a_try(lambda _one: Whose("7"), said.append)
    assert choice is not None
    assert choice.told(proven) == proven
