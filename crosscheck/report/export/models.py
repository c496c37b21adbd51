"""Whole models in each format: texts to classes, a decoder that goes on from its caches, an uncertain classifier's logits."""

import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import keras
import numpy as np
from keras import ops

import layers
from crosscheck.models.sentencepiece import small
from crosscheck.report.export.formats import (
    BY,
    JAX,
    LITE,
    LITE_OPEN,
    NO_TEXT,
    ONNX,
    ONNX_JAX,
    SAVED,
    attempt,
    jax_program,
    tflite,
    verdict,
)
from crosscheck.report.export.onnx_programs import onnx_from_jax, onnx_from_tensorflow
from crosscheck.tree import leaves, numbers

BATCH, LENGTH, SLOTS = 2, 4, 6
TEXTS = ("The play is great", "the song is not great", "The book is not dull, it's moving!", "")
VOCABULARY = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *"the is not great dull moving play song book ' , ! it s ##ing".split()]

SERVE = """
import sys
folder, *wanted = sys.argv[1:]
for name in ("keras", "tf_keras", "layers", "crosscheck"):
    if not (wanted and "keras" in name):  # tensorflow-text itself imports Keras
        sys.modules[name] = None  # not to be imported
import numpy, tensorflow
for name in wanted:
    __import__(name)
given = numpy.load(folder + "/given.npz")
serve = tensorflow.saved_model.load(folder + "/model").signatures["serving_default"]
found = serve(**{name: tensorflow.constant(given[name]) for name in given})
numpy.savez(folder + "/found.npz", **{name: x.numpy() for name, x in found.items()})
"""


@dataclass(frozen=True)
class Whole:
    """A model to export. Attributes:

    title: What the table calls it.
    make: Function of whether sizes are open that returns the model; its inputs; and what it should give, computed otherwise.
    has_text: Whether its inputs are texts.
    """

    title: str
    make: Callable
    has_text: bool = False


def classifier(tokenize):
    """Texts to logits of two classes."""
    special = tokenize.get_special_tokens_dict()
    pack = layers.BertPackInputs(8, special_tokens_dict=special)
    encoder = layers.BertEncoder(
        special["vocab_size"], 32, num_layers=1, num_attention_heads=2, inner_dim=64, max_sequence_length=8
    )
    head = layers.ClassificationHead(inner_dim=32, num_classes=2)
    texts = keras.Input((), dtype="string", name="texts")
    model = keras.Model({"texts": texts}, [head(encoder(pack(tokenize(texts)))["sequence_output"])])
    given = {"texts": ops.convert_to_tensor([text.encode() for text in TEXTS])}
    packed = pack(tokenize(list(TEXTS)))  # one layer after the other
    return model, given, {"logits": np.asarray(head(encoder(packed)["sequence_output"]))}


def with_bert_tokenizer(is_open):
    keras.utils.set_random_seed(0)
    tokenize = layers.BertTokenizer(VOCABULARY, lower_case=True)
    return classifier(tokenize)


def with_sentencepiece(is_open):
    keras.utils.set_random_seed(0)  # before the tokenizer, whose model TensorFlow would drop with its other caches
    return classifier(layers.SentencepieceTokenizer(True, model_serialized_proto=small("symbols")))


def decoder_step(is_open):
    """The last of some tokens, with the caches of those before it. What is expected is one causal pass over all."""
    keras.utils.set_random_seed(0)
    decoder = layers.TransformerDecoder(11, 16, num_layers=2, num_attention_heads=2, intermediate_size=32)
    tokens = np.random.default_rng(0).integers(11, size=(BATCH, LENGTH)).astype("int32")
    whole = decoder(tokens)[0]
    _, cache = decoder(tokens[:, :-1], cache=decoder.init_cache(BATCH, SLOTS), decode_loop_step=0)
    given = {"token": ops.convert_to_tensor(tokens[:, -1:]), "step": ops.full((BATCH,), LENGTH - 1, "int32")}
    given |= {f"{name}_{i}": part[name] for i, part in enumerate(cache) for name in ("key", "value")}

    symbols = {}
    for name, x in given.items():
        shape = (None, *[None if size == SLOTS else size for size in x.shape[1:]]) if is_open else tuple(x.shape)
        symbols[name] = keras.Input(batch_shape=shape, dtype=keras.backend.standardize_dtype(x.dtype), name=name)
    caches = [{name: symbols[f"{name}_{i}"] for name in ("key", "value")} for i in range(len(cache))]
    logits, after = decoder(symbols["token"], cache=caches, decode_loop_step=symbols["step"][0])
    model = keras.Model(symbols, list(leaves([logits, after]).values()))
    _, expected = decoder(tokens, cache=decoder.init_cache(BATCH, SLOTS), decode_loop_step=0)
    return model, given, numbers([whole[:, -1:], expected])


