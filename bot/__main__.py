"""The bot's command line: `python -m bot …`, console script `mm-bot`. Exit codes: 0 done, 1 failed, 2 bad input."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from bot.command_line import FORWARDED, USAGE_EXIT, parse


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one subcommand and returns its exit code; what a person did wrong is one line on stderr and code 2."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    if arguments and arguments[0] in FORWARDED:
        return _forward(arguments[0], arguments[1:])
    options = parse(arguments)
    if options.command == "trace":
        return _trace(options)
    return _with_configuration(options)


def _forward(command: str, rest: list[str]) -> int:
    """Subcommands with a command line of their own; each loads only what it needs."""
    if command == "serve-venue":
        from bot.simulator.server import main as serve

        return serve(rest)
    from bot.runtime.kill_switch import main as kill_switch

    return kill_switch(rest)


def _with_configuration(options: argparse.Namespace) -> int:
    from bot.resolution import read_environment, resolve
    from bot.settings_file import ConfigError

    flags = {name: value for name, value in vars(options).items() if name != "command"}
    try:
        resolved = resolve(flags, read_environment(Path.cwd()))
        if options.command == "check-config":
            from bot.check_config import report

            print(report(resolved))
            return 0
        from bot.running import run

        return run(resolved, flags)
    except ConfigError as error:
        return _refuse(str(error))


def _trace(options: argparse.Namespace) -> int:
    from bot.journal import JournalError, JournalReader

    try:
        with JournalReader(Path(options.state_dir) / "journal.db") as reader:
            entries = list(reader.entries(client_order_id=options.order))
    except JournalError as error:
        return _refuse(str(error))
    if not entries:
        return _refuse(f"{options.order}: the journal knows no such order")
    for entry in entries:
        print(f"{entry.seq} {entry.at_ns} {entry.direction:3} {entry.kind} {entry.body}")
    return 0


def _refuse(message: str) -> int:
    print(f"mm-bot: {message}", file=sys.stderr)
    return USAGE_EXIT


if __name__ == "__main__":
    raise SystemExit(main())
