"""TransformerXLBlock and TransformerXL beside reference/transformer_xl.py, and RelativePositionEncoding beside its own."""

from functools import partial

import numpy as np

from crosscheck.case import Case, D, H, S
from crosscheck.cases.self_attention_mask import NoWeights
from crosscheck.catalogue import Chapter
from layers.transformer_xl import TransformerXL, TransformerXLBlock
from layers.transformer_xl.encoding import RelativePositionEncoding
from reference.common.activations import gelu, relu
from reference.relative_attention import Terms, permutation_masks, relative_position_encoding
from reference.transformer_xl import XLBlockWeights, XLWeights, transformer_xl, transformer_xl_block

# Segment encodings are (2, h, d), which a batch of 2 would take for one row per example; every length is another one.
EXAMPLES, MEMORY, LONG_MEMORY, TARGETS, LAYERS, F, ENCODING = 16, 9, 20, 3, 2, 6, 12
HIDDEN = H * D
SIZES = {"hidden_size": HIDDEN, "num_attention_heads": H, "head_size": D, "inner_size": F, "vocab_size": 100}
RATES = {"dropout_rate": 0.0, "attention_dropout_rate": 0.0}
DROPPING = {"dropout_rate": 0.2, "attention_dropout_rate": 0.3, "inner_dropout": 0.4}
BLOCK = partial(TransformerXLBlock, **SIZES, **RATES)
STACK = partial(TransformerXL, **SIZES, **RATES, num_layers=LAYERS, initializer="glorot_uniform")
OPEN = (S, MEMORY, LONG_MEMORY, S + 1, S + S, MEMORY + S, MEMORY + S + 1, S + MEMORY + S)
NO_SLOPE = "no gradient passes through the returned memory, but the reference's memory has a slope"


def stream(rng, length=S):
    return rng.normal(size=(EXAMPLES, length, HIDDEN))


def encoding(rng, rows, examples=1):
    return {"relative_position_encoding": rng.normal(size=(examples, rows, ENCODING))}


def plain(rng):
    return {"content_stream": stream(rng)} | encoding(rng, S + S)


def causal(rng):
    return plain(rng) | encoding(rng, S + 1)


def with_memory(rng):
    memory = {f"memory_{i}": stream(rng, MEMORY) for i in range(LAYERS)}
    return plain(rng) | memory | encoding(rng, MEMORY + S + 1)


def segmented(rng):
    segments = {"segment_matrix": rng.random((EXAMPLES, S, MEMORY + S)) < 0.4}
    return with_memory(rng) | segments | {"segment_embedding": rng.normal(size=(LAYERS, 2, H, D))}


def masked(rng):
    mask = rng.random((EXAMPLES, S, S)) < 0.6
    mask[0, 1] = False  # one query may attend to nothing
    return plain(rng) | {"content_attention_mask": mask}


def two_streams(rng, remembered=0):
    orders = [permutation_masks(rng.permutation(S), remembered) for _ in range(EXAMPLES)]
    content, query = (np.stack(masks) for masks in zip(*orders))
    masks = {"content_attention_mask": content, "query_attention_mask": query}
    return plain(rng) | {"query_stream": stream(rng)} | masks


def targets(rng):
    positions = np.stack([rng.permutation(S)[:TARGETS] for _ in range(EXAMPLES)])
    return two_streams(rng) | {"query_stream": stream(rng, TARGETS), "target_mapping": np.eye(S)[positions]}


def everything(rng):
    masks = two_streams(rng, MEMORY)
    longer = segmented(rng) | encoding(rng, S + MEMORY + S, EXAMPLES)
    return targets(rng) | longer | {name: masks[name] for name in masks if "mask" in name}


def of_block(inputs):
    """The same inputs for a single block, with biases."""

    def drawn(rng):
        given = inputs(rng)
        given |= {f"{name}_attention_bias": rng.normal(size=(H, D)) for name in ("content", "positional")}
        if "segment_embedding" in given:
            given["segment_encoding"] = given.pop("segment_embedding")[0]
            given["segment_attention_bias"] = rng.normal(size=(H, D))
        if "memory_0" in given:
            given["state"] = given.pop("memory_0")
            del given["memory_1"]
        return given

    return drawn


def call(layer, **inputs):
    memories = [inputs.pop(f"memory_{i}") for i in range(LAYERS) if f"memory_{i}" in inputs]
    return layer(**inputs, state=memories or None)


NAMES = {
    "content_stream": "content",
    "relative_position_encoding": "encoding",
    "content_attention_mask": "content_mask",
    "query_stream": "query",
    "query_attention_mask": "query_mask",
    "state": "memory",
}


def reference(weights, memory_0=None, memory_1=None, memory_length=None, reuse_length=None, activation=relu, **inputs):
    state = None if memory_0 is None else (memory_0, memory_1)
    given = {NAMES.get(name, name): value for name, value in inputs.items()}
    lengths = {"memory_length": memory_length, "reuse_length": reuse_length}
    output = transformer_xl(weights=weights, state=state, activation=activation, **given, **lengths)
    return output.content if output.query is None else output.query, list(output.memories) if memory_length else []


