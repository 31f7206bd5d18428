"""`make chaos`: the matrix, cell by cell, with its results kept; what has been run with this code is not run again.

    python -m tests.chaos [--cells guard,bot@watch] [--table docs/chaos.md] [--results FILE] [--again]

Exit 0 where every chosen cell is as it should be, 1 where one is not, 2 for bad input.
"""

from __future__ import annotations

import argparse
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

from tasks.bundle import save_bundle
from tasks.state_folder import REPOSITORY, StateFolder
from tests.chaos import at_guard
from tests.chaos.in_prefect import Stack
from tests.chaos.matrix import Cell, chosen, matrix
from tests.chaos.outcome import Outcome
from tests.chaos.page import page
from tests.chaos.results import Result, broke_off, keep, of_outcome, product_code, read_results

Run = Callable[[Cell], tuple[Outcome, StateFolder]]
TRIES = 3
"""A cell that was missed is run again, so often in all."""
RESULTS = REPOSITORY / "artifacts" / "chaos.jsonl"
BUNDLES = REPOSITORY / "artifacts" / "bundles"


def main(argv: list[str]) -> int:
    """See the module's text."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos")
    parser.add_argument("--cells", default="", help="VICTIM@STEP, a victim, a step or a place, comma-separated")
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--table", type=Path, help="where the page goes as Markdown")
    parser.add_argument("--again", action="store_true", help="also what has been run with this code")
    arguments = parser.parse_args(argv)
    try:
        cells, known = chosen(arguments.cells), read_results(arguments.results)
    except ValueError as error:
        parser.error(str(error))
    for number in (signal.SIGINT, signal.SIGTERM):  # also where a shell has told it to ignore one: all must go down
        signal.signal(number, signal.default_int_handler)
    code = product_code()
    due = [cell for cell in cells if arguments.again or not is_done(known, cell, code)]
    print(f"{len(cells)} of {len(list(matrix()))} cells chosen, {len(due)} to run", flush=True)
    _write(arguments.table, known, code)
    for result in _run_all(due, code):
        keep(arguments.results, result)
        known[result.cell] = result
        said = "; ".join([result.at, *result.wrong])
        print(f"{result.cell:28} {result.word:16} {result.ended:12} {result.took_s:6.1f} s  {said}", flush=True)
        _write(arguments.table, known, code)
    bad = [cell.name for cell in cells if not is_done(known, cell, code)]
    print(f"not as it should be, {len(bad)}: {', '.join(bad) or 'none'}")
    return 1 if bad else 0


def _write(table: Path | None, known: dict[str, Result], code: str) -> None:
    if table is not None:
        table.write_text(page(known, code, datetime.now(UTC)), encoding="utf-8")


def is_done(known: dict[str, Result], cell: Cell, code: str) -> bool:
    result = known.get(cell.name)
    return result is not None and result.good and result.code == code


def _run_all(cells: list[Cell], code: str) -> Iterator[Result]:
    for cell in (cell for cell in cells if cell.place != "Prefect"):
        yield _tried(cell, code, _alone)
    with_prefect = [cell for cell in cells if cell.place == "Prefect"]
    if not with_prefect:
        return
    folder = Path(tempfile.mkdtemp(prefix="chaos-"))
    stack = Stack(folder / "home")
    try:
        stack.open()
        for cell in with_prefect:
            yield _tried(cell, code, lambda cell: (stack.run_cell(cell), stack.prefect.folder))
    finally:
        said = stack.close()
        if said:
            print(f"the stack did not go down clean: {said}", file=sys.stderr)
        shutil.rmtree(folder, ignore_errors=True)


def _tried(cell: Cell, code: str, run: Run) -> Result:
    result = _run_once(cell, code, run)
    for _ in range(TRIES - 1):
        if result.word != "missed":
            break
        result = _run_once(cell, code, run)
    return result


def _alone(cell: Cell) -> tuple[Outcome, StateFolder]:
    """On a stack of its own, whose folder is kept until it has been looked at."""
    folder = StateFolder(Path(tempfile.mkdtemp(prefix="chaos-")) / "home")
    try:
        return at_guard.run_cell(cell, folder.root), folder
    except Exception as error:
        _save(folder, cell.name, f"{type(error).__name__}: {error}")
        raise


def _run_once(cell: Cell, code: str, run: Run) -> Result:
    begun = time.monotonic()
    try:
        outcome, folder = run(cell)
    except Exception as error:  # noqa: BLE001 - one cell's failure is that cell's result, and the others are run
        said = f"{type(error).__name__}: {' '.join(str(error).split())}"[:600]
        return broke_off(cell.name, said, time.monotonic() - begun, code)
    result = of_outcome(outcome, code)
    if not result.good:
        _save(folder, cell.name, "; ".join([result.word, *result.wrong]))
    if cell.place != "Prefect":
        shutil.rmtree(folder.root.parent, ignore_errors=True)
    return result


def _save(folder: StateFolder, cell: str, why: str) -> None:
    BUNDLES.mkdir(parents=True, exist_ok=True)
    name = f"chaos-{cell}-{time.strftime('%H%M%S', time.gmtime())}.tar.gz"
    shutil.move(save_bundle(folder, why), BUNDLES / name)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
