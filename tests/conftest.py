"""For every test: a failed one leaves a bundle, and says where; and which worker runs what, where there are two."""

from __future__ import annotations

import re
import shutil
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import settings
from xdist.scheduler import LoadScopeScheduling

from tasks.bundle import save_bundle
from tasks.state_folder import REPOSITORY, StateFolder

if TYPE_CHECKING:
    from tests.support.postgres import PostgresServer

BUNDLES = REPOSITORY / "artifacts" / "bundles"
BYTES_EACH_MAX = 20_000_000

settings.register_profile("laws", deadline=None)  # how long one example takes is the machine's load, not a law
settings.load_profile("laws")


ONE_AFTER_ANOTHER = ("tests/flows/", "tests/integration/test_supervisor.py")
"""Each starts a Prefect server, on the usual ports where they are free: two at once would starve, and race for them."""


class PrefectOnOneWorker(LoadScopeScheduling):
    """Every test goes to whichever worker is free, but all that start a Prefect server to one and the same.

    xdist's own grouping by marker does nothing under this pytest: it renames tests, and pytest no longer looks.
    """

    def _split_scope(self, nodeid: str) -> str:
        return "prefect" if nodeid.startswith(ONE_AFTER_ANOTHER) else nodeid


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> PrefectOnOneWorker:
    """Asked only where xdist distributes."""
    return PrefectOnOneWorker(config, log)


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[PostgresServer]:
    """A PostgreSQL of this run's own. Who kills it starts it again; each test has a database of its own."""
    from tests.support.postgres import postgres  # half a second, which the unit tests can do without

    with postgres() as server:
        yield server


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Any:
    """A failed test saves logs, journals, tables and ports of its stack, else what its folder holds, and says where."""
    report = yield
    if report.failed:
        saved = _saved(item, f"{item.nodeid}: {report.longreprtext}")
        if saved is not None:
            report.sections.append(("bundle", str(saved)))
    return report


def _saved(item: pytest.Item, why: str) -> Path | None:
    values = getattr(item, "funcargs", {}).values()
    BUNDLES.mkdir(parents=True, exist_ok=True)
    name = re.sub(r"[^A-Za-z0-9_.-]+", "-", item.nodeid)[-120:]
    for value in values:
        folder = getattr(value, "folder", None)
        if isinstance(folder, StateFolder):
            return Path(shutil.move(save_bundle(folder, why), BUNDLES / f"{name}.tar.gz"))
    own = getattr(item, "funcargs", {}).get("tmp_path")
    files = [one for one in own.rglob("*") if one.is_file() and one.stat().st_size <= BYTES_EACH_MAX] if own else []
    if not files:
        return None
    path = BUNDLES / f"{name}.tar.gz"
    with tarfile.open(path, "w:gz", compresslevel=3) as archive:
        for one in files:
            archive.add(one, str(one.relative_to(own)), recursive=False)
    return path
