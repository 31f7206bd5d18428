"""What goes wrong, in one seeded plan: every fault is armed, fires (at once or when its moment comes) and is on record.

The venue, its V5 face and its mount ask the plan; nothing else in them knows of faults. Pure: time is an argument.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal, InvalidOperation


class FaultRefused(Exception):
    """A fault that cannot be armed; one line with the name, the value and what is allowed."""


@dataclass(frozen=True, slots=True)
class Parameter:
    """A decimal parameter with its bounds, or one of `choices`."""

    default: str
    low: Decimal = Decimal(0)
    high: Decimal = Decimal(0)
    choices: tuple[str, ...] = ()

    def check(self, name: str, value: object) -> str:
        text = str(value)
        if self.choices:
            if text not in self.choices:
                raise FaultRefused(f"{name}: {text!r} is not one of {', '.join(self.choices)}")
            return text
        try:
            number = Decimal(text)
        except InvalidOperation:
            number = Decimal("NaN")
        if isinstance(value, bool) or not number.is_finite() or not self.low <= number <= self.high:
            raise FaultRefused(f"{name}: {text!r} is outside {self.low} to {self.high}")
        return text


@dataclass(frozen=True, slots=True)
class Kind:
    """`needs_account`: the fault happens to one account. `fires_at_once`: arming it is its moment."""

    meaning: str
    needs_account: bool
    fires_at_once: bool
    parameters: Mapping[str, Parameter] = field(default_factory=dict)


def _number(default: str, low: str, high: str) -> Parameter:
    return Parameter(default, Decimal(low), Decimal(high))


KINDS: Mapping[str, Kind] = {
    "crossing": Kind(
        "the next post-only create or amend meets a market that jumped through it, and post-only is not enforced",
        needs_account=True,
        fires_at_once=False,
        parameters={"through_ticks": _number("3", "1", "1000")},
    ),
    "loss": Kind(
        "once the account has a position, one price jump against it",
        needs_account=True,
        fires_at_once=False,
        parameters={"jump_pct": _number("30", "0.01", "90"), "position_quote_min": _number("0", "0", "1000000000")},
    ),
    "loss_over": Kind("the market returns to where it would stand without the jumps of all losses", False, True),
    "stall": Kind("public sockets stay connected and carry no data until unstall", False, True),
    "unstall": Kind("public sockets carry data again, from a fresh snapshot on", False, True),
    "latency_ms": Kind(
        "every REST request waits this long before it reaches the venue; 0 ends it",
        needs_account=False,
        fires_at_once=True,
        parameters={"ms": _number("200", "0", "60000"), "jitter_ms": _number("0", "0", "60000")},
    ),
    "disconnect": Kind(
        "open sockets of one kind are cut",
        needs_account=False,
        fires_at_once=True,
        parameters={"stream": Parameter("all", choices=("public", "private", "trade", "all"))},
    ),
    "refuse_create": Kind(
        "the next create answers this code and does not happen",
        needs_account=True,
        fires_at_once=False,
        parameters={"code": _number("10001", "1", "999999")},
    ),
    "refuse": Kind(
        "the next request of that kind, alone or in a batch, answers this code and does not happen",
        needs_account=True,
        fires_at_once=False,
        parameters={
            "request": Parameter("create", choices=("create", "amend", "cancel", "cancel-all")),
            "code": _number("10016", "1", "999999"),
        },
    ),
    "http_error": Kind(
        "the next signed REST request answers this HTTP status, with no JSON, and does not happen",
        needs_account=True,
        fires_at_once=False,
        parameters={"status": Parameter("500", choices=("403", "429", "500", "502", "503", "504"))},
    ),
    "accept_then_timeout": Kind("the next create happens, but its answer never comes", True, False),
    "foreign_order": Kind(
        "an order without any of the client's ids appears, far from the market",
        needs_account=True,
        fires_at_once=True,
        parameters={
            "side": Parameter("buy", choices=("buy", "sell")),
            "distance_pct": _number("5", "1", "50"),
            "qty_lots": _number("1", "1", "1000000"),
        },
    ),
}


@dataclass(slots=True)
class Fault:
    """One armed fault. `fired_at_ns` None: its moment has not come. `moved_ticks`: how far it holds the market away."""

    fault_id: int
    kind: str
    account: str
    parameters: Mapping[str, str]
    armed_at_ns: int
    fired_at_ns: int | None = None
    moved_ticks: int = 0

    def number(self, name: str) -> Decimal:
        return Decimal(self.parameters[name])


class FaultPlan:
    """Everything that was armed, in order, under one seed."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)  # noqa: S311 - faults must repeat under their seed
        self._faults: list[Fault] = []
        self.stalled = False
        self._latency: Fault | None = None

    def arm(self, kind: str, account: str, parameters: Mapping[str, object], now_ns: int) -> Fault:
        """Check and record a fault; those whose moment is now are marked fired. Raises FaultRefused."""
        known = KINDS.get(kind)
        if known is None:
            raise FaultRefused(f"kind: {kind!r} is not one of {', '.join(KINDS)}")
        for name in parameters:
            if name not in known.parameters:
                allowed = ", ".join(("account", *known.parameters))
                raise FaultRefused(f"{name}: unknown parameter of {kind}; allowed are {allowed}")
        if known.needs_account and not account:
            raise FaultRefused(f"account: {kind} happens to one account; its name is missing")
        values = {n: p.check(n, parameters.get(n, p.default)) for n, p in known.parameters.items()}
        fault = Fault(len(self._faults) + 1, kind, account, values, now_ns)
        self._faults.append(fault)
        if known.fires_at_once:
            fault.fired_at_ns = now_ns
            self._take_effect(fault)
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

    def fire(self, kind: str, account: str, now_ns: int, **matching: str) -> Fault | None:
        """Fire the oldest waiting fault of that kind, and of those parameters; None where none waits."""
        for fault in self._faults:
            if fault.fired_at_ns is None and fault.kind == kind and fault.account == account:
                if any(fault.parameters[name] != value for name, value in matching.items()):
                    continue
                fault.fired_at_ns = now_ns
                return fault
        return None

    def latency_ns(self) -> int:
        """How long a REST request has to wait now, nanoseconds."""
        if self._latency is None:
            return 0
        jitter = int(self._latency.number("jitter_ms") * 1_000_000)
        return int(self._latency.number("ms") * 1_000_000) + (self._random.randrange(jitter) if jitter else 0)

    def of_account(self, account: str) -> list[Fault]:
        """Faults of that account and those that happen to everybody, in the order of arming."""
        return [fault for fault in self._faults if fault.account in ("", account)]

    def _take_effect(self, fault: Fault) -> None:
        if fault.kind in ("stall", "unstall"):
            self.stalled = fault.kind == "stall"
        elif fault.kind == "latency_ms":
            self._latency = fault
