"""TransformerDecoderBlock and TransformerDecoder beside reference/transformer_decoder/."""

from functools import partial

import numpy as np

from crosscheck.case import B, Case, D, H, S, T
from crosscheck.case import M as MEMORY
from crosscheck.catalogue import Chapter
from layers.transformer_decoder import TransformerDecoderBlock
from layers.transformer_decoder.decoder_only import TransformerDecoder
from reference.cached_attention import Cache
from reference.common.activations import gelu, gelu_tanh, silu
from reference.transformer_decoder import DecoderWeights, decoder_only, transformer_decoder_block

M, F, A = H * D, 9, 6
BEFORE, SLOTS, STEP = 10, 8, 4
OPEN = (T, S, BEFORE, BEFORE + T, SLOTS)
BLOCK = partial(TransformerDecoderBlock, H, F, "relu")
PRE = partial(BLOCK, norm_first=True)
VOCABULARY, LAYERS = 17, 2
CACHED = [f"{part}_{i}" for part in ("key", "value") for i in range(LAYERS)]
MODEL = partial(TransformerDecoder, VOCABULARY, M, LAYERS, H, F)


def plain(rng):
    return {"x": rng.normal(size=(B, T, M)), "memory": rng.normal(size=(B, S, MEMORY))}


def cross_masked(rng):
    mask = rng.random((B, T, S)) < 0.6
    mask[0, 1] = False  # one query may attend to nothing
    return plain(rng) | {"cross_mask": mask}


def masked(rng):
    return cross_masked(rng) | {"self_mask": rng.random((B, T, T)) < 0.7}


def masked_per_head(rng):
    masks = {"cross_mask": rng.random((B, H, T, S)) < 0.6, "self_mask": rng.random((B, H, T, T)) < 0.7}
    return plain(rng) | masks


def cached(rng, length=BEFORE):
    keys = {"cached_key": rng.normal(size=(B, length, H, D)), "cached_value": rng.normal(size=(B, length, H, D))}
    mask = rng.random((B, 1, length if length == SLOTS else length + T)) < 0.8
    return cross_masked(rng) | {"self_mask": mask} | keys


def written(rng):
    return cached(rng, SLOTS) | {"decode_loop_step": np.array(STEP, "int32")}


def biased(rng):
    return written(rng) | {"attention_bias": rng.normal(size=(1, H, T, SLOTS))}


def channels(rng):
    return {
        "x": rng.normal(size=(B, T, M)),
        "memory": rng.normal(size=(B, A, S, MEMORY)),
        "cross_mask": rng.random((B, A, T, S)) < 0.7,
        "self_mask": rng.random((B, T, T)) < 0.7,
        "input_doc_probs": rng.random((B, H, T, A)),
    }


def channels_written(rng):
    new, then = channels(rng), written(rng)
    return new | {name: then[name] for name in ("self_mask", "cached_key", "cached_value", "decode_loop_step")}


def call(layer, x, memory, cached_key=None, cached_value=None, decode_loop_step=None, attention_bias=None, **masks):
    cache = None if cached_key is None else {"key": cached_key, "value": cached_value}
    masks = [masks[name] for name in ("cross_mask", "self_mask", "input_doc_probs") if name in masks]
    return layer([x, memory, *masks], cache=cache, decode_loop_step=decode_loop_step, attention_bias=attention_bias)


def reference(
    weights,
    x,
    memory,
    cross_mask=None,
    self_mask=None,
    input_doc_probs=None,
    cached_key=None,
    cached_value=None,
    decode_loop_step=None,
    attention_bias=None,
    **options,
):
    cache = None if cached_key is None else Cache(cached_key, cached_value)
    step = None if decode_loop_step is None else int(decode_loop_step)
    masks = {"cross_mask": cross_mask, "self_mask": self_mask, "channel_weights": input_doc_probs, "self_bias": attention_bias}
    decoded = transformer_decoder_block(x, memory, weights, cache=cache, step=step, **masks, **options)
    return decoded.output, decoded.cache._asdict()


def case(variant, inputs, layer=BLOCK, **options):
    name = f"transformer_decoder/{variant}"
    return Case(name, layer, inputs, DecoderWeights, partial(reference, **options), call, unknown=OPEN)


def ids(rng):
    return {"inputs": rng.integers(0, VOCABULARY, size=(B, T)).astype("int32")}


