"""Whose beats are expected, how many each has missed, and what that makes of the whole. Pure.

Guard and bots leave their addresses in the folder that Prometheus finds its targets in: whoever has a file there is
expected to beat, and whoever ends in order takes its file away. A file that cannot be read is a beat that is missing.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Final, NamedTuple

GUARD_RUN: Final = "guard"
WATCHDOG_RUN: Final = "watchdog"
SYMBOL: Final = re.compile(r"[A-Z0-9]{2,30}")
STATES: Final = ("OK", "DEGRADED", "AUTO_HOLD")


class Source(NamedTuple):
    """Somebody who beats. `url` empty: its file is there and does not tell an address."""

    name: str
    url: str
    is_guard: bool


def expected(targets: Path, account: str, known: Collection[str] = ()) -> list[Source]:
    """The guard and the bots of one account. `known`: who was expected until now, by name.

    Raises OSError where the folder cannot be read.
    """
    found = []
    for path in sorted(entry for entry in targets.iterdir() if entry.suffix == ".json"):
        if path.name.startswith("."):
            continue  # half written
        try:
            (one,) = json.loads(path.read_text(encoding="utf-8"))
            (address,), labels = one["targets"], {**one["labels"]}
        except FileNotFoundError:
            continue
        except (OSError, ValueError, KeyError, TypeError):
            if path.stem in known:
                found.append(Source(path.stem, "", is_guard=False))
            continue
        if labels.get("account") == account and labels.get("run") != WATCHDOG_RUN:
            found.append(Source(path.stem, f"http://{address}", labels.get("run") == GUARD_RUN))
    return found


class Beats:
    """Counts in looks: one look asks everybody once. `missed_max`: so many in a row, and somebody is taken for gone."""

    def __init__(self, missed_max: int) -> None:
        self._missed_max = missed_max
        self.missed: dict[str, int] = {}

    def looked(self, beaten: Mapping[str, bool]) -> list[str]:
        """Takes in one look at everybody who is expected; returns who has just been taken for gone."""
        before = self.missed
        self.missed = {name: 0 if beat else before.get(name, 0) + 1 for name, beat in beaten.items()}
        return [name for name, count in self.missed.items() if count == self._missed_max]

    @property
    def gone(self) -> list[str]:
        """Who is taken for gone."""
        return [name for name, count in self.missed.items() if count >= self._missed_max]


def state_of(missed: Iterable[int], missed_max: int, rest_failed: int, socket_failed: int) -> str:
    """OK, DEGRADED or AUTO_HOLD, by beats missed in a row and by looks in a row at the venue that failed.

    One way to the venue that is gone degrades; both gone, or a beat, hold.
    """
    most = max(missed, default=0)
    if most >= missed_max or min(rest_failed, socket_failed) >= missed_max:
        return "AUTO_HOLD"
    return "DEGRADED" if most or rest_failed or socket_failed else "OK"
