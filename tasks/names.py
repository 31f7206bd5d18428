"""The one rule for names that become a folder, a label and a file: those of rollouts and of accounts."""

from __future__ import annotations

import re
from typing import Final

PATTERN: Final = r"[a-z0-9][a-z0-9._-]{0,60}"
ALLOWED: Final = "a small letter or digit, then at most 60 of small letters, digits, - _ and single dots"

SLACK_VARIABLES = (
    "SLIPWAY_SLACK_WEBHOOK", "SLIPWAY_SLACK_TOKEN", "SLIPWAY_SLACK_CHANNEL", "SLIPWAY_SLACK_API_URL",
)  # fmt: skip
"""How Slack is reached: a webhook, or a token and a channel; and where its API is, if not at slack.com, with a slash at
its end."""


class NameRefused(Exception):
    """A name that is not allowed. One line: the thing, the value, what is allowed."""


def check_name(what: str, name: str) -> str:
    """`name`, where it is allowed. Raises NameRefused: a name with `..` or `/` would lead out of its folder."""
    if not re.fullmatch(PATTERN, name) or ".." in name:
        raise NameRefused(f"{what}: {name[:80]!r}; allowed: {ALLOWED}")
    return name
