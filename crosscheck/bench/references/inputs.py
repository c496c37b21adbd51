"""Random inputs and weights for the references, of any size and without a layer."""

import math
from typing import NamedTuple

import numpy as np

from reference.attention import AttentionWeights
from reference.common.normalization import LayerNorm
from reference.common.projection import Projection
from reference.gaussian_process import GaussianProcessWeights, add_batch, draw_random_features, random_features
from reference.relative_attention import RelativeAttentionWeights
from reference.reuse_attention import ReuseAttentionWeights
from reference.transformer_encoder import EncoderWeights


class BatchSizes(NamedTuple):
    """Sizes under the legend's letters, and those without a letter."""

    b: int = 2
    t: int = 512
    m: int = 256
    h: int = 8
    d: int = 32
    f: int = 1024
    n: int = 1000
    r: int = 256  # of kernel attention
    a: int = 3
    c: int = 10
    features: int = 1024  # of a Gaussian process
    memory: int = 512
    block: int = 64  # also the size of a chunk and of a segment
    depth: int = 2
    characters: int = 4000


class Draw:
    """The arguments of references in float64. The variance of weights is one over their fan-in, to keep the scale of outputs."""

    def __init__(self, sizes, seed=0):
        self.sizes, self.rng = sizes, np.random.default_rng(seed)

    def array(self, *shape):
        return self.rng.normal(size=shape)

    def tokens(self, length=None):
        return self.array(self.sizes.b, self.sizes.t if length is None else length, self.sizes.m)

    def ids(self, below=None):
        return self.rng.integers(below or self.sizes.n, size=(self.sizes.b, self.sizes.t))

    def padding(self):
        """True at tokens; the last quarter of the last row is padding."""
        mask = np.ones((self.sizes.b, self.sizes.t), bool)
        mask[-1, -(self.sizes.t // 4) :] = False
        return mask

    def targets(self, count):
        """A one-hot row for each of `count` positions of every sequence."""
        places = [self.rng.permutation(self.sizes.t)[:count] for _ in range(self.sizes.b)]
        return np.eye(self.sizes.t)[places]

    def kernel(self, inputs, outputs):
        return self.array(*inputs, *outputs) / math.sqrt(math.prod(inputs))

    def projection(self, inputs, outputs):
        inputs, outputs = ((axes,) if isinstance(axes, int) else axes for axes in (inputs, outputs))
        return Projection(self.kernel(inputs, outputs), self.array(*outputs))

    def norm(self, kind=LayerNorm, size=None):
        size = size or self.sizes.m
        return kind(*(self.array(size) for _ in kind._fields))

    def attention(self, shared=1):
        """Weights whose keys and values have one head for every `shared` heads of the queries."""
        _, _, m, h, d, *_ = self.sizes
        into = self.projection(m, (h, d)), *(self.projection(m, (h // shared, d)) for _ in range(2))
        return AttentionWeights(*into, self.projection((h, d), m))

    def relative_attention(self):
        return RelativeAttentionWeights(*self.attention(), Projection(self.attention().key.kernel))

    def reuse_attention(self, reused):
        """Weights with `reused` reused heads; the others are new."""
        _, t, m, h, d, *_ = self.sizes
        new = h - reused
        to_new = [self.projection(m, (new, d)) for _ in range(3)]
        to_reused, out_of_reused = (self.projection(m, (reused, d)), self.projection((reused, d), m)) if reused else (None, None)
        query, key, value = to_new
        out = self.projection((new, d), m)
        out = out._replace(bias=None) if reused else out
        return ReuseAttentionWeights(query, key, to_reused, value, out_of_reused, out, self.array(new, 2 * t - 1))

    def feed_forward(self, m=None):
        m = m or self.sizes.m
        return self.projection(m, self.sizes.f), self.projection(self.sizes.f, m)

    def encoder(self, attention=None, kind=LayerNorm):
        return EncoderWeights(attention or self.attention(), self.norm(kind), *self.feed_forward(), self.norm(kind))

    def gaussian_process(self, examples):
        """Weights whose precision has seen `examples`."""
        features = draw_random_features(self.rng, examples.shape[1], self.sizes.features)
        scale = float(examples.shape[1])
        phi = random_features(examples, features, scale)
        precision = add_batch(np.eye(self.sizes.features), phi, np.ones(len(examples)))
        output, bias = self.projection(self.sizes.features, self.sizes.c)
        return GaussianProcessWeights(features, Projection(output), bias, np.array(math.log(scale)), precision)
