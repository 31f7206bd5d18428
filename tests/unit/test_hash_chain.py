"""The record's chain: whatever is changed, left out, swapped or invented after the fact shows, by its number."""

from __future__ import annotations

from dataclasses import dataclass, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.record_chain import GENESIS, canonical_json, check_chain, link_hash


@dataclass
class Entry:
    account: str
    seq: int
    prev_hash: str
    hash: str
    at: str
    kind: str
    body: str


def chain(bodies: list[str], account: str = "a") -> list[Entry]:
    links: list[Entry] = []
    prev = GENESIS
    for seq, body in enumerate(bodies, start=1):
        made = link_hash(account, seq, prev, f"t{seq}", "k", body)
        links.append(Entry(account, seq, prev, made, f"t{seq}", "k", body))
        prev = made
    return links


def test_an_untouched_chain_holds_and_its_head_is_the_last_hash() -> None:
    links = chain(["1", "2", "3"])
    report = check_chain("a", links)
    assert (report.ok, report.length, report.head) == (True, 3, links[-1].hash)


def test_an_empty_chain_holds_with_the_genesis_as_head() -> None:
    assert check_chain("a", []).head == GENESIS


@pytest.mark.parametrize("field", ["body", "kind", "at", "hash", "prev_hash"])
def test_a_changed_field_is_found_at_its_link(field: str) -> None:
    links = chain(["1", "2", "3"])
    setattr(links[1], field, "changed")
    report = check_chain("a", links)
    assert (report.ok, report.broken_at_seq) == (False, 2)


@given(st.lists(st.text(max_size=5), min_size=2, max_size=8), st.data())
def test_a_link_left_out_of_the_middle_is_found(bodies: list[str], data: st.DataObject) -> None:
    links = chain(bodies)
    gone = data.draw(st.integers(0, len(links) - 2))
    report = check_chain("a", links[:gone] + links[gone + 1 :])
    assert (report.ok, report.broken_at_seq) == (False, gone + 1)


def test_a_rewritten_link_breaks_the_one_after_it() -> None:
    links = chain(["1", "2", "3"])
    second = links[1]
    again = link_hash("a", 2, second.prev_hash, second.at, second.kind, "forged")
    links[1] = replace(second, body="forged", hash=again)
    assert check_chain("a", links).broken_at_seq == 3


def test_a_link_of_another_account_does_not_count() -> None:
    assert not check_chain("b", chain(["1"], account="a")).ok


def test_one_value_has_one_text() -> None:
    one, same = {"b": 1, "a": [1, None]}, {"a": [1, None], "b": 1}
    assert canonical_json(one) == canonical_json(same) == '{"a":[1,null],"b":1}'


def test_a_float_that_is_no_number_has_no_text() -> None:
    with pytest.raises(ValueError, match="JSON"):
        canonical_json(float("nan"))
