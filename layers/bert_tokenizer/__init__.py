"""BERT's tokenizer, from strings to ids, as TensorFlow graph operations (Keras 3)."""

from collections import Counter

import keras

from layers.bert_tokenizer.code_points import code_points
from layers.common.checks import check_at_least, check_flags
from layers.common.text import TextLayer, check_strings, import_tensorflow_text, read_file

UNKNOWN = "[UNK]"
SPECIAL = {"start_of_sequence_id": "[CLS]", "end_of_segment_id": "[SEP]", "padding_id": "[PAD]", "mask_id": "[MASK]"}


@keras.saving.register_keras_serializable(package="layers")
class BertTokenizer(TextLayer):
    """Splits strings into words, and words into pieces of a vocabulary, as BERT does.

    Computes rules (1) to (6) of `reference/bert_tokenizer/` as graph operations: it runs eagerly, in `tf.data`, and on TensorFlow
    in a model, which XLA cannot compile then. On JAX a model holds no strings: call the layer in `tf.data` or before the model.
    It is saved and loaded without the vocabulary file. Characters that are newer than the Unicode version of Python's
    `unicodedata` remain unchanged.

    Axes: `b` batch; the axes of words and pieces are ragged.

    Args:
        vocab_file: Path of a UTF-8 text file with one piece per line, or its address, such as `gs://…`; or a list of the pieces.
            The id of a piece is its index, from 0. A byte order mark in front of the first piece is dropped.
        lower_case: Whether to convert text to lower case and strip accents, as for BERT's uncased models.
        tokenize_with_offsets: Whether to return the positions of the pieces in the text too. This attribute may be set later; the
            other arguments may not.
        max_input_chars_per_word: Longer words become [UNK]. The default, 200, is that of BERT's code; some tokenizers of BERT
            models use 100.

    Call arguments:
        inputs: Strings in UTF-8, of shape `(b,)`: a tensor, an array or a list. Bytes that are not valid UTF-8 are dropped.

    Returns:
        Ragged int32 tensor of ids, of shape `(b, words, pieces)`. With `tokenize_with_offsets`, a tuple of the ids and two ragged
        int64 tensors of the same shape: the byte of the text at which each piece starts, and the byte after its end.

    Raises:
        ImportError: if tensorflow-text is not installed.
        OSError: if `vocab_file` cannot be read; FileNotFoundError if there is no such file.
        AttributeError: if an argument that cannot be changed is set after construction.
        ValueError: if the vocabulary is not UTF-8, lacks [UNK] or has an empty or a repeated piece, a flag is not a bool,
            `max_input_chars_per_word` is below 1, the inputs are not strings or do not have one axis, or they are symbolic on
            JAX.

    Example:

    >>> layer = BertTokenizer(["[UNK]", "un", "##aff", "##able", "!"], lower_case=True)
    >>> layer(["Unaffable!", "naïve"]).to_list()
    [[[1, 2, 3], [4]], [[0]]]

    Differs from the Model Garden:
        There, the tokenizer of tensorflow-text folds case with NFKC, and drops and splits at different characters: except for
        plain English, its ids are not the ids that BERT was trained on. A vocabulary without [UNK] is an error; there, unknown
        words get the id −1. The vocabulary may be a list, and the configuration holds its pieces; there, it holds the file name.
        Words may be longer than 100 bytes; `max_input_chars_per_word` is new. `lower_case` has no default: there, it is guessed
        from the file's name. `tokenizer_kwargs` does not exist: it changes the tokenizer of tensorflow-text. `vocab_size` is an
        integer, not a tensor.

    Reference:
        [Devlin et al., 2018](https://arxiv.org/abs/1810.04805), section 3; [Song et al., 2021](https://arxiv.org/abs/2012.15524),
        section 3, for the algorithm with which tensorflow-text finds the pieces.
    """

    fixed = ("vocab_file", "lower_case", "max_input_chars_per_word")

    def __init__(self, vocab_file, lower_case, tokenize_with_offsets=False, max_input_chars_per_word=200, **kwargs):
        super().__init__(**kwargs)
        check_flags(lower_case=lower_case, tokenize_with_offsets=tokenize_with_offsets)
        check_at_least(1, max_input_chars_per_word=max_input_chars_per_word)
        self.vocab_file = vocab_file
        self.lower_case = lower_case
        self.tokenize_with_offsets = tokenize_with_offsets
        self.max_input_chars_per_word = max_input_chars_per_word
        self.vocabulary = read_vocabulary(vocab_file)
        self.finder = make_finder(self.vocabulary, 4 * max_input_chars_per_word)
        self.code_points = code_points(lower_case)

    @property
    def vocab_size(self):
        """Number of pieces in the vocabulary."""
        return len(self.vocabulary)

    def get_special_tokens_dict(self):
        """Dict of `vocab_size` and the ids of the vocabulary's special tokens, under the names used by `BertPackInputs`."""
        found = {name: self.vocabulary.index(piece) for name, piece in SPECIAL.items() if piece in self.vocabulary}
        return found | {"vocab_size": self.vocab_size}

    def call(self, inputs):
        from layers.bert_tokenizer.graph import by_text, bytes_of_pieces, spell, split_words

        self.check_inputs(inputs)
        words = split_words(inputs, self.code_points, self.lower_case)
        spelled, is_long = spell(words.letters, self.max_input_chars_per_word, UNKNOWN)
        if not self.tokenize_with_offsets:
            return by_text(self.finder.tokenize(spelled), words)
        ids, start, limit = self.finder.tokenize_with_offsets(spelled)
        offsets = bytes_of_pieces(words, is_long, start, limit)
        return by_text(ids, words), *(by_text(ids.with_values(offset), words) for offset in offsets)

    def check_inputs(self, inputs):
        check_flags(tokenize_with_offsets=self.tokenize_with_offsets)  # again, because it may have been set
        check_strings(inputs)

    def compute_output_spec(self, inputs):
        self.check_inputs(inputs)
        dtypes = ("int32", "int64", "int64") if self.tokenize_with_offsets else ("int32",)
        specs = tuple(keras.KerasTensor((inputs.shape[0], None, None), dtype, ragged=True) for dtype in dtypes)
        return specs if self.tokenize_with_offsets else specs[0]

    def get_config(self):
        return super().get_config() | {
            "vocab_file": list(self.vocabulary),
            "lower_case": self.lower_case,
            "tokenize_with_offsets": self.tokenize_with_offsets,
            "max_input_chars_per_word": self.max_input_chars_per_word,
        }


