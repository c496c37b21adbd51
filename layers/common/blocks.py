"""Parts of transformer blocks other than attention: the feed-forward sublayer, norms, and the sizes of the heads."""

import warnings
from contextvars import ContextVar

import keras

from layers.common.checks import check_at_least, check_epsilon, check_same, shapes
from layers.common.masks import check_two_axes
from layers.common.normalization import LayerNorm, RMSNorm
from layers.common.projection import LinearMap, ProjectingLayer, fresh
from layers.common.sizes import known
from layers.common.sums import added_up


class BlockLayer(ProjectingLayer):
    """A layer made of sublayers, which all get the options given to the layer as a whole.

    A subclass overrides the attributes below that it takes as arguments. What sublayers return is added by `added_up`: under a
    `DTypePolicyMap` they may differ in dtype, which TensorFlow's `+` refuses and JAX's promotes.
    """

    required_tensors = ("inputs",)
    use_bias = True
    norm_epsilon = 1e-12
    use_rms_norm = False
    attention_initializer = None
    norm_first = False
    diff_q_kv_att_layer_norm = False
    use_query_residual = True

    def __call__(self, *args, **kwargs):
        inputs = args[0] if args else kwargs.get("inputs")
        if isinstance(inputs, (list, tuple)) and inputs and inputs[0] is None:
            raise ValueError("inputs must start with x, a tensor. Received: inputs[0]=None")
        if not self.built and isinstance(inputs, (list, tuple)) and any(part is None for part in inputs):
            self.build(shapes(*inputs))  # Keras before 3.13 cannot build if a part is None
        return super().__call__(*args, **kwargs)

    def make_attention(self, name, kind, **options):
        """A sublayer of class `kind`, with the block's number of heads, biases, projection options and attention initializer."""
        shared = self.projection_options() | {"use_bias": self.use_bias, "dtype": self.dtype_policy}
        if self.attention_initializer is not None:
            shared["kernel_initializer"] = fresh(self.attention_initializer)
        return kind(num_heads=self.num_attention_heads, name=name, **(shared | options))

    def make_norm(self, name, size):
        """A norm along the last axis, already built."""
        check_epsilon(norm_epsilon=self.norm_epsilon)
        norm = (RMSNorm if self.use_rms_norm else LayerNorm)(epsilon=self.norm_epsilon, name=name, dtype=self.dtype_policy)
        norm.build((None, None, size))
        return norm

    def make_dropout(self, rate):
        return keras.layers.Dropout(rate, dtype=self.dtype_policy)

    def make_dense(self, name, input_size, output_size):
        """A linear map of the last axis, already built, for inputs of any rank."""
        options = self.projection_options() | {"bias_axes": "f" if self.use_bias else None, "dtype": self.dtype_policy}
        dense = LinearMap("...m,mf->...f", output_size, name=name, **options)
        dense.build((None, input_size))
        dense.input_spec = keras.InputSpec(min_ndim=2, axes={-1: input_size})
        dense.supports_masking = True  # padding remains padding
        return dense

    def make_feed_forward(self, size, inner_size, activation, inner_dropout, output_dropout):
        """Create the sublayers of `feed_forward`: linear maps named `intermediate` and `output`, each followed by dropout."""
        self.intermediate_dense = self.make_dense("intermediate", size, inner_size)
        self.feed_forward_activation = activation
        self.inner_dropout_layer = self.make_dropout(inner_dropout)
        self.output_dense = self.make_dense("output", inner_size, size)
        self.output_dropout_layer = self.make_dropout(output_dropout)

    def feed_forward(self, x, training):
        """Equation (1) of `reference/transformer_encoder.py`."""
        inner = self.feed_forward_activation(self.intermediate_dense(x))
        inner = self.inner_dropout_layer(inner, training=training)
        return self.output_dropout_layer(self.output_dense(inner), training=training)

    def before_attention(self, x, key_value):
        """The inputs of attention: queries, and keys and values."""
        if not self.norm_first:
            return x, key_value
        normed = self.self_attention_norm(x)
        if self.diff_q_kv_att_layer_norm:
            return normed, self.key_value_norm(key_value)
        check_same("last axis if they share a norm", x=x.shape[-1], key_value=key_value.shape[-1])
        return normed, normed if key_value is x else self.self_attention_norm(key_value)

    def after_attention(self, x, added, training):
        """z of equation (2) of `reference/transformer_encoder.py`, or of (3), from x and the output of attention, `added`."""
        added = self.attention_dropout_layer(added, training=training)
        y = added_up(x, added) if self.use_query_residual else added
        if self.norm_first:
            return added_up(y, self.feed_forward(self.output_norm(y), training))
        y = self.self_attention_norm(y)
        return self.output_norm(added_up(y, self.feed_forward(y, training)))


