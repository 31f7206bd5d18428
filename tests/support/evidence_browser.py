"""An evidence page as a person opens it: from its folder, in headless Chromium, with nothing but what lies there."""

from __future__ import annotations

from pathlib import Path

from playwright.sync_api import Page


def shown(page: Page, file: Path) -> tuple[str, list[int]]:
    """The headline, and each image's natural width (0: not shown). Raises AssertionError where the page says an error,
    or asks for anything outside its folder."""
    said: list[str] = []
    asked: list[str] = []
    console = lambda one: said.append(one.text) if one.type in ("error", "warning") else None  # noqa: E731
    wrong = lambda error: said.append(str(error))  # noqa: E731
    requested = lambda one: asked.append(one.url)  # noqa: E731
    page.on("console", console)
    page.on("pageerror", wrong)
    page.on("request", requested)
    try:
        page.goto(file.as_uri(), wait_until="load")
        headline = page.locator("h1").inner_text()
        widths = page.eval_on_selector_all("img", "all => all.map(one => one.naturalWidth)")
    finally:
        page.remove_listener("console", console)
        page.remove_listener("pageerror", wrong)
        page.remove_listener("request", requested)
    assert said == [], f"{file}: {said}"
    inside = (file.parent.as_uri() + "/", "data:")
    assert [url for url in asked if not url.startswith(inside)] == [], f"{file}: asks for what lies outside its folder"
    return headline, [int(width) for width in widths]
