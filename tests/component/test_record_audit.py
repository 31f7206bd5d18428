"""What opens live is audited too: a drill or an attestation that somebody wrote into the tables counts for nothing."""

from __future__ import annotations

from pathlib import Path

import pytest

from tasks.record_audit import record_fault
from tasks.record_tables import Attested, Drill
from tests.support.guard_parts import guard_at

PUT_IN = """INSERT INTO attestation (account, candidate, item, person, roles, accepted, counts_as_wrong_code,
    refused_reason, evidence_path, evidence_sha256, evidence_bytes, comment, at)
    VALUES ('a', 'c', 'on_call', 'ada', '[]', 1, 0, '', '', '', 0, '', '2030-01-01')"""


@pytest.mark.parametrize(
    ("edit", "said"),
    [
        ("UPDATE drill SET outcome = 'passed' WHERE name = 'freeze'", "drill 1 freeze at stage run 1 is not what"),
        ("UPDATE drill SET ends_at = '2030-01-01 00:00:00' WHERE name = 'backup'", "drill 2 backup at stage run 1 is"),
        ("INSERT INTO drill SELECT 9, 1, 'orphan', 0, criteria, started_at, ends_at, 'passed', proof FROM drill "
         "WHERE id = 2", "drill 9 orphan at stage run 1 is not what"),
        ("DELETE FROM drill WHERE name = 'freeze'", "a drill freeze at stage run 1 that failed is in no row"),
        ("UPDATE attestation SET accepted = 1", "attestation 2 of code_review by ada is not what"),
        ("UPDATE attestation SET candidate = 'other' WHERE id = 1", "attestation 1 of code_review by grace is not"),
        ("UPDATE attestation SET at = '2030-01-01 00:00:00'", "attestation 1 of code_review by grace is not"),
        (PUT_IN, "attestation 3 of on_call by ada is not what"),
    ],
)  # fmt: skip
def test_a_drill_or_an_attestation_that_was_edited_is_named(tmp_path: Path, edit: str, said: str) -> None:
    guard = guard_at(tmp_path, "parked")
    record = guard.store.record
    for name, outcome in (("freeze", "failed"), ("backup", "passed")):
        record.end_drill(record.add_drill(Drill(stage_run_id=1, name=name)), outcome, {})
    words = {"account": "a", "candidate": "c", "item": "code_review"}
    assert record.attest(Attested(**words, person="grace", accepted=True, inbox_id=7, evidence_bytes=3), 1)
    record.add_attestation(Attested(**words, person="ada", accepted=False, refused_reason="wrong code"))
    assert record_fault(record, "a") == ""
    with record.writing() as session:
        session.connection().exec_driver_sql(edit)
    fault = record_fault(record, "a")
    guard.store.close()
    assert said in fault
