"""Every lesson and guide keeps the rules; and every rule sees the one that breaks it."""

import os
import shutil
import subprocess
import sys

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

import layers
from crosscheck.catalogue import chapters
from crosscheck.catalogue import lessons as names_of_lessons
from crosscheck.lesson import backends, colab, course, guide_rules, picture_rules, rules
from crosscheck.lesson import make as lessons
from layers.common.text import TextLayer

SCRIPTS = sorted(lessons.FOLDER.glob("*.py"))
every_lesson = pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)


@every_lesson
def test_the_notebook_is_the_executed_script(script):
    notebook = rules.read(script.with_suffix(".ipynb"))
    assert rules.paired(script, notebook) + rules.executed(notebook) + rules.portable(notebook) == []


def test_lessons_that_run_on_tensorflow_alone_are_those_of_text_layers():
    texts = [chapter for chapter in chapters() if any(issubclass(getattr(layers, name), TextLayer) for name in chapter.classes)]
    assert {chapter.name for chapter in texts} == set(backends.TEXT_LESSONS)
    assert [course.backends_of(name) for name in ("bert_tokenizer", "bert")] == ["TensorFlow", "TensorFlow, JAX"]


@pytest.mark.parametrize("name", ["index", *names_of_lessons()])
def test_a_lesson_that_is_not_on_text_has_nothing_of_tensorflow(name):
    if name not in backends.TEXT_LESSONS:
        assert rules.either_backend(rules.read(lessons.FOLDER / f"{name}.ipynb")) == []


@pytest.mark.parametrize("name", names_of_lessons())
def test_a_lesson_has_its_sections_and_keeps_its_budget(name):
    path = lessons.FOLDER / f"{name}.ipynb"
    notebook = rules.read(path)
    assert rules.sections(notebook) + rules.budget(notebook, path.stat().st_size / 1000) == []


@pytest.mark.parametrize("name", names_of_lessons())
def test_exercises_are_to_do_and_their_solutions_right(name):
    assert rules.exercises(rules.read(lessons.FOLDER / f"{name}.ipynb")) == []


@pytest.mark.parametrize("name", [guide.name for guide in course.guides()])
def test_a_guide_keeps_its_rules(name):
    path = lessons.FOLDER / f"{name}.ipynb"
    notebook = rules.read(path)
    assert guide_rules.guide(notebook, path.stat().st_size / 1000) == []
    assert picture_rules.readable(notebook) + picture_rules.measured(notebook) == []
    assert set(course.needs(name)) <= set(names_of_lessons()) and 10 <= course.minutes(name) <= 60


def test_the_index_shows_the_paths_and_every_chapter_as_they_are():
    index = rules.read(lessons.FOLDER / "index.ipynb")
    assert rules.shows(index, course.shown_by_index()) == []
    assert "is not what it shows" in rules.shows(index, ["nothing"])[0]


def good():
    """A notebook of one code cell that ran."""
    output = new_output("stream", name="stdout", text="1\n")
    cell = new_code_cell("print(1)", execution_count=1, outputs=[output])
    return new_notebook(cells=[cell], metadata=lessons.METADATA)


def html(text):
    return new_output("display_data", data={"text/html": text})


def test_a_good_notebook_has_no_complaints():
    assert rules.executed(good()) + rules.portable(good()) == []


@pytest.mark.parametrize(
    ("spoil", "complaint"),
    [
        (lambda n: n.cells[0].update(execution_count=None), "execution counts are"),
        (lambda n: n.cells[0].update(execution_count=2), "execution counts are"),
        (lambda n: n.metadata.kernelspec.update(name="conda"), "the kernel is conda"),
        (lambda n: n.cells[0].outputs.append(new_output("error", ename="E", evalue="", traceback=[])), "an output is an error"),
        (lambda n: n.cells[0].outputs[0].update(text="saved in /" + "home/me/x"), "absolute path"),
        (lambda n: n.cells[0].outputs[0].update(text="<object at 0x7f01020304>"), "has a memory address"),
        (lambda n: n.cells[0].outputs.append(html("<a href='/" + "tmp/x'>x</a>")), "absolute path"),
        (lambda n: n.cells[0].outputs[0].update(name="stderr"), "comes from stderr"),
    ],
)
def test_a_spoiled_notebook_is_seen(spoil, complaint):
    notebook = good()
    spoil(notebook)
    (found,) = rules.executed(notebook) + rules.portable(notebook)
    assert complaint in found


