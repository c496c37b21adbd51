"""A classifier of sequences, from the vector of one token (Keras 3)."""

import keras

from layers.common.activations import get_activation
from layers.common.blocks import BlockLayer
from layers.common.checks import check_at_least, check_rate

RENAMED = {"kernel_initializer": "initializer"}


@keras.saving.register_keras_serializable(package="layers")
class ClassificationHead(BlockLayer):
    """A score for each class, from the vector of one token of a sequence.

    Computes equations (1) and (2) of `reference/classification_head.py`, with dropout between them.

    Axes: `b` batch, `t` position, `m` model size, `f` pooler size, `c` class.

    Args:
        inner_dim: Size of the pooler, `f`. With 0 there is no pooler, and the token's vector itself is classified.
        num_classes: Number of classes, `c`.
        cls_token_idx: Position of the token. A negative one counts from the end of the sequence, padding included.
        activation: The pooler's activation, by name or as a callable. "gelu" is the exact one, "gelu_tanh" its approximation.
        dropout_rate: Fraction dropped of what comes from the pooler, while training.
        initializer: How both maps start; the biases start as `bias_initializer` says, by default at 0.
        bias_initializer, kernel_regularizer, bias_regularizer, activity_regularizer, kernel_constraint, bias_constraint: As for
            `ProjectingLayer`.

    Call arguments:
        features: Tensor of shape `(b, t, m)`; or `(b, m)`, one vector for each sequence, of which `cls_token_idx` has nothing to
            choose, so that it must be 0.
        only_project: Whether to return what comes from the pooler, before dropout. With `inner_dim=0` that is the token's vector.
        training: Whether to drop.

    Returns:
        Logits of shape `(b, c)`, or with `only_project` a tensor of shape `(b, f)`, in the compute dtype.

    Raises:
        ValueError: for sizes that are none, a rate outside [0, 1), an unknown activation, a `cls_token_idx` that is no integer or
            is outside the sequence, features of another rank than 2 or 3, and a last axis that is unknown or not the one that
            the weights were made for. A length that is known only at run time is checked by the backend then.

    Example:

    >>> head = ClassificationHead(inner_dim=8, num_classes=3, dropout_rate=0.1)
    >>> head(keras.ops.ones((2, 5, 8))).shape
    TensorShape([2, 3])

    Differs from the Model Garden:
        With `inner_dim=0` features of three axes give the logits of the token `cls_token_idx`; there they must have two axes, or
        the logits are those of every token. With a pooler too, features may have two axes. `checkpoint_items` is empty without a
        pooler, where a crash was. "gelu" is exact.

    Reference:
        [Devlin et al., 2018](https://arxiv.org/abs/1810.04805), sections 3 and 4.1.
    """

    renamed_arguments = RENAMED

    def __init__(
        self,
        inner_dim,
        num_classes,
        cls_token_idx=0,
        activation="tanh",
        dropout_rate=0.0,
        initializer="glorot_uniform",
        **kwargs,
    ):
        super().__init__(kernel_initializer=initializer, **kwargs)
        check_at_least(0, inner_dim=inner_dim)
        check_at_least(1, num_classes=num_classes)
        check_rate(dropout_rate=dropout_rate)
        if not isinstance(cls_token_idx, int) or isinstance(cls_token_idx, bool):
            raise ValueError(f"cls_token_idx must be an integer. Received: cls_token_idx={cls_token_idx!r}")
        self.inner_dim = inner_dim
        self.num_classes = num_classes
        self.cls_token_idx = cls_token_idx
        self.activation = get_activation("activation", activation)
        self.dropout_rate = dropout_rate
        self.initializer = self.kernel_initializer
        self.supports_masking = True  # whether one token is padding is no question for what comes after

    def build(self, features_shape):
        self.check_shape(features_shape)
        self.features_size = m = features_shape[-1]
        self.pooler_dense = self.make_dense("pooler_dense", m, self.inner_dim) if self.inner_dim else None
        self.dropout_layer = self.make_dropout(self.dropout_rate)
        self.logits = self.make_dense("logits", self.inner_dim or m, self.num_classes)

    def call(self, features, only_project=False, training=None):
        self.check_shape(features.shape, self.features_size)
        pooled = features[:, self.cls_token_idx] if len(features.shape) == 3 else features
        if self.inner_dim:
            pooled = self.activation(self.pooler_dense(pooled))
        if only_project:
            return pooled
        return self.logits(self.dropout_layer(pooled, training=training))

    def check_shape(self, shape, size=None):
        if len(shape) not in (2, 3) or shape[-1] is None or shape[-1] != (size or shape[-1]):
            last = f"of size {size}" if size else "of known size"
            raise ValueError(f"features must have 2 or 3 axes, the last {last}. Received: features of shape {tuple(shape)}")
        length = shape[1] if len(shape) == 3 else None
        outside = self.cls_token_idx != 0 if len(shape) == 2 else length and not -length <= self.cls_token_idx < length
        if outside or length == 0:
            raise ValueError(
                f"cls_token_idx must be a position of features, 0 if they have 2 axes. "
                f"Received: cls_token_idx={self.cls_token_idx}, features of shape {tuple(shape)}"
            )

    @property
    def checkpoint_items(self):
        """{name: layer} of what another task could begin with: the pooler, if there is one."""
        return {"pooler_dense": self.pooler_dense} if self.inner_dim else {}

    def compute_mask(self, features, previous_mask=None):
        return None

    def get_config(self):
        config = super().get_config() | {
            "inner_dim": self.inner_dim,
            "num_classes": self.num_classes,
            "cls_token_idx": self.cls_token_idx,
            "activation": keras.activations.serialize(self.activation),
            "dropout_rate": self.dropout_rate,
        }
        return {RENAMED.get(name, name): value for name, value in config.items()}
