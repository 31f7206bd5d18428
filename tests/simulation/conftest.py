"""What runs in this process runs in a folder of its own, without what the environment says of a bot."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture
def place_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("MM_LIVE_ENABLE", "EXCHANGE_ENV", "PROFILE", "MM_FREEZE_UTC_ISO", "TWO_MAN_RULE"):
        monkeypatch.delenv(name, raising=False)
