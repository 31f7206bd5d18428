"""What each venue behind ccxt can and cannot promise, said beforehand and not discovered live.

Sources: the venues' API documentation and ccxt's own tables, July 2026. None of them is certified: nobody has shown
yet that no order is lost there, so orders are refused before a key is read.
"""

from __future__ import annotations

import re
from typing import Final

import msgspec

from bot.domain.order import OWN_PREFIX


class Capabilities(msgspec.Struct, frozen=True):
    """One venue. `client_id`: what an id may be; `separator`: what stands there for the `-` of our ids."""

    exchange: str
    client_id: str
    separator: str
    amends: bool
    """An order is changed in place, under its id."""
    cancels_all: bool
    """One call cancels every order of a symbol; otherwise they are read and cancelled by their ids."""
    tells_post_only: bool
    """Whether a post-only order that would have taken is told from one that was cancelled."""
    streams: bool = False
    """Books by socket. False: read again and again, as fast as the venue's limits allow."""
    private_stream: bool = False
    statement: bool = False
    """Equity net of transfers."""
    certified: bool = False
    """Whether orders may go there."""

    def id_there(self, client_order_id: str) -> str:
        """Our id as the venue takes it; `id_here` gives it back. Raises ValueError for one that it cannot."""
        there = client_order_id.replace("-", self.separator)
        if not re.fullmatch(self.client_id, there) or self.id_here(there) != client_order_id:
            raise ValueError(f"{self.exchange}: client order id {client_order_id!r} does not fit {self.client_id}")
        return there

    def id_here(self, there: str) -> str:
        """The venue's word as our id; ids of others stay as they are."""
        own = there.startswith(OWN_PREFIX) and self.separator != "-"
        return there.replace(self.separator, "-") if own else there

    def lacks(self) -> list[str]:
        """What is missing, a line each."""
        words = {
            "amends": "no amend in place: cancel and place anew",
            "cancels_all": "no cancel-all in one call: orders are read and cancelled by id",
            "tells_post_only": "does not say why a post-only order ended",
            "streams": "books are read again and again, not streamed",
            "private_stream": "no private stream: orders and fills would have to be read",
            "statement": "no statement of equity net of transfers",
            "certified": "not certified: no order is sent",
        }
        return [f"{self.exchange}: {text}" for name, text in words.items() if not getattr(self, name)]


CAPABILITIES: Final[dict[str, Capabilities]] = {
    one.exchange: one
    for one in (
        Capabilities("binance", r"[.A-Z:/a-z0-9_-]{1,36}", "-", amends=True, cancels_all=True, tells_post_only=True),
        Capabilities("okx", r"[A-Za-z0-9]{1,32}", "Z", amends=True, cancels_all=False, tells_post_only=True),
        Capabilities("bitget", r"[A-Za-z0-9_#:-]{1,50}", "-", amends=False, cancels_all=True, tells_post_only=False),
    )
}
