"""Chromium for tests: the one that is installed, without the noise it makes at start."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, sync_playwright

from infra.embedded.browser import executable

ARGUMENTS = (
    "--no-sandbox",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
)
TIMEOUT_MS = 15_000


@contextmanager
def chromium() -> Iterator[Browser]:
    """A running Chromium. Fails with the command that installs one where there is none."""
    path = executable()
    if path is None:
        pytest.fail("no Chromium here: install one with `python -m infra.embedded.browser`")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=str(path), args=list(ARGUMENTS))
        try:
            yield browser
        finally:
            browser.close()


class Watched:
    """A page with everything that it complained about."""

    def __init__(self, context: BrowserContext) -> None:
        self.complaints: list[str] = []
        self.page: Page = context.new_page()
        self.page.set_default_timeout(TIMEOUT_MS)
        self.page.on("console", self._note)
        self.page.on("pageerror", lambda error: self.complaints.append(f"uncaught: {error}"))

    def _note(self, message: object) -> None:
        kind = getattr(message, "type", "")
        if kind in ("error", "warning"):
            self.complaints.append(f"{kind}: {getattr(message, 'text', '')}")

    @property
    def overflow_px(self) -> int:
        """By how much the page is wider than its window."""
        return int(
            self.page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
        )


def watched(browser: Browser, *, width: int, scheme: Literal["light", "dark"] = "light") -> Watched:
    """A fresh browser session in a window of this width."""
    return Watched(browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme))