@pytest.mark.parametrize(
    ("source", "complaint"),
    [
        ("import tensorflow as tf", "import tensorflow"),
        ("from tensorflow.keras import ops", "import tensorflow.keras"),
        ("x = 1\ny = tf.constant(x)", "tf"),
        ("with backend.GradientTape() as tape:\n    pass", "GradientTape"),
        ("model.compile('adam', jit_compile=False)", "jit_compile=False"),
    ],
)
def test_code_that_needs_tensorflow_is_seen(source, complaint):
    notebook = new_notebook(cells=[new_code_cell(source)])
    assert rules.either_backend(notebook) == [f"a cell has {complaint}, which is not for both backends"]


def test_code_for_both_backends_has_no_complaints():
    source = "%matplotlib inline\nfrom keras import ops\nmodel.compile(jit_compile=True)\nprint('tf.constant')  # tf.constant"
    assert rules.either_backend(new_notebook(cells=[new_code_cell(source), new_markdown_cell("`tf.constant`")])) == []


def test_a_changed_script_is_seen(tmp_path):
    script = tmp_path / "lesson.py"
    script.write_text("# %%\nprint(1)\n")
    assert rules.paired(script, colab.dressed(good())) == []
    assert "make badges" in rules.paired(script, good())[0]
    script.write_text("# %%\nprint(2)\n")
    assert "cells differ" in rules.paired(script, good())[0]
    nbformat.write(good(), script.with_suffix(".ipynb"))
    assert lessons.changed(script)


def test_sections_in_another_order_are_seen():
    cells = [new_markdown_cell(f"## {name}") for name in rules.SECTIONS]
    assert rules.sections(new_notebook(cells=cells)) == []
    assert rules.sections(new_notebook(cells=cells[::-1])) != []
    assert rules.sections(new_notebook(cells=cells[1:])) != []


def code(count, lines=1):
    return [new_code_cell("x\n" * lines) for _ in range(count)]


@pytest.mark.parametrize(
    ("cells", "kilobytes", "complaint"),
    [
        (code(24), 1, "24 cells"),
        (code(46), 1, "46 cells"),
        ([*code(29), new_code_cell("x\n" * 26)], 1, "26 lines"),
        (code(30, lines=9), 1, "median 9"),
        ([*code(29), new_markdown_cell("word " * 1501)], 1, "1501 words"),
        ([*code(29), new_markdown_cell("1 < 2, " + "word " * 1496 + "and 2 > 1, <b>now</b>")], 1, "1504 words"),
        (code(30), 801, "801 kB"),
    ],
)
def test_a_lesson_over_its_budget_is_seen(cells, kilobytes, complaint):
    (found,) = rules.budget(new_notebook(cells=cells), kilobytes)
    assert complaint in found


def guide(spoil=lambda cells: None):
    """A guide that keeps the rules, one of whose cells may be spoiled."""
    cells = [new_markdown_cell("# A guide\n\nWhat it does.\n\n10 minutes · You should know: [attention](attention.ipynb)")]
    cells += [*code(8), new_markdown_cell("## Summary\n\nIt works.")]
    spoil(cells)
    return new_notebook(cells=cells)


def test_a_guide_that_keeps_the_rules_has_no_complaints():
    assert guide_rules.guide(guide(), 1) == []


@pytest.mark.parametrize(
    ("spoil", "complaint"),
    [
        (lambda cells: cells[0].update(source=cells[0].source.replace("# A guide", "A guide")), "does not begin with a title"),
        (lambda cells: cells[0].update(source=cells[0].source.replace("10 minutes", "soon")), "does not say how many minutes"),
        (lambda cells: cells[0].update(source=cells[0].source.replace("know:", "know")), 'does not say what "You should know:"'),
        (lambda cells: cells[-1].update(source="## The end"), "does not end with a summary"),
        (lambda cells: cells[1].update(source='check("tpu/1", mine)'), "has an exercise"),
        (lambda cells: cells[1].update(source="x\n" * 21), "a code cell of 21 lines, above 20"),
        (lambda cells: cells.__setitem__(slice(1, -1), code(8, lines=15)), "median 15.0 lines, above 14"),
        (lambda cells: cells.pop(1), "9 cells, not 10 to 80"),
        (lambda cells: cells.extend([*code(71), new_markdown_cell("## Summary")]), "82 cells, not 10 to 80"),
    ],
)
def test_a_spoiled_guide_is_seen(spoil, complaint):
    (found,) = guide_rules.guide(guide(spoil), 1)
    assert complaint in found


