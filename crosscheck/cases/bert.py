"""BertEncoder and SentenceEmbedding beside reference/bert.py, with small random weights and with those of a real model."""

from functools import partial

import numpy as np

from crosscheck.case import B, Case, M, T
from crosscheck.cases.self_attention_mask import NoWeights
from crosscheck.catalogue import Chapter
from crosscheck.models import minilm
from crosscheck.models.bert_checkpoint import settings, take_weights
from layers.bert import BertEncoder
from layers.bert.sentence_embedding import SentenceEmbedding
from reference.bert import BertWeights, bert_encoder, sentence_embedding
from reference.common.activations import ACTIVATIONS

N, F, LAYERS = 17, 9, 2
SMALL = partial(
    BertEncoder, N, 12, LAYERS, 4, max_sequence_length=T + 2, type_vocab_size=2, inner_dim=F, initializer="glorot_uniform"
)
LARGE = "22 million weights; the small cases cover this"


def packed(rng):
    mask = np.arange(T) < np.array([[T], [T - 1]])
    return {
        "input_word_ids": rng.integers(0, N, (B, T)).astype("int32"),
        "input_mask": mask.astype("int32"),
        "input_type_ids": rng.integers(0, 2, (B, T)).astype("int32"),
    }


def nothing_but_padding(rng):
    inputs = packed(rng)
    inputs["input_mask"][0] = 0
    return inputs


def call_with_dict(layer, **inputs):
    return layer(inputs)


def reference(weights, input_word_ids, input_mask, input_type_ids, activation="gelu", scores=False):
    output = bert_encoder(input_word_ids, input_mask, input_type_ids, weights, ACTIVATIONS[activation])
    found = {"sequence_output": output.sequence, "encoder_outputs": list(output.blocks)}
    if output.pooled is not None:
        found["pooled_output"] = output.pooled
    return found | ({"attention_scores": list(output.attention)} if scores else {})


def case(variant, inputs=packed, activation="gelu", scores=False, **options):
    return Case(
        f"bert/{variant}",
        partial(SMALL, inner_activation=activation, return_attention_scores=scores, **options),
        inputs,
        BertWeights,
        partial(reference, activation=activation, scores=scores),
        call=call_with_dict,
        unknown=(T,),
    )


def real_encoder(**options):
    """With zeros, because `prepare` replaces every weight, and to draw 22 million takes half a second."""
    return BertEncoder(**settings(minilm.load()), return_attention_scores=True, initializer="zeros", **options)


def real_sentences(rng):
    model = minilm.load()
    pieces = [minilm.wordpieces(model, text) for text in ("the cat sat on the mat.", "transformers read every word at once")]
    longest = max(map(len, pieces))
    mask = np.arange(longest) < np.array([[len(row)] for row in pieces])
    ids = np.zeros(mask.shape, "int32")
    ids[mask] = [model.vocabulary[piece] for row in pieces for piece in row]
    return {"input_word_ids": ids, "input_mask": mask.astype("int32"), "input_type_ids": np.zeros_like(ids)}


def token_vectors(rng):
    return {"inputs": rng.normal(size=(B, T, M)), "input_mask": np.array([[2, 1, 0], [0, 0, 0]], "int32")}


def mean(weights, inputs, input_mask):
    return sentence_embedding(inputs, input_mask)


CHAPTER = Chapter(
    number=29,
    name="bert",
    title="BERT, whole",
    part="Text",
    sentence="From a sentence to a vector for its meaning, with the weights of a real model.",
    paper="Devlin et al., 2018, §3; Reimers and Gurevych, 2019",
    link="https://arxiv.org/abs/1810.04805",
    classes=("BertEncoder",),
    functions=("bert_one", "embed_inputs", "bert_encoder", "sentence_embedding"),
    cases=(
        case("plain"),
        case("scores", scores=True),
        case("no-pooler", use_pooler=False),
        case("relu", activation="relu"),
        case("padding-alone", nothing_but_padding),
        case("dropout", output_dropout=0.3, attention_dropout=0.3),
        Case("bert/sentence-embedding", SentenceEmbedding, token_vectors, NoWeights, mean, unknown=(T,)),
        Case(
            "bert/minilm",
            real_encoder,
            real_sentences,
            BertWeights,
            partial(reference, scores=True),
            call=call_with_dict,
            prepare=lambda layer, rng: take_weights(layer, minilm.load()),
            dtypes=("float64", "float32"),  # the half-precision limits are for one block; this model has six
            skips={"gradient": LARGE, "save": LARGE},
            large=True,
        ),
    ),
)
