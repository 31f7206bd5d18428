"""The supervisor on a disk that takes nothing any more: what died is started again, and nothing that runs is lost."""

from __future__ import annotations

import errno
import json
import os
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from tasks.state_folder import StateFolder, write_private
from tasks.supervise import __main__, specs, supervisor
from tasks.supervise.identity import marked, spawn, stop
from tasks.supervise.supervisor import StartFailed, Supervisor
from tasks.supervise.table import Table, read_table, write_table
from tests.support.bot_rig import wait_for

URL = "http://127.0.0.1:9"
LASTS = "import time; time.sleep(600)"


class Disk:
    """Takes a table while `has_room`."""

    def __init__(self) -> None:
        self.has_room = True

    def write_table(self, path: Path, table: Table) -> None:
        if not self.has_room:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
        write_table(path, table)


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Disk:
    """Under the supervisor; guard and watchdog do nothing, and last."""
    made = Disk()
    monkeypatch.setattr(supervisor, "write_table", made.write_table)
    for kind in specs.OF_ACCOUNT:
        lasting = specs.Spec(f"{kind}-a", (sys.executable, "-c", LASTS, kind))
        monkeypatch.setattr(specs, kind, lambda *_, spec=lasting: spec)
    return made


@pytest.fixture
def watching(disk: Disk, tmp_path: Path) -> Iterator[Supervisor]:
    """One that is up, with the guard and the watchdog of one account."""
    folder = StateFolder(tmp_path)
    folder.create()
    write_private(folder.accounts / "a.json", json.dumps({"account": "a"}))
    made = Supervisor(folder, "plan.yaml", "none", None)
    made.table = replace(made.table, state="ready").with_endpoints(prometheus=URL)
    try:
        made.turn()
        yield made
    finally:
        stop(marked(made.table.mark), 2.0)
        for child in made.children.values():
            child.wait(5)


def pid_of(watching: Supervisor, name: str) -> int:
    row = watching.table.row(name)
    assert row is not None
    return row.pid


def killed(watching: Supervisor, name: str) -> int:
    """Its PID, once it is dead."""
    pid = pid_of(watching, name)
    os.kill(pid, signal.SIGKILL)
    watching.children[name].wait(5)
    return pid


def on_disk(watching: Supervisor) -> Table:
    table = read_table(watching.folder.table)
    assert table is not None
    return table


