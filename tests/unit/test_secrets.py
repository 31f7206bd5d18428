"""Secrets never show themselves, and what is missing is named."""

from __future__ import annotations

import logging
import pickle

import pytest

from bot.runtime.secrets import MemorySecrets, Scrubber, Secret, SecretMissing, mask

VALUE = '1234-a+b/c"d-cdef'


def test_a_key_shows_four_characters_at_each_end_and_short_ones_nothing():
    assert mask("1234567890abcdef") == "1234...cdef"
    assert mask("123456789012") == "1234...9012"
    assert mask("12345678901") == "***"
    assert mask("") == "***"


def test_a_secret_is_masked_however_it_is_printed():
    secret = Secret(VALUE)
    for text in (str(secret), repr(secret), f"{secret}", f"{secret!r}", f"{[secret]}", "%s" % secret):  # noqa: UP031
        assert VALUE not in text
        assert "1234...cdef" in text
    assert secret.reveal() == VALUE
    with pytest.raises(TypeError):
        pickle.dumps(secret)


def test_secrets_come_from_the_environment_by_exchange_and_type():
    provider = MemorySecrets({"BYBIT_API_KEY": " k ", "BYBIT_API_SECRET": "s"})
    assert provider.get("bybit", "api_key").reveal() == "k"
    assert provider.get("bybit", "api_secret").reveal() == "s"


@pytest.mark.parametrize("environ", [{}, {"BYBIT_API_SECRET": "  "}])
def test_a_missing_secret_is_named_exactly(environ):
    with pytest.raises(SecretMissing, match=r"^BYBIT_API_SECRET is not set$"):
        MemorySecrets(environ).get("bybit", "api_secret")


def test_the_scrubber_removes_every_written_form():
    scrubber = Scrubber((Secret(VALUE), "plain-other", ""))
    text = scrubber.scrub('a 1234-a+b/c"d-cdef b 1234-a+b/c\\"d-cdef c 1234-a%2Bb%2Fc%22d-cdef d plain-other e')
    assert text == "a *** b *** c *** d *** e"


def test_a_scrubber_learns_new_values_and_forgets_no_old_one():
    scrubber = Scrubber(("the-old-value",))
    scrubber.learn((Secret("the-new-value"),))
    assert scrubber.scrub("the-old-value the-new-value") == "*** ***"


def test_secrets_are_compared_by_value_and_are_no_keys_of_tables():
    assert Secret("the-value") == Secret("the-value")
    assert Secret("the-value") != Secret("another")
    assert Secret("the-value") != "the-value"
    with pytest.raises(TypeError):
        hash(Secret("the-value"))


def test_a_pair_of_the_environment_is_whole_or_the_missing_half_is_named():
    provider = MemorySecrets({"OKX_API_KEY": "k", "OKX_API_SECRET": "s"})
    assert provider.pair("okx") == (Secret("k"), Secret("s"), "memory", None)
    with pytest.raises(SecretMissing, match=r"^BITGET_API_SECRET is not set$"):
        MemorySecrets({"BITGET_API_KEY": "k"}).pair("bitget")


def test_a_secret_that_contains_another_goes_whole():
    assert Scrubber(("abc", "abcdef")).scrub("xabcdefx abc") == "x***x ***"


def test_log_records_lose_secrets_in_arguments_and_tracebacks():
    scrubber = Scrubber(("top-secret-value",))
    try:
        raise ValueError("bad top-secret-value")
    except ValueError as error:
        caught = (type(error), error, error.__traceback__)
    record = logging.LogRecord("n", logging.ERROR, "f", 1, "key %s", ("top-secret-value",), caught)
    assert scrubber.filter(record)
    text = logging.Formatter().format(record)
    assert "top-secret-value" not in text
    assert "key ***" in text
    assert "ValueError" in text
