"""The checks that a checklist may name beside those before every grant, and its drills and attestations.

What they need of the record is gathered first, on the record's own thread: `gather` makes `Facts`.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import ROUND_FLOOR, Decimal
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from bot.command_line import parse
from bot.config import Settings, load_settings
from bot.engine.maker_policy import check_min_qty
from bot.resolution import Resolved, read_environment, resolve
from gates.approvers import Approvers
from gates.checklists import DAY_S, Item, Said, unattested
from gates.stages import under_root
from tasks.attestation import said_of
from tasks.names import without_secrets
from tasks.notify import TOKEN, WEBHOOK, is_given
from tasks.record import Record
from tasks.record_chain import ChainReport
from tasks.record_tables import utc_now
from tasks.sign_off import Seeds
from tasks.state_folder import REPOSITORY

if TYPE_CHECKING:
    from bot.venues.bybit.account_client import AccountClient
    from tasks.preflight import Subject
    from tasks.venue_desk import VenueDesk

TOKEN_MIN_CHARS = 16
GIT_TIMEOUT_S = 10


class NotGathered(Exception):
    """What the check needs was not there to be looked at: that is UNKNOWN."""


class Drilled(NamedTuple):
    """A drill that the candidate was put through. `outcome`: passed | failed | not_run, or empty while it lasts."""

    stage: str
    name: str
    outcome: str
    at: datetime


@dataclass(frozen=True)
class Facts:
    """What the record and the seeds say. `unenrolled`: approvers without a one-time code."""

    said: Sequence[Said]
    drilled: Sequence[Drilled]
    chain: ChainReport
    unenrolled: Sequence[str]


def gather(record: Record, seeds: Seeds, account: str, candidate: str, approvers: Approvers) -> Facts:
    """Raises SeedsError and what the record's engine raises."""
    known = seeds.read()
    drilled = [
        Drilled(run.stage, drill.name, drill.outcome, drill.ends_at or drill.started_at)
        for run, drill in record.drills_of(candidate)
    ]
    unenrolled = [one.name for one in approvers.people if one.name not in known]
    return Facts(said_of(record, account), drilled, record.verify_chain(account), unenrolled)


async def item_check(item: Item, subject: Subject) -> tuple[bool, str]:
    """A drill or an attestation, by the facts. Raises NotGathered."""
    facts = _facts(subject)
    if item.attestation is not None:
        if subject.approvers is None:
            raise NotGathered("the approvers file does not load")
        people, author = subject.approvers.people, subject.plan.author
        missing = unattested(item, people, facts.said, subject.candidate, author, utc_now())
        by = ", ".join(dict.fromkeys(one.person for one in facts.said if one.item == item.id)) or "nobody"
        return not missing, "; ".join(missing) or f"attested by {by}"
    asked = item.drill
    if asked is None:
        raise NotGathered(f"{item.id} is neither drill nor attestation")
    rows = [one for one in facts.drilled if (one.stage, one.name) == (asked.stage, asked.name)]
    if not rows:
        return False, f"drill {asked.name} was not made at {asked.stage} by this candidate"
    last = rows[-1]
    age_s = (utc_now() - last.at).total_seconds()
    if last.outcome != "passed":
        return False, f"drill {asked.name} at {asked.stage}: {last.outcome or 'not over'}"
    said = f"passed {age_s / DAY_S:.1f} d ago"
    return (
        age_s <= asked.max_age_s,
        said if age_s <= asked.max_age_s else f"{said}, allowed: {asked.max_age_s / DAY_S:g}",
    )


def item_limit(item: Item) -> str:
    """What is allowed, in words, for the row."""
    if item.attestation is not None:
        by = item.attestation.by
        more = by.people_count - len(by.roles)
        who = [*by.roles, *([f"{more} {'person' if more == 1 else 'people'}"] if more else [])]
        return f"by {', '.join(who)}, <= {item.attestation.max_age_s / DAY_S:g} d old"
    return f"passed, <= {item.drill.max_age_s / DAY_S:g} d old" if item.drill is not None else "holds"


# ---- checks ---------------------------------------------------------------------------------------------------------


async def _order_size(subject: Subject, desk: VenueDesk) -> tuple[bool, str]:
    settings = load_settings(under_root(subject.plan.settings))
    symbols = subject.stage.symbols
    sizes = await desk.read(lambda client: [_size(client, settings, symbol) for symbol in symbols])
    pad = subject.stage.min_qty_pad
    small = [one for one in sizes if not check_min_qty(one.qty, one.mid, one.qty_min, one.notional_min_quote, pad)]
    shown = small or sizes
    return not small, ", ".join(f"{one.symbol} {one.qty:f} (least {one.qty_min * pad:f})" for one in shown)


