"""The inbox's `release_ask` and `release_confirm`: two people have a stop of the running bot released.

The guard judges who they are and writes it down before it tells the bot; the engine decides whether two words are
enough. A request is known to the bot by an id that is in the record first, so saying it again changes nothing.
"""

from __future__ import annotations

import secrets
from typing import Any

from tasks.guard.attesting import word as _word
from tasks.guard.standing import refuse_what_was_changed
from tasks.guard.state import Active, GuardState, Refused
from tasks.operate import Told
from tasks.record_tables import Released, utc_now
from tasks.release import Bot, ReleaseDesk, Word
from tasks.sign_off import STALE_S

ASKED, CONFIRMED = "asked", "confirmed"


async def release_ask(guard: GuardState, payload: dict[str, Any]) -> dict[str, Any]:
    """The first person. Answers with the request's id; or raises Refused with the reason. Idempotent by its row."""
    return await _release(guard, payload, ASKED, f"release-{secrets.token_hex(8)}")


async def release_confirm(guard: GuardState, payload: dict[str, Any]) -> dict[str, Any]:
    """A second, different person. Answers with what was released."""
    return await _release(guard, payload, CONFIRMED, _word(payload, "request_id"))


async def _release(guard: GuardState, payload: dict[str, Any], word: str, request_id: str) -> dict[str, Any]:
    active, bot = _running(guard)
    before = await guard.store.call(guard.store.record.release_of, payload["inbox_id"])
    if before is not None:
        row, reason = before, before.refused_reason or _is_over(before, active)
    else:
        await refuse_what_was_changed(guard, active)
        said = _said(payload, word, request_id)
        row, reason = await guard.store.call(ReleaseDesk(guard.store.record, guard.seeds).take, said, bot)
    if reason:
        raise Refused(reason)
    told = await _tell(active, row, guard.epoch if active.needs_grant else 0)
    if before is not None and told.detail.startswith("HTTP 409: used"):  # it was told before, and its answer got lost
        told = Told(True, body={"request_id": row.request_id, "state": ""})
    await guard.store.call(guard.store.record.append, "release_answer", _answer(row, told))
    if not told.ok:
        raise Refused(f"the bot refuses: {told.detail}")
    guard.notice(active, "release", _sentence(row), row.inbox_id)
    await guard.store.written()
    return {name: told.body[name] for name in ("request_id", "covers", "released", "state") if name in told.body}


def _is_over(row: Released, active: Active) -> str:
    """Why a word that was taken is not told to this bot now, in words; empty where it may be: its answer got lost.

    The inbox is anybody's. A request in it that was put back to waiting costs no code, and must release nothing that
    has come to hold since.
    """
    age_s = (utc_now() - row.at).total_seconds()
    if row.stage_run_id != active.id:
        return f"{row.request_id} was about the bot of another stage run: ask again"
    return "" if age_s <= STALE_S else f"{row.request_id} was said {age_s:.0f} s ago: ask again"


def _running(guard: GuardState) -> tuple[Active, Bot]:
    """The stage run whose bot it is. Raises Refused."""
    active = guard.active
    if active is None or active.operator is None:
        raise Refused(f"no bot runs on account {guard.account}: there is nothing to release")
    if active.approvers is None:
        raise Refused("the approvers file does not load: nobody can release")
    return active, Bot(active.id, active.approvers, active.plan.author)


def _said(payload: dict[str, Any], word: str, request_id: str) -> Word:
    words = {name: str(payload.get(name, default)) for name, default in (("kind", "resume"), ("stop", "*"))}
    return Word(
        word,
        _word(payload, "person"),
        _word(payload, "code"),
        request_id,
        **words,
        consent=payload.get("consent") is True,
        comment=str(payload.get("comment", "")),
        asked_at_s=payload["asked_at_s"],
        inbox_id=payload["inbox_id"],
    )


async def _tell(active: Active, row: Released, epoch: int) -> Told:
    operator = active.operator
    if operator is None:
        return Told(False, "it is gone")
    if row.word == ASKED:
        return await operator.release_ask(row.kind, row.request_id, row.person, row.stop, row.comment, row.consent)
    return await operator.release_confirm(row.kind, row.request_id, row.person, row.comment, row.consent, epoch)


def _answer(row: Released, told: Told) -> dict[str, Any]:
    body = {"stage_run": row.stage_run_id, "request_id": row.request_id, "word": row.word, "person": row.person}
    return {**body, "ok": told.ok, "detail": told.detail, "released": list(told.body.get("released", ()))}


def _sentence(row: Released) -> str:
    what = f"{row.kind} of {'all that holds' if row.stop == '*' else row.stop}"
    if row.word == ASKED:
        return f"{row.person} asks for the {what}; a second person confirms {row.request_id}"
    return f"{row.person} confirmed the {what} ({row.request_id})"
