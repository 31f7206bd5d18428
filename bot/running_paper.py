"""`run --shadow --network`, and `replay` of a capture: one process over real market data, its journal, its report."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import uvloop

from bot.assembly import Place, open_journal
from bot.assembly_paper import assemble_paper, feed_of
from bot.journal import StateLock
from bot.modes import live_enabled
from bot.report import Span, as_text, report
from bot.resolution import Resolved
from bot.runtime.clock import Clock
from bot.runtime.logs import JsonLog, open_log
from bot.runtime.process import Process
from bot.settings_file import ConfigError
from bot.venues.feed import PublicFeed


def run_paper(resolved: Resolved, flags: Mapping[str, object]) -> tuple[int, str, JsonLog]:
    """On live public data. (Exit code, the report, the log). Raises ConfigError, JournalError, CannotListen."""
    clock = Clock()
    feed = feed_of(resolved, clock.now_ns)
    run = resolved.environment.get("MM_RUN") or datetime.now(UTC).strftime("shadow-%Y%m%dT%H%M%SZ")
    return run_over(feed, clock, uvloop.new_event_loop, resolved, flags, run, "FULL")


def run_over(
    feed: PublicFeed,
    clock: Clock,
    loop_factory: Callable[[], asyncio.AbstractEventLoop],
    resolved: Resolved,
    flags: Mapping[str, object],
    run: str,
    synchronous: str,
    begun: Callable[[Process], None] = lambda _process: None,
) -> tuple[int, str, JsonLog]:
    """One run over that feed, on that clock and the event loop that goes with it. `begun`: told of the process."""
    with _place(resolved, flags, run) as place, StateLock(place.state_dir):
        log = _open_log(flags, clock)
        if live_enabled(resolved.environment):
            log.write("WARNING", "bot.modes", "live_enable_armed", {"mode": resolved.mode})
        journal = open_journal(place, resolved, log, synchronous)
        started_ns = clock.now_ns()
        try:
            process = assemble_paper(resolved, place, journal, log, clock, feed)
            begun(process)
            with asyncio.Runner(loop_factory=loop_factory) as runner:
                code = runner.run(process.run())
        finally:
            journal.close()
        span = Span(started_ns, clock.now_ns(), process.iterations, True, True, journal.continued)
        return code, as_text(report(process.engine, process.tally, resolved, span)), log


@contextmanager
def _place(resolved: Resolved, flags: Mapping[str, object], run: str) -> Iterator[Place]:
    """Where the journal is kept; without `--durable-state` in a folder that goes with the run."""
    account = resolved.environment.get("MM_ACCOUNT") or "shadow"
    if flags.get("durable_state"):
        state_dir = Path(str(flags.get("state_dir", "artifacts/state")))
        yield Place(account, run, state_dir, False, bool(flags.get("recover")))
        return
    with tempfile.TemporaryDirectory(prefix="mm-bot-") as folder:
        yield Place(account, run, Path(folder), False, False)


def _open_log(flags: Mapping[str, object], clock: Clock) -> JsonLog:
    log_file = Path(str(flags["log_file"])) if "log_file" in flags else None
    try:
        log = open_log(log_file, clock.now_ns, ())
    except OSError as error:
        raise ConfigError(f"--log-file: {log_file} cannot be written ({error.strerror})") from error
    log.adopt_standard_logging()
    return log
