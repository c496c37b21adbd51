"""TalkingHeadsAttention beside reference/talking_heads_attention.py."""

from functools import partial

from crosscheck.case import B, Case, D, E, H, M, S, T
from crosscheck.cases.attention import biased, causal, cross, masked, masked_per_head, over_axes, with_key, with_scores
from crosscheck.catalogue import Chapter
from layers.talking_heads_attention import TalkingHeadsAttention
from reference.attention import attention_over_axes
from reference.self_attention_mask import causal_mask
from reference.talking_heads_attention import TalkingHeadsWeights, talking_heads_attention

LAYER = partial(TalkingHeadsAttention, num_heads=H, key_dim=D, value_dim=E)


def without_dropout(rng):
    return masked(rng) | {"training": False, "return_attention_scores": True}


def as_many_as_heads(rng):
    """As many positions as heads, so that biases `(h, 1)` would also fit the positions."""
    x = rng.normal(size=(B, H, M))
    return {"query": x, "value": x, "return_attention_scores": True}


def reference(
    weights,
    query,
    value,
    key=None,
    attention_mask=None,
    use_causal_mask=False,
    return_attention_scores=False,
    training=None,
    attention_bias=None,
):
    mask = attention_mask
    if use_causal_mask:
        mask = causal_mask(query.shape[1], value.shape[1]) & (True if mask is None else mask)
    output, mixed, _ = talking_heads_attention(query, value, weights, key, mask, attention_bias)
    return (output, mixed) if return_attention_scores else output


def reference_over_axes(weights, query, value, attention_mask, return_attention_scores):
    return attention_over_axes(query, value, weights, (1, 2), attention_mask, talking_heads_attention)[:2]


def case(variant, layer, inputs):
    return Case(f"talking_heads_attention/{variant}", layer, inputs, TalkingHeadsWeights, reference, unknown=(T, S))


CHAPTER = Chapter(
    number=6,
    name="talking_heads_attention",
    title="Talking-heads attention",
    part="Attention",
    sentence="Heads mix their scores before the softmax, and their weights after it.",
    paper="Shazeer et al., 2020, §4",
    link="https://arxiv.org/abs/2003.02436",
    classes=("TalkingHeadsAttention",),
    functions=("attend_one", "mix", "attend", "talking_heads_attention"),
    cases=(
        case("cross", LAYER, cross),
        case("key", LAYER, with_key),
        case("masked", LAYER, masked),
        case("masked-per-head", LAYER, masked_per_head),
        case("causal", LAYER, causal),
        case("scores", LAYER, with_scores),
        case("bias", LAYER, biased),
        case("no-bias", partial(LAYER, use_bias=False, output_shape=M + 2), masked),
        case("dropout-inactive", partial(LAYER, dropout=0.5, seed=1), without_dropout),
        case("heads-of-size-one", partial(TalkingHeadsAttention, num_heads=H, key_dim=1), as_many_as_heads),
        Case(
            "talking_heads_attention/axes",
            partial(LAYER, attention_axes=(1, 2)),
            over_axes,
            TalkingHeadsWeights,
            reference_over_axes,
        ),
    ),
)
