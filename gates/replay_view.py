"""What `gates replay` shows: one line for each criterion, then every difference by name. At most 80 columns."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any, Final

from gates.replay import Replayed

WIDTH: Final = 80


def lines_of(found: Replayed) -> Iterator[str]:
    """The table, the differences, the verdicts."""
    yield f"{'criterion':<40}{'readings':>9}  {'last':<20}again"
    by_id = {name: [one for one in found.measurements if one.criterion_id == name] for name in _names(found)}
    for name, ones in by_id.items():
        different = sum(not one.same for one in ones)
        again = f"{different} differ" if different else "same"
        yield f"{_cut(name, 39):<40}{len(ones):>9}  {_cut(str(ones[-1].stored), 19):<20}{again}"
    for one in found.measurements:
        if not one.same:
            yield from _said(f"{_at(one.at_ms)} {one.criterion_id}", str(one.stored), str(one.again))
    for each in found.verdicts:
        if each.same:
            yield _cut(f"verdict {_of(each.stored)} of {each.at[:19]}: same", WIDTH)
        else:
            yield from _said(f"verdict of {each.at[:19]}", _of(each.stored), _of(each.again))
        for name in each.lacking:
            yield _cut(f"  stands on {name}, of which no reading is stored", WIDTH)


def as_json(found: Replayed) -> dict[str, Any]:
    """Every measurement and verdict, as it was and as it is found now."""
    return {
        "measurements": [
            {
                "criterion": one.criterion_id,
                "at_ms": one.at_ms,
                "same": one.same,
                "stored": one.stored._asdict(),
                "again": one.again._asdict(),
            }
            for one in found.measurements
        ],
        "verdicts": [
            {
                "at": one.at,
                "same": one.same,
                "stored": {"word": one.stored[0], "decided_by": one.stored[1]},
                "again": {"word": one.again[0], "decided_by": one.again[1]},
                "lacking": list(one.lacking),
            }
            for one in found.verdicts
        ],
    }


def _names(found: Replayed) -> list[str]:
    return list(dict.fromkeys(one.criterion_id for one in found.measurements))


def _said(what: str, stored: str, again: str) -> Iterator[str]:
    yield _cut(f"DIFFERS {what}", WIDTH)
    yield _cut(f"  stored {stored}", WIDTH)
    yield _cut(f"  again  {again}", WIDTH)


def _of(verdict: tuple[str, str | None]) -> str:
    word, decided_by = verdict
    return word.replace("_", "-") + (f" by {decided_by}" if decided_by else "")


def _at(at_ms: int) -> str:
    return datetime.fromtimestamp(at_ms / 1000, UTC).strftime("%H:%M:%S")


def _cut(text: str, width: int) -> str:
    return text if len(text) <= width else f"{text[: width - 1]}…"
