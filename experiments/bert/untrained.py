"""What MiniLM does as it is: in half precision, and as a way to find the sentence that follows."""

from functools import cache

import keras
import numpy as np

from crosscheck.weights import weights_of
from experiments.bert.texts import bags, encoder, in_parts, packed, shuffled, spoken_and_told, tensors
from experiments.common.reader import sentences_of
from layers.bert.sentence_embedding import SentenceEmbedding
from reference import bert as ref

# ---- Half precision ----------------------------------------------------------------------------------------------------------

DTYPES = ("float32", "float16", "bfloat16", "mixed_bfloat16", "bfloat16 weights")
"""The last has its weights rounded to bfloat16, and computes in float32. In the last but one it is the other way round."""

SENTENCES = 8
"""Sentences of a seed."""


@cache
def rounded(dtype):
    if dtype != "bfloat16 weights":
        return encoder(dtype)
    from crosscheck.models.bert_checkpoint import load_bert

    of = load_bert()
    for weight in of.weights:
        weight.assign(keras.ops.cast(keras.ops.cast(weight, "bfloat16"), weight.dtype))
    return of


@cache
def exact_weights():
    return weights_of(encoder(), ref.BertWeights)


@cache
def exact(seed):
    """Sentences in a padded batch, and what the reference makes of them in float64."""
    inputs = packed(sentences_of(seed, SENTENCES))
    ids, mask, types = inputs.values()
    return inputs, ref.bert_encoder(ids, mask, types, exact_weights())


def in_float64(x):
    return keras.ops.convert_to_numpy(keras.ops.cast(x, "float32")).astype("float64")


def relative(x, wanted):
    return np.linalg.norm(x - wanted, axis=-1) / np.linalg.norm(wanted, axis=-1)


def halve(arm, rate, seed):
    """Nothing is trained: how far each block's output is from the reference in float64, relative to its size, token by token.

    Returns:
        {"tokens": the mean over real tokens, for each block, "padding": over [PAD], "alone": of a block whose input is exact,
        "last": that of tokens after the last block, "mean": the error of a sentence's mean, "if independent": what it would be if
        the errors of a sentence's tokens had nothing to do with each other, "cosine": the least of exact and found embeddings}.
    """
    inputs, wanted = exact(seed)
    model, real = rounded(arm), inputs["input_mask"] == 1
    found = model(tensors(inputs))["encoder_outputs"]
    errors = np.array([relative(in_float64(z), exact_z) for z, exact_z in zip(found, wanted.blocks)])
    allowed = np.repeat(real[:, None], real.shape[1], axis=1)
    starts = (ref.embed_inputs(inputs["input_word_ids"], inputs["input_type_ids"], exact_weights()), *wanted.blocks)
    alone = [block([keras.ops.cast(z, block.compute_dtype), allowed])[0] for block, z in zip(model.transformer_blocks, starts)]
    alone = [relative(in_float64(z), exact_z)[real].mean() for z, exact_z in zip(alone, wanted.blocks)]

    last, n, weights = in_float64(found[-1]), real.sum(axis=1), real[..., None] / real.sum(axis=1)[:, None, None]
    means, exact_means = (weights * last).sum(axis=1), (weights * wanted.sequence).sum(axis=1)
    squares = (real * ((last - wanted.sequence) ** 2).sum(axis=-1)).sum(axis=1)
    independent = np.sqrt(squares) / n / np.linalg.norm(exact_means, axis=-1)
    cosines = (ref.sentence_embedding(last, real) * ref.sentence_embedding(wanted.sequence, real)).sum(axis=-1)
    return {
        "tokens": errors[:, real].mean(axis=1),
        "padding": errors[:, ~real].mean(axis=1),
        "alone": alone,
        "last": errors[-1, real].mean(),
        "mean": relative(means, exact_means).mean(),
        "if independent": independent.mean(),
        "cosine": cosines.min(),
    }


# ---- The sentence that follows ------------------------------------------------------------------------------------------------

SEARCHES = ("MiniLM, mean", "MiniLM, [CLS]", "TF-IDF", "counts", "MiniLM, layers shuffled")
PAIRS = 100
"""Pairs of a seed: the second sentence of one is looked for among the second sentences of all."""


def find_next(arm, rate, seed):
    """Nothing is trained: of a hundred sentences, which is the most similar to the one that stands before one of them?

    Returns:
        {"right": the share that is found first, "rank": the mean of 1 / rank}.
    """
    rows = spoken_and_told()[0][2 * PAIRS * seed : 2 * PAIRS * (seed + 1)]
    if "MiniLM" in arm:
        model, token = (shuffled(seed) if arm.endswith("shuffled") else encoder()), arm.endswith("[CLS]")
        inputs = packed(rows)
        z = in_parts(lambda part: model(part)["sequence_output"], inputs)
        mask = np.arange(z.shape[1]) < 1 if token else inputs["input_mask"]
        vectors = keras.ops.convert_to_numpy(SentenceEmbedding()(z, np.broadcast_to(mask, inputs["input_mask"].shape)))
    else:
        vectors = bags(rows, arm == "TF-IDF")
    similarity = vectors[::2] @ vectors[1::2].T
    above = (similarity >= np.diag(similarity)[:, None]).sum(axis=1)  # ties count against it
    return {"right": (above == 1).mean(), "rank": (1 / above).mean()}
