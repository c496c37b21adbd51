"""The rules for executed lessons. Each rule returns a list of complaints."""

import ast
import inspect
import io
import re
import statistics
from contextlib import redirect_stdout
from html import unescape
from pathlib import Path

import jupytext
import nbformat

from crosscheck.lesson import colab
from crosscheck.lesson.exercises import find, verdict

SECTIONS = (
    "The question",
    "The equation",
    "By hand",
    "In NumPy",
    "What it does",
    "Does the layer agree?",
    "Where it breaks",
    "What it costs",
    "Exercises",
    "Summary",
)
"""The headings of a lesson, in this order."""

SECTIONS_WITH_PICTURE = (
    "The question",
    "The picture",
    "The equation",
    "By hand",
    "In NumPy",
    "What it does",
    "Where it breaks",
    "What it costs",
    "Does the layer agree?",
    "Today",
    "Exercises",
    "Summary",
)
"""The same for a lesson with a diagram. What it costs is left out where the cost is not the point."""

MOST = {"cells": 45, "lines": 25, "median": 8, "words": 1500, "kB": 800}
MOST_WITH_PICTURE = {"cells": 80, "lines": 20, "median": 8, "words": 2500, "kB": 1000}

ABSOLUTE_PATH = re.compile(r"(?<![\w.:/])/(?:home|root|usr|tmp|opt|var|mnt|work|Users|content)/")
ADDRESS = re.compile(r"\bat 0x[0-9a-f]{6,}")
LEVELS = ("easy", "medium", "hard")
STUB = re.compile(
    r"def (?P<name>\w+)\((?P<arguments>[\w, ]*)\):\n    return None  # your turn\n\n\n"
    r'_ = check\("(?P<chapter>\w+)/(?P<number>\d)", (?P=name)\)'
)
"""The cell of an exercise, which holds nothing of the answer."""

LINK_INTO_THE_CLONE = re.compile(r"\[([^\]]*)\]\(\.\./[^)]*\)")
SOLUTION = re.compile(r"<summary>Solution</summary>\s*(?:```python\n(.*?)```|<code>(.*?)</code>)", re.DOTALL)


def paired(script, notebook):
    """The notebook was made from the current script, and has the present cell that installs what is missing."""
    name, of_script = Path(script).name, jupytext.read(script)
    if any(map(colab.installs, of_script.cells)):
        return [f"{name} has the cell that installs what is missing; only the notebook has it"]
    cells = [
        [(cell.cell_type, cell.source, cell.metadata.get("tags", [])) for cell in of.cells]
        for of in (of_script, colab.plain(notebook))
    ]
    if cells[0] != cells[1]:
        return [f"cells differ from {name}: run make notebooks"]
    wanted, found = (
        [(cell.source, cell.metadata) for cell in of.cells]
        for of in (colab.dressed(notebook, Path(script).with_suffix(".ipynb")), notebook)
    )
    return [] if wanted == found else ["the cell that installs what is missing, or the badge, is an old one: run make badges"]


def executed(notebook):
    """Every code cell ran once, in order, on the kernel python3, and no output is an error."""
    complaints = []
    counts = [cell.execution_count for cell in code_cells(notebook)]
    if counts != list(range(1, len(counts) + 1)):
        complaints.append(f"execution counts are {counts}, not 1 to {len(counts)}")
    if (kernel := notebook.metadata.get("kernelspec", {}).get("name")) != "python3":
        complaints.append(f"the kernel is {kernel}, not python3")
    if any(output.output_type == "error" for output in outputs(notebook)):
        complaints.append("an output is an error")
    return complaints


def portable(notebook):
    """No output contains an absolute path or a memory address, or comes from stderr."""
    complaints = []
    for output in outputs(notebook):
        texts = [output.get("text", ""), *(data for kind, data in output.get("data", {}).items() if kind.startswith("text/"))]
        text = "\n".join("".join(part) for part in texts)
        if ABSOLUTE_PATH.search(text):
            complaints.append(f"an output has an absolute path: {text[:80]!r}")
        if ADDRESS.search(text):
            complaints.append(f"an output has a memory address, which changes at every run: {text[:80]!r}")
        if output.get("name") == "stderr":
            complaints.append(f"an output comes from stderr: {text[:80]!r}")
    return complaints


def either_backend(notebook):
    """No code cell needs TensorFlow: a lesson runs on JAX too, where only `keras.ops` and the layers are sure to be there."""
    complaints = []
    for cell in code_cells(notebook):
        lines = ["" if line.startswith(("%", "!")) else line for line in cell.source.splitlines()]  # commands of IPython
        nodes = ast.walk(ast.parse("\n".join(lines)))
        complaints += [f"a cell has {found}, which is not for both backends" for found in filter(None, map(tied, nodes))]
    return complaints


def tied(node):
    """What of a piece of code only TensorFlow has, or makes JAX run each operation by itself; None if nothing."""
    modules = {ast.Import: lambda: [name.name for name in node.names], ast.ImportFrom: lambda: [node.module or ""]}
    for module in modules.get(type(node), list)():
        if module.split(".")[0] in ("tensorflow", "tensorflow_text"):
            return f"import {module}"
    if isinstance(node, ast.Name) and node.id == "tf":
        return "tf"
    if "GradientTape" in (getattr(node, "id", None), getattr(node, "attr", None)):
        return "GradientTape"
    if isinstance(node, ast.keyword) and node.arg == "jit_compile" and getattr(node.value, "value", None) is False:
        return "jit_compile=False"
    return None


