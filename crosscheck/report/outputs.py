"""What layers return on another backend: `python -m crosscheck.report.outputs` answers one question a line, for comparisons.

A question is `outputs CASE,CASE FOLDER`, `moves CHAPTER FOLDER`, a name of `VARIANTS` in place of these words and a case in place
of the chapter, or `training encoder FOLDER`; the answer is `done` when the folder has the files that `save`, `save_moves`,
`save_variant` or `save_training` describes, else the reason.
Each chapter is computed in a fork of this process, so that what it compiled is gone afterwards.
"""

import gc
import json
import os
import sys
import tempfile
from dataclasses import replace
from functools import partial
from pathlib import Path

import keras
import numpy as np

from crosscheck.agreement import Trial
from crosscheck.backends import open_symbols
from crosscheck.catalogue import find_cases
from crosscheck.report import training
from crosscheck.report.comparison import in_a_line
from crosscheck.report.steps import moves, trained_cases
from crosscheck.report.variants import VARIANTS
from crosscheck.tree import is_float, leaves


def main():
    gc.collect()
    gc.freeze()  # what was imported stays, so that collecting garbage need not look at it
    for question in sys.stdin:
        what, chapter, folder = question.rstrip("\n").split(" ", 2)
        print(in_a_fork(lambda what=what, chapter=chapter, folder=Path(folder): ANSWERS[what](chapter, folder)), flush=True)


def save_moves(chapter, folder):
    """Write `moves.npz`: {"case:optimizer:weight": how far a step of training moves the weight}, for a case of each class."""
    cases = [case for case in find_cases([chapter]) if "jax" not in case.skips]
    found = {case.name: moves(case) for case in trained_cases(cases)}
    np.savez(folder / "moves.npz", **{f"{name}:{what}": moved for name, each in found.items() for what, moved in each.items()})


def save_variant(make, name, folder):
    """Write `variant.json`: what `make`, one of `VARIANTS`, returns for the case called `name`."""
    (case,) = find_cases([name])
    (folder / "variant.json").write_text(json.dumps(make(case)))


def save_training(_, folder):
    """Write `training.json`: what `on_jax` of `crosscheck/report/training.py` returns."""
    (folder / "training.json").write_text(json.dumps(training.on_jax()))


def save(names, folder):
    """Write what those of the cases called `names`, with commas between them, give that can run on JAX.

    `outputs.npz` is {"case:leaf": float64 array}. `symbolic.json` is {case: {"outputs": {leaf: [shape, dtype]}}} of a symbolic
    call with open sizes, or {case: {"error": why it failed}}; with "loaded" for the first case of each class, which is
    `loaded_error` of its functional model.
    """
    cases = [case for case in find_cases(names.split(",")) if "jax" not in case.skips]
    outputs, symbolic, kinds = {}, {}, set()
    for case in cases:
        trial = Trial(built_with_open_sizes(case, symbolic, kinds))
        outputs |= {f"{case.name}:{where}": leaf for where, leaf in trial.output().items()}
    np.savez(folder / "outputs.npz", **outputs)
    (folder / "symbolic.json").write_text(json.dumps(symbolic))


def built_with_open_sizes(case, symbolic, kinds):
    """`case`, whose first symbolic call, which builds the layer, leaves the batch and unknown lengths open.

    What it finds is added to `symbolic`, as `save` describes; a class whose model was saved, to `kinds`.
    """

    def call(layer, **inputs):
        if case.name in symbolic or not any(isinstance(x, keras.KerasTensor) for x in inputs.values()):
            return case.call(layer, **inputs)
        widths = {x.shape[-1] for x in inputs.values() if isinstance(x, keras.KerasTensor) and len(x.shape) > 2}
        if widths & {case.batch, *case.unknown}:  # a width must be known to the layer that is built
            case.call(layer, **inputs)
        try:
            symbols = open_symbols(case, inputs)
            found = leaves(case.call(layer, **symbols))
            symbolic[case.name] = {"outputs": {where: [tuple(x.shape), x.dtype] for where, x in found.items()}}
            if type(layer) not in kinds and "save" not in case.skips:
                kinds.add(type(layer))
                model = keras.Model({n: x for n, x in symbols.items() if isinstance(x, keras.KerasTensor)}, found)
                symbolic[case.name]["loaded"] = loaded_error(model)
            return found
        except Exception as error:
            symbolic[case.name] = {"error": in_a_line(error, most=2000)}
            return case.call(layer, **inputs)

    return replace(case, call=call)


def loaded_error(model):
    """What differs between a functional model and its saved and loaded copy; None if nothing does."""
    starts, rng = model.get_weights(), np.random.default_rng(0)
    # Numbers of no initializer: a weight that the file lacks would have its first value again, which may be a constant.
    model.set_weights([x + (rng.normal(size=x.shape) if is_float(x) else np.ones_like(x)) for x in starts])
    weights = model.get_weights()
    with tempfile.TemporaryDirectory() as folder:
        model.save(Path(folder) / "model.keras")
        loaded = keras.saving.load_model(Path(folder) / "model.keras")
    model.set_weights(starts)
    if configurations(loaded) != configurations(model):
        return "another configuration"
    if any(not np.array_equal(x, y) for x, y in zip(loaded.get_weights(), weights, strict=True)):
        return "other weights"
    shapes = [{name: (x.shape, x.dtype) for name, x in each.output.items()} for each in (loaded, model)]
    return None if shapes[0] == shapes[1] else "other output shapes"


def configurations(model):
    """The configurations of a model's layers, but for the inputs, which Keras renames in a clone, as a saved model has them."""
    layers = [layer for layer in model.layers if not isinstance(layer, keras.layers.InputLayer)]
    return json.dumps([layer.get_config() for layer in layers], sort_keys=True, default=str)


ANSWERS = {"outputs": save, "moves": save_moves, "training": save_training}
ANSWERS |= {name: partial(save_variant, make) for name, make in VARIANTS.items()}


def in_a_fork(work):
    """Do `work` in a child process. Returns "done", or the error in a line."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            work()
            said = "done"
        except BaseException as error:
            said = in_a_line(error, most=4000)
        os.write(writer, said.encode())
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader, "rb") as pipe:
        said = pipe.read().decode()
    _, status = os.waitpid(child, 0)
    return said or f"the process ended with status {status}"


if __name__ == "__main__":
    main()
