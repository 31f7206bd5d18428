"""What is said of a closing is what its rows prove, and what is not verified is named."""

from __future__ import annotations

from typing import Any

import pytest

from tasks.record_tables import RollbackStep
from tasks.rollback import NOT_FLATTENED, STEPS, all_proven, proven_flat, proven_in_words


def _rows(**states: str | dict[str, Any]) -> list[RollbackStep]:
    """Every step verified, but for those given: a state, or columns."""
    rows = []
    for number, name in enumerate(STEPS):
        given = states.get(name, "verified")
        columns: dict[str, Any] = {"proof": {"flatten": "was flat"}} if name == "flatten" else {}
        columns |= {"state": given} if isinstance(given, str) else {"state": "verified", **given}
        if columns["state"] != "none":
            rows.append(RollbackStep(stage_run_id=1, number=number, name=name, **columns))
    return rows


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        (_rows(), "bot gone, no open order, flat, grant revoked, bundle built"),
        (
            _rows(bundle={"state": "failing", "error": "OSError: no memory"}),
            "bot gone, no open order, flat, grant revoked; not verified: bundle (failing: OSError: no memory)",
        ),
        (
            _rows(flatten={"proof": {"flatten": NOT_FLATTENED}}, bundle="none"),
            "bot gone, no open order, position as it was, not flattened, grant revoked; "
            "not verified: bundle (not begun)",
        ),
        (
            _rows(**{name: {"state": "skipped", "proof": {"why": "nothing was launched"}} for name in STEPS[:4]}),
            "bundle built; not verified: revoke_grant, stop_bot, cancel_all, flatten (skipped: nothing was launched)",
        ),
        ([], "not verified: revoke_grant, stop_bot, cancel_all, flatten, bundle (not begun)"),
    ],
)
def test_what_is_not_verified_is_named(rows: list[RollbackStep], said: str) -> None:
    assert proven_in_words(rows) == said


@pytest.mark.parametrize("proof", [{}, None, [], "flat", {"flatten": ""}, {"positions": {"BTCUSDT": "0"}}])
def test_a_flattening_that_does_not_say_what_was_done_is_no_proof_that_nothing_is_held(proof: Any) -> None:
    """Also of a row that somebody has edited: it keeps no page from being shown."""
    rows = _rows(flatten={"proof": proof})
    assert not proven_flat(rows)
    assert "flat without a proof" in proven_in_words(rows)
    all_proven(rows)


def test_every_step_is_proven_only_where_it_is() -> None:
    assert all_proven(_rows())
    assert all_proven(_rows(tell="failing")), "telling proves nothing and delays nothing"
    for name in STEPS[:5]:
        for state in ("failing", "skipped", "started", "none"):
            assert not all_proven(_rows(**{name: state})), (name, state)
