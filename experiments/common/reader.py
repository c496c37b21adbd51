"""A trained model that reads a novel: MiniLM, its sentences, and what goes on in its layers."""

from functools import cache

import numpy as np

from crosscheck.models import minilm
from experiments.common import novel
from reference.attention import multi_head_attention
from reference.common.activations import gelu
from reference.common.normalization import LayerNorm, layer_norm
from reference.common.projection import Projection, dense, into_heads

LAYERS, HEADS = 6, 12


@cache
def sentences():
    """All sentences of the novel of 61 to 139 characters, as pieces with [CLS] and [SEP]."""
    texts = (text.replace("\n", " ").strip() for text in novel.TEXT.split("."))
    return [minilm.wordpieces(minilm.load(), text) for text in texts if 60 < len(text) < 140]


def sentences_of(seed, count):
    """Sentences that no other seed has."""
    return sentences()[count * seed : count * (seed + 1)]


@cache
def weights_of_attention(layer):
    return minilm.attention_weights(minilm.load(), layer)


def part(name, kind):
    """A norm or a map of MiniLM, in float64."""
    tensors = minilm.load().tensors
    kernel, bias = (tensors[f"encoder.layer.{name}.{which}"].astype("float64") for which in ("weight", "bias"))
    return kind(kernel.T, bias)


@cache
def rest_of(layer):
    """What follows the attention of a layer: its norm, two maps, and the last norm."""
    places = ("attention.output.LayerNorm", "intermediate.dense", "output.dense", "output.LayerNorm")
    return [part(f"{layer}.{place}", LayerNorm if "Norm" in place else Projection) for place in places]


def after_attention(layer, x, y):
    """The output of a layer, from its input and that of its attention."""
    return through(x, y, *rest_of(layer))


def through(x, y, norm, wide, narrow, last_norm):
    """The same with the parts of `rest_of`, which may be of another dtype."""
    x = layer_norm(x + y, norm)
    return layer_norm(x + dense(gelu(dense(x, wide)), narrow), last_norm)


def read(pieces):
    """For each layer its input `(1, t, m)` and its attention weights `(h, t, s)`."""
    x, inputs, maps = minilm.embed(minilm.load(), pieces), [], []
    for layer in range(LAYERS):
        inputs.append(x)
        y, attention = multi_head_attention(x, x, weights_of_attention(layer))
        maps.append(attention[0])
        x = after_attention(layer, x, y)
    return inputs, maps


def scores(x, layer=0):
    """The scores `(h, t, s)` of a layer for its input `(1, t, m)`."""
    q, k = (into_heads(x, projection)[0] for projection in weights_of_attention(layer)[:2])
    return np.einsum("thd,shd->hts", q, k) / np.sqrt(q.shape[-1])


def give_weights(layer, weights):
    """Set the variables of one of our attention layers, which is built."""
    for name, projection in weights._asdict().items():
        dense_layer = getattr(layer, "output_dense" if name == "attention_output" else f"{name}_dense")
        dense_layer.kernel.assign(projection.kernel)
        dense_layer.bias.assign(projection.bias)
    return layer
