"""A one-time code is given where nobody else on the machine reads it: on stdin, or typed unseen at the terminal."""

from __future__ import annotations

import getpass
import io
import sys
from typing import TextIO

import pytest

from flows.__main__ import parser
from flows.codes import CodeMissing, code_of


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def _asked(monkeypatch: pytest.MonkeyPatch, stdin: TextIO, answer: str = "") -> list[str]:
    """What is shown to whoever is asked, in `stdin`'s place."""
    prompts: list[str] = []

    def typed(prompt: str) -> str:
        prompts.append(prompt)
        return answer

    monkeypatch.setattr(sys, "stdin", stdin)
    monkeypatch.setattr(getpass, "getpass", typed)
    return prompts


def test_a_code_on_the_command_line_is_taken_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    prompts = _asked(monkeypatch, Terminal("654321\n"))
    assert code_of("ada", "123456") == "123456"
    assert prompts == []


@pytest.mark.parametrize("text", ["123456\n", "123456", " 123 456 \nwhat follows is for others"])
def test_a_dash_reads_one_line_of_stdin(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    prompts = _asked(monkeypatch, io.StringIO(text))
    assert code_of("ada", "-") == text.partition("\n")[0].strip()
    assert prompts == []


def test_without_one_it_is_asked_for_unseen(monkeypatch: pytest.MonkeyPatch) -> None:
    prompts = _asked(monkeypatch, Terminal(), " 123456 ")
    assert code_of("ada", None) == "123456"
    assert prompts == ["one-time code of ada: "]


@pytest.mark.parametrize(
    ("given", "stdin", "said"),
    [
        (None, io.StringIO("123456\n"), "--code: not given, and there is no terminal to ask for it; allowed: six"),
        ("-", io.StringIO(""), "--code -: nothing on stdin; allowed: six digits"),
        ("-", io.StringIO(" \n123456"), "--code -: nothing on stdin; allowed: six digits"),
        ("-", io.TextIOWrapper(io.BytesIO(b"\xff\xfe"), "utf-8"), "--code -: nothing that can be read on stdin"),
        ("-", None, "--code -: nothing on stdin"),
        (None, None, "--code: not given, and there is no terminal to ask for it"),
        (None, Terminal(), "--code: not given; allowed: six digits"),
    ],
)
def test_where_there_is_none_it_is_refused_in_a_line(
    monkeypatch: pytest.MonkeyPatch, given: str | None, stdin: TextIO, said: str
) -> None:
    _asked(monkeypatch, stdin)
    with pytest.raises(CodeMissing) as caught:
        code_of("ada", given)
    assert str(caught.value).startswith(said)


def test_a_terminal_that_is_closed_is_no_code(monkeypatch: pytest.MonkeyPatch) -> None:
    def closed(_prompt: str) -> str:
        raise EOFError

    monkeypatch.setattr(sys, "stdin", Terminal())
    monkeypatch.setattr(getpass, "getpass", closed)
    with pytest.raises(CodeMissing, match="--code: not given; allowed: six digits"):
        code_of("ada", None)


@pytest.mark.parametrize(
    "words",
    [
        "sign-off r --gate entry --by ada --decision GO --evidence abcdef",
        "attest item --by ada --evidence file",
        "enroll linus --confirm --by ada",
        "resume-request --by ada",
        "resume-confirm release-1 --by ada",
    ],
)
def test_every_command_that_takes_one_takes_it_alike(words: str) -> None:
    assert parser().parse_args(words.split()).code is None
    assert parser().parse_args([*words.split(), "--code", "-"]).code == "-"
    assert parser().parse_args([*words.split(), "--code", "123456"]).code == "123456"
