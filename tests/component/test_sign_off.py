"""Sign-offs by one-time code: who may, with which code, how often, over which evidence."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from gates.approvers import Approvers, SignOffs
from tasks.sign_off import Gate, Judged, Request, Seeds, SeedsError, SignOffDesk, current_code, demo_code, enroll_demo
from tests.support import desks
from tests.support.desks import NOW_S

DIGEST = "abc123" + "0" * 58
APPROVERS = Approvers.model_validate(
    {
        "schema_version": 1,
        "demo": True,
        "people": [
            {"name": "ada", "roles": ["Quant Lead"]},
            {"name": "grace", "roles": ["SRE Lead", "Risk Manager"]},
            {"name": "linus", "roles": ["Risk Manager"]},
        ],
    }
)


class Desk(desks.Desk):
    """At the entry gate of one stage run. `linus` is the candidate's author."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, APPROVERS)
        self.desk = SignOffDesk(self.record, self.known)
        self.number = self.stage_run()

    def gate(self, digest: str = DIGEST) -> Gate:
        required = SignOffs.model_validate({"roles": ["Quant Lead", "Risk Manager"], "distinct_people": 2})
        return Gate(self.number, "entry", required, APPROVERS, "linus", digest)

    def sign(
        self,
        person: str,
        code: str | None = None,
        decision: str = "GO",
        prefix: str = "abc123",
        now_s: float = NOW_S,
        comment: str = "",
        asked_at_s: float | None = None,
    ) -> Judged:
        code = self.code(person) if code is None else code
        request = Request(person, "entry", decision, code, prefix, comment, asked_at_s)
        return self.desk.judge(request, self.gate(), now_s)


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    made = Desk(tmp_path)
    yield made
    made.record.close()


def test_a_right_code_counts_and_says_who_is_missing(desk: Desk) -> None:
    judged = desk.sign("ada")
    assert (judged.accepted, judged.quorum.counted, judged.quorum.missing) == (True, ("ada",), ("Risk Manager",))
    assert desk.sign("grace").quorum.complete


def test_the_code_of_the_step_before_still_counts_and_an_older_or_later_one_does_not(desk: Desk) -> None:
    assert "wrong code" in desk.sign("ada", desk.code("ada", back_s=60)).reason
    assert "wrong code" in desk.sign("ada", desk.code("ada", back_s=-30)).reason
    assert desk.sign("ada", desk.code("ada", back_s=30)).accepted


def test_a_code_serves_once_for_any_decision(desk: Desk) -> None:
    code = desk.code("ada")
    assert desk.sign("ada", code).accepted
    assert "already served" in desk.sign("ada", code, decision="NO-GO").reason


