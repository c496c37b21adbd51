"""Packing of token sequences into BERT's inputs (TensorFlow graph operations)."""

import keras
import numpy as np

from layers.common.checks import check_at_least, check_rank_at_least, check_same
from layers.common.ids import check_integers
from layers.common.text import TextLayer, as_tensor_of_ids

IDS = ("start_of_sequence_id", "end_of_segment_id", "padding_id")


@keras.saving.register_keras_serializable(package="layers")
class BertPackInputs(TextLayer):
    """Packs one or more segments of token ids into rows of equal length, with special tokens between them.

    Computes equations (1) to (6) of `reference/bert_pack_inputs.py`. A row is `[CLS] A [SEP] B [SEP] [PAD] …`. If the
    segments are too long together, they are truncated at their ends.

    The layer consists of TensorFlow graph operations: it runs eagerly, in `tf.data`, and on TensorFlow in a model, which XLA
    cannot compile then. On JAX a model holds no ragged tensors: call the layer in `tf.data` or before the model.

    Axes: `b` batch, `t` position.

    Args:
        seq_length: Length of the rows, `t`.
        start_of_sequence_id: The id of [CLS].
        end_of_segment_id: The id of [SEP].
        padding_id: The id of [PAD].
        special_tokens_dict: Dict with these three ids under the names above, as a tokenizer's `get_special_tokens_dict` returns
            it. Other entries are ignored. An id that is given both ways must have the same value.
        truncator: How to divide the row among segments that are too long. "round_robin" gives one token at a time to each segment
            in turn, so the longest segments are truncated. "waterfall" fills the row from the first segment on, so the last
            segments are truncated.

    Call arguments:
        inputs: A segment, or a list of segments. A segment is a ragged tensor of integers in the range of int32, of shape
            `(b, (tokens))` or `(b, (words), (pieces))`. All segments have the same number of axes. Rows may be empty: an empty
            segment still gets its [SEP]. In a dense tensor or array, every entry counts as a token; remove padding first, with
            `tf.ragged.boolean_mask`. The segments have types 0, 1, 2, …; published BERT models know only types 0 and 1.
            A segment may be nested lists instead. A list of lists of integers is one segment, `(b, (tokens))`; any other list is
            a list of segments. So lists of words, `(b, (words), (pieces))`, are given as a list of one segment, `[words]`.

    Returns:
        Dict of three int32 tensors `(b, t)`: "input_word_ids", the ids; "input_mask", 1 at tokens, including [CLS] and [SEP], and
        0 at padding; "input_type_ids", the number of the segment, from 0, and 0 at [CLS] and at padding.

    Raises:
        ValueError: if a special id is missing, is not an integer from 0 to 2³¹ − 1, or is given twice with different values;
            `truncator` is unknown; `seq_length` leaves no room for the special tokens; the list of segments is empty; or the
            segments are not integers, have fewer than 2 axes, differ in their number of axes or rows, or are symbolic on JAX.
        AttributeError: if an argument other than `seq_length` and `truncator` is set after construction.
        tf.errors.InvalidArgumentError: if numbers of rows that are known only when the graph runs differ, or a token is outside
            the range of int32.
        ImportError: if TensorFlow is not installed.

    Example:

    >>> import tensorflow as tf
    >>> pack = BertPackInputs(8, start_of_sequence_id=101, end_of_segment_id=102, padding_id=0)
    >>> pack([tf.ragged.constant([[7, 8]]), tf.ragged.constant([[9]])])["input_word_ids"].numpy().tolist()
    [[101, 7, 8, 102, 9, 102, 0, 0]]

    Differs from the Model Garden:
        A missing id raises an error in the constructor; there, the error is returned, not raised, and the layer fails when it is
        called. Different numbers of axes raise a clear error; there, creating the error message fails. An id may be given both
        ways. The static method `bert_pack_inputs` does not exist: a layer does the same.

    Reference:
        [Devlin et al., 2018](https://arxiv.org/abs/1810.04805), section 3.
    """

    fixed = (*IDS, "special_tokens_dict")
    integer_arguments = ("inputs",)

    def __init__(
        self,
        seq_length,
        start_of_sequence_id=None,
        end_of_segment_id=None,
        padding_id=None,
        special_tokens_dict=None,
        truncator="round_robin",
        **kwargs,
    ):
        super().__init__(**kwargs)
        try:
            import tensorflow  # noqa: F401
        except ImportError as error:
            raise ImportError("BertPackInputs needs tensorflow; reference.bert_pack_inputs works without it") from error
        self.seq_length = seq_length
        self.truncator = truncator
        self.check_options()
        self.special_tokens_dict = None if special_tokens_dict is None else dict(special_tokens_dict)
        given = dict(zip(IDS, (start_of_sequence_id, end_of_segment_id, padding_id)))
        for name, value in given.items():
            setattr(self, name, the_id(name, value, (special_tokens_dict or {}).get(name)))

    def check_options(self):
        """Raise a ValueError if the arguments that may be set at any time are invalid."""
        check_at_least(2, seq_length=self.seq_length)
        if self.truncator not in TRUNCATORS:
            raise ValueError(f"truncator must be one of {tuple(TRUNCATORS)}. Received: truncator={self.truncator!r}")

    def as_tensors(self, inputs):
        """`inputs`, each segment of them a tensor."""
        is_list = isinstance(inputs, (list, tuple))
        if is_list and not inputs:
            raise ValueError("inputs must be at least one segment. Received: inputs=[]")
        if not is_list or all(is_row(row) for row in inputs):
            return as_tensor_of_ids("inputs[0]", inputs)
        return [as_tensor_of_ids(f"inputs[{i}]", x) for i, x in enumerate(inputs)]

    def call(self, inputs):
        import tensorflow as tf

        segments = self.flat(inputs)
        sizes = tf.stack([tokens.row_lengths() for tokens in segments], axis=1)
        kept = TRUNCATORS[self.truncator](sizes, self.room_for_tokens(len(segments)))

        # Special tokens as columns, with a token for each row.
        start, end = (tf.fill((tf.shape(sizes)[0], 1), name) for name in (self.start_of_sequence_id, self.end_of_segment_id))
        parts = [tf.concat([start] * (i == 0) + [first(segments[i], kept[:, i]), end], axis=1) for i in range(len(segments))]
        ids, types = tf.concat(parts, axis=1), tf.concat([tf.ones_like(part) * i for i, part in enumerate(parts)], axis=1)
        shape = (None, self.seq_length)
        return {
            "input_word_ids": ids.to_tensor(self.padding_id, shape=shape),
            "input_mask": tf.ones_like(ids).to_tensor(0, shape=shape),
            "input_type_ids": types.to_tensor(0, shape=shape),
        }

    def flat(self, inputs):
        """All segments as int32 ragged tensors `(b, (tokens))`."""
        import tensorflow as tf

        segments = self.checked(inputs)
        ragged = [x if isinstance(x, tf.RaggedTensor) else tf.RaggedTensor.from_tensor(x) for x in segments]
        ragged = [in_int32(x if len(x.shape) == 2 else x.merge_dims(1, -1)) for x in ragged]
        message = "all of inputs must have the same number of rows"  # for sizes unknown to `checked`
        checks = [tf.debugging.assert_equal(x.nrows(), ragged[0].nrows(), message) for x in ragged[1:]]
        with tf.control_dependencies([check for check in checks if check is not None]):
            # Everything else is computed from these tensors, so the checks run before any other operation can fail.
            parts = [(tf.identity(x.values), tf.identity(x.row_splits)) for x in ragged]
        return [tf.RaggedTensor.from_row_splits(values, splits, validate=False) for values, splits in parts]

    def checked(self, inputs):
        """The list of segments, after checking that they can be packed."""
        self.check_options()
        inputs = self.as_tensors(inputs)
        segments = inputs if isinstance(inputs, list) else [inputs]
        named = {f"inputs[{i}]": x for i, x in enumerate(segments)}
        check_integers(**named)
        check_rank_at_least(2, **{name: x.shape for name, x in named.items()})
        check_same("number of axes", **{name: len(x.shape) for name, x in named.items()})
        check_same("number of rows", **{name: x.shape[0] for name, x in named.items()})
        self.room_for_tokens(len(segments))
        return segments

    def room_for_tokens(self, segments):
        """Equation (4)."""
        if self.seq_length < 1 + segments:
            raise ValueError(
                f"seq_length must be at least {1 + segments}, for the special tokens of {segments} segments. "
                f"Received: seq_length={self.seq_length}"
            )
        return self.seq_length - 1 - segments

    def compute_output_spec(self, inputs):
        rows = self.checked(inputs)[0].shape[0]
        names = ("input_word_ids", "input_mask", "input_type_ids")
        return {name: keras.KerasTensor((rows, self.seq_length), "int32") for name in names}

    def get_config(self):
        return super().get_config() | {
            "seq_length": self.seq_length,
            **{name: getattr(self, name) for name in IDS},
            "special_tokens_dict": self.special_tokens_dict and dict(self.special_tokens_dict),
            "truncator": self.truncator,
        }