def ids_masked(rng):
    return ids(rng) | {"attention_mask": rng.random((B, T, T)) < 0.7}


def ids_cached(rng, length=BEFORE):
    """New tokens, one of them outside the vocabulary, and a cache of `length` slots for each block."""
    new = ids(rng)
    new["inputs"][1, 1] = VOCABULARY
    mask = rng.random((B, 1, length if length == SLOTS else length + T)) < 0.8
    return new | {"attention_mask": mask} | {name: rng.normal(size=(B, length, H, D)) for name in CACHED}


def ids_written(rng):
    return ids_cached(rng, SLOTS) | {"decode_loop_step": STEP}


def ids_written_by_tensor(rng):
    return ids_cached(rng, SLOTS) | {"decode_loop_step": np.array(STEP, "int32")}


def call_model(layer, inputs, attention_mask=None, decode_loop_step=None, **cached):
    cache = [{part: cached[f"{part}_{i}"] for part in ("key", "value")} for i in range(LAYERS)] if cached else None
    return layer(inputs, attention_mask=attention_mask, cache=cache, decode_loop_step=decode_loop_step)


def reference_of_model(weights, inputs, options, attention_mask=None, decode_loop_step=None, **cached):
    caches = [Cache(cached[f"key_{i}"], cached[f"value_{i}"]) for i in range(LAYERS)] if cached else None
    step = None if decode_loop_step is None else int(decode_loop_step)
    call = decoder_only.transformer_decoder
    logits, caches = call(inputs, weights, mask=attention_mask, caches=caches, step=step, **options)
    return logits, [cache._asdict() for cache in caches]


def model_case(variant, inputs, layer=MODEL, **options):
    name = f"transformer_decoder/{variant}"
    like, reference = decoder_only.DecoderOnlyWeights, partial(reference_of_model, options=options)
    return Case(name, layer, inputs, like, reference, call_model, unknown=OPEN)


CHAPTER = Chapter(
    number=13,
    name="transformer_decoder",
    title="Transformer decoder block",
    part="Blocks",
    sentence="Text is generated by attention to the tokens so far and to a memory, such as the input's encoding.",
    paper="Vaswani et al., 2017, §3.1",
    link="https://arxiv.org/abs/1706.03762",
    classes=("TransformerDecoderBlock", "TransformerDecoder"),
    functions=("decode_one", "transformer_decoder_block"),
    cases=(
        case("post-norm", plain),
        case("post-norm-cross-masked", cross_masked),
        case("post-norm-masked", masked),
        case("post-norm-appended", cached),
        case("post-norm-written", written),
        case("post-norm-written-bias", biased),
        case("pre-norm", plain, PRE, norm_first=True),
        case("pre-norm-masked-per-head", masked_per_head, PRE, norm_first=True),
        case("pre-norm-written", written, PRE, norm_first=True),
        case("channels", channels, partial(BLOCK, multi_channel_cross_attention=True)),
        case(
            "channels-pre-norm-written",
            channels_written,
            partial(PRE, multi_channel_cross_attention=True),
            norm_first=True,
        ),
        case("no-bias", masked, partial(TransformerDecoderBlock, H, F, "gelu_tanh", use_bias=False), activation=gelu_tanh),
        case("gelu", masked, partial(TransformerDecoderBlock, H, F, "gelu", norm_epsilon=1e-3), activation=gelu, epsilon=1e-3),
        case(
            "dropout-inactive",
            masked,
            partial(
                TransformerDecoderBlock,
                *(1, F, "swish"),
                dropout_rate=0.5,
                attention_dropout_rate=0.5,
                intermediate_dropout=0.5,
            ),
            activation=silu,
        ),
        model_case("model", ids),
        model_case("model-masked", ids_masked, partial(MODEL, use_bias=False)),
        model_case("model-appended", ids_cached),
        model_case("model-written", ids_written, partial(MODEL, max_length=SLOTS)),
        model_case("model-written-by-tensor", ids_written_by_tensor, partial(MODEL, max_length=SLOTS + 1)),
        model_case(
            "model-post-norm",
            ids_written_by_tensor,
            partial(MODEL, intermediate_activation="gelu", max_length=SLOTS, norm_first=False, norm_epsilon=1e-3),
            activation=gelu,
            norm_first=False,
            epsilon=1e-3,
        ),
    ),
)
