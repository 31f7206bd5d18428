"""What is said of an account's key and of how the account is set up; and keys that were replaced. Pure.

A real venue's web page decides these; here the control API does, so that every defect a preflight looks for can be
shown. `read_only` and `expires_at` are also kept: such a key is refused as the venue refuses it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Final, NamedTuple

GRACE_MAX_S: Final = 3_600
MARGIN_MODES: Final = ("REGULAR_MARGIN", "ISOLATED_MARGIN", "PORTFOLIO_MARGIN")
DAY_NS: Final = 86_400 * 1_000_000_000
NEVER: Final = "1970-01-01T00:00:00Z"
"""How the venue writes that a key does not expire: those bound to an address do not."""


class FormerKey(NamedTuple):
    """A key that was replaced; it works until then, by the venue's clock."""

    api_secret: str
    until_ns: int


@dataclass(frozen=True, slots=True)
class Standing:
    """`ips`: addresses the key is bound to, `*` for any. Days are from now on the venue's clock, at reading."""

    read_only: bool = False
    withdraws: bool = False
    ips: tuple[str, ...] = ("127.0.0.1",)
    expires_at_ns: int | None = None
    created_at_ns: int = 0
    margin_mode: str = "REGULAR_MARGIN"
    hedges: bool = False
    maker_fee_rate: str = ""
    taker_fee_rate: str = ""
    """Of the account's tier as shown; empty: what the venue charges everybody."""


@dataclass(slots=True)
class KeyRing:
    """One account's standing and its former keys."""

    standing: Standing = field(default_factory=Standing)
    former: dict[str, FormerKey] = field(default_factory=dict)


class StandingRefused(ValueError):
    """A change that cannot be: field, value, what is allowed."""


def changed(standing: Standing, changes: dict[str, object], now_ns: int) -> Standing:
    """The standing after a control request. Raises StandingRefused, naming the field."""
    values: dict[str, object] = {}
    for name, value in changes.items():
        match name:
            case "read_only" | "withdraws" | "hedges":
                if not isinstance(value, bool):
                    raise StandingRefused(f"{name}: {value!r} is not true or false")
                values[name] = value
            case "ips":
                if not isinstance(value, list) or not value or not all(isinstance(one, str) for one in value):
                    raise StandingRefused(f"ips: {value!r} is not a list of addresses")
                values[name] = tuple(value)
            case "expires_in_days":
                values["expires_at_ns"] = now_ns + _days(name, value) * DAY_NS
            case "age_days":
                values["created_at_ns"] = now_ns - _days(name, value) * DAY_NS
            case "margin_mode":
                if value not in MARGIN_MODES:
                    raise StandingRefused(f"margin_mode: {value!r} is not one of {', '.join(MARGIN_MODES)}")
                values[name] = value
            case "maker_fee_rate" | "taker_fee_rate":
                if not re.fullmatch(r"-?0(\.\d{1,8})?", str(value)):
                    raise StandingRefused(f"{name}: {value!r} is not a decimal fraction below 1")
                values[name] = str(value)
            case _:
                allowed = "read_only, withdraws, hedges, ips, expires_in_days, age_days, margin_mode"
                raise StandingRefused(f"{name}: unknown; allowed are {allowed}, maker_fee_rate, taker_fee_rate")
    return replace(standing, **values)  # type: ignore[arg-type]  # every value was checked above


def _days(name: str, value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not -36_500 <= value <= 36_500:
        raise StandingRefused(f"{name}: {value!r} is outside -36500 to 36500")
    return value


def utc(at_ns: int | None) -> str:
    """As the venue writes a moment; None: never."""
    if at_ns is None:
        return NEVER
    return datetime.fromtimestamp(at_ns // 1_000_000_000, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
