"""Make the lessons: `python -m crosscheck.lesson.make [NAME ...]` executes `notebooks/NAME.py` into `notebooks/NAME.ipynb`."""

import difflib
import os
import pkgutil
import subprocess
import sys
import time
from pathlib import Path

import jupytext
import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, CellTimeoutError, DeadKernelError

from crosscheck import cases
from crosscheck.lesson import rules

FOLDER = Path(__file__).parents[2] / "notebooks"
METADATA = {
    "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}


def main(names):
    """Execute the lessons called `names`, or those that changed. Returns the exit status."""
    if not FOLDER.is_dir():
        print(f"the lessons are not part of the installed package: make them in a clone. Missing: {FOLDER}", file=sys.stderr)
        return 2
    scripts = {path.stem: path for path in sorted(FOLDER.glob("*.py"))}
    if strangers := [name for name in names if name not in scripts]:
        nearest = difflib.get_close_matches(strangers[0], scripts, cutoff=0.4) or sorted(scripts)
        print(f"no lesson is called {strangers[0]!r}. The nearest: {', '.join(nearest)}", file=sys.stderr)
        return 2
    wanted = names or [name for name, script in scripts.items() if changed(script)]
    if not wanted:
        print("every lesson shows what its script says")
    return max([make(scripts[name]) for name in wanted], default=0)


def changed(script):
    """Whether the notebook beside `script` is missing, was made from something else, or does not show all it should."""
    target = script.with_suffix(".ipynb")
    if not target.exists():
        return True
    notebook = rules.read(target)
    complaints = rules.paired(script, notebook) + rules.executed(notebook)
    if script.stem == "index":
        complaints += rules.lists_chapters(notebook, [module.name for module in pkgutil.iter_modules(cases.__path__)])
    return bool(complaints)


def make(script):
    """Execute one script and write its notebook; on an error say where and leave the old notebook as it is."""
    notebook = jupytext.read(script)
    for number, cell in enumerate(notebook.cells, 1):
        cell.id = f"cell-{number}"  # a random one would change at every run
    # With this set TensorFlow keeps its start-up lines to itself, as it does when pytest runs the same cells.
    environment = os.environ | {"PYTEST_CURRENT_TEST": "regen", "TF_CPP_MIN_LOG_LEVEL": "3"}
    client = NotebookClient(
        notebook, timeout=120, kernel_name="python3", record_timing=False, resources={"metadata": {"path": str(script.parent)}}
    )
    start = time.perf_counter()
    try:
        client.execute(env=environment, stderr=subprocess.DEVNULL)  # where kernels greet; a cell's own stderr is an output
    except (CellExecutionError, CellTimeoutError, DeadKernelError) as error:
        number = next(i for i, cell in enumerate(notebook.cells, 1) if cell.cell_type == "code" and not finished(cell))
        print(f"{script.name}, cell {number}:\n{error}", file=sys.stderr)
        return 1
    # Only now: the kernel adds its version, which is another one on another machine.
    notebook.metadata = METADATA
    target = script.with_suffix(".ipynb")
    nbformat.write(notebook, target)
    print(f"{target.name}: {time.perf_counter() - start:.0f} s, {target.stat().st_size / 1000:.0f} kB", flush=True)
    return 0


def finished(cell):
    return cell.execution_count and not any(output.output_type == "error" for output in cell.outputs)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
