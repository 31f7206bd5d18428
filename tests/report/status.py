"""Writes `docs/status.md` from `tests/report/promises.yaml` and the results of the last whole run (JUnit XML).

    python -m tests.report.status artifacts/tests.xml [--check]

A promise names its tests by file or by file::the beginning of a name. A name that matches no test of the run is an
error, told by name, and no page is written: a promise without a test is no promise. `--check` writes nothing and exits
1 where a promise is not kept.
"""

from __future__ import annotations

import argparse
import sys
import xml.etree.ElementTree as ET
from dataclasses import dataclass
from pathlib import Path

import yaml

HERE = Path(__file__).parent
ROOT = HERE.parent.parent


@dataclass(frozen=True)
class Result:
    """One test: `file::name`, how it ended, how long it took in seconds."""

    node: str
    outcome: str
    seconds: float


def read_results(path: Path) -> list[Result]:
    """All test cases of a JUnit file. `outcome`: passed | failed | skipped."""
    results = []
    for case in ET.parse(path).getroot().iter("testcase"):  # noqa: S314 - our own file, written by pytest a moment ago
        module = case.get("classname", "").replace(".", "/")
        outcome = "passed"
        if case.find("failure") is not None or case.find("error") is not None:
            outcome = "failed"
        elif case.find("skipped") is not None:
            outcome = "skipped"
        results.append(Result(f"{module}.py::{case.get('name', '')}", outcome, float(case.get("time", "0"))))
    return results


def judged(wanted: list[str], results: list[Result]) -> tuple[str, int, float]:
    """The worst outcome of the tests a promise names, how many there are, and their time in seconds."""
    matched = [r for r in results if any(_matches(w, r) for w in wanted)]
    for name in wanted:
        if not any(_matches(name, r) for r in results):
            return f"NO TEST matches {name}", 0, 0.0
    worst = next((word for word in ("failed", "skipped") if any(r.outcome == word for r in matched)), "passed")
    return worst, len(matched), sum(r.seconds for r in matched)


def _matches(name: str, result: Result) -> bool:
    """A file must be named whole: half a name would go on matching when its file is renamed or gone."""
    file, _, test = name.partition("::")
    found, _, called = result.node.partition("::")
    return found == file and called.startswith(test)


def names_of(promises: dict[str, list[dict[str, object]]]) -> list[str]:
    """Every test that a promise names."""
    return [str(name) for promise in promises["promises"] for name in _list(promise["tests"])]


def unmatched(promises: dict[str, list[dict[str, object]]], results: list[Result]) -> list[str]:
    """The names that no test of the run matches."""
    return [name for name in names_of(promises) if not any(_matches(name, one) for one in results)]


def render(promises: dict[str, list[dict[str, object]]], results: list[Result]) -> tuple[str, bool]:
    """The page, and whether every promise is kept."""
    kept = True
    lines = [
        "# Status",
        "",
        "Generated from the last whole run of the tests by `make status`; not written by hand.",
        "",
        f"{len(results)} tests: "
        + ", ".join(f"{sum(r.outcome == w for r in results)} {w}" for w in ("passed", "failed", "skipped"))
        + ".",
        "",
        "## Promised, shown by, last result",
        "",
        "| promised | tests | result | s |",
        "|---|---|---|---|",
    ]
    for promise in promises["promises"]:
        tests = names_of({"promises": [promise]})
        outcome, count, seconds = judged(tests, results)
        kept &= outcome == "passed"
        shown = "<br>".join(f"`{t.removeprefix('tests/')}`" for t in tests)
        lines.append(f"| {promise['text']} | {shown} ({count}) | {outcome.upper()} | {seconds:.1f} |")
    lines += ["", "## Thin or missing", ""]
    lines += [f"- **{thin['part']}**: {thin['what']}" for thin in promises["thin"]]
    return "\n".join(lines) + "\n", kept


def _list(value: object) -> list[object]:
    return value if isinstance(value, list) else [value]


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.report.status", description=__doc__.splitlines()[0])
    parser.add_argument("results", type=Path)
    parser.add_argument("--check", action="store_true")
    arguments = parser.parse_args(argv)
    promises = yaml.safe_load((HERE / "promises.yaml").read_text())
    results = read_results(arguments.results)
    if lost := unmatched(promises, results):
        print("\n".join(f"no test of the run matches {name}, which a promise names" for name in lost), file=sys.stderr)
        return 1
    page, kept = render(promises, results)
    if not arguments.check:
        (ROOT / "docs" / "status.md").write_text(page)
    if not kept:
        print("not every promise is kept; see docs/status.md", file=sys.stderr)
    return 0 if kept else 1


if __name__ == "__main__":
    raise SystemExit(main())
