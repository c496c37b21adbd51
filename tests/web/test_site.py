"""Every lesson is there, in reading order, with its outputs, and beside its paper."""

import json
import re

import pytest

from course.web import beside
from course.web.addresses import ROOT, Addresses
from course.web.api import homes
from crosscheck.catalogue import chapters
from crosscheck.lesson.course import lessons

every_chapter = pytest.mark.parametrize("chapter", chapters(), ids=lambda chapter: chapter.name)


@pytest.mark.parametrize("lesson", lessons(), ids=lambda lesson: lesson.name)
def test_a_lesson_has_its_address_its_figures_and_its_neighbors(site, lesson):
    text = (site / f"{lesson.name}.html").read_text(encoding="utf-8")
    notebook = json.loads((ROOT / "notebooks" / f"{lesson.name}.ipynb").read_text(encoding="utf-8"))
    outputs = [output for cell in notebook["cells"] for output in cell.get("outputs", [])]
    assert text.count("<img alt=") >= sum("image/png" in output.get("data", {}) for output in outputs)
    assert text.count('class="animation"') == sum("text/html" in output.get("data", {}) for output in outputs)
    tags = [set(cell["metadata"].get("tags", [])) for cell in notebook["cells"]]
    folded = sum("hide-input" in of and "remove-cell" not in of for of in tags)  # what installs packages is no part of the site
    assert len(re.findall(r'<details class="[\w ]*\babove-input"', text)) == folded
    names = [other.name for other in lessons()]
    place = names.index(lesson.name)
    for neighbor, side in ((place - 1, "prev-page"), (place + 1, "next-page")):
        if 0 <= neighbor < len(names):
            assert re.search(rf'<a class="{side}" href="{names[neighbor]}\.html"', text)


@every_chapter
def test_every_equation_leads_to_its_code_and_its_tests(chapter):
    found = beside.equations(chapter.name)
    assert found, "the reference states no equation"
    assert any(each.code for each in found) and any(each.tests for each in found)
    for each in found:
        file, line = each.place
        assert f"({each.number})" in (ROOT / file).read_text(encoding="utf-8").splitlines()[line - 1]
        for name, file, line in each.code + each.tests:
            assert f"def {name}(" in (ROOT / file).read_text(encoding="utf-8").splitlines()[line - 1]


def test_nearly_all_equations_have_code_and_tests():
    """Some are only explained by the next one, such as a probability in words."""
    found = [each for chapter in chapters() for each in beside.equations(chapter.name)]
    assert sum(bool(each.code and each.tests) for each in found) > 0.9 * len(found)


@pytest.mark.parametrize(
    ("docstring", "numbers"),
    [
        ("Equation (1) for one query: the definition.", [1]),
        ("Equations (1) to (4), and U V of (5), for one query.", [1, 2, 3, 4, 5]),
        ("Equation (7) if it is 0, otherwise (8) and (9).", [7, 8, 9]),
        ("Equation (5): the factor of a row of (3).", [5]),
        ("The blocks that row i of equation (2) sees.", [2]),
        ("The first half of rule (1).", [1]),
        ("Add a head axis (b, 1, t, s).", []),
        (None, []),
    ],
)
def test_equations_are_read_from_a_docstring(docstring, numbers):
    assert beside.cited(docstring) == numbers


def test_every_public_name_has_its_place_in_the_api(site):
    for name, file in homes().items():
        page = (site / "api" / f"{file.split('/')[1].removesuffix('.py')}.html").read_text(encoding="utf-8")
        assert f'id="{name.lower()}"' in page, name


@pytest.mark.parametrize(
    ("text", "rewritten"),
    [
        ("[a](../reference/attention.py)", "[a](page:source/reference/attention.py)"),
        ("[a](bert.ipynb) and [b](../course/PLAN.md#heads)", "[a](page:bert) and [b](page:plan#heads)"),
        ("[a](../layers/bert/)", "[a](page:source/layers/bert/__init__.py)"),
        ("`[a](bert.ipynb)` and $f[x](y)$", "`[a](bert.ipynb)` and $f[x](y)$"),
        ("```python\nf[0](bert)\n```", "```python\nf[0](bert)\n```"),
        ("[a](https://arxiv.org) [b](#there)", "[a](https://arxiv.org) [b](#there)"),
        ("[`bert`](bert.ipynb)", "[`bert`](page:bert)"),
        ("[![Open](https://a.org/b.svg)](https://a.org)", "[Open](https://a.org)"),
    ],
)
def test_links_between_files_become_links_between_pages(text, rewritten):
    addresses = Addresses()
    assert addresses.rewrite(text, "notebooks/attention.ipynb") == rewritten
    assert addresses.broken == []


def test_a_link_to_a_file_that_is_not_there_is_said():
    addresses = Addresses()
    addresses.rewrite("[a](gone.ipynb) ![b](gone.png)", "notebooks/attention.ipynb")
    assert [line.split(", which")[0] for line in addresses.broken] == [
        "notebooks/attention.ipynb links to gone.ipynb",
        "notebooks/attention.ipynb shows gone.png",
    ]
