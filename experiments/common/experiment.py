"""What an experiment is: arms that are compared, each with its own learning rates, under several seeds."""

import ast
import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import NamedTuple

FOLDER = Path(__file__).parents[1]


class Run(NamedTuple):
    """One training."""

    experiment: str
    arm: str
    rate: float
    seed: int


@dataclass(frozen=True)
class Experiment:
    """A comparison of arms.

    Args:
        name: Unique within its chapter.
        train: The training, `train(arm, rate, seed)`. It returns a dict: numbers, such as the accuracy on held-out data, and
            curves, each a list of `(step, value)`.
        arms: What is compared: the mechanism, its rivals, and the mechanism without the part that is given the credit.
        rates: The learning rates that every arm is tried with; at least three. One that has none takes `(0.0,)`.
        seeds: At least three.
        judged_by: Which of the returned numbers says how good a run is; the best learning rate of an arm is told by it.
        lower_is_better: Whether it is a loss.
        elsewhere: The arm that is trained on JAX too, with the middle rate and the first seed; None if there is no training.
        together: Whether all runs are made in one process, because they share compiled programs that take longer than a run.
    """

    name: str
    train: Callable
    arms: tuple
    rates: tuple
    judged_by: str
    lower_is_better: bool = False
    seeds: tuple = (0, 1, 2, 3, 4)
    elsewhere: str | None = None
    together: bool = False

    def __post_init__(self):
        if len(self.seeds) < 3:
            raise ValueError(f"seeds must be at least 3. Received: seeds={self.seeds}")
        if len(self.rates) < 3 and self.rates != (0.0,):
            raise ValueError(f"rates must be at least 3, or (0.0,) where there is none. Received: rates={self.rates}")
        if self.elsewhere not in (None, *self.arms):
            raise ValueError(f"elsewhere must be one of the arms {self.arms}. Received: elsewhere={self.elsewhere!r}")

    def runs(self):
        """Every `Run`, a seed of all arms before the next seed, so that a run that is stopped has compared something."""
        return [Run(self.name, arm, rate, seed) for seed in self.seeds for arm in self.arms for rate in self.rates]

    def runs_elsewhere(self):
        """The runs that are repeated on JAX."""
        middle = self.rates[len(self.rates) // 2]
        return [Run(self.name, self.elsewhere, middle, self.seeds[0])] if self.elsewhere else []


def experiments_of(chapter):
    """{name: Experiment} of `experiments/CHAPTER.py`, or of the folder `experiments/CHAPTER/`."""
    return {experiment.name: experiment for experiment in import_module(f"experiments.{chapter}").EXPERIMENTS}


def names():
    """The chapters that have experiments."""
    programs = (path for path in FOLDER.iterdir() if path.suffix == ".py" or (path / "__init__.py").is_file())
    return sorted(path.stem for path in programs if path.stem != "common" and not path.stem.startswith("__"))


def programs_of(chapter):
    """The files of a chapter's experiments: first that with the list `EXPERIMENTS`, then its parts, if it is a folder."""
    alone, folder = FOLDER / f"{chapter}.py", FOLDER / chapter
    if alone.is_file():
        return [alone]
    return [folder / "__init__.py", *(path for path in sorted(folder.glob("*.py")) if path.stem != "__init__")]


def hash_of(chapter):
    """A hash of a chapter's experiments down to the list `EXPERIMENTS`, which comments and docstrings do not change.

    What stands below the list reads the results, so that it may change without a new run.
    """
    trees = [ast.parse(path.read_text(encoding="utf-8")) for path in programs_of(chapter)]
    first = trees[0].body
    last = next((i for i, node in enumerate(first) if assigns(node, "EXPERIMENTS")), len(first))
    trees[0].body = first[: last + 1]
    for node in (node for tree in trees for node in ast.walk(tree)):
        if isinstance(node, ast.Module | ast.FunctionDef | ast.ClassDef) and ast.get_docstring(node) is not None:
            node.body = node.body[1:]
    return hashlib.sha256("".join(map(ast.dump, trees)).encode()).hexdigest()[:16]


def assigns(node, name):
    return isinstance(node, ast.Assign) and any(isinstance(target, ast.Name) and target.id == name for target in node.targets)
