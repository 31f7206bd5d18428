"""Brings a stack up and takes it down from the outside: what `rollout up`, `rollout demo` and `rollout down` call."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

from tasks.state_folder import StateFolder
from tasks.supervise.found import table_of_what_runs
from tasks.supervise.identity import MARK, identify, spawn, stop, wait_gone
from tasks.supervise.prometheus import find_prometheus
from tasks.supervise.specs import working_directory
from tasks.supervise.table import Table, TableDamaged, read_table
from tasks.supervise.takedown import retire_simulated_accounts, stop_processes, stop_trading

Say = Callable[[str], None]
START_DEADLINE_S = 90.0
STOP_DEADLINE_S = 60.0


class StackError(Exception):
    """The stack did not come up, or did not go down. One line for people; the log it names says more."""


def running(folder: StateFolder) -> Table | None:
    """The table of a stack whose supervisor lives and is ready; None where there is none."""
    table = read_table(folder.table)
    if table is None or not table.supervisor.identity.is_alive() or table.state != "ready":
        return None
    return table


def missing(folder: StateFolder, table: Table) -> list[str]:
    """What of a running stack is dead and will not come back by itself."""
    return [row.name for row in table.processes if row.name == "venue" and not row.identity.is_alive()]


def bring_up(folder: StateFolder, plan: Path, market: str, say: Say) -> tuple[Table, bool]:
    """The running stack, and whether it was up already. Starts what is missing; a stack of another market is replaced.

    Raises PrometheusUnusable before anything is started, StackError where the start fails (nothing is left then).
    """
    find_prometheus()
    folder.create()
    for path in folder.suspended.glob("*"):
        path.unlink(missing_ok=True)
    table = _settled(folder)
    if table is not None and (table.market != market or missing(folder, table)):
        say(f"the stack that is up has market {table.market}" if table.market != market else "the venue is gone")
        take_down(folder, "rollout", "the stack is replaced", say)
        table = None
    if table is not None:
        return table, True
    return _start(folder, plan, market), False


def _settled(folder: StateFolder) -> Table | None:
    """Waits for a supervisor that is starting or stopping; the table of one that is ready, else None."""
    end = time.monotonic() + START_DEADLINE_S
    while time.monotonic() < end:
        table = read_table(folder.table)
        if table is None or not table.supervisor.identity.is_alive():
            return None
        if table.state == "ready":
            return table
        time.sleep(0.1)
    raise StackError(f"stack: another supervisor is neither ready nor gone after {START_DEADLINE_S:.0f} s")


def _start(folder: StateFolder, plan: Path, market: str) -> Table:
    log = folder.log("supervisor")
    if log.exists():
        log.replace(log.with_name(log.name + ".1"))
    command = [sys.executable, "-m", "tasks.supervise", "--home", str(folder.root)]
    environment = {name: value for name, value in os.environ.items() if name != MARK}
    child = spawn([*command, "--plan", str(plan), "--market", market], environment, log, working_directory())
    end = time.monotonic() + START_DEADLINE_S
    try:
        while time.monotonic() < end:
            table = read_table(folder.table)
            if table is not None and table.supervisor.pid == child.pid and table.state == "ready":
                return table
            if child.poll() is not None:
                raise StackError(f"stack: {_last_line(log)} (log: {log})")
            time.sleep(0.05)
        raise StackError(f"stack: not ready after {START_DEADLINE_S:.0f} s (log: {log})")
    except BaseException:  # Ctrl-C too: a failed start leaves nothing
        if (identity := identify(child.pid)) is not None:
            os.kill(child.pid, 15)
            wait_gone([identity], STOP_DEADLINE_S)
        raise


def _last_line(log: Path) -> str:
    lines = [line for line in log.read_text(errors="replace").splitlines() if " ERROR " in line]
    return lines[-1].partition(" ERROR ")[2] if lines else "its supervisor ended"


def take_down(folder: StateFolder, who: str, reason: str, say: Say) -> bool:
    """Stops trading with proof, then everything else. True where nothing is left; also when nothing was up."""
    table = _table_to_take_down(folder, say)
    if table is None and not folder.table.exists():
        return True
    if table is None:  # a damaged table, and nothing runs: what its bots left at the venue is cleaned up all the same
        proven = _orphaned(folder, say)
        folder.table.unlink(missing_ok=True)
        return proven
    supervised = table.supervisor.identity.is_alive()
    proven = stop_trading(folder, who, reason, say) if supervised or _any_guard(table) else _orphaned(folder, say)
    if supervised:
        stop([table.supervisor.identity], grace_s=STOP_DEADLINE_S)
    ended = stop_processes(folder, table, say)
    retire_simulated_accounts(folder)
    folder.table.unlink(missing_ok=True)
    return proven and ended


def _table_to_take_down(folder: StateFolder, say: Say) -> Table | None:
    """The table; where it is damaged or gone, one of what runs all the same."""
    try:
        if (table := read_table(folder.table)) is not None:
            return table
    except TableDamaged as error:
        say(str(error))
    if (table := table_of_what_runs(folder)) is not None:
        say(f"what runs on {folder.root} was found without the table")
    return table


def _any_guard(table: Table) -> bool:
    return any(row.name.startswith("guard-") and row.identity.is_alive() for row in table.processes)


def _orphaned(folder: StateFolder, say: Say) -> bool:
    """Nobody supervises and no guard lives: no use in waiting for guards, the kill switch comes at once."""
    return stop_trading(folder, "rollout", "what a killed supervisor left", say, deadline_s=0.0)
