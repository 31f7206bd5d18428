"""Reads a configuration file into a frozen pydantic model and tells a person, in one line, what is wrong with it.

The line names the file and line, the thing, its value and what is allowed. Only the safe loader's types are built.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Final, TypeVar, get_args

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

Location = tuple[str | int, ...]
Model = TypeVar("Model", bound=BaseModel)
ErrorClass = Callable[[str], Exception]

_VALUE_LENGTH_MAX: Final = 80
_OUR_OWN_WORDS: Final = "Value error, "


class YamlFile:
    """The content of one YAML file and the line of every key in it. `error` is raised for anything unreadable."""

    def __init__(self, path: Path, error: ErrorClass) -> None:
        self.path = path
        self._error = error
        self._lines: dict[Location, int] = {}
        try:
            text = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as failure:
            reason = failure.strerror if isinstance(failure, OSError) else "not UTF-8 text"
            raise error(f"{path}: cannot be read: {reason}") from None
        try:
            self.content: Any = self._read(text)
        except yaml.MarkedYAMLError as failure:
            line = min(failure.problem_mark.line + 1, len(text.splitlines())) if failure.problem_mark else 1
            raise error(f"{path}:{line}: not YAML: {failure.problem}") from None
        except yaml.YAMLError as failure:
            raise error(f"{path}: not YAML: {' '.join(str(failure).split())}") from None
        except ValueError as failure:  # a date that is none; YAML reads 2026-13-45 as one
            raise error(f"{path}: not YAML: {failure}") from None
        except RecursionError:
            raise error(f"{path}: not YAML: nested too deeply, or holding itself") from None

    def _read(self, text: str) -> Any:
        loader = yaml.CSafeLoader(text)  # libyaml's: a plan and its criteria in 2 ms, not 20
        try:
            node = loader.get_single_node()
            self._note_lines(node, ())
            return loader.construct_document(node) if node is not None else None
        finally:
            loader.dispose()

    def read(self, model: type[Model]) -> Model:
        """The content as `model`. Raises the error class with one line for the first fault."""
        if not isinstance(self.content, dict):
            held = "nothing" if self.content is None else f"a {type(self.content).__name__}"
            raise self._error(f"{self.path}:1: holds {held}; allowed: keys and values")
        try:
            return model.model_validate(self.content)
        except ValidationError as failure:
            raise self._error(self.explain(failure, model)) from None

    def explain(self, failure: ValidationError, model: type[BaseModel], under: Location = ()) -> str:
        """One line for the first fault in `failure`. `under` is where `model` sits in the file."""
        found = failure.errors(include_url=False)
        faults = [one for one in found if one["type"] != "too_short" or not one["input"]]  # else it follows from others
        fault = faults[0]
        where = (*under, *fault["loc"])
        more = f" (and {len(faults) - 1} more)" if len(faults) > 1 else ""
        name = self._name(where)
        if fault["type"] == "extra_forbidden":
            allowed = ", ".join(_keys(model, fault["loc"][:-1]))
            said = f"{self._name(where[:-1]) or 'file'}: unknown key {where[-1]!r}; allowed: {allowed}"
        elif fault["type"] == "missing":
            said = f"{self._name(where[:-1]) or 'file'}: the key {where[-1]!r} is missing"
        elif fault["msg"].startswith(_OUR_OWN_WORDS):
            said = f"{name}: {fault['msg'].removeprefix(_OUR_OWN_WORDS)}"
        else:
            value = repr(fault["input"])
            shown = value if len(value) <= _VALUE_LENGTH_MAX else value[: _VALUE_LENGTH_MAX - 1] + "…"
            said = f"{name} = {shown}: {fault['msg'][0].lower()}{fault['msg'][1:]}"
        return f"{self.path}:{self.line(where)}: {said.lstrip(': ')}{more}"

    def line(self, where: Location) -> int:
        """The line (from 1) of the key at `where`, or of the nearest key above it."""
        while where and where not in self._lines:
            where = where[:-1]
        return self._lines.get(where, 1)

    def _name(self, where: Location) -> str:
        """`criteria.pnl_guard.go`: list members by their id or name where they have one."""
        at: Any = self.content
        words: list[str] = []
        for key in where:
            try:
                at = at[key]
            except (KeyError, IndexError, TypeError):
                at = None
            known = at.get("id") or at.get("name") if isinstance(at, dict) else None
            words.append(str(known) if isinstance(key, int) and known else str(key))
        return ".".join(words)

    def _note_lines(self, node: yaml.Node | None, where: Location) -> None:
        if isinstance(node, yaml.MappingNode):
            seen: set[str] = set()
            for key, value in node.value:
                if not isinstance(key, yaml.ScalarNode):
                    raise self._error(f"{self.path}:{key.start_mark.line + 1}: a key is not a word; allowed: words")
                if key.value in seen:
                    raise self._error(f"{self.path}:{key.start_mark.line + 1}: the key {key.value!r} stands twice")
                seen.add(key.value)
                self._lines[(*where, key.value)] = key.start_mark.line + 1
                self._note_lines(value, (*where, key.value))
        elif isinstance(node, yaml.SequenceNode):
            for index, value in enumerate(node.value):
                self._lines[(*where, index)] = value.start_mark.line + 1
                self._note_lines(value, (*where, index))


def _keys(model: type[BaseModel], location: Location) -> list[str]:
    """The keys that the model at `location` below `model` takes."""
    found: type[BaseModel] | None = model
    for key in location:
        if isinstance(key, str) and found is not None and key in found.model_fields:
            found = _model_in(found.model_fields[key].annotation)
    return list(found.model_fields) if found is not None else []


def _model_in(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((found for part in get_args(annotation) if (found := _model_in(part)) is not None), None)


class Including(BaseModel):
    """A file's content that may name another file beside it, whose content comes first."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    include: Annotated[str, Field(pattern=r"^[a-z0-9_-]+\.yaml$")] | None = None


Included = TypeVar("Included", bound=Including)


def with_included(path: Path, kind: type[Included], error: ErrorClass) -> list[tuple[YamlFile, Included]]:
    """The file and those that it includes, the innermost first. Raises `error`, also where they go round in a ring."""
    found: list[tuple[YamlFile, Included]] = []
    wanted: Path | None = path
    while wanted is not None:
        file = YamlFile(wanted, error)
        whole = file.read(kind)
        found.append((file, whole))
        wanted = None if whole.include is None else wanted.parent / whole.include
        if any(known.path == wanted for known, _ in found):
            raise error(f"{file.path}: include {whole.include!r} leads back here; allowed: a file not yet in it")
    return found[::-1]
