"""Whether what was read of a message is what stands there, field by field, and which declared fields stood there.

A field with a default is left at it where the message does not have it; so one whose name is misspelt reads like one
that the venue did not send. `Compared.absent` tells such fields: who declares them has to say why none was seen.
"""

from __future__ import annotations

import inspect
import json
from types import ModuleType
from typing import Any

import msgspec


class Compared:
    """What was compared so far. `values`: how many single values; `seen`: the kinds that were read."""

    def __init__(self) -> None:
        self.values = 0
        self.seen: set[type[msgspec.Struct]] = set()
        self._present: set[tuple[str, str]] = set()

    def same(self, read: Any, source: Any, where: str) -> None:
        """Raises AssertionError where something read is not what stands there."""
        if isinstance(read, msgspec.Struct):
            assert isinstance(source, dict), f"{where}: read {read!r}, there stands {source!r}"
            self.seen.add(type(read))
            for field in msgspec.structs.fields(type(read)):
                if field.encode_name in source:
                    self._present.add((type(read).__name__, field.name))
                    value = getattr(read, field.name)
                    self.same(value, source[field.encode_name], f"{where}.{field.encode_name}")
        elif isinstance(read, list | tuple):
            assert isinstance(source, list), f"{where}: read {read!r}, there stands {source!r}"
            assert len(read) == len(source), f"{where}: read {len(read)} of {len(source)}"
            for number, (one, other) in enumerate(zip(read, source, strict=True)):
                self.same(one, other, f"{where}[{number}]")
        else:
            value = json.loads(bytes(read)) if isinstance(read, msgspec.Raw) else read
            assert value == source, f"{where}: read {value!r}, there stands {source!r}"
            self.values += 1

    def absent(self, declared: ModuleType) -> set[str]:
        """Every field of every kind that the module declares which stood in nothing that was compared."""
        return {
            f"{kind.__name__}.{field.name}"
            for kind in kinds_of(declared)
            for field in msgspec.structs.fields(kind)
            if (kind.__name__, field.name) not in self._present
        }


def kinds_of(declared: ModuleType) -> set[type[msgspec.Struct]]:
    """The structs that a module declares and reads: those with fields."""
    found = (one for _, one in inspect.getmembers(declared, inspect.isclass) if issubclass(one, msgspec.Struct))
    return {kind for kind in found if kind.__module__ == declared.__name__ and msgspec.structs.fields(kind)}
