"""Keys of mutations: the newest are known exactly, whatever they look like, and few objects hold them."""

from hypothesis import example, given
from hypothesis import strategies as st

from bot.runtime.keys import Keys

LOOKS = ["q-1-7", "q-1-8", "q-1-7.a1", "q-1-7.a2", "q-1-7.a3", "q-1-7.a5", "q-1-7.c4", "a", "a0", "a00", "a07", "a7",
         "0", "00", "7", "", "-", "a-1", "all.x99999999999999999999"]  # fmt: skip


@given(st.lists(st.sampled_from(LOOKS), max_size=60))
@example(["q-1-7.a3", "q-1-7.a2", "q-1-7.a3"])
@example(["q-1-7.a3", "q-1-7.a1", "q-1-7.a2", "q-1-7.a3"])
def test_a_key_is_new_exactly_once(used: list[str]) -> None:
    known, keys = set[str](), Keys(100)
    for key in used:
        assert keys.add(key) == (key not in known)
        known.add(key)
        assert [one for one in LOOKS if one in keys] == [one for one in LOOKS if one in known]
        assert len(keys) == len(known)


@given(st.lists(st.tuples(st.sampled_from(["q-1-1.a", "q-1-2.a", "q-1-", "x"]), st.integers(0, 40)), max_size=300))
def test_the_newest_are_always_known(used: list[tuple[str, int]]) -> None:
    kept, keys, order = 20, Keys(20), list[str]()
    for stem, number in used:
        key = f"{stem}{number}"
        if keys.add(key):
            order.append(key)
        assert all(one in keys for one in order[-kept:])


def test_what_no_key_of_the_newest_has_in_common_is_forgotten() -> None:
    keys = Keys(100)
    for order in range(1_000):
        keys.add(f"q-1-{order}")
        for number in range(1, 10):
            assert keys.add(f"q-1-{order}.a{number}")
    assert "q-1-999.a9" in keys
    assert "q-1-990.a1" in keys
    assert "q-1-970.a9" not in keys
    assert len(keys._runs) <= 30


def test_gaps_do_not_pile_up() -> None:
    keys = Keys(100)
    for number in range(0, 10_000, 2):
        assert keys.add(f"q-1-{number}")
    assert sum(len(runs) for runs in keys._runs.values()) <= 101
    assert not keys.add("q-1-9998")


def test_a_long_run_forgets_its_oldest() -> None:
    keys = Keys(100)
    for number in range(1_000):
        assert keys.add(f"q-1-{number}")
    assert len(keys) == 100
    assert not keys.add("q-1-900")
    assert "q-1-899" not in keys
