"""`python -m crosscheck.lesson.colab`: into every notebook the cell that installs what is missing, and badges for Colab.

A notebook is its script and that cell. Where `pyproject.toml` has the repository's address, a badge stands below its title, too.
"""

import copy
import inspect
import json
import re
import tomllib
from pathlib import Path

import nbformat
from nbformat.v4 import new_code_cell

from crosscheck.lesson import install
from crosscheck.report.command import Parser, as_program, refuse

ROOT = Path(__file__).parents[2]
FOLDERS = ("notebooks", "course/projects")
BRANCH = "main"
FIRST_LINE = "# @title Install what is missing; this does nothing where everything is there"
METADATA = {"cellView": "form", "jupyter": {"source_hidden": True}, "tags": ["hide-input", "remove-cell"]}
"""Folded on Colab and in JupyterLab; no part of a web page."""

LAST_LINES = "from crosscheck.lesson.install import bring_packages\n\nbring_packages()"
BADGE = re.compile(r"\n\n\[!\[Open in Colab\]\([^)]*\)\]\([^)]*\)")
ADDRESS = re.compile(r"(?:https|ssh|file)://[^\s\"\\]+")
GITHUB = re.compile(r"https://github\.com/([\w.-]+/[\w.-]+?)(?:\.git)?/?")

DESCRIPTION = """\
Put the cell that installs what is missing into every notebook, and "Open in Colab" below the titles of notebooks and README. The
repository's address is Repository under [project.urls] in pyproject.toml. Without it there are no badges, and the cell says what
a reader has to do. Nothing is executed, and outputs stay as they are."""

EXAMPLES = """\
examples:
  python -m crosscheck.lesson.colab

exit status:
  0  every notebook and the README are as they should be
  2  the address is not one, an option is not known, or there are no lessons here"""


def main(argv=None):
    """Write what differs. Returns the exit status."""
    Parser("crosscheck.lesson.colab", description=DESCRIPTION, epilog=EXAMPLES).parse_args(argv)
    if not (ROOT / FOLDERS[0]).is_dir():
        return refuse(f"the lessons are not part of the installed package; use a clone. Missing: {ROOT / FOLDERS[0]}")
    try:
        address = repository()
    except ValueError as error:
        return refuse(error.args[0])
    paths = [path for folder in FOLDERS for path in sorted((ROOT / folder).glob("*.ipynb")) if path.with_suffix(".py").exists()]
    print(f"Changed: {sum(map(renew, paths))} of {len(paths)} notebooks")
    readme = ROOT / "README.md"
    title, rest = BADGE.sub("", readme.read_text(encoding="utf-8"), count=1).split("\n", 1)
    readme.write_text(f"{title}{badge(address, 'notebooks/index.ipynb')}\n{rest}", encoding="utf-8")
    if not badge(address, ""):
        found = address or "not in pyproject.toml"
        print(f"No badges: Colab opens what is on github.com, and the address of the repository is {found}.")
    return 0


def renew(path):
    """Write the notebook at `path` with the present cell and badge. Returns whether it differed."""
    notebook = nbformat.read(path, as_version=4)
    wanted = dressed(notebook, path)
    if wanted == notebook:
        return False
    nbformat.write(wanted, path)
    return True


def repository():
    """The repository's address, or None if there is none.

    Raises:
        ValueError: if what stands in its place is no address.
    """
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    address = project.get("urls", {}).get("Repository")
    if address is not None and not ADDRESS.fullmatch(address):
        raise ValueError(f"Repository in pyproject.toml must be an address, as https://github.com/me/mine. Received: {address}")
    return address


def source():
    """The text of the cell."""
    address = repository()
    begin = inspect.getsource(install.bring_course)
    call = f"bring_course({json.dumps(address) if address else None})"
    return f"{FIRST_LINE}\n{begin}\n\n{call}\n{LAST_LINES}"


def badge(address, name):
    """What opens the notebook `name` of the repository on Colab, as a paragraph of its own; nothing if Colab cannot open it."""
    on_github = GITHUB.fullmatch(address or "")
    if not on_github:
        return ""
    colab = "https://colab.research.google.com"
    return f"\n\n[![Open in Colab]({colab}/assets/colab-badge.svg)]({colab}/github/{on_github[1]}/blob/{BRANCH}/{name})"


def installs(cell):
    """Whether this is the cell that installs what is missing."""
    return cell.cell_type == "code" and cell.source.startswith(FIRST_LINE)


def plain(notebook):
    """The notebook as its script has it: without the cell and the badge."""
    found = copy.copy(notebook)
    found.cells = [copy.copy(cell) for cell in notebook.cells if not installs(cell)]
    if found.cells and found.cells[0].cell_type == "markdown":
        found.cells[0].source = BADGE.sub("", found.cells[0].source)
    return found


def dressed(notebook, path=None):
    """The notebook with the cell in front of all other code; and if `path` is in the repository, with its badge.

    The cell counts as executed where the others were: there it had nothing to do.
    """
    found = plain(notebook)
    is_new = len(found.cells) == len(notebook.cells)
    code = [cell for cell in found.cells if cell.cell_type == "code"]
    for cell in code:
        if is_new and cell.get("execution_count"):
            count_on(cell)
    has_run = any(cell.get("execution_count") for cell in code)
    cell = new_code_cell(source(), id="install", metadata=copy.deepcopy(METADATA), execution_count=1 if has_run else None)
    found.cells.insert(found.cells.index(code[0]) if code else len(found.cells), cell)
    place = Path(path).resolve() if path else Path()
    if place.is_relative_to(ROOT.resolve()) and found.cells[0].cell_type == "markdown":
        found.cells[0].source += badge(repository(), place.relative_to(ROOT.resolve()).as_posix())
    return found


def count_on(cell):
    """Number a cell, and what it displayed, as one that was executed one place later."""
    cell.execution_count += 1
    cell.outputs = [copy.copy(output) for output in cell.outputs]
    for output in cell.outputs:
        if output.get("execution_count"):
            output.execution_count += 1


if __name__ == "__main__":
    as_program(main)
