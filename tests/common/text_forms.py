"""What the text layers give for every form of input: {layer: {form: nested lists, or the error}}."""

import doctest
import json

import keras
import numpy as np
import tensorflow as tf

import layers
from crosscheck.models.sentencepiece import small

TEXTS = ["unable a", "", "a"]
FORMS = {
    "a tensor": lambda: tf.constant(TEXTS),
    "a variable": lambda: tf.Variable(TEXTS),
    "a list": lambda: TEXTS,
    "a tuple": lambda: tuple(TEXTS),
    "a list of bytes": lambda: [text.encode() for text in TEXTS],
    "a list of both": lambda: [TEXTS[0].encode(), *TEXTS[1:]],
    "a list of NumPy's": lambda: [np.str_(text) for text in TEXTS],
    "a list of tensors": lambda: [tf.constant(text) for text in TEXTS],
    "an array": lambda: np.array(TEXTS),
    "an array of bytes": lambda: np.array([text.encode() for text in TEXTS]),
    "an array of objects": lambda: np.array(TEXTS, object),
    "an array of strings of any length": lambda: np.array(TEXTS, np.dtypes.StringDType()),
}
EMPTY = {"no list": lambda: [], "no array": lambda: np.array([], object), "no tensor": lambda: tf.constant([], tf.string)}
WRONG = {
    "one text": lambda: "a",
    "a list of lists": lambda: [["a"], ["a"]],
    "lists of other lengths": lambda: [["a"], ["a", "unable"]],
    "a ragged tensor": lambda: tf.ragged.constant([["a"], ["a", "unable"]]),
    "a sparse tensor": lambda: tf.sparse.from_dense(tf.constant([["a", ""]])),
    "numbers": lambda: [1, 2],
    "a text and a number": lambda: ["a", 1],
    "a text and nothing": lambda: np.array(["a", None], object),
    "half a surrogate pair": lambda: ["a\ud800"],
    "nothing": lambda: None,
    "a symbol of numbers": lambda: keras.Input((), dtype="int32"),
}

ROWS, OTHER = [[7, 8], [], [9]], [[1], [2], []]
DENSE = [[7, 8], [9, 7]]
WORDS = [[[7], [8]], [[]], [[9]]]


def ragged(rows, **options):
    return tf.ragged.constant(rows, dtype="int32", **options)


ONE = {  # of the rows in `ROWS`
    "a ragged tensor": lambda: ragged(ROWS),
    "with row splits of 32 bits": lambda: ragged(ROWS, row_splits_dtype="int32"),
    "a list of one": lambda: [ragged(ROWS)],
    "a list of rows": lambda: ROWS,
    "a tuple of rows": lambda: tuple(tuple(row) for row in ROWS),
    "rows of NumPy's numbers": lambda: [[np.int64(x) for x in row] for row in ROWS],
    "an array of rows": lambda: np.array(ROWS, object),
    "words": lambda: ragged(WORDS),
    "words with row splits of 32 bits": lambda: ragged(WORDS, row_splits_dtype="int32"),
    "a list of words": lambda: [WORDS],
    "unsigned": lambda: tf.cast(ragged(ROWS), "uint8"),
}
FULL = {  # of the rows in `DENSE`
    "a tensor": lambda: tf.constant(DENSE),
    "a variable": lambda: tf.Variable(DENSE),
    "the backend's": lambda: keras.ops.convert_to_tensor(np.array(DENSE, "int32")),
    "an array": lambda: np.array(DENSE),
    "words": lambda: np.array(DENSE)[..., None],
    "a list": lambda: DENSE,
    "a list of one array": lambda: [np.array(DENSE)],
}
TWO = {  # of the rows in `ROWS` and `OTHER`
    "ragged tensors": lambda: [ragged(ROWS), ragged(OTHER)],
    "a tuple": lambda: (ragged(ROWS), ragged(OTHER)),
    "with row splits of 32 bits": lambda: [ragged(x, row_splits_dtype="int32") for x in (ROWS, OTHER)],
    "with row splits of both": lambda: [ragged(ROWS, row_splits_dtype="int32"), ragged(OTHER)],
    "lists": lambda: [ROWS, OTHER],
    "a list and a tensor": lambda: [ROWS, ragged(OTHER, row_splits_dtype="int32")],
}
UNFIT = {
    "no segments": lambda: [],
    "nothing": lambda: None,
    "one row": lambda: [7, 8],
    "an array of one row": lambda: np.array([7]),
    "arrays of one row": lambda: [np.array([7, 8]), np.array([9])],
    "a row and a token": lambda: [[7], 8],
    "a row and words": lambda: [[7], [[8]]],
    "floats": lambda: [[1.5]],
    "texts": lambda: [["a"]],
    "flags": lambda: [[True]],
    "numbers that are too large": lambda: [[2**70]],
    "a sparse tensor": lambda: tf.sparse.from_dense(tf.constant([[7, 8]])),
    "a dict": lambda: {"a": ragged(ROWS)},
    "other numbers of rows": lambda: [[[7]], [[1], [2]]],
}


