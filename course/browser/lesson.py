"""The half of a lesson that needs NumPy alone, as a notebook for a browser."""

import ast
import re

import jupytext
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

from course.browser.cells import Known, names_of, read_by
from crosscheck.lesson import make
from crosscheck.lesson.rules import LINK_INTO_THE_CLONE

LAST = "What it does"
"""The last section that is kept."""

HEADING = re.compile(r"^## +(.*?) *$", re.MULTILINE)
METADATA = {
    "kernelspec": {"display_name": "Python (Pyodide)", "language": "python", "name": "python"},
    "language_info": {"name": "python"},
}
MEGABYTES = {"the notebook's page": 8, "Python": 13, "its kernel": 5, "NumPy and Matplotlib": 13, "this course": 1}
"""The first two and the last were measured; the others are what their files have had in Pyodide, which names no sizes."""

SCIPY = {"SciPy": 15}

NOTE = """\
**In the browser.** This is the half of the lesson that needs NumPy alone, to read and to try without installing anything. It ends
with *{last}*; where cells are left out, a line says what they need. Your browser downloads about {total} MB ({parts}), and keeps
most of it for the next lesson."""

LEFT_OUT = "*Left out here: {count}, for want of {needed}.*"

REST = """\
**The whole lesson** goes on: where the mechanism breaks, what it costs, whether the layer computes the same, and exercises with a
check. It needs Keras."""

FIRST = """\
import piplite

await piplite.install({packages})
await piplite.install("transformer-layers-three-times", deps=False)  # without Keras

from crosscheck.lesson.absent import stand_in

stand_in()"""


def lessons():
    """The name of every lesson; the index has no such section, and a guide to machines neither."""
    scripts = sorted(make.FOLDER.glob("*.py"))
    return [path.stem for path in scripts if f"\n# ## {LAST}\n" in path.read_text(encoding="utf-8")]


def in_browser(name):
    """The notebook for a browser of the lesson called `name`."""
    known, setup, found = Known(), None, []
    for section, cell in kept_sections(jupytext.read(make.FOLDER / f"{name}.py").cells):
        if cell.cell_type == "markdown":
            found.append((section, new_markdown_cell(LINK_INTO_THE_CLONE.sub(r"\1", cell.source))))
        elif setup is None:
            setup = new_code_cell("\n".join(known.kept_of(cell.source)), metadata=cell.metadata)
            found.append((section, setup))
        else:
            statements = ast.parse(cell.source).body
            needed = known.lacked_by(statements)
            if needed:
                known.leave_out(statements, needed)
            else:
                known.run(statements)
            found.append((section, needed or new_code_cell(cell.source, metadata=cell.metadata)))
    title, *others = with_notes(found)
    setup.source = needed_of(setup.source, [cell.source for cell in others if cell.cell_type == "code" and cell is not setup])
    return numbered([title, *beginning("scipy" in setup.source), *others, new_markdown_cell(REST)])


def kept_sections(cells):
    """Pairs of the heading above and a cell, up to the end of the last section that is kept."""
    section = ""
    for cell in cells:
        if cell.cell_type == "markdown":
            for heading in HEADING.finditer(cell.source):
                if section == LAST:
                    cell.source = cell.source[: heading.start()].rstrip()
                    if cell.source:
                        yield section, cell
                    return
                section = heading[1]
        yield section, cell


def with_notes(found):
    """The cells, and in each section a line in place of the first one that is left out."""
    noted = set()
    for section, cell in found:
        if not isinstance(cell, set):
            yield cell
        elif section not in noted:
            noted.add(section)
            missing = [each for other, each in found if other == section and isinstance(each, set)]
            count = f"{len(missing)} cells" if len(missing) > 1 else "a cell"
            yield new_markdown_cell(LEFT_OUT.format(count=count, needed=listed(set().union(*missing))))


def listed(needed):
    """What is needed, as words; a backend goes with Keras."""
    texts = sorted(needed - {"TensorFlow", "JAX"} if "Keras" in needed else needed)
    return " and ".join(filter(None, [", ".join(texts[:-1]), texts[-1]]))


def needed_of(setup, others):
    """The statements of the first cell, without imports that nothing reads."""
    lines = ast.parse(setup).body
    is_import = [isinstance(node, ast.Import | ast.ImportFrom) for node in lines]
    sources = [ast.get_source_segment(setup, node) for node in lines]
    read = read_by([*others, *(source for source, importing in zip(sources, is_import) if not importing)])
    kept = [not importing or names_of(node)[1] & read for node, importing in zip(lines, is_import)]
    return "\n".join(source for source, is_kept in zip(sources, kept) if is_kept)


def beginning(with_scipy):
    """The cells that say what is downloaded, and do it."""
    parts = MEGABYTES | (SCIPY if with_scipy else {})
    text = ", ".join(f"{what} {size}" for what, size in parts.items())
    packages = ["jaxtyping", "numpy", "matplotlib", *(["scipy"] if with_scipy else [])]
    note = NOTE.format(last=LAST, total=sum(parts.values()), parts=text)
    code = FIRST.format(packages=str(packages).replace("'", '"'))
    return new_markdown_cell(note), new_code_cell(code)


def numbered(cells):
    for number, cell in enumerate(cells, 1):
        cell.id = f"cell-{number}"
    return new_notebook(cells=cells, metadata=METADATA)
