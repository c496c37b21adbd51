"""A wrapper that bounds the spectral norm of a layer's kernel (Keras 3)."""

import keras
from keras import ops

from layers.common.checks import check_at_least, check_flags, check_number
from layers.common.normalization import in_float32_at_least
from layers.common.output_shapes import TracedLayer
from layers.common.quantization import float_policy
from layers.common.sizes import known
from layers.spectral_normalization.power_iteration import ConvolutionMap, KernelMap, converge, estimated_norm, iterate, unit
from layers.spectral_normalization.wrapped import Instead, check_one_input, float_kernel, multiplied, trained_kernel

WARM = 1e-5


@keras.saving.register_keras_serializable(package="layers")
class SpectralNormalization(TracedLayer, keras.layers.Wrapper):
    """Wraps a layer and replaces its kernel W by W · min(1, c / σ̂), where σ̂ estimates the largest singular value of W.

    Computes equations (2) to (4) of `reference/spectral_normalization/`.

    Calls never overwrite the trained kernel; each call computes the bounded kernel from it. (For a Dense, the output is scaled
    instead, which is equivalent.) Gradients flow through σ̂, with its singular vectors `u` and `v` held constant. These two are
    non-trainable weights. A training call first updates them with `iteration` power iterations; other calls only read them. When
    the layer is built, power iteration on the initial kernel runs until σ̂ grows by at most 10⁻⁵ of its value per iteration
    (at most 500 iterations), so the first call is nearly always bounded. It may stop too early where the two largest singular
    values are close: of 3,960 random kernels, from 8 × 8 to 784 × 128, 21 had a norm of more than 1.002 σ̂, the worst 1.041 σ̂.
    After assigning a kernel by hand, or adding to it with `enable_lora`, call `warm_start()` to repeat this. A smaller
    `tolerance` makes an early stop rarer (10⁻⁷: 3 of the 3,960, the worst 1.009 σ̂). Loaded weights include their vectors.

    Whatever else the wrapped layer does, it does here too: counters, seeds and moving means go on, and its losses count. Its
    kernel may be quantized to int8 or float8, and may have a low-rank addition; the bound then holds for the kernel in use.

    The bound holds for a matrix made from the kernel. For a Dense it is the kernel; for an EinsumDense, the kernel with the
    input's axes as rows. In both cases, ‖W x‖ ≤ c ‖x‖. For a convolution, and for any other layer with a kernel, the rows are all
    axes except the last. A convolution applies that matrix to overlapping windows and may stretch an image by up to
    √(positions in the window) times c. `image_size` bounds the convolution itself, by power iteration with it and its transpose.

    Axes: `b` batch, `m` input, `f` output.

    Args:
        layer: A layer with a weight `kernel`: Dense, EinsumDense, Conv1D, Conv2D, Conv3D, or your own. Several wrappers may share
            a layer, because its kernel is not modified.
        iteration: Number of power iterations in each training call.
        norm_multiplier: The bound c, above 0.
        training: Whether training calls update `u` and `v`. If False, the vectors stay constant and σ̂ is vᵀ W u.
        inhere_layer_name: If True, this layer gets the name of the wrapped layer. If False, "_spectral_norm" is appended.
        image_size: For convolutions without groups: None, or the size of each axis of the image, such as (32, 32). The
            convolution is then bounded for images of that size and, without strides, for smaller images.

    Call arguments:
        inputs: The inputs of `layer`.
        training: Whether this is a training call. None takes the value of the enclosing call, or else False.

    Returns:
        The output of `layer`.

    On TensorFlow, a model trained with `jit_compile=True` must be built before `fit`, for example with a `keras.Input`. XLA
    cannot create weights whose initial values depend on other weights, and raises an error.

    Raises:
        ValueError: if the layer has no weight `kernel` or is called with several inputs, `iteration` is below 1,
            `norm_multiplier` is not above 0, `image_size` does not have one size per axis or the layer is not a convolution
            without groups, an image is too large, or the layer assigns its own kernel or is quantized in another way.

    Example:

    >>> layer = SpectralNormalization(keras.layers.Dense(3), norm_multiplier=0.9)
    >>> x = keras.random.normal((5, 8))
    >>> y = layer(x) - layer(keras.ops.zeros((5, 8)))
    >>> bool(keras.ops.all(keras.ops.norm(y, axis=1) <= 0.9001 * keras.ops.norm(x, axis=1)))
    True

    Differs from the Model Garden:
        There, each call overwrites the kernel with the normalized one, even outside training unless `training=False`: a
        projection, without a gradient through σ̂. There, one iteration from random vectors initializes it, which leaves σ above
        the bound, and the kernel of an EinsumDense is reshaped by its last axis, whichever axes belong to the input. The argument
        `aggregation` is omitted, because `u` and `v` are the same on every replica. As the kernel is never overwritten,
        `update_weights` and `restore_weights` do not exist. SpectralNormalizationConv2D corresponds to this class with an
        `image_size`, for any padding, strides and dilation.

    Reference:
        [Miyato et al., 2018](https://arxiv.org/abs/1802.05957), section 2.1; [Liu et al., 2020](https://arxiv.org/abs/2006.10108),
        section 3.2, for the bound.
    """

    def __init__(
        self,
        layer,
        iteration=1,
        norm_multiplier=0.95,
        training=True,
        *,
        inhere_layer_name=False,
        image_size=None,
        **kwargs,
    ):
        if not isinstance(layer, keras.layers.Layer):
            raise ValueError(f"layer must be a Keras layer. Received: layer={layer!r}")
        check_one_input(layer)
        check_flags(training=training, inhere_layer_name=inhere_layer_name)
        name = kwargs.pop("name", None) or layer.name + "_spectral_norm" * (not inhere_layer_name)
        super().__init__(layer, name=name, **({"dtype": float_policy(layer.dtype_policy)} | kwargs))
        check_at_least(1, iteration=iteration)
        check_number("above 0", lambda bound: bound > 0, norm_multiplier=norm_multiplier)
        self.iteration = iteration
        self.norm_multiplier = norm_multiplier
        self.training = training
        self.inhere_layer_name = inhere_layer_name
        self.image_size = None if image_size is None else tuple(image_size)
        if self.image_size is not None:
            check_at_least(1, **{f"image_size[{axis}]": size for axis, size in enumerate(self.image_size)})
        if layer.activity_regularizer is not None:
            self.activity_regularizer = None  # the wrapped layer has the same output, and applies its own
        self.supports_masking = layer.supports_masking

    def build(self, input_shape):
        super().build(input_shape)
        kernel = trained_kernel(self.layer)
        self.linear = self.image_map(input_shape) if self.image_size else KernelMap(kernel.shape, self.input_axes(kernel))
        dtype = "float64" if self.layer.variable_dtype == "float64" else "float32"
        # Each replica computes the same vectors from the same kernel.
        options = {"trainable": False, "dtype": dtype, "autocast": False, "aggregation": "only_first_replica"}
        self.u = self.add_weight(name="u", shape=self.linear.u_shape, initializer=self.warm_u, **options)
        self.v = self.add_weight(name="v", shape=self.linear.v_shape, initializer=self.warm_v, **options)
        # A Dense whose compute dtype differs from that of σ̂ is called like any other layer.
        self.has_one_dtype = {self.layer.compute_dtype, self.compute_dtype} == {dtype}
        # Keras hands it on to sublayers, but not from a stateless call.
        self.takes_training = self.layer._call_has_training_arg
        if self.is_plain_dense:
            self.input_spec = self.layer.input_spec

    @property
    def is_plain_dense(self):
        """Whether the wrapped layer does nothing that `call_dense` does not. Quantization and low-rank additions come later."""
        layer = self.layer
        is_dense = self.has_one_dtype and type(layer) is keras.layers.Dense and layer.activity_regularizer is None
        return is_dense and layer.quantization_mode is None and not layer.lora_enabled

    def call(self, inputs, training=None):
        self.check_image(inputs.shape)
        kernel = self.read_kernel()
        u, v = ops.convert_to_tensor(self.u), ops.convert_to_tensor(self.v)
        if training and self.training:
            u, v = (ops.stop_gradient(x) for x in iterate(self.linear, ops.stop_gradient(kernel), u, v, self.iteration))
            self.u.assign(u)
            self.v.assign(v)
        if self.is_plain_dense:
            return self.call_dense(kernel, inputs, u, v)
        return self.call_with(kernel, self.factor(estimated_norm(self.linear, kernel, u, v)), inputs, training)

    def factor(self, sigma):
        """min(1, c / σ̂), and 1 for a kernel of zeros."""
        return self.norm_multiplier / ops.maximum(sigma, self.norm_multiplier)

    def call_dense(self, kernel, inputs, u, v):
        """The output of a Dense. v is appended to `inputs`, so that one product reads the kernel once for both."""
        rows = ops.matmul(ops.concatenate([v[None], ops.reshape(inputs, (-1, inputs.shape[-1]))]), kernel)
        y = rows * self.factor(ops.sum(u * rows[0]))
        y = y if self.layer.bias is None else ops.add(y, self.layer.bias)
        return self.layer.activation(ops.reshape(y[1:], (*ops.shape(inputs)[:-1], kernel.shape[-1])))

    def call_with(self, kernel, factor, inputs, training):
        """The output of the wrapped layer for `inputs`, with `kernel` · `factor` in place of its own, `kernel`."""
        with Instead(self.layer, multiplied(self.layer, kernel, factor)) as scope:
            output = self.layer(inputs, training=training) if self.takes_training else self.layer(inputs)
        scope.apply(self)
        return output

    def warm_start(self, tolerance=WARM):
        """Run power iteration until `u` and `v` fit the current kernel, for example after assigning it.

        Args:
            tolerance: The relative increase of σ̂ in one iteration at which the iteration stops.
        """
        u, v = converge(self.linear, self.read_kernel(), tolerance)
        self.u.assign(u)
        self.v.assign(v)

    # Both are initializers that read the kernel: where Keras delays creating weights, the kernel has no value in `build`.

    def warm_u(self, shape, dtype):
        return ops.cast(converge(self.linear, self.read_kernel(), tolerance=WARM)[0], dtype)

    def warm_v(self, shape, dtype):
        v = self.linear.apply_transposed(ops.convert_to_tensor(self.u), self.read_kernel())
        return ops.cast(unit(v, otherwise=ops.zeros_like(v)), dtype)

    def read_kernel(self):
        return in_float32_at_least(float_kernel(self.layer))

    def input_axes(self, kernel):
        """The axes of the kernel that belong to the input."""
        if not isinstance(self.layer, keras.layers.EinsumDense):
            return range(len(kernel.shape) - 1)
        inputs, kernel_axes = self.layer.equation.replace(" ", "").split("->")[0].split(",")
        return [axis for axis, letter in enumerate(kernel_axes) if letter in inputs]

    def image_map(self, input_shape):
        is_convolution = isinstance(self.layer, (keras.layers.Conv1D, keras.layers.Conv2D, keras.layers.Conv3D))
        if not is_convolution or self.layer.groups != 1:
            groups = f" with groups={self.layer.groups}" if is_convolution else ""
            kind = type(self.layer).__name__ + groups
            raise ValueError(f"image_size needs a layer that is a Conv1D, Conv2D or Conv3D without groups. Received: {kind}")
        if len(self.image_size) != len(input_shape) - 2:
            raise ValueError(
                f"image_size must have {len(input_shape) - 2} sizes, one for each axis of the image. "
                f"Received: image_size={self.image_size}"
            )
        return ConvolutionMap(self.layer, self.image_size)

    def check_image(self, shape):
        if self.image_size is None:
            return
        sizes = shape[1:-1] if self.layer.data_format == "channels_last" else shape[2:]
        if any(known(size) is not None and size > largest for size, largest in zip(sizes, self.image_size)):
            raise ValueError(
                f"inputs must be images of at most image_size={self.image_size}. Received: inputs of shape {tuple(shape)}"
            )

    def compute_mask(self, inputs, previous_mask=None):
        return self.layer.compute_mask(inputs, previous_mask)

    def get_config(self):
        return super().get_config() | {
            "iteration": self.iteration,
            "norm_multiplier": self.norm_multiplier,
            "training": self.training,
            "inhere_layer_name": self.inhere_layer_name,
            "image_size": self.image_size,
        }
