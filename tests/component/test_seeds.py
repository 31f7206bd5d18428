"""The file of seeds, where several processes write to it and where the machine stops in the middle."""

from __future__ import annotations

import multiprocessing
import os
from multiprocessing.synchronize import Barrier
from pathlib import Path

import pyotp
import pytest

from tasks.sign_off import Seeds

EACH = 40
SPAWN = multiprocessing.get_context("spawn")


def _enrol(both: Barrier, path: Path, whose: str) -> None:
    both.wait(60)
    for number in range(EACH):
        Seeds(path).put(f"{whose}-{number}", pyotp.random_base32())
        Seeds(path).add([f"{whose}-{number}-too"])


def test_two_processes_that_enrol_at_once_lose_nobody(tmp_path: Path) -> None:
    path, both = tmp_path / "approvers" / "seeds.json", SPAWN.Barrier(2)
    processes = [SPAWN.Process(target=_enrol, args=(both, path, whose)) for whose in ("ada", "grace")]
    for one in processes:
        one.start()
    for one in processes:
        one.join(120)
    assert [one.exitcode for one in processes] == [0, 0]
    wanted = {f"{whose}-{number}{too}" for whose in ("ada", "grace") for number in range(EACH) for too in ("", "-too")}
    assert wanted - set(Seeds(path).read()) == set()


def test_a_seed_is_on_the_disk_before_it_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, synced = tmp_path / "seeds.json", list[str]()
    really = os.fsync

    def sync(handle: int) -> None:
        target = Path(f"/proc/self/fd/{handle}").resolve()
        synced.append("folder" if target.is_dir() else f"{target.read_text()}, counts: {path.exists()}")
        really(handle)

    monkeypatch.setattr(os, "fsync", sync)
    Seeds(path).put("ada", "A" * 32)
    assert synced == [f'{{"ada": "{"A" * 32}"}}, counts: False', "folder"]
