"""The shapes of outputs: of symbolic calls with open sizes on each backend, as a layer computes them, and in Keras's wrappers."""

import inspect
from functools import lru_cache

import keras
import numpy as np
import pytest
from battery import assert_same, call, every_case, symbolic_call, tensors_of, trial_of
from numpy.testing import assert_array_equal

from crosscheck.case import arguments
from crosscheck.catalogue import all_cases
from crosscheck.report.outputs import configurations
from crosscheck.tree import leaves, numbers
from layers.common.text import TextLayer


@every_case("symbolic")
def test_symbolic_call_with_open_sizes_has_the_shape_of_the_eager_one(case):
    layer, inputs = trial_of(case.name).make("float32")
    _, symbolic = symbolic_call(case.name)
    found = {where: (tuple(x.shape), x.dtype) for where, x in symbolic.items()}
    assert_fits(case, found, leaves(call(case, layer, inputs)))


@every_case("symbolic")
def test_symbolic_call_with_open_sizes_on_jax_has_the_shape_of_the_eager_one(case, on_jax):
    layer, inputs = trial_of(case.name).make()
    if "jax" in case.skips or isinstance(layer, TextLayer):
        pytest.skip(f"{case.name}: JAX has neither strings nor ragged tensors, or the case does not run there")
    _, symbolic = on_jax(case.chapter)
    assert "error" not in symbolic[case.name], symbolic[case.name]["error"]
    found = {where: (tuple(shape), dtype) for where, (shape, dtype) in symbolic[case.name]["outputs"].items()}
    assert_fits(case, found, leaves(call(case, layer, inputs)))
    assert symbolic[case.name].get("loaded") is None, symbolic[case.name]["loaded"]


@every_case("symbolic")
def test_compute_output_shape_gives_the_shape_of_each_output(case):
    layer, _ = trial_of(case.name).make("float32")
    given, outputs = eager_call(case.name)
    assert layer.compute_output_shape(**shapes_and_flags(given)) == shapes_in(outputs)


@pytest.mark.further
def test_an_unbuilt_layer_computes_the_same_shapes_and_a_clone_of_its_model_gives_the_same_numbers():
    """For the first case of each class: what is tested is `get_config` and one mechanism for all."""
    for case in one_case_a_class():
        given, outputs = eager_call(case.name)
        unbuilt = case.layer(dtype="float32")
        was_built = unbuilt.built
        assert unbuilt.compute_output_shape(**shapes_and_flags(given)) == shapes_in(outputs), case.name
        assert unbuilt.built == was_built, case.name

        symbols, outputs = symbolic_call(case.name)
        _, inputs = trial_of(case.name).make("float32")
        model = keras.Model(tensors_of(symbols), outputs)
        clone = keras.models.clone_model(model)
        assert configurations(clone) == configurations(model), case.name
        clone.set_weights(model.get_weights())
        given = tensors_of(arguments(inputs, "float32"))
        assert_same(numbers(clone(given)), numbers(model(given)))


def test_a_layer_of_one_tensor_stands_in_time_distributed_and_in_a_sequence():
    tried = set()
    for case in all_cases():
        arrays = [x for x in case.inputs(np.random.default_rng(0)).values() if isinstance(x, np.ndarray)]
        if len(arrays) != 1 or arrays[0].dtype == object or "symbolic" in case.skips:
            continue
        if (kind := type(case.layer(dtype="float32"))) in tried:
            continue
        given, output = eager_call(case.name)
        layer, _ = trial_of(case.name).make("float32")
        tensor, *others = (x for x in given.values() if x is not None)
        if others or not keras.ops.is_tensor(output) or tuple(output.shape[:1]) != (case.batch,):
            continue
        tried.add(kind)
        dtype = keras.backend.standardize_dtype(tensor.dtype)
        sequence = keras.Sequential([keras.Input(batch_shape=(None, *tensor.shape[1:]), dtype=dtype), layer])
        assert sequence.output_shape == (None, *output.shape[1:]), case.name
        assert_array_equal(sequence(tensor), output, err_msg=case.name)
        assert sequence.compute_output_shape(tuple(tensor.shape)) == tuple(output.shape), case.name

        distributed = keras.layers.TimeDistributed(layer)
        several = np.stack([tensor] * 3, axis=1)
        expected = (output.shape[0], 3, *output.shape[1:])
        assert distributed.compute_output_shape(several.shape) == expected, case.name
        symbol = keras.Input(several.shape[1:], dtype=dtype)
        model = keras.Model(symbol, distributed(symbol))
        assert model.output_shape == (None, *expected[1:]), case.name
        assert_array_equal(model(several), np.stack([output] * 3, axis=1), err_msg=case.name)
    assert len(tried) >= 13


def one_case_a_class():
    """The first case of each class that can stand in a functional model."""
    first = {}
    for case in all_cases():
        if not {"symbolic", "save"} & set(case.skips):
            first.setdefault(type(case.layer(dtype="float32")), case)
    return first.values()


@lru_cache(maxsize=1)
def eager_call(name):
    """({argument of the layer's call: value}, its outputs), both as the layer itself gets and returns them."""
    trial = trial_of(name)
    layer, inputs = trial.make("float32")
    recorder = Recorder(layer)
    trial.case.call(recorder, **arguments(inputs, "float32"))
    return recorder.last_call


class Recorder:
    """Stands in for a layer, and keeps what it was last called with and what it returned."""

    def __init__(self, layer):
        self.layer, self.last_call = layer, None

    def __call__(self, *args, **kwargs):
        outputs = self.layer(*args, **kwargs)
        self.last_call = inspect.signature(self.layer.call).bind(*args, **kwargs).arguments, outputs
        return outputs

    def __getattr__(self, name):
        return getattr(self.layer, name)


def shapes_and_flags(given):
    """The arguments of `compute_output_shape` for those of `call`."""
    found = {}
    for name, value in given.items():
        is_shape = any(keras.ops.is_tensor(x) for x in keras.tree.flatten(value)) and name != "decode_loop_step"
        found |= {f"{name}_shape": shapes_in(value)} if is_shape else {name: value}
    return found


def shapes_in(value):
    """The shape of each tensor in a nesting."""
    return keras.tree.map_structure(lambda x: tuple(x.shape) if keras.ops.is_tensor(x) else None, value)


def assert_fits(case, found, eager):
    """Symbolic outputs, {leaf: (shape, dtype)}, are those of the eager call, but for the batch and the unknown lengths."""
    open_sizes = (case.batch, *case.unknown)
    assert list(found) == list(eager)
    for where, (shape, dtype) in found.items():
        assert len(shape) == len(eager[where].shape), where
        for size, real in zip(shape, eager[where].shape):
            assert size == real or (size is None and real in open_sizes), (where, shape, eager[where].shape)
        assert dtype == keras.backend.standardize_dtype(eager[where].dtype), where