def is_row(value):
    """Whether a value is a row of tokens, as a list."""
    return isinstance(value, (list, tuple)) and not any(isinstance(x, (list, tuple)) or getattr(x, "shape", ()) for x in value)


def the_id(name, given, in_dict):
    """The id named `name`, as an int, from the argument, from the dict, or from both if they are equal."""
    values = [value for value in (given, in_dict) if value is not None]
    if not values:
        raise ValueError(f"{name} must be given, as an argument or in special_tokens_dict. Received: {name}=None")
    is_whole = all(isinstance(value, (int, np.integer)) and not isinstance(value, bool) for value in values)
    if not is_whole or min(values) < 0 or max(values) > np.iinfo("int32").max or len(set(values)) > 1:
        received = f"{name}={given!r}, and {in_dict!r} in special_tokens_dict"
        raise ValueError(f"{name} must be one integer from 0 to 2³¹ − 1. Received: {received}")
    return int(values[0])


def in_int32(x):
    """A ragged tensor cast to int32, after checking that no id changes."""
    import tensorflow as tf

    cast = tf.cast(x, "int32")
    if x.dtype not in (tf.int64, tf.uint32, tf.uint64):
        return cast
    kept = tf.reduce_all(tf.cast(cast.flat_values, x.dtype) == x.flat_values)
    if x.dtype != tf.int64:  # unsigned ids above the range become negative
        kept = tf.logical_and(kept, tf.reduce_all(cast.flat_values >= 0))
    check = tf.debugging.assert_equal(kept, True, "inputs must be ids in the range of int32")
    with tf.control_dependencies([] if check is None else [check]):
        return cast.with_flat_values(tf.identity(cast.flat_values))


