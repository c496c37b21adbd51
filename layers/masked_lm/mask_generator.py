"""Hiding tokens for training: what the model reads, and what it has to predict (Keras 3)."""

import keras
import numpy as np
from keras import ops

from layers.common.checks import check_at_least, check_number, check_rank, check_seed, check_shape
from layers.common.ids import check_integers
from layers.common.output_shapes import TracedLayer

LAST = 2**31 - 1
"""No position: behind all others when they are sorted."""


@keras.saving.register_keras_serializable(package="layers")
class MaskedLMMaskGenerator(TracedLayer):
    """Hides some of the tokens, anew in each call, and says which ones and what they were.

    Computes equations (4) and (5) of `reference/masked_lm.py`. What it returns is what `MaskedLM` and a loss take. It draws in
    training and elsewhere. It can be called on batches, and on TensorFlow in `tf.data` too, after `batch`.

    Axes: `b` batch, `s` position in the sequence, `t` prediction.

    Args:
        vocabulary_size: Number of token ids.
        mask_token_id: The id of [MASK].
        num_predictions: Number of predictions for each sequence, `t`. Where fewer tokens are hidden, the last ones count for
            nothing.
        unselectable_token_ids: The ids of padding and of the special tokens: never hidden, and no token is replaced by them.
            [MASK] is one of them without being named.
        mask_selection_rate: The fraction of the selectable tokens that is hidden, of which three decimals count: the number is
            rounded to an integer, halves up, and is at least 1 if there is a selectable token, at most `num_predictions`.
        mask_token_rate, random_token_rate: The probabilities that a hidden token is replaced by [MASK], and by a random one, all
            selectable ids being equally likely. Otherwise the model reads the token itself, which it has to predict too.
        seed: Seed of the draws. Defaults to a random seed.

    Call arguments:
        token_ids: Integers of shape `(b, s)`.
        choice, fate: Uniform in [0, 1), `(b, s)`: the tokens of least `choice` are hidden, and `fate` says how. Drawn by default.
        random_ids: The replacements of tokens that become random, `(b, s)`. Drawn by default.

    Returns:
        A dict: "token_ids", `(b, s)`, what the model reads; "mask_positions" and "mask_ids", `(b, t)`, where tokens were hidden,
        in increasing order, and what they were, 0 behind the last; "mask_weights", `(b, t)` in the compute dtype, 1 for each
        hidden token and 0 behind the last.

    Raises:
        ValueError: if a number or rate is out of range, an id is not below `vocabulary_size` or given twice, no id is selectable,
            `token_ids` is not of integers or does not have 2 axes, or a draw has another shape.

    Example:

    >>> hide = MaskedLMMaskGenerator(100, mask_token_id=4, num_predictions=2, unselectable_token_ids=[0, 2, 3])
    >>> hidden = hide(keras.ops.array([[2, 17, 51, 30, 44, 3, 0, 0]]))
    >>> hidden["token_ids"].shape, hidden["mask_weights"].numpy().tolist()  # 15 % of 4 tokens, and at least one
    (TensorShape([1, 8]), [[1.0, 0.0]])

    Differs from the Model Garden:
        There is none: the data are written by a program. It hides words of several pieces as a whole if asked to, and replaces by
        any id, special ones too.

    Reference:
        [Devlin et al., 2018](https://arxiv.org/abs/1810.04805), section 3.1.
    """

    integer_arguments = ("token_ids", "random_ids")

    def __init__(
        self,
        vocabulary_size,
        mask_token_id,
        num_predictions,
        unselectable_token_ids=(0,),
        mask_selection_rate=0.15,
        mask_token_rate=0.8,
        random_token_rate=0.1,
        *,
        seed=None,
        **kwargs,
    ):
        super().__init__(autocast=False, **kwargs)  # draws keep their digits
        check_at_least(1, vocabulary_size=vocabulary_size, num_predictions=num_predictions)
        check_number("at least 0.001 and at most 1", lambda rate: 0.001 <= rate <= 1, mask_selection_rate=mask_selection_rate)
        rates = {"mask_token_rate": mask_token_rate, "random_token_rate": random_token_rate}
        check_number("at least 0 and at most 1", lambda rate: 0 <= rate <= 1, **rates)
        if mask_token_rate + random_token_rate > 1:
            received = f"mask_token_rate={mask_token_rate}, random_token_rate={random_token_rate}"
            raise ValueError(f"mask_token_rate and random_token_rate must be at most 1 together. Received: {received}")
        check_seed(seed)
        self.vocabulary_size = vocabulary_size
        self.mask_token_id = mask_token_id
        self.num_predictions = num_predictions
        self.unselectable_token_ids = checked_ids(vocabulary_size, mask_token_id, unselectable_token_ids)
        self.mask_selection_rate = mask_selection_rate
        self.mask_token_rate = mask_token_rate
        self.random_token_rate = random_token_rate
        self.seed = seed
        self.seed_generator = keras.random.SeedGenerator(seed)
        self.never = np.array(sorted({mask_token_id, *self.unselectable_token_ids}), "int32")
        self.selectable = np.setdiff1d(np.arange(vocabulary_size, dtype="int32"), self.never)
        if not len(self.selectable):
            raise ValueError(
                "unselectable_token_ids must leave an id other than mask_token_id. "
                f"Received: unselectable_token_ids={list(self.unselectable_token_ids)}, vocabulary_size={vocabulary_size}"
            )
        self.built = True

    def call(self, token_ids, choice=None, fate=None, random_ids=None):
        check_rank(2, token_ids=token_ids.shape)
        check_integers(token_ids=token_ids)
        for name, draw in (("choice", choice), ("fate", fate), ("random_ids", random_ids)):
            check_shape(name, draw, token_ids.shape)
        ids = ops.cast(token_ids, "int32")
        chosen = self.chosen(ids, self.uniform(ids) if choice is None else ops.cast(choice, "float32"))
        fate = self.uniform(ids) if fate is None else ops.cast(fate, "float32")
        other = self.random_ids(ids) if random_ids is None else ops.cast(random_ids, "int32")
        kept = ops.where(fate < self.mask_token_rate + self.random_token_rate, other, ids)
        read = ops.where(fate < self.mask_token_rate, self.mask_token_id, kept)
        positions, known = self.predictions(ids, chosen)
        present = positions < LAST
        return {
            "token_ids": ops.cast(ops.where(chosen, read, ids), token_ids.dtype),
            "mask_positions": ops.where(present, positions, 0),
            "mask_ids": ops.cast(known, token_ids.dtype),
            "mask_weights": ops.cast(present, self.compute_dtype),
        }

    def chosen(self, ids, choice):
        """Equation (5): the tokens that are hidden, `(b, s)`."""
        may = ops.all(ops.expand_dims(ids, -1) != self.never, axis=-1)
        count = ops.sum(ops.cast(may, "int32"), axis=1, keepdims=True)
        rounded = ops.floor_divide(2 * round(1000 * self.mask_selection_rate) * count + 1000, 2000)  # in integers, so exactly
        number = ops.minimum(ops.clip(rounded, 1, self.num_predictions), count)
        rank = ops.argsort(ops.argsort(ops.where(may, choice, 2.0), axis=1), axis=1)  # what must not be hidden is last
        return ops.cast(rank, "int32") < number

    def predictions(self, ids, chosen):
        """The positions of the chosen tokens, then `LAST`; and their ids, then 0: both `(b, t)`."""
        room = ((0, 0), (0, self.num_predictions))
        places = ops.where(chosen, ops.arange(0, ops.shape(ids)[1], dtype="int32"), LAST)
        positions = ops.sort(ops.pad(places, room, constant_values=LAST), axis=1)[:, : self.num_predictions]
        behind = ops.cast(ops.shape(ids)[1], "int32")  # the first of the zeros that follow the ids
        known = ops.take_along_axis(ops.pad(ids, room), ops.minimum(positions, behind), axis=1)
        shape = (ops.shape(ids)[0], self.num_predictions)  # known to a graph that does not know the length
        return ops.reshape(positions, shape), ops.reshape(known, shape)

    def uniform(self, ids):
        return keras.random.uniform(ops.shape(ids), dtype="float32", seed=self.seed_generator)

    def random_ids(self, ids):
        index = keras.random.randint(ops.shape(ids), 0, len(self.selectable), seed=self.seed_generator)
        return ops.take(ops.convert_to_tensor(self.selectable), index, axis=0)

    def get_config(self):
        return super().get_config() | {
            "vocabulary_size": self.vocabulary_size,
            "mask_token_id": self.mask_token_id,
            "num_predictions": self.num_predictions,
            "unselectable_token_ids": self.unselectable_token_ids,
            "mask_selection_rate": self.mask_selection_rate,
            "mask_token_rate": self.mask_token_rate,
            "random_token_rate": self.random_token_rate,
            "seed": self.seed,
        }


def checked_ids(vocabulary_size, mask_token_id, unselectable_token_ids):
    """`unselectable_token_ids` as a list.

    Raises:
        ValueError: if they or `mask_token_id` are not integers from 0 to `vocabulary_size` − 1, or one is given twice.
    """
    is_list = isinstance(unselectable_token_ids, (list, tuple))
    ids = list(unselectable_token_ids) if is_list else [None]
    for name, each, received in (
        ("mask_token_id must be an integer", [mask_token_id], mask_token_id),
        ("unselectable_token_ids must be a list of different integers", ids, unselectable_token_ids),
    ):
        if not all(type(i) is int and 0 <= i < vocabulary_size for i in each) or len(set(each)) < len(each):
            raise ValueError(f"{name} from 0 to {vocabulary_size - 1}. Received: {name.split()[0]}={received!r}")
    return ids
