"""Runs every example in the current folder and keeps what it found: `python train_examples.py`."""

import json
import runpy
from pathlib import Path

import numpy as np

EXAMPLES = Path(__file__).parents[2] / "examples"
NAMES = sorted(path.stem for path in EXAMPLES.glob("*.py"))
KEPT = {
    "classify_text": ("accuracy", "new", "logits"),
    "continue_text": ("accuracy", "prompts", "RHYMES", "continued", "written"),
    "masked_language_model": ("accuracy", "inputs", "guesses", "words"),
    "transformer_xl_memory": ("parts", "given", "predicted"),
    "uncertain_classifier": ("accuracy", "places", "variances", "outputs"),
}
"""The names in an example that are tested."""


def train(name):
    """Run an example as its user does. Returns all names that it leaves, after writing those in `KEPT` to a file."""
    left = runpy.run_path(str(EXAMPLES / f"{name}.py"), run_name="__main__")
    Path(f"{name}.json").write_text(json.dumps({key: plain(left[key]) for key in KEPT[name]}))
    return left


def plain(value):
    if isinstance(value, dict):
        return {key: plain(x) for key, x in value.items()}
    return np.asarray(value, object if isinstance(value, list) else None).tolist()


if __name__ == "__main__":
    for name in NAMES:
        train(name)
