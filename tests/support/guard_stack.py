"""A real venue, a real Prometheus and a real guard in a folder of their own, without Prefect. For whoever tests them.

`GuardStack` starts them on free ports, asks the guard through the record's inbox as a flow would, and leaves nothing
behind: every process it started, and the bot that the guard started, is gone after `close`.
"""

from __future__ import annotations

import copy
import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import httpx

from gates.approvers import load_approvers
from gates.stages import load_plan, under_root
from tasks.enrolment import hand_over, new_seed
from tasks.record import Answer, Record, open_record
from tasks.record_tables import StageRun
from tasks.sign_off import STEP_S, current_code, enroll_demo
from tasks.state_folder import REPOSITORY, StateFolder, write_private
from tasks.supervise.identity import Identity, identify
from tasks.supervise.prometheus import find_prometheus, fresh_data_folder, prometheus_command
from tasks.supervise.specs import watchdog
from tests.support.bot_rig import HTTP_S, PATIENCE

T = TypeVar("T")
PLAN = Path(__file__).with_name("plan.yaml")
FINAL = ("promoted", "rolled_back", "parked")
SERVES_S = 15
"""So long a code must serve yet that is used: a request of it may be seconds on its way."""
WARNED_LINES = 40
"""How many of the bots' last warnings stand in a failure."""


class NotInTime(AssertionError):
    """What was waited for did not come; the message shows the guard's last words."""


