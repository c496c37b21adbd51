"""MaskedSoftmax beside reference/masked_softmax.py."""

from functools import partial
from typing import NamedTuple

from crosscheck.case import B, Case, H, S, T
from crosscheck.catalogue import Chapter
from layers.masked_softmax import MaskedSoftmax
from reference.masked_softmax import masked_softmax


class NoWeights(NamedTuple):
    """A softmax has no weights."""


def scores(rng):
    return {"scores": 3 * rng.normal(size=(B, H, T, S))}


def masked(rng):
    mask = rng.random((B, T, S)) < 0.6
    mask[0, 1] = False  # one row with nothing allowed
    return scores(rng) | {"mask": mask}


def counted_mask(rng):
    return scores(rng) | {"mask": rng.integers(0, 3, (B, S))}


def all_masked(rng):
    return masked(rng) | {"mask": masked(rng)["mask"] & False}


def reference(weights, scores, mask=None):
    return masked_softmax(scores, None if mask is None else mask[:, None])


def reference_padding(weights, scores, mask):
    return masked_softmax(scores, mask[:, None, None, :] != 0)


def reference_two_axes(weights, scores, mask):
    return masked_softmax(scores, mask[:, None], axes=(2, 3))


def case(variant, layer, inputs, reference):
    return Case(f"masked_softmax/{variant}", layer, inputs, NoWeights, reference, unknown=(T, S))


PER_HEAD = partial(MaskedSoftmax, mask_expansion_axes=1)

CHAPTER = Chapter(
    number=2,
    name="masked_softmax",
    title="Masked softmax",
    part="Attention",
    sentence="Scores become weights that sum to 1, and masked positions get weight 0.",
    paper="Vaswani et al., 2017, §3.2.1",
    link="https://arxiv.org/abs/1706.03762",
    classes=("MaskedSoftmax",),
    functions=("masked_softmax_row", "masked_softmax"),
    cases=(
        case("unmasked", MaskedSoftmax, scores, reference),
        case("masked", PER_HEAD, masked, reference),
        case("nothing-allowed", PER_HEAD, all_masked, reference),
        case("integer-mask", PER_HEAD, counted_mask, reference_padding),
        case("two-axes", partial(PER_HEAD, normalization_axes=(-2, -1)), masked, reference_two_axes),
    ),
)
