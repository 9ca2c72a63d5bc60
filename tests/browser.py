"""A real browser for pages: the system's Chromium, without a window and without a network."""

import contextlib
import shutil

import pytest

FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
)


@contextlib.contextmanager
def browser():
    """Playwright's browser; the test is skipped, with what is missing, where there is none."""
    found = shutil.which("chromium") or shutil.which("chromium-browser")
    if found is None:
        pytest.skip("no chromium on this machine: pages are not looked at in a browser")
    sync_api = pytest.importorskip("playwright.sync_api")
    with sync_api.sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=found, args=FLAGS)
        yield opened
        opened.close()


def open_page(browser, path, **options):
    """A page of a file, and a list of what went wrong on it: errors, warnings, requests."""
    page, wrong = browser.new_page(**options), []
    page.on("console", lambda message: wrong.append(message.text))
    page.on("pageerror", lambda error: wrong.append(str(error)))

    def look(request):
        if not request.url.startswith(("file:", "data:", "blob:")):
            wrong.append(f"asks for {request.url}")

    page.on("request", look)
    page.goto(path.resolve().as_uri())
    return page, wrong
