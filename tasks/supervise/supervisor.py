"""The supervisor: starts the stack, starts again what died, and takes it down in order.

It is one process with one loop. What it knows stands in `stack.json` after every change, so a supervisor that was
killed loses nothing: the next one adopts what still runs (same PID, same start time) and starts only what is missing.

On a disk that takes nothing more a stack does not start. One that is up goes on: what died is started again all the
same, and the table is written at each turn until it is true again. Until then it names PIDs that are gone, and perhaps
"ready" for a stack that is stopping. No child is lost by that: mark and command line, which a child carries itself, are
how the next supervisor adopts it and how the take-down ends it; both need of the table only the mark, which never
changes. What cannot be started at all is tried again, later each time, and keeps nothing else from being started.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import secrets
import signal
import subprocess
import time
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from types import FrameType
from urllib.parse import urlsplit

import httpx

from tasks.account_file import AccountFileError
from tasks.state_folder import StateFolder, write_private
from tasks.supervise import specs
from tasks.supervise.identity import Identity, find_marked, identify, spawn
from tasks.supervise.ports import usual_or_free
from tasks.supervise.prometheus import find_prometheus, fresh_data_folder, prometheus_command
from tasks.supervise.table import Row, Table, write_table

LOG = logging.getLogger("slipway.supervisor")

OF_ACCOUNT = tuple(f"{kind}-" for kind in specs.OF_ACCOUNT)
TURN_S = 0.2
BACK_OFF_S = (0.0, 0.5, 1.0, 2.0, 5.0, 10.0)
SETTLED_AFTER_S = 30.0
"""A process that lived this long is started again at once when it dies; one that dies sooner waits longer each time."""
SERVER_READY_S = 180.0
"""It begins anew by itself where it dies; a slow machine takes a minute to import it."""
VENUE_READY_S = 20.0


class StartFailed(Exception):
    """The stack cannot be started; the message says which process, and where its log is."""


@dataclass
class Attempts:
    """How often in a row a process died young, and when it may be started again (monotonic seconds)."""

    count: int = 0
    not_before_s: float = 0.0
    started_s: float = 0.0


class Supervisor:
    """Holds the table of one stack. `start`, then `turn` again and again; `stopping` ends the loop of `run`."""

    def __init__(self, folder: StateFolder, plan: str, market: str, left: Table | None) -> None:
        self.folder = folder
        self.stopping = False
        self.children: dict[str, subprocess.Popen[bytes]] = {}
        self.attempts: dict[str, Attempts] = {}
        self.specs: dict[str, specs.Spec] = {}
        self.told: dict[str, str] = {}
        """what was said last about what cannot be started, by its name, until it is started"""
        me = identify(os.getpid())
        if me is None:
            raise StartFailed("supervisor: /proc does not show this process")
        now = _now()
        row = Row("supervisor", me.pid, me.started_ticks, now, str(folder.log("supervisor")))
        if left is None:
            self.table = Table(secrets.token_hex(8), "starting", now, str(specs.working_directory()), plan, market, row)
        else:
            alive = tuple(old for old in left.processes if old.identity.is_alive())
            self.table = replace(left, state="starting", plan=plan, supervisor=row, processes=alive)
        self.environment = specs.stack_environment(folder, self.table.mark, plan)
        self._unsaved: OSError | None = None
        """what keeps the table from the disk"""

    # ---- start ----------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Brings up what is missing; returns when everything answers. StartFailed names what does not.

        A table that is not written fails it too: nobody else would find what was started.
        """
        self._choose_endpoints()
        self._require_saved()
        api_url = self.table.endpoints["prefect_api"]
        own = () if self.table.market == specs.NO_MARKET else (self._venue_spec(),)
        for spec in (self._prometheus_spec(), specs.prefect_server(self.folder, api_url), *own):
            self._ensure(spec)
            self._require_saved()
        if own:
            self._await_venue()
        self._await_answer("prefect-server", f"{api_url}/health", SERVER_READY_S)
        self._await_answer("prometheus", f"{self.table.endpoints['prometheus']}/-/ready", SERVER_READY_S)
        self._create_work_pool()
        self._ensure(specs.prefect_worker(self.folder, api_url))
        self._save(replace(self.table, state="ready"))
        self._require_saved()
        LOG.info("ready")

    def _require_saved(self) -> None:
        if self._unsaved is not None:
            raise StartFailed(f"{self.folder.table}: cannot be written: {self._unsaved.strerror or self._unsaved}")

    def _choose_endpoints(self) -> None:
        if "prefect_api" in self.table.endpoints:
            return
        prefect, prometheus = usual_or_free(4200), usual_or_free(9090)
        server = f"http://127.0.0.1:{prefect}"
        # A path of its own: another stack's Prometheus, on the port of one that died, must not be taken for ours.
        ours = f"http://127.0.0.1:{prometheus}/slipway-{secrets.token_hex(4)}"
        self._save(self.table.with_endpoints(prefect_ui=f"{server}/v2", prefect_api=f"{server}/api", prometheus=ours))

    def _prometheus_spec(self) -> specs.Spec:
        url = urlsplit(self.table.endpoints["prometheus"])
        command = prometheus_command(find_prometheus(), self.folder, url.port or 0, url.path)
        return specs.Spec("prometheus", tuple(command))

    def _venue_spec(self) -> specs.Spec:
        token = self.folder.control_token
        if not token.exists():
            write_private(token, secrets.token_hex(16) + "\n")
        return specs.venue(self.table.market, token.read_text().strip())

    def _ensure(self, spec: specs.Spec) -> None:
        """Starts it unless it runs already (adopted from a supervisor that was killed)."""
        self.specs[spec.name] = spec
        self.attempts.setdefault(spec.name, Attempts(started_s=time.monotonic()))
        row = self.table.row(spec.name)
        if row is None and (identity := find_marked(self.table.mark, spec.command)) is not None:
            # started by a supervisor that was killed before it wrote its table
            row = Row(spec.name, identity.pid, identity.started_ticks, _now(), str(self.folder.log(spec.name)))
            self._save(self.table.with_row(row))
        if row is not None and row.identity.is_alive():
            LOG.info("%s: adopted, pid %d", spec.name, row.pid)
            return
        _set_aside(self.folder.log(spec.name))
        self._spawn(spec, restarts=0)

    def _spawn(self, spec: specs.Spec, restarts: int) -> None:
        log = self.folder.log(spec.name)
        command = list(spec.command)
        if spec.name == "prometheus":  # one fresh data folder at every start
            command.append(f"--storage.tsdb.path={fresh_data_folder(self.folder)}")
        child = spawn(command, {**self.environment, **spec.environment}, log, specs.working_directory())
        identity = identify(child.pid) or Identity(child.pid, 0)
        self.children[spec.name] = child
        self.told.pop(spec.name, None)
        self.attempts[spec.name].started_s = time.monotonic()
        self._save(self.table.with_row(Row(spec.name, child.pid, identity.started_ticks, _now(), str(log), restarts)))
        LOG.info("%s: started, pid %d", spec.name, child.pid)

    def _await_venue(self) -> None:
        """Reads the one line the venue prints when it answers, and keeps its addresses."""
        row = self.table.row("venue")
        end = time.monotonic() + VENUE_READY_S
        while row is not None and time.monotonic() < end:
            ready = _ready_line(Path(row.log))
            if ready is not None and row.identity.is_alive():
                names = ("rest_url", "ws_public_url", "ws_private_url", "ws_trade_url")
                self._save(self.table.with_endpoints(**{f"venue_{name}": str(ready[name]) for name in names}))
                return
            if not row.identity.is_alive():
                raise StartFailed(f"venue: {_last_line(Path(row.log))}")
            self._pause()
        raise StartFailed(
            f"venue: did not say it was ready within {VENUE_READY_S:.0f} s; see {self.folder.log('venue')}"
        )

    def _await_answer(self, name: str, url: str, deadline_s: float) -> None:
        end = time.monotonic() + deadline_s
        with httpx.Client(timeout=2.0, trust_env=False) as client:
            while time.monotonic() < end:
                try:
                    if client.get(url).status_code == 200:
                        return
                except httpx.TransportError:
                    row = self.table.row(name)
                    if row is None or not row.identity.is_alive():
                        break
                self._pause()
        raise StartFailed(f"{name}: does not answer at {url} within {deadline_s:.0f} s; see {self.folder.log(name)}")

    def _create_work_pool(self) -> None:
        """The worker would make it too, but deployments are written at the same time and need it."""
        url = f"{self.table.endpoints['prefect_api']}/work_pools/"
        answer = httpx.post(url, json={"name": specs.WORK_POOL, "type": "process"}, timeout=10, trust_env=False)
        if answer.status_code not in (200, 201, 409):
            raise StartFailed(f"prefect-server: work pool {specs.WORK_POOL} refused ({answer.status_code}); {url}")

    def _pause(self) -> None:
        if self.stopping:
            raise StartFailed("stopped while starting")
        time.sleep(0.05)

    # ---- watch ----------------------------------------------------------------------------------------------------

    def turn(self) -> None:
        """One look at everything: guards for every account, and again what died."""
        if self._unsaved is not None:
            self._write()
        accounts = specs.accounts_with_a_guard(self.folder)
        for account in accounts:
            if f"guard-{account}" not in self.specs:
                self._guard(account)
            if f"watchdog-{account}" not in self.specs:
                self._watch_over(account)
        wanted = {f"{kind}{account}" for kind in OF_ACCOUNT for account in accounts}
        for name in [name for name in self.specs if name.startswith(OF_ACCOUNT) and name not in wanted]:
            self._retire(name)
        for name, spec in self.specs.items():
            self._look_at(name, spec)

    def _guard(self, account: str) -> None:
        """Starts the account's guard; what keeps it from that is tried again."""
        spec = specs.guard(self.folder, account, self.table.endpoints.get("prometheus", ""))
        try:
            self._ensure(spec)
        except OSError as error:
            self._put_off(spec.name, error)

    def _watch_over(self, account: str) -> None:
        """Starts the account's watchdog, which needs its key; a file that cannot be read is read again at each turn."""
        try:
            spec = specs.watchdog(self.folder, account, self._late_s())
        except (AccountFileError, OSError) as error:
            self._not_started(f"watchdog-{account}", error)
            return
        try:
            self._ensure(spec)
        except OSError as error:
            self._put_off(spec.name, error)

    def _put_off(self, name: str, error: OSError) -> None:
        """It cannot be started now: it is tried again, later each time."""
        attempts = self.attempts[name]
        attempts.count += 1
        attempts.not_before_s = time.monotonic() + BACK_OFF_S[min(attempts.count, len(BACK_OFF_S) - 1)]
        self._not_started(name, error)

    def _not_started(self, name: str, error: Exception) -> None:
        said = f"{name}: not started: {error}"
        if self.told.get(name) != said:
            self.told[name] = said
            LOG.error("%s", said)

    def _late_s(self) -> float:
        return specs.late_s_of(self.table.plan)

    def _look_at(self, name: str, spec: specs.Spec) -> None:
        child = self.children.get(name)
        if child is not None:
            child.poll()  # collects it when dead
        row = self.table.row(name)
        never_ran = row is None and name.startswith(OF_ACCOUNT)  # the rest of the stack is for `start` alone
        if not never_ran and (row is None or row.identity.is_alive()):
            return
        attempts = self.attempts[name]
        now_s = time.monotonic()
        if row is not None and not row.note:
            settled = now_s - attempts.started_s > SETTLED_AFTER_S
            attempts.count = 0 if settled else attempts.count + 1
            attempts.not_before_s = now_s + BACK_OFF_S[min(attempts.count, len(BACK_OFF_S) - 1)]
            code = "?" if child is None else child.returncode
            LOG.warning("%s: died (exit %s)%s", name, code, "" if spec.restarts else "; not started again")
            self._save(self.table.with_row(replace(row, note=f"died, exit {code}")))
        if not spec.restarts or (self.folder.suspended / name).exists() or now_s < attempts.not_before_s:
            return
        try:
            if row is None:
                self._ensure(spec)
            else:
                self._spawn(spec, restarts=row.restarts + 1)
        except OSError as error:
            self._put_off(name, error)

    def _retire(self, name: str) -> None:
        row = self.table.row(name)
        if row is not None:
            row.identity.send(signal.SIGTERM)
        self.specs.pop(name)
        self.attempts.pop(name, None)
        self.told.pop(name, None)
        child = self.children.pop(name, None)
        if child is not None:
            try:
                child.wait(5.0)
            except subprocess.TimeoutExpired:
                child.kill()
        self._save(self.table.without_row(name))
        LOG.info("%s: its account is retired", name)

    def _save(self, table: Table) -> None:
        """The table is this one from now on, and on disk as soon as it can be written."""
        self.table = table
        self._write()

    def _write(self) -> None:
        """Puts the table on disk. What keeps it from there is said once, and it is tried again at the next turn."""
        try:
            write_table(self.folder.table, self.table)
        except OSError as error:
            if self._unsaved is None:
                LOG.error("the table is not written, and is tried again: %s", error)
            self._unsaved = error
            return
        if self._unsaved is not None:
            self._unsaved = None
            LOG.info("the table is written again")

    def close(self) -> None:
        """Says in the table that the stack is going down, so that nobody starts work on it."""
        self.table = replace(self.table, state="stopping")
        self._write()

    # ---- the loop -------------------------------------------------------------------------------------------------

    def run(self) -> None:
        """Turns until somebody says stop."""
        while not self.stopping:
            self.turn()
            time.sleep(TURN_S)

    def on_signal(self, number: int, _: FrameType | None) -> None:
        LOG.info("signal %s: stopping", signal.Signals(number).name)
        self.stopping = True


def _set_aside(log: Path) -> None:
    """Keeps the log of the stack before as `NAME.log.1`, so that what is read here was written by this one.

    An empty one takes no other one's place: it is of a process that could not be started.
    """
    with contextlib.suppress(OSError):  # the process matters more than where its log begins
        if log.stat().st_size:
            log.replace(log.with_name(log.name + ".1"))


def _ready_line(log: Path) -> dict[str, object] | None:
    """The newest ready line in the venue's log; None while there is none."""
    try:
        lines = log.read_text(errors="replace").splitlines()
    except FileNotFoundError:
        return None
    for line in reversed(lines):
        if line.startswith("{") and '"ws_trade_url"' in line:
            try:
                found = json.loads(line)
            except ValueError:
                continue
            if isinstance(found, dict) and "rest_url" in found:
                return found
    return None


def _last_line(log: Path) -> str:
    lines = log.read_text(errors="replace").split("\n") if log.exists() else []
    return next((line for line in reversed(lines) if line.strip()), f"ended without a word; see {log}")


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
