"""Every kind of link by which a stage run is changed is one that the audit reads: else each change would be a fault."""

from __future__ import annotations

import re

from tasks.record_told import CHANGES_RUN
from tasks.state_folder import REPOSITORY

A_CHANGE = re.compile(r"change_stage_run(?:\(|,)\s*[\w.]+,\s*([^,\s]+)")


def test_the_kinds_that_are_written_are_the_kinds_that_are_read() -> None:
    found = {
        kind for path in (REPOSITORY / "tasks").rglob("*.py") for kind in A_CHANGE.findall(path.read_text("utf-8"))
    } - {"stage_run_id:", "kind:"}
    assert {f'"{kind}"' for kind in CHANGES_RUN} == found
