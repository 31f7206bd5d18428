"""Sign-offs: who counts, once, and what is still missing."""

from __future__ import annotations

from itertools import permutations
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gates.approvers import (
    Approvers,
    ApproversError,
    Person,
    Role,
    Signature,
    SignOffs,
    can_ever_sign_off,
    load_approvers,
    refuse_made_up_people,
    signed_off,
)

QUANT: Role = "Quant Lead"
SRE: Role = "SRE Lead"
RISK: Role = "Risk Manager"
ALL = SignOffs(roles=(QUANT, SRE, RISK), distinct_people=3)
TWO = SignOffs(roles=(RISK,), distinct_people=2)


def _person(name: str, *roles: Role) -> Person:
    return Person(name=name, roles=roles)


PEOPLE = [_person("ada", QUANT), _person("grace", SRE), _person("katherine", RISK)]


def _go(*names: str) -> list[Signature]:
    return [Signature(name, "GO") for name in names]


def test_all_three_roles_by_three_people_are_complete() -> None:
    assert signed_off(ALL, PEOPLE, _go("ada", "grace", "katherine")) == (True, ("ada", "grace", "katherine"), ())


def test_what_is_missing_is_named() -> None:
    found = signed_off(ALL, PEOPLE, _go("ada"))
    assert (found.complete, found.missing) == (False, (SRE, RISK))
    assert signed_off(TWO, PEOPLE, _go("katherine")).missing == ("1 more person",)
    assert signed_off(TWO, PEOPLE, _go("ada", "grace")).missing == (RISK,)
    assert signed_off(TWO, PEOPLE, []).missing == (RISK, "1 more person")


def test_one_person_counts_once_whatever_their_roles() -> None:
    people = [_person("everybody", QUANT, SRE, RISK), *PEOPLE]
    assert not signed_off(ALL, people, _go("everybody")).complete
    assert not signed_off(ALL, people, _go("everybody", "everybody", "everybody")).complete
    assert not signed_off(TWO, people, _go("everybody", "everybody")).complete


def test_somebody_with_two_roles_takes_the_one_nobody_else_has() -> None:
    people = [_person("both", QUANT, RISK), _person("quant", QUANT), _person("sre", SRE)]
    for order in permutations(people):
        assert signed_off(ALL, order, _go("both", "quant", "sre")).complete


def test_the_author_and_strangers_count_for_nothing() -> None:
    assert not signed_off(TWO, PEOPLE, _go("katherine", "ada"), author="ada").complete
    assert not signed_off(TWO, PEOPLE, _go("katherine", "mallory")).complete


def test_the_last_decision_of_a_person_holds() -> None:
    changed = [*_go("ada", "katherine"), Signature("ada", "NO-GO")]
    assert signed_off(TWO, PEOPLE, changed).counted == ("katherine",)


def test_a_quorum_that_can_never_come_is_seen_beforehand() -> None:
    assert can_ever_sign_off(ALL, PEOPLE).complete
    assert can_ever_sign_off(ALL, PEOPLE, author="grace").missing == (SRE,)


ROLES = st.lists(st.sampled_from([QUANT, SRE, RISK]), min_size=1, max_size=3, unique=True)


@given(st.lists(ROLES, max_size=5), ROLES, st.integers(0, 4), st.data())
def test_complete_means_enough_people_and_each_role_held_by_somebody_else(
    holdings: list[list[Role]], wanted: list[Role], distinct: int, data: st.DataObject
) -> None:
    people = [_person(f"person{at}", *roles) for at, roles in enumerate(holdings)]
    signers = data.draw(st.lists(st.sampled_from([one.name for one in people]), unique=True)) if people else []
    required = SignOffs(roles=tuple(wanted), distinct_people=distinct)
    found = signed_off(required, people, _go(*signers))
    by_name = {one.name: one.roles for one in people}
    possible = any(
        all(role in by_name[name] for role, name in zip(wanted, chosen, strict=True))
        for chosen in permutations(signers, len(wanted))
    )
    assert found.complete is (possible and len(signers) >= max(distinct, len(wanted)))
    assert found.complete is not bool(found.missing)


def test_a_bad_file_is_one_line(tmp_path: Path) -> None:
    path = tmp_path / "approvers.yaml"
    path.write_text("schema_version: 1\npeople:\n  - name: ada\n    roles: [King]\n", encoding="utf-8")
    with pytest.raises(ApproversError, match=r"approvers\.yaml:4: people\.ada\.roles\.0 = 'King': input should be"):
        load_approvers(path)
    path.write_text(
        "schema_version: 1\npeople:\n- {name: ada, roles: [SRE Lead]}\n- {name: ada, roles: [SRE Lead]}\n",
        encoding="utf-8",
    )
    with pytest.raises(ApproversError, match="people ada stand twice"):
        load_approvers(path)


def test_made_up_people_are_refused_on_anything_but_the_simulated_venue() -> None:
    demo = Approvers.model_validate({"schema_version": 1, "demo": True, "people": [{"name": "ada", "roles": [SRE]}]})
    refuse_made_up_people(demo, "simulated")
    refuse_made_up_people(demo.model_copy(update={"demo": False}), "bybit")
    with pytest.raises(ApproversError, match="demo people at venue bybit"):
        refuse_made_up_people(demo, "bybit")
