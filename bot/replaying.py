"""A journal again: what was recorded goes through the engine once more, or back into one that starts after it.

`restore` brings a fresh engine to where the durable part of a journal ends. `replay` proves that the journal tells the
whole truth: every recorded event, market data of the segments included, through a fresh engine, must give the recorded
intents byte for byte; the first one that differs is named. Where a process began on a journal, the replay begins anew
from the entries before it, as that process did. What a process of another version did not write down, because the rule
for it came later, is told apart from that (`_LATER`); any other change of a rule is a difference that names both.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import closing
from heapq import merge
from pathlib import Path
from typing import Final, NamedTuple, cast

import msgspec

from bot.domain.events import Event, Filled, Started
from bot.domain.intent import Intent, Note, PublishKillSwitch
from bot.engine.budgets import BREACH
from bot.engine.engine import Engine
from bot.engine.parameters import EngineParameters
from bot.journal import Entry, JournalError, JournalReader
from bot.version import code_version

SHOWN_CHARS: Final = 300

_EVENTS: Final = msgspec.json.Decoder(Event)
_INTENTS: Final = msgspec.json.Decoder(Intent)
_LINE: Final = msgspec.json.Decoder(tuple[int, msgspec.Raw])


class Replay(NamedTuple):
    """How far it went. `difference`: the first thing that was not the same, or what is missing; empty: all the same.

    `later`: rules that came after the version that wrote it, by which more is decided today.
    """

    events: int
    intents: int
    processes: int
    difference: str
    later: tuple[str, ...] = ()


class Restored(NamedTuple):
    """What a restored engine was made of. `last_fills`: the newest executions, for whoever sweeps for later ones."""

    entries: int
    last_fills: tuple[Filled, ...]


class _Item(NamedTuple):
    """One entry of journal or segments, in the order in which the engine met it."""

    seq: int
    direction: str
    body: bytes


def restore(engine: Engine, path: Path, *, fills_kept: int = 10_000) -> Restored:
    """Brings a fresh engine to where the journal ends. Raises JournalError where an entry does not decode."""
    fills: dict[str, Filled] = {}

    def told(entries: Iterable[Entry]) -> Iterator[Event | Intent]:
        for entry in entries:
            item = _decode(path, entry.seq, entry.direction, entry.body.encode())
            if isinstance(item, Filled):
                fills.pop(item.execution_id, None)
                fills[item.execution_id] = item
                if len(fills) > fills_kept:
                    del fills[next(iter(fills))]
            yield item

    with JournalReader(path) as reader:
        number = engine.restore(told(reader.entries()))
    return Restored(number, tuple(fills.values()))


class _Decided(NamedTuple):
    """What the engine decides today."""

    intent: Intent
    body: bytes


def _notes_a_breach(intent: Intent, _: Event) -> bool:
    return isinstance(intent, Note) and intent.event == BREACH


def _publishes_again(intent: Intent, told: Event) -> bool:
    return isinstance(intent, PublishKillSwitch) and isinstance(told, Started)


_LATER: Final[tuple[tuple[str, Callable[[Intent, Event], bool]], ...]] = (
    ("a breach of the cancel budget is noted", _notes_a_breach),
    ("a halt that holds at a start publishes the kill switch again", _publishes_again),
)
"""Rules by which something more leaves the engine, and nothing else is decided otherwise."""


def replay(path: Path) -> Replay:
    """The journal at `path` with the segments beside it. Raises JournalError where it cannot be read at all."""
    with closing(_items(path)) as items:
        return _replay(path, items)


def _replay(path: Path, items: Iterable[_Item]) -> Replay:
    engine: Engine | None = None
    events = intents = processes = 0
    due: list[_Decided] = []
    due_to = ""
    told: Event | None = None
    version = ""
    later: dict[str, None] = {}

    def end(difference: str) -> Replay:
        return Replay(events, intents, processes, difference, tuple(later))

    durable: list[_Item] = []
    expected_seq = 1
    missing = ""
    for item in items:
        if item.seq != expected_seq and not missing:
            missing = f"entry {expected_seq} is missing (next is {item.seq}): market data was not kept, or is cut"
        expected_seq = item.seq + 1
        event = None if item.direction == "out" else _decode(path, item.seq, "in", item.body)
        if isinstance(event, Started):
            # what a killed process had not committed was not sent either; its last market data may have outlived it
            missing, processes = "", processes + 1
            due = due if due_to == "in" else []
            _skip_later(due, b"", told, version, later)
            version = event.version
            engine = _begin(path, event, durable)
        if missing:
            if item.direction == "market":
                continue
            return end(f"{path}: {missing}")
        _skip_later(due, item.body if event is None else b"", told, version, later)
        if event is None:
            intents += 1
            durable.append(item)
            if not due or due[0].body != item.body:
                return end(_differs(path, item, due[0].body.decode() if due else "nothing", version))
            due.pop(0)
            continue
        if due:
            return end(_differs(path, item, due[0].body.decode(), version))
        if engine is None:
            return end(f"{path}: entry {item.seq} comes before any start")
        events += 1
        due_to = item.direction
        if due_to == "in":
            durable.append(item)
        told = cast(Event, event)
        due = [_Decided(intent, msgspec.json.encode(intent)) for intent in engine.receive(told)]
    _skip_later(due, b"", told, version, later)
    if due and due_to == "in":
        return end(f"{path}: ends before {due[0].body.decode()[:SHOWN_CHARS]}{_versions(version)}")
    return end("")


def _skip_later(due: list[_Decided], recorded: bytes, told: Event | None, version: str, later: dict[str, None]) -> None:
    """Take out what is decided before what was recorded, by rules that a process of another version did not have."""
    if told is None or version == code_version():
        return
    while due and due[0].body != recorded:
        rule = next((name for name, is_of in _LATER if is_of(due[0].intent, told)), None)
        if rule is None:
            return
        later[rule] = None
        due.pop(0)


def _begin(path: Path, started: Started, before: list[_Item]) -> Engine:
    """The engine of one process, on what earlier ones had left. Raises JournalError without its parameters."""
    if not started.parameters:
        raise JournalError(f"{path}: written without the engine's parameters; it cannot be replayed")
    try:
        parameters = msgspec.json.decode(started.parameters, type=EngineParameters)
    except (msgspec.MsgspecError, ValueError) as error:
        raise JournalError(f"{path}: parameters of another version ({error})") from error
    engine = Engine(parameters)
    if before:
        engine.restore(_decode(path, item.seq, item.direction, item.body) for item in before)
    return engine


def _items(path: Path) -> Generator[_Item, None, None]:
    """Journal and segments merged by their common numbering."""
    with JournalReader(path) as reader:
        kept = (_Item(entry.seq, entry.direction, entry.body.encode()) for entry in reader.entries())
        try:
            yield from merge(kept, _market_data(path.parent), key=lambda item: item.seq)
        finally:
            kept.close()  # before its database is


def _market_data(folder: Path) -> Iterator[_Item]:
    """Lines of the segments in order; a last line that was cut off ends its segment."""
    for segment in sorted(folder.glob("market-*.jsonl")):
        with segment.open("rb") as file:
            for line in file:
                if not line.endswith(b"\n"):
                    break
                try:
                    seq, body = _LINE.decode(line)
                except msgspec.MsgspecError as error:
                    raise JournalError(f"{segment}: a line that is no market data ({error})") from error
                yield _Item(seq, "market", bytes(body))


def _decode(path: Path, seq: int, direction: str, body: bytes) -> Event | Intent:
    try:
        found: Event | Intent = _INTENTS.decode(body) if direction == "out" else _EVENTS.decode(body)
    except msgspec.MsgspecError as error:
        raise JournalError(f"{path}: entry {seq} cannot be read ({error})") from error
    return found


def _differs(path: Path, item: _Item, again: str, version: str) -> str:
    recorded = "an event, no intent" if item.direction != "out" else item.body.decode()[:SHOWN_CHARS]
    return f"{path}: entry {item.seq} differs: recorded {recorded}; replayed {again[:SHOWN_CHARS]}{_versions(version)}"


def _versions(version: str) -> str:
    """Said of a difference where other code wrote the journal than reads it: then a rule may have changed since."""
    now = code_version()
    return "" if version == now else f"; written by version {version}, this is {now}: a rule may have changed since"
