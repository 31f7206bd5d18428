"""Writes `docs/architecture.md`: its diagrams are drawn from tables in the code, and from its floor plan.

    python -m tests.report.architecture [--check]

`--check` writes nothing and exits 1 where the page is not what the code says today.
"""

from __future__ import annotations

import argparse
import sys
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from enum import Enum
from itertools import pairwise
from pathlib import Path
from typing import TypeVar

from bot.domain.order import TERMINAL, TRANSITIONS, OrderState
from bot.engine.stop import REARM_PEOPLE_MIN, STOPS, View
from gates.course import COURSE, FINAL, Happening, Step
from tasks.rollback import STEPS

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "architecture.md"
A_LINE = 2
"""So many words of a label stand on one line."""

State = TypeVar("State", bound=Enum)
Told = TypeVar("Told", bound=Enum)

HEAD = """# Architecture

Written from the tables in the code, do not edit: `.venv/bin/python -m tests.report.architecture` writes it anew, and a
test holds it equal. [Concepts](concepts.md) says in words who does what.

## Floors

Imports run only downwards; import-linter holds it (`make lint`).

"""
COURSE_TEXT = """
## The course of a stage run

From `gates/course.py`. The guard alone moves it, one step at a time, and writes each step before it counts. From every
step that is not final a stop leads to `rolling_back`; what a table has no row for is refused and changes nothing.

"""
ROLLBACK_TEXT = """
## Closing a stage

From `tasks/rollback.py`. Each step is retried until it is proven; one that fails does not hold up the next.

"""
ORDER_TEXT = """
## The life of an order

From `bot/domain/order.py`. *In flight* is a state, and so is *unknown*: such an order counts at its worst case until a
probe or the stream has spoken. Reality's rows are in it: a fill after a cancel, an order that was believed gone.

"""
STOP_TEXT = f"""
## Stops

From `bot/engine/stop.py`. Several stops may hold at once; the worst view shows, and quoting needs that none holds. What
is left `auto` is released when its cause has been gone for `stop.hysteresis_s` seconds, `people` by one person and
another's confirmation, `re-arm` by {REARM_PEOPLE_MIN} different people and by nothing else.

"""


def page() -> str:
    """The whole page, Markdown."""
    return "".join(
        (
            HEAD,
            *_block(_floors()),
            COURSE_TEXT,
            *_block(_machine(COURSE, Step.REQUESTED, FINAL, frozenset({Happening.STOPPED}))),
            f"\n`{Happening.STOPPED.value}` leads to `{Step.ROLLING_BACK.value}` from: {_stopped_from()}.\n",
            ROLLBACK_TEXT,
            *_block(_chain(STEPS)),
            ORDER_TEXT,
            *_block(_machine(TRANSITIONS, OrderState.PENDING_NEW, TERMINAL)),
            "\nWhat is told and changes nothing:\n\n| state | told |\n|---|---|\n",
            *(f"| `{state.value}` | {', '.join(f'`{one}`' for one in told)} |\n" for state, told in _stays()),
            STOP_TEXT,
            *_block(_views()),
            "\n| stop | shows as | class | left by |\n|---|---|---|---|\n",
            *(f"| `{one.reason}` | {one.view.value} | {one.stop_class} | {one.resume} |\n" for one in STOPS.values()),
        )
    )


def _block(lines: Iterable[str]) -> Iterator[str]:
    yield "```mermaid\n"
    yield from (f"{line}\n" for line in lines)
    yield "```\n"


def _machine(
    table: Mapping[tuple[State, Told], State],
    first: State,
    final: Iterable[State],
    left_out: frozenset[Enum] = frozenset(),
) -> Iterator[str]:
    """Every row that changes the state, but for what is `left_out`; those between two states as one arrow."""
    yield "stateDiagram-v2"
    yield f"    [*] --> {first.value}"
    arrows: dict[tuple[State, State], list[str]] = {}
    for (state, told), after in table.items():
        if after is not state and told not in left_out:
            arrows.setdefault((state, after), []).append(str(told.value))
    for (state, after), labels in arrows.items():
        yield f"    {state.value} --> {after.value}: {_lines(labels)}"
    yield from (f"    {name} --> [*]" for name in sorted(str(state.value) for state in final))


def _stopped_from() -> str:
    """The steps that a stop leaves."""
    told = [step for (step, happening), after in COURSE.items() if happening is Happening.STOPPED and after is not step]
    return ", ".join(f"`{step.value}`" for step in told)


def _stays() -> Iterator[tuple[OrderState, list[str]]]:
    for state in OrderState:
        told = [happening.value for (before, happening), after in TRANSITIONS.items() if before is state is after]
        if told:
            yield state, told


def _lines(labels: list[str]) -> str:
    """Mermaid breaks a line at <br/>."""
    return ",<br/>".join(", ".join(labels[at : at + A_LINE]) for at in range(0, len(labels), A_LINE))


def _chain(names: Iterable[str]) -> Iterator[str]:
    yield "flowchart LR"
    numbered = [f'{name}["{number}. {name}"]' for number, name in enumerate(names)]
    yield f"    {' --> '.join(numbered)}"


def _views() -> Iterator[str]:
    """From RUNNING to each view by how many stops, and back by what releases them."""
    yield "stateDiagram-v2"
    yield f"    [*] --> {View.INIT.value}"
    yield f"    {View.INIT.value} --> {View.RUNNING.value}: ready"
    for view in View:
        stops = [one for one in STOPS.values() if one.view is view]
        if not stops:
            continue
        words = "1 stop" if len(stops) == 1 else f"one of {len(stops)} stops"
        yield f"    {View.RUNNING.value} --> {view.value}: {words}"
        if view is View.SHUTDOWN:
            yield f"    {view.value} --> [*]"
        else:
            ways = dict.fromkeys(one.resume for one in stops)
            yield f"    {view.value} --> {View.RUNNING.value}: {', '.join(ways)}"


def _floors() -> Iterator[str]:
    """The layers of import-linter's contracts; those that stand side by side are joined by ` : `."""
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    yield "flowchart TD"
    for contract in contracts:
        if contract["type"] == "layers":
            floors = [[name.strip() for name in floor.split(":")] for floor in contract["layers"]]
            for above, below in pairwise(floors):
                yield from (f"    {upper} --> {lower}" for upper in above for lower in below)
    yield "    bot -.-> bot.runtime"


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.report.architecture")
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 where the page is not up to date")
    wanted = page()
    if parser.parse_args(argv).check:
        if PAGE.read_text(encoding="utf-8") != wanted:
            print(
                "docs/architecture.md is not what the code says: python -m tests.report.architecture", file=sys.stderr
            )
            return 1
        return 0
    PAGE.write_text(wanted, encoding="utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
