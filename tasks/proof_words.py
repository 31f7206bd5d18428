"""The proof of a closing's step as people read it: a sentence with its numbers, units and times (UTC). Pure.

What a step needs and its proof does not tell is MISSING, by name; what nobody here writes is shown as it stands. Never
raises: a page is shown of any row, whoever edited it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from tasks.flattenings import FLATTENINGS, is_told
from tasks.rollback import SAID_BY

NO_PROOF: Final = {"verified": "NO PROOF is recorded", "skipped": "no reason is recorded"}
"""By the states in which a step is done."""
READS: Final = 2
"""So many reads in a row prove that no own order is open."""
ENDED_BY: Final = {"asked": "ended when asked", "SIGTERM": "ended by SIGTERM", "SIGKILL": "ended by SIGKILL"}
DEEPEST: Final = 8
"""What is nested deeper nobody here wrote, and a sentence is no place to unfold it."""
_CLOCK: Final = re.compile(r"\d{4}-\d\d-\d\dT(\d\d:\d\d:\d\d(?:\.\d+)?)Z")


def step_in_words(name: str, state: str, error: str, proof: Any) -> str:
    """What the step proves; of one that is not done what hinders it, and what it has told so far. Never empty.

    `proof` may be any JSON, where somebody has edited it.
    """
    error, told = _line(error), "" if proof is None or proof in ("", [], {}) else _told(name, state, proof)
    if state in NO_PROOF:
        return "; ".join(filter(None, (error, told or NO_PROOF[state])))
    hindered = error or "not proven yet"
    return f"{hindered}; so far: {told}" if told else hindered


class _Proof:
    """What a proof tells. Each datum is taken once, and only as what it is meant to be; the rest is shown as it is."""

    def __init__(self, told: Mapping[str, Any]) -> None:
        self._left = dict(told)
        self.missing: list[str] = []

    def text(self, name: str, *, needed: bool = False) -> str:
        """In one line; empty where there is none."""
        found = _line(self._left.pop(name)) if isinstance(self._left.get(name), str) else ""
        if needed and not found:
            self.missing.append(name)
        return found

    def number(self, name: str, *, needed: bool = False) -> str:
        """As it is shown; empty where there is none."""
        found = str(self._left.pop(name)) if _is_number(self._left.get(name)) else ""
        if needed and not found:
            self.missing.append(name)
        return found

    def flag(self, name: str) -> bool | None:
        return self._left.pop(name) if isinstance(self._left.get(name), bool) else None

    def rows(self, name: str, fits: Callable[[Any], bool]) -> list[Any]:
        """Empty where it is no list, or one in it does not fit."""
        found = self._left.get(name)
        return self._left.pop(name) if isinstance(found, list) and all(fits(one) for one in found) else []

    def mapping(self, name: str) -> dict[str, Any]:
        return self._left.pop(name) if isinstance(self._left.get(name), dict) else {}

    def rest(self) -> list[str]:
        return [_named(name, value, 1) for name, value in self._left.items()]


def _told(name: str, state: str, told: Any) -> str:
    if not isinstance(told, dict):
        return _shown(told, 0)
    proof = _Proof(told)
    say = _skipped if state == "skipped" else _SAID.get(name)
    said = say(proof) if say else []
    missing = f"MISSING: {', '.join(proof.missing)}" if proof.missing and state in NO_PROOF else ""
    return "; ".join(filter(None, (missing, *said, *proof.rest())))


def _skipped(proof: _Proof) -> list[str]:
    return [proof.text("why") or NO_PROOF["skipped"]]


def _revoked(proof: _Proof) -> list[str]:
    said = _by_word(proof)
    if not said:
        said = proof.text("how", needed=True) + _after(", and is ", proof.text("state"))
    return [said.removeprefix(", "), _after("epoch ", proof.number("epoch"))]


def _by_word(proof: _Proof) -> str:
    """Where nothing but a person's word stands for it; else empty."""
    who = proof.text(SAID_BY)
    return f"by the word of {who} alone{_after(': ', proof.text('by', needed=True))}" if who else ""


def _stopped(proof: _Proof) -> list[str]:
    said = _by_word(proof)
    if not said:
        by = proof.text("by", needed=True)
        pid = _after("pid ", proof.number("pid")) + _after(" (started at tick ", proof.number("started_ticks"), ")")
        took = _after(", ", proof.number("took_ms"), " ms after the first try")
        said = " ".join(filter(None, (pid, ENDED_BY.get(by, by)))) + took + _after(" (", proof.text("detail"), ")")
    others = ", ".join(map(str, proof.rows("others_on_state_dir", _is_number)))
    epoch = _after("epoch ", proof.number("epoch"))
    return [said.strip(" ,"), _after("ended too, on the same folder: pid ", others), epoch]


def _none_open(proof: _Proof) -> list[str]:
    reads = [_Proof(one) for one in proof.rows("reads", lambda one: isinstance(one, dict))]
    if len(reads) < READS:
        proof.missing.append(f"{READS - len(reads)} of {READS} reads" if reads else "reads")
    own = ", ".join(f"{one.number('own_open') or 'UNKNOWN'} {_at(one.text('at'))}" for one in reads)
    others = [one.number("foreign_open") or "UNKNOWN" for one in reads]
    alone = ", left alone" if set(others) - {"0", "UNKNOWN"} else ""
    return [
        _after("own orders open: ", own),
        _after("orders of others: ", ", ".join(others), alone),
        *(said for one in reads for said in one.rest()),
        _after("no read counts from before ", _clock(proof.text("first_read_allowed_from"))),
        _after("cancel-all: ", ", then ".join(map(_line, proof.rows("answers", lambda one: isinstance(one, str))))),
    ]


