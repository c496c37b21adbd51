"""What every layer promises, asked of every case. A new chapter gets these by adding its cases, not by copying."""

import inspect
import os
import subprocess
import sys
from functools import lru_cache
from pathlib import Path

import keras
import numpy as np
import pytest
from numpy.testing import assert_array_equal

from crosscheck.agreement import Trial, largest_error
from crosscheck.case import COMPILED_TOLERANCE, GRADIENT_TOLERANCE, TOLERANCE, arguments
from crosscheck.catalogue import all_cases, chapters, find_cases
from crosscheck.report.readme import claims
from crosscheck.report.workers import LastingWorker
from crosscheck.tree import is_ragged, leaves, numbers

CLAIMED = claims((Path(__file__).parent.parent / "README.md").read_text())


@lru_cache(maxsize=1)
def trial_of(name):
    """The layers, inputs and outputs that the checks of one case share; conftest.py has them run one after the other."""
    (case,) = find_cases([name])
    return Trial(case)


@lru_cache(maxsize=1)
def symbolic_call(name):
    """({argument: symbol or what is no tensor}, {leaf: symbolic output}) of the float32 layer."""
    trial = trial_of(name)
    layer, inputs = trial.make("float32")
    symbols = symbols_of(trial.case, arguments(inputs, "float32"))
    return symbols, leaves(trial.case.call(layer, **symbols))


@pytest.fixture(scope="session")
def slopes_and_xla():
    """Measures gradients and XLA in a process of its own, which takes with it the programs that XLA keeps for ever."""
    worker = LastingWorker("crosscheck.report.comparison:slopes_and_xla")
    yield lru_cache(maxsize=1)(worker)
    worker.stop()


def parameters(check, values=lambda case: [()]):
    """Every case that makes the promise `check`, with each of its `values`; one that does not is skipped with its reason."""
    found = []
    for case in all_cases():
        marks = [pytest.mark.skip(reason=f"{case.name}: {case.skips[check]}")] if check in case.skips else []
        found += [pytest.param(case, *value, marks=marks, id="-".join((case.name, *value))) for value in values(case)]
    return found


def every_case(check):
    return pytest.mark.parametrize("case", parameters(check))


def call(case, layer, inputs):
    return case.call(layer, **arguments(inputs, layer.compute_dtype))


@pytest.mark.parametrize(("case", "dtype"), parameters("agreement", lambda case: [(dtype,) for dtype in case.dtypes]))
def test_layer_agrees_with_its_reference(case, dtype):
    error = trial_of(case.name).agreement(dtype)
    assert error < TOLERANCE[dtype]
    if dtype == "float64":
        assert error <= CLAIMED.get(case.chapter, 0.0), "README claims less"


@every_case("gradient")
def test_gradient_is_the_slope_of_the_reference(case, slopes_and_xla):
    errors = slopes_and_xla(case.name)["gradient"]
    assert isinstance(errors, dict), errors
    assert max(errors.values(), default=0.0) < GRADIENT_TOLERANCE, errors


@every_case("xla")
def test_compiled_by_xla_gives_the_same_numbers_and_gradients(case, slopes_and_xla):
    error = slopes_and_xla(case.name)["xla"]
    assert isinstance(error, float), error
    assert error < COMPILED_TOLERANCE


@every_case("config")
def test_config_holds_every_constructor_argument(case):
    layer, _ = trial_of(case.name).make("float32")
    assert constructor_arguments(type(layer)) <= set(layer.get_config())


def constructor_arguments(kind):
    """Names of the arguments of `kind` and, where it passes the rest on, of the project's classes that it derives from.

    A class that takes an inherited argument under another name says so in `renamed_arguments`.
    """
    named = set()
    for base in kind.__mro__:
        if not base.__module__.startswith("layers"):
            break
        signature = inspect.signature(base.__init__).parameters.values()
        named |= {parameter.name for parameter in signature if parameter.kind is not parameter.VAR_KEYWORD} - {"self"}
        if all(parameter.kind is not parameter.VAR_KEYWORD for parameter in signature):
            break
    renamed = getattr(kind, "renamed_arguments", {})
    return {renamed.get(name, name) for name in named}


@every_case("copy")
def test_a_copy_from_config_with_the_same_weights_gives_the_same_numbers(case):
    trial = trial_of(case.name)
    layer, inputs = trial.make("float32")
    copy = type(layer).from_config(layer.get_config())
    call(case, copy, inputs)
    copy.set_weights(layer.get_weights())
    assert_same(numbers(call(case, copy, inputs)), trial.output("float32"))


