"""Under a `DTypePolicyMap`, each sublayer may have a dtype of its own."""

import keras
import pytest
from battery import trial_of

from crosscheck.agreement import largest_error
from crosscheck.case import TOLERANCE, arguments
from crosscheck.catalogue import chapters
from crosscheck.report.steps import trained_cases
from crosscheck.tree import numbers

CHAPTERS = [chapter for chapter in chapters() if any(not {"gradient", "jax"} & set(case.skips) for case in chapter.cases)]


@pytest.mark.parametrize("chapter", CHAPTERS, ids=lambda chapter: f"{chapter.name}/policies")
def test_sublayers_may_differ_in_dtype(chapter):
    """Every other sublayer computes in bfloat16: the even ones, then the odd ones. One case for each class."""
    for case in trained_cases(chapter.cases):
        layer, inputs = trial_of(case.name).make("float32")
        paths = sorted({part.path.split("/", 1)[1] for part in layer._flatten_layers() if "/" in (part.path or "")})
        for half in (paths[::2], paths[1::2]):
            policies = {f"[^/]*/{path}": keras.DTypePolicy("mixed_bfloat16") for path in half}
            mixed = case.layer(dtype=keras.dtype_policies.DTypePolicyMap("float32", policy_map=policies))
            case.call(mixed, **arguments(inputs, "float32"))
            mixed.set_weights(layer.get_weights())
            found = numbers(case.call(mixed, **arguments(inputs, "float32")))
            assert largest_error(found, trial_of(case.name).reference("float32")) < TOLERANCE["bfloat16"], (case.name, half)