STUB = """def {name}:
    return None  # your turn


_ = check("masked_softmax/{number}", {function})"""
SOLUTIONS = {
    "log_softmax(x)": "<code>x - np.logaddexp.reduce(x)</code>",
    "gradient(x, allowed, c)": "<code>p = masked_softmax(x, allowed); return p * (c - p @ c)</code>",
    "log_total(pieces)": """

```python
def log_total(pieces):
    total = -np.inf
    for piece in pieces:
        total = np.logaddexp(total, np.logaddexp.reduce(piece))
    return total
```
""",
}
SETUP = "import numpy as np\nfrom reference.masked_softmax import masked_softmax\nfrom crosscheck.lesson.exercises import check"


def graded(spoil=lambda cells: None):
    """A lesson with the exercises of the masked softmax, one of whose cells may be spoiled."""
    cells = [new_code_cell(SETUP), new_markdown_cell("## Exercises\n**1** (easy, 5 minutes). Do.")]
    outputs = [new_output("stream", name="stdout", text="not yet: it returns nothing")]
    following = ["**2** (medium, 10 minutes). Do.", "**3** (hard, 15 minutes). Do.", "**To discuss.** Why?"]
    for number, ((name, solution), after) in enumerate(zip(SOLUTIONS.items(), following), 1):
        cells.append(new_code_cell(STUB.format(name=name, number=number, function=name.split("(")[0]), outputs=outputs))
        cells.append(new_markdown_cell(f"{FOLDED}{solution}</details>\n{after}"))
    spoil(cells)
    return new_notebook(cells=cells)


def replacing(place, old, new):
    def spoil(cells):
        assert old in cells[place].source
        cells[place].source = cells[place].source.replace(old, new)

    return spoil


def test_graded_exercises_with_right_solutions_have_no_complaints():
    assert rules.exercises(graded()) == []


@pytest.mark.parametrize(
    ("spoil", "complaint"),
    [
        (replacing(1, "5 minutes", "soon"), 'exercise 1 does not begin with "**1** (easy, … minutes)."'),
        (replacing(3, "medium", "hard"), 'exercise 2 does not begin with "**2** (medium, … minutes)."'),
        (replacing(2, "None  # your turn", "x - x.max()"), "the cell of exercise 1 is not a function that returns None"),
        (replacing(2, "\n\n\n_", "\n\n\nanswer = 3\n_"), "the cell of exercise 1 is not a function that returns None"),
        (replacing(4, "softmax/2", "softmax/3"), "the cell of exercise 2 is not a function that returns None and its check"),
        (replacing(4, "(x, allowed, c)", "(x, mask, c)"), "the solution of masked_softmax/2 is wrong: "),
        (replacing(3, "np.logaddexp.reduce(x)", "x.max()"), "the solution of masked_softmax/1 is wrong: for x"),
        (replacing(3, "np.logaddexp", "made_earlier"), "the solution of masked_softmax/1 is wrong: for x"),
        (replacing(3, "np.logaddexp.reduce(x)", "2 *"), "the solution of masked_softmax/1 is wrong: SyntaxError"),
        (replacing(3, "Hint", "Help"), "exercise 1 has no folded hint and solution"),
        (replacing(7, "To discuss", "Note"), "there is no question to discuss after the exercises"),
        (lambda cells: cells[2].update(outputs=[]), "exercise 1 does not say that it is not done yet"),
        (lambda cells: cells.pop(2), "2 exercises, not 3"),
    ],
)
def test_a_spoiled_graded_exercise_is_seen(spoil, complaint):
    assert complaint in rules.exercises(graded(spoil))[0]


def test_an_argument_of_another_name_is_seen():
    renamed = replacing(2, "log_softmax(x)", "log_softmax(scores)")
    spoiled = graded(lambda cells: (renamed(cells), replacing(3, "x - np.logaddexp.reduce(x)", "scores")(cells)))
    assert "the solution of masked_softmax/1 is wrong: " in rules.exercises(spoiled)[0]


FOLDED = "<details><summary>Hint</summary>Add.</details>\n<details><summary>Solution</summary>"


