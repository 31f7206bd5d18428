"""Signatures: exact bytes in, known hex out. The expected values were computed with `openssl dgst -hmac`."""

from __future__ import annotations

import hmac
import json

from hypothesis import given
from hypothesis import strategies as st

from bot.venues.bybit import calls
from bot.venues.bybit.signing import rest_headers, sign, socket_auth

KEY = "key-0123456789ab"
SECRET = "secret-of-the-test"


def test_a_get_is_signed_over_its_query_string():
    headers = rest_headers(KEY, SECRET, 1764590400250, 5000, b"category=linear&symbol=BTCUSDT")
    assert headers == {
        "X-BAPI-API-KEY": KEY,
        "X-BAPI-TIMESTAMP": "1764590400250",
        "X-BAPI-SIGN": "6c9403a584e947cb1fac33b057eeaa724631156e8d463105b67fc975c9e3b1eb",
        "X-BAPI-RECV-WINDOW": "5000",
    }


def test_a_post_is_signed_over_its_raw_body():
    body = b'{"category":"linear","symbol":"BTCUSDT"}'
    assert calls.cancel_all("linear", "BTCUSDT").payload == body
    headers = rest_headers(KEY, SECRET, 1764590400250, 5000, body)
    assert headers["X-BAPI-SIGN"] == "78de9bd9ef140b548572b41c2a7fe513af5cb202e2832997ce14c551a29399eb"


def test_a_socket_signs_get_realtime_and_its_expiry():
    assert json.loads(socket_auth(KEY, SECRET, 1764590410250)) == {
        "op": "auth",
        "args": [KEY, 1764590410250, "e7f2b499d29c159e732bf05dce30499114d3953f08d2739d39886a69492656ea"],
    }


def test_another_secret_another_window_or_another_moment_give_another_signature():
    signatures = {
        rest_headers(KEY, secret, moment, window, b"")["X-BAPI-SIGN"]
        for secret, moment, window in ((SECRET, 1, 5000), ("other", 1, 5000), (SECRET, 2, 5000), (SECRET, 1, 5001))
    }
    assert len(signatures) == 4


def test_the_secret_stands_in_nothing_that_is_sent():
    sent = str(rest_headers(KEY, SECRET, 1, 5000, b"x=1")) + socket_auth(KEY, SECRET, 1)
    assert SECRET not in sent
    assert len(sign(SECRET, b"")) == 64


@given(secret=st.text(max_size=100), payloads=st.lists(st.binary(max_size=300), min_size=1, max_size=3))
def test_a_signature_is_the_standard_librarys_hmac_also_when_the_same_secret_signs_again(secret, payloads):
    for payload in payloads:
        assert sign(secret, payload) == hmac.new(secret.encode(), payload, "sha256").hexdigest()
