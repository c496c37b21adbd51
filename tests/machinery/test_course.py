"""Nothing is used before it is taught; paths, map and plan say what the lessons say."""

import re
from itertools import pairwise

import matplotlib.pyplot as plt
import nbformat
import pytest
from nbformat.v4 import new_markdown_cell, new_notebook

from crosscheck.catalogue import PARTS, chapters
from crosscheck.lesson import course, course_map, figures, projects
from crosscheck.report.changes import imported_names

LESSONS = {lesson.name: lesson for lesson in course.lessons()}
CHAPTER_OF_CLASS = {name: chapter.name for chapter in chapters() for name in chapter.classes}
TERMS = {
    "MiniLM": "MiniLM, a small trained model that reads a sentence",
    "[CLS]": "with marks `[CLS]` and `[SEP]` at its ends",
    "[SEP]": "with marks `[CLS]` and `[SEP]` at its ends",
    "[PAD]": "each padded with `[PAD]`",
}
"""{what later lessons speak of: how the first lesson that does introduces it}."""

every_lesson = pytest.mark.parametrize("lesson", course.lessons(), ids=lambda lesson: lesson.name)
every_route = pytest.mark.parametrize("route", course.ROUTES, ids=lambda route: route.title)


@every_lesson
def test_a_lesson_says_how_long_it_takes(lesson):
    assert 10 <= course.minutes(lesson.name) <= 60
    assert course.minutes_of_exercises(lesson.name) >= 20


@every_lesson
def test_what_one_should_know_is_taught_before(lesson):
    assert course.NEEDS.search(course.markdown(lesson.name)[0])
    assert [need for need in course.needs(lesson.name) if LESSONS[need].place >= lesson.place] == []


@every_lesson
def test_a_lesson_and_its_reference_take_from_earlier_chapters_alone(lesson):
    """Unless the lesson's first cell says that something is part of a later lesson."""
    rooms = course.ROOT / "reference"
    files = [rooms / f"{lesson.name}.py", *(rooms / lesson.name).glob("*.py"), course.LESSONS / f"{lesson.name}.py"]
    used = {name for file in files if file.is_file() for name in chapters_imported_by(file)}
    later = {name for name in used if LESSONS[name].place > lesson.place}
    assert later == set(course.shown_early(lesson.name))


@every_lesson
def test_what_the_code_of_a_lesson_takes_from_chapters_the_reader_has_been_asked_for(lesson):
    used = set(chapters_imported_by(course.LESSONS / f"{lesson.name}.py"))
    assert used <= course.all_needs([lesson.name]) | set(course.shown_early(lesson.name))


def chapters_imported_by(file):
    for parts in (name.split(".") for name in imported_names(file)):
        if parts[0] in ("reference", "layers"):
            yield from {CHAPTER_OF_CLASS.get(part, part) for part in parts[1:]} & set(LESSONS)


def test_guides_are_rows_of_the_table_with_what_their_first_cells_say(tmp_path, monkeypatch):
    """A guide that is not written yet has no row; without any, there is no heading."""
    monkeypatch.setattr(course, "LESSONS", tmp_path)
    monkeypatch.setattr(course, "lessons", lambda: ())
    monkeypatch.setattr(course, "GUIDES", {"scale": (), "made_up": ("tensorflow", "jax")})
    assert course.guides() == () and "Guides" not in course.chapter_table()
    cell = new_markdown_cell("# Made up\n\nWhat it\ndoes.\n\n20 minutes · You should know: nothing")
    nbformat.write(new_notebook(cells=[cell]), tmp_path / "made_up.ipynb")
    row = "| | **Guides** | | | | |\n| | [Made up](made_up.ipynb) | 20 | What it does. | | TensorFlow, JAX |"
    assert course.chapter_table().endswith(row)


@pytest.mark.parametrize("term", TERMS)
def test_a_term_is_introduced_where_it_is_first_used(term):
    texts = [" ".join("\n".join(course.markdown(lesson.name)).split()) for lesson in course.lessons()]
    first = next(text for text in texts if term in text)
    assert TERMS[term] in first and first.index(TERMS[term]) <= first.index(term)


