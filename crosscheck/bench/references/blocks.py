"""The same as `attention.py` for the blocks that contain attention, and for stacks of blocks."""

from functools import partial

import numpy as np

from reference import (
    attention,
    bert,
    gated_feedforward,
    mobile_bert,
    relative_attention,
    reuse_transformer,
    rezero_transformer,
    transformer_decoder,
    transformer_encoder,
    transformer_xl,
)
from reference.common.activations import gelu
from reference.common.normalization import RMSNorm
from reference.on_device_embedding import OnDeviceEmbeddingWeights
from reference.positional_embedding import PositionalEmbeddingWeights
from reference.transformer_decoder import decoder_only, generation


def of_transformer_encoder(draw):
    x, mask, call = draw.tokens(), draw.padding()[:, None], transformer_encoder.transformer_encoder_block
    yield "post-norm", partial(call, x, draw.encoder(), mask=mask)
    yield "post-norm-gelu", partial(call, x, draw.encoder(), gelu, mask=mask)
    yield "pre-norm-rms-grouped", partial(call, x, draw.encoder(draw.attention(shared=2), RMSNorm), norm_first=True, mask=mask)


def of_transformer_decoder(draw):
    attended, norm, *inner, last, _ = draw.encoder()
    weights = transformer_decoder.DecoderWeights(attended, norm, draw.attention(), draw.norm(), *inner, last)
    yield "post-norm", partial(transformer_decoder.transformer_decoder_block, draw.tokens(), draw.tokens(), weights)


def of_transformer_decoder__decoder_only(draw):
    yield "pre-norm", partial(decoder_only.transformer_decoder, draw.ids(), decoder_weights(draw))


def of_transformer_decoder__generation(draw):
    """A few tokens after a few: each of them reads the whole text again."""
    prompt, weights = draw.ids()[0, :8].tolist(), decoder_weights(draw)

    def logits_after(text):
        return decoder_only.transformer_decoder(np.array([text]), weights)[0][0, -1]

    call = partial(generation.generate, logits_after, prompt, 8, draw.rng.random(8))
    yield "sampled", partial(call, temperature=0.8, top_k=10, top_p=0.9)


def decoder_weights(draw):
    table = OnDeviceEmbeddingWeights(draw.array(draw.sizes.n, draw.sizes.m))
    positions = PositionalEmbeddingWeights(draw.array(draw.sizes.t, draw.sizes.m))
    blocks = tuple(draw.encoder() for _ in range(draw.sizes.depth))
    return decoder_only.DecoderOnlyWeights(table, blocks, positions, draw.norm())


def of_rezero_transformer(draw):
    attended, _, *inner, _, _ = draw.encoder()
    weights = rezero_transformer.ReZeroWeights(attended, *inner, np.array(0.5), np.array(0.3), draw.norm(), draw.norm())
    yield "norms", partial(rezero_transformer.rezero_transformer, draw.tokens(), weights, mask=draw.padding()[:, None])


def of_gated_feedforward(draw):
    intermediate, output = draw.feed_forward()
    gate, _ = draw.feed_forward()
    weights = gated_feedforward.GatedFeedforwardWeights((intermediate,), (gate,), (output,), (draw.norm(),))
    yield "gelu", partial(gated_feedforward.gated_feedforward, draw.tokens(), weights)


def of_reuse_transformer(draw):
    depth, h = range(draw.sizes.depth), draw.sizes.h
    reused = [reuse_transformer.reused_heads(h // 2, h, place) for place in depth]
    weights = [reuse_transformer.ReuseTransformerWeights(*draw.encoder(draw.reuse_attention(k))) for k in reused]
    yield "stack", partial(reuse_transformer.reuse_transformers, draw.tokens(), weights, draw.padding()[:, None])


def of_transformer_xl(draw):
    b, t, m, h, d, *_ = draw.sizes
    depth, memory, x = draw.sizes.depth, draw.sizes.memory, draw.tokens()
    blocks = tuple(transformer_xl.XLBlockWeights(*draw.encoder(draw.relative_attention())[:5]) for _ in range(depth))
    weights, state = transformer_xl.XLWeights(blocks, *draw.array(3, h, d)), tuple(draw.tokens(memory) for _ in range(depth))
    segments = draw.rng.random((b, t, t + memory)) < 0.5, draw.array(depth, 2, h, d)
    targets, masks = draw.targets(t // 4), relative_attention.permutation_masks(draw.rng.permutation(t), memory)
    encode, call = partial(relative_attention.relative_position_encoding, m=m), transformer_xl.transformer_xl
    causal = partial(encode, causal=True)
    content_mask, query_mask = (mask[None] for mask in masks)
    yield "memory", lambda: call(x, weights, causal(t, t + memory), state, memory, None)
    yield (
        "two-streams",
        lambda: call(
            x, weights, encode(t, t + memory), state, memory, t // 2, *segments, content_mask, x[:, : t // 4], query_mask, targets
        ),
    )
    yield "by-segments", partial(transformer_xl.by_segments, x, weights, causal, draw.sizes.block, memory)


def of_bert(draw):
    t, m = draw.sizes.t, draw.sizes.m
    tables = (
        OnDeviceEmbeddingWeights(draw.array(draw.sizes.n, m)),
        PositionalEmbeddingWeights(draw.array(t, m)),
        OnDeviceEmbeddingWeights(draw.array(2, m)),
        draw.norm(),
    )
    blocks = tuple(draw.encoder() for _ in range(draw.sizes.depth))
    weights = bert.BertWeights(*tables, blocks, draw.projection(m, m))
    yield "encoder", partial(bert.bert_encoder, draw.ids(), draw.padding(), draw.ids(below=2), weights)
    yield "sentence-embedding", partial(bert.sentence_embedding, draw.tokens(), draw.padding())


def of_mobile_bert(draw):
    _, t, m, h, d, *_ = draw.sizes
    thin, ids = m // 2, draw.ids()
    tables = (
        OnDeviceEmbeddingWeights(draw.array(draw.sizes.n, thin)),
        PositionalEmbeddingWeights(draw.array(t, m)),
        OnDeviceEmbeddingWeights(draw.array(2, m)),
    )
    weights = mobile_bert.MobileBertEmbeddingWeights(*tables, draw.projection(3 * thin, m), draw.norm())
    yield "embedding", partial(mobile_bert.mobile_bert_embedding, ids, weights, draw.ids(below=2), draw.padding())
    words, kernel = tables[0].embeddings[ids], weights.embedding_projection.kernel
    yield "convolution", lambda: mobile_bert.convolve(words, mobile_bert.as_convolution(kernel))

    asked, answered = (draw.projection(thin, (h, d)) for _ in range(2))
    heads = attention.AttentionWeights(asked, answered, draw.projection(m, (h, d)), draw.projection((h, d), thin))
    feed_forwards, norms = zip(*(draw.feed_forward(thin) for _ in range(4))), tuple(draw.norm(size=thin) for _ in range(4))
    block = mobile_bert.MobileBertWeights(
        *(draw.projection(m, thin), draw.norm(size=thin), draw.projection(m, thin), draw.norm(size=thin)),
        *(heads, draw.norm(size=thin), *feed_forwards, norms, draw.projection(thin, m), draw.norm()),
    )
    yield "block", partial(mobile_bert.mobile_bert_transformer, draw.tokens(), block, mask=draw.padding()[:, None])
