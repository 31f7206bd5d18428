"""Asks an account's guard and waits for its answer. Everybody but the guard acts on a rollout only through here."""

from __future__ import annotations

import time
from typing import Any

from tasks.record import Answer, Record

ANSWER_DEADLINE_S = 60.0
LOOK_EVERY_S = 0.1


class GuardSilent(Exception):
    """The account's guard did not answer in time. The request stands in the inbox and will still be served."""


class Refused(Exception):
    """The guard said no; the message is its reason."""


class RefusedForNow(Refused):
    """What the guard could not see, or do, just now: the same asked again later may be done."""


def ask_guard(
    record: Record, account: str, kind: str, payload: dict[str, Any], key: str, deadline_s: float = ANSWER_DEADLINE_S
) -> Answer:
    """Submits once (the same key again is the same request) and waits. Raises GuardSilent; a refusal is an Answer."""
    number = record.submit(account, kind, payload, key)
    end = time.monotonic() + deadline_s
    while True:
        answer = record.answer(number)
        if answer is not None:
            return answer
        if time.monotonic() >= end:
            raise GuardSilent(f"{kind}: the guard of account {account} did not answer within {deadline_s:.0f} s")
        time.sleep(LOOK_EVERY_S)


def must(answer: Answer) -> dict[str, Any]:
    """The result of an answer that must be yes. Raises Refused with the guard's reason."""
    if not answer.done:
        raise Refused(answer.reason)
    return answer.result
