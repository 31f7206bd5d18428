"""Shadow reports are kept: by month, gzipped after 30 days, none overwritten."""

from __future__ import annotations

import gzip
from datetime import UTC, datetime, timedelta
from pathlib import Path

from bot.report_archive import archive

START = datetime(2026, 1, 20, 12, 0, 0, tzinfo=UTC)


def at(moment: datetime) -> int:
    return int(moment.timestamp()) * 1_000_000_000


def names(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def test_a_report_is_named_by_its_time(tmp_path: Path) -> None:
    path = archive(tmp_path / "reports", "{}\n", at(START))
    assert path == tmp_path / "reports" / "shadow_run_20260120T120000Z.json"
    assert path.read_text() == "{}\n"


def test_a_second_report_of_the_same_second_overwrites_nothing(tmp_path: Path) -> None:
    for text in ("a", "b", "a"):
        archive(tmp_path, text, at(START))
    assert names(tmp_path) == ["shadow_run_20260120T120000Z-2.json", "shadow_run_20260120T120000Z.json"]
    assert (tmp_path / "shadow_run_20260120T120000Z.json").read_text() == "a"


def test_a_new_month_moves_the_old_one_into_its_folder(tmp_path: Path) -> None:
    archive(tmp_path, "a", at(START))
    archive(tmp_path, "b", at(START + timedelta(days=12)))
    assert names(tmp_path) == ["2026-01/shadow_run_20260120T120000Z.json", "shadow_run_20260201T120000Z.json"]


def test_after_thirty_days_a_report_is_gzipped_and_still_the_same(tmp_path: Path) -> None:
    archive(tmp_path, "a", at(START))
    archive(tmp_path, "b", at(START + timedelta(days=30)))
    assert "2026-01/shadow_run_20260120T120000Z.json" in names(tmp_path)
    archive(tmp_path, "c", at(START + timedelta(days=30, seconds=1)))
    packed = tmp_path / "2026-01" / "shadow_run_20260120T120000Z.json.gz"
    assert gzip.decompress(packed.read_bytes()) == b"a"
    assert not packed.with_suffix("").exists()


def test_what_is_no_report_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "shadow_run_mine.json").write_text("x")
    archive(tmp_path, "a", at(START))
    archive(tmp_path, "b", at(START + timedelta(days=90)))
    assert (tmp_path / "shadow_run_mine.json").read_text() == "x"
