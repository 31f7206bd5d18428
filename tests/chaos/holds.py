"""What must hold once a rollout has ended, whatever died on its way: by the record, the venue and the process table."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from pybit.unified_trading import HTTP

from bot.journal import JournalReader
from tasks.account_file import load_account
from tasks.launch import find_bots
from tasks.notify import TOLD_AGAIN
from tasks.record import Record
from tasks.record_tables import Outbox, StageRun
from tasks.rollback import STEPS as ROLLBACK_STEPS
from tasks.state_folder import StateFolder
from tests.chaos.matrix import Cell
from tests.support.recovery import pages

SAFETY_STEPS = ROLLBACK_STEPS[:4]
ONCE = ("requested", "started", "go", "no_go", "drill", "promoted", "rolled_back", "parked")
FLATTEN_PREFIX, QUOTE_PREFIX = "slwf-", "slwq-"


@dataclass
class Books:
    """What the driver of a cell has asked for and was told, to be held against the record."""

    signed: Counter[tuple[str, str]] = field(default_factory=Counter)
    """(gate, person) whose sign-off was answered with yes."""
    texts: list[str] = field(default_factory=list)
    """Every notice that has arrived where Slack would be."""


def faults(cell: Cell, record: Record, folder: StateFolder, run: StageRun, books: Books) -> list[str]:
    """Everything that does not hold, each in one line; empty where all does."""
    found = [*_ending(cell, run), *_one_bot(record, run), *_proofs(record, run)]
    found += _orders(folder, run)
    found += _sign_offs(record, run, books)
    found += _notices(record, run, books)
    report = record.verify_chain(run.account)
    return found if report.ok else [*found, f"the chain does not hold: {report}"]


def _ending(cell: Cell, run: StageRun) -> Iterator[str]:
    wanted = cell.ending
    if (run.step, run.reason) != (wanted.step, wanted.reason):
        why = f"{run.decided_criterion}: {run.decided_why}"
        yield f"ended {run.step} ({run.reason}) by {why}; must end {wanted.step} ({wanted.reason}): {wanted.why}"


def _one_bot(record: Record, run: StageRun) -> Iterator[str]:
    """One process ever: by the chain, by who said that it was ready, and none lives; every epoch once, in order."""
    noted, epochs = set(), []
    for entry in record.entries(run.account):
        body = json.loads(entry.body)
        if entry.kind == "bot" and "pid" in body:
            noted.add((body["pid"], body["pid_started_ticks"]))
        if entry.kind == "epoch":
            epochs.append(body["epoch"])
    if epochs != list(range(1, len(epochs) + 1)):
        yield f"epochs {epochs}: must rise by one"
    started = 0
    if run.state_dir is not None:
        out = Path(run.state_dir) / "stdout.log"
        started = out.read_text().count('"obs_url"') if out.exists() else 0
        if living := find_bots(Path(run.state_dir)):
            yield f"bots live after the end: {living}"
    if len(noted) > 1 or started > 1:
        yield f"{len(noted)} bots noted, {started} ready: one at most may ever have held the grant"
    if run.step == "promoted" and (len(noted), started) != (1, 1):
        yield f"promoted with {len(noted)} bots noted and {started} ready"


def _proofs(record: Record, run: StageRun) -> Iterator[str]:
    steps = {one.name: one for one in record.rollback_steps(run.id or 0)}
    for name in ROLLBACK_STEPS:
        if name not in steps or steps[name].state != "verified":
            yield f"step {name} is {steps[name].state if name in steps else 'missing'}: must be verified"
    reads = steps["cancel_all"].proof.get("reads", []) if "cancel_all" in steps else []
    if [read["own_open"] for read in reads] != [0, 0]:
        yield f"cancel_all is proven by {reads}: must be two reads without an own order"


def _orders(folder: StateFolder, run: StageRun) -> Iterator[str]:
    """By the venue's own word: nothing open, flat, and every order it ever had of us stands in the journal."""
    access = load_account(folder.root, run.account)
    client = HTTP(api_key=access.api_key, api_secret=access.api_secret, timeout=10, recv_window=60_000)
    client.endpoint = access.rest_url
    standing = [row["orderLinkId"] for row in pages(client.get_open_orders, limit=50)]
    if standing:
        yield f"orders stand at the venue: {standing}"
    executions = pages(client.get_executions, limit=100, execType="Trade")  # a funding is of no order
    names = [row["orderLinkId"] for row in (*pages(client.get_order_history, limit=50), *executions)]
    known = _journal_orders(run)
    if unknown := {name for name in names if not name.startswith(FLATTEN_PREFIX)} - known:
        yield f"{len(unknown)} orders are in no journal: {sorted(unknown)[:3]}"
    held = [row for row in client.get_positions(category="linear", symbol="BTCUSDT")["result"]["list"]]
    if any(float(row["size"] or 0) for row in held):
        yield f"not flat at the venue: {held}"


