"""The permission to trade, as this process holds it: fenced by epochs, expiring on the bot's own clock.

The engine hears of every grant as an event and decides by it. This copy is the second look, taken at each send.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Any, Final

from bot.domain.events import GrantReceived

TTL_S_MAX = 60.0
"""A grant that outlives its guard for longer than this would be no fence."""

_GRANT_RECEIVED: Final = GrantReceived


class GrantRefused(Exception):
    """A grant that this process does not take. The message says why, in one line."""


class LowerEpoch(GrantRefused):
    """Another guard, or another process of this run, has since been given a higher epoch."""

    def __init__(self, offered: int, held: int) -> None:
        super().__init__(f"epoch {offered} is not above the epoch {held} held")
        self.epoch_held = held


class OtherAccount(GrantRefused):
    """A grant for another venue account than the one this process trades on."""


class GrantHolder:
    """Epoch and expiry, integer nanoseconds on the loop's clock, which never steps.

    `epoch_floor`: the highest epoch that an earlier process of this run held; this process needs a higher one.
    """

    def __init__(self, account: str, epoch_floor: int = 0) -> None:
        self.account = account
        self.epoch_floor = epoch_floor
        self._expires_at_ns = 0
        self._renewed_at_ns: int | None = None
        self.epoch = 0

    def take(
        self,
        account: str,
        epoch: int,
        inventory_max_quote: Decimal,
        total_max_quote: Decimal,
        ttl_s: float,
        now_ns: int,
        symbols: tuple[str, ...] = (),
    ) -> GrantReceived:
        """The event for the engine. `ttl_s` 0 revokes. Raises LowerEpoch or OtherAccount and then changes nothing."""
        if account != self.account:
            raise OtherAccount(f"account {account!r} is not this bot's account {self.account!r}")
        if epoch < self.epoch or epoch <= self.epoch_floor:
            raise LowerEpoch(epoch, max(self.epoch, self.epoch_floor))
        revoked = ttl_s <= 0
        at_ns: Any = now_ns  # an object made once for all that takes it
        self.epoch = epoch
        self._renewed_at_ns = None if revoked else at_ns
        self._expires_at_ns = now_ns + int(ttl_s * 1_000_000_000)
        return _GRANT_RECEIVED(at_ns, account, epoch, inventory_max_quote, total_max_quote, ttl_s, revoked, symbols)

    def valid(self, epoch: int, now_ns: int) -> bool:
        """Whether an order decided under `epoch` may leave now."""
        return self.epoch == epoch and epoch > 0 and now_ns < self._expires_at_ns

    def expires_in_s(self, now_ns: int) -> float:
        """Seconds left; 0 without a grant or after its end."""
        return max(0.0, (self._expires_at_ns - now_ns) / 1e9)

    def age_s(self, now_ns: int) -> float | None:
        """Seconds since the last renewal; None where no grant was ever held or it was revoked."""
        return None if self._renewed_at_ns is None else (now_ns - self._renewed_at_ns) / 1e9


class NothingToPermit(GrantHolder):
    """Shadow's: no order leaves the process, so every one may go where it goes."""

    def valid(self, epoch: int, now_ns: int) -> bool:
        return True
