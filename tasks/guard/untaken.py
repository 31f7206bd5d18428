"""Notices on their way into the record. While it takes nothing they may go out beside it, and each goes out once."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from tasks.record_writer import Notice


@dataclass
class Untaken:
    """A notice of which the record does not say yet what became of it.

    `delivered`: it went out beside the record; `sending`: it is about to; `taken`: its row was written meanwhile.
    """

    kind: str
    line: str
    delivered: bool = False
    sending: bool = False
    taken: bool = False


class UntakenNotices:
    """By key. The loop sends them while the record's thread writes them: a write may hang until long after one is out.

    A key stays in here until the record says how its notice ended, and meanwhile the outbox leaves it alone.
    """

    def __init__(self) -> None:
        self._by_key: dict[str, Untaken] = {}
        self._expected: set[str] = set()
        self._turn = threading.Lock()  # for looks and marks alone: nothing is written or sent under it

    def __contains__(self, key: str) -> bool:
        return key in self._by_key

    def __len__(self) -> int:
        return len(self._by_key)

    def expect(self, told: Sequence[Notice]) -> None:
        """About to be written. What was expected before has gone out, or will: told again it is not sent again."""
        for one in told:
            if one.key not in self._expected:
                self._expected.add(one.key)
                self._by_key[one.key] = Untaken(one.kind, one.line)

    def as_they_stand(self, told: Sequence[Notice]) -> list[Notice]:
        """As they are queued: what is out by now is written as delivered, so that no crash sends it again."""
        with self._turn:
            return [one._replace(delivered=self._is_out(one.key)) for one in told]

    def _is_out(self, key: str) -> bool:
        one = self._by_key.get(key)
        return one is not None and one.delivered

    def unsent(self) -> list[tuple[str, Untaken]]:
        """Those that are not out, oldest first."""
        with self._turn:
            return [pair for pair in self._by_key.items() if not pair[1].delivered]

    def begin_sending(self, key: str) -> bool:
        """Whether it is still to be sent beside the record; from now on it is about to be."""
        with self._turn:
            one = self._by_key.get(key)
            if one is None or one.delivered:
                return False
            one.sending = True
            return True

    def end_sending(self, key: str, *, delivered: bool) -> bool:
        """Whether a row of it has to be told that it is out: see `forget`. Where it is not, that is the outbox's."""
        with self._turn:
            one = self._by_key[key]
            one.sending, one.delivered = False, delivered
            if one.taken and not delivered:
                del self._by_key[key]
            return one.taken and delivered

    def settle(self, key: str, is_out: Callable[[str], None]) -> None:
        """Its row is written, by the record's thread, for which `is_out` notes that it was delivered. Raises what that
        raises; then it may be tried again."""
        with self._turn:
            one = self._by_key.get(key)
            if one is None:
                return
            if one.sending:  # who sends it says how that ended
                one.taken = True
                return
            if not one.delivered:
                del self._by_key[key]
                return
        is_out(key)
        self.forget(key)

    def forget(self, key: str) -> None:
        """The record says of it what became of it."""
        with self._turn:
            self._by_key.pop(key, None)
