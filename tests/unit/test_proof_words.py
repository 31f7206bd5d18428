"""Every proof that a closing writes is told in words with its numbers; what is not there reads as missing."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.proof_words import step_in_words
from tasks.rollback import NO_ACCOUNT, NOT_FLATTENED, SAID_BY, STEPS

KILLED = "kill switch executed: 3 cancelled, 2 reads"
AT = "2026-01-01T10:00:0{}.250Z".format
READS = [{"at": AT(4), "own_open": 0, "foreign_open": 2}, {"at": AT(5), "own_open": 0, "foreign_open": 2}]
FLAT = {"positions": {"BTCUSDT": "0", "ETHUSDT": "0"}, "read_at": AT(6), "traded": False, "flatten": "was flat"}
NOT_AGAIN = "not read again yet, once no order is open"
ORDERS = [{"symbol": "BTCUSDT", "id": f"slwf-0-{number}", "taken": number == 1} for number in (1, 2)]
TRY = {"began_at": AT(1), "read_at": AT(2), "held": {"BTCUSDT": "-0.004"}, "orders": ORDERS}


def said_of(name: str, proof: Any, state: str = "verified", error: str = "") -> str:
    return step_in_words(name, state, error, proof)


@pytest.mark.parametrize(
    ("name", "proof", "said"),
    [
        (
            "revoke_grant",
            {"how": "the bot answered 200", "epoch": 7, "state": "FROZEN"},
            "the bot answered 200, and is FROZEN; epoch 7",
        ),
        (
            "revoke_grant",
            {"how": "not renewed for 5 s: expired", "epoch": 7},
            "not renewed for 5 s: expired; epoch 7",
        ),
        (
            "revoke_grant",
            {"by": "machine alpha is off", SAID_BY: "ada", "epoch": 7},
            "by the word of ada alone: machine alpha is off; epoch 7",
        ),
        (
            "stop_bot",
            {"by": "machine alpha is off", SAID_BY: "ada", "epoch": 7},
            "by the word of ada alone: machine alpha is off; epoch 7",
        ),
        ("stop_bot", {"by": "nothing was running", "others_on_state_dir": []}, "nothing was running"),
        (
            "stop_bot",
            {"pid": 41, "started_ticks": 903, "by": "asked", "took_ms": 312, "detail": "", "others_on_state_dir": []},
            "pid 41 (started at tick 903) ended when asked, 312 ms after the first try",
        ),
        (
            "stop_bot",
            {
                "pid": 41,
                "started_ticks": 903,
                "by": "SIGKILL",
                "took_ms": 2104,
                "detail": "no answer within 1.5 s",
                "others_on_state_dir": [42, 43],
            },
            "pid 41 (started at tick 903) ended by SIGKILL, 2104 ms after the first try (no answer within 1.5 s); "
            "ended too, on the same folder: pid 42, 43",
        ),
        (
            "stop_bot",
            {"pid": 41, "started_ticks": 903, "by": "was dead", "took_ms": 0, "detail": "", "others_on_state_dir": []},
            "pid 41 (started at tick 903) was dead, 0 ms after the first try",
        ),
        (
            "cancel_all",
            {"answers": [KILLED], "reads": READS, "first_read_allowed_from": AT(3)},
            "own orders open: 0 at 10:00:04.250, 0 at 10:00:05.250; orders of others: 2, 2, left alone; "
            f"no read counts from before 10:00:03.250; cancel-all: {KILLED}",
        ),
        ("cancel_all", {"why": NO_ACCOUNT}, NO_ACCOUNT),
        (
            "flatten",
            FLAT,
            f"position in base: BTCUSDT 0, ETHUSDT 0, read at 10:00:06.250; was flat, nothing traded; {NOT_AGAIN}",
        ),
        (
            "flatten",
            {**FLAT, "positions": {"BTCUSDT": "0.004"}, "flatten": NOT_FLATTENED},
            f"position in base: BTCUSDT 0.004, read at 10:00:06.250; {NOT_FLATTENED}, nothing traded; {NOT_AGAIN}",
        ),
        (
            "flatten",
            {
                **FLAT,
                "traded": True,
                "flatten": "kill switch executed: 0 cancelled, 4 reads",
                "flattenings": [TRY, TRY],
                "confirmed": {**FLAT, "read_at": AT(8)},
            },
            "position in base: BTCUSDT 0, ETHUSDT 0, read at 10:00:06.250; "
            "kill switch executed: 0 cancelled, 4 reads, traded; "
            "once no order was open: position in base: BTCUSDT 0, ETHUSDT 0, read at 10:00:08.250, "
            "was flat, nothing traded; "
            "held before, in base: BTCUSDT -0.004, read at 10:00:02.250, orders sent: 2, "
            "not known whether the venue took slwf-0-2, earlier tries: 1, "
            "not known whether the venue took of theirs slwf-0-2",
        ),
        (
            "bundle",
            {"folder": "/evidence/r", "digest": "ab" * 32, "files": 9},
            f"9 files in /evidence/r, digest {'ab' * 32}",
        ),
        ("tell", {"queued": "parked flat (people)"}, "queued: parked flat (people)"),
    ],
)  # fmt: skip
def test_every_kind_of_proof_is_a_sentence_with_its_numbers(name: str, proof: dict[str, Any], said: str) -> None:
    state = "skipped" if "why" in proof else "verified"
    assert said_of(name, proof, state) == said


@pytest.mark.parametrize("name", [*STEPS, "another"])
@pytest.mark.parametrize("proof", [{}, None])
def test_a_step_without_a_proof_does_not_read_as_done(name: str, proof: object) -> None:
    assert said_of(name, proof) == "NO PROOF is recorded"
    assert said_of(name, proof, "skipped") == "no reason is recorded"
    assert said_of(name, proof, "started") == "not proven yet"
    assert said_of(name, proof, "failing", "the venue is away") == "the venue is away"


@pytest.mark.parametrize(
    ("name", "proof", "said"),
    [
        ("revoke_grant", {"epoch": 7}, "MISSING: how; epoch 7"),
        ("stop_bot", {"pid": 41, "took_ms": 3}, "MISSING: by; pid 41, 3 ms after the first try"),
        ("cancel_all", {"answers": ["cancelled"]}, "MISSING: reads; cancel-all: cancelled"),
        (
            "cancel_all",
            {"reads": READS[:1]},
            "MISSING: 1 of 2 reads; own orders open: 0 at 10:00:04.250; orders of others: 2, left alone",
        ),
        (
            "cancel_all",
            {"reads": [{}, {}]},
            "own orders open: UNKNOWN at an unknown time, UNKNOWN at an unknown time; "
            "orders of others: UNKNOWN, UNKNOWN",
        ),
        ("cancel_all", {"reads": "two"}, "MISSING: reads; reads two"),
        ("flatten", {"traded": True, "flatten": "said"}, "MISSING: positions; said, traded"),
        ("flatten", {"positions": {}, "flatten": "was flat"}, "MISSING: positions; was flat"),
        (
            "flatten",
            {"positions": {"BTCUSDT": "0"}},
            f"MISSING: flatten; position in base: BTCUSDT 0, read at an unknown time; {NOT_AGAIN}",
        ),
        ("bundle", {"folder": "/evidence/r"}, "MISSING: files, digest; in /evidence/r"),
        ("tell", {"why": 7}, "MISSING: queued; why 7"),
    ],
)
def test_what_is_missing_of_a_proof_is_named(name: str, proof: dict[str, Any], said: str) -> None:
    assert said_of(name, proof) == said


def test_what_a_failing_step_has_told_already_stands_behind_what_hinders_it() -> None:
    tried = {"flattenings": [{**TRY, "orders": ORDERS[:1]}]}
    held = "held before, in base: BTCUSDT -0.004, read at 10:00:02.250, orders sent: 1"
    assert said_of("flatten", tried, "failing", "not flat yet") == f"not flat yet; so far: {held}"
    assert said_of("flatten", tried, "started") == f"not proven yet; so far: {held}"
    again = said_of("flatten", FLAT, "failing", "the venue is away")
    assert again.startswith("the venue is away; so far: position in base: BTCUSDT 0, ETHUSDT 0, read")


def test_what_is_not_known_of_an_earlier_try_stays_told() -> None:
    """What it sent may have filled late, however the newest one went."""
    tries = [TRY, {**TRY, "orders": ORDERS[1:]}, {"began_at": AT(1), "held": {}}, {**TRY, "orders": ORDERS[:1]}]
    assert said_of("flatten", {"flattenings": tries}, "failing", "not flat yet").endswith(
        "orders sent: 1, earlier tries: 3, not known whether the venue took of theirs slwf-0-2, slwf-0-2, "
        "MISSING: which orders were sent in 1 of them"
    )


def test_an_error_is_one_line_that_a_terminal_does_not_obey() -> None:
    assert said_of("flatten", {}, "failing", "away\n\x1b[2Jflat") == "away \N{REPLACEMENT CHARACTER}[2Jflat"


def test_a_verified_step_with_an_error_says_both() -> None:
    assert said_of("tell", {"queued": "parked"}, error="away") == "away; queued: parked"


@pytest.mark.parametrize(
    ("proof", "said"),
    [
        ({"by_hand": {"who": ["ada", "bob"], "sure": True}, "at_ms": 7}, "by hand (who (ada, bob); sure yes); at ms 7"),
        ({"list": [{"a": 1}, {"b": None}], "empty": [], "none": {}}, "list (a 1), (b none); empty none; none none"),
        ([1, "two"], "1, two"),
        ("a word", "a word"),
        (0, "0"),
    ],
)
def test_a_proof_that_nobody_here_writes_is_shown_all_the_same(proof: object, said: str) -> None:
    assert said_of("another", proof) == said


def test_what_nobody_here_writes_stands_behind_what_is_known() -> None:
    proof = {"queued": "parked", "seen_by": "ada", "count": 0}
    assert said_of("tell", proof) == "queued: parked; seen by ada; count 0"
    odd = {**FLAT, "traded": "perhaps", "confirmed": 7, "flattenings": [{"held": {"BTCUSDT": "0.1"}}]}
    said = said_of("flatten", odd)
    assert said.endswith(f"was flat; {NOT_AGAIN}; traded perhaps; confirmed 7; flattenings (held (BTCUSDT 0.1))")


_leaf = st.one_of(st.booleans(), st.integers(), st.text(), st.none())
_json = st.recursive(
    _leaf, lambda one: st.one_of(st.lists(one, max_size=3), st.dictionaries(st.text(), one, max_size=3))
)
_keys = st.sampled_from(
    ["how", "epoch", "state", "by", "said_by", "pid", "started_ticks", "took_ms", "detail", "others_on_state_dir",
     "answers", "reads", "first_read_allowed_from", "why", "positions", "read_at", "traded", "flatten", "confirmed",
     "flattenings", "folder", "digest", "files", "queued", "another"]
)  # fmt: skip


@given(st.sampled_from([*STEPS, "another"]), st.one_of(_json, st.dictionaries(_keys, _json, max_size=6)))
def test_no_row_that_somebody_edited_keeps_a_page_from_being_shown(name: str, proof: object) -> None:
    for state in ("verified", "skipped", "failing", "started"):
        assert said_of(name, proof, state)


@given(st.sampled_from([*STEPS, "another"]), st.dictionaries(_keys, st.integers(10**6, 10**9), min_size=1))
def test_no_number_that_is_there_is_hidden(name: str, proof: dict[str, int]) -> None:
    said = said_of(name, proof)
    assert not [value for value in proof.values() if str(value) not in said]
