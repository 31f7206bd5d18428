"""Named checks: what neither a query nor a table can say, computed from facts that the guard has gathered.

A check is a pure function of `CheckContext`; gathering (asking the process table, the bot, the journal, Prometheus)
is the guard's. A fact that could not be had is None, and its check is UNKNOWN.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Final, NamedTuple, Protocol

from gates.criteria import Criterion, Unit
from gates.judge import Cause, Reading, Sample

WITNESSED: Final = (
    "mm_crossing_orders_total",
    "mm_taker_fills_total",
    "mm_filter_violations_total",
    "mm_recon_divergence_total",
    "mm_freeze_events_total",
)
"""Counters on which journal and Prometheus must agree: those that decide, and that do not move in a healthy run."""


class CheckContext(Protocol):
    """The facts. `*_error` says why a fact is None."""

    @property
    def process_alive(self) -> bool | None:
        """Whether the launched process (PID and start time) still runs; None where the process table was unreadable."""

    @property
    def digest_signed(self) -> str:
        """The settings digest that was signed."""

    @property
    def digest_reported(self) -> str | None:
        """The digest the bot says it runs."""

    @property
    def version_signed(self) -> str:
        """The code version that was signed."""

    @property
    def version_reported(self) -> str | None:
        """The code version the bot says it runs."""

    @property
    def status_error(self) -> str:
        """Why the bot's own word is missing, empty where it answered."""

    @property
    def grant_age_s(self) -> float | None:
        """Since the bot last took a renewal, by the bot's clock; None where it holds no grant or did not answer."""

    @property
    def launching(self) -> bool:
        """The bot is being started or taken over: that it holds no grant yet is the guard's doing."""

    @property
    def grant_ttl_s(self) -> float:
        """How long a grant lasts."""

    @property
    def journal_totals(self) -> Mapping[str, int] | None:
        """Totals of the present run by metric name, summed over labels; None where its journal could not be read."""

    @property
    def prometheus_totals(self) -> Mapping[str, Decimal] | None:
        """The same by Prometheus; None where it could not be asked."""

    @property
    def witness_error(self) -> str:
        """Why one of the two is missing."""

    @property
    def drills_missing(self) -> int | None:
        """Drills of this part that have not passed; None where the record could not be read."""

    @property
    def part_s(self) -> float | None:
        """How long this part has lasted since the bot was warm, its drills included; None before."""

    @property
    def report_repeats(self) -> bool | None:
        """Whether the same shadow run twice gave the same report to the byte; None where it was not made (yet)."""

    @property
    def repeated_placed(self) -> Decimal | None:
        """Orders that this run placed, of its iterations; None as above."""

    @property
    def repeated_filled(self) -> Decimal | None:
        """Orders that were filled in it, of those placed; None as above, and where it placed none."""

    @property
    def attempt_net_quote(self) -> Decimal | None:
        """Net result of this attempt since its launch, by the bot's ledger; None where the bot does not tell it."""

    @property
    def candidate_net_quote(self) -> Decimal | None:
        """Net result of all live attempts of this candidate in the last 24 hours; None where one of them is unknown."""

    @property
    def stage_net_quote(self) -> Decimal | None:
        """Net result of all attempts of this candidate at this stage, from their launches on; None as above."""

    @property
    def kill_switch_runs(self) -> int | None:
        """Kill switches carried out on the account since what is judged began; None where that is not known."""

    @property
    def kill_switch_error(self) -> str:
        """Why it is not known."""

    @property
    def alerts_firing(self) -> int | None:
        """Alerts about this bot that fire; None where no rule is loaded or Prometheus does not tell."""

    @property
    def alerts_error(self) -> str:
        """Why it is not known."""

    @property
    def backup_whole(self) -> bool | None:
        """Whether the newest restored backup is whole; None where there is none."""

    @property
    def backup_error(self) -> str:
        """What is wrong with it, or why it is not known."""

    @property
    def told_error(self) -> str:
        """Why drills, the repeated run or a result is missing."""

    @property
    def statement_stale(self) -> bool | None:
        """Whether the venue's last word on the account is too old to count; None where the bot does not say."""

    @property
    def margin_ratio(self) -> Decimal | None:
        """Margin in use / equity by that word; None where it was never said, or is too old."""

    @property
    def watchdog_beats(self) -> bool | None:
        """Whether the account's watchdog answers with a fresh beat; None where that could not be looked at."""

    @property
    def watchdog_said(self) -> str:
        """What was found of it."""


