"""What the embedded stack consists of: one row a process. Read this table to know what runs and what it dies with.

| process | started again? | dies with |
|---|---|---|
| prometheus | yes, on a fresh data folder | the stack |
| prefect-server | yes | the stack |
| prefect-worker | yes | the stack; its flow runs die with it, the guards and the bots do not |
| venue (for plans of the simulated one) | no: a venue that comes back empty would hide what was open | the stack |
| guard-ACCOUNT | yes, and it adopts the bot | the stack, or its account's retirement |
| watchdog-ACCOUNT | yes | as its guard |

Bots are no rows of this table: a bot belongs to its account's guard.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tasks.account_file import kill_switch_key, load_account
from tasks.account_keys import backend_environment
from tasks.names import SLACK_VARIABLES
from tasks.state_folder import REPOSITORY, StateFolder
from tasks.supervise.identity import MARK

OF_ACCOUNT = ("guard", "watchdog")
"""Processes that every account has one of; their rows are named after it."""

WORK_POOL = "slipway"
PREFECT_WORKER_QUERY_S = 1

_KEPT = ("PATH", "HOME", "USER", "LOGNAME", "SHELL", "TMPDIR", "TZ", "VIRTUAL_ENV", "SSL_CERT_FILE", "SSL_CERT_DIR")
_JOURNAL = ("MM_JOURNAL_STORE", "MM_REDIS_PASSWORD")


@dataclass(frozen=True)
class Spec:
    """How one process is started. `restarts`: whether the supervisor starts it again when it dies.

    `environment`: what it alone needs, secrets among it, beside what every child of the supervisor gets.
    """

    name: str
    command: tuple[str, ...]
    environment: Mapping[str, str] = field(default_factory=dict)
    restarts: bool = True


def base_environment() -> dict[str, str]:
    """What children see of the caller's environment: enough to run, nothing that could redirect them.

    No proxy settings (everything is on loopback), no keys, passwords or tokens, no Prefect profile of the user's.
    """
    kept = _ours(_KEPT)
    kept.update({name: value for name, value in os.environ.items() if name.startswith("LC_") or name == "LANG"})
    kept["PYTHONUNBUFFERED"] = "1"
    return kept


def journal_environment() -> dict[str, str]:
    """Where this machine keeps journals, if not in the state folder: for whoever reads one, or has one written."""
    return _ours(_JOURNAL)


def _ours(names: Sequence[str]) -> dict[str, str]:
    return {name: os.environ[name] for name in names if name in os.environ}


def prefect_environment(folder: StateFolder, api_url: str) -> dict[str, str]:
    """Prefect's settings of this stack, all by environment: a user's own Prefect profile is never read or written."""
    return {
        "PREFECT_HOME": str(folder.prefect),
        "PREFECT_API_URL": api_url,
        "PREFECT_PROFILES_PATH": str(folder.prefect / "profiles.toml"),
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "PREFECT_SERVER_UI_SHOW_PROMOTIONAL_CONTENT": "false",
        "PREFECT_SERVER_EPHEMERAL_ENABLED": "false",
        "PREFECT_CLI_PROMPT": "false",
        # Writers wait for one another at its SQLite; so what nobody here uses does not write: schedules, automations,
        # events.
        "PREFECT_SERVER_SERVICES_SCHEDULER_ENABLED": "false",
        "PREFECT_SERVER_SERVICES_TRIGGERS_ENABLED": "false",
        "PREFECT_SERVER_SERVICES_EVENT_PERSISTER_ENABLED": "false",
        "PREFECT_WORKER_QUERY_SECONDS": str(PREFECT_WORKER_QUERY_S),
        "PREFECT_LOGGING_LEVEL": "INFO",
        "DO_NOT_TRACK": "1",
        "NO_PROXY": "127.0.0.1,localhost",
    }


def stack_environment(folder: StateFolder, mark: str, plan: str) -> dict[str, str]:
    """What every child of the supervisor gets: no secret is in it, and by it a child is found again."""
    return {**base_environment(), "SLIPWAY_HOME": str(folder.root), "SLIPWAY_PLAN": plan, MARK: mark}


def prefect_server(folder: StateFolder, api_url: str) -> Spec:
    """The server without the wrapper of Prefect's command line, which would only start this as a second process."""
    port = int(api_url.removesuffix("/api").rpartition(":")[2])
    command = (sys.executable, "-m", "uvicorn", "--factory", "flows.prefect_server:create_app")
    options = ("--host", "127.0.0.1", "--port", str(port), "--timeout-keep-alive", "5", "--log-level", "warning")
    return Spec("prefect-server", (*command, *options), prefect_environment(folder, api_url))


