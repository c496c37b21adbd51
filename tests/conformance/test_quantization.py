"""Quantized and with low-rank additions, one case of each class; on JAX, one that reads another layer's weight."""

import re
from dataclasses import replace

import numpy as np
import pytest
from battery import one_case_a_class

from crosscheck.case import TOLERANCE
from crosscheck.catalogue import find_cases
from crosscheck.report.export.table import PAGE
from crosscheck.report.variants import adapted, quantized

NEARLY = 0.02
REFUSED = "does not have a `quantize` method implemented"


def check_quantized(found):
    assert all(re.search(REFUSED, warning) for warning in found["warnings"])
    assert all(mode == "int8" for mode in found["modes"])
    assert found["changed"] < NEARLY
    assert found["loaded"] == 0.0


def check_adapted(found):
    assert found["unused"] < TOLERANCE["float32"]
    assert found["changed"] > 1e-3
    assert found["loaded"] < TOLERANCE["float32"]


@one_case_a_class("save")
def test_quantized_to_int8_it_gives_nearly_the_same_and_loads_with_the_same_numbers(case):
    check_quantized(quantized(case))


@pytest.mark.further
def test_quantized_on_jax_it_gives_nearly_the_same_too(variant_on_jax):
    found = variant_on_jax("quantized", "masked_lm/gelu")
    assert found["modes"] and found["changed"] > 0.0
    check_quantized(found)


@one_case_a_class("save")
def test_low_rank_additions_are_used_and_saved_as_one_kernel(case):
    if found := adapted(case):
        check_adapted(found)


@pytest.mark.further
def test_low_rank_additions_are_used_and_saved_on_jax_too(variant_on_jax):
    check_adapted(variant_on_jax("adapted", "masked_lm/gelu"))


def test_one_wide_column_of_the_features_is_most_of_what_int8_changes_in_a_real_model():
    """The scale of a token's int8 numbers is that of its largest; EXPORT.md has the number."""
    (case,) = find_cases(["classification_head/minilm"])
    assert "changed by 4.3 %" in PAGE.read_text() and 0.042 < quantized(case)["changed"] < 0.044
    features = case.inputs(np.random.default_rng(0))["features"]
    wide = np.abs(features).max((0, 1)).argmax()
    features[..., wide] = 0.0
    assert quantized(replace(case, inputs=lambda rng: {"features": features}))["changed"] < 0.01


def test_a_quantized_policy_is_refused_by_layers_made_of_parts():
    import layers

    with pytest.raises(ValueError, match="dtype must not be a quantized policy.*Received: dtype='int8_from_float32'"):
        layers.TransformerEncoderBlock(2, 16, "gelu", dtype="int8_from_float32")
