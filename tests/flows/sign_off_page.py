"""Prefect's page of one run in headless Chromium, and the form on it: ⋮, Resume."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from playwright.sync_api import Locator, Page, TimeoutError, sync_playwright

CHROMIUM = Path("/usr/bin/chromium")
TRIES = 3
OPTIONS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"]
OPTIONS += ["--disable-component-update", "--disable-sync"]


@contextmanager
def browser_page() -> Iterator[Page]:
    """A page of Debian's Chromium where it is installed, else of Playwright's own."""
    with sync_playwright() as playwright:
        path = CHROMIUM if CHROMIUM.exists() else None
        browser = playwright.chromium.launch(executable_path=path, args=OPTIONS)
        try:
            yield browser.new_page(viewport={"width": 1300, "height": 1400})
        finally:
            browser.close()


def open_form(page: Page, ui_url: str, flow_run_id: str) -> Locator:
    """Opens the run's page and its form; returns the dialog."""
    page.goto(f"{ui_url}/runs/flow-run/{flow_run_id}")
    page.get_by_role("button", name="Open menu").click()
    page.get_by_role("menuitem", name="Resume").click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_label("One-time code").wait_for()
    return dialog


def await_words(dialog: Locator, words: str) -> None:
    """The form's description is rendered after its fields: waits until it says `words`, at most a minute."""
    dialog.get_by_text(words).first.wait_for(timeout=60_000)


def fill_in(page: Page, dialog: Locator, code: str, evidence: str, decision: str = "GO") -> None:
    """Fills in the form as a person does and sends it."""
    dialog.get_by_label("Decision").click()
    page.get_by_role("option", name=decision, exact=True).click()
    dialog.get_by_label("One-time code").fill(code)
    dialog.get_by_label("Evidence").fill(evidence)
    for _ in range(TRIES):
        dialog.get_by_role("button", name="Resume").click()
        try:
            dialog.wait_for(state="hidden", timeout=30_000)
        except TimeoutError:  # the server's SQLite was busy, the page says so, and a person presses again
            continue
        return
    raise AssertionError(f"the form was not taken: {dialog.inner_text()}")
