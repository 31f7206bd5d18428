"""Every command and option says what it is for, each number its unit and range; no page names what does not exist."""

from __future__ import annotations

import argparse
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydantic import BaseModel

import tasks.evidence
import tasks.guard.__main__
import tasks.supervise.__main__
from bot.command_line import build_parser
from bot.commands import record, rehearse
from bot.config import BotConfig
from bot.resolution import FLAG_PATHS
from gates.sources import great_expectations_journal
from tasks.state_folder import REPOSITORY
from tests.report import commands as commands_page
from tests.report.architecture import PAGE

PARSERS: dict[str, argparse.ArgumentParser] = {
    "mm-bot": build_parser(),
    **commands_page.PARSERS,
    "python -m tasks.guard": tasks.guard.__main__._parser(),
    "python -m tasks.supervise": tasks.supervise.__main__._parser(),
    "python -m tasks.evidence": tasks.evidence._parser(),
    "python -m gates.sources.great_expectations_journal": great_expectations_journal._parser(),
}
NUMBERS = {"N": "", "S": " s", "MS": " ms", "BPS": " bps", "RATIO": "", "QUOTE": "", "PORT": ""}
"""Metavar of a number → how its help must name its unit; what has no unit of its own says what it counts."""
A_RANGE = re.compile(r"(>=? ?[\d.]+|[\d.]+) to (< ?|--)?[\w.]+|>= \d+")
CODE = re.compile(r"`([^`\n]+)`|```(?!mermaid)[a-z]*\n(.*?)```|```mermaid.*?```", re.DOTALL)
PAGES = sorted({*(REPOSITORY / "docs").rglob("*.md"), REPOSITORY / "README.md", REPOSITORY / "CONTRIBUTING.md"})


def commands(parser: argparse.ArgumentParser, name: str) -> Iterator[tuple[str, argparse.ArgumentParser]]:
    """The parser and all below it, by what is typed."""
    yield name, parser
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for word, below in action.choices.items():
                yield from commands(below, f"{name} {word}")


ALL = [one for name, parser in PARSERS.items() for one in commands(parser, name)]
OPTIONS = [
    (f"{name} {' '.join(action.option_strings) or action.dest}", action)
    for name, parser in ALL
    for action in parser._actions
    if not isinstance(action, argparse._HelpAction | argparse._SubParsersAction)
]


def test_every_command_and_option_has_a_text() -> None:
    bare = [name for name, parser in PARSERS.items() if not parser.description]
    for name, parser in ALL:
        for action in parser._actions:
            if isinstance(action, argparse._SubParsersAction):
                told = {choice.dest: choice.help for choice in action._choices_actions}
                bare += [f"{name} {word}" for word in action.choices if not told.get(word)]
    bare += [name for name, action in OPTIONS if action.help in (None, "", argparse.SUPPRESS)]
    assert bare == []


def test_the_reference_of_the_other_commands_is_up_to_date() -> None:
    written = commands_page.PAGE.read_text(encoding="utf-8")
    assert written == commands_page.page(), "python -m tests.report.commands writes it anew"


def test_every_option_that_takes_a_value_says_what_kind_and_every_number_its_range_and_unit() -> None:
    wrong = []
    for name, action in OPTIONS:
        said = action.help or ""
        if action.nargs == 0 or action.choices is not None:
            continue
        if action.metavar is None:
            wrong.append(f"{name}: no metavar")
        elif action.metavar in NUMBERS and not (A_RANGE.search(said) and NUMBERS[action.metavar] in said):
            wrong.append(f"{name} {action.metavar}: {said!r} names no range, or not its unit")
    assert wrong == []


def bounds(path: str) -> set[str]:
    """The numbers that the schema holds a value to."""
    section, name = path.split(".")
    annotation = BotConfig.model_fields[section].annotation
    assert annotation is not None
    assert issubclass(annotation, BaseModel)
    held = annotation.model_fields[name].metadata
    return {
        format(getattr(one, key), "f").split(".")[0]
        for one in held
        for key in ("ge", "gt", "le", "lt")
        if hasattr(one, key)
    }


