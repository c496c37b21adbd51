"""`python -m crosscheck.lesson.make [NAME ...]`: execute `notebooks/NAME.py` and write `notebooks/NAME.ipynb`."""

import os
import subprocess
import sys
import time
from pathlib import Path

import jupytext
import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, CellTimeoutError, DeadKernelError

from crosscheck.lesson import colab, picture_rules, rules
from crosscheck.report.command import Parser, WithoutStderr, as_program, check_known, refuse

FOLDER = Path(__file__).parents[2] / "notebooks"
PROJECTS = FOLDER.parent / "course" / "projects"
METADATA = {
    "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}


DESCRIPTION = """\
Make the notebooks of the lessons: execute notebooks/NAME.py and write notebooks/NAME.ipynb with its outputs. The same for the
statements of the projects, course/projects/NAME.py. Without names, make only those whose notebook does not show what the script
says. If a cell fails, the old notebook stays as it is."""

EXAMPLES = """\
examples:
  python -m crosscheck.lesson.make                    every lesson that changed
  python -m crosscheck.lesson.make attention bert     two lessons, changed or not

exit status:
  0  every notebook was written, or none had to be
  1  a cell failed
  2  a name or an option is not known, or there are no lessons here"""


def parse(argv):
    parser = Parser("crosscheck.lesson.make", description=DESCRIPTION, epilog=EXAMPLES)
    parser.add_argument("names", nargs="*", metavar="NAME", help="lesson, guide or project (default: all that changed)")
    return parser.parse_args(argv)


def main(argv=None):
    """Execute the lessons that are named, or those that changed. Returns the exit status."""
    names = parse(argv).names
    if not FOLDER.is_dir():
        return refuse(f"the lessons are not part of the installed package; make them in a clone. Missing: {FOLDER}")
    scripts = {path.stem: path for folder in (FOLDER, PROJECTS) for path in sorted(folder.glob("*.py"))}
    try:
        check_known(names, scripts, "lesson")
    except KeyError as error:
        return refuse(error.args[0])
    wanted = names or [name for name, script in scripts.items() if changed(script)]
    if not wanted:
        print("Every notebook is up to date with its script.")
    return max([make(scripts[name]) for name in wanted], default=0)


def changed(script):
    """Whether the notebook of `script` is missing, was made from another version of it, or is incomplete."""
    target = script.with_suffix(".ipynb")
    if not target.exists():
        return True
    notebook = rules.read(target)
    complaints = rules.paired(script, notebook) + rules.executed(notebook) + picture_rules.told(notebook)
    if script.stem == "index":
        with WithoutStderr():  # only now: it imports every layer
            from crosscheck.lesson import course

            complaints += rules.shows(notebook, course.shown_by_index())
    return bool(complaints)


def make(script):
    """Execute one script and write its notebook. If a cell fails, print which one and leave the old notebook as it is."""
    notebook = jupytext.read(script)
    for number, cell in enumerate(notebook.cells, 1):
        cell.id = f"cell-{number}"  # a random id would change at every run
    # This variable silences the start-up messages of TensorFlow, as when pytest runs the same cells.
    environment = os.environ | {"PYTEST_CURRENT_TEST": "regen", "TF_CPP_MIN_LOG_LEVEL": "3"}
    client = NotebookClient(
        notebook,
        timeout=120,
        kernel_name="python3",
        record_timing=False,
        coalesce_streams=True,  # a busy machine prints in parts
        resources={"metadata": {"path": str(script.parent)}},
    )
    start = time.perf_counter()
    try:
        client.execute(env=environment, stderr=subprocess.DEVNULL)  # what the kernel itself prints as it starts
    except (CellExecutionError, CellTimeoutError, DeadKernelError) as error:
        number = next(i for i, cell in enumerate(notebook.cells, 1) if cell.cell_type == "code" and not finished(cell))
        print(f"{script.name}, cell {number}:\n{error}", file=sys.stderr)
        return 1
    # Set after the run, because the kernel adds its version, which differs between machines.
    notebook.metadata = METADATA
    target = script.with_suffix(".ipynb")
    nbformat.write(colab.dressed(notebook, target), target)
    print(f"{target.name}: {time.perf_counter() - start:.0f} s, {target.stat().st_size / 1000:.0f} kB", flush=True)
    return 0


def finished(cell):
    return cell.execution_count and not any(output.output_type == "error" for output in cell.outputs)


if __name__ == "__main__":
    as_program(main)
