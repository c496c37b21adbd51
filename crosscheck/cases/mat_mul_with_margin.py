"""MatMulWithMargin beside reference/mat_mul_with_margin.py."""

from functools import partial

import numpy as np

from crosscheck.case import Case, M, S, T
from crosscheck.catalogue import Chapter
from layers.mat_mul_with_margin import MatMulWithMargin
from reference.mat_mul_with_margin import MatMulWithMarginWeights, mat_mul_with_margin

MEET = "the rows of a batch are each other's negatives"


def pairs(rng, b=T, c=T):
    return {"left_encoded": rng.normal(size=(b, M)), "right_encoded": rng.normal(size=(c, M))}


def more_negatives(rng):
    return pairs(rng, T, S)


def cosines(rng):
    return {name: x / np.linalg.norm(x, axis=1, keepdims=True) for name, x in more_negatives(rng).items()}


def reference(weights, left_encoded, right_encoded, scale, margin):
    return mat_mul_with_margin(left_encoded, right_encoded, scale, margin)


def case(variant, scale, margin, inputs=pairs):
    return Case(
        f"mat_mul_with_margin/{variant}",
        partial(MatMulWithMargin, logit_scale=scale, logit_margin=margin),
        inputs,
        MatMulWithMarginWeights,
        partial(reference, scale=scale, margin=margin),
        unknown=(S,),
        batch=T,
        skips={"alone": MEET},
    )


CHAPTER = Chapter(
    number=22,
    name="mat_mul_with_margin",
    title="Additive margin softmax",
    part="Heads",
    sentence="A matching pair must score higher than all other pairs by a margin.",
    paper="Yang et al., 2019",
    link="https://arxiv.org/abs/1902.08564",
    classes=("MatMulWithMargin",),
    functions=("score_one", "mat_mul_with_margin", "losses", "pull_ratio"),
    cases=(
        case("default", 1.0, 0.0),
        case("margin", 1.0, 0.3),
        case("scale", 20.0, 0.0),
        case("scale-and-margin", 20.0, 0.3),
        case("more-negatives", 20.0, 0.3, more_negatives),
        case("cosines", 20.0, 0.3, cosines),
        case("negative-margin", 5.0, -0.2, more_negatives),
    ),
)
