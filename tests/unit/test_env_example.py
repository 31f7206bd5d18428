"""`.env.example` names what the bot reads from the environment, and copied as it is it changes nothing."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from bot.modes import PROFILE_VARIABLES
from bot.report import FREEZE_VARIABLE
from bot.resolution import ENVIRONMENT_PATHS, SYMBOL_PATHS, read_environment, resolve
from bot.venues.bybit.hosts import OVERRIDES

EXAMPLE = Path(__file__).resolve().parents[2] / ".env.example"
OTHERS = {
    "EXCHANGE_ENV", "MM_LIVE_ENABLE", "MM_ACCOUNT", "MM_RUN", "BYBIT_API_KEY", "BYBIT_API_SECRET", "MM_GRANT_TOKEN",
    "APPROVE_TOKEN", "MM_REDIS_PASSWORD", FREEZE_VARIABLE,
}  # fmt: skip


def names(folder: Path) -> set[str]:
    return set(read_environment(folder, {}))


def test_it_names_every_variable_that_sets_something(tmp_path: Path) -> None:
    shutil.copy(EXAMPLE, tmp_path / ".env")
    per_symbol = {f"{prefix}BTCUSDT" for prefix in SYMBOL_PATHS}
    read = {*ENVIRONMENT_PATHS, *PROFILE_VARIABLES, *OVERRIDES, *per_symbol, *OTHERS}
    assert read <= names(tmp_path)


def test_copied_as_it_is_it_changes_nothing(tmp_path: Path) -> None:
    shutil.copy(EXAMPLE, tmp_path / ".env")
    environment = read_environment(tmp_path, {})
    assert set(environment.values()) == {""}
    assert resolve({}, environment).config == resolve({}, {}).config


@pytest.mark.parametrize("variable", PROFILE_VARIABLES)
def test_a_line_of_it_with_a_value_counts(tmp_path: Path, variable: str) -> None:
    (tmp_path / ".env").write_text(f"{variable}=Live\nMAX_POSITION_USDT__BTCUSDT=77\n", encoding="utf-8")
    found = resolve({}, read_environment(tmp_path, {}))
    assert (found.profile, found.mode) == ("live", "shadow")
    limit = found.config.risk.per_symbol["BTCUSDT"].position_max_quote
    assert limit is not None
    assert int(limit) == 77
