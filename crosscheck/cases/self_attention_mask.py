"""SelfAttentionMask beside reference/self_attention_mask.py."""

from typing import NamedTuple

from crosscheck.case import B, Case, M, S, T
from crosscheck.catalogue import Chapter
from layers.self_attention_mask import SelfAttentionMask
from reference.self_attention_mask import self_attention_mask


class NoWeights(NamedTuple):
    """A mask has no weights."""


def padded(rng):
    return {"inputs": rng.normal(size=(B, T, M)), "to_mask": rng.integers(0, 3, (B, S))}


def call_with_list(layer, inputs, to_mask):
    return layer([inputs, to_mask])


def reference(weights, inputs, to_mask):
    return self_attention_mask(inputs.shape[1], to_mask).astype("float64")


def case(variant, **options):
    return Case(f"self_attention_mask/{variant}", SelfAttentionMask, padded, NoWeights, reference, unknown=(T, S), **options)


CHAPTER = Chapter(
    number=1,
    name="self_attention_mask",
    title="Masks",
    part="Attention",
    sentence="The keys that a query may attend to: no padding, no later tokens, no other text.",
    paper="Vaswani et al., 2017, §3.2.3",
    link="https://arxiv.org/abs/1706.03762",
    classes=("SelfAttentionMask",),
    functions=("may_attend", "self_attention_mask", "causal_mask", "padding_mask", "segment_mask"),
    cases=(case("two-arguments"), case("list", call=call_with_list)),
)
