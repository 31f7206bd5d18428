"""`run`: from a resolved configuration to an exit code. What a person can put right ends in one line and code 2."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import uvloop

from bot.assembly import Place, assemble, open_journal, place_of
from bot.journal import JournalError, StateLock
from bot.modes import live_enabled
from bot.report import report
from bot.resolution import Resolved
from bot.runtime.clock import Clock
from bot.runtime.logs import JsonLog, open_log
from bot.runtime.process import CannotListen
from bot.runtime.secrets import MemorySecrets, SecretMissing
from bot.settings_file import ConfigError

NAME: Final = "bot.running"
SECRET_VARIABLES: Final = ("BYBIT_API_KEY", "BYBIT_API_SECRET", "MM_GRANT_TOKEN", "APPROVE_TOKEN")


def run(resolved: Resolved, flags: Mapping[str, object]) -> int:
    """Raises ConfigError, one line, for everything that keeps the bot from starting."""
    place = place_of(resolved, flags)
    log_file = Path(str(flags["log_file"])) if "log_file" in flags else None
    report_file = Path(str(flags["report"])) if "report" in flags else None
    clock = Clock()
    try:
        for key_type in ("api_key", "api_secret"):
            MemorySecrets(resolved.environment).get(resolved.config.venue.exchange, key_type)
        with StateLock(place.state_dir):
            secrets = [resolved.environment.get(name, "") for name in SECRET_VARIABLES]
            log = _open_log(log_file, clock, secrets)
            return _run_locked(resolved, place, log, clock, report_file)
    except (JournalError, SecretMissing, CannotListen) as error:
        raise ConfigError(str(error)) from error


def _open_log(log_file: Path | None, clock: Clock, secrets: list[str]) -> JsonLog:
    try:
        log = open_log(log_file, clock.now_ns, secrets)
    except OSError as error:
        raise ConfigError(f"--log-file: {log_file} cannot be written ({error.strerror})") from error
    log.adopt_standard_logging()
    return log


def _run_locked(resolved: Resolved, place: Place, log: JsonLog, clock: Clock, report_file: Path | None) -> int:
    if live_enabled(resolved.environment) and resolved.mode != "live":
        log.write("WARNING", "bot.modes", "live_enable_armed", {"mode": resolved.mode})
    journal = open_journal(place, resolved, log)
    try:
        process = assemble(resolved, place, journal, log, clock)
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
                "simulated_venue": resolved.hosts_overridden,
                "grant": "self" if place.grants_itself else "guard",
            },
        )
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            code = runner.run(process.run())
    finally:
        journal.close()
    text = json.dumps(report(process.engine, resolved, clock.now_ns()), sort_keys=True) + "\n"
    try:
        if report_file is None:
            sys.stdout.write(text)
            sys.stdout.flush()
        else:
            report_file.parent.mkdir(parents=True, exist_ok=True)
            report_file.write_text(text, encoding="utf-8")
    except OSError as error:
        log.write("WARNING", NAME, "report_unwritable", {"message": str(error)})
    return code
