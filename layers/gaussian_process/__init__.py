"""A Gaussian process with random features, as an output layer (Keras 3)."""

import math

import keras
import numpy as np
from keras import ops

from layers.common.activations import cosine, get_activation
from layers.common.checks import check_rank, interpreted
from layers.common.normalization import LayerNorm
from layers.common.output_shapes import TracedLayer
from layers.common.projection import fresh
from layers.common.sizes import known
from layers.gaussian_process import state as covariance_state
from layers.gaussian_process.arguments import ARGUMENTS, check_arguments
from layers.gaussian_process.posterior import covariance
from layers.gaussian_process.random_features import FeatureWeights, RandomFeatures, given

NORM_EPSILON = 1e-3


@keras.saving.register_keras_serializable(package="layers")
class RandomFeatureGaussianProcess(TracedLayer):
    """Logits and their covariance, which grows with the distance from the training data up to that of the prior.

    Computes equations (1) to (5) of `reference/gaussian_process.py`. The default kernel is e^{−‖x−y‖²/(2 gp_kernel_scale)}.

    Axes: `b` example, `m` model size, `r` random feature, `c` class.

    Args:
        units: Number of classes, `c`.
        num_inducing: Number of random features, `r`. The error of the kernel falls as 1/√r. Ignored for "linear".
        gp_kernel_type: "gaussian"; "laplacian", e^{−‖x−y‖₁/√gp_kernel_scale}; or "linear", x·y/gp_kernel_scale, whose features
            are the scaled inputs.
        gp_kernel_scale: Kernel scale, s, in units of a squared distance. Applies after the norm, if there is one.
        gp_output_bias: Initial value of the bias of the logits.
        normalize_input: Whether to apply a layer norm, with ε = 10⁻³, to the inputs.
        gp_kernel_scale_trainable: Whether log s is trainable.
        gp_output_bias_trainable: Whether the bias is trainable.
        gp_cov_momentum: Momentum, m. At or below 0, the precision is the exact sum over all examples since the last reset; reset
            it before each epoch with `ResetCovarianceCallback` of `layers/gaussian_process/callback.py`. Above 0, it is a moving
            average per example, which ignores the number of examples: variances are far too large.
        gp_cov_ridge_penalty: Ridge, ρ, the variance of the noise. It never decays.
        scale_random_features: Whether to scale features by √(2/r). Without it, the prior variance is r/2 times as large.
        use_custom_random_features: Whether the next two arguments may be given.
        custom_random_features_initializer: Initializer of the random kernel, instead of the distribution of `gp_kernel_type`.
            With Keras's "random_normal", whose standard deviation is 0.05, s is effectively 400 times as large.
        custom_random_features_activation: Activation of the random features, instead of the cosine, by name or as a callable.
        l2_regularization: L2 penalty on the output weights. With the mean squared error over n examples as the loss, a penalty of
            ρ/n makes the trained output weights equal the posterior mean.
        gp_cov_likelihood: "gaussian"; with 1 unit, also "binary_logistic", or "poisson", whose logit is the log of the rate.
        return_gp_cov: Whether to compute and return the covariance.
        return_random_features: Whether to return the features.
        kernel_initializer: Initializer of the output weights, by name or as an object.
        seed: Seed of the random features.

    Call arguments:
        inputs: Tensor of shape `(b, m)`.
        training: Whether to add the batch to the precision. Then the covariance is not computed, and None is returned for it.
        diagonal: Whether to compute only the diagonal of the covariance, the variances.

    Returns:
        List of the logits, `(b, c)`; with `return_gp_cov`, their covariance, `(b, b)`, the same for all classes, or its diagonal,
        `(b,)`; with `return_random_features`, the features, `(b, r)`. All are in the compute dtype.

    Raises:
        ValueError: if arguments are out of range or incompatible, the inputs do not have 2 axes, the size of their last axis is
            unknown or changes, the precision is not positive definite (a compiled program returns infinite covariances), or it
            is trained in `jax.shard_map` or `jax.pmap`, on the examples of one device (`layers/gaussian_process/state.py`).

    Example:

    >>> layer = RandomFeatureGaussianProcess(units=3, num_inducing=16, gp_cov_momentum=-1)
    >>> _ = layer(keras.ops.ones((5, 8)), training=True)
    >>> [tensor.shape for tensor in layer(keras.ops.ones((5, 8)), diagonal=True)]
    [TensorShape([5, 3]), TensorShape([5])]

    Differs from the Model Garden:
        The documented kernel is the one computed. Norm and scale both apply, and the scale can be trained. The ridge does not
        decay. While training, the covariance is None, not the identity. The precision, in at least float32, is inverted only when
        it has changed, and includes the data of all replicas. `diagonal` and `seed` are new. `kernel_initializer` is the only
        argument of the output map; there, it takes all of a Dense. `global_step`, unused there, is not in `call`. The kernel type
        applies with custom features too. The constructor checks that "poisson" and "binary_logistic" have 1 unit. The
        kernel's scale and the state of the inversion are weights too.

    Reference:
        [Rahimi and Recht, 2007](https://papers.nips.cc/paper/3182-random-features-for-large-scale-kernel-machines), section 3;
        [Liu et al., 2020](https://arxiv.org/abs/2006.10108), section 3.1.
    """

    def __init__(
        self,
        units,
        num_inducing=1024,
        gp_kernel_type="gaussian",
        gp_kernel_scale=1.0,
        gp_output_bias=0.0,
        normalize_input=False,
        gp_kernel_scale_trainable=False,
        gp_output_bias_trainable=False,
        gp_cov_momentum=0.999,
        gp_cov_ridge_penalty=1.0,
        scale_random_features=True,
        use_custom_random_features=True,
        custom_random_features_initializer=None,
        custom_random_features_activation=None,
        l2_regularization=1e-6,
        gp_cov_likelihood="gaussian",
        return_gp_cov=True,
        return_random_features=False,
        *,
        kernel_initializer="glorot_uniform",
        seed=0,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.units = units
        self.num_inducing = num_inducing
        self.gp_kernel_type = gp_kernel_type
        self.gp_kernel_scale = gp_kernel_scale
        self.gp_output_bias = gp_output_bias
        self.normalize_input = normalize_input
        self.gp_kernel_scale_trainable = gp_kernel_scale_trainable
        self.gp_output_bias_trainable = gp_output_bias_trainable
        self.gp_cov_momentum = gp_cov_momentum
        self.gp_cov_ridge_penalty = gp_cov_ridge_penalty
        self.scale_random_features = scale_random_features
        self.use_custom_random_features = use_custom_random_features
        self.custom_random_features_initializer = custom_random_features_initializer
        self.custom_random_features_activation = custom_random_features_activation
        self.l2_regularization = l2_regularization
        self.gp_cov_likelihood = gp_cov_likelihood
        self.return_gp_cov = return_gp_cov
        self.return_random_features = return_random_features
        self.seed = seed
        check_arguments(self)
        initializers = {"custom_random_features_initializer": custom_random_features_initializer}
        initializers |= {"kernel_initializer": kernel_initializer}
        read = interpreted(keras.initializers.get, **initializers)
        self.custom_random_features_initializer, self.kernel_initializer = read
        if custom_random_features_activation is not None:
            name = "custom_random_features_activation"
            self.custom_random_features_activation = get_activation(name, custom_random_features_activation)
        self.autocast = False  # keep the inputs in float32
        self.input_size = None

    @property
    def feature_dtype(self):
        return "float64" if self.compute_dtype == "float64" else "float32"

    def build(self, input_shape):
        self.check_shape(input_shape)
        self.input_size = m = input_shape[-1]
        dtype = self.feature_dtype
        r = m if self.gp_kernel_type == "linear" else self.num_inducing
        if self.normalize_input:
            self.input_norm = LayerNorm(epsilon=NORM_EPSILON, name="input_norm", dtype=dtype)
            self.input_norm.build((None, m))
        if self.gp_kernel_type != "linear":
            options = {"kernel_type": self.gp_kernel_type, "kernel_initializer": self.custom_random_features_initializer}
            activation = self.custom_random_features_activation or cosine
            self.random_features = RandomFeatures(r, activation, seed=self.seed, name="random_features", dtype=dtype, **options)
            self.random_features.build((None, m))
        penalty = keras.regularizers.L2(self.l2_regularization)
        start = fresh(self.kernel_initializer)
        self.gp_output_weights = FeatureWeights(self.units, start, penalty, name="gp_output_weights", dtype=self.dtype_policy)
        self.gp_output_weights.build((None, r))
        start = given(np.full(self.units, self.gp_output_bias))  # Keras's Constant rounds to float32, even for float64
        self.output_bias = self.add_weight(
            name="gp_output_bias", shape=(self.units,), initializer=start, trainable=self.gp_output_bias_trainable, autocast=False
        )
        start = given(np.log(self.gp_kernel_scale))
        self.log_kernel_scale = self.add_weight(
            name="log_kernel_scale",
            shape=(),
            initializer=start,
            trainable=self.gp_kernel_scale_trainable,
            dtype=dtype,
            autocast=False,
        )
        if self.return_gp_cov:
            covariance_state.add_state(self, r, dtype)

    def call(self, inputs, *, training=None, diagonal=False):
        self.check_shape(inputs.shape)
        phi = self.features(ops.cast(inputs, self.feature_dtype))
        logits = self.gp_output_weights(phi) + ops.cast(self.output_bias, phi.dtype)
        outputs = [logits]
        if self.return_gp_cov and training:
            covariance_state.count_in(self, ops.stop_gradient(phi), ops.stop_gradient(logits))
            outputs.append(None)
        elif self.return_gp_cov:
            outputs.append(covariance(phi, covariance_state.factor(self), diagonal))
        if self.return_random_features:
            outputs.append(phi)
        return [x if x is None else ops.cast(x, self.compute_dtype) for x in outputs]

    def features(self, x):
        """Equation (1)."""
        if self.normalize_input:
            x = self.input_norm(x)
        x = x * ops.exp(-self.log_kernel_scale / 2)
        if self.gp_kernel_type == "linear":
            return x
        phi = self.random_features(x)
        return phi * math.sqrt(2 / self.num_inducing) if self.scale_random_features else phi

    def reset_covariance_matrix(self):
        """Reset the precision to that of the prior. Call it before each pass over the data if `gp_cov_momentum` ≤ 0.

        Raises:
            ValueError: if `return_gp_cov` is False, or the layer has not been built.
        """
        if not self.return_gp_cov or not self.built:
            raise ValueError(
                "reset_covariance_matrix needs a layer that has been called, with return_gp_cov=True. "
                f"Received: return_gp_cov={self.return_gp_cov}, built={self.built}"
            )
        self.precision_matrix.assign(
            self.gp_cov_ridge_penalty * ops.eye(self.precision_matrix.shape[0], dtype=self.feature_dtype)
        )

    def check_shape(self, shape):
        check_rank(2, inputs=shape)
        size = self.input_size or shape[-1]
        if known(size) is None or shape[-1] != size:
            last = f"of size {self.input_size}" if self.input_size else "of known size"
            raise ValueError(f"inputs must have a last axis {last}. Received: inputs of shape {tuple(shape)}")

    def compute_output_spec(self, inputs, training=None, diagonal=False):
        # Not traced, because tracing would invert the precision.
        self.check_shape(inputs.shape)
        b, r = inputs.shape[0], inputs.shape[-1] if self.gp_kernel_type == "linear" else self.num_inducing
        outputs = [keras.KerasTensor((b, self.units), self.compute_dtype)]
        if self.return_gp_cov:
            outputs.append(None if training else keras.KerasTensor((b,) if diagonal else (b, b), self.compute_dtype))
        if self.return_random_features:
            outputs.append(keras.KerasTensor((b, r), self.compute_dtype))
        return outputs

    def get_config(self):
        config = super().get_config() | {name: getattr(self, name) for name in ARGUMENTS}
        config["kernel_initializer"] = keras.initializers.serialize(self.kernel_initializer)
        serialize = {"initializer": keras.initializers.serialize, "activation": keras.activations.serialize}
        for kind, serialized in serialize.items():
            name = f"custom_random_features_{kind}"
            config[name] = None if config[name] is None else serialized(config[name])
        return config
