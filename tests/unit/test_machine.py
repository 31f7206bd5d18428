"""What /proc of one machine can say of a process that was noted on another one, or before a reboot."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest

from tasks.supervise.identity import Identity, identify
from tasks.supervise.machine import Machine, MachineUnknown, Seen, host_of, one_clock, same_machine, this_machine

HERE = Machine("alpha", "id-of-alpha", "boot-1", "4026531836")


def test_a_note_of_this_boot_and_one_from_before_machines_were_noted_are_looked_for_here() -> None:
    assert HERE.sees(str(HERE)) is Seen.HERE
    assert HERE.sees("") is Seen.HERE


def test_an_earlier_boot_of_the_same_machine_is_over_also_where_it_ran_in_a_container() -> None:
    for pid_namespace in ("4026531836", "4026532999"):
        assert HERE.sees(str(replace(HERE, boot_id="boot-0", pid_namespace=pid_namespace))) is Seen.OVER


def test_in_a_container_an_earlier_boot_is_not_known_to_be_of_this_machine() -> None:
    inside = replace(HERE, pid_namespace="4026532999")
    assert inside.sees(str(inside)) is Seen.HERE
    for pid_namespace in ("4026531836", "4026532999"):
        noted = str(replace(inside, boot_id="boot-0", pid_namespace=pid_namespace))
        assert inside.sees(noted) is Seen.ELSEWHERE, "its image's id and its composition's name are on every machine"


@pytest.mark.parametrize(
    "there",
    [
        Machine("beta", "id-of-beta", "boot-7", "4026531836"),
        Machine("beta", "id-of-alpha", "boot-7", "4026531836"),  # a copied image
        Machine("alpha", "id-of-beta", "boot-7", "4026531836"),
        Machine("alpha", "id-of-alpha", "boot-1", "4026532999"),  # the container next door, under the same kernel
    ],
    ids=["another", "same machine-id", "same name", "another container"],
)
def test_what_is_on_another_machine_or_in_another_container_is_unknown(there: Machine) -> None:
    assert HERE.sees(str(there)) is Seen.ELSEWHERE


def test_without_a_machine_id_another_boot_is_not_known_to_be_of_this_machine() -> None:
    bare = replace(HERE, machine_id="")
    assert bare.sees(str(bare)) is Seen.HERE
    assert bare.sees(str(replace(bare, boot_id="boot-0"))) is Seen.ELSEWHERE


@pytest.mark.parametrize("damaged", ["alpha", "a/b/c", "alpha/id-of-alpha//1", "///", "a/b/c/d/e"])
def test_a_note_that_cannot_be_read_is_unknown(damaged: str) -> None:
    assert HERE.sees(damaged) is Seen.ELSEWHERE


def test_a_machine_is_named_the_same_in_each_of_its_boots() -> None:
    later = replace(HERE, boot_id="boot-2")
    assert host_of(str(HERE)) == "alpha"
    assert same_machine(str(HERE), str(later))
    assert not same_machine(str(HERE), str(replace(HERE, host="beta")))


def _told(
    tmp_path: Path, machine_id: str | None, boot: str | None = "f" * 8 + "-aaaa-bbbb-cccc-" + "d" * 12
) -> Machine:
    for name, content in (("machine-id", machine_id), ("boot_id", boot)):
        if content is not None:
            (tmp_path / name).write_text(content + "\n")
    (tmp_path / "pid").symlink_to("pid:[4026531836]")
    return this_machine(tmp_path / "machine-id", tmp_path / "boot_id", tmp_path / "pid")


def test_this_machine_is_told_by_its_files_and_its_machine_id_is_not_shown(tmp_path: Path) -> None:
    told = _told(tmp_path, "0123456789abcdef" * 2)
    assert (told.host, told.pid_namespace) == (os.uname().nodename, "4026531836")
    assert told.boot_id.startswith("ffffffff-")
    assert len(told.machine_id) == 16
    assert "0123456789abcdef" not in str(told)


@pytest.mark.parametrize("content", [None, "", "uninitialized"])
def test_a_machine_without_a_machine_id_has_none(tmp_path: Path, content: str | None) -> None:
    assert _told(tmp_path, content).machine_id == ""


@pytest.mark.parametrize("content", [None, "nothing"])
def test_a_system_that_does_not_tell_its_boot_is_refused_in_one_line(tmp_path: Path, content: str | None) -> None:
    with pytest.raises(MachineUnknown, match=r"boot_id: .*needs to know in which boot") as caught:
        _told(tmp_path, "0123456789abcdef" * 2, content)
    assert "\n" not in str(caught.value)


def test_a_process_of_an_earlier_boot_is_dead_whoever_has_its_numbers_now() -> None:
    me = identify(os.getpid())
    assert me is not None
    assert me.is_alive()
    assert not Identity(me.pid, me.started_ticks, over=True).is_alive()


@pytest.mark.parametrize(
    ("there", "is_one"),
    [
        (HERE, True),
        (replace(HERE, host="container", machine_id="", pid_namespace="4026532999"), True),  # beside us on one kernel
        (replace(HERE, boot_id="boot-0"), False),  # nobody knows what was done to its clock in between
        (replace(HERE, host="beta", boot_id="boot-7"), False),
        (replace(HERE, boot_id=""), False),
    ],
)
def test_times_are_by_one_clock_where_they_were_noted_under_one_kernel_in_one_boot(
    there: Machine, is_one: bool
) -> None:
    assert one_clock(str(HERE), str(there)) is one_clock(str(there), str(HERE)) is is_one
    assert not one_clock(str(HERE), "")
    assert not one_clock("", "")
