"""No link leads nowhere, nothing is fetched from outside, and every figure has a text."""

import re

import pytest
from site_pages import complaint, is_outside, read

OUTSIDE_IN_STYLE = re.compile(r"(?:url\(\s*[\"']?|@import\s+[\"'])(?:https?:)?//")


def test_no_link_leads_nowhere(site, pages):
    found = [complaint(name, target, site, pages) for name, page in pages.items() for target in page.links + page.fetched]
    print(f"{len(found)} links and addresses of {len(pages)} pages")
    assert [each for each in found if each] == []
    assert len(found) > 10_000  # the links of every page's list of contents among them


def test_nothing_is_fetched_from_outside(site, pages):
    found = [f"{name}: {target}" for name, page in pages.items() for target in page.fetched if is_outside(target)]
    found += [name for name, page in pages.items() if OUTSIDE_IN_STYLE.search("\n".join(page.texts))]
    for path in site.rglob("*.css"):
        if "browser" not in path.relative_to(site).parts and OUTSIDE_IN_STYLE.search(path.read_text(encoding="utf-8")):
            found.append(path.name)
    assert found == []


def test_every_figure_has_a_text(pages):
    found = [f"{name}: {shown[:60]}" for name, page in pages.items() for shown, text in page.pictures if not (text or "").strip()]
    assert found == []
    assert sum(len(page.pictures) for page in pages.values()) > 150


def test_no_page_has_an_address_twice(pages):
    assert {name: page.repeated for name, page in pages.items() if page.repeated} == {}


MADE_UP = """<h1 id="top">Page</h1><a href="#top">a</a><a href="other.html#there">b</a><a href="https://arxiv.org">c</a>
<img src="data:image/png;base64,AA" alt="text"><link rel="stylesheet" href="style.css">"""


@pytest.mark.parametrize(
    ("added", "said"),
    [
        ('<a href="gone.html">x</a>', "gone.html, which is not there"),
        ('<a href="#gone">x</a>', "a place that page.html does not have"),
        ('<a href="other.html#gone">x</a>', "a place that other.html does not have"),
        ('<a href="/other.html">x</a>', "the root of the server"),
        ('<a href="../../other.html">x</a>', "which is not there"),
        ('<a href="page:other">x</a>', "unknown scheme"),
        ('<a href="folder/">x</a>', "leads to a folder"),
    ],
)
def test_a_link_that_leads_nowhere_is_found(tmp_path, added, said):
    (tmp_path / "folder").mkdir()
    for name, text in (("page.html", MADE_UP), ("other.html", '<p id="there">'), ("style.css", "")):
        (tmp_path / name).write_text(text)
    others = {"other.html": read('<p id="there">')}
    for text, wrong in ((MADE_UP, 0), (MADE_UP + added, 1)):
        page = read(text)
        found = [complaint("page.html", target, tmp_path, others | {"page.html": page}) for target in page.links + page.fetched]
        assert len([each for each in found if each]) == wrong
    assert said in next(each for each in found if each)


@pytest.mark.parametrize(
    "added",
    [
        '<img src="https://example.org/a.png" alt="text">',
        '<script src="//example.org/a.js"></script>',
        '<link rel="stylesheet" href="https://example.org/a.css">',
        '<iframe src="http://example.org"></iframe>',
    ],
)
def test_what_is_fetched_from_outside_is_found(added):
    assert not any(map(is_outside, read(MADE_UP).fetched))
    assert any(map(is_outside, read(MADE_UP + added).fetched))


@pytest.mark.parametrize("added", ['<img src="a.png">', '<img src="a.png" alt="">', '<svg role="img"></svg>'])
def test_a_figure_without_a_text_is_found(added):
    assert all(text for _, text in read(MADE_UP).pictures)
    assert not all(text for _, text in read(MADE_UP + added).pictures)
