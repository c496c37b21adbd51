"""ClassificationHead beside reference/classification_head.py."""

from functools import partial

import numpy as np

from crosscheck.case import B, Case, M, T
from crosscheck.catalogue import Chapter
from crosscheck.models import minilm
from crosscheck.weights import draw_weights
from layers.classification_head import ClassificationHead
from reference.classification_head import ClassificationHeadWeights, classification_head
from reference.common.activations import ACTIVATIONS

F, C = 9, 4


def sequences(rng):
    return {"features": rng.normal(size=(B, T, M))}


def vectors(rng):
    return {"features": rng.normal(size=(B, M))}


def projected(rng):
    return sequences(rng) | {"only_project": True}


SENTENCES = ("the cat sat on the mat .", "paris is the capital of france .")


def real_sentences(rng):
    """Embeddings of two real sentences of equal length."""
    model = minilm.load()
    return {"features": np.concatenate([minilm.embed(model, minilm.wordpieces(model, words)) for words in SENTENCES])}


def give_real_pooler(layer, rng):
    draw_weights(layer, rng)
    model = minilm.load()
    m = model.config["hidden_size"]
    layer.pooler_dense.kernel.assign(minilm.tensor(model, "pooler.dense.weight", (m, m)).T)
    layer.pooler_dense.bias.assign(minilm.tensor(model, "pooler.dense.bias", (m,)))


def reference(weights, features, activation, cls_token_idx, only_project=False):
    logits, pooled = classification_head(features, weights, cls_token_idx, ACTIVATIONS[activation])
    return pooled if only_project else logits


def case(variant, inputs=sequences, activation="tanh", cls_token_idx=0, inner_dim=F, prepare=draw_weights, **options):
    return Case(
        f"classification_head/{variant}",
        partial(ClassificationHead, inner_dim, C, cls_token_idx, activation, **options),
        inputs,
        ClassificationHeadWeights,
        partial(reference, activation=activation, cls_token_idx=cls_token_idx),
        prepare=prepare,
        unknown=(T,),
    )


CHAPTER = Chapter(
    number=21,
    name="classification_head",
    title="Classification head",
    part="Heads",
    sentence="A classifier that represents a whole sequence by the vector of one token.",
    paper="Devlin et al., 2018, §4.1",
    link="https://arxiv.org/abs/1810.04805",
    classes=("ClassificationHead",),
    functions=("classify_one", "classification_head"),
    cases=(
        case("first-token"),
        case("second-token", cls_token_idx=1),
        case("last-token", cls_token_idx=-1),
        case("gelu", activation="gelu"),
        case("linear", activation="linear"),
        case("vectors", vectors),
        case("no-pooler", inner_dim=0, cls_token_idx=2),
        case("no-pooler-vectors", vectors, inner_dim=0),
        case("only-project", projected, cls_token_idx=1),
        case("only-project-no-pooler", projected, inner_dim=0),
        case("dropout", dropout_rate=0.5),
        case("minilm", real_sentences, inner_dim=384, prepare=give_real_pooler),
    ),
)
