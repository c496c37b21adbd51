r"""BERT: embeddings, a stack of encoder blocks, and one vector for a sentence: that of its first token, or the mean of all.

Paper
    Devlin et al. (2018), "BERT: Pre-training of Deep Bidirectional Transformers for Language Understanding", section 3.
    https://arxiv.org/abs/1810.04805
    Reimers and Gurevych (2019), "Sentence-BERT: Sentence Embeddings using Siamese BERT-Networks", section 3, for the mean.
    https://arxiv.org/abs/1908.10084

Equations
    (1)  x_t = LN(Word[token_t] + Position[t] + Type[segment_t])
    (2)  z^0 = x,   z^{i+1} = Block_i(z^i),   post-norm blocks with GELU; no token attends to padding
    (3)  pooled = tanh(W z_0 + b),   z the output of the last block
    (4)  mean = Σ_t mask_t z_t / Σ_t mask_t,   embedding = mean / ‖mean‖

Axes
    b batch    t position    s key position    h head    m model    f feed-forward    n vocabulary

Differs from the paper
    - (3) is in BERT's code. The paper uses the first token's vector itself.
    - A sentence that consists of padding only has mean 0 and embedding 0.

Layer: layers/bert/    Notebook: notebooks/bert.ipynb
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int, Shaped
from numpy import ndarray as Array

from reference.common.activations import gelu
from reference.common.normalization import LayerNorm, layer_norm
from reference.common.projection import Projection, dense
from reference.on_device_embedding import OnDeviceEmbeddingWeights, embed
from reference.positional_embedding import PositionalEmbeddingWeights
from reference.self_attention_mask import self_attention_mask
from reference.transformer_encoder import EncoderWeights, encode_one, transformer_encoder_block


class BertWeights(NamedTuple):
    """Named as in the layer."""

    word_embeddings: OnDeviceEmbeddingWeights
    position_embedding: PositionalEmbeddingWeights
    type_embeddings: OnDeviceEmbeddingWeights
    embeddings_layer_norm: LayerNorm
    transformer: tuple[EncoderWeights, ...]
    pooler: Projection | None = None


class BertOutput(NamedTuple):
    """The last z, the pooled vector (None without a pooler), and the output and attention weights of every block."""

    sequence: Float[Array, "b t m"]
    pooled: Float[Array, "b m"] | None
    blocks: tuple[Float[Array, "b t m"], ...]
    attention: tuple[Float[Array, "b h t s"], ...]


def bert_one(
    tokens: Int[Array, " t"],
    segments: Int[Array, " t"],
    weights: BertWeights,
    activation: Callable = gelu,
    epsilon: float = 1e-12,
) -> Float[Array, "t m"]:
    """Equations (1) and (2) for one sentence without padding, token by token: the definition everything else must match."""
    word, position, kind = weights.word_embeddings, weights.position_embedding, weights.type_embeddings
    rows = [word.embeddings[i] + position.embeddings[t] + kind.embeddings[j] for t, (i, j) in enumerate(zip(tokens, segments))]
    z = layer_norm(np.stack(rows), weights.embeddings_layer_norm, epsilon)
    for block in weights.transformer:
        z = np.stack([encode_one(z, t, block, activation, epsilon) for t in range(len(z))])
    return z


def embed_inputs(
    tokens: Int[Array, "b t"], segments: Int[Array, "b t"], weights: BertWeights, epsilon: float = 1e-12
) -> Float[Array, "b t m"]:
    """Equation (1)."""
    words, kinds = embed(tokens, weights.word_embeddings.embeddings), embed(segments, weights.type_embeddings.embeddings)
    places = weights.position_embedding.embeddings[: tokens.shape[1]]
    return layer_norm(words + places + kinds, weights.embeddings_layer_norm, epsilon)


def bert_encoder(
    tokens: Int[Array, "b t"],
    mask: Shaped[Array, "b t"],
    segments: Int[Array, "b t"],
    weights: BertWeights,
    activation: Callable = gelu,
    epsilon: float = 1e-12,
) -> BertOutput:
    """Equations (1) to (3) for a batch of packed sentences.

    Args:
        tokens: Ids of word pieces; one outside the vocabulary has a row of zeros.
        mask: Not zero where there is a token, 0 where there is padding.
        segments: 0 in the first segment, 1 in the second.
        weights: Nested as the layer nests them.
        activation: Of the feed-forward networks.
        epsilon: Of the norms.
    """
    z, blocks, attention = embed_inputs(tokens, segments, weights, epsilon), [], []
    allowed = self_attention_mask(tokens.shape[1], mask)
    for block in weights.transformer:
        z, scores = transformer_encoder_block(z, block, activation, mask=allowed, epsilon=epsilon)
        blocks.append(z)
        attention.append(scores)
    pooled = None if weights.pooler is None else np.tanh(dense(z[:, 0], weights.pooler))
    return BertOutput(z, pooled, tuple(blocks), tuple(attention))


def sentence_embedding(sequence: Float[Array, "b t m"], mask: Shaped[Array, "b t"]) -> Float[Array, "b m"]:
    """Equation (4)."""
    present = (mask != 0).astype(sequence.dtype)
    mean = np.einsum("btm,bt->bm", sequence, present) / np.maximum(present.sum(axis=1, keepdims=True), 1)
    length = np.sqrt((mean**2).sum(axis=1, keepdims=True))
    return mean / np.where(length == 0, 1, length)
