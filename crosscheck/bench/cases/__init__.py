"""The mechanisms that `python -m crosscheck.bench` measures: {name: function of sizes and layers that makes the case}."""

from crosscheck.bench.case import Case, at_rest, below, normal, tokens, visible
from crosscheck.bench.cases import attention, blocks
from crosscheck.bench.floors import BOTH, LEFT, NEITHER, RIGHT, Product, linear

NO_PRODUCTS = []


def gaussian_process(size, layers):
    """Only the map of the logits has trainable weights; the features and their covariance have none."""
    rows, m, r = size.vectors, size.m, size.r
    layer = layers.RandomFeatureGaussianProcess(units=2 * size.c, num_inducing=r)
    at_rest(layer, normal(1, m))  # inverts the precision once for all later calls
    features, logits = linear(rows, m, r, NEITHER), linear(rows, r, 2 * size.c, RIGHT)
    covariance = [Product(1, r, r, rows, NEITHER), linear(rows, r, rows, NEITHER)]
    return Case(layer, (normal(rows, m),), [features, logits, *covariance], at_rest)


def bounded(rows, m, new_size):
    """A linear map of inputs, and the product of its kernel with a vector for the norm."""
    return [linear(rows, m, new_size, RIGHT), linear(1, m, new_size, RIGHT)]


def gaussian_process_head(size, layers):
    """A bounded pooler, then features, logits, and the diagonal of the covariance, which scales the logits."""
    rows, m, r = size.vectors, size.m, size.r
    layer = layers.GaussianProcessClassificationHead(inner_dim=m, num_classes=size.c, num_inducing=r, temperature=1.0)
    at_rest(layer, normal(1, 4, m))  # inverts the precision once for all later calls
    products = [*bounded(rows, m, m), linear(rows, m, r, LEFT), linear(rows, r, size.c), Product(1, r, r, rows, RIGHT)]
    return Case(layer, (normal(rows, 4, m),), products, at_rest)


def embedding(size, layers):
    layer = layers.OnDeviceEmbedding(vocab_size=size.n, embedding_width=size.m, scale_factor=size.m**0.5)
    return Case(layer, (below(size.n, size.b, size.t),), NO_PRODUCTS)


def positions(size, layers):
    return Case(layers.PositionalEmbedding(max_length=2 * size.t), (normal(size.b, size.t, size.m),), NO_PRODUCTS)


def relative_positions(size, layers):
    return Case(layers.RelativePositionEmbedding(hidden_size=size.m), (normal(size.b, size.t, size.m),), NO_PRODUCTS)


def relative_bias(size, layers):
    x = normal(size.b, size.t, size.m)
    return Case(layers.RelativePositionBias(num_heads=size.h), (x, x), NO_PRODUCTS)


def mask(size, layers):
    return Case(layers.SelfAttentionMask(), (normal(size.b, size.t, size.m), tokens(size.b, size.t)), NO_PRODUCTS)


def softmax(size, layers):
    layer = layers.MaskedSoftmax(mask_expansion_axes=[1])
    return Case(layer, (normal(size.b, size.h, size.t, size.t), visible(size.b, size.t)), NO_PRODUCTS)


def spectral(size, layers):
    rows = 8 * size.b
    layer = layers.SpectralNormalization(layers.Dense(size.f), iteration=2)
    return Case(layer, (normal(rows, size.m),), bounded(rows, size.m, size.f), at_rest)


def masked_lm(size, layers):
    """The requested tokens pass through a map and are then multiplied by the vector of each word."""
    rows, m, n = size.b * size.asked, size.m, size.n
    table = layers.Variable(0.02 * normal(n, m))
    layer = layers.MaskedLM(embedding_table=table, activation="gelu")
    inputs = normal(size.b, size.t, m), below(size.t, size.b, size.asked)
    return Case(layer, inputs, [linear(rows, m, m, RIGHT), linear(rows, m, n, BOTH)])


def classification(size, layers):
    """One token of each sequence."""
    layer = layers.ClassificationHead(inner_dim=size.m, num_classes=size.c)
    products = [linear(size.b, size.m, size.m, RIGHT), linear(size.b, size.m, size.c)]
    return Case(layer, (normal(size.b, size.t, size.m),), products)


CASES = {
    "MultiHeadAttention": attention.multi_head,
    "BigBirdAttention": attention.bigbird,
    "CachedAttention": attention.cached,
    "KernelAttention_elu": attention.kernel_elu,
    "KernelAttention_exp": attention.kernel_exp,
    "KernelAttention_causal_window": attention.kernel_causal_window,
    "MatMulWithMargin": attention.margin,
    "MultiChannelAttention": attention.multi_channel,
    "TalkingHeadsAttention": attention.talking_heads,
    "Transformer": blocks.transformer,
    "TransformerEncoderBlock": blocks.encoder,
    "TransformerDecoderBlock": blocks.decoder,
    "RandomFeatureGaussianProcess": gaussian_process,
    "GaussianProcessClassificationHead": gaussian_process_head,
    "ReuseMultiHeadAttention": attention.reuse,
    "ReuseTransformer": blocks.reuse,
    "ReZeroTransformer": blocks.rezero,
    "OnDeviceEmbedding": embedding,
    "PositionalEmbedding": positions,
    "RelativePositionEmbedding": relative_positions,
    "RelativePositionBias": relative_bias,
    "SelfAttentionMask": mask,
    "SpectralNormalization": spectral,
    "MaskedSoftmax": softmax,
    "MaskedLM": masked_lm,
    "ClassificationHead": classification,
    "GatedFeedforward": blocks.gated,
    "MultiHeadRelativeAttention": attention.relative,
    "TwoStreamRelativeAttention": attention.two_stream,
    "TransformerXLBlock": blocks.xl_block,
    "TransformerXL": blocks.xl,
    "MobileBertEmbedding": blocks.mobile_bert_embedding,
    "MobileBertTransformer": blocks.mobile_bert,
}
