"""Takes a stack down: first trading, with proof, then the processes in order, then whatever still carries the mark.

Used by `rollout down`, by Ctrl-C and by the supervisor's own end. Every step may be repeated.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import httpx

from bot.domain.order import OWN_PREFIX
from tasks.account_file import SIMULATED, AccountFileError, kill_switch_key, load_account, not_simulated
from tasks.state_folder import REPOSITORY, StateFolder, read_json
from tasks.supervise.found import table_as_it_is
from tasks.supervise.identity import Identity, carrying, identify, marked, stop
from tasks.supervise.machine import MachineUnknown, Seen, host_of, this_machine
from tasks.supervise.specs import base_environment, journal_environment, late_s_of, working_directory
from tasks.supervise.table import Table, TableDamaged, read_table

if TYPE_CHECKING:
    from tasks.record_tables import StageRun

Say = Callable[[str], None]
Meanwhile = Callable[[], None]
CLOSE_DEADLINE_S = 60.0
"""How long the guards have to close their stages with proof before the kill switch is used without them."""
SWITCH_S = 40.0
"""A run of the kill switch ends well within this and its wait for what comes late."""
DEFAULT_PLAN = str(REPOSITORY / "configs" / "rollout.yaml")
_ORDER = ("prefect-worker", "prefect-server", "prometheus", "venue")
"""After the guards. The venue goes last: until then its own word can be had on what is open."""


def _nothing() -> None:
    return


def stop_trading(
    folder: StateFolder,
    who: str,
    reason: str,
    say: Say,
    deadline_s: float = CLOSE_DEADLINE_S,
    meanwhile: Meanwhile = _nothing,
) -> bool:
    """Ends every open stage through its guard and waits for the proof. False where something could not be proven.

    Where a guard does not close its stage in time, the bot is killed and the kill switch cleans up without it; where
    the record cannot be read, on every account; where there is none, on every account whose venue is not our own. A
    stage of one whose file is away is not proven, unless its venue is ours. What runs on another machine is left alone,
    and nothing of it is proven here.
    `meanwhile` is called at each look: the supervisor keeps the guards alive by it.
    """
    proven = True
    if _has_record(folder):
        from sqlalchemy.exc import DatabaseError

        from tasks.record import RecordError

        try:
            proven = _close_stages(folder, who, reason, say, deadline_s, meanwhile)
        except (RecordError, DatabaseError, MachineUnknown) as error:
            say(f"{str(error).splitlines()[0]}; using the kill switch on every account")
            proven = all([_without_record(folder, path.stem, say) for path in sorted(folder.accounts.glob("*.json"))])
    else:
        proven = all([_without_record(folder, account, say) for account in not_simulated(folder.accounts)])
    return _venue_shows_nothing(folder, say) and proven


def _has_record(folder: StateFolder) -> bool:
    """Whether there is one to ask for what is open; a server's may be away, which its reader then says."""
    if folder.record.exists():
        return True
    from tasks.record_engine import sqlite_file

    file = sqlite_file(folder.record_url)
    return file is None or file.exists()


