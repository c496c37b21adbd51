"""Forward–backward against all cuts, likelihood that never falls, and pruning."""

import math
import random
from collections import Counter
from itertools import pairwise

import numpy as np
import pytest
from numpy.testing import assert_allclose

from reference.sentencepiece_tokenizer import segmentations, viterbi
from reference.sentencepiece_tokenizer import training as ref
from reference.sentencepiece_tokenizer.model import Lattice

WORDS = {"▁low": 5, "▁lower": 2, "▁newest": 6, "▁widest": 3, "▁new": 4, "▁wider": 3, "▁lowest": 2}


def cuts(text, p):
    """{cut: its probability}, for every cut into pieces of `p`."""
    lattice = Lattice({piece: 0 for piece in p}, {}, max(map(len, p)), -1, -math.inf)
    return {x: math.prod(p.get(piece, 0.0) for piece in x) for x in segmentations(text, lattice)}


def drawn(seed):
    draw = random.Random(seed)
    pieces = {*"abc", *("".join(draw.choices("abc", k=draw.randint(2, 4))) for _ in range(9))}
    return ref.normalized({piece: draw.random() for piece in sorted(pieces)}), "".join(draw.choices("abc", k=8))


@pytest.mark.parametrize("seed", range(10))
def test_forward_and_backward_sum_over_all_cuts(seed):
    p, text = drawn(seed)
    total = sum(cuts(text, p).values())
    assert_allclose(ref.forward(text, p)[-1], total, rtol=1e-12)
    assert_allclose(ref.backward(text, p)[0], total, rtol=1e-12)
    for place in range(len(text) + 1):
        ends_here = sum(q for x, q in cuts(text, p).items() if place in np.cumsum([0, *map(len, x)]))
        assert_allclose(ref.forward(text, p)[place] * ref.backward(text, p)[place], ends_here, rtol=1e-12)


@pytest.mark.parametrize("seed", range(10))
def test_expected_counts_are_averages_over_all_cuts(seed):
    p, text = drawn(seed)
    found, expected, total = ref.expected_counts(text, p), Counter(), sum(cuts(text, p).values())
    for x, q in cuts(text, p).items():
        for piece in x:
            expected[piece] += q / total
    assert found.keys() == {piece for piece in expected if expected[piece]}
    for piece, count in found.items():
        assert_allclose(count, expected[piece], rtol=1e-12)


def test_worked_example():
    """aa with p(a) = p(aa) = 1/2: a|a has 1/4 and aa 1/2, so a counts 2 · 1/3 and aa 2/3, and both are as probable again."""
    p = {"a": 0.5, "aa": 0.5}
    assert ref.forward("aa", p) == [1.0, 0.5, 0.75] and ref.backward("aa", p) == [0.75, 0.5, 1.0]
    assert_allclose([*ref.expected_counts("aa", p).values()], [2 / 3, 2 / 3])
    assert_allclose([*ref.em_step({"aa": 3}, p).values()], [0.5, 0.5])
    assert_allclose(ref.log_likelihood({"aa": 3}, p), 3 * math.log(0.75))


def test_the_likelihood_never_falls():
    p = ref.seed_pieces(WORDS, 8)
    likelihoods = []
    for _ in range(8):
        likelihoods.append(ref.log_likelihood(WORDS, p))
        p = ref.em_step(WORDS, p)
    assert all(after >= before - 1e-9 for before, after in pairwise(likelihoods))
    assert likelihoods[-1] > likelihoods[0] + 40


def test_the_best_cut_is_no_more_probable_than_all_together():
    p, text = drawn(3)
    lattice = Lattice({piece: 0 for piece in p}, {piece: math.log(q) for piece, q in p.items()}, 4, -1, -math.inf)
    best = math.prod(p[piece] for piece in viterbi(text, lattice))
    assert_allclose(best, max(cuts(text, p).values()), rtol=1e-12)
    assert best < ref.forward(text, p)[-1]


def test_losses_are_what_the_likelihood_loses():
    p = ref.em_step(WORDS, ref.seed_pieces(WORDS, 4))
    missed = ref.losses(WORDS, p)
    assert missed.keys() == {piece for piece in p if len(piece) > 1}
    for piece in ("▁lo", "est", "wer"):
        without = ref.log_likelihood(WORDS, {**p, piece: 0.0})
        assert_allclose(missed[piece], ref.log_likelihood(WORDS, p) - without, rtol=1e-9)


def test_training_ends_with_as_many_pieces_as_wanted_and_every_character():
    p, history = ref.train(WORDS, 20)
    assert len(p) == 20 == history[-1][0] and set("".join(WORDS)) <= p.keys()
    assert_allclose(sum(p.values()), 1.0)
    assert [size for size, _ in history] == sorted((size for size, _ in history), reverse=True)
    assert {"▁low", "▁new"} <= p.keys()
    with pytest.raises(ValueError, match="size must be at least 11, the number of characters. Received: size=10"):
        ref.train(WORDS, 10)


def test_cuts_are_drawn_as_often_as_they_are_probable_and_a_large_alpha_draws_the_best():
    p, text = {"a": 0.2, "b": 0.3, "ab": 0.4, "ba": 0.1}, "abab"
    rng, count = np.random.default_rng(0), 3000
    for alpha in (1.0, 0.5):
        found = Counter(tuple(ref.sample(text, p, alpha, rng)) for _ in range(count))
        weights = {x: q**alpha for x, q in cuts(text, p).items()}
        for x, weight in weights.items():
            assert abs(found[x] / count - weight / sum(weights.values())) < 0.05
    assert {tuple(ref.sample(text, p, 30.0, rng)) for _ in range(100)} == {("ab", "ab")}
