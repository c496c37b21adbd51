"""Every project has a statement that says what it asks, stubs that hold nothing of an answer, and checks that explain."""

import re

import numpy as np
import pytest

from crosscheck.lesson import course, projects, rules
from crosscheck.lesson.projects import Milestone, Missed, NotYet, ask, check, halfway, verdict

NAMES = projects.projects()
every_project = pytest.mark.parametrize("name", NAMES)


@pytest.fixture
def notebook(name):
    return rules.read(projects.FOLDER / f"{name}.ipynb")


def prose(notebook):
    return "\n\n".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown")


@every_project
def test_the_notebook_is_the_executed_script(name, notebook):
    script = projects.FOLDER / f"{name}.py"
    assert rules.paired(script, notebook) + rules.executed(notebook) + rules.portable(notebook) == []


@every_project
def test_a_statement_says_task_data_milestones_and_what_to_hand_in(name, notebook):
    part = next(part for part in projects.BUILT if projects.BUILT[part][0] == name)
    text = prose(notebook)
    assert text.startswith(f"# Project: {projects.BUILT[part][1]}\n\n*Part: {part}. About ")
    milestones = projects.read(projects.FOLDER / "milestones" / f"{name}.py").MILESTONES
    assert 4 <= len(milestones) <= 6
    headings = [heading.split(":")[0] for heading in rules.headings(notebook)]
    assert headings == ["The data", *(f"Milestone {number}" for number in range(1, len(milestones) + 1)), "To hand in"]
    assert "**Task.**" in text and text.count(" minutes)") == len(milestones)


@every_project
def test_links_of_a_statement_lead_to_earlier_lessons(name, notebook):
    part = next(part for part in projects.BUILT if projects.BUILT[part][0] == name)
    linked = re.findall(r"\]\(([^)]+)\)", prose(notebook))
    assert linked and all((projects.FOLDER / link).is_file() for link in linked if not link.startswith("http"))
    places = {lesson.name: lesson for lesson in course.lessons()}
    last = max(lesson.place for lesson in course.lessons() if lesson.part == part)
    assert all(places[stem].place <= last for stem in re.findall(r"notebooks/(\w+)\.ipynb", prose(notebook)))


@every_project
def test_a_milestone_is_a_stub_and_its_check_and_says_that_it_is_not_begun(name, notebook):
    milestones = projects.read(projects.FOLDER / "milestones" / f"{name}.py").MILESTONES
    found = projects.stubs(notebook)
    assert [int(stub["number"]) for _, stub in found] == list(range(1, len(milestones) + 1))
    assert {stub["project"] for _, stub in found} == {name}
    assert sum("check(" in cell.source for cell in rules.code_cells(notebook)) == len(milestones)
    for (cell, stub), milestone in zip(found, milestones):
        assert [output.text.split(":")[0] for output in cell.outputs] == ["not yet"]
        assert re.search(rf"\b{milestone.name}\b", stub[0])


@every_project
def test_a_solution_has_what_each_stub_asks_for(name):
    assert len(projects.stubs(projects.solved(name))) == 0


def of(judge):
    return Milestone("it", judge)


def stop(rng, mine):
    raise IndexError("out of\nbounds")


def refuse(rng, mine):
    raise Missed("it should be 3, not 4")


@pytest.mark.parametrize(
    ("judge", "mine", "reached", "line"),
    [
        (lambda rng, mine: None, 1, True, "reached"),
        (lambda rng, mine: "0.9, above 0.5", 1, True, "reached: 0.9, above 0.5"),
        (refuse, 1, False, "it should be 3, not 4"),
        (stop, 1, False, "it stopped with IndexError: out of"),
        (lambda rng, mine: ask(mine, 2), lambda x: None, False, "not yet: it returns nothing"),
        (lambda rng, mine: ask(mine, 2), None, False, "not yet: there is nothing to check"),
        (lambda rng, mine: halfway(mine, 0.2, "right"), 0.7, True, "reached: right: 0.700, where guessing has 0.200"),
        (lambda rng, mine: halfway(mine, 0.2, "right"), 0.6, False, "right: 0.600, where guessing has 0.200"),
        (lambda rng, mine: halfway(mine, 0.2, "right"), np.nan, False, "right: nan"),
    ],
)
def test_a_verdict_is_one_line(judge, mine, reached, line):
    found = verdict(of(judge), mine, seed=0)
    assert found[0] == reached and found[1].startswith(line) and "\n" not in found[1]


def test_a_learner_gets_arrays_of_its_own():
    given = np.zeros(3)
    ask(lambda x: x.fill(1) or x, given)
    assert given.sum() == 0
    with pytest.raises(NotYet, match="it returns nothing"):
        ask(lambda: None)


@pytest.mark.parametrize("name", ["nothing/1", "sorting/9", "sorting/0", "sorting"])
def test_a_milestone_that_is_not_there_is_an_error(name):
    with pytest.raises(ValueError, match="name"):
        check(name, len)
