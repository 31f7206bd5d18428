"""Names of rollouts and accounts: what becomes a folder leads nowhere else."""

from __future__ import annotations

import pytest

from tasks.names import NameRefused, check_name


@pytest.mark.parametrize("name", ["canary-20260102-030405", "a", "sim-1", "r_2.1", "0" * 61])
def test_a_plain_name_is_taken_as_it_is(name: str) -> None:
    assert check_name("rollout", name) == name


@pytest.mark.parametrize(
    "name", ["", "..", "a..b", "../x", "a/b", "/etc", ".a", "-a", "A", "a b", "a\n", "a\0", "ä", "0" * 62]
)
def test_what_would_lead_out_of_its_folder_or_split_a_line_is_refused_in_one_line(name: str) -> None:
    with pytest.raises(NameRefused) as caught:
        check_name("rollout", name)
    assert str(caught.value).startswith(f"rollout: {name!r}"[:80])
    assert "\n" not in str(caught.value)
    assert "allowed" in str(caught.value)
