"""MultiHeadRelativeAttention and TwoStreamRelativeAttention beside reference/relative_attention.py."""

from functools import partial

import numpy as np

from crosscheck.case import Case, D, E, H, M, S, T
from crosscheck.catalogue import Chapter, Lesson
from layers.relative_attention import MultiHeadRelativeAttention, TwoStreamRelativeAttention
from reference.relative_attention import (
    RelativeAttentionWeights,
    Terms,
    permutation_masks,
    relative_attention,
    two_stream_relative_attention,
)

# Segment encodings are (2, h, d), which a batch of 2 would take for one row per example.
EXAMPLES, MEMORY, TARGETS, ENCODING = 10, 9, 2, 12
LAYER = partial(MultiHeadRelativeAttention, num_heads=H, key_dim=D, value_dim=E)
TWO_STREAMS = partial(TwoStreamRelativeAttention, num_heads=H, key_dim=D, value_dim=E)


def biases(rng):
    return {"content_attention_bias": rng.normal(size=(H, D)), "positional_attention_bias": rng.normal(size=(H, D))}


def encoding(rng, rows, examples=1):
    return {"relative_position_encoding": rng.normal(size=(examples, rows, ENCODING))}


def segments(rng, t, s):
    return {
        "segment_matrix": rng.random((EXAMPLES, t, s)) < 0.4,
        "segment_encoding": rng.normal(size=(2, H, D)),
        "segment_attention_bias": rng.normal(size=(H, D)),
    }


def memory(rng):
    return {"state": rng.normal(size=(EXAMPLES, MEMORY, M))}


def no_positions(rng):
    """Only the content bias."""
    inputs = {"query": rng.normal(size=(EXAMPLES, T, M)), "value": rng.normal(size=(EXAMPLES, S, M))}
    return inputs | {"content_attention_bias": rng.normal(size=(H, D)), "positional_attention_bias": None}


def shared(rng):
    return no_positions(rng) | biases(rng) | encoding(rng, T + S)


def per_example(rng):
    return shared(rng) | encoding(rng, T + S, EXAMPLES)


def no_biases(rng):
    return shared(rng) | {"content_attention_bias": None, "positional_attention_bias": None}


def causal(rng):
    """Encodings of non-negative distances, and no mask."""
    return shared(rng) | encoding(rng, S + 1)


def with_key(rng):
    return shared(rng) | {"key": rng.normal(size=(EXAMPLES, S, M + 3))}


def masked(rng):
    mask = rng.random((EXAMPLES, T, S)) < 0.6
    mask[0, 1] = False  # one query that may attend to nothing
    return shared(rng) | {"attention_mask": mask, "return_attention_scores": True}


def masked_per_head(rng):
    return causal(rng) | {"attention_mask": rng.random((EXAMPLES, H, T, S)) < 0.6}


def with_memory(rng):
    return shared(rng) | encoding(rng, T + MEMORY + S) | memory(rng)


def with_memory_and_key(rng):
    return with_memory(rng) | {"key": rng.normal(size=(EXAMPLES, S, M))}


def with_segments(rng):
    return shared(rng) | segments(rng, T, S)


def everything(rng):
    mask = rng.random((EXAMPLES, 1, MEMORY + S)) < 0.7
    return with_memory(rng) | encoding(rng, MEMORY + S + 1, EXAMPLES) | segments(rng, T, MEMORY + S) | {"attention_mask": mask}


def two_streams(rng):
    streams = {name: rng.normal(size=(EXAMPLES, S, M)) for name in ("content_stream", "query_stream")}
    return streams | biases(rng) | encoding(rng, S + S)


def two_streams_permuted(rng, remembered=0):
    orders = [permutation_masks(rng.permutation(S), remembered) for _ in range(EXAMPLES)]
    content, query = (np.stack(masks) for masks in zip(*orders))
    return two_streams(rng) | {"content_attention_mask": content, "query_attention_mask": query}