def _journal_orders(run: StageRun) -> set[str]:
    path = Path(run.state_dir or "/nowhere") / "journal.db"
    if not path.exists():
        return set()
    with JournalReader(path) as journal:
        return {str(row[0]) for row in journal.rows("SELECT client_order_id FROM orders")}


def _sign_offs(record: Record, run: StageRun, books: Books) -> Iterator[str]:
    """Whoever was told yes stands in the record once, and nobody else does; no request has two answers."""
    kept = record.sign_offs(run.id or 0, accepted=True)
    counted = Counter((row.gate, row.person) for row in kept)
    if counted != books.signed:
        yield f"accepted sign-offs are {dict(counted)}; told were {dict(books.signed)}"
    requests = [row.inbox_id for row in record.sign_offs(run.id or 0) if row.inbox_id is not None]
    if len(set(requests)) != len(requests):
        yield f"a request was judged twice: {requests}"


def _notices(record: Record, run: StageRun, books: Books) -> Iterator[str]:
    """Each that the course must tell is there, once, delivered; and what arrived is what stands in the outbox."""
    rows = [one for one in record.notices(run.account) if one.key.startswith(f"{run.id}:")]
    if waiting := [one.kind for one in rows if one.delivered_at is None]:
        yield f"notices not delivered: {waiting}"
    kinds = Counter(one.kind for one in rows)
    for kind, wanted in _told(record, run, books).items():
        if kinds[kind] != wanted:
            yield f"notice {kind}: {kinds[kind]}, must be {wanted}"
    if more := [kind for kind in ONCE if kinds[kind] > 1]:
        yield f"told twice: {more}"
    yield from _arrived(rows, books.texts)


def _told(record: Record, run: StageRun, books: Books) -> dict[str, int]:
    """Kind → how often the course, as the record has it, must have told it."""
    at = run.id or 0
    asked = (run.ready_at is not None) + (run.judged_at is not None)
    return {
        "requested": 1,
        "sign_off_wanted": asked,
        "signed": sum(books.signed.values()),
        "started": int(run.launched_at is not None),
        "drill": sum(one.outcome == "passed" for one in record.drills(at)),
        "go": int(run.judged_at is not None),
        "no_go": int(run.end_wanted is not None),
        "rollback_step": sum(one.state == "verified" for one in record.rollback_steps(at)),
        run.step: 1,
    }


def _arrived(rows: list[Outbox], texts: list[str]) -> Iterator[str]:
    came = Counter(texts)
    lost = [one.kind for one in rows if not came[one.text] and not came[one.text + TOLD_AGAIN]]
    if lost:
        yield f"notices that never arrived: {lost}"
    if doubled := [one.kind for one in rows if came[one.text] > 1 or came[one.text + TOLD_AGAIN] > 1]:
        yield f"notices that arrived twice: {doubled}"
