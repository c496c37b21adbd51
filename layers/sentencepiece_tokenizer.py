"""SentencePiece tokenization as a layer of TensorFlow operations (Keras 3)."""

import keras

from layers.common.checks import check_flags, check_number
from layers.common.text import TextLayer, check_strings, import_tensorflow_text, read_file

try:
    import tensorflow as tf
except ImportError:  # without TensorFlow, such as with JAX on a TPU, the other layers still work
    tf = None

SPECIAL_TOKENS = {"start_of_sequence_id": "[CLS]", "end_of_segment_id": "[SEP]", "padding_id": "<pad>", "mask_id": "[MASK]"}


@keras.saving.register_keras_serializable(package="layers")
class SentencepieceTokenizer(TextLayer):
    """Tokenizes raw text into the ids of a SentencePiece model's pieces.

    Computes equation (2) of `reference/sentencepiece_tokenizer/`, or the merges of a byte-pair model, with the operation of
    tensorflow-text. It runs eagerly, in `tf.data`, and on TensorFlow in a model, which XLA cannot compile then. On JAX a model
    holds no strings: call the layer in `tf.data` or before the model. The layer's configuration contains the SentencePiece
    model, so a saved layer loads without the model file.

    Axes: `b` batch.

    Args:
        lower_case: Whether to convert the text to lower case first, with TensorFlow's tables, which follow Unicode 13. Prefer a
            model whose own normalization does this (a rule whose name ends in `_cf`).
        model_file_path: Path of a `.model` file, or its address, such as `gs://…`. It is read once, in the constructor.
        model_serialized_proto: The bytes of such a file, or a str of these in hexadecimal, as in a configuration. Exactly one
            of the two model arguments is required. Afterwards, the attribute `model_file_path` is None and
            `model_serialized_proto` holds the bytes.
        tokenize_with_offsets: Whether to return the positions of the pieces in `inputs` too, in bytes. This attribute, and the
            two flags for the text, may be set later; the other arguments may not.
        nbest_size: With 0 or 1, the best segmentation is returned. With 2 to 512, it is sampled from that many best ones; below
            0, from all, or for a byte-pair model by skipping merges. Sampling has no seed, so it is not reproducible.
        alpha: Exponent of the probabilities from which a segmentation is sampled, at least 0; for a byte-pair model, the
            probability of skipping a merge. Has no effect if `nbest_size` is 0 or 1.
        strip_diacritics: Whether to remove combining marks (Mn) first and recompose the rest (NFC).

    Call arguments:
        inputs: UTF-8 strings of shape `(b,)`: a tensor, an array or a list. Invalid bytes are read as U+FFFD.

    Returns:
        Ragged int32 ids of shape `(b, pieces)`. With `tokenize_with_offsets`, a tuple of the ids, the byte at which each piece
        starts, and the byte after its end, both ragged int64 of the same shape. A text without pieces gives an empty row.

    Raises:
        ImportError: if tensorflow-text is not installed.
        OSError: if the file cannot be read; FileNotFoundError if there is none.
        AttributeError: if an argument that cannot be changed is set after construction.
        ValueError: if both or neither of the model arguments are given, the bytes are not a SentencePiece model, a flag is not
            a bool, `nbest_size` is not an integer of at most 512, `alpha` is not a finite number of at least 0, offsets are
            combined with `strip_diacritics`, the inputs are not strings with 1 axis, or they are symbolic on JAX.

    Example:

    >>> from crosscheck.models.sentencepiece import train
    >>> layer = SentencepieceTokenizer(lower_case=False, model_serialized_proto=train())
    >>> layer(["the license", ""]).shape
    TensorShape([2, None])

    Differs from the Model Garden:
        The layer has a configuration, so Keras can save and copy it. `lower_case` converts to lower case; there, it is NFKC case
        folding, which turns ß into ss. Offsets then still refer to `inputs`; there, to the folded text. After `strip_diacritics`,
        the text is recomposed; otherwise a model without normalization rules would read a Korean syllable as three unknown
        letters. `vocab_size` is an integer, not a tensor.

    Reference:
        [Kudo & Richardson, 2018](https://arxiv.org/abs/1808.06226), section 3; [Kudo, 2018](https://arxiv.org/abs/1804.10959),
        for the sampling.
    """

    fixed = ("model_file_path", "model_serialized_proto", "nbest_size", "alpha")

    def __init__(
        self,
        lower_case,
        model_file_path=None,
        model_serialized_proto=None,
        tokenize_with_offsets=False,
        nbest_size=0,
        alpha=1.0,
        strip_diacritics=False,
        **kwargs,
    ):
        super().__init__(**kwargs)
        if not isinstance(nbest_size, int) or isinstance(nbest_size, bool) or nbest_size > 512:
            raise ValueError(f"nbest_size must be an integer of at most 512. Received: nbest_size={nbest_size!r}")
        check_number("a finite number of at least 0", lambda number: number >= 0, alpha=alpha)
        self.lower_case = lower_case
        self.tokenize_with_offsets = tokenize_with_offsets
        self.strip_diacritics = strip_diacritics
        self.check_flags()
        self.model_file_path = None
        self.model_serialized_proto = read_model(model_file_path, model_serialized_proto)
        self.nbest_size = nbest_size
        self.alpha = alpha
        self.text = import_tensorflow_text("SentencepieceTokenizer", "reference.sentencepiece_tokenizer.encode")
        self.tokenizer = self.make_tokenizer()

    def make_tokenizer(self):
        try:
            with tf.init_scope():
                tokenizer = self.text.SentencepieceTokenizer(self.model_serialized_proto, tf.int32, self.nbest_size, self.alpha)
                self.vocab_size = int(tokenizer.vocab_size())
        except tf.errors.OpError as error:
            size = len(self.model_serialized_proto)
            raise ValueError(f"model_serialized_proto must be a SentencePiece model. Received: {size} bytes") from error
        return tokenizer

    def check_flags(self):
        """Raise a ValueError if the flags, which may be set at any time, are invalid."""
        names = ("lower_case", "tokenize_with_offsets", "strip_diacritics")
        check_flags(**{name: getattr(self, name) for name in names})
        if self.tokenize_with_offsets and self.strip_diacritics:
            raise ValueError(
                "tokenize_with_offsets must be False with strip_diacritics, because offsets would refer to the stripped text. "
                "Received: tokenize_with_offsets=True, strip_diacritics=True"
            )

    def call(self, inputs):
        self.check_flags()
        check_strings(inputs)
        prepared = self.prepare(inputs)
        if not self.tokenize_with_offsets:
            return self.tokenizer.tokenize(prepared)
        ids, starts, limits = self.tokenizer.tokenize_with_offsets(prepared)
        if self.lower_case:
            starts, limits = places_before_lower_case(inputs, starts, limits)
        return ids, starts, limits

    def prepare(self, inputs):
        if self.strip_diacritics:
            bare = tf.strings.regex_replace(self.text.normalize_utf8(inputs, "NFD"), r"\p{Mn}", "")
            inputs = self.text.normalize_utf8(bare, "NFC")
        return lower(inputs) if self.lower_case else inputs

    def get_special_tokens_dict(self):
        """The ids of special tokens, as `BertPackInputs` takes them, and the vocabulary size.

        Keys: "vocab_size", "start_of_sequence_id" ([CLS]), "end_of_segment_id" ([SEP]), "padding_id" (<pad>) and "mask_id"
        ([MASK]). Tokens that the model lacks are omitted.
        """
        with tf.init_scope():
            ids = self.tokenizer.string_to_id(list(SPECIAL_TOKENS.values()))
            pieces = self.tokenizer.id_to_string(ids)
        found = zip(SPECIAL_TOKENS, SPECIAL_TOKENS.values(), ids.numpy(), pieces.numpy())
        return {"vocab_size": self.vocab_size} | {name: int(i) for name, token, i, piece in found if piece == token.encode()}

    def compute_output_spec(self, inputs):
        self.check_flags()
        check_strings(inputs)
        ids, *places = (keras.KerasTensor((*inputs.shape, None), dtype, ragged=True) for dtype in ("int32", "int64", "int64"))
        return (ids, *places) if self.tokenize_with_offsets else ids

    def get_config(self):
        return super().get_config() | {
            "lower_case": self.lower_case,
            "model_file_path": None,
            "model_serialized_proto": self.model_serialized_proto.hex(),
            "tokenize_with_offsets": self.tokenize_with_offsets,
            "nbest_size": self.nbest_size,
            "alpha": self.alpha,
            "strip_diacritics": self.strip_diacritics,
        }


