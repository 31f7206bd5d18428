"""What goes wrong, in one seeded plan: every fault is armed, fires (at once or when its moment comes) and is on record.

The venue, its V5 face and its two mounts ask the plan; nothing else in them knows of faults. Pure: time is an argument.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Literal, NamedTuple

from bot.simulator.fault_kinds import KINDS, FaultRefused

__all__ = ["KINDS", "Fault", "FaultPlan", "FaultRefused", "Harm", "Pushes", "Way"]

Way = Literal["request", "answer", "push", "private"]
"""A request and its answer, by HTTP or the trade socket; `push`: market data; `private`: the account's own stream."""

SILENCED: Mapping[str, set[Way]] = {"private": {"private"}, "trade": {"answer"}, "all": {"private", "answer"}}
"""Stalled sockets → the ways on which they carry nothing at all. The venue still hears, and does, what it is sent."""

NS_PER_MS = 1_000_000
EVERYTHING_PCT = 100


class Harm(NamedTuple):
    """Of one way: shares of messages lost, delivered twice, exchanged with the next; extra time, its random part."""

    lost_pct: float = 0.0
    jitter_ns: int = 0
    doubled_pct: float = 0.0
    swapped_pct: float = 0.0
    delay_ns: int = 0


@dataclass(slots=True)
class Fault:
    """One armed fault. `fired_at_ns` None: its moment has not come. `symbol` empty: wherever it comes first.

    `moved_ticks`: how far it holds that symbol's market away.
    """

    fault_id: int
    kind: str
    account: str
    parameters: Mapping[str, str]
    armed_at_ns: int
    fired_at_ns: int | None = None
    moved_ticks: int = 0
    symbol: str = ""

    def number(self, name: str) -> Decimal:
        return Decimal(self.parameters[name])


