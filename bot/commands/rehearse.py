"""`rehearse`: the whole bot against the simulated venue's generated market, in simulated time, and its report.

Limits, strategy, stops and fees are those of the flags and settings; the venue is the simulated one, which trades
BTCUSDT.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Final

from bot.assembly import engine_parameters
from bot.domain.events import BookDelta, BookSnapshot, Event
from bot.domain.intent import Intent
from bot.engine.engine import Engine
from bot.report import Span, as_text, check_report_file, report
from bot.resolution import Resolved
from bot.settings_file import ConfigError
from bot.tally import Tally

if TYPE_CHECKING:
    from bot.engine.parameters import EngineParameters
    from bot.simulation import Outcome, Scenario, Watch
    from bot.simulator.accounts import Fees

SPAN_S_DEFAULT: Final = 600
SPAN_S_MAX: Final = 366 * 86_400
WITHOUT_EFFECT: Final = (
    "network", "testnet", "live", "iterations", "fill_rate", "latency_ms", "durable_state", "recover", "obs",
    "obs_host", "obs_port", "log_file", "grant", "warmup_filters",
)  # fmt: skip


def rehearse(resolved: Resolved, flags: Mapping[str, object]) -> int:
    """Raises ConfigError for what it cannot rehearse."""
    for name in WITHOUT_EFFECT:
        if name in flags:
            raise ConfigError(f"--{name.replace('_', '-')}: has no effect in a rehearsal, so it is not allowed there")
    symbols = resolved.config.execution.symbols
    if symbols != ("BTCUSDT",):
        raise ConfigError(f"--symbols: {','.join(symbols)!r} is not allowed in a rehearsal; allowed: BTCUSDT")
    if "report" in flags:
        check_report_file(Path(str(flags["report"])))
    from bot.simulation import START_NS, Scenario

    parameters = engine_parameters(resolved.config, "live")
    kept = resolved.config.journal
    keeps = kept.market_data and "state_dir" in flags  # what nobody can look at afterwards needs no market data
    scenario = Scenario(
        resolved.config.execution.seed,
        _span_s(flags),
        parameters,
        fees=candidates_fees(parameters.of(symbols[0])),
        trade_socket=resolved.config.venue.order_entry == "socket",
        batches=resolved.config.venue.batch_orders,
        segments=(kept.segment_mb * 1_000_000, kept.segments_kept) if keeps else None,
    )
    engine_seen: list[Engine] = []
    updates = 0
    tally = Tally(symbols, lambda: engine_seen[0].counts if engine_seen else {})

    def watch(event: Event, intents: list[Intent], engine: Engine) -> None:
        nonlocal updates
        updates += isinstance(event, BookDelta | BookSnapshot)
        if not engine_seen:
            engine_seen.append(engine)
        tally.note(event, intents)

    outcome = _run(scenario, flags, watch)
    span = Span(START_NS, outcome.ended_ns, updates, network=False, warmed=True, recovered=False)
    text = as_text(report(outcome.engine, tally, resolved, span))
    if "report" in flags:
        try:
            Path(str(flags["report"])).write_text(text, encoding="utf-8")
        except OSError as error:
            raise ConfigError(f"--report: {flags['report']} cannot be written ({error.strerror})") from error
    else:
        sys.stdout.write(text)
    return outcome.exit_code


def candidates_fees(own: EngineParameters) -> Fees:
    """What a simulated venue charges where the candidate is tried out: what it says it is charged."""
    from bot.simulator.accounts import Fees

    return Fees((own.fee_maker_bps - own.rebate_maker_bps) / 10_000, own.fee_taker_bps / 10_000)


def _run(scenario: Scenario, flags: Mapping[str, object], watch: Watch) -> Outcome:
    from bot.simulation import run_kernel, run_wire

    if flags.get("lane", "kernel") == "kernel":
        return run_kernel(scenario, watch)
    if "state_dir" in flags:
        folder = Path(str(flags["state_dir"]))
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if (folder / "journal.db").exists():
            raise ConfigError(f"{folder / 'journal.db'}: a journal is there already; give another --state-dir")
        return run_wire(scenario, folder, watch)
    with tempfile.TemporaryDirectory(prefix="rehearsal-") as name:
        return run_wire(scenario, Path(name), watch)


def _span_s(flags: Mapping[str, object]) -> int:
    text = str(flags.get("span_s", SPAN_S_DEFAULT))
    if not text.isdecimal() or not 1 <= int(text) <= SPAN_S_MAX:
        raise ConfigError(f"--span-s: {text!r} is not allowed; allowed: whole seconds >= 1 and <= {SPAN_S_MAX}")
    return int(text)
