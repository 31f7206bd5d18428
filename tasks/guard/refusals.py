"""Which refusals go into the record: each reason once an hour, and never a flood. Time is an argument.

Who may write into the inbox may ask a thousand times a second; a chain that grew by each of them would fill the disk.
What is left out is counted, and the next link tells how many.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

AGAIN_S = 3600.0
BURST = 20
EVERY_S = 30.0
"""After a burst, one link in that time."""
WHY_LETTERS_MAX = 500


@dataclass
class Refusals:
    """What this guard has told of the requests that it refused."""

    left_out: int = 0
    _told_s: dict[tuple[str, str], float] = field(default_factory=dict)
    _room: float = float(BURST)
    _looked_s: float | None = None

    def link(self, kind: str, why: str, now_s: float) -> dict[str, Any] | None:
        """What the link of it says; None where it is left out. `now_s`: monotonic. Told only once `told` is called."""
        self._room += 0.0 if self._looked_s is None else (now_s - self._looked_s) / EVERY_S
        self._room, self._looked_s = min(float(BURST), self._room), now_s
        self._told_s = {key: at_s for key, at_s in self._told_s.items() if now_s - at_s < AGAIN_S}
        if (kind, why) in self._told_s or self._room < 1:
            self.left_out += 1
            return None
        more = {"left_out_before": self.left_out} if self.left_out else {}
        return {"kind": kind, "why": why[:WHY_LETTERS_MAX], **more}

    def told(self, kind: str, why: str, now_s: float) -> None:
        """The link of it is written."""
        self._told_s[kind, why] = now_s
        self._room, self.left_out = self._room - 1, 0
