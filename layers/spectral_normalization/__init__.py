"""A layer whose kernel stretches no input by more than a constant (Keras 3)."""

import keras
from keras import ops

from layers.common.checks import check_at_least
from layers.common.normalization import in_float32_at_least
from layers.spectral_normalization.power_iteration import ConvolutionMap, KernelMap, converge, estimated_norm, iterate, unit

WARM = 1e-5


@keras.saving.register_keras_serializable(package="layers")
class SpectralNormalization(keras.layers.Wrapper):
    """Another layer, with its kernel W replaced by W · min(1, c / σ̂), where σ̂ estimates the largest singular value of W.

    Computes equations (2) to (4) of `reference/spectral_normalization/`.

    The trained kernel is only read: the one that is used is computed from it in every call (what a Dense makes is multiplied
    instead, which is the same), and gradients flow through σ̂, with its singular vectors `u` and `v` held constant. These two are
    weights. A training call moves them on by `iteration` power iterations before it uses them; any other call uses them as they
    are. They start warm: building the layer runs the iteration on the initial kernel until it lets σ̂ grow by no more than 10⁻⁵ of
    it (at most 500 times), which found the norms of random kernels to two thousandths: so the very first call is bounded already.
    Whoever assigns another kernel by hand calls `warm_start()` for the same, with a smaller `tolerance` for a closer one; loaded
    weights bring their own vectors.

    What is bounded is a matrix made of the kernel. Of a Dense it is the kernel, and of an EinsumDense the kernel with the
    input's axes as rows: there, ‖W x‖ ≤ c ‖x‖ holds. Of a convolution, and of any other layer with a kernel, the rows are all
    axes but the last. A convolution applies that matrix to overlapping windows, and may stretch an image by up to
    √(positions in the window) times c. `image_size` bounds the convolution itself, by power iteration with it and its transpose.

    Axes: `b` batch, `m` input, `f` output.

    Args:
        layer: The layer, which has a weight `kernel`: Dense, EinsumDense, Conv1D, Conv2D, Conv3D, or one of your own. Another
            wrapper may have the same one; nothing is written into it.
        iteration: Power iterations in each training call.
        norm_multiplier: The bound c.
        training: Whether training calls move `u` and `v` on. If False, σ̂ stays vᵀ W u with the vectors as they are.
        inhere_layer_name: Whether this layer is called as the wrapped one. Otherwise it is called that and "_spectral_norm".
        image_size: For convolutions without groups: None, or the size of each axis of the image, such as (32, 32); the
            convolution is then bounded for images of that size and, without strides, for smaller ones.

    Call arguments:
        inputs: What `layer` takes.
        training: Whether this is a training call; None, with nobody around the layer knowing better, is not.

    Returns:
        What `layer` returns.

    On TensorFlow, a model whose training XLA compiles (`jit_compile=True`) must be built before `fit`, for example by a
    `keras.Input`: XLA cannot make weights that start as functions of other weights, and says so.

    Raises:
        ValueError: for a layer without a weight `kernel`, an iteration below 1, a norm_multiplier that is not above 0, an
            image_size that is not one size for each axis or not for a convolution without groups, and an image larger than it.

    Example:

    >>> layer = SpectralNormalization(keras.layers.Dense(3), norm_multiplier=0.9)
    >>> x = keras.random.normal((5, 8))
    >>> y = layer(x) - layer(keras.ops.zeros((5, 8)))
    >>> bool(keras.ops.all(keras.ops.norm(y, axis=1) <= 0.9001 * keras.ops.norm(x, axis=1)))
    True

    Differs from the Model Garden:
        There the kernel is overwritten with the normalised one in each call, also outside of training unless `training=False` is
        given: a projection, without a gradient through σ̂. There one iteration from random vectors starts it, which leaves σ
        above the bound, and the kernel of an EinsumDense is reshaped by its last axis, whatever belongs to the input.
        Its `aggregation` is not an argument: `u` and `v` come out the same on every replica. Its SpectralNormalizationConv2D
        is this class with an `image_size`, for any padding, strides and dilation.

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
        inhere_layer_name=False,
        image_size=None,
        **kwargs,
    ):
        name = kwargs.pop("name", None) or layer.name + "_spectral_norm" * (not inhere_layer_name)
        super().__init__(layer, name=name, **({"dtype": layer.dtype_policy} | kwargs))
        check_at_least(1, iteration=iteration)
        if isinstance(norm_multiplier, bool) or not norm_multiplier > 0:
            raise ValueError(f"norm_multiplier must be above 0. Received: norm_multiplier={norm_multiplier!r}")
        self.iteration = iteration
        self.norm_multiplier = norm_multiplier
        self.training = training
        self.inhere_layer_name = inhere_layer_name
        self.image_size = None if image_size is None else tuple(image_size)
        if self.image_size is not None:
            check_at_least(1, **{f"image_size[{axis}]": size for axis, size in enumerate(self.image_size)})
        # The layer's own regulariser is lost in `call_with`, and sees the same output here.
        self.activity_regularizer = layer.activity_regularizer or self.activity_regularizer
        self.supports_masking = layer.supports_masking

    def build(self, input_shape):
        super().build(input_shape)
        kernel = self.trained_kernel()
        self.linear = self.image_map(input_shape) if self.image_size else KernelMap(kernel.shape, self.input_axes(kernel))
        dtype = "float32" if kernel.dtype in ("float16", "bfloat16") else kernel.dtype
        # Every replica computes the same vectors from the same kernel.
        options = {"trainable": False, "dtype": dtype, "autocast": False, "aggregation": "only_first_replica"}
        self.u = self.add_weight(name="u", shape=self.linear.u_shape, initializer=self.warm_u, **options)
        self.v = self.add_weight(name="v", shape=self.linear.v_shape, initializer=self.warm_v, **options)
        # A Dense that computes in another dtype than σ̂ is called as any other layer is.
        is_dense = type(self.layer) is keras.layers.Dense and not self.layer.quantization_mode
        self.is_plain_dense = is_dense and {self.layer.compute_dtype, self.compute_dtype} == {dtype}
        if self.is_plain_dense:
            self.input_spec = self.layer.input_spec

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
        return self.call_with(kernel * self.factor(estimated_norm(self.linear, kernel, u, v)), inputs)

    def factor(self, sigma):
        """min(1, c / σ̂), and 1 for a kernel of zeros."""
        return self.norm_multiplier / ops.maximum(sigma, self.norm_multiplier)

    def call_dense(self, kernel, inputs, u, v):
        """What a Dense makes of `inputs`: v is one more of them, so that one product reads the kernel once for both."""
        rows = ops.matmul(ops.concatenate([v[None], ops.reshape(inputs, (-1, inputs.shape[-1]))]), kernel)
        y = rows * self.factor(ops.sum(u * rows[0]))
        y = y if self.layer.bias is None else ops.add(y, self.layer.bias)
        return self.layer.activation(ops.reshape(y[1:], (*ops.shape(inputs)[:-1], kernel.shape[-1])))

    def call_with(self, kernel, inputs):
        """What the wrapped layer makes of `inputs` with another `kernel`."""
        own = {id(variable): ops.convert_to_tensor(variable) for variable in self.layer.variables}
        own[id(self.layer.kernel)] = ops.cast(kernel, self.layer.kernel.dtype)
        with keras.StatelessScope(state_mapping=[(v, own[id(v)]) for v in self.layer.variables]):
            return self.layer(inputs)

    def warm_start(self, tolerance=WARM):
        """Let `u` and `v` converge on the kernel as it is now, for example after it was assigned."""
        u, v = converge(self.linear, self.read_kernel(), tolerance)
        self.u.assign(u)
        self.v.assign(v)

    # Both start as functions of the kernel, because where Keras puts off making weights the kernel has no value yet.

    def warm_u(self, shape, dtype):
        return ops.cast(converge(self.linear, self.read_kernel(), tolerance=WARM)[0], dtype)

    def warm_v(self, shape, dtype):
        v = self.linear.apply_transposed(ops.convert_to_tensor(self.u), self.read_kernel())
        return ops.cast(unit(v, otherwise=ops.zeros_like(v)), dtype)

    def trained_kernel(self):
        kernel = getattr(self.layer, "kernel", None)
        if not isinstance(kernel, keras.Variable):  # such as one with a low-rank addition
            kind = f"{type(self.layer).__name__} {self.layer.name!r}"
            raise ValueError(f"layer must have a weight called kernel. Received: layer={kind}")
        return kernel

    def read_kernel(self):
        return in_float32_at_least(ops.convert_to_tensor(self.trained_kernel()))

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
            raise ValueError(f"image_size needs a Conv1D, Conv2D or Conv3D without groups as the layer. Received: {kind}")
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
        if any(size is not None and size > largest for size, largest in zip(sizes, self.image_size)):
            raise ValueError(
                f"inputs must have images of at most image_size={self.image_size}. Received: inputs of shape {tuple(shape)}"
            )

    def compute_mask(self, inputs, previous_mask=None):
        return self.layer.compute_mask(inputs, previous_mask)

    def compute_output_shape(self, input_shape):
        return self.layer.compute_output_shape(input_shape)

    def get_config(self):
        return super().get_config() | {
            "iteration": self.iteration,
            "norm_multiplier": self.norm_multiplier,
            "training": self.training,
            "inhere_layer_name": self.inhere_layer_name,
            "image_size": self.image_size,
        }