@pytest.mark.parametrize(
    "solution",
    [
        "x - np.logaddexp.reduce(x)",
        "return x - np.logaddexp.reduce(x) if 3 &gt; 2 else x",
        "y = x; return y - np.logaddexp.reduce(y)",
    ],
)
def test_solutions_may_be_an_expression_or_a_line(solution):
    spoiled = replacing(3, "x - np.logaddexp.reduce(x)", solution)
    assert rules.exercises(graded(spoiled)) == []


def test_making_a_lesson_twice_changes_nothing(tmp_path):
    script, made = tmp_path / "lesson.py", []
    script.write_text("# %% [markdown]\n# One\n\n# %%\nprint(1)\n")
    for _ in range(2):
        assert lessons.make(script) == 0
        made.append(script.with_suffix(".ipynb").read_text())
    assert made[0] == made[1]
    assert not lessons.changed(script)
    assert rules.portable(rules.read(script.with_suffix(".ipynb"))) == []


def test_the_cells_of_one_notebook_stay_together_on_one_worker(tmp_path):
    cells = [new_code_cell("count = 1", execution_count=1)]
    cells += [new_code_cell(f"count += 1\nassert count == {n}", execution_count=n) for n in (2, 3, 4)]
    notebook = new_notebook(cells=cells, metadata=lessons.METADATA)
    shutil.copy(lessons.FOLDER.parent / "conftest.py", tmp_path)
    for name in ("one", "two"):
        nbformat.write(notebook, tmp_path / f"{name}.ipynb")
    options = ["-n", "2", "--nbval", "--nbval-current-env", "-p", "no:cacheprovider"]
    command = [sys.executable, "-m", "pytest", *options, "one.ipynb", "two.ipynb"]
    run = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert "8 passed" in run.stdout, run.stdout


def test_on_jax_asserts_must_hold_outputs_may_differ_and_lessons_on_text_are_left_out(tmp_path):
    shutil.copy(lessons.FOLDER.parent / "conftest.py", tmp_path)
    stored = [new_output("stream", name="stdout", text="tensorflow\n")]
    sources = ("import os\nprint(os.environ['KERAS_BACKEND'])", "assert 1 + 1 == 3", "assert 1 + 1 == 2")
    cells = [new_code_cell(source, execution_count=n, outputs=stored[: n == 1]) for n, source in enumerate(sources, 1)]
    for name in ("one", backends.TEXT_LESSONS[0]):
        nbformat.write(new_notebook(cells=cells, metadata=lessons.METADATA), tmp_path / f"{name}.ipynb")
    options = ["-rfs", "-n", "0", "--nbval", "--nbval-current-env", "-p", "no:cacheprovider"]
    environment = os.environ | {"KERAS_BACKEND": "jax", "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-m", "pytest", *options, "."]
    said = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True).stdout
    assert "1 failed, 2 passed, 3 skipped" in said, said
    assert "FAILED one.ipynb::Cell 1" in said
    assert f"{backends.TEXT_LESSONS[0]} is on TensorFlow's text operations, so it runs on TensorFlow alone" in said


def test_making_a_lesson_that_fails_leaves_the_old_notebook(tmp_path, capsys):
    script = tmp_path / "broken.py"
    script.write_text("# %%\nprint(1)\n\n# %%\n1 / 0\n")
    script.with_suffix(".ipynb").write_text("old")
    assert lessons.make(script) == 1
    assert script.with_suffix(".ipynb").read_text() == "old"
    assert "broken.py, cell 2" in capsys.readouterr().err


def test_an_unknown_lesson_gets_the_nearest(capsys):
    assert lessons.main(["atention"]) == 2
    assert "The nearest: attention" in capsys.readouterr().err


def test_help_on_making_lessons_says_what_it_takes_and_when_it_fails(said_by_help):
    said = said_by_help(lessons.main)
    assert all(part in said for part in ("usage: crosscheck.lesson.make", "NAME", "examples:", "exit status:")), said


def test_a_wrong_lesson_is_refused_with_the_nearest_name(capsys):
    assert lessons.main(["atention"]) == 2
    assert "no lesson is called 'atention'. The nearest: attention" in capsys.readouterr().err


def test_an_unknown_option_of_making_lessons_is_refused(capsys):
    with pytest.raises(SystemExit) as stopped:
        lessons.main(["--all"])
    assert stopped.value.code == 2
    assert "unrecognized arguments: --all" in capsys.readouterr().err