class RangedBlock(BlockLayer):
    """A block that computes the first `output_range` positions: what the call says or else the constructor; None for all.

    Keras asks for the mask of the output after `call`, without its other arguments. So the number is kept for as long as a call
    lasts, and for this call alone, which may be one of several at a time.
    """

    def __call__(self, *args, **kwargs):
        token = CALLS.set((self, kwargs.get("output_range")))  # by position, it comes back here by name
        try:
            return super().__call__(*args, **kwargs)
        finally:
            CALLS.reset(token)

    def positions(self, output_range):
        """The number of positions to compute, or None."""
        return self.output_range if output_range is None else output_range

    def compute_mask(self, inputs, previous_mask=None):
        layer, output_range = CALLS.get()
        mask, count = super().compute_mask(inputs, previous_mask), self.positions(output_range if layer is self else None)
        return mask if mask is None or count is None else mask[:, :count]


CALLS = ContextVar("the block that is called, and the output_range that it is called with", default=(None, None))


def head_size(size, num_attention_heads, key_dim=None, rounds=False):
    """`key_dim`, or `size` / `num_attention_heads` if `key_dim` is None, rounded down with a warning if `rounds`.

    Raises:
        ValueError: if `size` is unknown, or `key_dim` is None and `num_attention_heads` does not divide `size`.
    """
    if known(size) is None:
        raise ValueError("the last axis of the inputs must have a known size. Received: a last axis of size None")
    if key_dim is None and size % num_attention_heads and 0 < num_attention_heads < size and rounds:
        warnings.warn(
            f"num_attention_heads={num_attention_heads} does not divide the last axis of the inputs, {size}: key_dim is rounded "
            f"down to {size // num_attention_heads}. Pass key_dim={size // num_attention_heads} if that is meant.",
            stacklevel=2,
        )
    elif key_dim is None and size % num_attention_heads:
        raise ValueError(
            "the last axis of the inputs must be divisible by num_attention_heads, unless the size of a head is given. "
            f"Received: a last axis of size {size}, num_attention_heads={num_attention_heads}"
        )
    return size // num_attention_heads if key_dim is None else key_dim


def split_inputs(inputs, forms):
    """The parts of `inputs`, a tensor or a list of tensors (or their shapes), with None for each missing part.

    Args:
        inputs: A tensor, a list of tensors, or their shapes.
        forms: {length of the list: names of its parts}. The longest form has all names, in the order of the result.

    Raises:
        ValueError: if the list has a length that is not in `forms`.
    """
    is_list = isinstance(inputs, (list, tuple)) and not all(isinstance(part, (int, type(None))) for part in inputs)
    parts = list(inputs) if is_list else [inputs]
    if len(parts) not in forms:
        lists = " or ".join("[" + ", ".join(names) + "]" for count, names in sorted(forms.items()) if count > 1)
        expected, received = "a tensor or " * (1 in forms) + lists, f"a list of {len(parts)}" if is_list else "a tensor"
        raise ValueError(f"inputs must be {expected}. Received: {received}")
    given = dict(zip(forms[len(parts)], parts))
    return [given.get(name) for name in forms[max(forms)]]


def first_positions(count, x, normed, mask, tokens=None, bias=None):
    """The first `count` query positions of `x`, `normed`, a mask, the queries' padding mask and a bias; all if it is None.

    Args:
        count: Number of positions, or None.
        x, normed: Tensors of shape `(b, t, m)`.
        mask: Attention mask, `(..., t, s)`, or None.
        tokens: Padding mask, `(b, t)`, or None.
        bias: Attention bias, `(..., t, s)`, or None.

    Raises:
        ValueError: if `count` is below 1 or exceeds the number of positions, or if `x` does not have 3 axes.
    """
    if count is None:
        return x, normed, mask, tokens, bias
    check_at_least(1, output_range=count)
    if len(x.shape) != 3:
        raise ValueError(f"output_range needs inputs with 3 axes. Received: inputs of shape {tuple(x.shape)}")
    if known(x.shape[1]) is not None and count > x.shape[1]:
        raise ValueError(f"output_range must be at most the length, {x.shape[1]}. Received: output_range={count}")
    if mask is not None and len(mask.shape) == 2:
        check_two_axes("attention_mask", mask.shape, *x.shape[:2])  # before its rows are those of the first positions
    mask, bias = (part if part is None or part.shape[-2:-1] in ((), (1,)) else part[..., :count, :] for part in (mask, bias))
    return x[:, :count], normed[:, :count], mask, None if tokens is None else tokens[:, :count], bias
