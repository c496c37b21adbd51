"""Packing of token sequences into the rows that BERT reads (TensorFlow graph operations)."""

import keras
import numpy as np

from layers.common.checks import check_at_least, check_rank_at_least, check_same
from layers.common.ids import check_integers

IDS = ("start_of_sequence_id", "end_of_segment_id", "padding_id")


@keras.saving.register_keras_serializable(package="layers")
class BertPackInputs(keras.layers.Layer):
    """Packs one or more segments of token ids into rows of one length, with special tokens between them.

    Computes equations (1) to (6) of `reference/bert_pack_inputs.py`. A row is `[CLS] A [SEP] B [SEP] [PAD] …`. The ends of
    segments that are too long together are cut off.

    It is made of TensorFlow's graph operations: it runs in `tf.data`, in eager mode and in functional models, and is saved with
    them; XLA cannot compile it.

    Axes: `b` batch, `t` position.

    Args:
        seq_length: Length of the rows, `t`.
        start_of_sequence_id: The id of [CLS].
        end_of_segment_id: The id of [SEP].
        padding_id: The id of [PAD].
        special_tokens_dict: These three ids by these names, as a tokenizer's `get_special_tokens_dict` returns them. Whatever
            else is in it has no meaning here. An id that is given both ways must be the same.
        truncator: Whose ends are cut off: "round_robin" gives each segment in turn one token more, so that the longest ones
            lose; "waterfall" fills the row from the first segment on, so that the last ones lose.

    Call arguments:
        inputs: One segment, or a list of one or more. A segment is a ragged tensor of integers, which int32 must be able to hold,
            `(b, (tokens))` or `(b, (words), (pieces))`, the same for all of them. Rows may be empty: an empty segment still has
            its [SEP]. In a dense tensor every entry is a token; if some are padding, take them out first
            (`tf.ragged.boolean_mask`).
            More than 2 segments are no error, but their types go on to 2, 3, …: the BERTs that there are know types 0 and 1.

    Returns:
        A dict of three int32 tensors `(b, t)`: "input_word_ids"; "input_mask", 1 at all tokens, special ones too, and 0 at
        padding; "input_type_ids", the number of the segment, and 0 at [CLS] and at padding.

    Raises:
        ValueError: for an id that is missing, contradictory or no integer from 0 to 2³¹ − 1, an unknown `truncator`, a
            `seq_length` without room for the special tokens, no segment, segments that are not integers, have fewer than 2 axes,
            or do not all have the same number of axes and of rows.
        tf.errors.InvalidArgumentError: where only the running graph knows the numbers of rows, and they differ; and for a token
            that int32 cannot hold.
        ImportError: without TensorFlow.

    Example:

    >>> import tensorflow as tf
    >>> pack = BertPackInputs(8, start_of_sequence_id=101, end_of_segment_id=102, padding_id=0)
    >>> pack([tf.ragged.constant([[7, 8]]), tf.ragged.constant([[9]])])["input_word_ids"].numpy().tolist()
    [[101, 7, 8, 102, 9, 102, 0, 0]]

    Differs from the Model Garden:
        A missing id raises at once; there the error is returned instead of raised, and the layer fails when it is called. Unequal
        numbers of axes raise an error that says so; there, making that error is an error. An id may be given both ways.

    Reference:
        [Devlin et al., 2018](https://arxiv.org/abs/1810.04805), section 3.
    """

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
        check_at_least(2, seq_length=seq_length)
        if truncator not in TRUNCATORS:
            raise ValueError(f"truncator must be one of {tuple(TRUNCATORS)}. Received: truncator={truncator!r}")
        try:
            import tensorflow  # noqa: F401
        except ImportError as error:
            raise ImportError("BertPackInputs needs tensorflow; reference.bert_pack_inputs does the same without it") from error
        self.seq_length = seq_length
        self.special_tokens_dict = None if special_tokens_dict is None else dict(special_tokens_dict)
        given = dict(zip(IDS, (start_of_sequence_id, end_of_segment_id, padding_id)))
        for name, value in given.items():
            setattr(self, name, the_id(name, value, (special_tokens_dict or {}).get(name)))
        self.truncator = truncator

    def build(self, inputs_shape):
        pass

    def call(self, inputs):
        import tensorflow as tf

        segments = self.flat(inputs)
        sizes = tf.stack([tokens.row_lengths() for tokens in segments], axis=1)
        kept = TRUNCATORS[self.truncator](sizes, self.room_for_tokens(len(segments)))

        # A column of one special token for every row.
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
        """Every segment as an int32 ragged tensor `(b, (tokens))`."""
        import tensorflow as tf

        segments = self.checked(inputs)
        ragged = [tf.RaggedTensor.from_tensor(x) if isinstance(x, tf.Tensor) else x for x in segments]
        ragged = [in_int32(x if len(x.shape) == 2 else x.merge_dims(1, -1)) for x in ragged]
        message = "all of inputs must have the same number of rows"  # where `checked` could not see it
        checks = [tf.debugging.assert_equal(x.nrows(), ragged[0].nrows(), message) for x in ragged[1:]]
        with tf.control_dependencies([check for check in checks if check is not None]):
            # All that follows is made from these, so nothing can fail before the checks do.
            parts = [(tf.identity(x.values), tf.identity(x.row_splits)) for x in ragged]
        return [tf.RaggedTensor.from_row_splits(values, splits, validate=False) for values, splits in parts]

    def checked(self, inputs):
        """The list of segments, if they can be packed."""
        segments = list(inputs) if isinstance(inputs, (list, tuple)) else [inputs]
        if not segments:
            raise ValueError("inputs must be one segment or more. Received: an empty list")
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


