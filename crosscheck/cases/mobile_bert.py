"""MobileBertEmbedding and MobileBertTransformer beside reference/mobile_bert.py."""

from functools import partial

from crosscheck.case import B, Case, H, M, S, T
from crosscheck.catalogue import Chapter
from layers.mobile_bert import MobileBertEmbedding, MobileBertTransformer
from reference.common.activations import gelu, relu, silu
from reference.common.normalization import layer_norm, no_norm
from reference.mobile_bert import MobileBertEmbeddingWeights, MobileBertWeights, mobile_bert_embedding, mobile_bert_transformer

N, WORD, INSIDE, F = 17, 6, 8, 9
NORMS = {"no_norm": no_norm, "layer_norm": layer_norm}


def ids(rng):
    return {"input_ids": rng.integers(0, N, (B, S)).astype("int32")}


def typed(rng):
    return ids(rng) | {"token_type_ids": rng.integers(0, 2, (B, S)).astype("int32")}


def padded(rng):
    given = typed(rng)
    given["input_ids"][0, 1], given["input_ids"][1, 0] = N, -1  # outside the vocabulary
    return given | {"input_mask": (rng.permuted([[2, 1, 1, 1, 0], [1, 1, 3, 0, 0]], axis=1)).astype("int32")}


def tokens(rng):
    return {"input_tensor": rng.normal(size=(B, T, M))}


def masked(rng):
    mask = rng.random((B, T, T)) < 0.6
    mask[0, 1] = False  # one query that may attend to nothing
    return tokens(rng) | {"attention_mask": mask}


def masked_per_head(rng):
    return tokens(rng) | {"attention_mask": rng.random((B, H, T, T)) < 0.6}


def embedding_reference(weights, input_ids, token_type_ids=None, input_mask=None, norm="no_norm"):
    mask = None if input_mask is None else input_mask != 0
    return mobile_bert_embedding(input_ids, weights, token_type_ids, mask, NORMS[norm])


def reference(weights, input_tensor, attention_mask=None, scores=False, norm="no_norm", activation=relu, **options):
    output, attention = mobile_bert_transformer(input_tensor, weights, activation, NORMS[norm], attention_mask, **options)
    return (output, attention) if scores else output


def embedding(variant, inputs, norm="no_norm", dropout_rate=0.1):
    return Case(
        f"mobile_bert/embedding-{variant}",
        partial(MobileBertEmbedding, N, WORD, 2, M, S + 2, norm, dropout_rate=dropout_rate),
        inputs,
        MobileBertEmbeddingWeights,
        partial(embedding_reference, norm=norm),
        unknown=(S,),
    )


def call_with_scores(layer, **inputs):
    return layer(**inputs, return_attention_scores=True)


def block(variant, inputs, norm="no_norm", activation=("relu", relu), feed_forwards=4, scores=False, **options):
    layer = partial(MobileBertTransformer, M, H, F, activation[0], intra_bottleneck_size=INSIDE, normalization_type=norm)
    return Case(
        f"mobile_bert/block-{variant}",
        partial(layer, num_feedforward_networks=feed_forwards, **options),
        inputs,
        MobileBertWeights,
        partial(reference, scores=scores, norm=norm, activation=activation[1], **options),
        **({"call": call_with_scores} if scores else {}),
        unknown=(T,),
    )


CHAPTER = Chapter(
    number=18,
    name="mobile_bert",
    title="MobileBERT",
    part="Blocks",
    sentence="A block with a narrow inside, and four small feed-forward networks in place of a large one.",
    paper="Sun et al., 2020, §3",
    link="https://arxiv.org/abs/2004.02984",
    classes=("MobileBertEmbedding", "MobileBertTransformer"),
    functions=(
        *("trigram_one", "trigram", "as_convolution", "convolve", "mobile_bert_embedding"),
        *("mobile_bert_one", "mobile_bert_transformer"),
    ),
    cases=(
        embedding("plain", ids),
        embedding("types", typed),
        embedding("padded", padded),
        embedding("layer-norm", typed, "layer_norm"),
        embedding("layer-norm-padded", padded, "layer_norm", dropout_rate=0.0),
        block("plain", tokens),
        block("masked", masked),
        block("masked-per-head-scores", masked_per_head, scores=True),
        block("layer-norm", masked, "layer_norm", scores=True),
        block("teacher", masked, "layer_norm", ("gelu", gelu), feed_forwards=1),
        block("one-feed-forward", masked, feed_forwards=1),
        block("from-bottleneck", masked, use_bottleneck_attention=True),
        block("from-bottleneck-not-shared", tokens, use_bottleneck_attention=True, key_query_shared_bottleneck=False),
        block("not-shared", masked, key_query_shared_bottleneck=False, scores=True),
        block("not-shared-layer-norm", tokens, "layer_norm", key_query_shared_bottleneck=False),
        block("from-bottleneck-layer-norm", tokens, "layer_norm", ("swish", silu), use_bottleneck_attention=True),
    ),
)