def outcomes():
    tokenizers = {
        "BertTokenizer": layers.BertTokenizer(["[UNK]", "un", "##able", "a"], True),
        "SentencepieceTokenizer": layers.SentencepieceTokenizer(False, model_serialized_proto=small("unigram")),
    }
    pack = layers.BertPackInputs(8, 101, 102, 0)
    found = {}
    for name, layer in tokenizers.items():
        forms = FORMS | EMPTY | WRONG
        found[name] = {form: outcome(layer, make) for form, make in forms.items()}
        found[name]["tf.data"] = outcome(in_a_dataset(layer), FORMS["a tensor"])
        found[name]["unknown axes"] = outcome(in_a_dataset(layer, known=False), FORMS["a tensor"])
        found[name]["a symbol"] = outcome(layer, lambda: keras.Input((), dtype="string"))
    for name, forms in {"one": ONE, "full": FULL, "two": TWO, "unfit": UNFIT}.items():
        found[name] = {form: outcome(pack, make) for form, make in forms.items()}
        if name != "unfit":
            in_data = {form: make for form, make in forms.items() if form in ("a tensor", "with row splits of 32 bits")}
            found[name] |= {f"{form} in tf.data": outcome(in_a_dataset(pack), make) for form, make in in_data.items()}
    found["unfit"]["unknown axes"] = outcome(in_a_dataset(pack, known=False), FULL["a tensor"])
    found["a symbol"] = {"of ids": outcome(pack, lambda: keras.Input((None,), dtype="int32"))}
    return found


def outcome(layer, make):
    try:
        return as_lists(layer(make()))
    except ValueError as error:
        return f"ValueError: {error}"


def as_lists(output):
    if isinstance(output, dict):
        return {name: as_lists(x) for name, x in output.items()}
    if isinstance(output, keras.KerasTensor):
        return "symbolic"
    return output.to_list() if hasattr(output, "to_list") else np.asarray(output).tolist()


def in_a_dataset(layer, known=True):
    """A function that gives what the layer gives in a data pipeline, for all rows in one batch."""

    def run(inputs):
        def of_unknown_rank(x):
            return tf.numpy_function(lambda x: x, [x], x.dtype)

        batch = tf.data.Dataset.from_tensor_slices(inputs if not isinstance(inputs, list) else tuple(inputs)).batch(9)
        mapped = batch.map(lambda *x: layer((list(x) if len(x) > 1 else x[0]) if known else of_unknown_rank(*x)))
        return next(iter(mapped))

    return run


class Packing(keras.Model):
    """A model of one's own, which packs what it gets."""

    def __init__(self):
        super().__init__()
        self.pack = layers.BertPackInputs(6, 1, 2, 0)
        self.table = keras.layers.Embedding(9, 3)

    def call(self, ids):
        return keras.ops.mean(self.table(self.pack(ids)["input_word_ids"]), (1, 2))


def fitted():
    """Whether a model that packs can be trained, or why not."""
    model = Packing()
    model.compile("sgd", "mse")
    try:
        model.fit(np.array([[5, 6]]), np.array([1.0]), verbose=0)
    except ValueError as error:
        return str(error)
    return "fitted"


def failed_examples():
    """How many examples in the docstrings fail."""
    finder, runner = doctest.DocTestFinder(recurse=False), doctest.DocTestRunner()
    for kind in (layers.BertTokenizer, layers.BertPackInputs):
        for test in finder.find(kind, globs={"keras": keras, kind.__name__: kind}):
            runner.run(test)
    assert runner.tries > 3
    return runner.failures


if __name__ == "__main__":
    print(json.dumps({"outcomes": outcomes(), "fitted": fitted(), "failed examples": failed_examples()}))
