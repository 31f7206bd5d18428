"""Draws the picture of a run for the README from what a real run printed.

    rollout demo --stage canary | tee run.log ; python -m tests.report.picture run.log docs/run.png

Shows the log as an 80-column terminal does, in Debian's headless Chromium. Nothing is loaded from a network.
"""

from __future__ import annotations

import argparse
import html
import re
import subprocess
import tempfile
from pathlib import Path

COLUMNS = 96
FLAGS = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"]
FLAGS += ["--disable-background-networking", "--disable-component-update", "--disable-sync", "--hide-scrollbars"]
WORDS = {"PASS": "#7bd88f", "FAIL": "#ff6188", "UNKNOWN": "#fcc95c", "PROMOTED": "#7bd88f", "ROLLED BACK": "#ff6188"}
STYLE = "body{margin:0;background:#1e1f24}pre{margin:0;padding:18px 22px;color:#d8d9de;"
STYLE += "font:13px/1.35 'DejaVu Sans Mono',monospace}"


def rendered(log: str) -> tuple[str, int]:
    """The page, and how many lines it shows. Lines longer than the terminal are cut, escape codes are taken out."""
    plain = re.sub(r"\x1b\[[0-9;]*m", "", log).rstrip("\n")
    lines = [line[:COLUMNS] for line in plain.splitlines()]
    text = html.escape("\n".join(lines))
    for word, colour in WORDS.items():
        text = re.sub(rf"\b{word}\b", f'<span style="color:{colour}">{word}</span>', text)
    return f"<!doctype html><meta charset=utf-8><style>{STYLE}</style><pre>{text}</pre>", len(lines)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.report.picture")
    parser.add_argument("log", type=Path)
    parser.add_argument("picture", type=Path)
    arguments = parser.parse_args()
    page, lines = rendered(arguments.log.read_text())
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "run.html").write_text(page)
        size = f"--window-size={COLUMNS * 8 + 60},{lines * 18 + 40}"
        target = f"--screenshot={arguments.picture.resolve()}"
        command = ["chromium", *FLAGS, f"--user-data-dir={folder}/profile", size, target, f"file://{folder}/run.html"]
        subprocess.run(command, check=True, capture_output=True, timeout=60)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
