"""What came out of a chapter's experiments: how it is stored, and what a lesson asks of it."""

import json

import numpy as np

from experiments.common.experiment import FOLDER, experiments_of

POINTS = 50
"""Of each curve, so many points are kept, the first and the last among them."""

DIGITS = 4
"""Significant digits of what is stored; seeds differ in the second or third."""


def stored(chapter):
    """{name: Results} of `experiments/CHAPTER.json`."""
    path = FOLDER / f"{chapter}.json"
    if not path.is_file():
        raise FileNotFoundError(f"{chapter} has no stored results; `make experiments NAME={chapter}` makes them. Missing: {path}")
    experiments, found = experiments_of(chapter), json.loads(path.read_text(encoding="utf-8"))["experiments"]
    return {name: Results(experiments[name], runs) for name, runs in found.items()}


class Results:
    """The runs of one experiment.

    Args:
        experiment: The `Experiment`.
        runs: A list of {"arm", "rate", "seed", "backend", and what the training returned}.
    """

    def __init__(self, experiment, runs):
        self.experiment = experiment
        self.found = {(run["backend"], run["arm"], run["rate"], run["seed"]): run for run in runs}

    def values(self, what, arm, rate=None):
        """What the runs of an arm returned as `what`: `(seeds, ...)`. Without `rate`, with the arm's best one."""
        rate = self.best_rate(arm) if rate is None else rate
        return np.array([self.found["tensorflow", arm, rate, seed][what] for seed in self.experiment.seeds])

    def curves(self, what, arm, rate=None):
        """(steps, values): `(points,)` and `(seeds, points)`."""
        pairs = self.values(what, arm, rate)
        return pairs[0, :, 0], pairs[:, :, 1]

    def best_rate(self, arm):
        """The learning rate with which the median over seeds of `judged_by` is best."""
        what, sign = self.experiment.judged_by, -1 if self.experiment.lower_is_better else 1
        return max(self.experiment.rates, key=lambda rate: sign * np.median(self.values(what, arm, rate)))

    def worst(self, what, arm, rate=None):
        """The worst value over seeds."""
        return (np.max if self.experiment.lower_is_better else np.min)(self.values(what, arm, rate))

    def spread(self, what, arm, rate=None):
        """(lowest, median, highest) over seeds."""
        values = self.values(what, arm, rate)
        return np.min(values), np.median(values), np.max(values)

    def elsewhere(self, what):
        """(on TensorFlow, on JAX): the same run on both backends."""
        (run,) = self.experiment.runs_elsewhere()
        return tuple(np.array(self.found[backend, *run[1:]][what]) for backend in ("tensorflow", "jax"))

    def contains(self, value, what, arm, rate=None):
        """Whether the number of a run that was just made lies where the stored ones are.

        The range is that of the stored seeds, widened on each side by its own width, because a few seeds do not reach the ends
        of what seeds can do; and by rounding, where all of them agree.
        """
        low, middle, high = self.spread(what, arm, rate)
        margin = max(high - low, abs(middle) * 10.0 ** (2 - DIGITS))
        return bool(low - margin <= value <= high + margin)


def thinned(outcome):
    """What a training returned, short enough to be stored: curves thinned, numbers rounded."""
    return {what: rounded(thin(value) if is_curve(value) else value) for what, value in outcome.items()}


def is_curve(value):
    return isinstance(value, list) and bool(value) and all(isinstance(point, tuple) and len(point) == 2 for point in value)


def thin(curve):
    chosen = np.unique(np.linspace(0, len(curve) - 1, POINTS).round().astype(int))
    return [curve[i] for i in chosen]


def rounded(value):
    """Nested lists of numbers with `DIGITS` significant digits; truth values and texts as they are."""
    if isinstance(value, np.ndarray | np.generic):
        value = value.tolist()
    if isinstance(value, list | tuple):
        return [rounded(part) for part in value]
    if isinstance(value, dict):
        return {str(key): rounded(part) for key, part in value.items()}
    if not isinstance(value, float):
        return value
    if not np.isfinite(value):
        raise ValueError(f"a training must return finite numbers. Received: {value}")
    return float(f"{value:.{DIGITS}g}")
