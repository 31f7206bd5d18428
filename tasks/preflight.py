"""What must hold before a grant: the account, the venue, Prometheus, the disk, the plan, the candidate.

Each check is a row with its value, its limit and PASS, FAIL or UNKNOWN; all must PASS. A check that could not be made
is UNKNOWN, which is not a pass. The stage's checklist adds its own checks, drills and attestations; what is checked
before every grant is checked whether it names it or not.
"""

from __future__ import annotations

import asyncio
import logging
import re
import shutil
import time
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from bot.assumed import assumed_of
from bot.carrying import Carried, carried_equity, journals_in_redis
from bot.config import load_settings, settings_digest
from bot.journal import JournalError
from bot.settings_file import ConfigError
from bot.venues.bybit.account_checks import BOUND, FEES, LASTING, MARGIN, ONE_WAY, RIGHTS, YOUNG, AccountCheck
from bot.version import code_version
from gates.approvers import Approvers, ApproversError
from gates.checklists import ALWAYS, Item
from gates.criteria import CriteriaError
from gates.judge import Outcome
from gates.lint import QueryUnanswered, lint_plan, refused_queries
from gates.stages import Plan, PlanError, Stage, checklist_of, load_plan, plan_digest, under_root
from tasks.account_file import AccountAccess
from tasks.preflight_listed import LISTED, Facts, NotGathered, item_check, item_limit, resolved_of
from tasks.public_market import PublicDesk
from tasks.rollback import DeskError
from tasks.state_folder import StateFolder
from tasks.venue_desk import VenueDesk

log = logging.getLogger("slipway.preflight")
KNOWN = (
    DeskError,
    NotGathered,
    QueryUnanswered,
    httpx.HTTPError,
    OSError,
    PlanError,
    CriteriaError,
    ApproversError,
    ConfigError,
    JournalError,
)
"""What keeps a check from being made, and says so itself in one line."""
PROMETHEUS_OLDEST = (2, 39)
PROMETHEUS_PATIENCE_S = 15.0
LOOK_EVERY_S = 0.2
CLOCK_READS = 5
DISK_FREE_MIN_BYTES = 1_000_000_000
HTTP_TIMEOUT_S = 3.0


@dataclass(frozen=True)
class Checked:
    """One row of the preflight. `value` as found, `limit` what is allowed, both in words."""

    name: str
    title: str
    outcome: Outcome
    value: str
    limit: str
    detail: str = ""


@dataclass(frozen=True)
class Subject:
    """What is checked."""

    access: AccountAccess
    plan: Plan
    plan_path: Path
    stage: Stage
    settings_digest: str
    code_version: str
    plan_digest: str
    prometheus_url: str
    disk: Path
    candidate: str = ""
    approvers: Approvers | None = None
    facts: Facts | None = None
    launch: tuple[Sequence[str], Mapping[str, str]] | None = None
    """The command and the environment that the bot would be started with."""

    @property
    def keyless(self) -> bool:
        """Whether the stage has no account at the venue, so that nothing can be asked of one."""
        return self.plan.keyless(self.stage)


Check = Callable[[Subject, VenueDesk], Awaitable[tuple[bool, str]]]


async def preflight(subject: Subject, names: Collection[str] | None = None) -> list[Checked]:
    """Every check in the order of the table, whatever the ones before it said; only those of `names` where given."""
    checks = [row for row in table_of(subject) if names is None or row[0] in names]
    symbols = subject.stage.symbols
    desk = PublicDesk(subject.access, symbols) if subject.keyless else VenueDesk(lambda: subject.access, symbols)
    try:
        return [await _one(name, title, limit, check, subject, desk) for name, title, limit, check in checks]
    finally:
        desk.close()


Row = tuple[str, str, str, "Check"]


def table_of(subject: Subject) -> list[Row]:
    """What is checked: before every grant, then what the checklist adds, under the titles it gives.

    Without an account nothing that is about one: no key of it is known, and no order could get there.
    """
    items = {one.id: one for one in checklist_of(subject.stage).items}
    by_check = {one.check: one.title for one in items.values()}
    always = [(name, by_check.get(name, title), limit, check) for name, title, limit, check in CHECKS]
    if subject.keyless:
        always = [row for row in always if row[0] not in OF_THE_ACCOUNT]
    return [*always, *(_row_of(one) for one in items.values() if one.check not in ALWAYS)]


