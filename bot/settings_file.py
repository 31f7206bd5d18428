"""Reading YAML and saying in one line what is wrong with it. Decimals are read as decimals, never through a float."""

from __future__ import annotations

import difflib
from collections.abc import Hashable
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Any, get_args, get_origin

import yaml
from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

TEXT_CHARS_MAX = 80


class ConfigError(Exception):
    """A configuration that cannot be used. The message is one line: where, which key, its value, what is allowed."""


class _Loader(yaml.CSafeLoader):
    """The safe loader with exact decimals; a key given twice is an error, not the second value."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen: set[object] = set()
        for key_node, _ in node.value:
            if not isinstance(key_node, yaml.ScalarNode):
                raise yaml.MarkedYAMLError(problem="a key is not a word", problem_mark=key_node.start_mark)
            if key_node.value in seen:
                raise yaml.MarkedYAMLError(
                    problem=f"key {key_node.value!r} is given twice", problem_mark=key_node.start_mark
                )
            seen.add(key_node.value)
        return super().construct_mapping(node, deep)


def _decimal(loader: yaml.CSafeLoader, node: yaml.ScalarNode) -> Decimal:
    text = str(loader.construct_scalar(node)).replace("_", "")
    try:
        return Decimal(text.lower().replace(".inf", "inf").replace(".nan", "nan"))
    except InvalidOperation:
        raise yaml.MarkedYAMLError(problem=f"{text!r} is not a number", problem_mark=node.start_mark) from None


_Loader.add_constructor("tag:yaml.org,2002:float", _decimal)


def read_yaml(path: Path) -> dict[str, object]:
    """The file's mapping; an empty file is an empty mapping. Raises ConfigError naming file and line."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8 text"
        raise ConfigError(f"{path}: cannot be read ({reason})") from error
    try:
        loaded = yaml.load(text, Loader=_Loader)  # noqa: S506 - a safe loader of our own, see above
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f":{min(mark.line + 1, len(text.splitlines()))}" if mark is not None else ""
        problem = getattr(error, "problem", None) or "not YAML"
        raise ConfigError(f"{path}{line}: {problem}") from error
    except ValueError as error:  # a date that is none; YAML reads 2026-13-45 as one
        raise ConfigError(f"{path}: not YAML: {error}") from error
    except RecursionError:
        raise ConfigError(f"{path}: not YAML: nested too deeply") from None
    if loaded is None:
        return {}
    if not isinstance(loaded, dict):
        raise ConfigError(f"{path}: holds a {type(loaded).__name__}, a mapping of sections is needed")
    return loaded


def read_sections(path: Path) -> dict[str, dict[str, object]]:
    """The file as sections of keys. Raises ConfigError also where a section is no mapping."""
    sections: dict[str, dict[str, object]] = {}
    for name, values in read_yaml(path).items():
        if not isinstance(values, dict):
            raise ConfigError(f"{path}: {name}: {values!r} is not allowed; needs a mapping of keys")
        sections[str(name)] = values
    return sections


def one_line(error: ValidationError, model: type[BaseModel], where: str) -> str:
    """The first thing wrong, as `where: section.key: value …; allowed: …`."""
    first = error.errors(include_url=False)[0]
    loc = [str(part) for part in first["loc"]]
    path = ".".join(loc) or "configuration"
    shown = repr(first["input"]) if isinstance(first["input"], str) else str(first["input"])
    if len(shown) > TEXT_CHARS_MAX:
        shown = shown[:TEXT_CHARS_MAX] + "…"
    if first["type"] == "extra_forbidden":
        known = sorted(_known_keys(model, loc[:-1]))
        near = difflib.get_close_matches(loc[-1], known, n=1)
        hint = f" (did you mean {near[0]}?)" if near else ""
        return f"{where}: {path}: unknown key{hint}; allowed: {', '.join(known)}"
    if first["type"] == "value_error":
        section = f"{path}: " if loc else ""
        return f"{where}: {section}{first['ctx']['error']!s}"
    message = first["msg"].removeprefix("Input should be ").replace("String should match", "to match")
    bounds = _bounds(model, loc)
    return f"{where}: {path}: {shown} is not allowed: needs {message[:1].lower()}{message[1:]}" + (
        f"; allowed: {bounds}" if bounds else ""
    )


def _known_keys(model: type[BaseModel], loc: list[str]) -> list[str]:
    section = _section(model, loc)
    return list(section.model_fields) if section is not None else []


def _section(model: type[BaseModel], loc: list[str]) -> type[BaseModel] | None:
    """The model that a path of keys leads to; a mapping of models takes one key of its own on the way."""
    current: type[BaseModel] = model
    parts = iter(loc)
    for part in parts:
        field = current.model_fields.get(part)
        annotation = None if field is None else field.annotation
        if get_origin(annotation) is dict:
            annotation = get_args(annotation)[1]
            next(parts, None)
        if not (isinstance(annotation, type) and issubclass(annotation, BaseModel)):
            return None
        current = annotation
    return current


def _bounds(model: type[BaseModel], loc: list[str]) -> str:
    """The range of the innermost field on the path; empty where it has none."""
    field = None
    for depth in range(len(loc), 0, -1):
        section = _section(model, loc[: depth - 1])
        field = section.model_fields.get(loc[depth - 1]) if section is not None else None
        if field is not None:
            break
    if field is None:
        return ""
    words = []
    for source in _metadata(field):
        for name, sign in (("gt", "> "), ("ge", ">= "), ("lt", "< "), ("le", "<= ")):
            bound = getattr(source, name, None)
            if bound is not None:
                words.append(f"{sign}{bound}")
    return " and ".join(words)


def _metadata(field: FieldInfo) -> list[object]:
    """Constraints of the field itself and of the members of an optional type."""
    found: list[object] = list(field.metadata)
    for member in get_args(field.annotation):
        for part in getattr(member, "__metadata__", ()):
            found.extend(getattr(part, "metadata", None) or [part])
    return found
