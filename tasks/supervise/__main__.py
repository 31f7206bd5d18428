"""`python -m tasks.supervise --home FOLDER --plan FILE --market MARKET`: the supervisor's process.

SIGTERM or SIGINT: trading is stopped with proof, then everything else; exit 0. A second supervisor on the same folder
ends at once with exit 3: the folder itself is the lock, and the kernel frees it with the process.
"""

from __future__ import annotations

import argparse
import fcntl
import logging
import os
import signal
import sys
from pathlib import Path

from tasks.state_folder import StateFolder
from tasks.supervise.prometheus import PrometheusUnusable
from tasks.supervise.supervisor import LOG, StartFailed, Supervisor
from tasks.supervise.table import read_table
from tasks.supervise.takedown import retire_simulated_accounts, stop_processes, stop_trading

EXIT_ALREADY_RUNNING = 3


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m tasks.supervise", description="Starts and restarts what a stack is made of."
    )
    parser.add_argument("--home", type=Path, required=True, metavar="DIR", help="the state folder")
    parser.add_argument("--plan", required=True, metavar="FILE", help="rollout plan that deployments use by default")
    parser.add_argument("--market", required=True, metavar="MARKET", help="generated, or recorded:PATH")
    return parser


def main() -> int:
    arguments = _parser().parse_args()
    folder = StateFolder(arguments.home)
    folder.create()
    logging.basicConfig(
        level=logging.INFO, stream=sys.stderr, format="%(asctime)s %(levelname)s %(message)s", datefmt="%H:%M:%S"
    )
    logging.getLogger("httpx").setLevel(logging.WARNING)
    lock = os.open(folder.root, os.O_RDONLY)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        LOG.error("another supervisor owns %s; `rollout down` ends it", folder.root)
        return EXIT_ALREADY_RUNNING
    return _supervise(folder, arguments.plan, arguments.market)


def _supervise(folder: StateFolder, plan: str, market: str) -> int:
    left = read_table(folder.table)
    if left is None:
        retire_simulated_accounts(folder)
    supervisor = Supervisor(folder, plan, market, left)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, supervisor.on_signal)
    started = False
    try:
        supervisor.start()
        started = True
        supervisor.run()
    except (StartFailed, PrometheusUnusable, OSError) as error:  # whatever it is: what was started is ended in order
        LOG.error("%s", error)
    supervisor.close()
    stopped = stop_trading(folder, "supervisor", "the stack is taken down", LOG.info, 30.0, supervisor.turn)
    ended = stop_processes(folder, supervisor.table, LOG.info)
    return 0 if _tidied(folder) and started and stopped and ended else 1


def _tidied(folder: StateFolder) -> bool:
    """False on a disk that can be written no more: then the table stays, and names nothing that lives."""
    try:
        retire_simulated_accounts(folder)
        folder.table.unlink(missing_ok=True)
    except OSError as error:
        LOG.error("%s", error)
        return False
    return True


if __name__ == "__main__":
    sys.exit(main())
