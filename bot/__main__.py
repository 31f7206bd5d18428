"""The bot's command line: `python -m bot …`, console script `mm-bot`. Exit codes: 0 done, 1 failed, 2 bad input."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

from bot.command_line import FORWARDED, NOT_BUILT, USAGE_EXIT, parse
from bot.runtime.secrets import forbid_core_dumps

if TYPE_CHECKING:
    from bot.resolution import Resolved

Shown = tuple[dict[str, object], str]
"""The same as JSON and as text for people."""


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one subcommand and returns its exit code; what a person did wrong is one line on stderr and code 2."""
    try:
        return _run(argv)
    except BrokenPipeError:  # whoever read our output has seen enough; nothing more is to be said there
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1


def _run(argv: Sequence[str] | None) -> int:
    arguments = list(sys.argv[1:] if argv is None else argv)
    forbid_core_dumps()
    if arguments and arguments[0] in FORWARDED:
        return _forward(arguments[0], arguments[1:])
    if arguments and arguments[0] in NOT_BUILT:
        return _refuse(f"{arguments[0]}: not built yet")
    options = parse(arguments)
    if options.command in READING or (options.command == "replay" and not _is_market_data(options.file)):
        return _read(options)
    return _with_configuration(options)


def _forward(command: str, rest: list[str]) -> int:
    """Subcommands with a command line of their own; each loads only what it needs."""
    if command == "serve-venue":
        from bot.simulator.server import main as serve

        return serve(rest)
    if command == "secrets":
        from bot.commands.secrets_command import main as secrets

        return secrets(rest)
    if command == "watchdog":
        from bot.runtime.watchdog_command import run_command

        return run_command(rest)
    from bot.runtime.kill_switch import main as kill_switch

    return kill_switch(rest)


def _with_configuration(options: argparse.Namespace) -> int:
    from bot.resolution import read_environment, resolve
    from bot.settings_file import ConfigError

    flags = {name: value for name, value in vars(options).items() if name not in ("command", "file", "json")}
    try:
        resolved = resolve(flags, read_environment(Path.cwd()))
        if options.command == "check-config":
            from bot.check_config import report

            print(report(resolved))
            return 0
        if options.command == "preflight":
            from bot.commands.preflight import preflight

            return preflight(resolved, as_json=bool(getattr(options, "json", False)))
        if options.command == "record":
            from bot.commands.record import record

            return record(resolved, Path(options.file), str(flags.get("duration_s", "60")))
        if options.command == "replay":
            return _replay_market(options, resolved, flags)
        if options.command == "rehearse":
            from bot.commands.rehearse import rehearse

            return rehearse(resolved, flags)
        from bot.running import run

        return run(resolved, flags)
    except ConfigError as error:
        return _refuse(str(error))


def _read(options: argparse.Namespace) -> int:
    """Commands that read a state folder and change nothing."""
    from bot.journal import JournalError
    from bot.settings_file import ConfigError

    try:
        if options.command == "replay":
            return _replay(options)
        document, text = READING[options.command](options)
    except (JournalError, ConfigError) as error:
        return _refuse(str(error))
    print(json.dumps(document, sort_keys=True, indent=2) if options.json else text)
    return 0


def _trace(options: argparse.Namespace) -> Shown:
    from bot.commands import trace

    found = trace.trace(Path(options.state_dir), options.order)
    return found, trace.as_table(found)


def _risk(options: argparse.Namespace) -> Shown:
    from bot.commands import risk_view

    found = risk_view.risk_view(Path(options.state_dir))
    return found, risk_view.as_table(found)


def _edge_report(options: argparse.Namespace) -> Shown:
    from bot.commands import edge_report

    found = edge_report.edge_report(Path(options.state_dir))
    return found, edge_report.as_table(found)


def _is_market_data(file: str) -> bool:
    from bot.commands.replay_market import is_market_data

    return is_market_data(Path(file))


def _replay_market(options: argparse.Namespace, resolved: Resolved, flags: Mapping[str, object]) -> int:
    from bot.capture import is_capture
    from bot.commands import replay_market

    path = Path(options.file)
    if is_capture(path):
        from bot.running import run_replay

        return run_replay(resolved, path, flags)
    played = replay_market.replay_market(path, resolved, flags)
    document = replay_market.as_json(path, played)
    print(json.dumps(document, sort_keys=True) if options.json else replay_market.as_line(played))
    return 0 if played.same else 1


def _replay(options: argparse.Namespace) -> int:
    from bot.commands import replay

    path = Path(options.file)
    given = sorted(set(vars(options)) - {"command", "file", "json"})
    if given:
        name = given[0].replace("_", "-")
        return _refuse(f"--{name}: has no effect on a journal, which holds the settings it was written under")
    found = replay.replay_file(path)
    print(json.dumps(replay.as_json(path, found), sort_keys=True) if options.json else replay.as_line(found))
    return 1 if found.difference else 0


READING: Final[dict[str, Callable[[argparse.Namespace], Shown]]] = {
    "trace": _trace,
    "risk": _risk,
    "edge-report": _edge_report,
}


def _refuse(message: str) -> int:
    print(f"mm-bot: {message}", file=sys.stderr)
    return USAGE_EXIT


if __name__ == "__main__":
    raise SystemExit(main())
