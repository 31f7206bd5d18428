"""The small language of a `table` criterion: a sum of the journal's totals, chosen by name and labels.

    mm_recon_divergence_total{type=~"orders_remote_only|position_mismatch"} + mm_taker_fills_total

No comparison, no default: a term that finds no total has no value, and so has the whole sum.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final, NamedTuple

from bot.metrics import CATALOGUE
from gates import promql
from gates.promql import Matcher

Totals = Mapping[tuple[str, str], int]

COUNTERS: Final[Mapping[str, tuple[str, ...]]] = {
    metric.name: metric.labels for metric in CATALOGUE if metric.kind == "counter" and metric.unit != "seconds"
}
"""The totals a sum may name, with their labels. The journal's totals are whole numbers, so times are not among them."""


class TotalsError(Exception):
    """Not a sum of totals. One line for a person."""


class Term(NamedTuple):
    """One total and what its labels must match."""

    metric: str
    matchers: tuple[Matcher, ...]

    def chooses(self, name: str, labels: str) -> bool:
        """Whether a total belongs to it; `labels` is `k=v,k=v`."""
        if name != self.metric:
            return False
        values = dict(pair.split("=", 1) for pair in labels.split(",") if "=" in pair)
        return all(_matches(matcher, values.get(matcher.label, "")) for matcher in self.matchers)


def parse(query: str) -> tuple[Term, ...]:
    """The terms of `query`. Raises TotalsError naming what is wrong and what is allowed."""
    for word in promql.words(query):
        if word != "+" and not word.startswith("mm_"):
            raise TotalsError(f'{word!r} in a sum of totals; allowed: names of counters, + and {{label="value"}}')
    terms = tuple(Term(use.metric, use.matchers) for use in promql.uses(query))
    if not terms or len(terms) != [*promql.words(query)].count("+") + 1:
        raise TotalsError(f"{query!r} is no sum of totals; allowed: names of counters joined by +")
    for term in terms:
        if term.metric not in COUNTERS:
            raise TotalsError(f"unknown total {term.metric!r}; allowed: a counter of the metric catalogue")
        for matcher in term.matchers:
            if matcher.label not in COUNTERS[term.metric]:
                allowed = ", ".join(COUNTERS[term.metric]) or "none"
                raise TotalsError(f"label {matcher.label!r} of {term.metric}; allowed: {allowed}")
            _refuse_bad_expression(matcher)
    return terms


def evaluate(terms: tuple[Term, ...], totals: Totals) -> int | None:
    """The sum, or None where a term finds no total at all."""
    value = 0
    for term in terms:
        found = [count for (name, labels), count in totals.items() if term.chooses(name, labels)]
        if not found:
            return None
        value += sum(found)
    return value


def counted(terms: tuple[Term, ...], totals: Totals) -> int:
    """The sum of what there is, where a term that finds no total is 0: for what is taken off, and for no verdict."""
    return sum(evaluate((term,), totals) or 0 for term in terms)


def _matches(matcher: Matcher, value: str) -> bool:
    match matcher.operator:
        case "=":
            return value == matcher.value
        case "!=":
            return value != matcher.value
        case "=~":
            return re.fullmatch(matcher.value, value) is not None
        case _:
            return re.fullmatch(matcher.value, value) is None


def _refuse_bad_expression(matcher: Matcher) -> None:
    if matcher.operator not in {"=", "!=", "=~", "!~"}:
        raise TotalsError(f"{matcher.operator!r} on label {matcher.label!r}; allowed: =, !=, =~, !~")
    try:
        re.compile(matcher.value)
    except re.error as error:
        raise TotalsError(f"label {matcher.label!r}: {matcher.value!r} is no regular expression: {error}") from None
