"""Readings from Prometheus: one reused client, hard time-outs, and every way in which it can fail to answer told apart.

Never raises for an outage. A round asks first whether this bot was scraped of late: a series that Prometheus still
remembers is not a measurement of now. Coverage is counted in scrapes, observed against expected.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from typing import Any, Final

import httpx

from gates import promql
from gates.criteria import Criterion
from gates.judge import Cause, Reading, Sample
from gates.promql import Selector

FRESHNESS_LOOK_BACK: Final = 10
"""The freshness query looks back over this many times `stale_after_s`, to say how old the newest scrape is."""

REFUSALS: Final = ("bad_data", "execution")
"""Error types of Prometheus' HTTP API that are the query's fault; the others (timeout, canceled, unavailable, internal)
are the server's, for now."""


@dataclass(frozen=True, slots=True)
class Failed:
    """No answer that can be trusted: which cause, and why in one sentence. `refused`: Prometheus takes no such query,
    however often it is asked."""

    cause: Cause
    detail: str
    refused: bool = False


class PrometheusSource:
    """One Prometheus. `timeout_s` bounds each query from first byte to last; `stale_after_s` the age that is believed;
    `scrape_every_s` what a full window holds. Close it with `aclose`, or use it as `async with`."""

    def __init__(
        self, url: str, timeout_s: float = 2.0, stale_after_s: float = 3.0, scrape_every_s: float = 1.0
    ) -> None:
        self.url = url.rstrip("/")
        self._timeout_s = timeout_s
        self._stale_after_s = stale_after_s
        self._scrape_every_s = scrape_every_s
        self._client = httpx.AsyncClient(base_url=self.url, timeout=timeout_s, trust_env=False)

    async def __aenter__(self) -> PrometheusSource:
        return self

    async def __aexit__(self, *_exc: object) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Closes the connections."""
        await self._client.aclose()

    async def measure(self, criteria: Sequence[Criterion], selector: Selector, at_s: float) -> list[Reading]:
        """One reading for each criterion of source `promql`, in order, as of unix time `at_s`.

        Once Prometheus is found unreachable the rest of the round is not asked, so a round is late by one time-out.
        """
        blind = await self.freshness(selector, at_s)
        scrapes: dict[tuple[str, float], int | Failed] = {}
        readings = []
        for criterion in criteria:
            if criterion.source == "promql":
                reading = await self._measure_one(criterion, selector, at_s, blind, scrapes)
                if reading.failure is Cause.SOURCE_UNREACHABLE:
                    blind = Failed(Cause.SOURCE_UNREACHABLE, reading.detail)
                readings.append(reading)
        return readings

    async def freshness(self, selector: Selector, at_s: float) -> Failed | None:
        """Why nothing about this bot can be believed now, None where it was scraped within `stale_after_s`.

        STALE: Prometheus itself has not tried of late. NO_DATA: it tries, and the bot does not answer.
        """
        look_back_s = round(self._stale_after_s * FRESHNESS_LOOK_BACK)
        answer = await self.query(f"up{{{selector.matchers}}}[{look_back_s}s]", at_s)
        if isinstance(answer, Failed):
            return answer
        scrapes = [(float(at), value) for series in answer for at, value in series["values"]]
        if not scrapes:
            return Failed(Cause.STALE, f"Prometheus has not scraped this bot in the last {look_back_s} s")
        tried_age_s = at_s - max(at for at, _ in scrapes)
        answered = [at for at, value in scrapes if value == "1"]
        if answered and at_s - max(answered) <= self._stale_after_s:
            return None
        limit = f"limit {self._stale_after_s:g} s"
        if tried_age_s > self._stale_after_s:
            return Failed(Cause.STALE, f"the newest scrape is {tried_age_s:.1f} s old, {limit}")
        silent = f"for {at_s - max(answered):.1f} s" if answered else f"for {look_back_s} s or more"
        return Failed(Cause.NO_DATA, f"the bot has not answered a scrape {silent} (up = 0), {limit}")

    async def totals(self, names: Sequence[str], selector: Selector, at_s: float) -> Mapping[str, Decimal] | Failed:
        """The present value of each counter in `names`, summed over labels; one it does not know is left out."""
        blind = await self.freshness(selector, at_s)
        if blind is not None:
            return blind
        query = f'sum by (metric) (label_replace({{__name__=~"{"|".join(names)}",{selector.matchers}}}, '
        answer = await self.query(query + '"metric", "$1", "__name__", "(.+)"))', at_s)
        if isinstance(answer, Failed):
            return answer
        found = {series["metric"]["metric"]: _finite(series["value"][1]) for series in answer}
        return {name: value for name, value in found.items() if value is not None}

    async def firing(self, account: str, rollout: str, stage: str, **labels: str) -> int | Failed:
        """How many alerts about this bot fire, by Prometheus' own word; Failed where no alert rule is loaded: the
        silence of rules that are not there says nothing. `labels`: only those that have these too."""
        loaded = await self._told("/api/v1/rules?type=alert")
        if isinstance(loaded, Failed):
            return loaded
        if not any(group.get("rules") for group in loaded.get("groups", ())):
            return Failed(Cause.NO_DATA, f"{self.url} has no alert rule loaded")
        told = await self._told("/api/v1/alerts")
        if isinstance(told, Failed):
            return told
        wanted = {"account": account, "rollout": rollout, "stage": stage, **labels}.items()
        return sum(1 for one in told["alerts"] if one["state"] == "firing" and wanted <= one["labels"].items())

    async def _told(self, path: str) -> dict[str, Any] | Failed:
        """The `data` of a GET of Prometheus' API."""
        try:
            async with asyncio.timeout(self._timeout_s):
                data = json.loads((await self._client.get(path)).content)["data"]
        except (TimeoutError, httpx.TimeoutException):
            return Failed(Cause.SOURCE_UNREACHABLE, f"{self.url} did not answer within {self._timeout_s:g} s")
        except httpx.TransportError as error:
            return Failed(Cause.SOURCE_UNREACHABLE, f"{self.url}: {type(error).__name__}")
        except (ValueError, KeyError, TypeError):
            return Failed(Cause.SOURCE_ERROR, f"{path}: not an answer in Prometheus' form")
        return data if isinstance(data, dict) else Failed(Cause.SOURCE_ERROR, f"{path}: no object")

    async def query(self, query: str, at_s: float) -> list[Any] | Failed:
        """Prometheus' `result` list for an instant query at `at_s`, or why there is none."""
        form = {"query": query, "time": f"{at_s:.3f}", "timeout": f"{max(1, round(self._timeout_s * 1000))}ms"}
        try:
            async with asyncio.timeout(self._timeout_s):
                response = await self._client.post("/api/v1/query", data=form)
        except (TimeoutError, httpx.TimeoutException):
            return Failed(Cause.SOURCE_UNREACHABLE, f"{self.url} did not answer within {self._timeout_s:g} s")
        except httpx.TransportError as error:
            said = " ".join(str(error).split()) or error.__class__.__name__
            return Failed(Cause.SOURCE_UNREACHABLE, f"{self.url}: {said}")
        return _answer(response)

    async def _measure_one(
        self,
        criterion: Criterion,
        selector: Selector,
        at_s: float,
        blind: Failed | None,
        scrapes: dict[tuple[str, float], int | Failed],
    ) -> Reading:
        began_ns = time.monotonic_ns()
        window_s = selector.window_s(at_s, criterion.window_s)
        query = promql.resolve(criterion.query or "", selector, window_s)
        expected, observed = 0, 0
        answer: list[Any] | Failed = blind or await self.query(query, at_s)
        if criterion.windowed and not isinstance(answer, Failed):
            expected = max(1, int(window_s / self._scrape_every_s) - 1)  # a window may begin and end between scrapes
            counted = await self._scrapes(criterion, selector, window_s, at_s, scrapes)
            answer, observed = (counted, 0) if isinstance(counted, Failed) else (answer, counted)
        samples, failure, detail = _samples(answer)
        return Reading(
            criterion_id=criterion.id,
            asked_at_ms=round(at_s * 1000),
            took_ms=(time.monotonic_ns() - began_ns) // 1_000_000,
            query=query,
            samples=samples,
            failure=failure,
            detail=detail,
            expected_samples=expected,
            observed_samples=observed,
        )

    async def _scrapes(
        self,
        criterion: Criterion,
        selector: Selector,
        window_s: float,
        at_s: float,
        known: dict[tuple[str, float], int | Failed],
    ) -> int | Failed:
        """Scrapes over the window: those the bot answered, or for a query of `up` alone those that were tried."""
        only_up = all(use.metric == "up" for use in promql.uses(criterion.query or ""))
        function = "count_over_time" if only_up else "sum_over_time"
        key = (function, window_s)
        if key not in known:
            span = f"[{max(1, round(window_s * 1000))}ms]"
            answer = await self.query(f"sum({function}(up{{{selector.matchers}}}{span}))", at_s)
            known[key] = answer if isinstance(answer, Failed) else _first_count(answer)
        return known[key]


