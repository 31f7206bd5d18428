"""The reference of the command line is what the parser says today."""

from __future__ import annotations

from pathlib import Path

from bot.command_line import build_parser
from bot.command_line_reference import reference

PAGE = Path(__file__).resolve().parents[2] / "docs" / "reference" / "command-line.md"


def test_the_reference_is_up_to_date() -> None:
    assert PAGE.read_text(encoding="utf-8") == reference(), "python -m bot.command_line_reference writes it anew"


def test_every_command_and_every_flag_of_run_is_in_it() -> None:
    text = PAGE.read_text(encoding="utf-8")
    options = vars(build_parser().parse_args(["run"]))
    assert options == {"command": "run"}
    for flag in ("--shadow", "--fill-rate", "--latency-ms", "--no-network", "--no-warmup-filters", "--seed"):
        assert f"`{flag}`" in text
    for command in ("run", "check-config", "trace", "risk", "edge-report", "replay", "kill-switch", "serve-venue"):
        assert f"## `{command}`" in text