def the_id(name, given, in_dict):
    """The id called `name`, as an int, from the argument, from the dict, or from both if they agree."""
    values = [value for value in (given, in_dict) if value is not None]
    if not values:
        raise ValueError(f"{name} must be given, as an argument or in special_tokens_dict. Received: {name}=None")
    is_whole = all(isinstance(value, (int, np.integer)) and not isinstance(value, bool) for value in values)
    if not is_whole or min(values) < 0 or max(values) > np.iinfo("int32").max or len(set(values)) > 1:
        received = f"{name}={given!r}, in special_tokens_dict {in_dict!r}"
        raise ValueError(f"{name} must be one integer of at least 0 that int32 can hold. Received: {received}")
    return int(values[0])


def in_int32(x):
    """A ragged tensor as int32, in which no id has become another one."""
    import tensorflow as tf

    cast = tf.cast(x, "int32")
    if x.dtype not in (tf.int64, tf.uint32, tf.uint64):
        return cast
    kept = tf.reduce_all(tf.cast(cast.flat_values, x.dtype) == x.flat_values)
    if x.dtype != tf.int64:  # a negative one is what was too large
        kept = tf.logical_and(kept, tf.reduce_all(cast.flat_values >= 0))
    check = tf.debugging.assert_equal(kept, True, "inputs must be ids that int32 can hold")
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
    of_the_shortest = tf.cumsum(ordered, axis=1, exclusive=True)
    level = tf.reduce_max((room - of_the_shortest) // tf.range(sizes.shape[1], 0, -1, dtype=sizes.dtype), axis=1, keepdims=True)
    kept = tf.minimum(sizes, level)
    above = tf.cast(sizes > level, sizes.dtype)
    has_room = tf.cumsum(above, axis=1) <= room - tf.reduce_sum(kept, axis=1, keepdims=True)
    return kept + above * tf.cast(has_room, sizes.dtype)


def waterfall(sizes, room):
    """Equation (6), for sizes `(b, segments)`."""
    import tensorflow as tf

    return tf.clip_by_value(room - tf.cumsum(sizes, axis=1, exclusive=True), 0, sizes)


TRUNCATORS = {"round_robin": round_robin, "waterfall": waterfall}
