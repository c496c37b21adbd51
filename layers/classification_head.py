"""A classifier of sequences that reads the vector of one token (Keras 3)."""

import keras

from layers.common.activations import get_activation
from layers.common.blocks import BlockLayer
from layers.common.checks import check_at_least, check_rate, interpreted
from layers.common.sizes import known

RENAMED = {"kernel_initializer": "initializer"}


@keras.saving.register_keras_serializable(package="layers")
class ClassificationHead(BlockLayer):
    """Logits of a sequence's classes, from the vector of one of its tokens.

    Computes equations (1) and (2) of `reference/classification_head.py`, with dropout between them.

    Axes: `b` batch, `t` position, `m` model size, `f` pooler size, `c` class.

    Args:
        inner_dim: Size of the pooler, `f`. With 0, there is no pooler, and the token's vector is classified directly.
        num_classes: Number of classes, `c`.
        cls_token_idx: Position of the token. A negative position counts from the end of the sequence, including padding.
        activation: Activation of the pooler, by name or as a callable. "gelu" is the exact function, "gelu_tanh" its
            approximation.
        dropout_rate: Fraction of the pooler's output dropped while training.
        initializer: Initializer of the kernels of both linear maps.
        bias_initializer, kernel_regularizer, bias_regularizer, activity_regularizer, kernel_constraint, bias_constraint: For both
            linear maps, with the same meaning and defaults as in `keras.layers.Dense`.

    Call arguments:
        features: Tensor of shape `(b, t, m)`; or `(b, m)`, one vector for each sequence, if `cls_token_idx` is 0.
        only_project: Whether to return the pooler's output, before dropout, instead of logits. With `inner_dim=0`, this is the
            token's vector.
        training: Whether to apply dropout.

    Returns:
        Logits of shape `(b, c)`, in the compute dtype. With `only_project`, the pooler's output instead, `(b, f)`.

    Raises:
        ValueError: if `inner_dim` is below 0 or `num_classes` below 1, `dropout_rate` is outside [0, 1), the activation is
            unknown, `cls_token_idx` is not an integer or is outside the sequence, `features` does not have 2 or 3 axes, or its
            last axis has an unknown size or a size that does not fit the weights. If the length is known only at run time, the
            backend checks `cls_token_idx`.

    Example:

    >>> head = ClassificationHead(inner_dim=8, num_classes=3, dropout_rate=0.1)
    >>> head(keras.ops.ones((2, 5, 8))).shape
    TensorShape([2, 3])

    Differs from the Model Garden:
        With `inner_dim=0`, features with three axes give the logits of the token `cls_token_idx`; there, they give the logits of
        every token. Features may have two axes with a pooler too. Without a pooler, `checkpoint_items` is empty; there, it raises
        an error. "gelu" is exact. The arguments of `ProjectingLayer` are new.

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
        [initializer] = interpreted(keras.initializers.get, initializer=initializer)
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
        self.supports_masking = True  # accept a mask; the output has none, see `compute_mask`

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
        if len(shape) not in (2, 3) or known(shape[-1]) is None or shape[-1] != (size or shape[-1]):
            last = f"of size {size}" if size else "of known size"
            raise ValueError(f"features must have 2 or 3 axes, the last {last}. Received: features of shape {tuple(shape)}")
        length = known(shape[1]) if len(shape) == 3 else None
        outside = self.cls_token_idx != 0 if len(shape) == 2 else length and not -length <= self.cls_token_idx < length
        if outside or length == 0:
            raise ValueError(
                f"cls_token_idx must be a position of features, 0 if they have 2 axes. "
                f"Received: cls_token_idx={self.cls_token_idx}, features of shape {tuple(shape)}"
            )

    @property
    def checkpoint_items(self):
        """{name: layer} of the layers that another task can reuse: the pooler, if there is one."""
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
