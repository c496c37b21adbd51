"""BERT's tokenizer, from strings to ids, in TensorFlow's graph (Keras 3)."""

from collections import Counter

import keras

from layers.bert_tokenizer.code_points import code_points
from layers.common.checks import check_at_least, check_flags
from layers.common.text import TextLayer, check_strings, import_tensorflow_text

UNKNOWN = "[UNK]"
SPECIAL = {"start_of_sequence_id": "[CLS]", "end_of_segment_id": "[SEP]", "padding_id": "[PAD]", "mask_id": "[MASK]"}


@keras.saving.register_keras_serializable(package="layers")
class BertTokenizer(TextLayer):
    """Splits strings into words, and words into the pieces of a vocabulary, as BERT does.

    Computes rules (1) to (6) of `reference/bert_tokenizer/` as graph operations: it runs in `tf.data`, is saved with a model
    and loads without the vocabulary's file. XLA compiles no strings, so it belongs before a model that is compiled, not in it.
    Letters newer than the Unicode version that Python's `unicodedata` has, where the layer is made, stay as they are.

    Axes: `b` batch; words and pieces, as many as there are.

    Args:
        vocab_file: Path of a text file, UTF-8, a piece a line, whose number from 0 is its id; or a list of the pieces.
        lower_case: Whether to put text in lower case and strip its accents, as for BERT's uncased models.
        tokenize_with_offsets: Whether to return where in the text each piece comes from, too.
        max_input_chars_per_word: Longer words are unknown. 200 as in BERT's code; some tokenizers of BERT's models have 100.

    Call arguments:
        inputs: Strings in UTF-8, of shape `(b,)`: a tensor, an array or a list. Bytes that are no UTF-8 are dropped.

    Returns:
        Ragged int32 tensor of shape `(b, words, pieces)`: the ids. With `tokenize_with_offsets` a tuple of these and two ragged
        int64 tensors of the same shape: the byte of the text where each piece starts, and the byte behind its end.

    Raises:
        ImportError: without tensorflow-text.
        FileNotFoundError: if there is no `vocab_file`.
        ValueError: for a vocabulary without [UNK], with a piece twice or an empty one, a flag that is no bool, a
            max_input_chars_per_word below 1, and inputs that are not strings or have other than one axis.

    Example:

    >>> layer = BertTokenizer(["[UNK]", "un", "##aff", "##able", "!"], lower_case=True)
    >>> layer(["Unaffable!", "naïve"]).to_list()
    [[[1, 2, 3], [4]], [[0]]]

    Differs from the Model Garden:
        There tensorflow-text's tokenizer folds case by NFKC, drops other characters and splits at others: beyond plain English
        its ids are not those that BERT was trained on. A vocabulary without [UNK] is an error; there it gives the id −1. A
        vocabulary may be a list, and the configuration holds its pieces; there it holds the file's name. Words may be longer
        than 100 bytes.

    Reference:
        [Devlin et al., 2018](https://arxiv.org/abs/1810.04805), section 3; [Song et al., 2021](https://arxiv.org/abs/2012.15524),
        section 3, is how tensorflow-text finds the pieces.
    """

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
        """Number of pieces."""
        return len(self.vocabulary)

    def get_special_tokens_dict(self):
        """The ids that `BertPackInputs` asks for, by its names for them, of those that the vocabulary has; and `vocab_size`."""
        found = {name: self.vocabulary.index(piece) for name, piece in SPECIAL.items() if piece in self.vocabulary}
        return found | {"vocab_size": self.vocab_size}

    def call(self, inputs):
        from layers.bert_tokenizer.graph import by_text, bytes_of_pieces, spell, split_words

        check_strings(inputs)
        words = split_words(inputs, self.code_points, self.lower_case)
        spelt, is_long = spell(words.letters, self.max_input_chars_per_word, UNKNOWN)
        if not self.tokenize_with_offsets:
            return by_text(self.finder.tokenize(spelt), words)
        ids, start, limit = self.finder.tokenize_with_offsets(spelt)
        offsets = bytes_of_pieces(words, is_long, start, limit)
        return by_text(ids, words), *(by_text(ids.with_values(of_pieces), words) for of_pieces in offsets)

    def compute_output_spec(self, inputs):
        check_strings(inputs)
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
    if isinstance(vocab_file, (list, tuple)):
        pieces = tuple(vocab_file)
    else:
        with open(vocab_file, encoding="utf-8") as file:
            pieces = tuple(file.read().removesuffix("\n").split("\n"))
    twice = [piece for piece, count in Counter(pieces).items() if count > 1]
    if UNKNOWN not in pieces or "" in pieces or twice:
        received = f"{twice[0]!r} twice" if twice else "an empty one" if "" in pieces else f"no {UNKNOWN}"
        raise ValueError(f"vocab_file must have {UNKNOWN} among its pieces, no empty one and none twice. Received: {received}")
    return pieces


def make_finder(vocabulary, longest):
    """tensorflow-text's linear-time search for pieces, in words that are split and normalized already."""
    text = import_tensorflow_text("BertTokenizer", "reference.bert_tokenizer.bert_tokenizer")
    return text.FastWordpieceTokenizer(
        list(vocabulary), max_bytes_per_word=longest, token_out_type="int32", unknown_token=UNKNOWN, no_pretokenization=True
    )