@pytest.mark.parametrize("name", ["guard-a", "watchdog-a"])
def test_what_died_is_started_again_though_the_table_cannot_be_written(
    watching: Supervisor, disk: Disk, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    watching.attempts[name].started_s -= supervisor.SETTLED_AFTER_S + 1  # so that it is started again at once
    disk.has_room = False
    dead = killed(watching, name)
    watching.turn()
    row = watching.table.row(name)
    assert row is not None
    assert row.pid != dead
    assert row.identity.is_alive()
    stale = on_disk(watching).row(name)
    assert stale is not None
    assert stale.pid == dead
    watching.turn()
    watching.turn()
    said = [message for message in caplog.messages if "No space left" in message]
    assert len(said) == 1, "once, and not at every turn"
    disk.has_room = True
    watching.turn()
    assert on_disk(watching) == watching.table, "the table is true once there is room"


def test_a_child_that_no_table_names_is_adopted_by_the_next_supervisor(watching: Supervisor, disk: Disk) -> None:
    watching.attempts["guard-a"].started_s -= supervisor.SETTLED_AFTER_S + 1
    disk.has_room = False
    killed(watching, "guard-a")
    watching.turn()
    disk.has_room = True
    following = Supervisor(watching.folder, "plan.yaml", "none", on_disk(watching))
    following.turn()
    assert following.children == {}, "it started nothing a second time"
    for name in ("guard-a", "watchdog-a"):
        assert pid_of(following, name) == pid_of(watching, name)


def test_a_prometheus_that_no_table_names_is_found_by_what_it_was_started_with(watching: Supervisor) -> None:
    spec = specs.Spec("prometheus", (sys.executable, "-c", LASTS, "--port=1"))
    watching._ensure(spec)
    started = pid_of(watching, "prometheus")
    watching.table = watching.table.without_row("prometheus")
    watching._ensure(spec)
    assert pid_of(watching, "prometheus") == started


def test_an_account_that_comes_while_there_is_no_room_gets_its_guard(watching: Supervisor, disk: Disk) -> None:
    for name in ("guard-a", "watchdog-a"):
        watching._retire(name)
    disk.has_room = False
    watching.turn()
    assert {row.name for row in watching.table.processes if row.identity.is_alive()} == {"guard-a", "watchdog-a"}


def test_what_cannot_be_started_now_is_started_later_and_keeps_nobody_else_from_it(
    watching: Supervisor, monkeypatch: pytest.MonkeyPatch
) -> None:
    refused = {"guard"}

    def limited(command: tuple[str, ...], *rest: object) -> object:
        if command[-1] in refused:
            raise OSError(errno.EAGAIN, os.strerror(errno.EAGAIN))
        return spawn(command, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(supervisor, "spawn", limited)
    for name in ("guard-a", "watchdog-a"):
        watching.attempts[name].started_s -= supervisor.SETTLED_AFTER_S + 1
        killed(watching, name)
    watching.turn()
    alive = {row.name for row in watching.table.processes if row.identity.is_alive()}
    assert alive == {"watchdog-a"}
    refused.clear()

    def guarded() -> bool:
        watching.turn()
        row = watching.table.row("guard-a")
        return row is not None and row.identity.is_alive()

    wait_for("the guard is back", guarded, 10)


def test_an_orderly_end_needs_no_room(watching: Supervisor, disk: Disk) -> None:
    disk.has_room = False
    watching.close()
    assert watching.table.state == "stopping"
    disk.has_room = True
    watching.turn()
    assert on_disk(watching).state == "stopping"


def test_a_stack_that_cannot_say_that_it_starts_does_not_start(disk: Disk, tmp_path: Path) -> None:
    folder = StateFolder(tmp_path)
    folder.create()
    disk.has_room = False
    starting = Supervisor(folder, "plan.yaml", "none", None)
    with pytest.raises(StartFailed, match="No space left"):
        starting.start()
    starting.close()


def test_a_process_whose_log_cannot_be_opened_runs_without_one(tmp_path: Path) -> None:
    log = tmp_path / "watchdog.log"
    log.mkdir()
    child = spawn([sys.executable, "-c", LASTS], {}, log, tmp_path)
    try:
        assert {os.readlink(f"/proc/{child.pid}/fd/{number}") for number in (1, 2)} == {os.devnull}
    finally:
        child.kill()
        child.wait(5)


def test_a_start_that_the_disk_ends_leaves_no_process(
    disk: Disk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    folder = StateFolder(tmp_path)
    folder.create()
    begun: list[str] = []

    class Starting(Supervisor):
        def start(self) -> None:
            self._ensure(specs.Spec("prefect-server", (sys.executable, "-c", LASTS)))
            begun.append(self.table.mark)
            assert len(marked(self.table.mark)) == 1
            raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr(__main__, "Supervisor", Starting)
    monkeypatch.setattr(signal, "signal", lambda *_: None)
    assert __main__._supervise(folder, "plan.yaml", specs.NO_MARKET) == 1
    assert marked(begun[0]) == []
    assert any("Read-only" in message for message in caplog.messages)


@pytest.mark.parametrize("state", ["starting", "ready"])
def test_a_start_that_cannot_say_a_later_step_fails_too(
    disk: Disk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, state: str
) -> None:
    folder = StateFolder(tmp_path)
    folder.create()
    starting = Supervisor(folder, "plan.yaml", specs.NO_MARKET, None)
    for step in ("_prometheus_spec", "_await_answer", "_create_work_pool"):
        monkeypatch.setattr(starting, step, lambda *_: None)

    def begun(_spec: object) -> None:
        disk.has_room = state == "ready"
        starting._save(starting.table)

    def full_when_ready(path: Path, table: Table) -> None:
        disk.has_room = disk.has_room and table.state != "ready"
        disk.write_table(path, table)

    monkeypatch.setattr(starting, "_ensure", begun)
    monkeypatch.setattr(supervisor, "write_table", full_when_ready)
    with pytest.raises(StartFailed, match="No space left"):
        starting.start()


def test_the_take_down_after_a_start_that_failed_for_room_goes_to_its_end(
    disk: Disk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = StateFolder(tmp_path)
    folder.create()
    write_private(folder.accounts / "a.json", json.dumps({"account": "a"}))
    disk.has_room = False
    seen: list[set[str]] = []

    def stop_trading(*given: object) -> bool:
        turn, mark = given[-1], on_way[0].table.mark
        for _ in range(2):
            turn()  # type: ignore[operator]
        seen.append({row.name for row in on_way[0].table.processes})
        assert len(marked(mark)) == 2
        return True

    on_way: list[Supervisor] = []

    class Starting(Supervisor):
        def start(self) -> None:
            on_way.append(self)
            super().start()

    monkeypatch.setattr(__main__, "Supervisor", Starting)
    monkeypatch.setattr(__main__, "stop_trading", stop_trading)
    monkeypatch.setattr(__main__, "retire_simulated_accounts", lambda _folder: None)
    monkeypatch.setattr(signal, "signal", lambda *_: None)
    try:
        assert __main__._supervise(folder, "plan.yaml", specs.NO_MARKET) == 1
    finally:
        left = marked(on_way[0].table.mark)
        stop(left, 2.0)
    assert seen == [{"guard-a", "watchdog-a"}], "trading is stopped through them"
    assert left == []


class Hands:
    """Turns of a supervisor on a hand-turned clock, with how often a process was tried."""

    def __init__(self, watching: Supervisor, monkeypatch: pytest.MonkeyPatch) -> None:
        self.watching = watching
        self.now_s = time.monotonic()
        self.tried: list[str] = []
        self.refused = {"guard", "watchdog"}
        monkeypatch.setattr(supervisor, "spawn", self._spawn)
        monkeypatch.setattr(supervisor, "time", SimpleNamespace(monotonic=lambda: self.now_s))

    def _spawn(self, command: Sequence[str], *rest: object) -> object:
        self.tried.append(command[-1])
        if command[-1] in self.refused:
            raise OSError(errno.EAGAIN, os.strerror(errno.EAGAIN))
        return spawn(command, *rest)  # type: ignore[arg-type]

    def turn_for(self, seconds: int) -> None:
        for _ in range(seconds * 5):
            self.watching.turn()
            self.now_s += 0.2


def test_what_cannot_be_started_at_all_is_tried_later_each_time_and_keeps_the_log_of_its_last_life(
    watching: Supervisor, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    for name in ("guard-a", "watchdog-a"):
        watching._retire(name)
        watching.folder.log(name).write_text("its last words\n")
        watching.folder.log(name).with_name(f"{name}.log.1").unlink(missing_ok=True)
    hands = Hands(watching, monkeypatch)
    hands.turn_for(55)
    assert {kind: hands.tried.count(kind) for kind in specs.OF_ACCOUNT} == dict.fromkeys(specs.OF_ACCOUNT, 9)
    said = [message for message in caplog.messages if "not started" in message]
    assert [message.split(":")[0] for message in said] == ["guard-a", "watchdog-a"], "once each"
    for name in ("guard-a", "watchdog-a"):
        assert watching.folder.log(name).with_name(f"{name}.log.1").read_text() == "its last words\n"
    hands.refused.clear()
    hands.turn_for(11)
    assert {row.name for row in watching.table.processes if row.identity.is_alive()} == {"guard-a", "watchdog-a"}
    assert len(hands.tried) == 20, "each once more"


def test_an_empty_log_takes_no_other_ones_place(watching: Supervisor) -> None:
    log = watching.folder.log("guard-a")
    kept = log.with_name("guard-a.log.1")
    kept.write_text("its last words\n")
    watching._retire("guard-a")
    log.write_text("")
    watching.turn()
    assert kept.read_text() == "its last words\n"


def test_a_take_down_starts_nothing_of_the_stack_itself_that_never_ran(
    watching: Supervisor, monkeypatch: pytest.MonkeyPatch
) -> None:
    hands = Hands(watching, monkeypatch)
    watching.specs["prefect-worker"] = specs.Spec("prefect-worker", (sys.executable, "-c", LASTS, "worker"))
    hands.turn_for(1)
    assert hands.tried == []
