"""What every layer promises, asked of every case. A new chapter gets these by adding its cases, not by copying."""

import inspect
from pathlib import Path

import keras
import pytest
from battery import assert_same, call, every_case, has_batch, parameters, symbolic_call, tensors_of, trial_of

from crosscheck.agreement import Trial, largest_error
from crosscheck.case import COMPILED_TOLERANCE, GRADIENT_TOLERANCE, TOLERANCE, arguments
from crosscheck.catalogue import chapters
from crosscheck.report.readme import claims
from crosscheck.tree import leaves, numbers

CLAIMED = claims((Path(__file__).parent.parent.parent / "README.md").read_text())


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
        if "__init__" not in vars(base):
            continue
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


@every_case("jax")
def test_jax_gives_the_numbers_of_tensorflow(case, on_jax):
    expected = {f"{case.name}:{where}": leaf for where, leaf in trial_of(case.name).output().items()}
    outputs, _ = on_jax(case.chapter)
    found = {where: leaf for where, leaf in outputs.items() if where in expected}
    assert largest_error(found, expected) < TOLERANCE["float64"]


def test_every_chapter_has_cases():
    assert all(chapter.cases for chapter in chapters())
