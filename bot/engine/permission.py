"""The grant: who may trade, how much, until when. Without one nothing new leaves and what is out is cancelled."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from bot.engine.parameters import NS_PER_S
from bot.engine.state import Grant, State
from bot.engine.stop import RESTART
from bot.engine.stopping import Stopping


def receive_grant(state: State, stopping: Stopping, fields: tuple[Any, ...]) -> None:
    """Renew, replace or revoke, as those fields of a `GrantReceived` say.

    A lower epoch than the one seen is ignored: it was refused at the door already.
    """
    at_ns: int
    epoch: int
    ttl_s: float
    inventory_max_quote: Decimal
    total_max_quote: Decimal
    symbols: tuple[str, ...]
    at_ns, account, epoch, inventory_max_quote, total_max_quote, ttl_s, revoked, symbols = fields
    if epoch < state.epoch:
        state.note("WARNING", "grant_changed", change="refused", epoch=epoch, epoch_held=state.epoch)
        return
    held = state.grant
    if revoked or ttl_s <= 0:
        state.epoch = epoch
        state.grant = None
        state.limits_version += 1
        if held is not None:
            state.note("INFO", "grant_changed", change="revoked", epoch=epoch)
            state.grant_lost_ns = state.now_ns
            stopping.enter("grant_revoked")
        elif state.grant_lost_ns is not None and state.stops.holds("grant_expired"):
            # it had expired before; the revoke says that this is now meant so
            state.note("INFO", "grant_changed", change="revoked", epoch=epoch)
            stopping.enter("grant_revoked")
        return
    expires_at_ns = at_ns + int(ttl_s * NS_PER_S)
    renewed = (  # the same objects where the process is told the same again, so that few decimals are compared
        held is not None
        and held.epoch == epoch
        and (held.inventory_max_quote is inventory_max_quote or held.inventory_max_quote == inventory_max_quote)
        and (held.total_max_quote is total_max_quote or held.total_max_quote == total_max_quote)
        and (held.symbols is symbols or held.symbols == symbols)
    )
    if renewed and held is not None:
        held.renew(inventory_max_quote, total_max_quote, at_ns, expires_at_ns, symbols)
        state.grant_renewed(held)
    else:
        state.grant = Grant(account, epoch, inventory_max_quote, total_max_quote, at_ns, expires_at_ns, symbols)
        state.limits_version += 1
    state.epoch = epoch
    state.grant_lost_ns = None
    if state.stops.any:
        for stop in state.stops.release(RESTART):
            state.note("INFO", "stop_changed", released=stop.reason, who="grant")
    if not renewed:
        state.note(
            "INFO",
            "grant_changed",
            change="granted" if held is None else "changed",
            epoch=epoch,
            inventory_max_quote=str(inventory_max_quote),
            total_max_quote=str(total_max_quote),
            symbols=",".join(symbols),
        )


def carry_lost(state: State, started_ns: int) -> None:
    """A process starts on the journal of one that started at `state.started_ns`, and maybe of many more.

    The first start after permission was lost gives whoever started it as long again to permit it anew, however long
    nobody was there. No later one does: a bot that is started over and over would never flatten what it holds.
    """
    lost_ns = state.grant_lost_ns
    if lost_ns is not None and lost_ns > state.started_ns:
        state.grant_lost_ns = max(lost_ns, started_ns)
    state.started_ns = started_ns


def check_grant(state: State, stopping: Stopping) -> None:
    """Expire what has run out; start counting a lost grant as regained where one is held."""
    grant = state.grant
    if grant is not None and not state.stops.any and state.now_ns < grant.expires_at_ns:
        return
    if grant is not None and state.now_ns >= grant.expires_at_ns:
        state.grant = None
        state.limits_version += 1
        state.grant_lost_ns = grant.expires_at_ns
        state.note("WARNING", "grant_changed", change="expired", epoch=grant.epoch)
        stopping.enter("grant_expired")
    if state.grant is not None and state.stops.any:
        for reason in ("grant_expired", "grant_revoked"):
            state.stops.cause_gone(reason, state.now_ns)
