"""`run --shadow --network`: live public market data, simulated fills, in real time. No key is read, no order leaves."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Mapping
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path

import uvloop

from bot.assembly import Place, open_journal
from bot.assembly_network_shadow import assemble_network_shadow
from bot.journal import StateLock
from bot.modes import live_enabled
from bot.report import Span, as_text, report
from bot.resolution import Resolved
from bot.runtime.clock import Clock
from bot.runtime.logs import JsonLog, open_log
from bot.settings_file import ConfigError


def run_network_shadow(resolved: Resolved, flags: Mapping[str, object]) -> tuple[int, str, JsonLog]:
    """(exit code, the report, the log). Raises ConfigError, JournalError, CannotListen, one line each."""
    clock, environment = Clock(), resolved.environment
    with ExitStack() as stack:
        durable = bool(flags.get("durable_state"))
        folder = str(flags.get("state_dir", "artifacts/state"))
        if not durable:
            folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="shadow-"))
        place = Place(
            environment.get("MM_ACCOUNT") or "shadow",
            environment.get("MM_RUN") or datetime.now(UTC).strftime("shadow-%Y%m%dT%H%M%SZ"),
            Path(folder),
            True,
            durable and bool(flags.get("recover")),
        )
        stack.enter_context(StateLock(place.state_dir))
        log = _open_log(flags, clock)
        if live_enabled(environment):
            log.write("WARNING", "bot.modes", "live_enable_armed", {"mode": resolved.mode})
        started_ns = clock.now_ns()
        journal = open_journal(place, resolved, log)
        stack.callback(journal.close)
        process = assemble_network_shadow(resolved, place, journal, log, clock)
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            code = runner.run(process.run())
        span = Span(
            started_ns, clock.now_ns(), process.iterations, network=True, warmed=True, recovered=journal.continued
        )
        return code, as_text(report(process.engine, process.tally, resolved, span)), log


def _open_log(flags: Mapping[str, object], clock: Clock) -> JsonLog:
    log_file = Path(str(flags["log_file"])) if "log_file" in flags else None
    try:
        log = open_log(log_file, clock.now_ns, ())
    except OSError as error:
        raise ConfigError(f"--log-file: {log_file} cannot be written ({error.strerror})") from error
    log.adopt_standard_logging()
    return log
