"""One step of training moves every weight alike on TensorFlow and JAX, whichever the optimizer."""

import pytest
from numpy.testing import assert_allclose

from crosscheck.catalogue import chapters
from crosscheck.report.steps import moves, trained_cases

ALWAYS = ("attention", "transformer_encoder", "gaussian_process")
"""What `make test` asks too: JAX takes some seconds to compile the steps of a chapter."""
CHAPTERS = [chapter for chapter in chapters() if any(not {"gradient", "jax"} & set(case.skips) for case in chapter.cases)]


@pytest.mark.parametrize(
    "chapter",
    [
        pytest.param(chapter, id=f"{chapter.name}/training", marks=[] if chapter.name in ALWAYS else pytest.mark.further)
        for chapter in CHAPTERS
    ],
)
def test_one_step_moves_every_weight_alike_on_both_backends(chapter, moves_on_jax):
    """One case for each class, because JAX takes a second or two to compile each."""
    expected = {f"{case.name}:{what}": move for case in trained_cases(chapter.cases) for what, move in moves(case).items()}
    if not expected:
        pytest.skip(f"{chapter.name} has no trained weights")
    found = moves_on_jax(chapter.name)
    assert set(found) == set(expected)
    for what, move in expected.items():
        # On TensorFlow, Keras rounds Adam's 0.999 to float32, and 1 − 0.999 is 2e-5 off.
        assert_allclose(found[what], move, rtol=1e-4, atol=1e-6 * abs(move).max(), err_msg=what)
