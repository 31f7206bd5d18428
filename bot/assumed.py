"""What a configuration takes for granted of its account, for the preflight of whoever asks."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal

from bot.config import FeeSettings, Settings
from bot.domain.fees import fee_profile
from bot.venues.bybit.account_checks import Assumed


def assumed_of(settings: Settings, symbols: Sequence[str], now_s: int, saved_at_s: int | None = None) -> Assumed:
    """`now_s`: the wall clock; `saved_at_s`: when the secret was kept, where its backend knows."""
    venue, fees = settings.venue, settings.fees
    return Assumed(
        symbols=tuple(symbols),
        category=venue.category,
        receive_window_ms=venue.receive_window_ms,
        fees=None if fees.fee_mode == "auto" else {symbol: fees_of(fees, symbol) for symbol in symbols},
        margin_mode=venue.margin_mode,
        key_expires_min_days=venue.key_expires_min_days,
        secret_max_age_days=venue.secret_max_age_days,
        now_s=now_s,
        saved_at_s=saved_at_s,
    )


def fees_of(fees: FeeSettings, symbol: str) -> tuple[Decimal, Decimal]:
    """(maker net of its rebate, taker), bps: as the venue states a tier."""
    name = fees.per_symbol.get(symbol) or fees.per_symbol.get("*")
    if name is None:
        return fees.fee_maker_bps - fees.rebate_maker_bps, fees.fee_taker_bps
    profile = fee_profile(name)
    return profile.maker_bps - profile.rebate_bps, profile.taker_bps
