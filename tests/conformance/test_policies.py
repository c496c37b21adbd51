"""Under a `DTypePolicyMap`, each sublayer may have a dtype of its own."""

import pytest
from battery import one_case_a_class, trial_of
from numpy.testing import assert_array_equal

from crosscheck.case import TOLERANCE
from crosscheck.catalogue import chapters
from crosscheck.report.steps import trained_cases
from crosscheck.report.variants import under_map, under_policies

CHAPTERS = [chapter for chapter in chapters() if any(not {"gradient", "jax"} & set(case.skips) for case in chapter.cases)]


def check(errors):
    assert errors["all"] == 0.0
    assert max(errors["even"], errors["odd"]) < TOLERANCE["bfloat16"], errors


@one_case_a_class("config")
def test_under_a_map_of_policies_without_entries_it_is_that_of_its_default(case):
    trial = trial_of(case.name)
    found = under_map(trial)
    for where, leaf in trial.output("float32").items():
        assert_array_equal(found[where], leaf, err_msg=where)


@pytest.mark.parametrize("chapter", CHAPTERS, ids=lambda chapter: f"{chapter.name}/policies")
def test_sublayers_may_differ_in_dtype(chapter):
    """Every other sublayer computes in bfloat16: the even ones, then the odd ones. One case for each class."""
    for case in trained_cases(chapter.cases):
        check(under_policies(trial_of(case.name)))


def test_sublayers_may_differ_in_dtype_on_jax_too(variant_on_jax):
    errors = variant_on_jax("under_policies", "transformer_encoder/post-norm")
    check(errors)
    assert max(errors["even"], errors["odd"]) > TOLERANCE["float32"], "no sublayer computed in bfloat16"