def uncertain_logits(is_open):
    """A Gaussian process without its covariance, whose Cholesky factor ONNX from TensorFlow lacks."""
    keras.utils.set_random_seed(0)
    layer = layers.RandomFeatureGaussianProcess(3, num_inducing=32, return_gp_cov=False)
    x = ops.convert_to_tensor(np.random.default_rng(0).normal(size=(BATCH, 5)).astype("float32"))
    inputs = keras.Input(batch_shape=(None if is_open else BATCH, 5), name="inputs")
    return keras.Model({"inputs": inputs}, layer(inputs)), {"inputs": x}, {"logits": np.asarray(layer(x)[0])}


MODELS = {
    "bert_texts": Whole(
        "texts → classes: `BertTokenizer`, `BertPackInputs`, `BertEncoder`, `ClassificationHead`", with_bert_tokenizer, True
    ),
    "sentencepiece_texts": Whole("the same with `SentencepieceTokenizer`", with_sentencepiece, True),
    "decoder_step": Whole("one token of `TransformerDecoder`, with caches", decoder_step),
    "uncertain_logits": Whole("`RandomFeatureGaussianProcess` with `return_gp_cov=False`", uncertain_logits),
}


def measured(backend, name):
    """(column, verdict) of a whole model."""
    whole = MODELS[name]
    if backend == "jax":
        measures = {JAX: from_jax, ONNX_JAX: onnx_of_jax}
    else:
        measures = {SAVED: served, LITE: partial(lite, is_open=False), LITE_OPEN: partial(lite, is_open=True), ONNX: onnx}
    for column in BY[backend]:
        yield column, NO_TEXT if whole.has_text and column != SAVED else attempt(measures[column], whole)


def served(whole):
    """Exported, and run by a new process: TensorFlow alone, or with its text operations, and no code of the layers."""
    model, given, expected = whole.make(True)
    with tempfile.TemporaryDirectory() as folder:
        model.export(f"{folder}/model", verbose=False)
        arrays = {name: np.array(ops.convert_to_numpy(x)) for name, x in given.items()}
        np.savez(f"{folder}/given.npz", **{n: x.astype("S") if x.dtype == object else x for n, x in arrays.items()})
        program = [sys.executable, "-I", "-W", "ignore", "-c", SERVE, folder, *(["tensorflow_text"] if whole.has_text else [])]
        ran = subprocess.run(program, cwd=folder, capture_output=True, text=True)
        if ran.returncode:
            raise RuntimeError((ran.stderr.strip().splitlines() or ["no word"])[-1])
        found = dict(np.load(Path(folder) / "found.npz"))
    places = sorted(found, key=lambda name: int(name.removeprefix("output_")))
    return verdict(dict(zip(expected, (found[place] for place in places))), expected)


def lite(whole, is_open):
    model, given, expected = whole.make(is_open)
    with tempfile.TemporaryDirectory() as folder:
        model.export(folder, verbose=False)
        return tflite(folder, given, expected)


def onnx(whole):
    model, given, expected = whole.make(True)
    model(given)  # as `model.export` asks
    with tempfile.TemporaryDirectory() as folder:
        return onnx_from_tensorflow(verdict, model, given, expected, f"{folder}/program.onnx")


def onnx_of_jax(whole):
    model, given, expected = whole.make(False)
    model(given)
    with tempfile.TemporaryDirectory() as folder:
        return onnx_from_jax(verdict, model, given, expected, f"{folder}/program.onnx")


def from_jax(whole):
    model, given, expected = whole.make(True)
    found = {}

    def call(**tensors):
        found.update(dict(zip(expected, leaves(model(tensors)).values())))
        return dict(found)

    return jax_program(model, call, given, BATCH)
