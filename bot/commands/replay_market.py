"""`replay FILE` of market data: a capture goes through engine and matching engine, twice, and has to decide the same.

The kernel lane under the settings that the flags give; the second pass must give the same intents byte for byte.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

import msgspec

from bot.assembly import engine_parameters
from bot.commands.rehearse import WITHOUT_EFFECT, candidates_fees
from bot.domain.events import BookDelta, BookSnapshot, Event
from bot.domain.intent import Intent
from bot.engine.engine import Engine
from bot.report import Section, Span, report
from bot.resolution import Resolved
from bot.settings_file import ConfigError
from bot.tally import Tally

if TYPE_CHECKING:
    from bot.simulation import Scenario

GZIP_MAGIC: Final = b"\x1f\x8b"
_NO_EFFECT: Final = (*WITHOUT_EFFECT, "state_dir", "report")


class Pass(NamedTuple):
    """One time through. `sha256`: of every intent as the journal would write it, a line each."""

    updates: int
    intents: int
    sha256: str
    report: dict[str, Section]


class Played(NamedTuple):
    """`same`: the second pass decided as the first."""

    span_s: int
    first: Pass
    same: bool


def is_market_data(path: Path) -> bool:
    """A capture is gzip, or a folder of captures and no journal. False for what cannot be read."""
    try:
        if path.is_dir():
            return not (path / "journal.db").exists() and any(path.glob("*.gz"))
        with path.open("rb") as file:
            return file.read(len(GZIP_MAGIC)) == GZIP_MAGIC
    except OSError:
        return False


def replay_market(path: Path, resolved: Resolved, flags: Mapping[str, object]) -> Played:
    """Raises ConfigError, one line, for a capture that cannot be played and for flags that mean nothing here."""
    for name in _NO_EFFECT:
        if name in flags:
            raise ConfigError(f"--{name.replace('_', '-')}: has no effect in a replay, so it is not allowed there")
    symbols = resolved.config.execution.symbols
    if symbols != ("BTCUSDT",):
        raise ConfigError(f"--symbols: {','.join(symbols)!r} is not allowed in a replay of captures; allowed: BTCUSDT")
    from bot.simulation import Scenario
    from bot.simulator.listings import RECORDED
    from bot.simulator.recorded import RecordedMarket, RecordUnreadable, load_record

    try:
        record = load_record(path)
    except RecordUnreadable as error:
        raise ConfigError(str(error)) from error
    span_s = record.span_ms // 1000
    if not span_s:
        raise ConfigError(f"{path}: spans {record.span_ms} ms; at least one second is needed")
    parameters = engine_parameters(resolved.config, "live")
    scenario = Scenario(
        resolved.config.execution.seed,
        span_s,
        parameters,
        fees=candidates_fees(parameters.of(symbols[0])),
        market=lambda _seed: RecordedMarket(record),
        instrument=RECORDED,
    )
    first, second = _once(scenario, resolved), _once(scenario, resolved)
    return Played(span_s, first, first.sha256 == second.sha256)


def _once(scenario: Scenario, resolved: Resolved) -> Pass:
    from bot.simulation import START_NS, run_kernel

    seen: list[Engine] = []
    tally = Tally(scenario.parameters.symbols, lambda: seen[0].counts if seen else {})
    updates = intents_count = 0
    digest = hashlib.sha256()

    def watch(event: Event, intents: list[Intent], engine: Engine) -> None:
        nonlocal updates, intents_count
        if not seen:
            seen.append(engine)
        updates += isinstance(event, BookDelta | BookSnapshot)
        intents_count += len(intents)
        for intent in intents:
            digest.update(msgspec.json.encode(intent) + b"\n")
        tally.note(event, intents)

    outcome = run_kernel(scenario, watch)
    span = Span(START_NS, outcome.ended_ns, updates, network=False, warmed=True, recovered=False)
    return Pass(updates, intents_count, digest.hexdigest(), report(outcome.engine, tally, resolved, span))


def as_json(path: Path, played: Played) -> dict[str, object]:
    """What was played, what came of it, and whether it was the same twice."""
    first = played.first
    return {
        "file": str(path),
        "intents": first.intents,
        "intents_sha256": first.sha256,
        "kind": "market data",
        "report": first.report,
        "same": played.same,
        "span_s": played.span_s,
        "updates": first.updates,
    }


def as_line(played: Played) -> str:
    """For people."""
    orders, pnl = played.first.report["orders"], played.first.report["pnl"]
    told = (
        f"{played.span_s} s, {played.first.updates} updates, {played.first.intents} intents, "
        f"{orders['placed']} orders placed, {orders['filled']} filled, net {pnl['net']} quote"
    )
    return f"the same twice, byte for byte: {told}" if played.same else f"different the second time: {told}"
