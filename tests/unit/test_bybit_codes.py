"""The answer table of Bybit V5, code by code, written down a second time."""

from __future__ import annotations

import pytest

from bot.venues.bybit.codes import TABLE, Meaning, meaning, refusal_error, refusal_outcome
from bot.venues.port import (
    Accepted,
    Refused,
    Unknown,
    VenueClockSkew,
    VenueError,
    VenueRefused,
    VenueUnknown,
)

REFUSED = """10001 10003 10004 10005 10010 10029 110003 110004 110007 110012 110017 110020 110094
170131 170132 170133 170134 170135 170136 170137 170140 170218"""
GONE = "110001 110008 110010 170139 170142 170143 170190 170213"
UNKNOWN = """110072 170141 10000 10006 10016 10019 10403 10429 110079 170001 170005 170007 170032 170146 170147
20003 20006 500000"""
SYMBOL_STOPPED = "110066 110074 30228"
ACCOUNT_STOPPED = "10024 10027 33004"

NOBODY_KNOWS = 987654


def codes(text: str) -> list[int]:
    return [int(word) for word in text.split()]


def test_the_table_has_these_codes_and_no_others():
    everything = [REFUSED, GONE, UNKNOWN, SYMBOL_STOPPED, ACCOUNT_STOPPED, "10002"]
    assert sorted(TABLE) == sorted(code for text in everything for code in codes(text))


@pytest.mark.parametrize("code", codes(REFUSED))
@pytest.mark.parametrize("of_existing", [True, False])
def test_a_refusal_is_definite(code, of_existing):
    outcome = refusal_outcome(code, "no", of_existing=of_existing)
    assert outcome == Refused(code, f"{code} no", post_only=code == 170218, scope="order")


@pytest.mark.parametrize("code", codes(GONE))
def test_a_cancel_of_an_order_that_is_gone_has_succeeded(code):
    assert refusal_outcome(code, "gone", of_existing=True) == Accepted(gone=True)


@pytest.mark.parametrize("code", codes(GONE))
def test_a_create_answered_with_gone_makes_no_sense_and_is_unknown(code):
    assert isinstance(refusal_outcome(code, "gone", of_existing=False), Unknown)


@pytest.mark.parametrize("code", [*codes(UNKNOWN), 10002, NOBODY_KNOWS, -1])
@pytest.mark.parametrize("of_existing", [True, False])
def test_what_is_not_definite_is_unknown_and_carries_its_code(code, of_existing):
    outcome = refusal_outcome(code, "who knows", of_existing=of_existing)
    assert outcome == Unknown(code, f"{code} who knows")


@pytest.mark.parametrize("code", codes(SYMBOL_STOPPED))
def test_a_stopped_instrument_stops_its_symbol(code):
    outcome = refusal_outcome(code, "", of_existing=False)
    assert isinstance(outcome, Refused)
    assert outcome.scope == "symbol"


@pytest.mark.parametrize("code", codes(ACCOUNT_STOPPED))
def test_a_stopped_account_stops_the_bot(code):
    outcome = refusal_outcome(code, "", of_existing=False)
    assert isinstance(outcome, Refused)
    assert outcome.scope == "account"


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        (REFUSED, VenueRefused),
        (GONE, VenueRefused),
        (SYMBOL_STOPPED, VenueRefused),
        (ACCOUNT_STOPPED, VenueRefused),
        (UNKNOWN, VenueUnknown),
        ("10002", VenueClockSkew),
        (str(NOBODY_KNOWS), VenueUnknown),
    ],
)
def test_a_read_raises_the_error_of_its_class_with_code_and_place(text, kind):
    for code in codes(text):
        error = refusal_error(code, "message", "/v5/some/read")
        assert type(error) is kind
        assert isinstance(error, VenueError)
        assert error.code == code
        assert str(error) == f"/v5/some/read: {code} message"


def test_a_code_nobody_has_seen_is_unknown():
    assert meaning(NOBODY_KNOWS) is Meaning.UNKNOWN
