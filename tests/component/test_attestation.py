"""Attestations by one-time code: who may say what about which candidate, with which evidence, and for how long."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from gates.approvers import Approvers
from gates.checklists import Item
from tasks.attestation import (
    Asked,
    AttestationDesk,
    Evidence,
    EvidenceUnusable,
    Statement,
    Taken,
    keep_evidence,
    lacking,
)
from tasks.record_tables import Attested
from tests.support import desks
from tests.support.desks import NOW_S

PEOPLE = (("ada", ["Quant Lead"]), ("grace", ["SRE Lead"]), ("linus", ["Risk Manager"]), ("barbara", ["SRE Lead"]))
APPROVERS = Approvers.model_validate(
    {"schema_version": 1, "demo": True, "people": [{"name": name, "roles": roles} for name, roles in PEOPLE]}
)
WORDS = {"title": "Two people looked", "why": "Two pairs of eyes before money."}
REVIEW = Item.model_validate({"id": "code_review", **WORDS, "attestation": {"by": {"distinct_people": 2}}})
TESTS = Item.model_validate(
    {"id": "tests_green", **WORDS, "attestation": {"by": {"roles": ["SRE Lead"]}, "max_age_s": 86400}}
)


class Desk(desks.Desk):
    """With a file of evidence; `linus` is the candidate's author."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, APPROVERS)
        self.desk = AttestationDesk(self.record, self.known)
        (folder / "review.txt").write_text("both approved")
        self.evidence = keep_evidence(folder / "review.txt", folder / "attestations")

    def asked(self, candidate: str = "c" * 64) -> Asked:
        return Asked("a", candidate, (REVIEW, TESTS), APPROVERS, "linus")

    def attest(self, person: str, item: str = "code_review", code: str | None = None, **more: object) -> Taken:
        said = Statement(item, person, self.code(person) if code is None else code)
        evidence = more.get("evidence", self.evidence)
        assert isinstance(evidence, Evidence)
        return self.desk.take(said, self.asked(str(more.get("candidate", "c" * 64))), evidence, NOW_S)

    def lacks(self, item: Item = REVIEW, candidate: str = "c" * 64) -> tuple[str, ...]:
        return lacking(self.asked(candidate), item, self.record)


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    made = Desk(tmp_path)
    yield made
    made.record.close()


def test_an_item_is_attested_once_enough_people_have_said_so(desk: Desk) -> None:
    assert desk.lacks() == ("missing 2 more people",)
    first = desk.attest("ada")
    assert (first.accepted, first.missing) == (True, ("missing 1 more person",))
    assert desk.attest("grace").missing == ()
    assert desk.lacks() == ()


def test_it_is_bound_to_the_candidate_and_the_other_ones_is_named(desk: Desk) -> None:
    desk.attest("ada")
    desk.attest("grace")
    missing, of_ada, of_grace = desk.lacks(candidate="d" * 64)
    assert missing == "missing 2 more people"
    assert of_ada == f"ada's is for candidate {'c' * 12}, this is {'d' * 12}"
    assert of_grace.startswith("grace's is for candidate")


def test_one_that_is_too_old_counts_no_more_and_is_named_with_its_age(desk: Desk) -> None:
    assert desk.attest("grace", "tests_green").accepted
    assert desk.lacks(TESTS) == ()
    with desk.record.writing() as session:
        row = session.get(Attested, 1)
        assert row is not None
        row.at -= timedelta(days=1.5)
        session.add(row)
    assert desk.lacks(TESTS) == ("missing SRE Lead", "grace's is 1.5 d old, allowed: at most 1 d")
    assert desk.attest("grace", "tests_green", desk.code("grace", 30)).missing == (), "said anew"


def test_evidence_that_was_changed_afterwards_makes_it_void(desk: Desk) -> None:
    desk.attest("grace", "tests_green")
    desk.evidence.path.chmod(0o600)
    desk.evidence.path.write_text("nobody approved")
    assert desk.lacks(TESTS) == ("missing SRE Lead", "grace's evidence is not the file that was attested")
    assert "does not hash to" in desk.attest("barbara", "tests_green").reason
    desk.evidence.path.unlink()
    assert "evidence is not the file" in desk.lacks(TESTS)[1]


@pytest.mark.parametrize(
    ("person", "item", "said"),
    [
        ("linus", "code_review", "author, who attests nothing"),
        ("mallory", "code_review", "not one of the approvers"),
        ("ada", "tests_green", "ada is Quant Lead; tests_green is for SRE Lead"),
        ("ada", "preflight_clock", "is not attested by people; allowed: code_review, tests_green"),
    ],
)
def test_who_or_what_may_not_is_refused_by_name_and_costs_no_code(
    desk: Desk, person: str, item: str, said: str
) -> None:
    assert said in desk.attest(person, item, "123456").reason
    assert not desk.record.wrong_codes(person, 900)


def test_a_code_serves_once_whatever_it_was_given_for(desk: Desk) -> None:
    code = desk.code("grace")
    assert desk.attest("grace", "code_review", code).accepted
    assert "already served" in desk.attest("grace", "tests_green", code).reason


def test_wrong_codes_lock_the_person_here_and_for_sign_offs_alike(desk: Desk) -> None:
    said = [desk.attest("ada", code="000000").reason for _ in range(5)]
    assert "4 tries left" in said[0]
    assert "locked for 15 minutes" in said[4]
    assert "locked until" in desk.attest("ada").reason
    assert desk.attest("grace").accepted


def test_every_try_is_in_the_chain_with_its_hash_and_without_its_code(desk: Desk) -> None:
    code = desk.code("ada")
    desk.attest("ada", code="000000")
    desk.attest("ada", code=code)
    bodies = [json.loads(entry.body) for entry in desk.record.entries("a") if entry.kind == "attestation"]
    assert [(one["accepted"], one["refused_reason"]) for one in bodies] == [(False, "wrong code"), (True, "")]
    assert {one["evidence_sha256"] for one in bodies} == {desk.evidence.sha256}
    assert code not in str(bodies).replace(desk.evidence.sha256, "").replace(str(desk.evidence.path), "")
    assert desk.record.verify_chain("a").ok


@pytest.mark.parametrize("made", ["nothing", "empty", "folder"])
def test_evidence_that_says_nothing_is_refused_in_one_line(tmp_path: Path, made: str) -> None:
    if made == "empty":
        (tmp_path / made).touch()
    elif made == "folder":
        (tmp_path / made).mkdir()
    with pytest.raises(EvidenceUnusable, match=f"--evidence .*{made}: .*; allowed: a file") as raised:
        keep_evidence(tmp_path / made, tmp_path / "kept")
    assert "\n" not in str(raised.value)


def test_what_was_said_of_another_account_counts_for_nothing(desk: Desk) -> None:
    assert desk.attest("grace", "tests_green").accepted
    assert desk.lacks(TESTS) == ()
    other = replace(desk.asked(), account="b")
    assert lacking(other, TESTS, desk.record) == ("missing SRE Lead",)