class FaultPlan:
    """Everything that was armed, in order, under one seed. It is also the `Fate` of every message on the way."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)  # noqa: S311 - faults must repeat under their seed
        self._faults: list[Fault] = []
        self.stalled = False
        self.silent: set[Way] = set()
        """Ways from the venue on which nothing comes by a socket: `private` and `answer`, that of the trade socket"""
        self.harms: dict[Way, Harm] = {}
        self.skew_ns = 0
        self._latency: Fault | None = None
        self._down_until_ns = 0
        self._storm_until_ns = 0
        self._storm_answer = 429
        self._cuts: list[str] = []
        self.restarts = 0

    def arm(self, kind: str, account: str, parameters: Mapping[str, object], now_ns: int, *, symbol: str = "") -> Fault:
        """Check and record a fault; those whose moment is now are marked fired. Raises FaultRefused."""
        known = KINDS.get(kind)
        if known is None:
            raise FaultRefused(f"kind: {kind!r} is not one of {', '.join(KINDS)}")
        values = known.check(kind, parameters)
        if kind == "way" and values["way"] == "private" and Decimal(values["lost_pct"]):
            raise FaultRefused("lost_pct: a private stream loses nothing unless it is cut; that is disconnect")
        if kind == "way" and Decimal(values["lost_pct"]) == EVERYTHING_PCT:
            for name in ("doubled_pct", "swapped_pct", "delay_ms", "jitter_ms"):
                if Decimal(values[name]):
                    raise FaultRefused(f"{name}: does nothing to messages that are all lost (lost_pct 100)")
        if known.needs_account and not account:
            raise FaultRefused(f"account: {kind} happens to one account; its name is missing")
        fault = Fault(len(self._faults) + 1, kind, account, values, now_ns, symbol=symbol)
        self._faults.append(fault)
        if known.fires_at_once:
            fault.fired_at_ns = now_ns
            self._take_effect(fault, now_ns)
        return fault

    @property
    def armed(self) -> bool:
        """Whether any fault was ever armed."""
        return bool(self._faults)

    def waiting(self, kind: str, account: str) -> Fault | None:
        """The oldest armed fault of that kind for that account, still to fire."""
        for fault in self._faults:
            if fault.fired_at_ns is None and fault.kind == kind and fault.account == account:
                return fault
        return None

    def of_kind(self, kind: str) -> list[Fault]:
        """All faults of that kind, fired or not, in the order of arming."""
        return [fault for fault in self._faults if fault.kind == kind]

    def all_waiting(self, kind: str) -> list[Fault]:
        """All armed faults of that kind that have not fired."""
        return [fault for fault in self._faults if fault.fired_at_ns is None and fault.kind == kind]

    def fire(self, kind: str, account: str, now_ns: int, *, symbol: str = "", **matching: str) -> Fault | None:
        """Fire the oldest waiting fault of that kind, symbol and parameters; None where none waits."""
        for fault in self._faults:
            if fault.fired_at_ns is None and fault.kind == kind and fault.account == account:
                if any(fault.parameters[name] != value for name, value in matching.items()):
                    continue
                if fault.symbol and symbol and fault.symbol != symbol:
                    continue
                fault.fired_at_ns = now_ns
                return fault
        return None

    def of_account(self, account: str) -> list[Fault]:
        """Faults of that account and those that happen to everybody, in the order of arming."""
        return [fault for fault in self._faults if fault.account in ("", account)]

    # ---- the way ----------------------------------------------------------------------------------------------------

    def latency_ns(self) -> int:
        """How long a REST request has to wait now, nanoseconds."""
        if self._latency is None:
            return 0
        jitter = int(self._latency.number("jitter_ms") * NS_PER_MS)
        return int(self._latency.number("ms") * NS_PER_MS) + (self._random.randrange(jitter) if jitter else 0)

    def of(self, way: Way, now_ns: int) -> int | None:
        """What becomes of one message: extra nanoseconds on the way; None: it never arrives."""
        if not self.harms:
            return 0
        harm = self.harms.get(way)
        if harm is None:
            return 0
        if harm.lost_pct and self._random.random() * 100 < harm.lost_pct:
            return None
        return harm.delay_ns + (self._random.randrange(harm.jitter_ns) if harm.jitter_ns else 0)

    def doubles(self, way: Way) -> bool:
        """Whether this message arrives twice."""
        harm = self.harms.get(way)
        return harm is not None and self._random.random() * 100 < harm.doubled_pct

    def swaps(self, way: Way) -> bool:
        """Whether this message arrives after the next one."""
        harm = self.harms.get(way)
        return harm is not None and self._random.random() * 100 < harm.swapped_pct

    def is_down(self, now_ns: int) -> bool:
        """Whether the venue restarts just now."""
        return now_ns < self._down_until_ns

    def storm(self, now_ns: int) -> int | None:
        """What a signed request is answered during a storm: 429 or 403 of HTTP, or 10006; None: there is none."""
        return self._storm_answer if now_ns < self._storm_until_ns else None

    def take_cuts(self) -> list[str]:
        """Which sockets are to be cut since the last call: public, private, trade or all. For the mount."""
        cuts, self._cuts = self._cuts, []
        return cuts

    def calm(self) -> None:
        """End what lasts: harms of the ways, latency, stalls, skew, storm, restart. What was armed stays on record."""
        self.harms.clear()
        self.stalled = False
        self.silent.clear()
        self.skew_ns = self._down_until_ns = self._storm_until_ns = 0
        self._latency = None

    def _take_effect(self, fault: Fault, now_ns: int) -> None:
        match fault.kind:
            case "stall":
                stream = fault.parameters["stream"]
                self.stalled |= stream in ("public", "all")
                self.silent |= SILENCED.get(stream, set())
            case "unstall":
                self.stalled = False
                self.silent.clear()
            case "latency_ms":
                self._latency = fault
            case "way":
                self._harm(fault)
            case "clock_skew":
                self.skew_ns = int(fault.number("ms")) * NS_PER_MS
            case "disconnect":
                self._cuts.append(fault.parameters["stream"])
            case "venue_restart":
                self._down_until_ns = now_ns + int(fault.number("lasts_s") * 1_000) * NS_PER_MS
                self._cuts.append("all")
                self.restarts += 1
            case "rate_limit_storm":
                self._storm_until_ns = now_ns + int(fault.number("lasts_s") * 1_000) * NS_PER_MS
                self._storm_answer = int(fault.parameters["answer"])

    def _harm(self, fault: Fault) -> None:
        ways: Mapping[str, Way] = {"request": "request", "answer": "answer", "push": "push", "private": "private"}
        way = ways[fault.parameters["way"]]
        lost, doubled, swapped = (float(fault.parameters[f"{name}_pct"]) for name in ("lost", "doubled", "swapped"))
        delay, jitter = (int(fault.number(f"{name}_ms") * NS_PER_MS) for name in ("delay", "jitter"))
        harm = Harm(lost, jitter, doubled, swapped, delay)
        if harm == Harm():
            self.harms.pop(way, None)
        else:
            self.harms[way] = harm


_NUMBERED: Mapping[Way, str] = {"request": '"reqId":', "answer": '"reqId":', "push": '"topic":', "private": '"topic":'}
"""What only such a message has that others follow: a greeting has no next."""


class Pushes:
    """A socket's messages one way, `request` or from the venue: some twice, some after the next, none while silent."""

    def __init__(self, faults: FaultPlan, way: Way, send: Callable[[str], None]) -> None:
        self._faults = faults
        self._way: Way = way
        self._send = send
        self._held: str | None = None

    def __call__(self, text: str) -> None:
        faults = self._faults
        if faults.silent and self._way in faults.silent:
            return
        if not faults.harms and self._held is None:
            self._send(text)
            return
        if self._held is None and _NUMBERED[self._way] in text and faults.swaps(self._way):
            self._held = text
            return
        self._send(text)
        if faults.doubles(self._way):
            self._send(text)
        if self._held is not None:
            held, self._held = self._held, None
            self._send(held)
