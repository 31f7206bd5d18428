"""Writes `docs/reference/other-commands.md` from the parsers themselves: `python -m tests.report.commands`."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

from bot.command_line_reference import commands_of, flags_of
from bot.commands import secrets_command
from bot.runtime import kill_switch_command, watchdog_command
from bot.simulator import server
from flows.__main__ import parser as rollout_parser
from gates import __main__ as gates

PAGE = Path(__file__).resolve().parents[2] / "docs" / "reference" / "other-commands.md"
PARSERS: dict[str, argparse.ArgumentParser] = {
    "rollout": rollout_parser(),
    "gates": gates._parser(),
    "mm-bot serve-venue": server._parser(),
    "mm-bot kill-switch": kill_switch_command._parser(),
    "mm-bot watchdog": watchdog_command._parser(),
    "mm-bot secrets": secrets_command._parser(),
}
"""What a person types, but for `mm-bot` itself, which has a page of its own."""
HEAD = """# The other commands

Written from the parsers, do not edit: `.venv/bin/python -m tests.report.commands`. The bot's own are on
[a page of their own](command-line.md). `rollout` ends with 0 done or promoted, 1 failed, 2 for what cannot be used, 3
rolled back, 4 parked; the others with 0 done, 1 failed (`gates evaluate`: no GO), 2 for what cannot be used.
"""


def page() -> str:
    """The whole page, Markdown."""
    lines = [HEAD]
    for name, parser in PARSERS.items():
        lines.append(f"## `{name}`\n\n{parser.description}\n")
        below = list(commands_of(parser))
        if not below:
            lines += _table(parser)
        for word, command, text in below:
            lines.append(f"### `{name} {word}`\n\n{text[:1].upper()}{text[1:]}.\n")
            lines += _table(command)
    return "\n".join(lines).rstrip() + "\n"


def _table(parser: argparse.ArgumentParser) -> Iterator[str]:
    rows = list(flags_of(parser))
    if len(rows) > 1:
        yield "\n".join(rows) + "\n"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
