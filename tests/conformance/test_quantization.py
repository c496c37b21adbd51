"""Quantized, with low-rank additions and under a map of policies, one case of each class."""

import gc
import re
import warnings

import keras
import numpy as np
import pytest
from battery import one_case_a_class, tensors_of, trial_of
from numpy.testing import assert_array_equal

from crosscheck.agreement import Trial, largest_error
from crosscheck.backends import open_symbols
from crosscheck.case import TOLERANCE, arguments
from crosscheck.tree import numbers
from layers.common.projection import LinearMap

NEARLY = 0.02
REFUSED = "does not have a `quantize` method implemented"


def model_of(case):
    """A functional model of a layer of its own, because what follows changes it; the layer, and the inputs."""
    layer, inputs = Trial(case).make("float32")
    given = arguments(inputs, "float32")
    symbols = open_symbols(case, given)
    return keras.Model(tensors_of(symbols), case.call(layer, **symbols)), layer, tensors_of(given)


def quantize(model):
    """Quantize to int8; the warnings of it."""
    gc.freeze()  # Keras collects garbage for each layer, which takes most of the time
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        model.quantize("int8")
    gc.unfreeze()
    return [str(warning.message) for warning in said if warning.category is UserWarning]


def parts(layer, kinds):
    return [part for part in layer._flatten_layers() if isinstance(part, kinds)]


def error(found, expected):
    """The largest difference, relative to the largest number or to the widest row of all outputs."""
    scale = max([np.abs(leaf).max() for leaf in expected.values() if leaf.dtype.kind == "f"], default=1.0)
    return largest_error(found, expected, least_scale=scale)


@one_case_a_class("save")
def test_quantized_to_int8_it_gives_nearly_the_same_and_loads_with_the_same_numbers(case, tmp_path):
    model, layer, given = model_of(case)
    before = numbers(model(given))
    assert all(re.search(REFUSED, warning) for warning in quantize(model))
    maps = parts(layer, (LinearMap, keras.layers.Dense, keras.layers.Embedding))
    assert all(part.quantization_mode == "int8" for part in maps)
    after = numbers(model(given))
    assert error(after, before) < NEARLY
    if maps:
        model.save(tmp_path / "model.keras")
        loaded = numbers(keras.saving.load_model(tmp_path / "model.keras")(given))
        for where, leaf in after.items():
            assert_array_equal(loaded[where], leaf, err_msg=where)


@one_case_a_class("save")
def test_low_rank_additions_are_used_and_saved_as_one_kernel(case, tmp_path):
    if not parts(trial_of(case.name).make("float32")[0], (LinearMap, keras.layers.Dense)):
        return
    model, layer, given = model_of(case)
    maps, rng = parts(layer, (LinearMap, keras.layers.Dense)), np.random.default_rng(0)
    before = numbers(model(given))
    for part in maps:
        part.enable_lora(2)
    assert error(numbers(model(given)), before) < TOLERANCE["float32"]
    for part in maps:
        part.lora_kernel_b.assign(rng.normal(size=part.lora_kernel_b.shape) / 4)
    after = numbers(model(given))
    assert error(after, before) > 1e-3
    model.save(tmp_path / "model.keras")
    loaded = numbers(keras.saving.load_model(tmp_path / "model.keras")(given))
    assert error(loaded, after) < TOLERANCE["float32"]


@one_case_a_class("config")
def test_under_a_map_of_policies_without_entries_it_is_that_of_its_default(case):
    trial = trial_of(case.name)
    expected = trial.output("float32")
    layer, inputs = trial.case.make(keras.dtype_policies.DTypePolicyMap("float32"), trial.seed)
    found = numbers(case.call(layer, **arguments(inputs, "float32")))
    for where, leaf in expected.items():
        assert_array_equal(found[where], leaf, err_msg=where)


def test_a_quantized_policy_is_refused_by_layers_made_of_parts():
    import layers

    with pytest.raises(ValueError, match="dtype must not be a quantized policy.*Received: dtype='int8_from_float32'"):
        layers.TransformerEncoderBlock(2, 16, "gelu", dtype="int8_from_float32")