def _row_of(item: Item) -> Row:
    if item.check is not None and item.check in LISTED:
        limit, check = LISTED[item.check]
        return item.id, item.title, limit, check

    async def ask(subject: Subject, desk: VenueDesk) -> tuple[bool, str]:
        return await item_check(item, subject)

    return item.id, item.title, item_limit(item), ask


def passed(rows: Sequence[Checked]) -> bool:
    return bool(rows) and all(row.outcome is Outcome.PASS for row in rows)


async def _one(name: str, title: str, limit: str, check: Check, subject: Subject, desk: VenueDesk) -> Checked:
    try:
        good, value = await check(subject, desk)
    except KNOWN as error:
        return Checked(name, title, Outcome.UNKNOWN, "", limit, " ".join(str(error).split()) or type(error).__name__)
    except Exception as error:  # whatever stopped the check, it was not made: that is UNKNOWN and never a pass
        log.error("%s could not be made: %s", name, type(error).__name__, exc_info=error)
        said = f"{type(error).__name__}: {' '.join(str(error).split())}"
        return Checked(name, title, Outcome.UNKNOWN, "", limit, said[:300])
    return Checked(name, title, Outcome.PASS if good else Outcome.FAIL, value, limit)


# ---- the venue and the account ------------------------------------------------------------------------------------


async def _clock(subject: Subject, desk: VenueDesk) -> tuple[bool, str]:
    """The venue's time against the middle of the call, which is known to half of what the call took: a slow one says
    little, so the best of several counts, and what it does not know counts against it."""
    # The venue refuses what is more than a second ahead of it, or older than the receive window.
    limit_ms = min(1000, subject.plan.recv_window_ms)
    best_ms: tuple[int, int] | None = None
    for _ in range(CLOCK_READS):
        before_ms = time.time_ns() // 1_000_000
        venue_ms = await desk.read(lambda client: client.server_time_ms())
        after_ms = time.time_ns() // 1_000_000
        half_ms, skew_ms = (after_ms - before_ms + 1) // 2, venue_ms - (before_ms + after_ms) // 2
        if best_ms is None or half_ms < best_ms[0]:
            best_ms = half_ms, skew_ms
        if abs(best_ms[1]) + best_ms[0] < limit_ms:
            return True, f"{best_ms[1]} ms, known to {best_ms[0]} ms"
    return False, "not read" if best_ms is None else f"{best_ms[1]} ms, known to {best_ms[0]} ms"