def _answer(response: httpx.Response) -> list[Any] | Failed:
    """The result list, or Prometheus' own message in one line."""
    try:
        body = json.loads(response.content)
        if body["status"] == "success":
            result = body["data"]["result"]
            if body["data"]["resultType"] in {"vector", "matrix"}:
                return list(result)
            return [{"metric": {}, "value": result}]
        message = " ".join(f"{body.get('errorType', 'error')}: {body.get('error', '')}".split())
        refused = body.get("errorType") in REFUSALS
        return Failed(Cause.SOURCE_ERROR, f"Prometheus answered {response.status_code}: {message}", refused)
    except (ValueError, KeyError, TypeError, AttributeError):
        return Failed(Cause.SOURCE_ERROR, f"HTTP {response.status_code} without an answer in Prometheus' form")


def _samples(answer: list[Any] | Failed) -> tuple[tuple[Sample, ...], Cause | None, str]:
    if isinstance(answer, Failed):
        return (), answer.cause, answer.detail
    if any("value" not in series for series in answer):
        return (), Cause.SOURCE_ERROR, "the query gives a range, not one value a series"
    samples = tuple(
        Sample(round(float(series["value"][0]) * 1000), _finite(series["value"][1]), dict(series["metric"]))
        for series in answer
    )
    return samples, None, "" if samples else "the query found no series"


def _finite(text: str) -> Decimal | None:
    try:
        value = Decimal(text)
    except InvalidOperation:
        return None
    return value if value.is_finite() else None


def _first_count(answer: list[Any]) -> int:
    value = _finite(answer[0]["value"][1]) if answer else None
    return 0 if value is None else int(value)
