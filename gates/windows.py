"""When a rollout may promote: days, hours, around funding, and periods in which nothing changes. Pure.

Outside them a rollout waits; a rollback never does. All times are UTC.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Annotated, Final, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

Day = Literal["mon", "tue", "wed", "thu", "fri", "sat", "sun"]
DAYS: Final[tuple[Day, ...]] = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
FUNDING_HOURS: Final = (0, 8, 16)
"""The hours at which the venue settles funding, UTC."""
MINUTES_A_DAY: Final = 24 * 60
LOOK_AHEAD_DAYS: Final = 62
"""How far the next opening is looked for; what stays closed for longer has no date."""


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", str_strip_whitespace=True)


class Closed(_Part):
    """A period without promotions: a freeze, or the venue's maintenance. `until` is the first moment open again."""

    since: datetime
    until: datetime
    why: Annotated[str, Field(min_length=3, max_length=80)]

    @field_validator("since", "until")
    @classmethod
    def _in_utc(cls, at: datetime) -> datetime:
        return at.replace(tzinfo=UTC) if at.tzinfo is None else at.astimezone(UTC)

    @model_validator(mode="after")
    def _forward(self) -> Self:
        if self.until <= self.since:
            raise ValueError(f"until {self.until:%Y-%m-%d %H:%M}; allowed: after since {self.since:%Y-%m-%d %H:%M}")
        return self


class PromotionWindows(_Part):
    """`hours` as `08:00-16:00`, the end not included; None is the whole day. `funding_margin_min`: so many minutes
    before and after each settlement of funding nothing is promoted."""

    days: Annotated[tuple[Day, ...], Field(min_length=1)] = DAYS
    hours: Annotated[str, Field(pattern=r"^([01]\d|2[0-3]):[0-5]\d-(([01]\d|2[0-3]):[0-5]\d|24:00)$")] | None = None
    funding_margin_min: Annotated[int, Field(ge=0, le=120)] = 0
    closed: tuple[Closed, ...] = ()

    @model_validator(mode="after")
    def _opens_at_all(self) -> Self:
        if self.hours is not None and self._from_to[0] >= self._from_to[1]:
            raise ValueError(f"hours {self.hours}; allowed: from an earlier time to a later one of the same day")
        return self

    @property
    def _from_to(self) -> tuple[int, int]:
        """Minutes of the day."""
        if self.hours is None:
            return 0, MINUTES_A_DAY
        since, until = (text.split(":") for text in self.hours.split("-"))
        return int(since[0]) * 60 + int(since[1]), int(until[0]) * 60 + int(until[1])

    def closed_because(self, at: datetime) -> str:
        """Why nothing is promoted at that moment; empty while the window is open."""
        at = at.astimezone(UTC)
        if DAYS[at.weekday()] not in self.days:
            return f"{at:%A} is no day of promotion"
        minute, (since, until) = at.hour * 60 + at.minute, self._from_to
        if not since <= minute < until:
            return f"{at:%H:%M} UTC is outside {self.hours}"
        for hour in FUNDING_HOURS:
            away = (minute - hour * 60) % MINUTES_A_DAY
            if min(away, MINUTES_A_DAY - away) < self.funding_margin_min:
                return f"funding is settled at {hour:02d}:00 UTC, {self.funding_margin_min} min away from it is wanted"
        found = next((one for one in self.closed if one.since <= at < one.until), None)
        return "" if found is None else found.why

    def open_since(self, at: datetime, earliest: datetime) -> datetime | None:
        """Since when it has been open without a break until `at`; `earliest` where that began before it. None where it
        is closed at that moment."""
        at = at.astimezone(UTC)
        if self.closed_because(at):
            return None
        # It opens at nothing but these moments, so the last of them that was closed just before began this opening.
        for opening in sorted(self._openings(earliest.astimezone(UTC), at), reverse=True):
            if self.closed_because(opening - timedelta(microseconds=1)):
                return opening
        return earliest

    def _openings(self, since: datetime, until: datetime) -> set[datetime]:
        """Every moment from `since` to `until` at which a day, the hours, a margin or a closed period could end."""
        day, found = since.replace(hour=0, minute=0, second=0, microsecond=0), {one.until for one in self.closed}
        minutes = {0, self._from_to[0], *(hour * 60 + self.funding_margin_min for hour in FUNDING_HOURS)}
        while day <= until:
            found |= {day + timedelta(minutes=minute) for minute in minutes}
            day += timedelta(days=1)
        return {one for one in found if since <= one <= until}

    def next_open(self, at: datetime) -> datetime | None:
        """The first whole minute from `at` on that is open, `at` itself where it is; None within LOOK_AHEAD_DAYS."""
        at = at.astimezone(UTC)
        if not self.closed_because(at):
            return at
        minute = at.replace(second=0, microsecond=0) + timedelta(minutes=1)
        for ahead in range(LOOK_AHEAD_DAYS * MINUTES_A_DAY):
            one = minute + timedelta(minutes=ahead)
            if not self.closed_because(one):
                return one
        return None
