"""One stack for all tests of the flows: each test has its own rollout and account on it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tasks.bundle import save_bundle
from tests.flows.prefect_stack import PrefectStack


@pytest.fixture(scope="session")
def prefect_stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PrefectStack]:
    """The stack of the session; afterwards it must go down clean."""
    stack = PrefectStack(tmp_path_factory.mktemp("stack") / "home")
    stack.open()
    yield stack
    down = stack.close()
    assert down.returncode == 0, down.stdout + down.stderr


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Any:
    """A failed test saves a bundle of its stack and says where."""
    report = yield
    stack = getattr(item, "funcargs", {}).get("prefect_stack")
    if report.failed and isinstance(stack, PrefectStack):
        report.sections.append(("bundle", str(save_bundle(stack.folder, f"{item.nodeid}: {report.longreprtext}"))))
    return report
