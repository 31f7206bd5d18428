"""An account with a market maker's rate limits, for runs in which the venue's default ones would decide the figures.

Two quotes moved on every one of ten updates a second are twenty amends a second. The default allows ten, answers
the rest with 10006, and the bot rightly takes those for unknown outcomes and probes. Engines of others know no such
limit. Of a process that does nothing else: there is no way back.
"""

from __future__ import annotations

from typing import Any, cast

from bot.simulator import bybit

PER_S = 1_000


def lift() -> None:
    """From now on every private endpoint of simulated venues in this process takes this many requests a second."""
    table = cast("dict[tuple[str, str], Any]", bybit.PRIVATE)
    for key, entry in list(table.items()):
        table[key] = entry._replace(per_s=PER_S)
