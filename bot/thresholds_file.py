"""The file of freeze thresholds: YAML or JSON, symbol (or `*` for the rest) to thresholds; every problem has its line.

"*":     {edge_threshold_bps: 5, stale_after_ms: 3000}
ETHUSDT: {edge_threshold_bps: 7.5, venue_slow_ms: 500}
"""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

import yaml
from pydantic import BaseModel, ConfigDict, Field, RootModel, ValidationError

from bot.config import Bps, SymbolOrRest
from bot.domain.events import Thresholds
from bot.settings_file import ConfigError, read_yaml


class ThresholdsEntry(BaseModel):
    """One symbol's thresholds; what is not given is as the run was started with."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    edge_threshold_bps: Bps | None = None
    stale_after_ms: int | None = Field(default=None, ge=100, le=600_000)
    venue_slow_ms: int | None = Field(default=None, ge=10, le=600_000)


class _File(RootModel[dict[SymbolOrRest, ThresholdsEntry]]):
    model_config = ConfigDict(frozen=True)


def load_thresholds(path: Path) -> dict[str, Thresholds]:
    """Raises ConfigError, one line: file, line, key, value, what is allowed."""
    try:
        entries = _File.model_validate(read_yaml(path)).root
    except ValidationError as error:
        raise ConfigError(_one_line(path, error)) from error
    return {symbol: Thresholds(**entry.model_dump(exclude_none=True)) for symbol, entry in entries.items()}


def _one_line(path: Path, error: ValidationError) -> str:
    first = error.errors(include_url=False)[0]
    loc = [str(part) for part in first["loc"] if part != "[key]"]
    where = f"{path}:{_line_of(path, loc)}: {'.'.join(loc)}"
    if first["type"] == "extra_forbidden":
        return f"{where}: unknown key; allowed: {', '.join(ThresholdsEntry.model_fields)}"
    value = first["input"]
    shown = format(value, "f") if isinstance(value, Decimal) else repr(value)
    message = first["msg"].removeprefix("Input should be ")
    return f"{where}: {shown[:80]} is not allowed: needs {message[:1].lower()}{message[1:]}"


def _line_of(path: Path, loc: list[str]) -> int:
    """Where that key stands; the last one of the way to it that the file has."""
    node, line = yaml.compose(path.read_text(encoding="utf-8"), Loader=yaml.SafeLoader), 1
    for part in loc:
        if not isinstance(node, yaml.MappingNode):
            break
        for key, value in node.value:
            if str(key.value) == part:
                line, node = key.start_mark.line + 1, value
                break
    return line
