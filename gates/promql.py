"""What a criterion's PromQL names and selects: enough of the language to refuse a query, never to evaluate one.

`$account`, `$rollout` and `$stage` stand for label values, `$window` for the criterion's span. Prometheus itself is
the only judge of whether a query is well formed.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, NamedTuple

COMPARISONS: Final = frozenset({"==", "!=", ">", "<", ">=", "<=", "bool"})
INVENTS_DATA: Final = frozenset({"or", "absent", "absent_over_time", "vector"})
"""Words that give a value where there was no data; a gate must see that there was none."""

_KEYWORDS: Final = frozenset(
    {"by", "without", "on", "ignoring", "group_left", "group_right", "offset", "bool", "and", "or", "unless"}
    | {"inf", "nan", "atan2"}
)
_LABEL_LISTS: Final = frozenset({"by", "without", "on", "ignoring", "group_left", "group_right"})
_TOKEN: Final = re.compile(
    r"""
      (?P<string>"(?:\\.|[^"\\])*"|'(?:\\.|[^'\\])*'|`[^`]*`)
    | (?P<range>\[[^\]]*\])
    | (?P<word>[A-Za-z_:][A-Za-z0-9_:]*)
    | (?P<number>\d+(?:\.\d+)?(?:[eE][+-]?\d+)?(?:ms|[smhdwy])?)
    | (?P<operator>==|!=|>=|<=|=~|!~|[-+*/%^<>=(){},@])
    | (?P<space>\s+)
    | (?P<other>.)
    """,
    re.VERBOSE,
)
_VARIABLE: Final = re.compile(r"\$([a-z_]+)")
_DURATION_PART: Final = re.compile(r"(\d+)(ms|[smhdwy])")
_SECONDS: Final = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0, "w": 604_800.0, "y": 31_536_000.0}
VARIABLES: Final = ("account", "rollout", "stage", "window")
SELECTED_BY: Final = VARIABLES[:3]


class Matcher(NamedTuple):
    """`label operator "value"` between braces."""

    label: str
    operator: str
    value: str


class Use(NamedTuple):
    """One metric in a query and what it is selected by."""

    metric: str
    matchers: tuple[Matcher, ...]


@dataclass(frozen=True, slots=True)
class Selector:
    """Which bot: label values, and `since_s` (unix time) before which no query looks."""

    account: str
    rollout: str
    stage: str
    since_s: float

    def window_s(self, at_s: float, window_s: float | None) -> float:
        """The span of a query at `at_s`: `window_s` (None: all of it), no longer than since `since_s`, at least 1 s."""
        elapsed_s = max(1.0, at_s - self.since_s)
        return elapsed_s if window_s is None else min(window_s, elapsed_s)

    @property
    def matchers(self) -> str:
        """As they stand between braces."""
        return ",".join(f'{name}="{_escaped(getattr(self, name))}"' for name in SELECTED_BY)


def resolve(query: str, selector: Selector, window_s: float) -> str:
    """`query` with its variables replaced. Raises KeyError for a variable that does not exist."""
    values = {name: _escaped(getattr(selector, name)) for name in SELECTED_BY}
    values["window"] = f"{max(1, round(window_s * 1000))}ms"
    return _VARIABLE.sub(lambda match: values[match[1]], query)


def unknown_variables(query: str) -> list[str]:
    """`$names` that nothing replaces."""
    return [name for name in _VARIABLE.findall(query) if name not in VARIABLES]


def words(query: str) -> Iterator[str]:
    """Operators, keywords and functions outside braces, strings and ranges."""
    depth = 0
    for kind, text in _tokens(query):
        depth += {"{": 1, "}": -1}.get(text, 0) if kind == "operator" else 0
        if depth == 0 and kind in {"operator", "word"} and text != "}":
            yield text


def uses(query: str) -> list[Use]:
    """Every metric that `query` reads, with its matchers. A selector without a name is a use of metric ''."""
    tokens = list(_tokens(query))
    found: list[Use] = []
    at = 0
    while at < len(tokens):
        kind, text = tokens[at]
        following = tokens[at + 1][1] if at + 1 < len(tokens) else ""
        if kind == "word" and text in _LABEL_LISTS and following == "(":
            at = _closing(tokens, at + 1, ")")
        elif kind == "word" and text not in _KEYWORDS and following not in {"(", "by", "without"}:
            matchers, at = _matchers(tokens, at + 1) if following == "{" else ((), at)
            found.append(Use(text, matchers))
        elif text == "{":
            matchers, at = _matchers(tokens, at)
            found.append(Use("", matchers))
        at += 1
    return found


def ranges_s(query: str) -> list[float]:
    """The literal spans in square brackets, seconds; `$window` is not one of them."""
    spans = [text[1:-1].split(":")[0].strip() for kind, text in _tokens(query) if kind == "range"]
    return [
        sum(int(n) * _SECONDS[unit] for n, unit in _DURATION_PART.findall(span)) for span in spans if span[:1] != "$"
    ]


def _matchers(tokens: list[tuple[str, str]], opening: int) -> tuple[tuple[Matcher, ...], int]:
    closing = _closing(tokens, opening, "}")
    inside = tokens[opening + 1 : closing]
    found = [
        Matcher(inside[at][1], inside[at + 1][1], inside[at + 2][1][1:-1])
        for at in range(len(inside) - 2)
        if inside[at][0] == "word" and inside[at + 2][0] == "string"
    ]
    return tuple(found), closing


def _closing(tokens: list[tuple[str, str]], opening: int, bracket: str) -> int:
    return next((at for at in range(opening, len(tokens)) if tokens[at][1] == bracket), len(tokens) - 1)


def _tokens(query: str) -> Iterator[tuple[str, str]]:
    for match in _TOKEN.finditer(query):
        if match.lastgroup and match.lastgroup != "space":
            yield match.lastgroup, match[0]


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