def _of_account(check: AccountCheck) -> Check:
    """A check of the bot's own account preflight, against what this candidate's settings assume."""

    async def ask(subject: Subject, desk: VenueDesk) -> tuple[bool, str]:
        settings = load_settings(under_root(subject.plan.settings))
        assumed = assumed_of(settings, subject.stage.symbols, time.time_ns() // 1_000_000_000)
        good, value = await desk.read(lambda client: check.ask(client, assumed))
        return good, value if good else f"{value}, needs {check.limit(assumed)}"

    return ask


async def _no_orders(subject: Subject, desk: VenueDesk) -> tuple[bool, str]:
    found = await desk.read_open()
    return found.own + found.foreign == 0, f"{found.own} own, {found.foreign} foreign"


async def _flat(subject: Subject, desk: VenueDesk) -> tuple[bool, str]:
    positions = await desk.read_positions()
    return not any(positions.values()), ", ".join(f"{symbol} {qty:f}" for symbol, qty in positions.items())


async def _listed(subject: Subject, desk: VenueDesk) -> tuple[bool, str]:
    found = await desk.read(lambda client: [client.instrument(symbol) for symbol in subject.stage.symbols])
    return True, ", ".join(f"{one.symbol} tick {one.tick_size} lot {one.lot_size}" for one in found)


# ---- observation --------------------------------------------------------------------------------------------------


async def _prometheus(subject: Subject, desk: VenueDesk) -> tuple[bool, str]:
    """One that is away is waited for: it may just be started again."""
    until = time.monotonic() + PROMETHEUS_PATIENCE_S
    async with httpx.AsyncClient(timeout=HTTP_TIMEOUT_S, trust_env=False) as http:
        while True:
            try:
                ready = await http.get(f"{subject.prometheus_url}/-/ready")
                told = _data(await http.get(f"{subject.prometheus_url}/api/v1/status/buildinfo"))
            except httpx.HTTPError:
                if time.monotonic() > until:
                    raise
            else:
                if ready.status_code == 200 or time.monotonic() > until:
                    break
            await asyncio.sleep(LOOK_EVERY_S)
    version = str(told.get("version", ""))
    parts = re.match(r"(\d+)\.(\d+)", version)
    new_enough = parts is not None and (int(parts[1]), int(parts[2])) >= PROMETHEUS_OLDEST
    return ready.status_code == 200 and new_enough, version or "no version told"


async def _scraping(subject: Subject, desk: VenueDesk) -> tuple[bool, str]:
    """The guard's own metrics must arrive: that is the way the bot's will take."""
    until = time.monotonic() + PROMETHEUS_PATIENCE_S
    query = {"query": f'timestamp(up{{account="{subject.access.account}",run="guard"}} == 1)'}
    async with httpx.AsyncClient(timeout=HTTP_TIMEOUT_S, trust_env=False) as http:
        while True:
            try:
                found = _data(await http.get(f"{subject.prometheus_url}/api/v1/query", params=query)).get("result", [])
            except httpx.HTTPError:  # it may be starting
                if time.monotonic() > until:
                    raise
                found = []
            if found:
                age_s = time.time() - float(found[0]["value"][1])
                if age_s <= subject.plan.stale_after_s:
                    return True, f"{max(age_s, 0):.1f} s old"
            if time.monotonic() > until:
                return False, f"the guard was not scraped within {PROMETHEUS_PATIENCE_S:g} s"
            await asyncio.sleep(LOOK_EVERY_S)


def _data(answer: httpx.Response) -> dict[str, Any]:
    """What Prometheus told. Raises httpx.HTTPError with its status where it is no success with data in it."""
    try:
        told = answer.raise_for_status().json()
    except ValueError:
        told = None
    data = told.get("data") if isinstance(told, dict) else None
    if not isinstance(data, dict):
        raise httpx.HTTPError(f"Prometheus answered HTTP {answer.status_code} without data")
    return data


async def _disk(subject: Subject, desk: VenueDesk) -> tuple[bool, str]:
    free = shutil.disk_usage(subject.disk).free
    return free > DISK_FREE_MIN_BYTES, f"{free // 1_000_000} MB free"


# ---- plan and candidate -------------------------------------------------------------------------------------------


async def _lint(subject: Subject, desk: VenueDesk) -> tuple[bool, str]:
    faults = await asyncio.to_thread(lint_plan, subject.plan_path)
    return not faults, "; ".join(faults[:3]) or "no fault"


async def _queries(subject: Subject, desk: VenueDesk) -> tuple[bool, str]:
    """A query that Prometheus refuses would only show as UNKNOWN, when the bot trades already. One that it does not
    answer is asked again."""
    faults = await refused_queries((), (subject.plan_path,), subject.prometheus_url, PROMETHEUS_PATIENCE_S)
    return not faults, "; ".join(faults[:3]) or "all taken"


async def _receive_window(subject: Subject, desk: VenueDesk) -> tuple[bool, str]:
    """The proof of a rollback waits for the plan's window: an order must not live longer on its way than that."""
    used_ms = load_settings(under_root(subject.plan.settings)).venue.receive_window_ms
    return used_ms <= subject.plan.recv_window_ms, f"{used_ms} ms of {subject.plan.recv_window_ms} ms"


async def _loss_room(subject: Subject, desk: VenueDesk) -> tuple[bool, str]:
    """What earlier runs of the account lost counts in the next one: it would halt at once, and be blamed for them."""
    stage = subject.stage
    if stage.env == "shadow":
        return True, "on paper"
    config = resolved_of(subject).config
    carried = await asyncio.to_thread(_carried, subject, config.journal.store)
    curve, risk = carried.curve, config.risk
    loss, drawdown, total = curve.loss_24h_quote, curve.drawdown_quote, stage.total_max_quote
    held = risk.daily_loss_cap_quote if risk.enforce_daily_loss_cap and risk.daily_loss_cap_auto_hold else None
    limits = [total * risk.daily_loss_pct_hard / 100, *([] if held is None else [held])]  # no kill cap is below it
    fall = total * risk.drawdown_pct_hard / 100
    good = loss < min(limits) and drawdown < fall
    found = f"lost {loss:.2f} in 24 h (allowed below {min(limits):.2f}), {drawdown:.2f} below the peak ({fall:.2f})"
    if good and carried.unread:
        raise NotGathered("; ".join([found, *carried.unread[:3]]))
    return good, found


def _carried(subject: Subject, store: str) -> Carried:
    account, next_run = subject.access.account, StateFolder(subject.disk).runs / "next"
    elsewhere = [] if store == "sqlite" else journals_in_redis(store, account, next_run)
    return carried_equity(next_run, account, subject.stage.env, time.time_ns(), elsewhere)


async def _candidate(subject: Subject, desk: VenueDesk) -> tuple[bool, str]:
    code_version.cache_clear()  # the files as they are now, not as they were when this process first looked
    digest = settings_digest(load_settings(under_root(subject.plan.settings)))
    plan = plan_digest(load_plan(subject.plan_path))
    same = (digest, code_version(), plan) == (subject.settings_digest, subject.code_version, subject.plan_digest)
    return same, f"{code_version()} {digest[:12]}, plan {plan[:12]}"


CHECKS: Sequence[tuple[str, str, str, Check]] = (
    ("preflight_clock", "The venue answers and its clock agrees", "within 1 s and the window", _clock),
    ("preflight_key", RIGHTS.title, "trades, no withdrawal", _of_account(RIGHTS)),
    ("preflight_ip", BOUND.title, "bound", _of_account(BOUND)),
    ("preflight_expiry", LASTING.title, "as settings want", _of_account(LASTING)),
    ("preflight_age", YOUNG.title, "as settings allow", _of_account(YOUNG)),
    ("preflight_margin", MARGIN.title, "as settings assume", _of_account(MARGIN)),
    ("preflight_one_way", ONE_WAY.title, "one-way", _of_account(ONE_WAY)),
    ("preflight_fees", FEES.title, "as settings assume", _of_account(FEES)),
    ("preflight_symbols", "Every symbol trades and its filters are known", "all listed", _listed),
    ("preflight_no_orders", "No order of anybody stands on the account", "0 own, 0 foreign", _no_orders),
    ("preflight_flat", "The account is flat", "0", _flat),
    ("preflight_loss_room", "Earlier losses of the account leave room", "below its limits", _loss_room),
    ("preflight_prometheus", "Prometheus is ready and new enough", ">= 2.39", _prometheus),
    ("preflight_scraping", "Prometheus scrapes the guard", "fresh", _scraping),
    ("preflight_disk", "There is room on the disk", "> 1000 MB", _disk),
    ("preflight_plan", "Plan and criteria have no fault", "no fault", _lint),
    ("preflight_queries", "Prometheus takes every query", "all taken", _queries),
    ("preflight_window", "Orders expire within the plan's receive window", "at most the plan's", _receive_window),
    ("preflight_candidate", "Code, settings and plan are the candidate's", "as at the request", _candidate),
)
AGAIN_AT_LAUNCH: frozenset[str] = frozenset(
    {"preflight_clock", "preflight_no_orders", "preflight_flat", "preflight_candidate"}
)
"""What may have changed while people were signing, and what a grant must not be given without."""
OF_THE_ACCOUNT: frozenset[str] = frozenset(
    {"preflight_key", "preflight_ip", "preflight_expiry", "preflight_age", "preflight_margin", "preflight_one_way",
     "preflight_fees", "preflight_no_orders", "preflight_flat"}
)  # fmt: skip
"""What asks the venue about the account."""


def again_at_launch(subject: Subject) -> frozenset[str]:
    """What is looked at once more right before the launch of that stage."""
    return AGAIN_AT_LAUNCH - OF_THE_ACCOUNT if subject.keyless else AGAIN_AT_LAUNCH


def entry_evidence(plan_digest: str, candidate: str, rows: Sequence[Checked]) -> Mapping[str, Any]:
    """What people are shown before the grant, and what the entry digest covers."""
    return {
        "plan": plan_digest,
        "candidate": candidate,
        "preflight": [[row.name, row.outcome.value, row.value, row.limit] for row in rows],
    }
