"""How a command asks an account's guard: its yes comes back, all else is said to who typed it."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping
from typing import Any

from tasks.ask import GuardSilent, ask_guard
from tasks.record import Answer, Record


def asked(
    record: Record,
    account: str,
    kind: str,
    payload: Mapping[str, Any],
    undone: str,
    say_refusal: Callable[[str], None] = print,
) -> Answer | None:
    """None where the guard refused or did not answer, which is said. `undone`: what does not happen until it has."""
    try:
        answer = ask_guard(record, account, kind, dict(payload), f"{kind}-{secrets.token_hex(8)}")
    except GuardSilent as error:
        print(f"rollout: {error}; {undone}")
        return None
    if not answer.done:
        say_refusal(f"rollout: refused: {answer.reason}")
        return None
    return answer