def _flat(proof: _Proof) -> list[str]:
    confirmed = proof.mapping("confirmed")
    said = [*_positions(proof)]
    if confirmed:
        again = _Proof(confirmed)
        words = [*_positions(again), *again.rest()]
        missing = f"MISSING: {', '.join(again.missing)}" if again.missing else ""
        said.append(f"once no order was open: {', '.join(filter(None, (missing, *words)))}")
    elif "positions" not in proof.missing:  # an order that stood may have filled since
        said.append("not read again yet, once no order is open")
    if tries := proof.rows(FLATTENINGS, is_told):
        said.append(_flattened(tries))
    return said


def _flattened(tries: Sequence[Mapping[str, Any]]) -> str:
    """The newest try, how many there were before, and what of those is not known."""
    told = tries[-1]
    newest = _Proof({name: value for name, value in told.items() if name not in ("began_at", "orders")})
    held, at, orders = newest.mapping("held"), newest.text("read_at"), told.get("orders")
    sizes = ", ".join(_named(symbol, qty, 1) for symbol, qty in held.items()) or "UNKNOWN"
    said = [f"held before, in base: {sizes}, read {_at(at)}"]
    if isinstance(orders, list):
        said += [f"orders sent: {len(orders)}", _after("not known whether the venue took ", _unsure(orders))]
    else:
        said.append("MISSING: which orders were sent")
    earlier = [one.get("orders") for one in tries[:-1]]
    unsure = ", ".join(filter(None, (_unsure(one) for one in earlier if isinstance(one, list))))
    untold = sum(not isinstance(one, list) for one in earlier)
    before = [
        _after("earlier tries: ", str(len(earlier)) if earlier else ""),
        _after("not known whether the venue took of theirs ", unsure),
        _after("MISSING: which orders were sent in ", str(untold) if untold else "", " of them"),
    ]
    return ", ".join(filter(None, (*said, *newest.rest(), *before)))


def _unsure(orders: Sequence[Any]) -> str:
    """Those of which the venue has not said that it took them."""
    unsure = [one for one in orders if not (isinstance(one, dict) and one.get("taken") is True)]
    return ", ".join(_shown(one.get("id") if isinstance(one, dict) else one, 1) for one in unsure)


def _positions(proof: _Proof) -> list[str]:
    positions, at = proof.mapping("positions"), proof.text("read_at")
    if not positions:
        proof.missing.append("positions")
    held = ", ".join(_named(symbol, qty, 1) for symbol, qty in positions.items())
    traded = {True: ", traded", False: ", nothing traded", None: ""}[proof.flag("traded")]
    return [
        _after("position in base: ", held, f", read {_at(at)}") or _after("read ", at),
        (proof.text("flatten", needed=True) + traded).removeprefix(", "),
    ]


def _bundled(proof: _Proof) -> list[str]:
    files, digest = proof.number("files", needed=True), proof.text("digest", needed=True)
    where = _after("in ", proof.text("folder", needed=True))
    said = (" ".join(filter(None, (_after("", files, " files"), where))), _after("digest ", digest))
    return [", ".join(filter(None, said))]


def _queued(proof: _Proof) -> list[str]:
    return [_after("queued: ", proof.text("queued", needed=True))]


_SAID: Final[Mapping[str, Callable[[_Proof], list[str]]]] = {
    "revoke_grant": _revoked,
    "stop_bot": _stopped,
    "cancel_all": _none_open,
    "flatten": _flat,
    "bundle": _bundled,
    "tell": _queued,
}


def _after(before: str, found: str, behind: str = "") -> str:
    """Empty where nothing is found."""
    return f"{before}{found}{behind}" if found else ""


def _at(time: str) -> str:
    return f"at {_clock(time)}" if time else "at an unknown time"


def _clock(time: str) -> str:
    """Of the record's own times what the clock showed; anything else whole."""
    found = _CLOCK.fullmatch(time)
    return found[1] if found else time


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _named(name: object, value: Any, depth: int) -> str:
    return f"{_line(str(name)).replace('_', ' ')} {_shown(value, depth)}".lstrip()


def _shown(value: Any, depth: int) -> str:
    """Any JSON in one line. Never empty."""
    if value is None or value in ([], {}):
        return "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if not isinstance(value, dict | list):
        return _line(str(value)) or "empty"
    if depth > DEEPEST:
        return "(nested deeper than is shown)"
    if isinstance(value, list):
        said = ", ".join(_shown(one, depth + 1) for one in value)
        return f"({said})" if depth > 1 else said
    said = "; ".join(_named(name, one, depth + 1) for name, one in value.items())
    return f"({said})" if depth else said


def _line(text: str) -> str:
    """One line that a terminal shows and does not obey."""
    return "".join(one if one.isprintable() else "\N{REPLACEMENT CHARACTER}" for one in " ".join(text.split()))