def _close_stages(
    folder: StateFolder, who: str, reason: str, say: Say, deadline_s: float, meanwhile: Meanwhile
) -> bool:
    from tasks.record import FINAL_STEPS, open_record
    from tasks.record_lock import held_on
    from tasks.rollback import proven_in_words

    record = open_record(folder.record_url)
    try:
        reachable = {path.stem for path in folder.accounts.glob("*.json")}
        here, all_proven = this_machine(), True
        unfinished = [run for run in record.stage_runs() if run.step not in FINAL_STEPS]
        for run in list(unfinished):
            machine = run.machine or held_on(record, run.account)  # before its launch the guard alone tells where it is
            if here.sees(machine) is not Seen.ELSEWHERE:
                continue
            unfinished.remove(run)
            all_proven = False
            where = f"runs on machine {host_of(machine)}, left alone"
            say(f"{run.rollout}/{run.stage}: {where}: nothing of it is proven here")
        runs = [run for run in unfinished if run.account in reachable]
        for run in unfinished:
            if run.account not in reachable and (record.plan_begun(run) or {}).get("venue") != SIMULATED:
                all_proven = False
                say(f"{run.rollout}/{run.stage}: account {run.account} has no file: nobody knows what is open there")
        for run in runs:
            say(f"stopping {run.rollout}/{run.stage} (was: {run.step})")
            payload = {"stage_run_id": run.id, "who": who, "reason": reason}
            record.submit(run.account, "stop", payload, f"stop-{run.id}-{who}-{time.time_ns()}")
        waiting = {run.id: run for run in runs if run.id is not None}
        end = time.monotonic() + deadline_s
        while waiting and time.monotonic() < end:
            for number in list(waiting):
                now = record.stage_run(number)
                if now.step in FINAL_STEPS:
                    proven = proven_in_words(record.rollback_steps(number))
                    say(f"{now.rollout}/{now.stage}: {now.step.replace('_', ' ')}, {proven}")
                    waiting.pop(number)
            meanwhile()
            time.sleep(0.1)
        for run in waiting.values():
            say(f"{run.rollout}/{run.stage}: its guard gave no proof within {deadline_s:.0f} s; using the kill switch")
            all_proven = _without_guard(folder, run, say) and all_proven
        return all_proven
    finally:
        record.close()


def _without_guard(folder: StateFolder, run: StageRun, say: Say) -> bool:
    """Kills the bot and cancels, flattens and proves by the kill switch. True only with its proof."""
    bot = identify(run.pid) if run.pid is not None else None
    if bot is not None and run.state_dir is not None and run.state_dir in _command_line(bot.pid):
        stop([bot], grace_s=2.0)
    return _kill_switch(folder, run.account, run.plan_path, say)


def _without_record(folder: StateFolder, account: str, say: Say) -> bool:
    """Kills the bots of an account by what they carry themselves, and cleans up. True only with the proof."""
    stop(carrying(f"MM_ACCOUNT={account}", f"{folder.runs}/"), grace_s=2.0)
    table = table_as_it_is(folder)
    return _kill_switch(folder, account, table.plan if table is not None and table.plan else DEFAULT_PLAN, say)


def _kill_switch(folder: StateFolder, account: str, plan: str, say: Say) -> bool:
    """Cancels and flattens the whole account, whatever a plan names of it. True only with the proof.

    Its bot was killed, so nothing new follows; what it had sent may still come for as long as the plan says.
    """
    try:
        access = load_account(folder.root, account)
    except AccountFileError as error:
        say(f"{account}: no kill switch without it: {error}")
        return False
    late_s = late_s_of(plan)
    command = [sys.executable, "-m", "bot", "kill-switch", "--execute", "--flatten", "--quiet-s", "0.5"]
    command += ["--late-s", f"{late_s:g}", "--journal", str(folder.runs)]
    command += ["--report", str(folder.root / "kill_switch" / account / "takedown.json")]
    command += ["--gateway", access.gateway_host] if access.gateway else []
    environment = base_environment() | journal_environment() | access.venue_environment()
    environment |= kill_switch_key(folder.root, access)
    ends_within_s = late_s + SWITCH_S
    try:
        done = subprocess.run(command, env=environment, cwd=working_directory(), timeout=ends_within_s, check=False,
                              stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)  # fmt: skip
    except subprocess.TimeoutExpired:
        say(f"{account}: the kill switch did not end within {ends_within_s:g} s")
        return False
    say(f"{account}: kill switch {'proved none open and flat' if done.returncode == 0 else 'FAILED'}")
    return done.returncode == 0


