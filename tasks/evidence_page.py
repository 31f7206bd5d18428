"""The evidence as one HTML page: readable offline, nothing loaded from anywhere, words instead of colours alone."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jinja2

from tasks.evidence_plots import Plot
from tasks.proof_words import step_in_words
from tasks.rollback import end_headline, is_flat

if TYPE_CHECKING:
    from tasks.evidence import Gathered

TEMPLATE = Path(__file__).with_name("evidence_page.html.j2")
JUDGED = "GO: waiting for sign-offs"
TIMELINE_WORDS = {
    "breach": "a limit was broken",
    "seen": "the guard judged it",
    "grant_revoked": "permission taken away",
    "bot_gone": "bot proven gone",
    "none_open": "no own order on two reads",
    "flat": "proven flat",
}
PHASES = (
    ("guard", "Guards, measured all the time"),
    ("final", "Judged at the end"),
    ("preflight", "Before the grant"),
)


def render_page(
    found: Gathered, plots: list[Plot], post_mortem: Sequence[tuple[str, int]] = (), left_out: Sequence[str] = ()
) -> str:
    """The page. Everything in it is escaped; the pictures are part of it. `post_mortem`: names and bytes beside it."""
    environment = jinja2.Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
    template = environment.from_string(TEMPLATE.read_text(encoding="utf-8"))
    run = found.run
    return template.render(
        run=run,
        rollout=found.rollout,
        headline=_headline(found),
        decided=_decided(found),
        groups=[(title, [row for row in found.latest if row["phase"] == phase]) for phase, title in PHASES],
        verdict=found.verdicts[-1] if found.verdicts else None,
        sign_offs=found.sign_offs,
        steps=[_step(step) for step in found.steps if step["number"] < 4],
        timeline=_timeline(found.timeline),
        since="the breach" if found.timeline.get("breach") else "the first",
        plots=plots,
        series=found.series,
        data_check=found.data_check,
        measurements=len(found.measurements),
        chain=found.chain,
        post_mortem=[(name, _size(count)) for name, count in post_mortem],
        left_out=left_out,
    )


def _headline(found: Gathered) -> str:
    ends = found.ends or found.run.step
    if ends == "judged":
        return JUDGED
    return end_headline(ends, flat=any(is_flat(step["name"], step["state"], step["proof"]) for step in found.steps))


def _decided(found: Gathered) -> dict[str, Any] | None:
    run = found.run
    if run.decided_criterion is None:
        return None
    return {
        "criterion": run.decided_criterion,
        "value": run.decided_value,
        "limit": run.decided_limit,
        "why": run.decided_why,
        "reason": run.reason,
        "others": ", ".join(str(one) for one in run.decided_others),
    }


def _timeline(times: dict[str, str | None]) -> list[dict[str, str]]:
    """Each moment with the seconds since the breach. Without one nothing was broken or seen: then since the first."""
    shown = {name: at for name, at in times.items() if times.get("breach") or name not in ("breach", "seen")}
    known = [datetime.fromisoformat(at) for at in shown.values() if at]
    breach = shown.get("breach")
    first = datetime.fromisoformat(breach) if breach else min(known, default=None)
    rows = []
    for name, at in shown.items():
        after = ""
        if at and first is not None:
            after = f"{(datetime.fromisoformat(at) - first).total_seconds():+.2f} s"
        rows.append({"name": name, "words": TIMELINE_WORDS.get(name, name), "at": at or "not (yet)", "after": after})
    return sorted(rows, key=lambda row: row["at"])  # "not (yet)" comes last


def _size(count: int) -> str:
    return f"{count / 1000:,.1f} kB"


def _step(step: dict[str, Any]) -> dict[str, Any]:
    """With its proof in words, and as it was written."""
    words = step_in_words(step["name"], step["state"], step["error"], step["proof"])
    return {**step, "words": words, "shown": json.dumps(step["proof"], indent=1, sort_keys=True, ensure_ascii=False)}
