"""Faults that come by themselves: one YAML file, one seed, the same for both mounts.

    name: mild
    seed: 7
    faults:
      - {kind: way, way: request, jitter_ms: 20, lost_pct: 0.2}
      - {kind: disconnect, stream: public, at_s: 15, every_s: 25, spread_s: 4}

`at_s`: when it comes first, seconds after the start (0); `every_s`: how often from then on (0: once); `spread_s`: how
much earlier or later each time, drawn under the seed (0). Everything else is the fault's own, as fault_kinds has it.
It is for the simulated venue alone; whoever starts anything else with it refuses it by name.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from heapq import heapify, heappop, heappush
from pathlib import Path
from typing import NamedTuple

import yaml

from bot.simulator.fault_kinds import KINDS, FaultRefused

NS_PER_S = 1_000_000_000
TIME_MAX_S = 30 * 86_400.0
_TIMES = ("at_s", "every_s", "spread_s")


class Due(NamedTuple):
    """One fault and when it comes, nanoseconds after the start."""

    at_ns: int
    kind: str
    parameters: Mapping[str, object]

    def accounts(self, known: Sequence[str]) -> Sequence[str]:
        """To whom it happens: every account where it is one account's, else to nobody in particular."""
        return known if KINDS[self.kind].needs_account else ("",)


class Planned(NamedTuple):
    """One entry of the file."""

    kind: str
    parameters: Mapping[str, object]
    at_s: float
    every_s: float
    spread_s: float


class FaultFile(NamedTuple):
    """A whole plan."""

    name: str
    seed: int
    faults: tuple[Planned, ...]

    def due(self) -> Iterator[Due]:
        """Every fault in the order of its time; without an end where one comes again and again."""
        draw = random.Random(self.seed)  # noqa: S311 - faults must repeat under their seed
        heap = [(fault.at_s, number) for number, fault in enumerate(self.faults)]
        heapify(heap)
        while heap:
            at_s, number = heappop(heap)
            fault = self.faults[number]
            yield Due(int(at_s * NS_PER_S), fault.kind, fault.parameters)
            if fault.every_s:
                again_s = at_s + fault.every_s + fault.spread_s * (2 * draw.random() - 1)
                heappush(heap, (again_s, number))

    def until(self, span_s: float) -> list[Due]:
        """Those of the first `span_s` seconds."""
        found: list[Due] = []
        for due in self.due():
            if due.at_ns >= span_s * NS_PER_S:
                break
            found.append(due)
        return found


def load_fault_file(path: Path) -> FaultFile:
    """Read and check a plan. Raises FaultRefused: one line with the file, the key, the value and what is allowed."""
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise FaultRefused(f"{path}: cannot be read: {error}") from None
    except yaml.YAMLError as error:
        raise FaultRefused(f"{path}: no YAML: {' '.join(str(error).split())}") from None
    try:
        return fault_file(content)
    except FaultRefused as error:
        raise FaultRefused(f"{path}: {error}") from None


def fault_file(content: object) -> FaultFile:
    """The plan in a document. Raises FaultRefused."""
    if not isinstance(content, dict):
        raise FaultRefused("not a mapping with name, seed and faults")
    for key in content:
        if key not in ("name", "seed", "faults"):
            raise FaultRefused(f"{key}: unknown key; allowed are name, seed, faults")
    name, seed, faults = content.get("name"), content.get("seed", 0), content.get("faults")
    if not isinstance(name, str) or not name:
        raise FaultRefused(f"name: {name!r} is no name")
    if type(seed) is not int or not 0 <= seed < 2**63:
        raise FaultRefused(f"seed: {seed!r} is outside 0 to {2**63 - 1}")
    if not isinstance(faults, list) or not faults:
        raise FaultRefused(f"faults: {faults!r} is no list of faults")
    return FaultFile(name, seed, tuple(_planned(number, entry) for number, entry in enumerate(faults)))


def _planned(number: int, entry: object) -> Planned:
    where = f"faults[{number}]"
    if not isinstance(entry, dict) or not all(isinstance(key, str) for key in entry):
        raise FaultRefused(f"{where}: {entry!r} is no fault")
    given = dict(entry)
    kind = given.pop("kind", None)
    if kind not in KINDS:
        raise FaultRefused(f"{where}.kind: {kind!r} is not one of {', '.join(KINDS)}")
    at_s, every_s, spread_s = (_seconds(f"{where}.{key}", given.pop(key, 0)) for key in _TIMES)
    if spread_s >= every_s > 0 or (spread_s and not every_s):
        raise FaultRefused(f"{where}.spread_s: {spread_s} is not below every_s {every_s}")
    symbol = given.pop("symbol", "")
    try:
        KINDS[kind].check(kind, given)
    except FaultRefused as error:
        raise FaultRefused(f"{where}.{error}") from None
    return Planned(kind, {**given, "symbol": symbol} if symbol else given, at_s, every_s, spread_s)


def _seconds(where: str, value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= TIME_MAX_S:
        raise FaultRefused(f"{where}: {value!r} is outside 0 to {TIME_MAX_S:.0f} seconds")
    return float(value)
