"""`rollout account add`, and which plans fit the accounts of a state folder. No Prefect is loaded."""

from __future__ import annotations

import argparse
import getpass
import os
import sys

from flows.names import EXIT_BAD_INPUT, MARKET
from gates.stages import Plan
from tasks.account_file import SIMULATED, not_simulated
from tasks.account_keys import is_backed
from tasks.account_setup import KEY_VARIABLES, NotSetUp, set_up
from tasks.state_folder import StateFolder


def add(folder: StateFolder, name: str, venue: str, env: str) -> int:
    """Exit code 0 done, 2 where it cannot be as it was asked; then nothing was written."""
    try:
        key, secret = ("", "") if is_backed(os.environ) else _given_key()
        for line in set_up(folder, name, venue, env, key, secret, os.environ):
            print(line)
    except (NotSetUp, ValueError) as error:  # a backend that there is not is a ValueError
        print(f"rollout: account {name[:80]!r}: {error}", file=sys.stderr)
        return EXIT_BAD_INPUT
    return 0


def _given_key() -> tuple[str, str]:
    """Of the environment, else of a terminal without echo, else the two lines of stdin. Raises NotSetUp."""
    found = {name: os.environ.get(name, "") for name in KEY_VARIABLES}
    if not any(found.values()):
        said = [f"{name}: " for name in KEY_VARIABLES]
        try:
            lines = map(getpass.getpass, said) if sys.stdin.isatty() else iter(sys.stdin.readline, "")
            found = dict(zip(KEY_VARIABLES, (line.strip() for line in lines), strict=False))
        except EOFError:
            found = {}
    if missing := [name for name in KEY_VARIABLES if not found.get(name)]:
        allowed = f"both {' and '.join(KEY_VARIABLES)}, or as two lines on stdin"
        raise NotSetUp(f"{', '.join(missing)}: not given; allowed: {allowed}")
    key, secret = (found[name] for name in KEY_VARIABLES)
    return key, secret


def wrong_venue(folder: StateFolder, plan: Plan, options: argparse.Namespace) -> str | None:
    """Why that plan cannot be used by this command, in this state folder; None where it can.

    What makes a demo easy has no place beside a real account: no made-up people, no codes shown, no end of all trading
    because a demo has failed.
    """
    faults = f"--faults {options.faults}: " if getattr(options, "faults", None) else ""
    asked = f"{faults}plan {plan.name}: venue {plan.venue}"
    if plan.venue == SIMULATED:
        real = not_simulated(folder.accounts)
        where = f"{folder.root} keeps accounts of a real one ({', '.join(real)})"
        return f"{asked}, and {where}; allowed: another SLIPWAY_HOME" if real else None
    if options.command == "demo":
        return f"{asked}; allowed here: simulated"
    if getattr(options, "market", MARKET) != MARKET:
        return f"--market {options.market}: {asked}; allowed: without it, for the venue has its own"
    return None
