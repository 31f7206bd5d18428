"""Signatures of Bybit V5: pure, time and key are arguments.

Lower-case hex HMAC-SHA256 under the API secret. REST signs `timestamp + key + receive window + (query string | raw
body)`, exactly the bytes that are sent; a socket signs `GET/realtime` + the moment its authentication expires.
The venue takes a REST timestamp when server - window <= timestamp < server + 1000 ms.
"""

from __future__ import annotations

from functools import lru_cache
from hashlib import sha256
from typing import TYPE_CHECKING, Final

import msgspec
from multidict import istr

if TYPE_CHECKING:
    from hashlib import _Hash

API_KEY, TIMESTAMP = istr("X-BAPI-API-KEY"), istr("X-BAPI-TIMESTAMP")
SIGN, RECV_WINDOW = istr("X-BAPI-SIGN"), istr("X-BAPI-RECV-WINDOW")
"""Names of headers whose lower case is worked out once, not with every request."""

BLOCK_BYTES: Final = 64
KEYS_KEPT: Final = 4
"""Secrets that are kept taken in: one in use and the next while keys are rotated, of two accounts."""


def sign(secret: str, payload: bytes) -> str:
    """Lower-case hex HMAC-SHA256 of the payload (RFC 2104).

    From two hashes that have taken in the secret already: `hmac` looks its algorithm up anew with every signature,
    which costs three times the hashing.
    """
    started, finishing = _keyed(secret)
    inner, outer = started.copy(), finishing.copy()
    inner.update(payload)
    outer.update(inner.digest())
    return outer.hexdigest()


@lru_cache(maxsize=KEYS_KEPT)
def _keyed(secret: str) -> tuple[_Hash, _Hash]:
    """The inner and the outer hash after the secret. To be copied, never fed."""
    key = secret.encode()
    if len(key) > BLOCK_BYTES:
        key = sha256(key).digest()
    padded = key.ljust(BLOCK_BYTES, b"\0")
    return sha256(bytes(byte ^ 0x36 for byte in padded)), sha256(bytes(byte ^ 0x5C for byte in padded))


def rest_headers(key: str, secret: str, timestamp_ms: int, recv_window_ms: int, payload: bytes) -> dict[str, str]:
    """The four headers of a signed call. `payload`: the query string of a GET, the raw body of a POST, as sent."""
    stamp, window = str(timestamp_ms), str(recv_window_ms)
    return {
        API_KEY: key,
        TIMESTAMP: stamp,
        SIGN: sign(secret, (stamp + key + window).encode() + payload),
        RECV_WINDOW: window,
    }


def socket_auth(key: str, secret: str, expires_ms: int) -> str:
    """The first message on a private or trade socket. `expires_ms` has to lie ahead of the venue's clock."""
    signature = sign(secret, f"GET/realtime{expires_ms}".encode())
    return msgspec.json.encode({"op": "auth", "args": [key, expires_ms, signature]}).decode()
