"""What every event is."""

from __future__ import annotations

import msgspec


class Told(msgspec.Struct, frozen=True, tag=True, omit_defaults=True):
    """One thing that the engine is told. `at_ns`: when we received it, by the loop's clock."""

    at_ns: int
