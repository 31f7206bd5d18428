"""What a running bot still holds of orders that ended long ago: every object that can be reached from it is looked at.

The venue, the market and the clock of a simulation are not the bot's memory and are not entered. What names ended
orders on purpose: two tables with bounds of their own, of the keys by which repeats of mutations and of executions are
known; and a fill until its last markout is taken (60 s) and the next export written (60 s).
"""

from __future__ import annotations

import gc
import re
from collections.abc import Iterator
from types import FunctionType, ModuleType
from typing import Any

from bot.domain.events import Filled
from bot.domain.order import OWN_PREFIX
from bot.engine.parameters import NS_PER_S
from bot.engine.state import State
from bot.runtime.loop import Loop

GRACE_NS = 2 * NS_PER_S
"""Memory is cleared by a turn of the clock, not at the very nanosecond."""

FILL_KEPT_NS = 120 * NS_PER_S + GRACE_NS

_OWN = re.compile(rf"{OWN_PREFIX}[a-z]-\d+-\d+")
_NOT_THE_BOT = ("bot.simulator", "bot.simulation", "tests.", "__main__", "asyncio", "_asyncio")


def running_loop() -> Loop:
    """The one bot in this process. Raises LookupError where there is none or more."""
    gc.collect()  # bots of earlier runs may still wait for it
    found = [one for one in gc.get_objects() if type(one) is Loop]
    if len(found) != 1:
        raise LookupError(f"{len(found)} bots in this process, expected one")
    return found[0]


def names_kept(loop: Loop, state: State) -> list[str]:
    """Client order ids of orders that ended longer ago than they may be kept, and that something still holds."""
    kept_ns = state.parameters.finished_kept_s * NS_PER_S + GRACE_NS
    named = set()
    for text in _strings(loop, state.now_ns):
        if text.startswith(OWN_PREFIX) and (match := _OWN.match(text)):
            named.add(match.group())
    return sorted(name for name in named if not _may_be_held(name, state, kept_ns))


def keys_kept(loop: Loop) -> int:
    """How many keys the two bounded tables hold."""
    return sum(len(table) for table in _bounded(loop))


def _may_be_held(name: str, state: State, kept_ns: int) -> bool:
    order = state.orders.get(name)
    return order is not None and (order.live or state.now_ns - order.finished_at_ns <= kept_ns)


def _bounded(loop: Loop) -> list[dict[str, None]]:
    return [vars(loop.sender)["_keys"], vars(loop.sender)["_executions"]]


def _strings(root: object, now_ns: int) -> Iterator[str]:
    seen = {id(table) for table in _bounded(root)} if isinstance(root, Loop) else set()
    waiting: list[Any] = [root]
    while waiting:
        one = waiting.pop()
        if id(one) in seen:
            continue
        seen.add(id(one))
        if isinstance(one, str):
            yield one
        elif isinstance(one, FunctionType):
            waiting.extend(one.__closure__ or ())
        elif isinstance(one, Filled) and now_ns - one.at_ns <= FILL_KEPT_NS:
            continue
        elif not isinstance(one, type | ModuleType) and not type(one).__module__.startswith(_NOT_THE_BOT):
            waiting.extend(gc.get_referents(one))