def has_picture(notebook):
    """Whether a lesson has a diagram and keeps the rules that came with it: those of `crosscheck/lesson/picture_rules.py`."""
    return "The picture" in headings(notebook)


def sections(notebook):
    """The notebook has all headings, in order."""
    expected = SECTIONS_WITH_PICTURE if has_picture(notebook) else SECTIONS
    found = [heading for heading in headings(notebook) if heading in expected]
    if has_picture(notebook) and "What it costs" not in found:
        expected = [heading for heading in expected if heading != "What it costs"]
    return [] if found == list(expected) else [f"sections are {found}, not {list(expected)}"]


def budget(notebook, kilobytes, most=None, least=25):
    """The notebook is short enough to be read in one sitting: a lesson, unless `most` and `least` say otherwise."""
    notebook = colab.plain(notebook)
    shown = [cell for cell in code_cells(notebook) if "hide-input" not in cell.metadata.get("tags", [])]
    lengths = [len(cell.source.splitlines()) for cell in shown]
    middle = statistics.median(lengths)
    prose = " ".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown")
    words = len(re.sub(r"```.*?```|</?[a-z][^<>]*>|\$[^$]*\$|\(http[^)]*\)", " ", prose, flags=re.DOTALL).split())
    most = most or (MOST_WITH_PICTURE if has_picture(notebook) else MOST)
    limits = (
        (least <= len(notebook.cells) <= most["cells"], f"{len(notebook.cells)} cells, not {least} to {most['cells']}"),
        (max(lengths) <= most["lines"], f"a code cell of {max(lengths)} lines, above {most['lines']}"),
        (middle <= most["median"], f"code cells of median {middle} lines, above {most['median']}"),
        (words <= most["words"], f"{words} words, above {most['words']}"),
        (kilobytes <= most["kB"], f"{kilobytes:.0f} kB, above {most['kB']}"),
    )
    return [complaint for kept, complaint in limits if not kept]


def exercises(notebook):
    """Three graded stubs, each with a check, and below it a folded hint and a solution that passes; then a question to discuss.

    Solutions run after the setup cell alone, so that readers can return to an exercise without running the whole lesson.
    """
    notebook = colab.plain(notebook)
    cells = notebook.cells
    start = next((i for i, cell in enumerate(cells) if "## Exercises" in cell.source.splitlines()), len(cells))
    stubs = [i for i, cell in enumerate(cells) if i > start and cell.cell_type == "code" and "check(" in cell.source]
    if len(stubs) != 3:
        return [f"{len(stubs)} exercises, not 3"]
    namespace, complaints = {}, []
    run(code_cells(notebook)[0].source, namespace)
    for number, (i, level) in enumerate(zip(stubs, LEVELS), 1):
        before, after = (cells[j].source if j < len(cells) else "" for j in (i - 1, i + 1))
        if not re.search(rf"\*\*{number}\*\* \({level}, \d+ minutes\)\.", before):
            complaints.append(f'exercise {number} does not begin with "**{number}** ({level}, … minutes)."')
        if not any("not yet" in output.get("text", "") for output in cells[i].outputs):
            complaints.append(f"exercise {number} does not say that it is not done yet")
        if not (stub := STUB.fullmatch(cells[i].source)) or int(stub["number"]) != number:
            complaints.append(f"the cell of exercise {number} is not a function that returns None and its check")
        elif "<summary>Hint</summary>" not in after or not (found := SOLUTION.search(after)):
            complaints.append(f"exercise {number} has no folded hint and solution in the cell below it")
        else:
            complaints += of_solution(stub, found[1] or unescape(found[2]), namespace)
    if "**To discuss.**" not in "".join(cell.source for cell in cells[stubs[-1] :] if cell.cell_type == "markdown"):
        complaints.append("there is no question to discuss after the exercises")
    return complaints


def of_solution(stub, solution, namespace):
    """Complaints about the solution of a stub, which is a match of `STUB`."""
    name, which = stub["name"], f"{stub['chapter']}/{stub['number']}"
    try:
        exercise = find(which)
        run(whole(solution, name, stub["arguments"]), namespace)
        wrong = verdict(exercise, namespace[name])
    except Exception as error:
        wrong = f"{type(error).__name__}: {error}"
    if wrong:
        return [f"the solution of {which} is wrong: {wrong}"]
    wanted = f"{exercise.name}({', '.join(inspect.signature(exercise.answer).parameters)})"
    found = f"{name}({stub['arguments']})"
    return [] if found == wanted else [f"the stub of {which} is {found}, and the exercise {wanted}"]


def whole(solution, name, arguments):
    """A solution as a whole function. It may also be a body in one line, or the expression that the function returns."""
    if "def " in solution:
        return solution
    return f"def {name}({arguments}): {solution if 'return ' in solution else f'return {solution}'}"


def run(source, namespace):
    """The output that a cell prints."""
    printed = io.StringIO()
    with redirect_stdout(printed):
        exec(source, namespace)
    return printed.getvalue()


def shows(notebook, texts):
    """The notebook has each text as an output in Markdown."""
    found = ["".join(output.get("data", {}).get("text/markdown", "")) for output in outputs(notebook)]
    return [f"{text[:60]!r} … is not what it shows: run make notebooks NAME=index" for text in texts if text not in found]


def code_cells(notebook):
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def outputs(notebook):
    return [output for cell in code_cells(notebook) for output in cell.outputs]


def headings(notebook):
    lines = [line for cell in notebook.cells if cell.cell_type == "markdown" for line in cell.source.splitlines()]
    return [line.lstrip("# ") for line in lines if line.startswith("## ")]


def read(path):
    """The notebook at `path`."""
    return nbformat.read(path, as_version=4)
