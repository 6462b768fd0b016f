"""Debian's Chromium, without a window, for the tests of pages."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager

from playwright.sync_api import Browser, sync_playwright

# Without these, Chromium asks its maker's servers for updates at every start.
QUIET = ["--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-component-update"]
ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--disable-sync", *QUIET]  # no sandbox: CI runs as root
INSTALL = "Chromium is not installed: apt-get install --no-install-recommends chromium"


@contextmanager
def chromium() -> Iterator[Browser]:
    """The browser, as long as the block runs.

    Raises:
        FileNotFoundError: it is not installed; the message says how to install it.
    """
    found = shutil.which("chromium") or shutil.which("google-chrome")
    if found is None:
        raise FileNotFoundError(INSTALL)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=found, args=ARGUMENTS)
        try:
            yield browser
        finally:
            browser.close()
