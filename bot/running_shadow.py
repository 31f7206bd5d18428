"""`run` in deterministic shadow: what it needs, whether it can start, and its report."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from contextlib import ExitStack
from decimal import Decimal
from pathlib import Path
from typing import Final

import msgspec

from bot.assembly import Place, open_journal
from bot.assembly_shadow import assemble_shadow
from bot.domain.events import Filled
from bot.domain.filters import BUILT_IN
from bot.engine.ledger import Ledger
from bot.journal import Journal, JournalReader, StateLock
from bot.modes import live_enabled
from bot.report import Span, as_text, frozen_at_ns, report
from bot.resolution import Resolved
from bot.runtime.logs import JsonLog, open_log
from bot.settings_file import ConfigError
from bot.shadow import SimulatedClock
from bot.stores import sqlite

START_NS: Final = 1_767_225_600 * 1_000_000_000
"""2026-01-01T00:00:00Z: where simulated time begins, unless MM_FREEZE_UTC_ISO names another moment."""

NAME: Final = "bot.shadow"

Left = dict[str, tuple[int, Decimal]]
"""Symbol → (signed lots, entry price) that an earlier run left behind."""


def run_shadow(resolved: Resolved, flags: Mapping[str, object]) -> tuple[int, str, JsonLog]:
    """(exit code, the report, the log). Raises ConfigError, JournalError, CannotListen, one line each."""
    place = _place(resolved, flags)
    frozen_ns = frozen_at_ns(resolved.environment)
    clock = SimulatedClock(START_NS if frozen_ns is None else frozen_ns)
    with ExitStack() as stack:
        if place is not None:
            stack.enter_context(StateLock(place.state_dir))
        log = _open_log(flags, clock)
        if live_enabled(resolved.environment):
            log.write("WARNING", "bot.modes", "live_enable_armed", {"mode": resolved.mode})
        journal, left = None, Left()
        if place is not None:
            left, clock.at_ns = _left_behind(place, clock.at_ns)
            journal = open_journal(place, resolved, log, "NORMAL")
            stack.callback(journal.close)
        elif flags.get("recover"):
            log.write("INFO", NAME, "recovery", {"found": False, "message": "no --durable-state: starting fresh"})
        return _run(resolved, place, journal, left, log, clock)


def _run(
    resolved: Resolved, place: Place | None, journal: Journal | None, left: Left, log: JsonLog, clock: SimulatedClock
) -> tuple[int, str, JsonLog]:
    process = assemble_shadow(resolved, place, journal, left, log, clock)
    started_ns = clock.now_ns()
    code = process.run()
    shadow = process.shadow
    if shadow.failure:
        print(f"mm-bot: {shadow.failure}", file=sys.stderr)
    recovered = journal is not None and journal.continued
    warmed = resolved.config.execution.warmup_filters
    span = Span(started_ns, clock.now_ns(), shadow.iterations, network=False, warmed=warmed, recovered=recovered)
    return code, as_text(report(shadow.engine, shadow.tally, resolved, span)), log


def _place(resolved: Resolved, flags: Mapping[str, object]) -> Place | None:
    """None without `--durable-state`: then nothing but the report and the log is written."""
    for symbol in resolved.config.execution.symbols:
        if symbol not in BUILT_IN:
            allowed = ", ".join(BUILT_IN)
            raise ConfigError(f"--symbols: {symbol!r} is not allowed without network; has built-in filters: {allowed}")
    if not flags.get("durable_state"):
        return None
    seed = resolved.config.execution.seed
    environment = resolved.environment
    return Place(
        environment.get("MM_ACCOUNT") or "shadow",
        environment.get("MM_RUN") or f"shadow-{seed}",
        Path(str(flags.get("state_dir", "artifacts/state"))),
        False,
        bool(flags.get("recover")),
    )


def _open_log(flags: Mapping[str, object], clock: SimulatedClock) -> JsonLog:
    log_file = Path(str(flags["log_file"])) if "log_file" in flags else None
    try:
        return open_log(log_file, clock.now_ns, ())
    except OSError as error:
        raise ConfigError(f"--log-file: {log_file} cannot be written ({error.strerror})") from error


def _left_behind(place: Place, start_ns: int) -> tuple[Left, int]:
    """What the journal that is continued says the account holds, and when its time goes on."""
    path = place.state_dir / "journal.db"
    if not place.recover or not path.exists():
        return {}, start_ns
    sqlite.check(path)
    last_ns, ledger = start_ns - 1_000_000_000, Ledger(BUILT_IN)
    with JournalReader(path) as reader:
        for entry in reader.entries():
            last_ns = max(last_ns, entry.at_ns)
            if entry.kind == "Filled" and entry.symbol in BUILT_IN:
                ledger.record(msgspec.json.decode(entry.body, type=Filled), BUILT_IN[entry.symbol])
    left: Left = {}
    for symbol, account in ledger.accounts.items():
        if account.position_lots:
            qty = BUILT_IN[symbol].qty(account.position_lots)
            left[symbol] = (account.position_lots, account.cost_quote / qty)
    return left, last_ns + 1_000_000_000