def block_reference(weights, activation, epsilon, **inputs):
    bias = {name: inputs.pop(f"{name}_attention_bias", None) for name in ("content", "positional", "segment")}
    segments = inputs.pop("segment_encoding", None), inputs.pop("segment_matrix", None)
    terms = Terms(bias["content"], bias["positional"], None, bias["segment"], *segments)
    given = {"encoding": None} | {NAMES.get(name, name): value for name, value in inputs.items()}
    content, query = transformer_xl_block(weights=weights, terms=terms, activation=activation, epsilon=epsilon, **given)
    return {"content_attention": content, "query_attention": query}


def block(variant, inputs, activation=relu, epsilon=1e-12, **options):
    layer, name = partial(BLOCK, norm_epsilon=epsilon, **options), f"transformer_xl/block-{variant}"
    compare = partial(block_reference, activation=activation, epsilon=epsilon)
    return Case(name, layer, of_block(inputs), XLBlockWeights, compare, unknown=OPEN, batch=EXAMPLES)


def stack(variant, inputs, memory_length=None, reuse_length=None, activation=relu, **options):
    lengths = {"memory_length": memory_length, "reuse_length": reuse_length}
    compare = partial(reference, activation=activation, **lengths)
    skips = {"gradient": NO_SLOPE} if memory_length else {}
    layer, name = partial(STACK, **lengths, **options), f"transformer_xl/{variant}"
    # With an unknown length, it is not known whether there are as many tokens as the memory keeps.
    unknown = OPEN if memory_length is None else (*OPEN, memory_length)
    return Case(name, layer, inputs, XLWeights, compare, call, unknown=unknown, batch=EXAMPLES, skips=skips)


def lengths(rng, t=S, s=None, memories=0):
    """What has the length of queries, of keys if it is another, and of the memory of each of a number of blocks."""
    given = {"query": stream(rng, t)} | ({} if s is None else {"value": stream(rng, s)})
    return given | {f"memory_{i}": stream(rng, MEMORY) for i in range(memories)}


def encoding_reference(weights, query, value=None, memory_0=None, memory_1=None, causal=False):
    s = (query if value is None else value).shape[1] + (0 if memory_0 is None else MEMORY)
    return relative_position_encoding(query.shape[1], s, ENCODING, causal)


def distances(variant, causal=False, **sizes):
    layer, compare = partial(RelativePositionEncoding, ENCODING, causal=causal), partial(encoding_reference, causal=causal)
    name, inputs = f"transformer_xl/encoding{variant}", partial(lengths, **sizes)
    t, s = sizes.get("t", S), sizes.get("s", sizes.get("t", S)) + MEMORY * (sizes.get("memories", 0) > 0)
    unknown = tuple({S, MEMORY, *(length for length in sizes.values() if length > LAYERS), s + 1 if causal else t + s} - {1})
    return Case(name, layer, inputs, NoWeights, compare, call, unknown=unknown, batch=EXAMPLES)


CHAPTER = Chapter(
    number=17,
    name="transformer_xl",
    title="Transformer-XL",
    part="Blocks",
    sentence="Text is processed in segments, and every layer keeps a memory of its inputs for earlier segments.",
    paper="Dai et al., 2019, §3; Yang et al., 2019, §2.3",
    link="https://arxiv.org/abs/1901.02860",
    classes=("TransformerXLBlock", "TransformerXL", "RelativePositionEncoding"),
    functions=("block_at", "transformer_xl_block", "remember", "transformer_xl", "by_segments"),
    cases=(
        block("plain", plain),
        block("causal", causal, gelu, 1e-3, inner_activation="gelu"),
        block("masked", masked, **DROPPING),
        block("memory", with_memory),
        block("segments", segmented),
        block("two-streams", two_streams, two_stream=True),
        block("two-streams-everything", everything, two_stream=True),
        stack("plain", plain),
        stack("masked", masked, **DROPPING),
        stack("memory-given", with_memory),
        stack("memory-kept", causal, memory_length=3),
        stack("memory-grows", with_memory, memory_length=LONG_MEMORY, tie_attention_biases=False),
        stack("memory-of-first-tokens", with_memory, memory_length=MEMORY, reuse_length=2),
        stack("segments", segmented),
        stack("untied-segments", segmented, tie_attention_biases=False),
        stack("two-streams", two_streams, two_stream=True),
        stack("two-streams-targets", targets, two_stream=True),
        stack("two-streams-everything", everything, two_stream=True, memory_length=MEMORY, tie_attention_biases=False),
        stack("gelu", causal, activation=gelu, inner_activation="gelu"),
        distances(""),
        distances("-causal", causal=True),
        distances("-memory", memories=LAYERS),
        distances("-causal-memory", causal=True, memories=LAYERS),
        distances("-more-queries-than-keys", t=7, s=3),
        distances("-one-query-late", t=1, s=300, memories=LAYERS),
    ),
)
