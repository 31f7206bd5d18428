"""The one rule for names that become a folder, a label and a file: those of rollouts and of accounts."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

from bot.runtime.secrets import OWN_KEY

PATTERN: Final = r"[a-z0-9][a-z0-9._-]{0,60}"
ALLOWED: Final = "a small letter or digit, then at most 60 of small letters, digits, - _ and single dots"

SLACK_VARIABLES = (
    "SLIPWAY_SLACK_WEBHOOK", "SLIPWAY_SLACK_TOKEN", "SLIPWAY_SLACK_CHANNEL", "SLIPWAY_SLACK_API_URL",
)  # fmt: skip
"""How Slack is reached: a webhook, or a token and a channel; and where its API is, if not at slack.com, with a slash at
its end."""
SECRET_VARIABLES: Final = (*SLACK_VARIABLES, "SLIPWAY_RECORD_URL", "MM_REDIS_PASSWORD", *OWN_KEY)


def without_secrets(environment: Mapping[str, str]) -> dict[str, str]:
    """For a child that needs the environment of whoever starts it, but reaches neither Slack nor the record nor a
    journal, nor the venue by the kill switch's own key."""
    return {name: value for name, value in environment.items() if name not in SECRET_VARIABLES}


class NameRefused(Exception):
    """A name that is not allowed. One line: the thing, the value, what is allowed."""


def check_name(what: str, name: str) -> str:
    """`name`, where it is allowed. Raises NameRefused: a name with `..` or `/` would lead out of its folder."""
    if not re.fullmatch(PATTERN, name) or ".." in name:
        raise NameRefused(f"{what}: {name[:80]!r}; allowed: {ALLOWED}")
    return name
