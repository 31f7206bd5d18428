"""Client of the bot's own HTTP interface: its grant, its status, its shutdown. Every call ends within its time-out.

The guard's token opens `/grant` alone; the operator's token opens the rest. Neither ever appears in an error.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

import httpx

from bot.runtime.operators import release_code


@dataclass(frozen=True)
class Limits:
    """What a grant allows, quote. `symbols`: on which alone risk may be added; empty: on all that the bot knows."""

    inventory_max_quote: Decimal
    total_max_quote: Decimal
    symbols: tuple[str, ...] = ()


@dataclass(frozen=True)
class GrantAnswer:
    """`status`: HTTP status, 0 where nothing answered. `epoch_held`: with 409, the epoch the bot holds."""

    status: int
    state: str = ""
    epoch_held: int | None = None
    detail: str = ""

    @property
    def accepted(self) -> bool:
        return self.status == 200

    @property
    def fenced(self) -> bool:
        """The bot holds a higher epoch or belongs to another account: this guard must not go on."""
        return self.status == 409


@dataclass(frozen=True)
class Told:
    """What came of a call: `ok`, or why not. `body`: the answer where it was a JSON object."""

    ok: bool
    detail: str = ""
    body: dict[str, Any] = field(default_factory=dict)


ANSWER_S = 0.8
"""How long an answer may take. One that is waited for while the bot may trade on, a revoke's, never takes longer."""
ANSWER_SHARE = 0.16
"""Of a grant's life, how long the answer to its renewal may take: then it can be tried again several times."""


class Operator:
    """One bot's HTTP. Reuses its connections; close it. `grant_ttl_s`: how long the grants last that it is given."""

    def __init__(self, obs_url: str, *, grant_token: str, approve_token: str, grant_ttl_s: float) -> None:
        self.obs_url = obs_url.rstrip("/")
        self._grant_token = grant_token
        self._grant = {"Authorization": f"Bearer {grant_token}"}
        self._approve = {"Authorization": f"Bearer {approve_token}"}
        # trust_env off: a proxy must never stand between guard and bot.
        self._http = httpx.AsyncClient(timeout=max(ANSWER_S, grant_ttl_s * ANSWER_SHARE), trust_env=False)

    async def close(self) -> None:
        await self._http.aclose()

    async def grant(self, account: str, epoch: int, limits: Limits, ttl_s: float) -> GrantAnswer:
        """Grants or renews; `ttl_s` 0 revokes. Never raises for what bot or network can do."""
        if not math.isfinite(ttl_s) or ttl_s < 0:
            raise ValueError(f"ttl_s {ttl_s}: allowed 0 or more")
        body = {
            "account": account,
            "epoch": epoch,
            "limits": {
                "inventory_max_quote": str(limits.inventory_max_quote),
                "total_max_quote": str(limits.total_max_quote),
                "symbols": list(limits.symbols),
            },
            "ttl_s": ttl_s,
        }
        timeout_s = ttl_s * ANSWER_SHARE or ANSWER_S
        try:
            answer = await self._http.post(f"{self.obs_url}/grant", json=body, headers=self._grant, timeout=timeout_s)
        except httpx.HTTPError as error:
            return GrantAnswer(0, detail=f"{type(error).__name__}: {error}")
        told = _object(answer)
        held = told.get("epoch_held")
        return GrantAnswer(
            answer.status_code,
            state=str(told.get("state", "")),
            epoch_held=held if isinstance(held, int) else None,
            detail=str(told.get("error", "")) or answer.reason_phrase,
        )

    async def revoke(self, account: str, epoch: int, limits: Limits) -> GrantAnswer:
        """Takes the permission away at once, under an epoch that fences a renewal still on its way."""
        return await self.grant(account, epoch, limits, 0.0)

    async def status(self) -> Told:
        """`/api/ui/status`."""
        return await self._call("GET", "/api/ui/status", {})

    async def shutdown(self, reason: str) -> Told:
        """Asks the bot to cancel everything and end. Accepted is not done: watch the process."""
        return await self._call("POST", "/api/ui/shutdown", self._approve, {"reason": reason})

    async def freeze(self, reason: str) -> Told:
        return await self._call("POST", "/api/ui/freeze", self._approve, {"reason": reason})

    async def drill(self, name: str, **more: str) -> Told:
        """`/drill/{name}`: makes a planned fault happen in the bot, or announces one. `more`: what it is told of it."""
        return await self._call("POST", f"/drill/{name}", self._approve, {"operator": "guard", **more})

    async def cancel_all(self, reason: str) -> Told:
        return await self._call("POST", "/api/ui/cancel-all", self._approve, {"reason": reason})

    async def release_ask(self, kind: str, request_id: str, person: str, stop: str, reason: str, consent: bool) -> Told:
        """A first person's request. `kind`: resume or re-arm; `stop`: which one, `*` for all. The same again is one."""
        body = {"operator": person, "reason": reason or "no reason given", "stop": stop, "consent": consent}
        path = f"/api/ui/{kind}-request"
        return await self._call("POST", path, self._approve, {**body, "request_id": request_id})

    async def release_confirm(
        self, kind: str, request_id: str, person: str, reason: str, consent: bool, epoch: int
    ) -> Told:
        """A second person's word, sealed: whoever it is has been judged here, and the bot need not know how.

        `epoch`: of the bot's grant, 0 where it needs none.
        """
        code = release_code(self._grant_token, epoch, request_id, person)
        body = {"request_id": request_id, "operator": person, "code": code, "reason": reason or "confirmed"}
        return await self._call("POST", f"/api/ui/{kind}-confirm", self._approve, {**body, "consent": consent})

    async def _call(self, method: str, path: str, headers: dict[str, str], body: dict[str, Any] | None = None) -> Told:
        try:
            answer = await self._http.request(method, f"{self.obs_url}{path}", headers=headers, json=body)
        except httpx.HTTPError as error:
            return Told(False, f"{type(error).__name__}: {error}")
        if answer.is_success:
            return Told(True, body=_object(answer))
        return Told(False, f"HTTP {answer.status_code}: {_object(answer).get('error', answer.reason_phrase)}")


def _object(answer: httpx.Response) -> dict[str, Any]:
    try:
        value = answer.json()
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}
