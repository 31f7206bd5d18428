"""A client's message on a Bybit V5 socket, as it is decoded."""

from __future__ import annotations

import msgspec


class Frame(msgspec.Struct):
    """Clients may number their requests; the answer repeats the number as text."""

    op: str = ""
    args: list[object] = []
    req_id: str | int = ""
    reqId: str | int = ""
    header: dict[str, object] = {}