@every_route
def test_a_path_holds_all_that_its_chapters_need(route):
    found = [lesson.name for lesson in course.lessons_of(route)]
    assert set(route.goals) <= set(found)
    for place, name in enumerate(found):
        assert set(course.needs(name)) <= set(found[:place])


@every_route
def test_a_path_is_mostly_written_and_says_what_is_not(route):
    assert {name for name, _ in route.to_come} & set(LESSONS) == set(), "a chapter that is written is a goal"
    assert len(route.to_come) < len(course.lessons_of(route))
    line = next(line for line in course.routes_as_markdown().splitlines() if line.startswith(f"- **{route.title}** ("))
    assert all(title in line for _, title in route.to_come)
    hours, minutes = re.search(r"\((?:(\d+) h )?(\d+) min\)", line).groups()
    linked = re.findall(r"\((\w+)\.ipynb\)", line)
    assert 60 * int(hours or 0) + int(minutes) == sum(course.minutes(name) for name in linked)


def test_a_need_of_a_need_has_no_arrow_and_the_arrows_lead_to_all_needs(monkeypatch):
    made_up = {"a": (), "b": ("a",), "c": ("b", "a")}
    monkeypatch.setattr(course, "needs", made_up.__getitem__)
    assert course.direct_needs("c") == ("b",)
    assert course.all_needs(["c"]) == {"a", "b", "c"}


def test_the_map_has_columns_in_reading_order_and_its_titles_fit_their_boxes():
    figures.use_style()
    fig = course_map.course_map()
    fig.canvas.draw()
    (ax,) = fig.axes
    boxes = {text.get_text().replace("\n", " "): text.get_window_extent() for text in ax.texts}
    assert set(boxes) == {lesson.title for lesson in course.lessons()} | set(PARTS)
    wide, high = ax.transData.transform(course_map.BOX) - ax.transData.transform((0, 0))
    for part in PARTS:
        column = [boxes[lesson.title] for lesson in course.lessons() if lesson.part == part]
        assert all(abs(one.x0 + one.x1 - two.x0 - two.x1) < 4 and two.y1 < one.y0 for one, two in pairwise(column))
        assert all(box.width < wide and box.height < 0.9 * high for box in column), part
    needed = sum(len(course.direct_needs(lesson.name)) for lesson in course.lessons())
    assert len(ax.patches) == len(PARTS) + len(course.lessons()) + needed
    plt.close(fig)


def test_the_columns_of_the_map_are_moved_to_where_fewer_arrows_cross():
    arrows = [(need, lesson.name) for lesson in course.lessons() for need in course.direct_needs(lesson.name)]
    side_by_side = course_map.layout([0.0] * len(PARTS))
    assert course_map.tangle(arrows, course_map.untangled(arrows)) < course_map.tangle(arrows, side_by_side) / 2


def test_the_plan_has_twelve_weeks_for_all_chapters():
    assert [lesson for week in course.weeks() for lesson in week] == list(course.lessons())
    assert [week[0].name for week in course.weeks()] == list(course.WEEKS)
    assert len(course.WEEKS) == 12


def test_the_plan_is_written_from_what_the_lessons_say():
    text = course.PLAN.read_text(encoding="utf-8")
    assert course.TABLE.search(text)[0] == course.plan_table(), "run python -m crosscheck.lesson.course"


@pytest.mark.parametrize("part", PARTS)
def test_a_part_has_a_project_that_composes_its_chapters(part):
    text = course.PLAN.read_text(encoding="utf-8")
    project = text.split(f"\n### {part}\n")[1].split("\n### ")[0]
    assert 4 <= len(re.findall(r"[.?!](?=\s)", project)) <= 6
    assert re.search(r"At the\s+end,\s+show", project)
    used = [LESSONS[name] for name in re.findall(r"notebooks/(\w+)\.ipynb", project)]
    assert sum(lesson.part == part for lesson in used) >= 2
    last = max(lesson.place for lesson in course.lessons() if lesson.part == part)
    assert max(lesson.place for lesson in used) <= last
    assert f"[{part}](#{projects.anchor(part)})" in course.plan_table()
    assert projects.link(part, "projects/") in project and projects.link(part, "projects/") in course.plan_table()
