"""The blocks that `python -m crosscheck.bench` measures: attention with a feed-forward network, and similar blocks."""

import numpy as np

from crosscheck.bench.case import Case, below, normal, visible, weights
from crosscheck.bench.cases.attention import encodings, reused
from crosscheck.bench.floors import BOTH, RIGHT, attention, feed_forward, linear, mixing, relative_attention


def as_list(layer, *inputs):
    return layer(list(inputs))


def first_of_list(layer, *inputs):
    return layer(list(inputs))[0]


def network(size):
    return feed_forward(size.b * size.t, size.m, size.f)


def sequences(size):
    return normal(size.b, size.t, size.m), visible(size.b, size.t)


def transformer(size, layers):
    layer = layers.Transformer(num_attention_heads=size.h, intermediate_size=size.f, intermediate_activation="relu")
    return Case(layer, sequences(size), attention(size) + network(size), as_list)


def encoder(size, layers):
    """If the norm comes first, the input of the projections depends on weights."""
    layer = layers.TransformerEncoderBlock(num_attention_heads=size.h, inner_dim=size.f, inner_activation="gelu", norm_first=True)
    return Case(layer, sequences(size), attention(size, sides=BOTH, memory_sides=BOTH) + network(size), as_list)


def decoder(size, layers):
    """Self-attention, then attention to a memory, which is an input."""
    layer = layers.TransformerDecoderBlock(num_attention_heads=size.h, intermediate_size=size.f, intermediate_activation="relu")
    x, mask = sequences(size)
    products = attention(size) + attention(size, sides=BOTH) + network(size)
    return Case(layer, (x, normal(*x.shape, seed=1), mask, np.tril(np.ones_like(mask))), products, first_of_list)


def reuse(size, layers):
    half = size.h // 2
    layer = layers.ReuseTransformer(num_attention_heads=size.h, inner_dim=size.f, inner_activation="relu", reuse_attention=half)
    inputs = *sequences(size), weights(size.b, size.h, size.t, size.t)
    return Case(layer, inputs, reused(size) + network(size), first_of_list)


def rezero(size, layers):
    layer = layers.ReZeroTransformer(num_attention_heads=size.h, inner_dim=size.f, inner_activation="relu")
    return Case(layer, sequences(size), attention(size) + network(size), as_list)


def gated(size, layers):
    """Two maps to the inner size, one back."""
    layer = layers.GatedFeedforward(inner_dim=size.f, inner_activation="gelu")
    rows = size.b * size.t
    products = [*[linear(rows, size.m, size.f, RIGHT)] * 2, linear(rows, size.f, size.m)]
    return Case(layer, (normal(size.b, size.t, size.m),), products)


def xl_arguments(size):
    sizes = {"vocab_size": 100, "hidden_size": size.m, "num_attention_heads": size.h, "head_size": size.d, "inner_size": size.f}
    return sizes | {"dropout_rate": 0.0, "attention_dropout_rate": 0.0}


def xl_block(size, layers):
    layer = layers.TransformerXLBlock(**xl_arguments(size))
    x, state = normal(size.b, size.t, size.m), normal(size.b, size.t, size.m, seed=1)

    def call(layer, x, state, encoding, u, v):
        encoding = layers.per_example(encoding, x)
        return layer(x, u, v, relative_position_encoding=encoding, state=state)["content_attention"]

    return Case(layer, (x, state, *encodings(size, size.t)), relative_attention(size, size.t) + network(size), call)


def xl(size, layers):
    """Two blocks without a memory; the input of the second depends on weights."""
    memory = {"memory_length": size.t, "reuse_length": size.t}
    layer = layers.TransformerXL(num_layers=2, initializer="glorot_uniform", **xl_arguments(size), **memory)
    products = relative_attention(size) + network(size) + relative_attention(size, sides=BOTH) + network(size)
    inputs = normal(size.b, size.t, size.m), encodings(size, 0)[0]
    return Case(layer, inputs, products, lambda layer, x, encoding: layer(x, layers.per_example(encoding, x))[0])


def mobile_bert_embedding(size, layers):
    """The vectors of three adjacent tokens, from a table of weights, are mapped together."""
    word, dropout = size.m // 4, {"dropout_rate": 0.0}
    layer = layers.MobileBertEmbedding(size.n, word, type_vocab_size=2, output_embed_size=size.m, **dropout)
    return Case(layer, (below(size.n, size.b, size.t), below(2, size.b, size.t)), [linear(size.b * size.t, 3 * word, size.m)])


def mobile_bert(size, layers):
    """Queries and keys come from a bottleneck, values from the input; four feed-forward networks inside."""
    rows, m, inside, heads = size.b * size.t, size.m, size.m // 4, size.b * size.h
    dropout = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    layer = layers.MobileBertTransformer(m, size.h, intermediate_size=m, intra_bottleneck_size=inside, **dropout)
    bottleneck_or_value, inner = linear(rows, m, inside, RIGHT), linear(rows, inside, inside)
    products = [
        *[bottleneck_or_value] * 3,
        *[inner] * 2,
        *mixing(heads, size.t, size.t, inside // size.h),
        inner,
        *feed_forward(rows, inside, m, networks=4),
        linear(rows, inside, m),
    ]
    return Case(layer, sequences(size), products)