def first(tokens, counts):
    """The first `counts` `(b)` tokens of each row."""
    import tensorflow as tf

    positions = tf.ragged.range(tokens.row_lengths())
    return tf.ragged.boolean_mask(tokens, positions < counts[:, None])


def round_robin(sizes, room):
    """Equation (5), for sizes `(b, segments)`."""
    import tensorflow as tf

    ordered = tf.sort(sizes, axis=1)
    sum_of_shorter = tf.cumsum(ordered, axis=1, exclusive=True)
    level = tf.reduce_max((room - sum_of_shorter) // tf.range(sizes.shape[1], 0, -1, dtype=sizes.dtype), axis=1, keepdims=True)
    kept = tf.minimum(sizes, level)
    above = tf.cast(sizes > level, sizes.dtype)
    has_room = tf.cumsum(above, axis=1) <= room - tf.reduce_sum(kept, axis=1, keepdims=True)
    return kept + above * tf.cast(has_room, sizes.dtype)


def waterfall(sizes, room):
    """Equation (6), for sizes `(b, segments)`."""
    import tensorflow as tf

    return tf.clip_by_value(room - tf.cumsum(sizes, axis=1, exclusive=True), 0, sizes)


TRUNCATORS = {"round_robin": round_robin, "waterfall": waterfall}
