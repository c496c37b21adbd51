"""The site as it was made, and a browser to look at it. `make test-site` makes it first."""

import functools
import http.server
import shutil
import threading
from pathlib import Path

import pytest
from site_pages import read_pages

SITE = Path(__file__).parents[2] / "build" / "site"
BROWSERS = ("chromium", "chromium-browser", "google-chrome")


def pytest_configure(config):
    config.addinivalue_line("filterwarnings", "ignore:path is deprecated. Use files:DeprecationWarning")  # ziamath, as it starts


@pytest.fixture(scope="session")
def site():
    assert (SITE / "pages.json").is_file(), f"there is no site to test; `make site` writes it. Missing: {SITE}"
    return SITE


@pytest.fixture(scope="session")
def pages(site):
    """{address: page} of everything but the edition that runs in a browser, which is other people's program."""
    return read_pages(site)


@pytest.fixture(scope="session")
def address(site):
    """The address of the site on a server of this machine."""

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *arguments):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(site)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


@pytest.fixture(scope="session")
def browser():
    found = next(filter(None, map(shutil.which, BROWSERS)), None)
    if found is None:
        pytest.skip(f"no browser is installed; Debian's package is chromium. Looked for: {', '.join(BROWSERS)}")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=found, args=["--no-sandbox"])
        yield browser
        browser.close()