@pytest.mark.parametrize("flag", [flag for flag, path in FLAG_PATHS.items() if bounds(path)])
def test_the_range_that_help_tells_is_the_one_that_the_schema_holds(flag: str) -> None:
    run = dict(commands(PARSERS["mm-bot"], "mm-bot"))["mm-bot run"]
    said = next(action.help or "" for action in run._actions if action.dest == flag)
    numbers = set(re.findall(r"\d+", said.replace("--max-total", "1000000000")))
    assert bounds(FLAG_PATHS[flag]) <= numbers, said


def test_the_other_ranges_are_those_of_the_code() -> None:
    for command, option, number in (
        ("mm-bot rehearse", "span_s", rehearse.SPAN_S_MAX),
        ("mm-bot record", "duration_s", record.DURATION_MAX_S),
        ("rollout attest", "evidence", tasks.attestation.EVIDENCE_MAX_BYTES),
    ):
        said = next(action.help or "" for name, action in OPTIONS if name.startswith(command) and action.dest == option)
        assert str(number) in said


def typed(page: Path) -> Iterator[list[str]]:
    """Every line of a page that is typed into a shell, as words."""
    for inline, block in CODE.findall(page.read_text(encoding="utf-8")):
        for line in (block.replace("\\\n", " ") or inline).splitlines():
            try:
                words = shlex.split(line, comments=True)
            except ValueError:
                continue
            while words and re.fullmatch(r"[A-Z_]+=.*|export|sudo", words[0]):
                words = words[1:]
            yield words


def targets() -> set[str]:
    return set(re.findall(r"^([a-z]+):", (REPOSITORY / "Makefile").read_text(), re.MULTILINE))


def refused(words: list[str]) -> str:
    """Why what a page tells to type does not exist; empty where it does, or is none of ours."""
    name = words[0].removeprefix(".venv/bin/")
    if name == "make":
        unknown = [word for word in words[1:] if "=" not in word and word.isalpha() and word not in targets()]
        return f"no target {', '.join(unknown)}" if unknown else ""
    if name == "python" and words[1:3] == ["-m", "gates"]:
        name, words = "gates", words[2:]
    if name not in ("rollout", "mm-bot", "gates"):
        return ""
    known = dict(ALL)
    at = name
    for word in words[1:]:
        if f"{at} {word}" in known:
            at = f"{at} {word}"
    if at == name and len(words) > 1 and re.fullmatch(r"[a-z][a-z-]+", words[1]):
        return f"{name} has no command {words[1]}"
    flags = {flag for action in known[at]._actions for flag in action.option_strings}
    unknown = [word for word in words[1:] if word.startswith("--") and word.split("=")[0] not in flags]
    return f"{at} has no {', '.join(unknown)}" if unknown else ""


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(REPOSITORY)))
def test_every_command_that_a_page_names_exists(page: Path) -> None:
    lines = [(words, refused(words)) for words in typed(page) if words]
    assert [f"{' '.join(words)}: {said}" for words, said in lines if said] == []


def headings(page: Path) -> set[str]:
    """What a link into the page may name: each heading as GitHub writes it."""
    found = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in found}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(REPOSITORY)))
def test_every_file_page_and_heading_that_a_page_links_to_exists(page: Path) -> None:
    links = re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8"))
    wrong = []
    for link in [link for link in links if "://" not in link]:
        path, _, heading = link.partition("#")
        target = page.parent / path if path else page
        if not target.exists() or (heading and heading not in headings(target)):
            wrong.append(link)
    assert wrong == []


def test_the_pages_are_found_and_what_does_not_exist_is_seen() -> None:
    assert PAGE in PAGES
    assert len([words for page in PAGES for words in typed(page) if words and words[0] == "make"]) > 10
    assert refused(["make", "coffee"]) == "no target coffee"
    assert refused([".venv/bin/rollout", "fly"]) == "rollout has no command fly"
    assert refused(["rollout", "demo", "--moon", "x"]) == "rollout demo has no --moon"
    assert refused(["python", "-m", "gates", "lint", "--plan", "FILE"]) == ""
    assert refused(["mm-bot", "kill-switch", "--execute", "--hurry"]) == "mm-bot kill-switch has no --hurry"