def two_streams_with_targets(rng):
    positions = np.stack([rng.permutation(S)[:TARGETS] for _ in range(EXAMPLES)])
    mapping = {"query_stream": rng.normal(size=(EXAMPLES, TARGETS, M)), "target_mapping": np.eye(S)[positions]}
    return two_streams_permuted(rng) | mapping


def two_streams_everything(rng):
    masks = two_streams_permuted(rng, MEMORY)
    longer = encoding(rng, S + MEMORY + S, EXAMPLES) | segments(rng, S, MEMORY + S) | memory(rng)
    return masks | two_streams_with_targets(rng) | {name: masks[name] for name in masks if "mask" in name} | longer


def reference(weights, query, value, key=None, state=None, attention_mask=None, return_attention_scores=False, **terms):
    found, encoding = terms_of(**terms)
    output = relative_attention(query, value, weights, found, key, encoding, state, attention_mask)
    return output if return_attention_scores else output[0]


def two_stream_reference(
    weights,
    content_stream,
    query_stream,
    target_mapping=None,
    state=None,
    content_attention_mask=None,
    query_attention_mask=None,
    **terms,
):
    found, encoding = terms_of(**terms)
    masks = content_attention_mask, query_attention_mask
    return two_stream_relative_attention(content_stream, query_stream, weights, encoding, found, target_mapping, state, *masks)[
        :2
    ]


def terms_of(
    content_attention_bias,
    positional_attention_bias,
    relative_position_encoding=None,
    segment_matrix=None,
    segment_encoding=None,
    segment_attention_bias=None,
):
    segments = segment_attention_bias, segment_encoding, segment_matrix
    return Terms(content_attention_bias, positional_attention_bias, None, *segments), relative_position_encoding


def case(variant, inputs, layer=LAYER):
    compare = two_stream_reference if layer is TWO_STREAMS else reference
    lengths = (T, S, T + S, S + S, MEMORY, MEMORY + S, T + MEMORY + S, S + MEMORY + S, MEMORY + S + 1, S + 1)
    open_sizes = tuple(set(lengths) - {EXAMPLES})
    return Case(
        f"relative_attention/{variant}", layer, inputs, RelativeAttentionWeights, compare, unknown=open_sizes, batch=EXAMPLES
    )


CHAPTER = Chapter(
    number=12,
    name="relative_attention",
    title="Relative attention",
    part="Long sequences",
    sentence="Scores depend on the distance between tokens, so keys and values can be reused for later segments.",
    paper="Dai et al., 2019, §3.3; Yang et al., 2019, §2.3",
    link="https://arxiv.org/abs/1901.02860",
    classes=("MultiHeadRelativeAttention", "TwoStreamRelativeAttention"),
    functions=("score", "relative_shift", "relative_attention", "two_stream_relative_attention"),
    cases=(
        case("shared", shared),
        case("per-example", per_example),
        case("no-positions", no_positions),
        case("no-biases", no_biases),
        case("causal", causal),
        case("key", with_key),
        case("masked", masked),
        case("masked-per-head", masked_per_head),
        case("memory", with_memory),
        case("memory-and-key", with_memory_and_key),
        case("segments", with_segments),
        case("everything", everything),
        case("no-projection-bias", everything, partial(LAYER, use_bias=False, output_shape=M + 2)),
        case("two-streams", two_streams, TWO_STREAMS),
        case("two-streams-permuted", two_streams_permuted, TWO_STREAMS),
        case("two-streams-targets", two_streams_with_targets, TWO_STREAMS),
        case("two-streams-everything", two_streams_everything, TWO_STREAMS),
    ),
    further_lessons=(
        Lesson(
            name="two_stream_attention",
            title="Two streams",
            sentence="Tokens are predicted in any order: one stream knows their content, another predicts them without it.",
            paper="Yang et al., 2019, §2.3",
            link="https://arxiv.org/abs/1906.08237",
        ),
    ),
)
