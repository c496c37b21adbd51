"""Lessons with a diagram keep the rules of pictures and of what is measured; and every rule sees the lesson that breaks it."""

import base64
import io

import matplotlib.pyplot as plt
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from crosscheck.catalogue import lessons as names_of_lessons
from crosscheck.lesson import figures, picture_rules, rules
from crosscheck.lesson import make as lessons
from crosscheck.lesson.diagram import Box, diagram

WITH_PICTURE = [path.stem for path in sorted(lessons.FOLDER.glob("*.ipynb")) if rules.has_picture(rules.read(path))]


@pytest.mark.parametrize("name", WITH_PICTURE)
def test_a_lesson_with_a_diagram_keeps_the_rules(name):
    notebook = rules.read(lessons.FOLDER / f"{name}.ipynb")
    assert picture_rules.drawn(notebook) + picture_rules.measured(notebook) == []


def said(text):
    return new_output("stream", name="stdout", text=text)


def picture(inches):
    file = io.BytesIO()
    fig = plt.figure(figsize=(inches, 1), dpi=150)
    fig.savefig(file, format="png")
    plt.close(fig)
    return new_output("display_data", data={"image/png": base64.b64encode(file.getvalue()).decode()})


def lesson(source="x = 1", outputs=(), prose=""):
    """A lesson that keeps the rules, with one more cell and one more paragraph."""
    cells = [new_markdown_cell("## The picture"), new_code_cell("diagram(boxes, arrows)\nfigures.agreement_line(CHAPTER)")]
    cells += [new_markdown_cell("## What it does"), new_code_cell(source, outputs=list(outputs)), new_markdown_cell(prose)]
    return new_notebook(cells=cells)


def complaints(notebook):
    return picture_rules.drawn(notebook) + picture_rules.measured(notebook)


def test_a_good_lesson_has_no_complaints():
    good = lesson(
        "print(2 * x)\nfig.colorbar(ax.imshow(y))", [said("accuracy 0.97"), picture(10)], "It gets 0.97, in Table 3 0.5."
    )
    assert rules.has_picture(good) and complaints(good) == []


@pytest.mark.parametrize(
    ("spoiled", "complaint"),
    [
        (lesson("ax.imshow(x)"), "code cell 2 draws a heat map without a color bar"),
        (lesson("plt.show()"), "code cell 2 calls plt.show"),
        (lesson("figures.agreement_plot(CHAPTER)"), "code cell 2 draws all cases"),
        (lesson(outputs=[picture(12)]), "a picture is 1800 pixels wide"),
        (lesson('print("all agree")'), "code cell 2 prints a text that was not computed"),
        (lesson(outputs=[said("0.3\nTrue\n")]), "code cell 2 shows a truth value alone"),
        (lesson(outputs=[said("0.97")], prose="It gets 0.98."), "the number 0.98 in prose is shown by no cell"),
    ],
)
def test_a_spoiled_lesson_is_seen(spoiled, complaint):
    (found,) = complaints(spoiled)
    assert found.startswith(complaint)


def test_a_lesson_without_diagram_or_agreement_is_seen():
    notebook = lesson()
    notebook.cells[1].source = "x = 2"
    assert [found.split(" ")[-1] for found in complaints(notebook)] == ["mechanism", "agree"]


@pytest.mark.parametrize("name", names_of_lessons())
def test_every_figure_of_a_lesson_has_a_text(name):
    assert picture_rules.told(rules.read(lessons.FOLDER / f"{name}.ipynb")) == []


FILM = '<img alt="steps" id="a"><script src="data:text/javascript,"></script>'


@pytest.mark.parametrize(
    ("text", "film", "complaint"),
    [
        ("a reading", FILM, None),
        ("", FILM, "1 figures have no text"),
        ("a reading", '<img id="a">', "1 figures have no text"),
        ("a reading", f'{FILM}<link rel="stylesheet" href="https://example.org/a.css">', "fetches something from outside"),
    ],
)
def test_a_figure_without_a_text_and_a_film_that_fetches_are_seen(text, film, complaint):
    shown = picture(1)
    shown.metadata = {"image/png": {"alt": text}}
    found = picture_rules.told(lesson(outputs=[shown, new_output("execute_result", data={"text/html": film})]))
    assert len(found) == (complaint is not None) and (not found or complaint in found[0])


@pytest.mark.parametrize(("place", "is_covered"), [("upper left", False), ("lower right", True)])
def test_a_legend_over_data_is_refused(place, is_covered):
    fig, ax = plt.subplots()
    ax.plot([0, 1], [0, 0], label="flat")
    ax.legend(loc=place)
    ax.set(ylim=(-0.05, 1), title="flat")
    if is_covered:
        with pytest.raises(ValueError, match="a legend must not cover data. Received: the axes 'flat'"):
            figures.show()
    else:
        figures.show()
    plt.close(fig)


def test_a_diagram_has_its_boxes_and_its_shapes():
    boxes = {
        "x": Box("input", 0, 0, "data"),
        "map": Box("$W$", 0, 1, "map"),
        "sum": Box("+", 1, 1),
        "y": Box("output", 1, 2, "data"),
    }
    fig = diagram(
        boxes, [("x", "map", "(b, m)"), ("map", "sum", "(b, n)"), ("sum", "y", ""), ("x", "sum", "(b, m)", 0.3)], "a map"
    )
    texts = {text.get_text() for text in fig.axes[0].texts}
    assert {"input", "$W$", "+", "output", "(b, m)", "(b, n)"} <= texts and fig.axes[0].get_title() == "a map"
    plt.close(fig)


def test_a_diagram_refuses_what_it_cannot_draw():
    with pytest.raises(ValueError, match="kind must be one of map, op, data, trained. Received: kind='layer'"):
        Box("x", 0, 0, "layer")
    with pytest.raises(ValueError, match="arrows must lead from box to box. Received: y"):
        diagram({"x": Box("x", 0, 0)}, [("x", "y", "")])
