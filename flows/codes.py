"""The one-time code that a person gives with a command. What stands on a command line, others on the machine may read,
and the shell keeps it: so it may come from stdin, or be typed unseen."""

from __future__ import annotations

import argparse
import getpass
import sys


class CodeMissing(Exception):
    """There is no code. One line: where it was looked for, what is allowed."""


def add_code(parser: argparse.ArgumentParser) -> None:
    """The option of every command that takes a code."""
    text = "their one-time code, six digits; - reads it from stdin (default: asked for, without echo)"
    parser.add_argument("--code", metavar="NNNNNN", help=text)


def code_of(person: str, given: str | None) -> str:
    """What was given, a line of stdin for `-`, else what `person` types at the terminal. Raises CodeMissing."""
    if given == "-":
        return _from_stdin()
    return given or _asked(person)


def _from_stdin() -> str:
    try:
        code = sys.stdin.readline().strip() if sys.stdin is not None else ""
    except (OSError, ValueError):  # it cannot be read, or is no text
        raise CodeMissing("--code -: nothing that can be read on stdin; allowed: six digits") from None
    if not code:
        raise CodeMissing("--code -: nothing on stdin; allowed: six digits")
    return code


def _asked(person: str) -> str:
    if sys.stdin is None or not sys.stdin.isatty():
        said = "--code: not given, and there is no terminal to ask for it; allowed: six digits, or - for stdin"
        raise CodeMissing(said)
    try:
        code = getpass.getpass(f"one-time code of {person}: ").strip()
    except EOFError:
        code = ""
    if not code:
        raise CodeMissing("--code: not given; allowed: six digits")
    return code
