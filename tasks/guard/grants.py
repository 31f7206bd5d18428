"""The bot's permission: renewed on its own loop, of a life of 5 s every second; revoked under an epoch that fences what
comes late."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable
from typing import Any

from sqlalchemy.exc import SQLAlchemyError

from gates.course import Step
from tasks.guard.state import Active, GuardState
from tasks.launch import find_bots, is_alive, stop_bot
from tasks.operate import GrantAnswer
from tasks.record_writer import EpochLost
from tasks.rollback import SAID_BY
from tasks.supervise.identity import Identity

log = logging.getLogger("slipway.guard.grants")
RENEWALS = 5
"""In a grant's life: several may fail before it lapses."""
IDLE_S = 1.0
EPOCH_PATIENCE_S = 0.5
TERMINATED_S, SILENT_TERMINATED_S = 1.0, 0.5
"""How long SIGTERM is given: to a bot that answers, and to one that does not. It trades as long as it lives."""
DEMAND_PATIENCE_S = 1.0
"""How long a promotion's stop waits until it is written that it is asked for."""


class Fenced(Exception):
    """The bot belongs to somebody with a higher epoch: this guard has nothing to say to it any more."""


async def renew_for_ever(guard: GuardState) -> None:
    """The renewal loop. Depends on nothing but the bot's HTTP: no record, no Prometheus, no Prefect."""
    told = ""
    while True:
        begun, every_s = time.monotonic(), IDLE_S
        active = guard.active
        if guard.granting and active is not None and active.operator is not None:
            every_s = active.plan.grant_ttl_s / RENEWALS
            answer = await renew_once(guard, active)
            if not answer.accepted:
                every_s = min(every_s, IDLE_S)
            words = "" if answer.accepted else f"grant was not renewed: {answer.status} {answer.detail}"
            if words and words != told:
                log.warning("%s", words)
            told = words
        await asyncio.sleep(max(0.05, every_s - (time.monotonic() - begun)))


async def renew_once(guard: GuardState, active: Active) -> GrantAnswer:
    """One renewal under the epoch held. Raises Fenced where the bot refuses this guard; not where that has revoked, or
    taken its next epoch, while this was on its way: then the bot refuses what is late, and rightly."""
    async with guard.granting_turn:
        if not guard.granting or active.operator is None:
            return GrantAnswer(0, detail="revoked meanwhile")
        epoch = guard.epoch
        try:
            answer = await active.operator.grant(guard.account, epoch, active.limits, active.plan.grant_ttl_s)
        finally:  # also unanswered: until here it was on its way, and the bot may have taken it
            guard.granted_at_s = time.monotonic()
    if answer.fenced and guard.granting and guard.epoch == epoch:
        guard.granting = False
        raise Fenced(f"account {guard.account}: bot refuses epoch {epoch}: {answer.detail}")
    return answer


async def next_epoch(guard: GuardState, why: str) -> int:
    """Takes the account's next epoch by compare-and-swap with the one held: what the table says now may be another
    guard's. Raises EpochLost."""
    holder = f"guard-{guard.account}-{guard.sign}"
    async with guard.epoch_turn:
        guard.epoch = await guard.store.call(guard.store.record.take_epoch, guard.epoch, holder, why)
        return guard.epoch


