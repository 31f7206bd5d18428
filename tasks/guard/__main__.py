"""`python -m tasks.guard --account A`: the guard of one venue account.

Exit 0 after SIGTERM, 1 after an error (start it again: it goes on where it stood), 2 for bad input.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import sys
import time

from bot.runtime.secrets import forbid_core_dumps
from tasks.guard.exposition import Exposition
from tasks.guard.process import run_guard
from tasks.guard.state import GuardState
from tasks.guard.stopping import StoppedByUrl
from tasks.guard.store import Store
from tasks.names import NameRefused, check_name
from tasks.notify import WebhookUnusable, check_webhook
from tasks.record import RecordError
from tasks.record_lock import AccountTaken
from tasks.record_writer import open_writer
from tasks.sign_off import Seeds
from tasks.state_folder import StateFolder
from tasks.supervise.machine import MachineUnknown, this_machine


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="guard", description="Owns the permission to trade of one venue account.")
    parser.add_argument("--account", required=True, metavar="NAME", help="its file is accounts/NAME.json")
    return parser


def main(arguments: list[str] | None = None) -> int:
    """See the module's text."""
    forbid_core_dumps()
    account = str(_parser().parse_args(arguments).account)
    _log_to_stderr()
    folder = StateFolder.here()
    prometheus_url = os.environ.get("SLIPWAY_PROMETHEUS_URL", "").rstrip("/")
    if not prometheus_url:
        print("guard: SLIPWAY_PROMETHEUS_URL is not set: the guard does not run blind", file=sys.stderr)
        return 2
    try:
        check_name("account", account)
        check_webhook()
        here = this_machine()
        record = open_writer(folder.record_url, account)
        record.take_account(here)
    except (NameRefused, WebhookUnusable, RecordError, AccountTaken, MachineUnknown) as error:
        print(f"guard: {error}", file=sys.stderr)
        return 2
    shown = Exposition(account, folder.targets)
    guard = GuardState(account, folder, prometheus_url, Store(record), shown, Seeds(folder.seeds), machine=here)
    shown.serve(StoppedByUrl(guard))
    try:
        return asyncio.run(run_guard(guard))
    finally:
        shown.close()
        guard.store.close()


def _log_to_stderr() -> None:
    formatter = logging.Formatter("%(asctime)s.%(msecs)03dZ %(levelname)s %(name)s %(message)s", "%Y-%m-%dT%H:%M:%S")
    formatter.converter = time.gmtime
    handler = logging.StreamHandler()
    handler.setFormatter(formatter)
    logging.basicConfig(level=logging.INFO, handlers=[handler])
    for chatty in ("httpx", "httpcore"):
        logging.getLogger(chatty).setLevel(logging.WARNING)


if __name__ == "__main__":
    sys.exit(main())
