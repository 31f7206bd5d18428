"""What can go wrong at the simulated venue and on the way to it, by name, with parameters and their bounds. Pure."""

from __future__ import annotations

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

    def check(self, kind: str, given: Mapping[str, object]) -> dict[str, str]:
        """All parameters with their values. Raises FaultRefused for one that is unknown or out of its range."""
        for name in given:
            if name not in self.parameters:
                allowed = ", ".join(("account", "symbol", *self.parameters))
                raise FaultRefused(f"{name}: unknown parameter of {kind}; allowed are {allowed}")
        return {
            name: parameter.check(name, given.get(name, parameter.default))
            for name, parameter in self.parameters.items()
        }


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
    "stall": Kind(
        "sockets stay connected and are silent until unstall: public ones carry no data, private ones nothing at all, "
        "trade ones neither, though what is asked by them is done",
        needs_account=False,
        fires_at_once=True,
        parameters={"stream": Parameter("public", choices=("public", "private", "trade", "all"))},
    ),
    "unstall": Kind("sockets carry data again, public ones from a fresh snapshot on", False, True),
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
    "way": Kind(
        "what becomes of messages one way: lost, delivered twice, exchanged with the next, late; all 0 ends it",
        needs_account=False,
        fires_at_once=True,
        parameters={
            "way": Parameter("request", choices=("request", "answer", "push", "private")),
            "lost_pct": _number("0", "0", "100"),
            "doubled_pct": _number("0", "0", "100"),
            "swapped_pct": _number("0", "0", "100"),
            "delay_ms": _number("0", "0", "60000"),
            "jitter_ms": _number("0", "0", "60000"),
        },
    ),
    "clock_skew": Kind(
        "the venue's clock shows this much more than it should; 0 ends it",
        needs_account=False,
        fires_at_once=True,
        parameters={"ms": _number("4000", "-60000", "60000")},
    ),
    "venue_restart": Kind(
        "every socket is cut, requests answer 503 meanwhile, books begin at update 1, closed orders are forgotten",
        needs_account=False,
        fires_at_once=True,
        parameters={"lasts_s": _number("1", "0.05", "600")},
    ),
    "rate_limit_storm": Kind(
        "every signed request answers that it is one too many, and does not happen",
        needs_account=False,
        fires_at_once=True,
        parameters={
            "lasts_s": _number("3", "0.05", "600"),
            "answer": Parameter("429", choices=("429", "403", "10006")),
        },
    ),
    "wrong_fill_price": Kind(
        "the next fill is settled this many ticks worse for the account than it was matched",
        needs_account=True,
        fires_at_once=False,
        parameters={"ticks": _number("10", "1", "1000000")},
    ),
    "position_altered": Kind(
        "the position changes at the mark without an execution, as by somebody at another desk",
        needs_account=True,
        fires_at_once=True,
        parameters={"lots": _number("1", "-1000000", "1000000")},
    ),
    "insolvent": Kind(
        "money leaves the account until its equity is this",
        needs_account=True,
        fires_at_once=True,
        parameters={"equity_quote": _number("1", "0", "1000000000")},
    ),
}