class GuardStack:
    """One account, one guard. `plan`: the plan every rollout of it uses. `record_url` empty: SQLite in `home`.

    `step_ms`: between two steps of the market.
    """

    def __init__(self, home: Path, plan: Path = PLAN, seed: int = 7, record_url: str = "", step_ms: int = 100) -> None:
        self.folder = StateFolder(home)
        self.folder.create()
        self.plan_path = plan
        self.plan = load_plan(plan)
        self.approvers = load_approvers(under_root(self.plan.approvers))
        self.token = secrets.token_hex(16)
        self.record_url = record_url or f"sqlite:///{self.folder.record}"
        self.environment = {
            **{name: os.environ[name] for name in ("PATH", "HOME", "LANG", "PYTHONPATH") if name in os.environ},
            "SLIPWAY_HOME": str(home),
            "SLIPWAY_RECORD_URL": self.record_url,
            "PYTHONUNBUFFERED": "1",
        }
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        self._spent: set[tuple[str, int]] = set()
        self._asked = 0
        self.guard_name = "guard"
        try:
            self.venue = self._start_venue(seed, step_ms)
            self.prometheus_url = self._start_prometheus()
            self.environment["SLIPWAY_PROMETHEUS_URL"] = self.prometheus_url
            self.account, self._key = self._open_account()
            if self.approvers.demo:
                enroll_demo(self.folder.seeds, self.approvers, self.plan.venue)
            self.record: Record = open_record(self.record_url)
        except BaseException:  # Ctrl-C too: nobody else knows of what was started
            self._end_processes()
            raise

    def another(self) -> GuardStack:
        """Another account at the same venue, in the same record, under the same Prometheus. Closed with this one."""
        other = copy.copy(self)
        other.account, other._key = other._open_account()
        other.guard_name = f"guard-{other.account}"
        return other

    # ---- processes ------------------------------------------------------------------------------------------------

    def start_guard(self) -> subprocess.Popen[bytes]:
        """Starts (again) the guard of the account, with a watchdog whose beat it can miss."""
        if not any(name in self.processes for name in ("watchdog", self._patient)):
            self._patient_watchdog()
        return self._spawn(self.guard_name, [sys.executable, "-m", "tasks.guard", "--account", self.account])

    @property
    def _patient(self) -> str:
        return f"watchdog-patient-{self.account}"

    def start_watchdog(self) -> subprocess.Popen[bytes]:
        """The account's watchdog, as the supervisor starts it."""
        patient = self.processes.pop(self._patient, None)
        if patient is not None:
            patient.terminate()
            patient.wait(10)
        spec = watchdog(self.folder, self.account, self.plan.late_s)
        return self._spawn("watchdog", list(spec.command), **spec.environment)

    def _patient_watchdog(self) -> None:
        """One that beats and bears with a guard that is away for as long as a test lets it be."""
        spec = watchdog(self.folder, self.account, self.plan.late_s)
        self._spawn(self._patient, [*spec.command, "--missed", "60"], **spec.environment)

    def freeze(self, name: str) -> None:
        """SIGSTOP: it lives, keeps its sockets open, and says nothing. `bot`: the one of the open stage."""
        self._signal(name, signal.SIGSTOP)

    def thaw(self, name: str) -> None:
        self._signal(name, signal.SIGCONT)

    def _signal(self, name: str, number: signal.Signals) -> None:
        if name == "bot":
            bot = self.bot()
            assert bot is not None
            os.kill(bot.pid, number)
        else:
            self.processes[name].send_signal(number)

    def kill(self, name: str) -> None:
        """SIGKILL, and reaped."""
        self.processes[name].kill()
        self.processes[name].wait(timeout=15)

    def kill_bot(self) -> None:
        bot = self.bot()
        assert bot is not None
        os.kill(bot.pid, signal.SIGKILL)

    def bot(self, run: StageRun | None = None) -> Identity | None:
        """The living bot of the stage run; None where there is none."""
        row = run or self.record.open_on_account(self.account)
        if row is None or row.pid is None or row.pid_started_ticks is None:
            return None
        identity = Identity(row.pid, row.pid_started_ticks)
        return identity if identity.is_alive() else None

    def close(self) -> None:
        """Ends everything that was started; bots are found by the run folders in their command lines."""
        self.record.close()
        self._end_processes()

    def _end_processes(self) -> None:
        for process in self.processes.values():
            if process.poll() is None:
                process.send_signal(signal.SIGCONT)
                process.terminate()
        for pid in self._bots():
            os.kill(pid, signal.SIGKILL)
        for process in self.processes.values():
            try:
                process.wait(timeout=15)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait(timeout=15)
        for pid in self._bots():
            os.kill(pid, signal.SIGKILL)

    def _bots(self) -> list[int]:
        found = []
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit():
                try:
                    command = (entry / "cmdline").read_bytes()
                except OSError:
                    continue
                if f"{self.folder.runs}/".encode() in command and identify(int(entry.name)) is not None:
                    found.append(int(entry.name))
        return found

    def _spawn(self, name: str, command: list[str], **more: str) -> subprocess.Popen[bytes]:
        with self.folder.log(name).open("ab") as log:
            process = subprocess.Popen(
                command,
                cwd=REPOSITORY,
                env={**self.environment, **more},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE if name == "venue" else log,
                stderr=log,
                start_new_session=True,
            )
        self.processes[name] = process
        return process

    def _start_venue(self, seed: int, step_ms: int) -> dict[str, Any]:
        symbols = ",".join(dict.fromkeys(symbol for stage in self.plan.stages for symbol in stage.symbols))
        command = [sys.executable, "-m", "bot", "serve-venue", "--symbols", symbols, "--port", "0", "--json"]
        command += ["--seed", str(seed), "--step-ms", str(step_ms)]
        process = self._spawn("venue", command, SLIPWAY_SIM_CONTROL_TOKEN=self.token)
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line, f"the venue said nothing: {self.tail('venue')}"
        told = json.loads(line)
        assert isinstance(told, dict)
        return told

    def start_prometheus(self) -> subprocess.Popen[bytes]:
        """Starts it (again) on its port and a fresh data folder, as the supervisor does; returns at once."""
        port, every_s = self._prometheus_port, self.plan.scrape_every_s
        command = prometheus_command(find_prometheus(), self.folder, port, "/guard-stack", every_s)
        return self._spawn("prometheus", [*command, f"--storage.tsdb.path={fresh_data_folder(self.folder)}"])

    def _start_prometheus(self) -> str:
        self._prometheus_port = _free_port()
        self.start_prometheus()
        url = f"http://127.0.0.1:{self._prometheus_port}/guard-stack"
        self.until("Prometheus is ready", lambda: _ready(url), 15)
        return url

    def _open_account(self) -> tuple[str, str]:
        told = self.control("accounts", {"equity_quote": "100000"})
        account = str(told["account"])
        urls = {name: self.venue[name] for name in ("rest_url", "ws_public_url", "ws_private_url", "ws_trade_url")}
        tokens = {"grant_token": secrets.token_hex(16), "approve_token": secrets.token_hex(16)}
        keys = {"api_key": told["api_key"], "api_secret": told["api_secret"]}
        env = {} if self.plan.venue == "simulated" else {"env": "testnet"}  # then it stands in for the real one
        content = {"account": account, "venue": self.plan.venue, **env, **urls, **keys, **tokens}
        write_private(self.folder.accounts / f"{account}.json", json.dumps(content))
        return account, str(told["api_key"])

    # ---- the venue's own truth ------------------------------------------------------------------------------------

    def control(self, call: str, body: dict[str, Any]) -> dict[str, Any]:
        answer = httpx.post(
            f"{self.venue['rest_url']}/sim/{call}", json=body, headers={"X-Sim-Token": self.token}, timeout=HTTP_S
        )
        assert answer.status_code == 200, answer.text
        told = answer.json()
        assert isinstance(told, dict)
        return told

    def truth(self) -> dict[str, Any]:
        """Open orders, positions and executions as the venue itself has them."""
        answer = httpx.get(
            f"{self.venue['rest_url']}/sim/state",
            params={"account": self.account},
            headers={"X-Sim-Token": self.token},
            timeout=HTTP_S,
        )
        assert answer.status_code == 200, answer.text
        told = answer.json()
        assert isinstance(told, dict)
        return told

    def is_clean(self) -> bool:
        """No open order of ours and no position, by the venue's own word.

        An order of others has no id of ours: it is left alone, and how long it stands is not our business.
        """
        truth = self.truth()
        ours = [one for one in truth["orders"] if one["client_order_id"]]
        return not ours and all(float(one["qty"]) == 0 for one in truth["positions"])

    def is_stopped(self) -> bool:
        """The bot says that it is frozen, and the venue that nothing of it stands.

        Both: one trade may fill both quotes of a bot that is running.
        """
        row = self.record.open_on_account(self.account)
        assert row is not None
        told = httpx.get(f"{row.obs_url}/api/ui/status", timeout=HTTP_S).json()
        return bool(told["state"] == "FROZEN") and not self.truth()["orders"]

    # ---- asking the guard -----------------------------------------------------------------------------------------

    def ask(self, kind: str, payload: dict[str, Any], within_s: float = 30) -> Answer:
        """One request and its answer."""
        self._asked += 1
        number = self.record.submit(self.account, kind, payload, f"{kind}-{self._asked}-{secrets.token_hex(4)}")
        return self.until(f"{kind} is answered", lambda: self.record.answer(number), within_s)

    def begin(self, rollout: str, stage: str = "canary") -> int:
        """Opens that stage of a rollout, the canary of a new one if none is named, and waits for its preflight."""
        payload = {"rollout": rollout, "stage": stage, "plan": str(self.plan_path)}
        payload |= {"nonce": rollout} if self.plan.venue == "simulated" else {}
        answer = self.ask("begin", {**payload, "requested_by": "test"})
        assert answer.done, answer.reason
        number = int(answer.result["stage_run_id"])
        self.wait_step(number, ("ready",), 30)
        return number

    def enroll(self) -> None:
        """Gives the plan's real people their seeds, each by the guard, as `rollout enroll` does."""
        for person in self.approvers.people:
            handed, digest = hand_over(self.folder.new_seeds, new_seed())
            payload = {"person": person.name, "plan": str(self.plan_path), "seed_sha256": digest}
            answer = self.ask("enroll", {**payload, "requested_by": "test"})
            handed.unlink()
            assert answer.done, answer.reason

    def sign(self, number: int, gate: str, person: str, decision: str = "GO", **more: str) -> Answer:
        """A sign-off with a code that has not served yet."""
        run = self.record.stage_run(number)
        digest = (run.entry_digest if gate == "entry" else run.evidence_digest) or ""
        payload = {"stage_run_id": number, "gate": gate, "person": person, "decision": decision}
        code = more.pop("code", None) or self.fresh_code(person)
        payload |= {"code": code, "evidence_prefix": digest[:6], "comment": "", **more}
        return self.ask("sign_off", payload)

    def fresh_code(self, person: str) -> str:
        """A right code that this person has not used yet; waits for the next time step where both are spent."""

        def unspent() -> str | None:
            now_s = time.time()
            for back in (0, 1):
                step = int(now_s) // STEP_S - back
                about_to_expire = back == 1 and now_s % STEP_S > STEP_S - SERVES_S
                if (person, step) not in self._spent and not about_to_expire:
                    self._spent.add((person, step))
                    return current_code(self.folder.seeds, person, "simulated", step * STEP_S)
            return None

        return self.until(f"a code of {person} that has not served", unspent, STEP_S)

    def sign_all(self, number: int, gate: str) -> None:
        """Everybody who has not signed GO yet does, until nobody is missing."""
        done = {row.person for row in self.record.sign_offs(number, gate, accepted=True) if row.decision == "GO"}
        for person in (one for one in self.approvers.people if one.name not in done):
            answer = self.sign(number, gate, person.name)
            assert answer.done, answer.reason
            if not answer.result["missing"]:
                return

    def launch(self, rollout: str) -> int:
        """Begin, sign, launch: returns once the bot is watched."""
        number = self.begin(rollout)
        self.sign_all(number, "entry")
        answer = self.ask("launch", {"stage_run_id": number})
        assert answer.done, answer.reason
        self.wait_step(number, ("watch", "watched"), 30)
        return number

    def judged(self, number: int) -> Answer:
        """What the guard answers to `judge`. A watch of which a busy machine has not seen enough is prolonged, once and
        by the plan's own word, and judged then."""
        answer = self.ask("judge", {"stage_run_id": number}, 90)
        if answer.result.get("step") == "watch":
            self.wait_step(number, ("watched",), 60)
            answer = self.ask("judge", {"stage_run_id": number}, 90)
        return answer

    def promote(self, number: int) -> Answer:
        """Ask as the flow does: a criterion that did not pass, or was not seen, at that very moment is asked again."""

        def asked() -> Answer | None:
            answer = self.ask("promote", {"stage_run_id": number})
            assert answer.done or answer.reason.endswith("ask again"), answer
            return answer if answer.done else None

        return self.until("the promotion", asked, 30)

    # ---- waiting --------------------------------------------------------------------------------------------------

    def wait_step(self, number: int, steps: tuple[str, ...], within_s: float) -> StageRun:
        """Waits for one of `steps`; a final step that is not wanted fails at once. No limit of how fast it must be."""

        def arrived() -> StageRun | None:
            run = self.record.stage_run(number)
            if run.step in steps:
                return run
            if run.step in FINAL:
                raise NotInTime(f"{run.step} by {run.decided_criterion}: {run.decided_why}\n{self.told()}")
            return None

        return self.until(f"step {' or '.join(steps)}", arrived, within_s)

    def until(self, what: str, found: Callable[[], T | None], within_s: float) -> T:
        """Waits for what `found` gives. `within_s`: on a machine at rest; it is waited PATIENCE times as long."""
        within_s *= PATIENCE
        end = time.monotonic() + within_s
        while time.monotonic() < end:
            value = found()
            if value:
                return value
            time.sleep(0.05)
        raise NotInTime(f"{what}: not within {within_s:g} s\n{self.told()}")

    def told(self) -> str:
        """What the guard said last and what the bots warned of: a failure elsewhere is often read by this alone."""
        warned = [
            f"{path.parent.name}: {line}"
            for path in sorted(self.folder.root.glob("runs/*/bot.log"))
            for line in path.read_text(errors="replace").splitlines()
            if '"lvl":"INFO"' not in line
        ]
        return "\n".join([self.tail("guard"), *warned[-WARNED_LINES:]])

    def tail(self, name: str, lines: int = 25) -> str:
        path = self.folder.log(name)
        return "\n".join(path.read_text(errors="replace").splitlines()[-lines:]) if path.exists() else ""

    def remove(self) -> None:
        shutil.rmtree(self.folder.root, ignore_errors=True)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _ready(url: str) -> bool:
    try:
        return httpx.get(f"{url}/-/ready", timeout=1).status_code == 200
    except httpx.HTTPError:
        return False
