"""What a running bot still holds of orders that ended long ago: every object that can be reached from it is looked at.

The venue, the market and the clock of a simulation are not the bot's memory and are not entered. What names ended
orders on purpose: two tables with bounds of their own, of the keys by which repeats of mutations and of executions are
known; in simulated time a few hundred entries that wait for the journal's next transaction, and lines for the log's
next write; and a fill until its last markout is taken (60 s) and the next export written (60 s).

What names none is counted (`objects_kept`), but for tables that fill up to bounds of their own: those two, the windows
of 24 hours, the texts of prices and sizes, and what waits for journal and log.
"""

from __future__ import annotations

import gc
import json
import os
import re
import traceback
from collections.abc import Iterator, Sized
from types import FunctionType, ModuleType
from typing import Any, NamedTuple, NoReturn

from bot.domain.events import Filled
from bot.domain.order import OWN_PREFIX
from bot.engine.parameters import NS_PER_S
from bot.engine.state import State
from bot.runtime.loop import Loop
from bot.venues.bybit.adapter import _Terms
from bot.venues.bybit.decode import Grid

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


class Found(NamedTuple):
    """What a look found: see `names_kept`, `objects_kept`, `keys_kept`."""

    names: list[str]
    objects: int
    keys: int


def looked_at(state: State) -> Found:
    """Looks at the one bot in this process in a copy of the process: a look itself takes up to two megabytes, and the
    allocator keeps them. Raises ChildProcessError where it fails; stderr says why.
    """
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        _look_and_end(state, writer)
    os.close(writer)
    with open(reader, "rb") as answer:
        told = answer.read()
    os.waitpid(child, 0)
    if not told:
        raise ChildProcessError("the look at what is retained came to nothing")
    return Found(**json.loads(told))


def _look_and_end(state: State, writer: int) -> NoReturn:
    """In the copy. It ends at once, whatever happens: files and connections are the first process's to close."""
    try:
        loop = running_loop()
        found = Found(names_kept(loop, state), objects_kept(loop, state), keys_kept(loop))
        with open(writer, "wb") as answer:
            answer.write(json.dumps(found._asdict()).encode())
    except BaseException:  # noqa: BLE001 - nothing may go on in the copy
        traceback.print_exc()
    finally:
        os._exit(0)


def names_kept(loop: Loop, state: State) -> list[str]:
    """Client order ids of orders that ended longer ago than they may be kept, and that something still holds."""
    kept_ns = state.parameters.finished_kept_s * NS_PER_S + GRACE_NS
    named = set()
    for one in _reached(loop, state.now_ns, _keys(loop) + _unwritten(loop)):
        if isinstance(one, str) and one.startswith(OWN_PREFIX) and (match := _OWN.match(one)):
            named.add(match.group())
    return sorted(name for name in named if not _may_be_held(name, state, kept_ns))


def keys_kept(loop: Loop) -> int:
    """How many keys the two bounded tables hold."""
    return sum(len(table) for table in _keys(loop))


def objects_kept(loop: Loop, state: State) -> int:
    """How many objects can be reached from the bot, without those of tables that fill up to bounds of their own."""
    return sum(1 for _ in _reached(loop, state.now_ns, _keys(loop) + _windows(loop, state)))


def _may_be_held(name: str, state: State, kept_ns: int) -> bool:
    order = state.orders.get(name)
    return order is not None and (order.live or state.now_ns - order.finished_at_ns <= kept_ns)


def _keys(loop: Loop) -> list[Sized]:
    return [loop.sender._keys, loop.sender._executions]


def _unwritten(loop: Loop) -> list[Sized]:
    return [loop._journal._rows, loop._log._gathered]


def _windows(loop: Loop, state: State) -> list[Sized]:
    """The day's execution ids and equity samples; what is not written yet."""
    curves = [curve._samples for curve in (state.equity_told, state.venue_equity)]
    return [state.ledger._seen, *curves, *_unwritten(loop)]


def _reached(loop: Loop, now_ns: int, past: list[Sized]) -> Iterator[object]:
    """Every object that can be reached from the bot, once; `past` is not entered, nor are texts of prices and sizes."""
    seen = {id(table) for table in past}
    waiting: list[Any] = [loop]
    while waiting:
        one = waiting.pop()
        if id(one) in seen:
            continue
        seen.add(id(one))
        yield one
        if isinstance(one, FunctionType):
            waiting.extend(one.__closure__ or ())
        elif isinstance(one, Filled) and now_ns - one.at_ns <= FILL_KEPT_NS:
            continue
        elif not isinstance(one, type | ModuleType | Grid | _Terms) and not _home(one).startswith(_NOT_THE_BOT):
            waiting.extend(gc.get_referents(one))


def _home(one: object) -> str:
    """The module of its class; of some that are made by mypyc it is not a text."""
    module = type(one).__module__
    return module if isinstance(module, str) else ""
