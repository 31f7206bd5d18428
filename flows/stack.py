"""`rollout up` and `rollout down`: the embedded stack, its deployments, its demo approvers."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from pathlib import Path

from gates.approvers import Approvers, load_approvers
from gates.lint import lint_plan
from gates.stages import Plan, PlanError, load_plan, under_root
from tasks.account_file import SIMULATED, real_accounts
from tasks.notify import check_webhook
from tasks.sign_off import Seeds, enroll_demo
from tasks.state_folder import REPOSITORY, StateFolder
from tasks.supervise.client import bring_up, take_down
from tasks.supervise.found import table_of_what_runs
from tasks.supervise.specs import NO_MARKET, prefect_environment
from tasks.supervise.table import Table

Say = Callable[[str], None]


def up(folder: StateFolder, plan_file: Path, market: str, say: Say) -> Table:
    """Brings the stack up or finds it up, writes what deployments differ, enrols the demo's people.

    Raises PlanError, CriteriaError, ApproversError, ConfigError, SeedsError or WebhookUnusable for what cannot be used,
    before anything is started.
    """
    check_webhook()
    plan = load_plan(plan_file)
    market = market if plan.venue == SIMULATED else NO_MARKET
    _refuse_faults(plan_file)
    Seeds(folder.seeds).read()
    people = load_approvers(under_root(plan.approvers))
    table, was_up = bring_up(folder, plan_file, market, say)
    try:
        _prepare(folder, table, was_up, plan, plan_file, people, say)
    except BaseException:  # Ctrl-C and a failed start leave nothing; a stack that was up before stays
        if not was_up:
            take_down(folder, "rollout up", "its start did not succeed", say)
        raise
    return table


def _prepare(
    folder: StateFolder, table: Table, was_up: bool, plan: Plan, plan_file: Path, people: Approvers, say: Say
) -> None:
    """Says what runs, writes the deployments, enrols people."""
    say(f"stack {'is up already' if was_up else 'is up'}, everything in {folder.root}")
    if was_up and table.plan != str(plan_file):
        say(f"it recorded the plan {table.plan}; `rollout down` first to record another")
    say(f"Prefect UI {table.endpoints['prefect_ui']}")
    own = table.endpoints.get("venue_rest_url")
    say(f"Prometheus {table.endpoints['prometheus']}, venue {f'{own} ({table.market})' if own else plan.venue}")
    _deploy(folder, table.endpoints["prefect_api"], say)
    if plan.venue == SIMULATED and people.demo:
        new = enroll_demo(folder.seeds, people, plan.venue)
        names = ", ".join(f"{one.name} ({', '.join(one.roles)})" for one in people.people)
        say(f"demo approvers {'enrolled' if new else 'are enrolled'}: {names}")


def say_how_to_begin(folder: StateFolder, table: Table, plan: Plan, plan_file: Path, say: Say) -> None:
    """The line that begins a rollout of that plan from any shell; or what has to be set up before."""
    if plan.venue == SIMULATED:
        say("a canary from any shell:")
        say(f"  {from_another_shell(folder, table, 'canary', plan_file)}")
        return
    for stage in (one for one in plan.stages if one.available):
        for account in real_accounts(folder.accounts, plan.venue, None if plan.keyless(stage) else stage.env):
            say(f"{stage.id} on {account}, from any shell:")
            say(f"  {from_another_shell(folder, table, stage.id, plan_file, account)}")
            return
    say(f"no account is set up at {plan.venue}; allowed: `rollout account add NAME --env testnet`")


def _refuse_faults(plan_file: Path) -> None:
    if faults := lint_plan(plan_file):
        more = f" (and {len(faults) - 1} more: `gates lint --plan {plan_file}`)" if len(faults) > 1 else ""
        raise PlanError(faults[0] + more)


def _deploy(folder: StateFolder, api_url: str, say: Say) -> None:
    from flows.deploy import deploy, set_environment

    set_environment(prefect_environment(folder, api_url))
    written = deploy(api_url)
    say(f"deployed {', '.join(written)}" if written else "deployments stand as in prefect.yaml")


def down(folder: StateFolder, who: str, say: Say) -> bool:
    """Stops trading with proof, then every process. True where nothing is left."""
    was_up = folder.table.exists() or table_of_what_runs(folder) is not None
    clean = take_down(folder, who, "the stack is taken down", say)
    if not was_up:
        say("nothing is up")
    elif clean:
        say("everything is down: no process, no lock, no open order")
    return clean


def from_another_shell(folder: StateFolder, table: Table, stage: str, plan_file: Path, account: str = "") -> str:
    """The exact line that starts the same run from another shell. `account`: where it is no new one."""
    settings = {
        "PREFECT_API_URL": table.endpoints["prefect_api"],
        "PREFECT_HOME": str(folder.prefect),
    }
    words = [f"{name}={shlex.quote(value)}" for name, value in settings.items()]
    words += [shlex.quote(str(REPOSITORY / ".venv/bin/prefect")), "deployment", "run", f"rollout/{stage}"]
    if table.plan != str(plan_file):
        words += ["--param", shlex.quote(f"plan={plan_file}")]
    if account:
        words += ["--param", f"account={account}"]
    return " ".join(words)


def plan_of(given: str) -> tuple[Plan, Path]:
    """The plan and its absolute path; a relative one counts from where the person stands, else from the repository."""
    path = Path(given)
    if not path.is_absolute():
        path = path.resolve() if path.exists() else REPOSITORY / path
    return load_plan(path), path
