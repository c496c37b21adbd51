"""A subclassed model of every layer, which Keras builds by a call without values, and builds again where it is loaded."""

import warnings

import keras
import numpy as np
import pytest
from battery import tensors_of
from numpy.testing import assert_array_equal

from crosscheck.case import arguments
from crosscheck.catalogue import find_cases, representatives
from crosscheck.tree import numbers

NAMES = [case.name for case in representatives().values() if not {"symbolic", "save"} & set(case.skips)]


@keras.saving.register_keras_serializable("test_subclassed_models")
class Subclassed(keras.Model):
    """The layers of the cases with `names`; the tensors of each are an entry of `inputs`."""

    def __init__(self, names, **kwargs):
        super().__init__(**kwargs)
        self.names, self.cases = names, find_cases(names)
        self.parts = [case.layer(dtype="float32") for case in self.cases]

    def call(self, inputs):
        found = {}
        for case, part in zip(self.cases, self.parts):
            given = arguments(case.inputs(np.random.default_rng(0)), "float32")
            found[case.name] = case.call(part, **(given | inputs[case.name]))
        return found

    def get_config(self):
        return super().get_config() | {"names": self.names}


def inputs_of(name):
    [case] = find_cases([name])
    return tensors_of(arguments(case.inputs(np.random.default_rng(0)), "float32"))


def test_every_layer_is_built_by_a_call_without_values():
    wrong = {}
    for name in NAMES:
        symbols = {
            each: keras.KerasTensor(x.shape, keras.backend.standardize_dtype(x.dtype)) for each, x in inputs_of(name).items()
        }
        try:
            # Keras does the same, and hides an error.
            keras.src.backend.compute_output_spec(Subclassed([name]).call, {name: symbols})
        except Exception as error:
            wrong[name] = f"{type(error).__name__}: {error}"
    assert wrong == {}


@pytest.mark.further
def test_a_subclassed_model_of_every_layer_gives_the_same_numbers_after_saving(tmp_path):
    """Keras saves the shapes of inputs and not their dtypes, so it builds layers of ids and of texts with floats."""
    inputs = {name: inputs_of(name) for name in NAMES}
    assert len(inputs) >= 30
    model = Subclassed(NAMES)
    expected = model(inputs)
    model.save(tmp_path / "model.keras")
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # that the model cannot be built
        loaded = keras.models.load_model(tmp_path / "model.keras")
    assert [part.built for part in loaded.parts] == [True] * len(NAMES)
    found = loaded(inputs)
    for name in NAMES:
        for (where, one), other in zip(numbers(found[name]).items(), numbers(expected[name]).values(), strict=True):
            assert_array_equal(one, other, err_msg=f"{name}: {where}")
