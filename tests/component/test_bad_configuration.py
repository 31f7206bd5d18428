"""Every field of every configuration out of range: one line that names field, value and range, and exit code 2.

The fields and their bounds are read from the schema itself, so that a new one is covered the day it is added.
"""

from __future__ import annotations

import types
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any, Literal, NamedTuple, Union, get_args, get_origin

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from bot.__main__ import main
from bot.config import BotConfig, Settings
from bot.resolution import ENVIRONMENT_PATHS, FLAG_PATHS


class Bound(NamedTuple):
    """One bound of one field: `sign` of >=, >, <=, <."""

    path: tuple[str, ...]
    kind: str
    sign: str
    limit: Decimal


def members(annotation: Any) -> Iterator[tuple[Any, list[Any]]]:
    """The types a field may have, each with the constraints that stand on it."""
    if get_origin(annotation) in (Union, types.UnionType):
        for member in get_args(annotation):
            yield from members(member)
    elif hasattr(annotation, "__metadata__"):
        yield annotation.__origin__, list(annotation.__metadata__)
    else:
        yield annotation, []


def constraints(field: FieldInfo) -> Iterator[tuple[Any, str, Decimal]]:
    for kind, found in members(field.annotation):
        parts = [*field.metadata, *found]
        for part in [inner for outer in parts for inner in (getattr(outer, "metadata", None) or [outer])]:
            for name, sign in (("ge", ">="), ("gt", ">"), ("le", "<="), ("lt", "<")):
                limit = getattr(part, name, None)
                if limit is not None:
                    yield kind, sign, Decimal(limit)


def bounds(model: type[BaseModel], path: tuple[str, ...] = ()) -> Iterator[Bound]:
    for name, field in model.model_fields.items():
        annotation = field.annotation
        if isinstance(annotation, type) and issubclass(annotation, BaseModel):
            yield from bounds(annotation, (*path, name))
        elif get_origin(annotation) is dict:
            inner = get_args(annotation)[1]
            if isinstance(inner, type) and issubclass(inner, BaseModel):
                yield from bounds(inner, (*path, name, "BTCUSDT"))
        else:
            for kind, sign, limit in constraints(field):
                if kind in (int, Decimal):
                    yield Bound((*path, name), kind.__name__, sign, limit)


def choices(model: type[BaseModel], path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    for name, field in model.model_fields.items():
        annotation = field.annotation
        if isinstance(annotation, type) and issubclass(annotation, BaseModel):
            yield from choices(annotation, (*path, name))
        elif any(get_origin(kind) is Literal for kind, _ in members(annotation)):
            yield (*path, name)


IN_FILE = tuple(bounds(Settings))
BY_FLAG = {path: flag for flag, path in FLAG_PATHS.items() if flag not in ("symbols", "symbol_filter")}
BY_VARIABLE = {path: name for name, path in ENVIRONMENT_PATHS.items()}


def beyond(bound: Bound, step: int) -> Decimal:
    """A value that violates this bound: at it where it is open, `step` past it where it is closed or further out."""
    outward = -1 if bound.sign.startswith(">") else 1
    return bound.limit + outward * step if bound.sign.endswith("=") else bound.limit + outward * (step - 1)


def said_of(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    code = main(list(arguments))
    captured = capsys.readouterr()
    assert code == 2, arguments
    assert captured.out == ""
    assert captured.err.count("\n") == 1, captured.err
    return captured.err


def test_the_schema_was_read() -> None:
    assert len(IN_FILE) > 60
    assert {bound.sign for bound in IN_FILE} == {">=", ">", "<=", "<"}


@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(bound=st.sampled_from(IN_FILE), step=st.integers(1, 10**7))
def test_a_file_value_past_any_bound_is_named_with_its_range(
    bound: Bound, step: int, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    value = beyond(bound, step)
    document: Any = int(value)
    for key in reversed(bound.path):
        document = {key: document}
    (tmp_path / "s.yaml").write_text(yaml.safe_dump(document), encoding="utf-8")
    said = said_of(capsys, "check-config", "--settings", "s.yaml")
    assert ".".join(bound.path) in said
    assert str(int(value)) in said
    assert f"{bound.sign} {bound.limit}" in said or f"{bound.sign}{bound.limit}" in said.replace(" ", "")


@pytest.mark.parametrize("bound", IN_FILE, ids=lambda bound: ".".join(bound.path) + bound.sign)
def test_every_bound_of_a_file_is_held(
    bound: Bound, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    document: Any = int(beyond(bound, 1))
    for key in reversed(bound.path):
        document = {key: document}
    (tmp_path / "s.yaml").write_text(yaml.safe_dump(document), encoding="utf-8")
    assert ".".join(bound.path) in said_of(capsys, "check-config", "--settings", "s.yaml")


@pytest.mark.parametrize(
    "bound",
    [bound for bound in bounds(BotConfig) if ".".join(bound.path) in BY_FLAG],
    ids=lambda bound: ".".join(bound.path) + bound.sign,
)
def test_every_bound_of_a_flag_is_held(
    bound: Bound, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    flag = f"--{BY_FLAG['.'.join(bound.path)].replace('_', '-')}"
    said = said_of(capsys, "run", f"{flag}={int(beyond(bound, 1))}")
    assert f"flag {flag}: {'.'.join(bound.path)}: '{int(beyond(bound, 1))}' is not allowed" in said


@pytest.mark.parametrize(
    "bound",
    [bound for bound in bounds(BotConfig) if ".".join(bound.path) in BY_VARIABLE],
    ids=lambda bound: ".".join(bound.path) + bound.sign,
)
def test_every_bound_of_an_environment_variable_is_held(
    bound: Bound, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    name = BY_VARIABLE[".".join(bound.path)]
    monkeypatch.setenv(name, str(int(beyond(bound, 1))))
    assert f"environment {name}: {'.'.join(bound.path)}" in said_of(capsys, "run")


@pytest.mark.parametrize("path", list(choices(Settings)), ids=".".join)
def test_every_choice_refuses_another_word(
    path: tuple[str, ...], tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    document: Any = "nonsense"
    for key in reversed(path):
        document = {key: document}
    (tmp_path / "s.yaml").write_text(yaml.safe_dump(document), encoding="utf-8")
    said = said_of(capsys, "check-config", "--settings", "s.yaml")
    assert ".".join(path) in said
    assert "'nonsense'" in said
