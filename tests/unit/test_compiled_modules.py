"""What mypyc does otherwise than Python, and so is not written in what is compiled of the bot's own side.

A message type loses the keywords of its class (frozen, rename) and its annotations. In a coroutine two handlers that
give exceptions of different kinds one name end in a TypeError; and what is awaited while an exception is handled leaves
that exception to whoever runs meanwhile.
"""

from __future__ import annotations

import ast
import importlib.util
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[2]


def compiler() -> ModuleType:
    spec = importlib.util.spec_from_file_location("compile_bot", ROOT / "infra" / "compile.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def compiled() -> list[str]:
    module = compiler()
    return [name for name in module.modules() if name.startswith(("bot/venues/", "bot/runtime/", "bot/stores/"))]


def coroutines(name: str) -> Iterator[ast.AsyncFunctionDef]:
    tree = ast.parse((ROOT / name).read_text(encoding="utf-8"))
    return (node for node in ast.walk(tree) if isinstance(node, ast.AsyncFunctionDef))


@pytest.mark.parametrize(
    ("written", "plain", "profiled"),
    [(None, False, False), ("unfinished", False, False), ("{}", True, False), ("{}+profile", True, True),
     ("older+profile", False, False)],
)  # fmt: skip
def test_a_build_after_training_stands_for_a_plain_one_and_not_the_other_way_round(
    tmp_path: Path, written: str | None, plain: bool, profiled: bool
) -> None:
    module = compiler()
    if written is not None:
        (tmp_path / module.DIGEST).write_text(written.format(module.digest()), encoding="ascii")
    assert (module.is_built(tmp_path), module.is_built(tmp_path, profiled=True)) == (plain, profiled)


def test_the_bot_s_side_is_compiled() -> None:
    assert {"bot/venues/bybit/sockets.py", "bot/runtime/sender.py", "bot/runtime/loop.py"} <= set(compiled())


@pytest.mark.parametrize("name", compiled())
def test_one_name_for_one_kind_of_exception_in_a_coroutine(name: str) -> None:
    for coroutine in coroutines(name):
        kinds: dict[str, set[str]] = {}
        for node in ast.walk(coroutine):
            if isinstance(node, ast.ExceptHandler) and node.name and node.type is not None:
                kinds.setdefault(node.name, set()).add(ast.unparse(node.type))
        assert not {known: found for known, found in kinds.items() if len(found) > 1}, coroutine.name


@pytest.mark.parametrize("name", compiled())
def test_nothing_is_awaited_while_an_exception_is_handled(name: str) -> None:
    for coroutine in coroutines(name):
        handlers = [node for node in ast.walk(coroutine) if isinstance(node, ast.ExceptHandler)]
        awaiting = (ast.Await, ast.AsyncWith, ast.AsyncFor)
        assert not [one.lineno for one in handlers for node in ast.walk(one) if isinstance(node, awaiting)]


@pytest.mark.parametrize("name", compiled())
def test_no_message_type_with_keywords_stands_in_a_compiled_module(name: str) -> None:
    tree = ast.parse((ROOT / name).read_text(encoding="utf-8"))
    assert not [node.name for node in ast.walk(tree) if isinstance(node, ast.ClassDef) and node.keywords]