@dataclass(frozen=True, slots=True)
class CheckFacts:
    """A `CheckContext` to fill. What is left out is unknown."""

    digest_signed: str
    version_signed: str
    grant_ttl_s: float
    process_alive: bool | None = None
    digest_reported: str | None = None
    version_reported: str | None = None
    status_error: str = ""
    grant_age_s: float | None = None
    launching: bool = False
    journal_totals: Mapping[str, int] | None = None
    prometheus_totals: Mapping[str, Decimal] | None = None
    witness_error: str = ""
    drills_missing: int | None = None
    part_s: float | None = None
    report_repeats: bool | None = None
    repeated_placed: Decimal | None = None
    repeated_filled: Decimal | None = None
    attempt_net_quote: Decimal | None = None
    candidate_net_quote: Decimal | None = None
    stage_net_quote: Decimal | None = None
    told_error: str = ""
    statement_stale: bool | None = None
    margin_ratio: Decimal | None = None
    watchdog_beats: bool | None = None
    watchdog_said: str = ""
    kill_switch_runs: int | None = None
    kill_switch_error: str = ""
    alerts_firing: int | None = None
    alerts_error: str = ""
    backup_whole: bool | None = None
    backup_error: str = ""


class Answer(NamedTuple):
    """A check's value, or the cause why it has none."""

    value: Decimal | None
    failure: Cause | None = None
    detail: str = ""


class Check(NamedTuple):
    """A check's function, the unit of its value, and what it says in one sentence."""

    ask: Callable[[CheckContext], Answer]
    unit: Unit
    meaning: str


def measure_checks(criteria: Sequence[Criterion], context: CheckContext, asked_at_ms: int) -> list[Reading]:
    """One reading for each criterion of source `check`, in order. An unknown name is a source error."""
    readings = []
    for criterion in criteria:
        if criterion.source == "check":
            name = criterion.check or ""
            found = CHECKS.get(name)
            answer = found.ask(context) if found else Answer(None, Cause.SOURCE_ERROR, f"no check is named {name!r}")
            samples = () if answer.value is None else (Sample(asked_at_ms, answer.value, {}),)
            readings.append(Reading(criterion.id, asked_at_ms, 0, name, samples, answer.failure, answer.detail))
    return readings


def by_name(totals: Mapping[tuple[str, str], int]) -> dict[str, int]:
    """A journal's totals summed over labels."""
    summed: dict[str, int] = {}
    for (name, _), value in totals.items():
        summed[name] = summed.get(name, 0) + value
    return summed


def _flag(holds: bool, detail: str = "") -> Answer:
    return Answer(Decimal(int(holds)), None, detail)


def _process_up(context: CheckContext) -> Answer:
    if context.process_alive is None:
        return Answer(None, Cause.SOURCE_ERROR, "the process table could not be read")
    return _flag(context.process_alive)


def _digest_as_signed(context: CheckContext) -> Answer:
    if context.digest_reported is None or context.version_reported is None:
        return Answer(None, Cause.NO_DATA, context.status_error or "the bot reports no digest")
    same = (context.digest_reported, context.version_reported) == (context.digest_signed, context.version_signed)
    said = f"runs {context.version_reported} {context.digest_reported[:12]}, "
    return _flag(same, said + f"signed {context.version_signed} {context.digest_signed[:12]}")


def _grant_fresh(context: CheckContext) -> Answer:
    if context.grant_age_s is None and (context.status_error or context.launching):
        return Answer(None, Cause.NO_DATA, context.status_error or "no grant has been given yet")
    fresh = context.grant_age_s is not None and context.grant_age_s <= context.grant_ttl_s
    return _flag(fresh, "no grant held" if context.grant_age_s is None else f"{context.grant_age_s:.1f} s old")


def _journal_agrees_with_prometheus(context: CheckContext) -> Answer:
    """The greatest difference between the two witnesses over WITNESSED."""
    journal, prometheus = context.journal_totals, context.prometheus_totals
    if journal is None or prometheus is None:
        return Answer(None, Cause.SOURCE_ERROR, context.witness_error or "one of the two witnesses is missing")
    missing = [name for name in WITNESSED if name not in journal or name not in prometheus]
    if missing:
        return Answer(None, Cause.NO_DATA, f"not in both: {', '.join(missing)}")
    gaps = {name: abs(Decimal(journal[name]) - prometheus[name]) for name in WITNESSED}
    worst = max(gaps, key=lambda name: gaps[name])
    return Answer(gaps[worst], None, f"{worst}: journal {journal[worst]}, Prometheus {prometheus[worst]}")


def _drills_passed(context: CheckContext) -> Answer:
    if context.drills_missing is None:
        return Answer(None, Cause.SOURCE_ERROR, context.told_error or "the record could not be read")
    return Answer(Decimal(context.drills_missing))


def _part_lasts(context: CheckContext) -> Answer:
    if context.part_s is None:
        return Answer(None, Cause.NO_DATA, "the bot is not warm yet")
    return Answer(Decimal(str(round(context.part_s, 3))))


def _report_repeats(context: CheckContext) -> Answer:
    if context.report_repeats is None:
        return Answer(None, Cause.NO_DATA, context.told_error or "the run was not repeated yet")
    return _flag(context.report_repeats)


