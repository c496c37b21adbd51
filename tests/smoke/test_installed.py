"""Every public class once, from an installed package: `run.py` copies this file to an empty folder and runs it there."""

import os
import subprocess
import sys
import sysconfig
from functools import cache
from pathlib import Path

import keras
import numpy as np
import pytest
from numpy.testing import assert_array_equal

import crosscheck
import layers
import reference
from crosscheck.agreement import agreement
from crosscheck.case import TOLERANCE, arguments
from crosscheck.catalogue import chapters
from crosscheck.tree import is_ragged, leaves, numbers

BACKEND = keras.backend.backend()
WITHOUT_CASES = {"GroupedQueryAttention", "ResetCovarianceCallback"}
"""Public classes that no case makes; each has a test of its own below."""


@cache
def case_of(name):
    """The first case that makes a layer of the class called `name`, or None."""
    home = layers.HOMES[name].split(".")[0]
    for case in [case for chapter in chapters() if chapter.name == home for case in chapter.cases]:
        try:
            layer = case.layer(dtype=dtype_of(case))
        except FileNotFoundError:  # a real model, which is no part of the package
            continue
        if type(layer) is getattr(layers, name):
            return case
    return None


def dtype_of(case):
    return "float32" if "float32" in case.dtypes else case.dtypes[0]


@cache
def made(name):
    case = case_of(name)
    return case, *case.make(dtype_of(case))


CASES = [name for name in layers.__all__ if case_of(name)]


def unless_skipped(*checks):
    """Marks a test of every class; a case that cannot promise what it asks is skipped with its reason."""
    checks += ("jax",) if BACKEND == "jax" else ()
    found = []
    for name in CASES:
        reasons = [case_of(name).skips[check] for check in checks if check in case_of(name).skips]
        found.append(pytest.param(name, marks=[pytest.mark.skip(reason=reason) for reason in reasons[:1]]))
    return pytest.mark.parametrize("name", found)


@pytest.mark.parametrize("package", [crosscheck, layers, reference], ids=lambda package: package.__name__)
def test_the_installed_package_is_what_is_tested(package):
    assert Path(package.__file__).is_relative_to(sysconfig.get_path("purelib")), package.__file__


def test_the_backend_is_the_one_that_was_asked_for():
    assert os.environ["KERAS_BACKEND"] == BACKEND


def test_every_public_class_has_a_case_or_a_test_below():
    assert set(layers.__all__) - set(CASES) <= WITHOUT_CASES
    assert set(CASES) >= {name for chapter in chapters() for name in chapter.classes} - WITHOUT_CASES


@unless_skipped()
def test_it_computes_what_its_reference_does(name):
    case = case_of(name)
    assert agreement(case, dtype_of(case)) < TOLERANCE[dtype_of(case)]


@unless_skipped("config")
def test_a_copy_has_its_config(name):
    _, layer, _ = made(name)
    assert type(layer).from_config(layer.get_config()).get_config() == layer.get_config()


@unless_skipped("save")
def test_a_saved_model_of_it_loads_with_the_same_numbers(name, tmp_path):
    case, layer, inputs = made(name)
    if BACKEND == "jax" and not layer.supports_jit:
        pytest.skip("TensorFlow's operations cannot be part of a model on JAX")
    given = arguments(inputs, layer.compute_dtype)
    symbols = {where: symbol_of(where, x) if keras.ops.is_tensor(x) else x for where, x in given.items()}
    wanted = {where: x for where, x in symbols.items() if isinstance(x, keras.KerasTensor)}
    model = keras.Model(wanted, leaves(case.call(layer, **symbols)))
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    tensors = {where: given[where] for where in wanted}
    found, expected = numbers(loaded(tensors)), numbers(model(tensors))
    assert list(found) == list(expected)
    for where, array in expected.items():
        assert_array_equal(found[where], array)


def symbol_of(name, tensor):
    dtype = keras.backend.standardize_dtype(tensor.dtype)
    return keras.Input(batch_shape=tensor.shape, dtype=dtype, name=name, ragged=is_ragged(tensor))


def test_grouped_query_attention_with_one_group_a_head_is_multi_head_attention():
    x = keras.random.normal((2, 3, 8), seed=0)
    grouped, usual = layers.GroupedQueryAttention(4, 2, num_kv_heads=4), layers.MultiHeadAttention(4, 2)
    grouped(x, x)
    usual(x, x)
    usual.set_weights(grouped.get_weights())
    np.testing.assert_allclose(grouped(x, x), usual(x, x), atol=1e-6)
    assert layers.GroupedQueryAttention.from_config(grouped.get_config()).num_kv_heads == 4


def test_the_callback_keeps_the_precision_of_the_last_epoch_alone():
    x, y = np.ones((6, 3), "float32"), np.ones((6, 1), "float32")
    precisions = []
    for callbacks in ([], [layers.ResetCovarianceCallback()]):
        process = layers.RandomFeatureGaussianProcess(1, num_inducing=4, gp_cov_momentum=-1, return_gp_cov=True, seed=0)
        features = keras.Input((3,))
        model = keras.Model(features, process(features)[0])
        model.compile(keras.optimizers.SGD(0.0), "mse")
        model.fit(x, y, epochs=2, verbose=0, callbacks=callbacks)
        precisions.append(max(np.ptp(keras.ops.convert_to_numpy(v)) for v in process.non_trainable_variables))
    assert precisions[0] > 1.5 * precisions[1]


def test_a_language_model_writes():
    decoder = layers.TransformerDecoder(50, hidden_size=8, num_layers=2, num_attention_heads=2, intermediate_size=16)
    decoder.build((None, None))
    texts = layers.generate(decoder, [[3, 1, 4], [2]], length=5, temperature=1.0, top_k=3, seed=0)
    assert texts.shape == (2, 8) and texts[0, :3].tolist() == [3, 1, 4] and texts[1, 6:].tolist() == [0, 0]


def test_a_vocabulary_is_learned():
    pieces = layers.train_wordpiece_vocabulary(["low lower", "slow slower slowest"], 13, True, special_tokens=["[UNK]"])
    assert len(pieces) == 13 and pieces[0] == "[UNK]" and pieces[-3:] == ["##ow", "sl", "##owe"]


def test_the_lessons_are_asked_for_where_there_are_none(tmp_path):
    pytest.importorskip("jupytext")
    said = run(["crosscheck.lesson.make"], tmp_path, expected=2)
    assert "make them in a clone. Missing: " in said and "notebooks" in said


@pytest.mark.parametrize("chapter", ["masked_softmax", "sentencepiece_tokenizer"])
def test_the_comparison_runs_in_an_empty_folder(chapter, tmp_path):
    said = run(["crosscheck", chapter, "--jobs", "1"], tmp_path, expected=0)
    assert f"agree on {BACKEND}" in said


def run(arguments, folder, expected):
    """What `python -m` with `arguments` prints in an empty folder."""
    ran = subprocess.run([sys.executable, "-m", *arguments], cwd=folder, capture_output=True, text=True)
    assert ran.returncode == expected, ran.stdout + ran.stderr
    return ran.stdout + ran.stderr
