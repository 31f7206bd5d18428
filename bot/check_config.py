"""`check-config`: every value, where it came from, and the digest. Holds no secret, so it shows none."""

from __future__ import annotations

from decimal import Decimal

from pydantic import BaseModel

from bot.modes import SECRET_ENV, live_enabled
from bot.resolution import Resolved, values_of


def report(resolved: Resolved) -> str:
    """Aligned text: one line a value."""
    rows = [(path, _shown(value), resolved.provenance[path]) for path, value in values_of(resolved.config)]
    path_width = max(len(path) for path, _, _ in rows)
    value_width = max(len(value) for _, value, _ in rows)
    lines = [
        f"mode {resolved.mode}, profile {resolved.profile}, secrets {SECRET_ENV[resolved.mode]}",
        f"MM_LIVE_ENABLE {'armed' if live_enabled(resolved.environment) else 'not armed'}",
        *(f"{path:{path_width}}  {value:{value_width}}  {source}" for path, value, source in rows),
        f"digest {resolved.digest}",
    ]
    return "\n".join(lines)


def _shown(value: object) -> str:
    if isinstance(value, Decimal):
        return format(value, "f")
    if isinstance(value, dict):
        return "; ".join(f"{symbol}: {_shown(of)}" for symbol, of in value.items()) or "-"
    if isinstance(value, BaseModel):
        given = value.model_dump(exclude_none=True)
        return ", ".join(f"{name} {_shown(inner)}" for name, inner in given.items())
    if isinstance(value, tuple):
        return ",".join(str(part) for part in value)
    return "-" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
