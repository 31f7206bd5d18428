"""Fee profiles: what a fill costs or earns, in basis points of its notional."""

from __future__ import annotations

from decimal import Decimal
from typing import Final

import msgspec

BPS: Final = Decimal(10_000)


class FeeProfile(msgspec.Struct, frozen=True):
    """`maker_bps`, `taker_bps`: paid. `rebate_bps`: given back on a maker fill; apart from the fee, never netted."""

    maker_bps: Decimal
    taker_bps: Decimal
    rebate_bps: Decimal

    def fee_quote(self, notional_quote: Decimal, *, is_maker: bool) -> Decimal:
        """What the venue charges, quote; negative where the rebate is larger than the fee."""
        rate_bps = self.maker_bps - self.rebate_bps if is_maker else self.taker_bps
        return notional_quote * rate_bps / BPS


def _profile(maker: str, taker: str, rebate: str) -> FeeProfile:
    return FeeProfile(Decimal(maker), Decimal(taker), Decimal(rebate))


FEE_PROFILES: Final[dict[str, FeeProfile]] = {
    "VIP0": _profile("1.0", "7.0", "0.0"),
    "VIP1": _profile("0.8", "6.5", "1.0"),
    "VIP2": _profile("0.5", "5.0", "2.5"),
    "VIP3": _profile("0.2", "4.0", "3.0"),
    "MM_TIER_A": _profile("0.0", "3.0", "5.0"),
}

DEFAULT_FEES: Final = _profile("1.0", "7.0", "2.0")
"""Where neither a flag nor a profile says otherwise."""


def fee_profile(name: str) -> FeeProfile:
    """The named profile. Raises ValueError naming the value and the allowed names."""
    try:
        return FEE_PROFILES[name]
    except KeyError:
        raise ValueError(f"fee profile: {name} is not one of {', '.join(FEE_PROFILES)}") from None
