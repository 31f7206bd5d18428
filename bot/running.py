"""`run`: from a resolved configuration to an exit code. What a person can put right ends in one line and code 2."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Final

import uvloop

from bot.assembly import Place, assemble, open_journal, place_of, secrets_of
from bot.journal import JournalError, StateLock
from bot.modes import live_enabled
from bot.report import Span, as_text, check_report_file, frozen_at_ns, report
from bot.report_archive import archive
from bot.resolution import Resolved
from bot.runtime.clock import Clock
from bot.runtime.logs import JsonLog, open_log
from bot.runtime.secrets import TOKENS, KeyPair, SecretMissing, SecretsUnreadable
from bot.runtime.serving import CannotListen
from bot.settings_file import ConfigError

NAME: Final = "bot.running"
SECRET_VARIABLES: Final = ("BYBIT_API_KEY", "BYBIT_API_SECRET", *TOKENS)
REPORTS: Final = Path("reports")


def run(resolved: Resolved, flags: Mapping[str, object]) -> int:
    """Raises ConfigError, one line, for everything that keeps the bot from starting."""
    report_file = Path(str(flags["report"])) if "report" in flags else None
    if report_file is not None:
        check_report_file(report_file)
    frozen_at_ns(resolved.environment)
    if resolved.mode == "shadow":
        return _run_shadow(resolved, flags, report_file)
    place = place_of(resolved, flags)
    clock = Clock()
    try:
        pair = secrets_of(resolved).pair(resolved.config.venue.exchange)
        with StateLock(place.state_dir):
            log = _open_log(resolved, flags, clock)
            return _run_locked(resolved, place, log, clock, report_file, pair)
    except (JournalError, SecretMissing, SecretsUnreadable, CannotListen) as error:
        raise ConfigError(str(error)) from error


def run_replay(resolved: Resolved, path: Path, flags: Mapping[str, object]) -> int:
    """The whole bot in shadow over a capture, to its end or for `--iterations`. Raises ConfigError, one line."""
    from bot.replay_capture import replay_capture

    if resolved.mode != "shadow":
        raise ConfigError(f"replay: mode {resolved.mode} is not allowed; a capture is replayed in shadow")
    if "iterations" not in flags:
        execution = resolved.config.execution.model_copy(update={"iterations": 0})
        resolved = resolved._replace(config=resolved.config.model_copy(update={"execution": execution}))
    try:
        code, text, log = replay_capture(path, resolved, flags)
    except JournalError as error:
        raise ConfigError(str(error)) from error
    report_file = Path(str(flags["report"])) if "report" in flags else None
    return code if _deliver(text, report_file, log) else max(code, 1)


def _run_shadow(resolved: Resolved, flags: Mapping[str, object], report_file: Path | None) -> int:
    from bot.running_paper import run_paper
    from bot.running_shadow import run_shadow

    try:
        code, text, log = run_paper(resolved, flags) if flags.get("network") else run_shadow(resolved, flags)
    except (JournalError, CannotListen) as error:
        raise ConfigError(str(error)) from error
    frozen_ns = frozen_at_ns(resolved.environment)
    try:
        archive(REPORTS, text, time.time_ns() if frozen_ns is None else frozen_ns)
    except OSError as error:
        log.write("WARNING", NAME, "report_not_archived", {"message": str(error)})
    return code if _deliver(text, report_file, log) else max(code, 1)


def _open_log(resolved: Resolved, flags: Mapping[str, object], clock: Clock) -> JsonLog:
    log_file = Path(str(flags["log_file"])) if "log_file" in flags else None
    secrets = [resolved.environment.get(name, "") for name in SECRET_VARIABLES]
    try:
        log = open_log(log_file, clock.now_ns, secrets)
    except OSError as error:
        raise ConfigError(f"--log-file: {log_file} cannot be written ({error.strerror})") from error
    log.adopt_standard_logging()
    return log


def _run_locked(
    resolved: Resolved, place: Place, log: JsonLog, clock: Clock, report_file: Path | None, pair: KeyPair
) -> int:
    if live_enabled(resolved.environment) and resolved.mode != "live":
        log.write("WARNING", "bot.modes", "live_enable_armed", {"mode": resolved.mode})
    started_ns = clock.now_ns()
    journal = open_journal(place, resolved, log)
    try:
        process = assemble(resolved, place, journal, log, clock, pair)
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            log.write(
                "INFO",
                NAME,
                "started",
                {
                    "account": place.account,
                    "run": place.run,
                    "mode": resolved.mode,
                    "profile": resolved.profile,
                    "config_digest": resolved.digest,
                    "event_loop": type(runner.get_loop()).__module__,
                    "simulated_venue": resolved.hosts_overridden,
                    "grant": "self" if place.grants_itself else "guard",
                },
            )
            code = runner.run(process.run())
    finally:
        journal.close()
    span = Span(started_ns, clock.now_ns(), process.iterations, network=True, warmed=True, recovered=journal.continued)
    if not _deliver(as_text(report(process.engine, process.tally, resolved, span)), report_file, log) and not code:
        return 1
    if code:
        why = ", ".join(stop.reason for stop in process.engine.stops if stop.reason != "shutdown") or "failed"
        with suppress(OSError):  # where not even that can be written the code alone tells
            print(f"mm-bot: {why}: the run ended with code {code}, see the log", file=sys.stderr, flush=True)
    return code


def _deliver(text: str, report_file: Path | None, log: JsonLog) -> bool:
    """To stdout or the file; False where it could not be written."""
    try:
        if report_file is None:
            sys.stdout.write(text)
            sys.stdout.flush()
        else:
            report_file.parent.mkdir(parents=True, exist_ok=True)
            report_file.write_text(text, encoding="utf-8")
    except OSError as error:
        log.write("WARNING", NAME, "report_unwritable", {"message": str(error)})
        return False
    return True