def _venue_shows_nothing(folder: StateFolder, say: Say) -> bool:
    """The simulated venue's own word: no open order of any account we know.

    True also where no venue runs: it refuses the connection and its process is dead. No answer, or one without orders,
    proves nothing and is said.
    """
    try:
        token = folder.control_token.read_text().strip()
    except FileNotFoundError:
        return True
    gone = _venue_is_dead(folder)
    clean = True
    for path in sorted(folder.accounts.glob("*.json")):
        try:
            access = load_account(folder.root, path.stem)
        except AccountFileError as error:
            clean = False  # unknown is not no
            say(f"{error}; so nobody knows whether an order of that account is open")
            continue
        if access.venue != SIMULATED:
            continue
        try:
            answer = httpx.get(f"{access.rest_url}/sim/state", params={"account": access.account},
                               headers={"X-Sim-Token": token}, timeout=5.0, trust_env=False)  # fmt: skip
            state = answer.json()
        except httpx.ConnectError as error:
            if gone:
                continue  # and its orders with it
            clean = False
            say(f"{path.stem}: the venue's process lives and takes no connection ({type(error).__name__}): not proven")
            continue
        except (httpx.HTTPError, httpx.InvalidURL, KeyError, ValueError) as error:
            clean = False
            say(f"{path.stem}: the venue gave no answer that proves anything: {type(error).__name__}")
            continue
        orders = state.get("orders") if isinstance(state, dict) else None
        if answer.status_code != 200 or not isinstance(orders, list):
            clean = False
            say(f"{path.stem}: the venue's answer (HTTP {answer.status_code}) does not tell its orders: not proven")
            continue
        own = [one for one in orders if _may_be_ours(one)]
        others = f"; {len(orders) - len(own)} of others, left alone" if len(own) < len(orders) else ""
        if own:
            clean = False
            say(f"{path.stem}: {len(own)} order(s) still open at the venue{others}")
        else:
            say(f"{path.stem}: the venue shows no open order{' of ours' if others else ''}{others}")
    return clean


def _may_be_ours(order: object) -> bool:
    """Everything of which the venue does not show another's name, or none at all: ours all have one."""
    name = order.get("client_order_id") if isinstance(order, dict) else None
    return not isinstance(name, str) or name.startswith(OWN_PREFIX)


def _venue_is_dead(folder: StateFolder) -> bool:
    """Whether no process of the venue is known to live. A table that cannot be read names none."""
    try:
        table = read_table(folder.table)
    except TableDamaged:
        return True
    row = table.row("venue") if table is not None else None
    return row is None or not row.identity.is_alive()


def stop_processes(folder: StateFolder, table: Table, say: Say) -> bool:
    """Guards, watchdogs, worker, server, Prometheus, venue; then everything else that carries the stack's mark."""
    rows = {row.name: row for row in table.processes}
    kinds = ("guard-", "watchdog-")
    guards, watchdogs = ([row for name, row in rows.items() if name.startswith(kind)] for kind in kinds)
    groups = [guards, watchdogs, *([rows[name]] for name in _ORDER if name in rows)]
    stuck: list[Identity] = []
    for group in groups:
        alive = [row for row in group if row.identity.is_alive()]
        if alive:
            stuck += stop([row.identity for row in alive], grace_s=8.0)
            say("stopped " + ", ".join(row.name for row in alive))
    left = marked(table.mark)
    if left:
        say("stopping what was left: " + ", ".join(f"{item.pid} {_command_line(item.pid)[:60]}" for item in left))
        stuck += stop(left, grace_s=3.0)
    for item in stuck:
        say(f"process {item.pid} could not be ended")
    for path in (*folder.targets.glob("*.json"), *folder.suspended.glob("*")):
        try:
            path.unlink(missing_ok=True)
        except OSError as error:  # on a disk that can be written no more
            say(f"{path} stays: {error.strerror}")
    return not stuck


def retire_simulated_accounts(folder: StateFolder) -> None:
    """Moves the files of simulated accounts aside: their venue is gone, so no guard is to be started for them."""
    for path in folder.accounts.glob("*.json"):
        if (read_json(path) or {}).get("venue") == SIMULATED:
            retire_account(folder, path.stem)


def retire_account(folder: StateFolder, account: str) -> None:
    folder.retired_accounts.mkdir(parents=True, exist_ok=True)
    path = folder.accounts / f"{account}.json"
    if path.exists():
        path.replace(folder.retired_accounts / path.name)


def _command_line(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
    except OSError:
        return ""
