"""Under a `DTypePolicyMap`, each sublayer may have a dtype of its own."""

import keras
import numpy as np
import pytest
from battery import one_case_a_class, trial_of
from numpy.testing import assert_array_equal

import layers
from crosscheck.case import TOLERANCE
from crosscheck.catalogue import chapters
from crosscheck.report.steps import trained_cases
from crosscheck.report.variants import under_map, under_policies

CHAPTERS = [chapter for chapter in chapters() if any(not {"gradient", "jax"} & set(case.skips) for case in chapter.cases)]


def check(errors):
    assert errors["none"] == 0.0
    assert max(errors.values()) < TOLERANCE["bfloat16"], errors


@one_case_a_class("config")
def test_under_a_map_of_policies_without_entries_it_is_that_of_its_default(case):
    trial = trial_of(case.name)
    found = under_map(trial)
    for where, leaf in trial.output("float32").items():
        assert_array_equal(found[where], leaf, err_msg=where)


@pytest.mark.parametrize("chapter", CHAPTERS, ids=lambda chapter: f"{chapter.name}/policies")
def test_sublayers_may_differ_in_dtype(chapter):
    """Every other sublayer computes in bfloat16: the even ones, then the odd ones; then all. One case for each class."""
    for case in trained_cases(chapter.cases):
        check(under_policies(trial_of(case.name)))


@pytest.mark.further
def test_sublayers_may_differ_in_dtype_on_jax_too(variant_on_jax):
    errors = variant_on_jax("under_policies", "transformer_encoder/post-norm")
    check(errors)
    assert max(errors["even"], errors["odd"]) > TOLERANCE["float32"], "no sublayer computed in bfloat16"


def test_a_model_with_policies_of_parts_gives_the_same_numbers_after_saving(tmp_path):
    """A map holds policies, not their names, and names its default: Keras can neither build nor save it otherwise."""
    bfloat16 = keras.DTypePolicy("mixed_bfloat16")
    policies = {"block/self_attention/.*": bfloat16, "mask": bfloat16, "sentence": bfloat16}
    policy = keras.dtype_policies.DTypePolicyMap("float32", policy_map=policies)
    x, p = keras.Input((5, 8)), keras.Input((5,))
    allowed = layers.SelfAttentionMask(name="mask", dtype=policy)(x, p)
    z = layers.TransformerEncoderBlock(2, 6, "relu", name="block", dtype=policy)([x, allowed])
    model = keras.Model([x, p], [allowed, z, layers.SentenceEmbedding(name="sentence", dtype=policy)(z, p)])
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    rng = np.random.default_rng(0)
    inputs = [rng.normal(size=(3, 5, 8)).astype("float32"), rng.integers(0, 2, (3, 5)).astype("float32")]
    found, expected = loaded(inputs), model(inputs)
    assert [x.dtype for x in found] == [x.dtype for x in expected] == ["bfloat16", "float32", "bfloat16"]
    for one, other in zip(found, expected):
        assert_array_equal(keras.ops.cast(one, "float32"), keras.ops.cast(other, "float32"))
    assert loaded.get_layer("block").self_attention.query_dense.compute_dtype == "bfloat16"
