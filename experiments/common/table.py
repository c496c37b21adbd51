"""The table of claims, experiments/README.md: what the lessons say about learning, and what it rests on."""

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module

import numpy as np

from experiments.common.experiment import FOLDER, names
from experiments.common.results import stored

PAGE = FOLDER / "README.md"
COLUMNS = ("lesson", "claim", "seeds", "rates", "ablation", "null or bound", "paper", "ours", "survives")
INTRODUCTION = """\
# What the lessons claim about learning, and what it rests on

Each row is a sentence of a lesson, tried with so many seeds and learning rates; the worst seed decides. *Ablation* says what
was removed to see whether the effect goes with it; *null or bound* is the number that was known before. `make experiments` makes
all runs again, `make experiments NAME=attention` those of one chapter; what came out is in the JSON file beside each program.

"""


@dataclass(frozen=True)
class Claim:
    """A sentence of a lesson about what training, a model or a machine does.

    Args:
        text: The sentence.
        experiment: The name of the experiment that it rests on.
        measure: A function of the experiment's `Results` that returns (our number as text, "yes", "only if …" or "no").
        bound: The null or bound that was known before, with its number.
        ablation: What was removed, and what became of the effect; "none" if nothing can be.
        paper: The paper's number and where it stands; "none" if it gives none.
    """

    text: str
    experiment: str
    measure: Callable
    bound: str
    ablation: str
    paper: str


def span(values, digits=2):
    """The least and the greatest of `values`, as text with so many decimals."""
    return f"{np.min(values):.{digits}f} to {np.max(values):.{digits}f}"


def rows():
    """The cells of every row, as text."""
    for chapter in names():
        results = stored(chapter)
        for claim in import_module(f"experiments.{chapter}").CLAIMS:
            found = results[claim.experiment]
            seeds, rates = len(found.experiment.seeds), len(found.experiment.rates)
            ours, survives = claim.measure(found)
            lesson = f"[{chapter}](../notebooks/{chapter}.ipynb)"
            yield lesson, claim.text, seeds, rates if rates > 1 else "–", claim.ablation, claim.bound, claim.paper, ours, survives


def page():
    lines = [" | ".join(COLUMNS), " | ".join(["---"] * len(COLUMNS))]
    lines += [" | ".join(str(cell).replace("|", "\\|") for cell in row) for row in rows()]
    return INTRODUCTION + "".join(f"| {line} |\n" for line in lines)


def write():
    """Write the page from what is stored."""
    PAGE.write_text(page(), encoding="utf-8")
