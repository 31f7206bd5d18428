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

from tasks.state_folder import StateFolder, read_json
from tasks.supervise.identity import Identity, identify, marked, stop
from tasks.supervise.specs import base_environment, working_directory
from tasks.supervise.table import Table

if TYPE_CHECKING:
    from tasks.record_tables import StageRun

Say = Callable[[str], None]
Meanwhile = Callable[[], None]
CLOSE_DEADLINE_S = 60.0
"""How long the guards have to close their stages with proof before the kill switch is used without them."""
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

    Where a guard does not close its stage in time, the bot is killed and the kill switch cleans up without it.
    `meanwhile` is called at each look: the supervisor keeps the guards alive by it.
    """
    proven = True
    if folder.record.exists():
        proven = _close_stages(folder, who, reason, say, deadline_s, meanwhile)
    return _venue_shows_nothing(folder, say) and proven


def _close_stages(
    folder: StateFolder, who: str, reason: str, say: Say, deadline_s: float, meanwhile: Meanwhile
) -> bool:
    from tasks.record import FINAL_STEPS, open_record

    record = open_record(folder.record_url)
    try:
        reachable = {path.stem for path in folder.accounts.glob("*.json")}
        runs = [run for run in record.stage_runs() if run.step not in FINAL_STEPS and run.account in reachable]
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
                    say(f"{now.rollout}/{now.stage}: {now.step.replace('_', ' ')}, bot gone, no open order, flat")
                    waiting.pop(number)
            meanwhile()
            time.sleep(0.1)
        proven = True
        for run in waiting.values():
            say(f"{run.rollout}/{run.stage}: its guard gave no proof within {deadline_s:.0f} s; using the kill switch")
            proven = _without_guard(folder, run, say) and proven
        return proven
    finally:
        record.close()


def _without_guard(folder: StateFolder, run: StageRun, say: Say) -> bool:
    """Kills the bot and cancels, flattens and proves by the kill switch. True only with its proof."""
    from gates.stages import load_plan
    from tasks.account_file import AccountFileError, load_account

    bot = identify(run.pid) if run.pid is not None else None
    if bot is not None and run.state_dir is not None and run.state_dir in _command_line(bot.pid):
        stop([bot], grace_s=2.0)
    account = run.account
    symbols = ",".join(load_plan(Path(run.plan_path)).stage(run.stage).symbols)
    try:
        access = load_account(folder.root, account)
    except AccountFileError as error:
        say(str(error))
        return False
    command = [sys.executable, "-m", "bot", "kill-switch", "--execute", "--flatten", "--symbols", symbols]
    environment = base_environment() | access.venue_environment()
    try:
        done = subprocess.run(command, env=environment, cwd=working_directory(), timeout=40, check=False,
                              stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)  # fmt: skip
    except subprocess.TimeoutExpired:
        say(f"{account}: the kill switch did not end within 40 s")
        return False
    say(f"{account}: kill switch {'proved none open and flat' if done.returncode == 0 else 'FAILED'}")
    return done.returncode == 0


def _venue_shows_nothing(folder: StateFolder, say: Say) -> bool:
    """The simulated venue's own word: no open order of any account we know. True also where no venue runs."""
    try:
        token = folder.control_token.read_text().strip()
    except FileNotFoundError:
        return True
    clean = True
    for path in sorted(folder.accounts.glob("*.json")):
        account = read_json(path) or {}
        if account.get("venue") != "simulated":
            continue
        try:
            answer = httpx.get(f"{account['rest_url']}/sim/state", params={"account": str(account["account"])},
                               headers={"X-Sim-Token": token}, timeout=5.0, trust_env=False)  # fmt: skip
            state = answer.json()
        except (httpx.TransportError, ValueError):
            continue  # the venue is gone, and its orders with it
        orders = state.get("orders") if isinstance(state, dict) else None
        if orders:
            clean = False
            say(f"{path.stem}: {len(orders)} order(s) still open at the venue")
        elif orders is not None:
            say(f"{path.stem}: the venue shows no open order")
    return clean


def stop_processes(folder: StateFolder, table: Table, say: Say) -> bool:
    """Guards, worker, server, Prometheus, venue; then everything else that carries the stack's mark."""
    rows = {row.name: row for row in table.processes}
    guards = [row for name, row in rows.items() if name.startswith("guard-")]
    groups = [guards, *([rows[name]] for name in _ORDER if name in rows)]
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
    for path in folder.targets.glob("*.json"):
        path.unlink(missing_ok=True)
    for path in folder.suspended.glob("*"):
        path.unlink(missing_ok=True)
    return not stuck


def retire_simulated_accounts(folder: StateFolder) -> None:
    """Moves the files of simulated accounts aside: their venue is gone, so no guard is to be started for them."""
    for path in folder.accounts.glob("*.json"):
        if (read_json(path) or {}).get("venue") == "simulated":
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