def test_a_code_spent_in_another_process_is_refused(desk: Desk) -> None:
    desk.record.use_code("ada", int(NOW_S) // 30)
    assert "already served" in desk.sign("ada").reason


def test_another_persons_code_is_a_wrong_code(desk: Desk) -> None:
    assert "wrong code" in desk.sign("ada", desk.code("grace")).reason


def test_five_wrong_codes_lock_the_person_even_for_the_right_one(desk: Desk) -> None:
    said = [desk.sign("ada", "000000").reason for _ in range(5)]
    assert "4 tries left" in said[0]
    assert "locked for 15 minutes" in said[4]
    assert "locked until" in desk.sign("ada").reason
    assert desk.sign("grace").accepted, "one person's lock is not another's"


def test_the_wrong_evidence_is_refused_and_costs_no_code(desk: Desk) -> None:
    assert "first six characters" in desk.sign("ada", prefix="ffffff").reason
    assert desk.sign("ada").accepted


@pytest.mark.parametrize(
    ("person", "decision", "said"),
    [
        ("linus", "GO", "author, who signs nothing"),
        ("mallory", "GO", "not one of the approvers"),
        ("ada", "MAYBE", "allowed are GO and NO-GO"),
    ],
)
def test_who_or_what_may_not_is_refused_by_name(desk: Desk, person: str, decision: str, said: str) -> None:
    assert said in desk.sign(person, "123456", decision=decision).reason


def test_a_second_go_of_the_same_person_does_not_count_again(desk: Desk) -> None:
    desk.sign("grace")
    again = desk.sign("grace", desk.code("grace", back_s=30))
    assert "counts once" in again.reason
    assert again.quorum.counted == ("grace",)


def test_a_sign_off_is_void_once_the_evidence_changes(desk: Desk) -> None:
    desk.sign("ada")
    assert desk.desk.quorum(desk.gate()).counted == ("ada",)
    assert desk.desk.quorum(desk.gate(digest="d" * 64)).counted == ()


def test_a_no_go_names_the_candidate_only_where_it_says_so() -> None:
    said = [("NO-GO", "Candidate: skew is wrong"), ("NO-GO", "not today"), ("GO", "candidate: fine")]
    named = [Request("ada", "entry", decision, "", "", comment).names_candidate for decision, comment in said]
    assert named == [True, False, False]


def test_every_try_is_recorded_with_its_reason_and_without_its_code(desk: Desk) -> None:
    code = desk.code("ada")
    desk.sign("ada", "000000")
    desk.sign("ada", code)
    rows = desk.record.sign_offs(desk.number)
    assert [(row.accepted, row.refused_reason) for row in rows] == [(False, "wrong code"), (True, "")]
    told = "".join(entry.body for entry in desk.record.entries("a"))
    assert code not in told
    assert "000000" not in told.replace("0" * 58, "")


def test_seeds_that_others_can_read_are_refused(desk: Desk) -> None:
    assert desk.seeds.stat().st_mode & 0o777 == 0o600
    os.chmod(desk.seeds, 0o644)
    with pytest.raises(SeedsError, match=r"0644.*allowed is 0600"):
        Seeds(desk.seeds).read()


def test_demo_people_and_shown_codes_are_for_the_simulated_venue_alone(desk: Desk, tmp_path: Path) -> None:
    with pytest.raises(SeedsError, match="venue is bybit"):
        enroll_demo(tmp_path / "other.json", APPROVERS, "bybit")
    with pytest.raises(SeedsError, match="venue is bybit"):
        current_code(desk.seeds, "ada", "bybit")


def test_enrolling_again_keeps_the_seeds(desk: Desk) -> None:
    before = Seeds(desk.seeds).read()
    assert enroll_demo(desk.seeds, APPROVERS, "simulated") == []
    assert Seeds(desk.seeds).read() == before


def test_a_request_that_waited_longer_than_its_code_lives_is_refused_as_stale_and_locks_nobody(desk: Desk) -> None:
    for _ in range(6):
        late = desk.sign("ada", desk.code("ada", 300), asked_at_s=NOW_S - 300)
        assert not late.accepted
        assert late.reason.startswith("sent 300 s ago")
    assert desk.sign("ada", asked_at_s=NOW_S - 20).accepted


def test_a_code_counts_as_of_when_it_was_sent_however_long_it_was_on_its_way(desk: Desk) -> None:
    assert "wrong code" in desk.sign("ada", desk.code("ada", 70 + 60), asked_at_s=NOW_S - 70).reason
    assert "wrong code" in desk.sign("ada", desk.code("ada", -30), asked_at_s=NOW_S - 70).reason
    assert desk.sign("ada", desk.code("ada", 70 + 30), asked_at_s=NOW_S - 70).accepted
    assert desk.sign("grace", desk.code("grace"), asked_at_s=NOW_S - 70).accepted, "a phone's clock may be ahead"


def test_a_code_is_shown_of_the_plans_own_demo_approvers_alone(desk: Desk) -> None:
    assert len(demo_code(desk.seeds, "ada", APPROVERS, "simulated")) == 6
    Seeds(desk.seeds).add(["real.person"])
    with pytest.raises(SeedsError, match=r"is not a demo approver of the plan; allowed: ada, grace, linus"):
        demo_code(desk.seeds, "real.person", APPROVERS, "simulated")
    with pytest.raises(SeedsError, match="real people"):
        demo_code(desk.seeds, "ada", APPROVERS.model_copy(update={"demo": False}), "simulated")
    with pytest.raises(SeedsError, match="the plan's venue is bybit"):
        demo_code(desk.seeds, "ada", APPROVERS, "bybit")


def test_no_go_of_one_is_never_outvoted_by_the_gos_of_others(desk: Desk) -> None:
    assert desk.sign("ada", decision="NO-GO").accepted
    assert desk.sign("grace").accepted
    quorum = desk.sign("ada", desk.code("ada", back_s=30)).quorum
    assert quorum.counted == ("ada", "grace"), "enough people of the right roles"
    assert (quorum.complete, quorum.missing) == (False, ("ada signed NO-GO",))
    standing = desk.desk.standing_no_go(desk.gate())
    assert standing is not None
    assert (standing.person, standing.decision) == ("ada", "NO-GO")
    assert desk.desk.standing_no_go(desk.gate("f" * 64)) is None, "over other evidence nothing was signed"


def test_a_code_is_spent_and_its_sign_off_stored_together_or_not_at_all(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(desk.record, "_append", None)  # the guard dies in the middle of it
    with pytest.raises(TypeError):
        desk.sign("ada", decision="NO-GO")
    monkeypatch.undo()
    assert not desk.record.sign_offs(desk.number)
    assert desk.sign("ada", decision="NO-GO").accepted, "the same request again, with the same code"


def test_what_became_of_a_request_is_found_by_its_number(desk: Desk) -> None:
    request = Request("ada", "entry", "GO", desk.code("ada"), "abc123", inbox_id=7)
    assert desk.desk.judge(request, desk.gate(), NOW_S).accepted
    found = desk.record.sign_off_of(7)
    assert found is not None
    assert (found.person, found.accepted) == ("ada", True)
    assert desk.record.sign_off_of(8) is None
