"""What the venue states of the account as a whole: fee rates where decisions go by them, equity and margin always.

Read behind every read of orders and position, but no more often than said here, however many symbols and stops ask. A
read that failed becomes `ReadFailed`: what was stated before stands, and a fee that nobody stated is none.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from bot.domain.events import Event, FeesRead, ReadFailed, WalletRead
from bot.domain.instrument import Instrument
from bot.venues.port import VenueError, VenuePort

WALLET_EVERY_NS: Final = 1_000_000_000
FEES_EVERY_NS: Final = 600_000_000_000
"""A tier changes once a day; one that could not be read is asked for again at the next read of the account."""


class StatementReader:
    """`reads_fees`: whether anybody goes by the venue's fees (some accounts cannot ask for them)."""

    def __init__(
        self, port: VenuePort, now_ns: Callable[[], int], tell: Callable[[Event], None], *, reads_fees: bool
    ) -> None:
        self._port = port
        self._now_ns = now_ns
        self._tell = tell
        self._reads_fees = reads_fees
        self._fees_read_ns: dict[str, int] = {}
        self._wallet_asked_ns: int | None = None

    async def read(self, instrument: Instrument) -> None:
        """What is due: the fees of that symbol, the wallet in its quote currency."""
        now_ns = self._now_ns()
        if self._reads_fees and is_due(self._fees_read_ns.get(instrument.symbol), now_ns, FEES_EVERY_NS):
            await self._read_fees(instrument.symbol)
        now_ns = self._now_ns()
        if is_due(self._wallet_asked_ns, now_ns, WALLET_EVERY_NS):
            self._wallet_asked_ns = now_ns
            await self._read_wallet(instrument)

    async def _read_fees(self, symbol: str) -> None:
        try:
            rates = await self._port.fee_rates(symbol)
        except VenueError as error:
            self._tell(ReadFailed(self._now_ns(), "fees", symbol, str(error)))
            return
        self._fees_read_ns[symbol] = self._now_ns()
        self._tell(FeesRead(self._now_ns(), symbol, rates.maker_bps, rates.taker_bps, rates.source))

    async def _read_wallet(self, instrument: Instrument) -> None:
        try:
            wallet = await self._port.wallet(instrument)
        except VenueError as error:
            self._tell(ReadFailed(self._now_ns(), "wallet", instrument.symbol, str(error)))
            return
        self._tell(WalletRead(self._now_ns(), wallet.equity_quote, wallet.margin_used_quote, wallet.transfers_quote))


def is_due(last_ns: int | None, now_ns: int, every_ns: int) -> bool:
    """Whether it was never done, or that long ago."""
    return last_ns is None or now_ns - last_ns >= every_ns
