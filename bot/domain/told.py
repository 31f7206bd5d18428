"""What every event is."""

from __future__ import annotations

import msgspec


class Told(msgspec.Struct, frozen=True, tag=True, omit_defaults=True, gc=False):
    """One thing that the engine is told. `at_ns`: when we received it, by the loop's clock.

    `gc=False`: an event refers to nothing that could refer back, so the collector of cycles need not look at it.
    """

    at_ns: int