class BotPermission:
    """Steps 0 and 1 of a closing: takes the grant away, and makes sure that the bot is gone."""

    def __init__(
        self, guard: GuardState, active: Active, on_gone: Callable[[], None], on_dead: Callable[[], None]
    ) -> None:
        self._guard = guard
        self._active = active
        self._on_gone = on_gone
        self._on_dead = on_dead
        self._silent = False
        """Whether the bot gave no answer to the last revoke: then nothing is asked of it any more, it is ended."""

    async def revoke(self) -> tuple[bool, dict[str, Any]]:
        guard, active = self._guard, self._active
        guard.granting = False
        if not active.needs_grant:
            return True, {"how": "in shadow no order leaves, and none was ever permitted", "epoch": guard.epoch}
        if host := guard.elsewhere(active.row):
            return await self._by_word(host)
        if active.bot is None or not is_alive(active.bot.identity):
            return True, {"how": "no bot lives that could hold a grant", "epoch": guard.epoch}
        answer = await self._revoked()
        self._silent = answer.status == 0
        if answer.accepted:
            return True, {"how": "the bot answered 200", "epoch": guard.epoch, "state": answer.state}
        expired = time.monotonic() - guard.granted_at_s > active.plan.grant_ttl_s
        if expired and not answer.fenced:  # a bot that refuses us has a grant of somebody else's
            return True, {"how": f"not renewed for {active.plan.grant_ttl_s:g} s: expired", "epoch": guard.epoch}
        return False, {"detail": f"the bot did not take the revoke: {answer.status} {answer.detail}"}

    async def _revoked(self) -> GrantAnswer:
        guard, active = self._guard, self._active
        if active.operator is None:
            return GrantAnswer(0, detail="the bot's address or its token is not known")
        if await self._raise_epoch():
            return await active.operator.revoke(guard.account, guard.epoch, active.limits)
        async with guard.granting_turn:  # no fence: a renewal still on its way must not arrive after the revoke
            return await active.operator.revoke(guard.account, guard.epoch, active.limits)

    async def _raise_epoch(self) -> bool:
        try:
            await asyncio.wait_for(next_epoch(self._guard, "revoke"), EPOCH_PATIENCE_S)
            return True
        except (TimeoutError, EpochLost, SQLAlchemyError) as error:
            # Without the fence the revoke still holds: renewals have stopped and expire by themselves.
            log.warning("revoking under the old epoch: %s", error or "the record did not answer in time")
            return False

    async def stop(self) -> tuple[bool, dict[str, Any]]:
        active = self._active
        if host := self._guard.elsewhere(active.row):
            sure, proof = await self._by_word(host)
            if sure:
                self._on_gone()
            return sure, proof
        proof = {"by": "nothing was running"}
        if active.bot is not None:
            await self._demand(active.bot.identity)
            ask = self._ask if active.operator is not None and not self._silent else None
            terminated_s = SILENT_TERMINATED_S if self._silent else TERMINATED_S
            gone = await stop_bot(active.bot.identity, ask, terminated_s=terminated_s)
            identity = active.bot.identity
            proof = {"pid": identity.pid, "started_ticks": identity.started_ticks, "by": gone.by}
            proof |= {"took_ms": gone.took_ms, "detail": gone.detail}
            if not gone.gone:
                return False, proof
        others = find_bots(active.state_dir) if active.state_dir else []
        for other in others:
            # Somebody started a second one on the same state folder, or we died between starting and noting it.
            gone = await stop_bot(other, None)
            if not gone.gone:
                return False, {"detail": f"pid {other.pid} on the same state folder does not end"}
        self._on_gone()
        return True, {**proof, "others_on_state_dir": [other.pid for other in others]}

    async def _by_word(self, host: str) -> tuple[bool, dict[str, Any]]:
        """Of a bot that was started on another machine: neither its process nor its grant, which a guard there may go
        on renewing, can be seen from here. Only a person can say that the machine is off; it is told as their word."""
        guard, active = self._guard, self._active
        who = await guard.store.call(guard.store.record.said_off, active.id, active.row.machine)
        if who is None:
            command = f"rollout takeover {guard.account} --off {host}"
            unknown = f"unknown: the bot was started on machine {host}, which cannot be seen from {guard.machine.host}"
            return False, {"detail": f"{unknown}; once a person has made sure that {host} is switched off: {command}"}
        return True, {"by": f"machine {host} is off", SAID_BY: who, "epoch": guard.epoch}

    async def _demand(self, identity: Identity) -> None:
        """Tells a bot that is to be stopped from one that has died before it was asked to.

        A promotion first waits, for a moment, until its step is written: the next guard must not take this for a death.
        """
        active = self._active
        if active.stop_asked:
            return
        if active.step is Step.PROMOTING and is_alive(identity):
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._guard.store.written(), DEMAND_PATIENCE_S)
        if not is_alive(identity):
            self._on_dead()
        active.stop_asked = True

    async def _ask(self) -> str:
        if self._active.operator is None:
            return "no address"
        told = await self._active.operator.shutdown("the guard closes this stage")
        return "" if told.ok else told.detail
