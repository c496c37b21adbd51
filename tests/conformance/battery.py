"""What the checks of one case share: its trial, its symbolic call, and the parameters that draw every case."""

import gc
from functools import lru_cache

import keras
import pytest
from numpy.testing import assert_array_equal
from tensorflow.python.eager import context

from crosscheck.agreement import Trial
from crosscheck.backends import open_symbols
from crosscheck.case import arguments
from crosscheck.catalogue import all_cases, find_cases, representatives
from crosscheck.tree import leaves


@lru_cache(maxsize=1)
def trial_of(name):
    """The layers, inputs and outputs that the checks of one case share; conftest.py has them run one after the other."""
    forget()
    (case,) = find_cases([name])
    return Trial(case)


def forget():
    """Free what the case before has left, and the kernel that TensorFlow keeps of every operation that it ever ran."""
    gc.collect()
    context.context().clear_kernel_cache()


@lru_cache(maxsize=1)
def symbolic_call(name):
    """({argument: symbol or what is no tensor}, {leaf: symbolic output}) of the float32 layer."""
    trial = trial_of(name)
    layer, inputs = trial.make("float32")
    symbols = open_symbols(trial.case, arguments(inputs, "float32"))
    return symbols, leaves(trial.case.call(layer, **symbols))


def parameters(check, values=lambda case: [()]):
    """Every case that makes the promise `check`, with each of its `values`; one that does not is skipped with its reason.

    All but the first case of each class are marked as further ones, unless it is agreement in float64 that is asked.
    """
    found, first = [], {case.name for case in representatives().values()}
    for case in all_cases():
        skips = [pytest.mark.skip(reason=f"{case.name}: {case.skips[check]}")] if check in case.skips else []
        for value in values(case):
            marks = skips if case.name in first or value == ("float64",) else [*skips, pytest.mark.further]
            found.append(pytest.param(case, *value, marks=marks, id="-".join((case.name, *value))))
    return found


def every_case(check):
    return pytest.mark.parametrize("case", parameters(check))


def one_case_a_class(check):
    """Like `every_case`, for a check that would take too long with every case."""
    shown = [case for case in parameters(check) if case.values[0] in representatives().values()]
    return pytest.mark.parametrize("case", shown)


def call(case, layer, inputs):
    return case.call(layer, **arguments(inputs, layer.compute_dtype))


def tensors_of(inputs):
    return {name: x for name, x in inputs.items() if keras.ops.is_tensor(x) or isinstance(x, keras.KerasTensor)}


def has_batch(array, batch):
    return getattr(array, "shape", ())[:1] == (batch,)


def assert_same(found, expected):
    assert list(found) == list(expected)
    for where, leaf in expected.items():
        assert_array_equal(found[where], leaf, err_msg=where)