def prefect_worker(folder: StateFolder, api_url: str) -> Spec:
    """Flow runs are children of it: they read the record, and ask the guards through it."""
    command = (sys.executable, "-m", "prefect", "worker", "start", "--pool", WORK_POOL, "--type", "process")
    environment = prefect_environment(folder, api_url) | {"SLIPWAY_RECORD_URL": folder.record_url}
    return Spec("prefect-worker", (*command, "--name", "slipway", "--install-policy", "never"), environment)


NO_MARKET = "none"
"""The market of a stack without a venue of its own: its plan's venue is elsewhere."""

VENUE_SYMBOLS = "BTCUSDT,ETHUSDT,SOLUSDT"
"""What the stack's venue lists, whatever a plan trades of it: one venue serves the rollouts of all plans."""


def venue(market: str, control_token: str) -> Spec:
    command = (sys.executable, "-m", "bot", "serve-venue", "--market", market, "--port", "0", "--json")
    return Spec(
        "venue", (*command, "--symbols", VENUE_SYMBOLS), {"SLIPWAY_SIM_CONTROL_TOKEN": control_token}, restarts=False
    )


def guard(folder: StateFolder, account: str, prometheus_url: str) -> Spec:
    """The one process that sends notices."""
    command = (sys.executable, "-m", "tasks.guard", "--account", account)
    environment = {"SLIPWAY_RECORD_URL": folder.record_url, "SLIPWAY_PROMETHEUS_URL": prometheus_url}
    environment |= _ours(SLACK_VARIABLES) | journal_environment() | backend_environment(os.environ)
    return Spec(f"guard-{account}", command, environment)


def watchdog(folder: StateFolder, account: str, late_s: float) -> Spec:
    """The process that expects the beats of an account's guard and bot. Raises AccountFileError.

    `late_s`: how long after a grant's end an order may still reach the venue, by the plan.
    """
    access = load_account(folder.root, account)
    command = (sys.executable, "-m", "bot", "watchdog", "--account", account, "--late-s", f"{late_s:g}")
    report = folder.kill_switch_reports(account) / "latest.json"
    places: tuple[str, ...] = ("--targets", str(folder.targets), "--report", str(report), "--journal", str(folder.runs))
    places += ("--gateway", access.gateway_host) if access.gateway else ()
    environment = {**access.venue_environment(), **journal_environment(), "APPROVE_TOKEN": access.approve_token}
    environment |= kill_switch_key(folder.root, access)
    return Spec(f"watchdog-{account}", (*command, *places), environment)


def late_s_of(plan: str) -> float:
    """How long after its grant's end an order may still come, by the plan; the kill switch's own guess without one."""
    from bot.runtime.kill_switch import LATE_S
    from gates.stages import PlanError, load_plan

    try:
        return load_plan(Path(plan)).late_s
    except PlanError:
        return LATE_S


def accounts_with_a_guard(folder: StateFolder) -> list[str]:
    """Every account that has a file: each wants exactly one guard."""
    return sorted(path.stem for path in folder.accounts.glob("*.json") if not path.name.startswith("."))


def working_directory() -> Path:
    return REPOSITORY
