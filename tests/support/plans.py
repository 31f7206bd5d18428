"""Copies of a plan or of another YAML file with something in it changed, for the tests of what loads and what does not.

All by libyaml: in pure Python one copy of the real plan takes longer than most tests.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from gates.stages import ROOT

SMOKE = ROOT / "configs" / "rollout.smoke.yaml"
REAL = ROOT / "configs" / "rollout.yaml"
BRIEF = ROOT / "tests" / "support" / "plan_brief.yaml"


def patient_brief(unknown_deadline_s: float = 9) -> str:
    """The brief plan where neither people's silence nor a source that answers late is what is shown.

    On a slow machine the five seconds for a signature pass between two requests of a test, and four without a datum in
    one stop of Prometheus. A deadline may be as long as the stage, which by default lasts nine seconds.
    """
    text = BRIEF.read_text()
    for old, new in (("sign_off_reminder_s: 2", "sign_off_reminder_s: 200"), ("expiry_s: 5", "expiry_s: 300")):
        assert old in text
        text = text.replace(old, new)
    return f'{text.rstrip()}\n    overrides:\n      "*": {{unknown_deadline_s: {unknown_deadline_s:g}}}\n'


def content_of(path: Path) -> Any:
    """What the file says, to be changed at will."""
    return yaml.load(path.read_text(encoding="utf-8"), Loader=yaml.CSafeLoader)


def written(path: Path, content: Any) -> Path:
    """The file at `path`, which now says `content`."""
    path.write_text(yaml.dump(content, Dumper=yaml.CSafeDumper), encoding="utf-8")
    return path


def edited(path: Path, folder: Path, *where: Any, to: Any) -> Path:
    """A copy of the file in `folder` with the one value at `where` changed (None removes it)."""
    content = at = content_of(path)
    for key in where[:-1]:
        at = at[key]
    if to is None:
        del at[where[-1]]
    else:
        at[where[-1]] = to
    return written(folder / path.name, content)
