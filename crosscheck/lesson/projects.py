"""Check the milestones of a project.

Each project is `course/projects/NAME.py`, its statement, with `milestones/NAME.py`, what its milestones ask, and
`solutions/NAME.py`, which only the teacher's edition has.
"""

import importlib.util
import re
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np

from crosscheck.lesson.differences import difference
from crosscheck.lesson.exercises import Sizes, stopped

FOLDER = Path(__file__).parents[2] / "course" / "projects"
HERE = Path("milestones")
"""Where the milestones are, seen from a statement."""


BUILT = {
    "Long sequences": ("long_documents", "a long-document reader"),
    "Blocks": ("sorting", "a transformer that sorts"),
    "Text": ("bert_from_text", "a BERT from raw text to a classifier"),
    "Knowing what it does not know": ("assistant", "an assistant that knows when it does not know"),
}
"""{part: the name and title of its project}, in the order of the parts. Those of the others are described in `course/PLAN.md`."""

STUB = re.compile(
    r"def (?P<name>\w+)\((?P<arguments>[\w, ]*)\):\n    return None  # your turn\n\n\n"
    r'(?P<rest>(?:\w+ = .*\n)?_ = check\("(?P<project>\w+)/(?P<number>\d)", \w+(?:, \w+)*\))'
)
"""The cell of a milestone, which holds nothing of the answer."""


class Missed(Exception):
    """A milestone is not reached. The message says what was expected and what came."""


class NotYet(Missed):
    """A milestone was not begun."""


@dataclass(frozen=True)
class Milestone:
    """Attributes:

    name: What the learner hands in, as the statement calls it.
    judge: A function of a random generator and of what was handed in. It returns a sentence on what was measured, or None, and
        raises `Missed` if the milestone is not reached.
    """

    name: str
    judge: Callable


def check(name, *mine):
    """Print one line, whether a milestone is reached or what was expected and what came, and return whether it is reached.

    Args:
        name: Project and number of the milestone, such as "sorting/1".
        mine: What the milestone asks for: a function, a model, or several of these.
    """
    reached, line = verdict(find(name), *mine)
    print(line)
    return reached


def verdict(milestone, *mine, seed=None):
    """Whether a milestone is reached, and a line on it; with a seed, on the same draws each time."""
    if any(each is None for each in mine):
        return False, "not yet: there is nothing to check"
    try:
        measured = milestone.judge(Sizes(np.random.PCG64(seed)), *mine)
    except NotYet as error:
        return False, f"not yet: {error}"
    except Missed as error:
        return False, str(error)
    except Exception as error:
        return False, stopped(error)
    return True, f"reached: {measured}" if measured else "reached"


def ask(mine, *arguments):
    """What a learner's function returns; it gets arrays of its own.

    Raises:
        NotYet: if it returns nothing.
    """
    found = mine(*(each.copy() if isinstance(each, np.ndarray) else each for each in arguments))
    if found is None:
        raise NotYet("it returns nothing")
    return found


def expect(found, expected, where):
    """Raise `Missed` with the first difference, unless what was found for an input, named by `where`, is as expected."""
    if complaint := difference(found, expected):
        raise Missed(f"for {where}: {complaint}")


def demand(kept, otherwise):
    """Raise `Missed` with the sentence `otherwise` unless something is so."""
    if not kept:
        raise Missed(otherwise)


def halfway(found, guessing, what, best=1.0):
    """A sentence on a share that is more than halfway from guessing to the best possible one; raises `Missed` if it is not."""
    bar = (guessing + best) / 2
    measured = f"{what}: {found:.3f}, where guessing has {guessing:.3f} and the best possible is {best:.3f}"
    demand(found > bar, f"{measured}; the milestone is halfway, above {bar:.3f}")
    return measured


def numbers(tensor):
    """A tensor of either backend as an array of NumPy."""
    return np.asarray(tensor)


@contextmanager
def shuffled_weights(model, rng):
    """While this lasts, the numbers in each weight of a Keras model have changed places, so that what it learned is gone."""
    weights = model.get_weights()
    model.set_weights([rng.permuted(weight.reshape(-1)).reshape(weight.shape) for weight in weights])
    try:
        yield
    finally:
        model.set_weights(weights)


def find(name):
    """The milestone called `name`, such as "sorting/1".

    Raises:
        ValueError: if there is none.
    """
    project, _, number = name.partition("/")
    path = next((path for path in (HERE / f"{project}.py", FOLDER / "milestones" / f"{project}.py") if path.is_file()), None)
    if path is None:
        raise ValueError(f"name must be a project and a number; {project} has no file in {HERE.resolve()} or {FOLDER}")
    found = read(path.resolve()).MILESTONES
    if not (number.isdecimal() and 1 <= int(number) <= len(found)):
        raise ValueError(f"{project} has the milestones 1 to {len(found)}. Received: name={name!r}")
    return found[int(number) - 1]


@cache
def read(path):
    """The module at `path`. The folder is no installed package, so it is found by its place."""
    spec = importlib.util.spec_from_file_location(f"projects.{path.parent.name}.{path.stem}", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def projects():
    """The name of every project, in the order of the parts."""
    return [name for name, _ in BUILT.values()]


def link(part, folder):
    """A link to the project of a part, from where `folder` leads to the projects; nothing for one that is only described."""
    return "[{1}]({2}{0}.ipynb)".format(*BUILT[part], folder) if part in BUILT else ""


def as_markdown():
    """A line for the project of each part, as the index shows it."""
    from crosscheck.catalogue import PARTS  # it imports every layer

    folder = "projects/" if Path("projects").is_dir() else "../course/projects/"
    described = "[described in the plan](../course/PLAN.md#{})"
    return "\n".join(f"- **{part}**: {link(part, folder) or described.format(anchor(part))}." for part in PARTS)


def anchor(heading):
    """The address of a heading within its page."""
    return heading.lower().replace(" ", "-")


def stubs(notebook):
    """Each stub of a statement as a pair: its cell, and the match of `STUB`."""
    found = ((cell, STUB.fullmatch(cell.source)) for cell in notebook.cells if cell.cell_type == "code")
    return [(cell, stub) for cell, stub in found if stub]


def solved(name):
    """The statement as a notebook in which the functions of the solution stand in place of the stubs."""
    import jupytext  # which checking a milestone needs not

    notebook = jupytext.read(FOLDER / f"{name}.py")
    answers = jupytext.read(FOLDER / "solutions" / f"{name}.py").cells[1:]  # below what it imports
    for (cell, stub), answer in zip(stubs(notebook), answers, strict=True):
        if f"def {stub['name']}({stub['arguments']}" not in answer.source:
            raise ValueError(f"the solution of {name}/{stub['number']} must define {stub['name']}({stub['arguments']})")
        cell.source = f"{answer.source}\n\n\n{stub['rest']}"
    return notebook
