"""Counters that know which of them changed, so that whoever writes them down need not compare them all."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeVar

K = TypeVar("K")


class Counts(dict[K, int]):
    """Born at 0. `changed`: keys set since the last `drain`; at first all of them."""

    def __init__(self, keys: Iterable[K]) -> None:
        super().__init__(dict.fromkeys(keys, 0))
        self.changed: set[K] = set(self)

    def __setitem__(self, key: K, value: int) -> None:
        dict.__setitem__(self, key, value)
        self.changed.add(key)

    def add(self, key: K) -> None:
        """One more."""
        dict.__setitem__(self, key, self.get(key, 0) + 1)
        self.changed.add(key)

    def drain(self) -> list[tuple[K, int]]:
        """The counters that were set since the last call, with their values."""
        if not self.changed:
            return []
        changed, self.changed = self.changed, set()
        return [(key, self[key]) for key in changed]
