"""Writes the reference of the command line from the parser itself: `python -m bot.command_line_reference > FILE`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator

from bot.command_line import FORWARDED, NOT_BUILT, build_parser

HEAD = """# The bot's command line

Written from the parser, do not edit: `.venv/bin/python -m bot.command_line_reference > docs/reference/command-line.md`.

`mm-bot` and `python -m bot` are the same. Exit codes: 0 done, 1 failed, 2 for what cannot be used: then one line says
what, its value and what is allowed. A flag beats the environment, which beats `--settings`, the profile, the default;
`mm-bot check-config` shows every value and where it came from.
"""


def reference() -> str:
    """The whole page, Markdown."""
    parser = build_parser()
    lines = [HEAD]
    for name, command, text in commands_of(parser):
        lines.append(f"## `{name}`\n\n{text[:1].upper()}{text[1:]}.\n")
        if name in FORWARDED:
            lines.append(f"Has flags of its own: [the other commands](other-commands.md#mm-bot-{name}).\n")
        elif name not in NOT_BUILT:
            lines.append("\n".join(flags_of(command)) + "\n")
    return "\n".join(lines).rstrip() + "\n"


def commands_of(parser: argparse.ArgumentParser) -> Iterator[tuple[str, argparse.ArgumentParser, str]]:
    """Each subcommand by name, with its parser and its line of help; none where it has no subcommands."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            texts = {choice.dest: choice.help or "" for choice in action._choices_actions}
            for name, command in action.choices.items():
                yield name, command, texts.get(name, "")


def flags_of(command: argparse.ArgumentParser) -> Iterator[str]:
    """The rows of a table of what it takes."""
    yield "| | |\n|---|---|"
    for action in command._actions:
        if isinstance(action, argparse._HelpAction):
            continue
        names = " ".join(f"`{name}`" for name in action.option_strings) or f"`{action.metavar or action.dest}`"
        takes = action.metavar or ("\\|".join(action.choices) if action.choices else "")
        value = f" `{takes}`" if takes and action.option_strings and action.nargs != 0 else ""
        yield f"| {names}{value} | {(action.help or '').replace('|', chr(92) + '|')} |".replace("|`", "| `")


if __name__ == "__main__":
    sys.stdout.write(reference())