@every_case("save")
def test_a_saved_functional_model_loads_with_the_same_numbers(case, tmp_path):
    symbols, outputs = symbolic_call(case.name)
    _, inputs = trial_of(case.name).make("float32")
    model = keras.Model(tensors_of(symbols), outputs)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    given = tensors_of(arguments(inputs, "float32"))
    assert_same(numbers(loaded(given)), numbers(model(given)))


@every_case("symbolic")
def test_symbolic_call_with_open_sizes_has_the_shape_of_the_eager_one(case):
    layer, inputs = trial_of(case.name).make("float32")
    eager = leaves(call(case, layer, inputs))
    _, symbolic = symbolic_call(case.name)
    open_sizes = (case.batch, *case.unknown)
    assert list(symbolic) == list(eager)
    for where, tensor in symbolic.items():
        assert len(tensor.shape) == len(eager[where].shape), where
        for size, real in zip(tensor.shape, eager[where].shape):
            assert size == real or (size is None and real in open_sizes), (where, tensor.shape, eager[where].shape)
        assert tensor.dtype == keras.backend.standardize_dtype(eager[where].dtype), where


@pytest.mark.parametrize(("case", "policy"), parameters("mixed", lambda case: [("mixed_bfloat16",), ("mixed_float16",)]))
def test_mixed_precision_is_finite_and_close(case, policy):
    if policy.removeprefix("mixed_") not in case.dtypes:
        pytest.skip(f"{case.name} has no {policy}")
    assert Trial(case).agreement(policy) < TOLERANCE[policy.removeprefix("mixed_")]


@every_case("alone")
def test_a_batch_row_alone_equals_the_row_in_its_batch(case):
    trial = trial_of(case.name)
    layer, inputs = trial.make("float64")
    together = leaves(call(case, layer, inputs))
    for row in range(case.batch):
        only = slice(row, row + 1)
        layer, _ = trial.make("float64")
        alone = call(case, layer, {n: x[only] if has_batch(x, case.batch) else x for n, x in inputs.items()})
        expected = {where: leaf[only] if has_batch(leaf, case.batch) else leaf for where, leaf in together.items()}
        assert largest_error(leaves(alone), expected) < TOLERANCE["float64"]


@pytest.fixture(scope="session")
def outputs_on_jax(tmp_path_factory):
    """{case:leaf: array} of a chapter's cases on the JAX backend, which runs in a process of its own."""
    quick = {"XLA_FLAGS": "--xla_backend_optimization_level=0"}  # the programs run once
    environment = os.environ | {"KERAS_BACKEND": "jax", "JAX_ENABLE_X64": "1", "PYTHONWARNINGS": "ignore"} | quick
    program = [sys.executable, "-m", "crosscheck.report.outputs"]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
    process = subprocess.Popen(program, env=environment, text=True, **pipes)

    @lru_cache(maxsize=1)
    def outputs(chapter):
        file = tmp_path_factory.mktemp("jax") / f"{chapter}.npz"
        print(chapter, file, file=process.stdin, flush=True)
        said = process.stdout.readline().strip()
        assert said == "done", said
        return dict(np.load(file))

    yield outputs
    process.stdin.close()
    process.stdout.close()
    process.wait()


@every_case("jax")
def test_jax_gives_the_numbers_of_tensorflow(case, outputs_on_jax):
    expected = {f"{case.name}:{where}": leaf for where, leaf in trial_of(case.name).output().items()}
    found = {where: leaf for where, leaf in outputs_on_jax(case.chapter).items() if where in expected}
    assert largest_error(found, expected) < TOLERANCE["float64"]


def test_every_chapter_has_cases():
    assert all(chapter.cases for chapter in chapters())


def symbols_of(case, tensors):
    """A symbolic input for each tensor, its batch and its unknown lengths left open; everything else as it is."""
    open_sizes = (case.batch, *case.unknown)
    return {
        name: keras.Input(
            batch_shape=[None if size in open_sizes else size for size in x.shape],
            dtype=keras.backend.standardize_dtype(x.dtype),
            name=name,
            ragged=is_ragged(x),
        )
        if keras.ops.is_tensor(x)
        else x
        for name, x in tensors.items()
    }


def tensors_of(inputs):
    return {name: x for name, x in inputs.items() if keras.ops.is_tensor(x) or isinstance(x, keras.KerasTensor)}


def has_batch(array, batch):
    return getattr(array, "shape", ())[:1] == (batch,)


def assert_same(found, expected):
    assert list(found) == list(expected)
    for where, leaf in expected.items():
        assert_array_equal(found[where], leaf, err_msg=where)