class _Size(NamedTuple):
    symbol: str
    qty: Decimal
    mid: Decimal
    qty_min: Decimal
    notional_min_quote: Decimal


def _size(client: AccountClient, settings: Settings, symbol: str) -> _Size:
    """What one quote at mid would be, rounded down to the lot, and the venue's least."""
    one, top = client.instrument(symbol), client.top_of_book(symbol)
    own = settings.strategy.per_symbol.get(symbol) or settings.strategy.per_symbol.get("*")
    notional = (own.order_notional_quote if own else None) or settings.strategy.order_notional_quote
    mid = (top.bid + top.ask) / 2
    lots = (notional / mid / one.lot_size).to_integral_value(ROUND_FLOOR)
    return _Size(symbol, lots * one.lot_size, mid, one.qty_min, one.notional_min_quote)


def resolved_of(subject: Subject) -> Resolved:
    """What the bot would resolve for itself from the command it is started with. Raises NotGathered, ConfigError."""
    if subject.launch is None:
        raise NotGathered("no command to start the bot with")
    command, environment = subject.launch
    flags = {name: value for name, value in vars(parse(command[command.index("run") :])).items() if name != "command"}
    return resolve(flags, read_environment(REPOSITORY, environment))


async def _switches(subject: Subject, desk: VenueDesk) -> tuple[bool, str]:
    resolved = resolved_of(subject)
    config, caps, environment = resolved.config, resolved.config.kill_caps, resolved.environment
    faults = [
        name
        for name, good in (
            ("safe_mode off", config.safety.safe_mode),
            ("two_man_rule off", config.safety.two_man_rule),
            ("maker_only off", config.execution.maker_only),
            ("APPROVE_TOKEN not given", bool(environment.get("APPROVE_TOKEN"))),
            ("kill caps not set", subject.stage.env != "live" or None not in caps.model_dump().values()),
        )
        if not good
    ]
    return not faults, ", ".join(faults) or f"profile {resolved.profile}, all on"


async def _tokens(subject: Subject, desk: VenueDesk) -> tuple[bool, str]:
    """Never a value: a name and a length."""
    access = subject.access
    tokens = {"grant": access.grant_token, "approve": access.approve_token}
    short = [f"{name} has {len(one)} characters" for name, one in tokens.items() if len(one) < TOKEN_MIN_CHARS]
    same = ["two are the same"] if len(set(tokens.values())) < len(tokens) else []
    return not short and not same, ", ".join([*short, *same]) or f"{len(tokens)} of their own"


async def _enrolled(subject: Subject, desk: VenueDesk) -> tuple[bool, str]:
    missing = _facts(subject).unenrolled
    return not missing, f"without a code: {', '.join(missing)}" if missing else "everybody"


async def _record(subject: Subject, desk: VenueDesk) -> tuple[bool, str]:
    chain = _facts(subject).chain
    return chain.ok, f"{chain.length} links" if chain.ok else chain.reason


async def _notices(subject: Subject, desk: VenueDesk) -> tuple[bool, str]:
    given = is_given()
    return given, "set" if given else f"neither {WEBHOOK} nor {TOKEN} is set"


async def _work_tree(subject: Subject, desk: VenueDesk) -> tuple[bool, str]:
    return await asyncio.to_thread(work_tree, REPOSITORY)


def work_tree(folder: Path) -> tuple[bool, str]:
    """Whether git knows of no change and no stray file in `folder`. Raises NotGathered where git cannot say."""
    try:
        done = subprocess.run(
            ["git", "-C", str(folder), "status", "--porcelain"],
            env=without_secrets(os.environ), capture_output=True, text=True, timeout=GIT_TIMEOUT_S, check=False,
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired) as error:
        raise NotGathered(f"git: {type(error).__name__}") from error
    if done.returncode:
        raise NotGathered(" ".join(done.stderr.split()) or f"git ended with {done.returncode}")
    lines = done.stdout.splitlines()
    return not lines, "clean" if not lines else f"{len(lines)} changes, first: {lines[0].strip()}"


def _facts(subject: Subject) -> Facts:
    if subject.facts is None:
        raise NotGathered("the record was not asked")
    return subject.facts


Listed = Callable[["Subject", "VenueDesk"], Awaitable[tuple[bool, str]]]
LISTED: Mapping[str, tuple[str, Listed]] = {
    "preflight_order_size": ("at least the venue's, padded", _order_size),
    "preflight_switches": ("all on", _switches),
    "preflight_tokens": (f">= {TOKEN_MIN_CHARS} characters, all different", _tokens),
    "preflight_enrolled": ("everybody", _enrolled),
    "preflight_record": ("every link holds", _record),
    "preflight_notices": ("set", _notices),
    "preflight_work_tree": ("clean", _work_tree),
}
"""Check to (limit in words, function)."""
