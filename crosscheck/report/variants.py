"""What a case gives after its layer was changed: quantized, with low-rank additions, and with sublayers of other dtypes.

The numbers are plain, so that `crosscheck/report/outputs.py` can hand over those of another backend.
"""

import tempfile
import warnings
from pathlib import Path

import keras
import numpy as np

from crosscheck.agreement import Trial, largest_error
from crosscheck.backends import build, evaluate, open_symbols
from crosscheck.case import arguments
from crosscheck.tree import numbers
from layers.common.projection import LinearMap

MAPS = (LinearMap, keras.layers.Dense)


def quantized(case):
    """The layer quantized to int8, in a functional model.

    Returns:
        "modes": the quantization mode of each linear map and table of Keras; "warnings": what Keras warned of; "changed": by how
        much the outputs differ from those before; "loaded": by how much the saved and loaded model differs from the quantized.
    """
    model, layer, given = model_of(case)
    before = outputs(model, given)
    said = quantize(model)
    after = outputs(model, given)
    return {
        "modes": [part.quantization_mode for part in parts(layer, (*MAPS, keras.layers.Embedding))],
        "warnings": said,
        "changed": error(after, before),
        "loaded": error(outputs(saved_and_loaded(model), given), after),
    }


def quantize(model):
    """Quantize to int8; the warnings of it."""
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        model.quantize("int8")
    return [str(warning.message) for warning in said if warning.category is UserWarning]


def adapted(case):
    """The layer with a low-rank addition to each linear map; {} for a layer without maps.

    Returns:
        By how much outputs differ: "unused": those with additions of zero from those without; "changed": those with other
        additions from those without; "loaded": those of the saved and loaded model, whose kernels are the sums.
    """
    model, layer, given = model_of(case)
    if not (maps := parts(layer, MAPS)):
        return {}
    before, rng = outputs(model, given), np.random.default_rng(0)
    for part in maps:
        part.enable_lora(2)
    unused = outputs(model, given)
    for part in maps:
        part.lora_kernel_b.assign(rng.normal(size=part.lora_kernel_b.shape) / 4)
    after = outputs(model, given)
    loaded = outputs(saved_and_loaded(model), given)
    return {"unused": error(unused, before), "changed": error(after, before), "loaded": error(loaded, after)}


def under_policies(trial):
    """The layer under maps of policies, {sublayers: error}.

    Returns:
        "none": by how much outputs under a map without entries differ from those in float32; "even", "odd" and "all": the error
        against the reference while every other sublayer, or every one, computes in bfloat16.
    """
    layer, _ = trial.make("float32")
    paths = sorted({part.path.split("/", 1)[1] for part in layer._flatten_layers() if "/" in (part.path or "")})
    chosen = {"even": paths[::2], "odd": paths[1::2], "all": paths}
    found = {name: largest_error(under_map(trial, some), trial.reference("float32")) for name, some in chosen.items()}
    return {"none": largest_error(under_map(trial), trial.output("float32"))} | found


def under_map(trial, paths=()):
    """The outputs of a copy of the float32 layer whose sublayers at `paths` compute in bfloat16."""
    case = trial.case
    policies = {f"[^/]*/{path}": keras.DTypePolicy("mixed_bfloat16") for path in paths}
    mixed = case.layer(dtype=keras.dtype_policies.DTypePolicyMap("float32", policy_map=policies))
    layer, inputs = trial.make("float32")
    given = arguments(inputs, "float32")
    build(case.call, mixed, given, symbolic="symbolic" not in case.skips)
    mixed.set_weights(layer.get_weights())
    loaded = keras.layers.deserialize(keras.layers.serialize(mixed))
    if loaded.dtype_policy.get_config() != mixed.dtype_policy.get_config():
        raise ValueError(f"a copy from config must have the policies of the layer. Received: {loaded.dtype_policy.get_config()}")
    return numbers(evaluate(case.call, mixed, given))


def model_of(case):
    """A functional model of a layer of its own, because what follows changes it; the layer, and the inputs."""
    layer, inputs = Trial(case).make("float32")
    given = arguments(inputs, "float32")
    symbols = open_symbols(case, given)
    inputs = {name: x for name, x in symbols.items() if isinstance(x, keras.KerasTensor)}
    model = keras.Model(inputs, case.call(layer, **symbols))
    return model, layer, {name: given[name] for name in inputs}


def outputs(model, given):
    return numbers(evaluate(lambda model, **given: model(given), model, given))


def saved_and_loaded(model):
    with tempfile.TemporaryDirectory() as folder:
        model.save(Path(folder) / "model.keras")
        return keras.saving.load_model(Path(folder) / "model.keras")


def parts(layer, kinds):
    return [part for part in layer._flatten_layers() if isinstance(part, kinds)]


def error(found, expected):
    """The largest difference, relative to the largest number or to the widest row of all outputs."""
    scale = max([np.abs(leaf).max() for leaf in expected.values() if leaf.dtype.kind == "f"], default=1.0)
    return largest_error(found, expected, least_scale=scale)


VARIANTS = {"quantized": quantized, "adapted": adapted, "under_policies": lambda case: under_policies(Trial(case))}
