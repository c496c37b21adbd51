"""The kinds of attention that `python -m crosscheck.bench` measures, one function of sizes and layers each."""

from crosscheck.bench.case import Case, normal, tokens, visible, weights
from crosscheck.bench.floors import LEFT, NEITHER, RIGHT, Product, attention, linear, mixing, relative_attention

FEATURES, CHUNK, WINDOW = 64, 4, 3  # of kernel attention


def masked(layer, x, mask):
    return layer(x, x, attention_mask=mask)


def multi_head(size, layers):
    layer = layers.MultiHeadAttention(num_heads=size.h, key_dim=size.d)
    return Case(layer, (normal(size.b, size.t, size.m), visible(size.b, size.t)), attention(size), masked)


def bigbird(size, layers):
    """The first and last rows of blocks see all blocks. The others count as seven blocks, although rows 1 and 14 see six."""
    size, w = size._replace(b=2, t=16 * size.block), size.block
    blocks = {"from_block_size": w, "to_block_size": w, "max_rand_mask_length": size.t}
    layer = layers.BigBirdAttention(num_heads=size.h, key_dim=size.d, num_rand_blocks=2, seed=0, **blocks)
    masks = layers.BigBirdMasks(block_size=w)
    inner, edges = mixing(size.b * size.h * 14, w, (5 + 2) * w, size.d), mixing(size.b * size.h, 2 * w, size.t, size.d)
    *projections, _, _, output = attention(size)
    products = [*projections, *inner, *edges, output]
    inputs = normal(size.b, size.t, size.m), tokens(size.b, size.t)
    return Case(layer, inputs, products, lambda layer, x, mask: layer(x, x, attention_mask=masks(x, mask)))


def cached(size, layers):
    """One token in the middle of a cache. The gradient for the cache and the new cache are not computed."""
    b, t, h, d = size.b, size.t, size.h, size.d
    layer = layers.CachedAttention(num_heads=h, key_dim=d)
    projections, output = [linear(b, size.m, h * d, RIGHT)] * 3, linear(b, h * d, size.m)
    products = [*projections, *mixing(b * h, 1, t + 1, d, sides=LEFT), output]

    def call(layer, x, key, value):
        return layer(x, x, cache={"key": key, "value": value}, decode_loop_step=t)[0]

    return Case(layer, (normal(b, 1, size.m), normal(b, 2 * t, h, d, seed=1), normal(b, 2 * t, h, d, seed=2)), products, call)


def kernel(size, layers, products, feature_transform, **arguments):
    """Kernel attention, where `products` are those between the projections and the output."""
    layer = layers.KernelAttention(feature_transform, num_heads=size.h, key_dim=size.d, **arguments)
    *projections, _, _, output = attention(size)
    mask = tokens(size.b, size.t).astype("float32")  # a float mask, because the Model Garden's layer multiplies by it
    return Case(layer, (normal(size.b, size.t, size.m), mask), [*projections, *products, output], masked)


def sums(size, r):
    """Features of keys times values, then features of queries times these sums. A denominator is a sum, not a product."""
    heads = size.b * size.h
    return [Product(heads, r, size.t, size.d), Product(heads, size.t, r, size.d)]


def kernel_elu(size, layers):
    size = size._replace(b=2, t=size.long)
    return kernel(size, layers, sums(size, size.d), "elu", num_random_features=0)


def kernel_exp(size, layers):
    """Before the sums, queries and keys are multiplied by random rows, which are not trained."""
    size = size._replace(b=2, t=size.long)
    rows = [linear(size.b * size.h * size.t, size.d, FEATURES, LEFT)] * 2
    return kernel(size, layers, [*rows, *sums(size, FEATURES)], "exp", num_random_features=FEATURES)