def _repeated_placed(context: CheckContext) -> Answer:
    return _repeated(context.repeated_placed, context)


def _repeated_filled(context: CheckContext) -> Answer:
    return _repeated(context.repeated_filled, context)


def _repeated(share: Decimal | None, context: CheckContext) -> Answer:
    if share is None:
        said = "it placed nothing" if context.report_repeats is not None else "the run was not repeated yet"
        return Answer(None, Cause.NO_DATA, context.told_error or said)
    return Answer(share)


def _attempt_pnl(context: CheckContext) -> Answer:
    return _result(context.attempt_net_quote, context)


def _candidate_pnl_24h(context: CheckContext) -> Answer:
    return _result(context.candidate_net_quote, context)


def _stage_pnl(context: CheckContext) -> Answer:
    return _result(context.stage_net_quote, context)


def _result(net_quote: Decimal | None, context: CheckContext) -> Answer:
    if net_quote is None:
        # Nothing that the bot does or leaves undone: what is missing stands in our own record.
        return Answer(None, Cause.SOURCE_ERROR, context.told_error or "the result of an attempt is not known")
    return Answer(net_quote)


def _margin_ratio(context: CheckContext) -> Answer:
    if context.statement_stale:
        return Answer(None, Cause.STALE, "the venue has not stated the account for longer than its word counts")
    if context.margin_ratio is None:
        return Answer(None, Cause.NO_DATA, context.status_error or "the venue has not stated the account yet")
    return Answer(context.margin_ratio)


def _watchdog_beats(context: CheckContext) -> Answer:
    if context.watchdog_beats is None:
        return Answer(None, Cause.SOURCE_ERROR, context.watchdog_said or "the watchdog was not looked at")
    return _flag(context.watchdog_beats, context.watchdog_said)


def _kill_switch_unused(context: CheckContext) -> Answer:
    if context.kill_switch_runs is None:
        return Answer(None, Cause.SOURCE_ERROR, context.kill_switch_error or "its reports could not be read")
    return Answer(Decimal(context.kill_switch_runs))


def _alerts_firing(context: CheckContext) -> Answer:
    if context.alerts_firing is None:
        return Answer(None, Cause.SOURCE_ERROR, context.alerts_error or "Prometheus did not tell its alerts")
    return Answer(Decimal(context.alerts_firing))


def _backup_is_whole(context: CheckContext) -> Answer:
    if context.backup_whole is None:
        return Answer(None, Cause.NO_DATA, context.backup_error or "no backup has been restored yet")
    return _flag(context.backup_whole, context.backup_error)


CHECKS: Final[Mapping[str, Check]] = {
    "process_up": Check(_process_up, "flag", "The process that was launched still runs."),
    "digest_as_signed": Check(_digest_as_signed, "flag", "The bot runs the code and settings that were signed."),
    "grant_fresh": Check(_grant_fresh, "flag", "The bot holds a grant that was renewed within its time to live."),
    "journal_agrees_with_prometheus": Check(
        _journal_agrees_with_prometheus, "count", "Journal and Prometheus count the hard-safety counters alike."
    ),
    "drills_passed": Check(_drills_passed, "count", "Drills of this part that have not passed."),
    "part_lasts": Check(_part_lasts, "seconds", "How long this part has lasted since the warm-up, drills included."),
    "report_repeats": Check(_report_repeats, "flag", "The same shadow run twice gives the same report, byte for byte."),
    "repeated_placed": Check(_repeated_placed, "ratio", "Orders that the repeated run placed, of its iterations."),
    "repeated_filled": Check(_repeated_filled, "ratio", "Orders filled in the repeated run, of those it placed."),
    "kill_switch_unused": Check(
        _kill_switch_unused, "count", "Kill switches that were carried out on the account since what is judged began."
    ),
    "alerts_firing": Check(_alerts_firing, "count", "Alerts about this bot that fire now, by Prometheus' own word."),
    "backup_is_whole": Check(
        _backup_is_whole, "flag", "The newest restored backup has every row, and its chains hold."
    ),
    "attempt_pnl": Check(_attempt_pnl, "quote", "Net result of this attempt since its launch, by the bot's ledger."),
    "stage_pnl": Check(
        _stage_pnl, "quote", "Net result of all attempts of the candidate at this stage since their launches."
    ),
    "candidate_pnl_24h": Check(
        _candidate_pnl_24h, "quote", "Net result of all live attempts of the candidate in the last 24 hours."
    ),
    "margin_ratio": Check(_margin_ratio, "ratio", "Margin in use of the account's equity, by the venue's statement."),
    "watchdog_beats": Check(_watchdog_beats, "flag", "The account's watchdog answers with a fresh beat."),
}
"""Every check a criterion may name."""