def lower(text):
    """Convert to lower case, separately between zero bytes: TensorFlow's operation drops all text after a zero byte."""
    parts = tf.strings.split(text, "\0")
    lowered = tf.strings.lower(parts.values, encoding="utf-8") + tf.constant(b"\0")
    return tf.strings.regex_replace(tf.strings.reduce_join(parts.with_values(lowered), axis=1), r"\x00\z", "")


def places_before_lower_case(inputs, starts, limits):
    """Convert byte offsets in the lower-case text to offsets in `inputs`; lengths may differ (K is three bytes, k is one).

    An offset inside a lower-case character becomes the start of the original character.
    """
    characters, begins = tf.strings.unicode_split_with_offsets(inputs, "UTF-8")
    sizes = characters.with_values(tf.strings.length(lower(characters.values)))
    end = tf.strings.length(inputs)[:, None]
    begins, sizes = tf.concat([begins, tf.cast(end, tf.int64)], axis=1), tf.concat([sizes, tf.ones_like(end)], axis=1)
    sources = tf.repeat(begins.flat_values, sizes.flat_values)
    firsts = tf.cumsum(tf.cast(tf.reduce_sum(sizes, axis=1), tf.int64), exclusive=True)

    def before(places):
        row = tf.gather(firsts, places.value_rowids())
        return places.with_values(tf.gather(sources, row + tf.cast(places.values, tf.int64)))

    return before(starts), before(limits)


def read_model(path, proto):
    if (path is None) == (proto is None):
        given = "both" if proto is not None else "neither"
        raise ValueError(f"exactly one of model_file_path and model_serialized_proto must be given. Received: {given}")
    if path is not None:
        return read_file("model_file_path", path)
    if not isinstance(proto, (bytes, str)):
        raise ValueError(f"model_serialized_proto must be bytes or a str of hexadecimal digits. Received: {type(proto).__name__}")
    try:
        return bytes.fromhex(proto) if isinstance(proto, str) else proto
    except ValueError as error:
        raise ValueError(f"model_serialized_proto must be hexadecimal digits if it is a str. Received: {proto[:20]!r}") from error
