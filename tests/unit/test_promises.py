"""A promise without a test is no promise: each names tests that exist, and where one does not there is no page."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from tests.report import status
from tests.report.status import Result, judged, main, names_of, unmatched

PROMISES = yaml.safe_load((status.HERE / "promises.yaml").read_text())
RUN = """<testsuites><testsuite><testcase classname="tests.unit.test_failover_transport" name="test_one" time="1"/>
</testsuite></testsuites>"""


def test_every_promise_names_tests_that_exist() -> None:
    wrong = []
    for name in names_of(PROMISES):
        file, _, test = name.partition("::")
        path = status.ROOT / file
        begins = rf"^(async )?def {re.escape(test.partition('[')[0])}" if test else r"^(async )?def test_"
        if not path.is_file() or not re.search(begins, path.read_text(), re.MULTILINE):
            wrong.append(name)
    assert wrong == []


def test_a_file_is_named_whole_and_a_test_by_its_beginning() -> None:
    results = [Result("tests/unit/test_failover_transport.py::test_one_at_a_time", "passed", 1.0)]
    for name in ("tests/unit/test_failover_transport.py", "tests/unit/test_failover_transport.py::test_one"):
        assert judged([name], results) == ("passed", 1, 1.0)
    for name in ("tests/unit/test_failover", "tests/unit/test_failover.py", "tests/unit"):
        assert judged([name], results)[0] == f"NO TEST matches {name}"


def test_the_page_is_not_written_where_a_promise_matches_no_test(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "docs").mkdir()
    monkeypatch.setattr(status, "ROOT", tmp_path)
    monkeypatch.setattr(status, "HERE", tmp_path)
    results, page = tmp_path / "tests.xml", tmp_path / "docs" / "status.md"
    results.write_text(RUN)

    def promise(file: str) -> None:
        told = {"promises": [{"text": "t", "tests": [file]}], "thin": []}
        (tmp_path / "promises.yaml").write_text(yaml.safe_dump(told))

    promise("tests/unit/test_failover.py")
    assert unmatched(yaml.safe_load((tmp_path / "promises.yaml").read_text()), status.read_results(results)) == [
        "tests/unit/test_failover.py"
    ]
    assert main([str(results)]) == 1
    assert "no test of the run matches tests/unit/test_failover.py" in capsys.readouterr().err
    assert not page.exists()
    promise("tests/unit/test_failover_transport.py")
    assert main([str(results)]) == 0
    assert "| PASSED |" in page.read_text()