def read_vocabulary(vocab_file):
    """The pieces, in the order of their ids."""
    pieces = tuple(vocab_file) if isinstance(vocab_file, (list, tuple)) else lines_of(vocab_file)
    if strangers := [piece for piece in pieces if not isinstance(piece, str)]:
        raise ValueError(f"vocab_file must be a path, or a list of pieces of type str. Received: a list with {strangers[0]!r}")
    pieces = (pieces[0].removeprefix("\ufeff"), *pieces[1:]) if pieces else pieces
    repeated = [piece for piece, count in Counter(pieces).items() if count > 1]
    if UNKNOWN not in pieces or "" in pieces or repeated:
        received = f"{repeated[0]!r} twice" if repeated else "an empty piece" if "" in pieces else f"no {UNKNOWN}"
        raise ValueError(f"vocab_file must contain {UNKNOWN}, and no empty or repeated pieces. Received: {received}")
    return pieces


def lines_of(path):
    """The lines of a text file, whatever ends them."""
    try:
        text = read_file("vocab_file", path).decode("utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(f"vocab_file must be a text in UTF-8. Received: {str(path)!r}: {error}") from error
    return tuple(text.replace("\r\n", "\n").replace("\r", "\n").removesuffix("\n").split("\n"))


def make_finder(vocabulary, longest):
    """The linear-time WordPiece tokenizer of tensorflow-text, for words that are already split and normalized."""
    text = import_tensorflow_text("BertTokenizer", "reference.bert_tokenizer.bert_tokenizer")
    return text.FastWordpieceTokenizer(
        list(vocabulary), max_bytes_per_word=longest, token_out_type="int32", unknown_token=UNKNOWN, no_pretokenization=True
    )
