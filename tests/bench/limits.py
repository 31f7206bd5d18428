"""What a simulated venue allows and remembers, where its default would decide the figures. For processes that measure.

Two quotes moved on every one of ten updates a second are twenty amends a second. The default allows ten, answers
the rest with 10006, and the bot rightly takes those for unknown outcomes and probes. Engines of others know no such
limit. And a venue in the bot's own process would count as the bot's memory with every order that it remembers.
"""

from __future__ import annotations

from typing import Any, cast

from bot.simulator import accounts, bybit

PER_S = 1_000


def lift() -> None:
    """From now on every private endpoint of simulated venues in this process takes this many a second, of its orders or
    requests."""
    table = cast("dict[tuple[str, str], Any]", bybit.PRIVATE)
    for key, entry in list(table.items()):
        table[key] = entry._replace(per_s=PER_S)
    bybit.BATCH_ORDERS_PER_S = PER_S


def forget_soon() -> None:
    """From now on simulated venues keep few ended orders and executions to be asked for: minutes, not days."""
    accounts.CLOSED_KEPT = 200
    accounts.EXECUTIONS_KEPT = 500
