"""An account's key from a backend: kept a minute, read anew after a refusal, known while the backend is away."""

from __future__ import annotations

import pytest

from bot.runtime.secrets import KeyPair, Secret, SecretMissing, SecretsUnreadable
from bot.venues.port import VenueError, VenueUnknown
from tasks.account_keys import KEPT_S, KNOWN_TIMEOUT_S, AccountKeys, backend_environment


def pair(name: str) -> KeyPair:
    return KeyPair(Secret(f"key-of-{name}-0123456789"), Secret(f"secret-of-{name}"), name)


class Rig:
    """A backend that holds a pair or an error, and a clock."""

    def __init__(self, holds: KeyPair | Exception) -> None:
        self.holds = holds
        self.now_s = 1_000.0
        self.limits_s: list[float | None] = []
        self.keys = AccountKeys(self.read, lambda: self.now_s)
        self.refused: VenueError | None = None
        self.tried: list[str] = []

    def read(self, within_s: float | None) -> KeyPair:
        self.limits_s.append(within_s)
        if isinstance(self.holds, Exception):
            raise self.holds
        return self.holds

    def opens(self, key: str, secret: str) -> str:
        """The venue: every pair is account 1's, but the other's."""
        self.tried.append(secret)
        if self.refused is not None:
            raise self.refused
        return "2" if secret == "secret-of-other" else "1"

    def current(self) -> str:
        return self.keys.current(self.opens)[1]

    def after_refusal(self) -> str:
        return self.keys.after_refusal(self.opens)[1]


def test_the_pair_is_kept_for_a_minute_and_then_read_anew() -> None:
    rig = Rig(pair("first"))
    assert rig.keys.current(rig.opens) == ("key-of-first-0123456789", "secret-of-first")
    rig.holds = pair("second")
    rig.now_s += KEPT_S - 1
    assert rig.current() == "secret-of-first"
    rig.now_s += 1
    assert rig.current() == "secret-of-second"
    assert rig.limits_s == [None, KNOWN_TIMEOUT_S]  # the first may take its time: nothing else is known


def test_after_a_refusal_it_is_read_at_once() -> None:
    rig = Rig(pair("first"))
    rig.current()
    rig.holds = pair("second")
    assert rig.after_refusal() == "secret-of-second"
    assert rig.current() == "secret-of-second"


@pytest.mark.parametrize("error", [SecretsUnreadable("aws: no answer in 3 s"), SecretMissing("it is not saved")])
def test_while_the_backend_is_away_the_pair_read_last_serves_on(
    error: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    rig = Rig(pair("first"))
    rig.current()
    rig.holds = error
    rig.now_s += KEPT_S
    assert rig.current() == "secret-of-first"
    assert rig.after_refusal() == "secret-of-first"
    assert f"the key read last serves on: {error}" in caplog.text


def test_a_pair_that_was_never_read_is_no_pair() -> None:
    rig = Rig(SecretMissing("mm-bot/prod/bybit is not saved"))
    with pytest.raises(SecretMissing, match="mm-bot/prod/bybit is not saved"):
        rig.current()
    rig.holds = pair("first")
    assert rig.current() == "secret-of-first"


def test_a_pair_of_another_account_would_show_nothing_open_and_is_never_used(
    caplog: pytest.LogCaptureFixture,
) -> None:
    rig = Rig(pair("first"))
    rig.current()
    rig.holds = pair("other")
    assert rig.after_refusal() == "secret-of-first"
    assert "it opens account 2, not 1" in caplog.text
    assert "secret-of-other" not in caplog.text
    rig.holds = pair("second")
    assert rig.after_refusal() == "secret-of-second"


def test_a_pair_of_which_the_venue_says_nothing_is_not_used_yet() -> None:
    rig = Rig(pair("first"))
    rig.current()
    rig.holds, rig.refused = pair("second"), VenueUnknown("no answer in 3 s")
    assert rig.after_refusal() == "secret-of-first"
    rig.refused = None
    assert rig.after_refusal() == "secret-of-second"


def test_a_first_pair_whose_account_was_not_learnt_serves_and_is_asked_about_again() -> None:
    rig = Rig(pair("first"))
    rig.refused = VenueUnknown("no answer in 3 s")
    assert rig.current() == "secret-of-first"
    rig.holds, rig.refused = pair("second"), None
    assert rig.after_refusal() == "secret-of-second"
    assert rig.tried == ["secret-of-first", "secret-of-first", "secret-of-second"]


def test_a_process_is_told_the_way_to_the_backend_and_nothing_else() -> None:
    given = {"AWS_REGION": "eu-west-1", "AWS_PROFILE": "mm", "BYBIT_API_KEY": "k", "PREFECT_API_KEY": "p"}
    assert backend_environment(given) == {}
    assert backend_environment({**given, "SECRETS_BACKEND": "memory"}) == {}
    assert backend_environment({**given, "SECRETS_BACKEND": "aws"}) == {
        "SECRETS_BACKEND": "aws",
        "AWS_REGION": "eu-west-1",
        "AWS_PROFILE": "mm",
    }
