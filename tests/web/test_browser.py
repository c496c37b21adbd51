"""Five pages in a browser: wide and narrow, light and dark. With SCREENSHOTS=FOLDER, it keeps what it sees."""

import os
from pathlib import Path

import pytest

PAGES = ("index", "attention", "cached_attention", "source/reference/attention.py", "api/attention")
SIZES = {"wide": (1280, 900), "phone": (390, 844)}

STATE = """() => {
const scrolls = each => each.tagName !== 'ARTICLE'
    && (['auto', 'scroll'].includes(getComputedStyle(each).overflowX) || scrolls(each.parentElement));
const box = each => each.getBoundingClientRect();
return ({
    wide: [...document.querySelectorAll('article *')]
        .filter(each => box(each).width > 0 && box(each).right > window.innerWidth + 1 && !scrolls(each.parentElement))
        .map(each => `${each.tagName} ${each.className}`),
    formulas: [...document.querySelectorAll('math')].map(each => each.getBoundingClientRect().height),
    font: document.fonts.check('16px "Course formulas"'),
    ground: getComputedStyle(document.body).backgroundColor,
    ink: getComputedStyle(document.querySelector('h1')).color,
    pictures: [...document.images].filter(each => each.complete && !each.naturalWidth && each.src).map(each => each.src),
})}"""
"""What is seen. A thing is wide if it reaches out of the window and nothing around it can be scrolled; the theme cuts it off."""


@pytest.fixture
def look(browser, address):
    """A function that opens a page, and says what is seen, what the browser complains of, and what it fetched."""
    contexts = []

    def look(page, size, scheme):
        width, height = SIZES[size]
        context = browser.new_context(viewport={"width": width, "height": height}, color_scheme=scheme)
        contexts.append(context)
        opened, complaints, fetched = context.new_page(), [], []
        opened.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)
        opened.on("pageerror", lambda error: complaints.append(str(error)))
        opened.on("request", lambda request: fetched.append(request.url))
        opened.goto(f"{address}/{page}.html", wait_until="load")
        opened.evaluate("document.fonts.ready.then(() => true)")
        if folder := os.environ.get("SCREENSHOTS"):
            Path(folder).mkdir(parents=True, exist_ok=True)
            opened.screenshot(path=f"{folder}/{page.replace('/', '-')}-{size}-{scheme}.png")
        return opened, complaints, [url for url in fetched if not url.startswith((address, "data:", "blob:"))]

    yield look
    for context in contexts:
        context.close()


def brightness(color):
    """The mean of a color's three numbers, as in "rgb(255, 255, 255)"."""
    return sum(float(number) for number in color[color.index("(") + 1 : -1].split(",")[:3]) / 3


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("page", PAGES)
def test_a_page_fits_its_window_and_the_browser_complains_of_nothing(look, page, size, scheme):
    opened, complaints, outside = look(page, size, scheme)
    state = opened.evaluate(STATE)
    assert complaints == [] and outside == [] and state["pictures"] == []
    assert state["wide"] == []
    assert (brightness(state["ground"]) < 128 < brightness(state["ink"])) == (scheme == "dark")
    if page == "attention":
        assert len(state["formulas"]) > 10 and min(state["formulas"]) > 0 and state["font"]


def test_every_page_but_the_sources_fits_a_phone(browser, address, pages):
    width, height = SIZES["phone"]
    opened = browser.new_page(viewport={"width": width, "height": height})
    found = {}
    for name in pages:
        if not name.startswith(("source/", "compare.html", "bench.html", "search.html")):
            opened.goto(f"{address}/{name}", wait_until="load")
            found[name] = opened.evaluate(STATE)["wide"]
    opened.close()
    assert {name: wide for name, wide in found.items() if wide} == {} and len(found) > 60


def test_code_that_is_folded_opens(look):
    opened, _, _ = look("attention", "wide", "light")
    folded = opened.locator("details.above-input").first
    code = folded.locator("pre").first
    assert not code.is_visible()
    folded.locator("summary").click()
    assert code.is_visible()


def test_a_moving_picture_moves(look):
    opened, complaints, _ = look("cached_attention", "wide", "light")
    picture = opened.locator(".animation img")
    opened.locator('.animation button[title="Pause"]').click()
    opened.locator('.animation button[title="First frame"]').click()
    first = picture.get_attribute("src")
    opened.locator('.animation button[title="Next frame"]').click()
    assert picture.get_attribute("src") != first
    assert complaints == []


def test_a_line_of_a_source_has_an_address(look):
    opened, _, _ = look("attention", "wide", "light")
    link = opened.locator("table.beside td:nth-child(2) a").first
    name = link.inner_text().split(",")[0]
    link.click()
    opened.wait_for_load_state()
    assert f"def {name}(" in opened.locator(".source .line:target").inner_text()


def test_search_finds_a_lesson(look):
    opened, complaints, _ = look("search", "wide", "light")
    opened.goto(opened.url + "?q=covariance")
    opened.locator("#search-results li a").first.wait_for()
    assert complaints == []