def kernel_causal_window(size, layers):
    """For a window this short, a score for each pair takes fewer operations than sums of features."""
    size = size._replace(b=2, t=size.long)
    pairs = mixing(size.b * size.h * size.t // CHUNK, CHUNK, WINDOW * CHUNK, size.d)
    window = {"use_causal_windowed": True, "causal_chunk_length": CHUNK, "causal_window_length": WINDOW}
    return kernel(size, layers, pairs, "elu", num_random_features=0, **window)


def margin(size, layers):
    layer = layers.MatMulWithMargin(logit_scale=10.0, logit_margin=0.3)
    inputs = normal(size.pairs, size.m), normal(size.pairs, size.m, seed=1)
    return Case(layer, inputs, [linear(size.pairs, size.m, size.pairs, NEITHER)])


def multi_channel(size, layers):
    """The channels' keys are one sequence."""
    b, a, t, m = size.b, size.a, size.t, size.m
    layer = layers.MultiChannelAttention(num_heads=size.h, key_dim=size.d)
    inputs = normal(b, t, m), normal(b, a, t, m, seed=1), weights(b, size.h, t, a)
    return Case(layer, inputs, attention(size, s=a * t), lambda layer, x, y, w: layer(x, y, context_attention_weights=w))


def talking_heads(size, layers):
    """Heads are mixed before and after the softmax."""
    layer = layers.TalkingHeadsAttention(num_heads=size.h, key_dim=size.d)
    products = [*attention(size), *[Product(size.b, size.h, size.h, size.t**2)] * 2]
    return Case(layer, (normal(size.b, size.t, size.m), visible(size.b, size.t)), products, masked)


def reuse(size, layers):
    """Half of the heads reuse given scores; only the others have queries and keys."""
    half = size.h // 2
    layer = layers.ReuseMultiHeadAttention(num_heads=size.h, key_dim=size.d, reuse_attention=half)
    inputs = normal(size.b, size.t, size.m), visible(size.b, size.t), weights(size.b, size.h, size.t, size.t)
    return Case(
        layer,
        inputs,
        reused(size),
        lambda layer, x, mask, scores: layer(x, x, attention_mask=mask, reuse_attention_scores=scores),
    )


def reused(size):
    """The products of attention that has all values but only half of the scores."""
    half, heads, tokens = size.h // 2, size.b * size.h // 2, size.b * size.t
    given, own = Product(heads, size.t, size.t, size.d, RIGHT), mixing(heads, size.t, size.t, size.d)
    query_or_key, value = linear(tokens, size.m, half * size.d, RIGHT), linear(tokens, size.m, size.h * size.d, RIGHT)
    return [query_or_key, query_or_key, value, given, *own, linear(tokens, size.h * size.d, size.m)]


def encodings(size, memory):
    """An encoding of each distance, and the two biases of attention."""
    return normal(1, 2 * size.t + memory, size.m, seed=2), normal(size.h, size.d, seed=3), normal(size.h, size.d, seed=4)


def relative(size, layers):
    layer = layers.MultiHeadRelativeAttention(num_heads=size.h, key_dim=size.d)
    x, state = normal(size.b, size.t, size.m), normal(size.b, size.t, size.m, seed=1)

    def call(layer, x, state, encoding, u, v):
        return layer(x, x, u, v, relative_position_encoding=layers.per_example(encoding, x), state=state)

    return Case(layer, (x, state, *encodings(size, size.t)), relative_attention(size, memory=size.t), call)


def two_stream(size, layers):
    layer = layers.TwoStreamRelativeAttention(num_heads=size.h, key_dim=size.d)
    x, query, state = (normal(size.b, size.t, size.m, seed=seed) for seed in (0, 9, 1))

    def call(layer, x, query, state, encoding, u, v):
        encoding = layers.per_example(encoding, x)
        return layer(x, u, v, query_stream=query, relative_position_encoding=encoding, state=state)

    return Case(layer, (x, query, state, *encodings(size, size.t)), relative_attention(size, size.t, streams=2), call)
