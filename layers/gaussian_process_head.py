"""A classifier of sequences with distance-aware uncertainty (Keras 3)."""

import keras
from keras import ops

from layers.classification_head import ClassificationHead
from layers.common.checks import check_flags, check_number
from layers.common.compatibility import garden_arguments
from layers.common.normalization import in_float32_at_least
from layers.common.projection import fresh
from layers.gaussian_process import RandomFeatureGaussianProcess
from layers.spectral_normalization import SpectralNormalization

# The defaults of these layers; a test compares them.
SPECTRAL_DEFAULTS = {"iteration": 1, "norm_multiplier": 0.95}
PROCESS_DEFAULTS = {
    "num_inducing": 1024,
    "gp_kernel_type": "gaussian",
    "gp_kernel_scale": 1.0,
    "gp_output_bias": 0.0,
    "normalize_input": False,
    "gp_kernel_scale_trainable": False,
    "gp_output_bias_trainable": False,
    "gp_cov_momentum": 0.999,
    "gp_cov_ridge_penalty": 1.0,
    "scale_random_features": True,
    "use_custom_random_features": True,
    "custom_random_features_initializer": None,
    "custom_random_features_activation": None,
    "l2_regularization": 1e-6,
    "gp_cov_likelihood": "gaussian",
    "seed": 0,
}
DEFAULTS = SPECTRAL_DEFAULTS | PROCESS_DEFAULTS


@keras.saving.register_keras_serializable(package="layers")
@garden_arguments(unused={"return_gp_cov": (True,), "return_random_features": (False,)})
class GaussianProcessClassificationHead(ClassificationHead):
    """Logits of a sequence's classes, from the vector of one of its tokens, and their covariance.

    Computes equations (1) to (3) of `reference/gaussian_process_head/`, with dropout after the pooler. The spectral norm of the
    pooler's kernel is bounded, to preserve distances between inputs. The Gaussian process turns distance from the training data
    into variance.

    Axes: `b` batch, `t` position, `m` model size, `f` pooler size, `c` class.

    Args:
        inner_dim, num_classes, cls_token_idx, activation, dropout_rate: As in `ClassificationHead`.
        initializer: Initializer of the kernels of the pooler and of the logits, with or without a Gaussian process.
        use_spec_norm: Whether to bound the pooler's kernel with `SpectralNormalization`. No effect without a pooler.
        use_gp_layer: Whether the logits come from a `RandomFeatureGaussianProcess`. If False, they come from a linear map, as in
            `ClassificationHead`. A part that is switched off leaves its arguments, below, without effect.
        temperature: The factor λ of the mean-field approximation, not a temperature: outside of training, logits g with variance
            v become g / √(1 + λ v). With λ = π/8, the logistic function of a single logit approximates its expected probability;
            for two logits under softmax, whose difference has twice the variance, use π/4. None, like 0, leaves logits unchanged.
        iteration, norm_multiplier: Arguments of `SpectralNormalization`, with its defaults.
        num_inducing, gp_kernel_type, gp_kernel_scale, gp_output_bias, normalize_input, gp_kernel_scale_trainable,
            gp_output_bias_trainable, gp_cov_momentum, gp_cov_ridge_penalty, scale_random_features, use_custom_random_features,
            custom_random_features_initializer, custom_random_features_activation, l2_regularization, gp_cov_likelihood, seed:
            Arguments of `RandomFeatureGaussianProcess`, with its defaults. For the exact posterior, use `gp_cov_momentum=-1`, and
            pass a `ResetCovarianceCallback` to `fit`.
        bias_initializer, kernel_regularizer, bias_regularizer, activity_regularizer, kernel_constraint, bias_constraint: For the
            pooler and, without a Gaussian process, the linear map to logits, as in `keras.layers.Dense`.

    Call arguments:
        features: Tensor of shape `(b, t, m)`; or `(b, m)`, one vector for each sequence.
        training: Whether to apply dropout, update the power iteration, and add the batch to the precision. While training,
            `temperature` has no effect. `fit`, `predict` and `evaluate` set this argument.
        return_covmat: Whether to return the covariance too. Without a Gaussian process there is none, and only logits return.

    Returns:
        Logits of shape `(b, c)`; with `return_covmat`, a tuple of the logits and their covariance, `(b, b)`, which is the same
        for all classes, and None while training. Both are in the compute dtype.

    Raises:
        ValueError: as in `ClassificationHead`, `SpectralNormalization` and `RandomFeatureGaussianProcess`; or if `temperature` is
            below 0, or given without a Gaussian process.

    Example:

    >>> head = GaussianProcessClassificationHead(8, 3, temperature=0.39, num_inducing=16, gp_cov_momentum=-1)
    >>> _ = head(keras.ops.ones((2, 5, 6)), training=True)
    >>> [tensor.shape for tensor in head(keras.ops.ones((2, 5, 6)), return_covmat=True)]
    [TensorShape([2, 3]), TensorShape([2, 2])]

    Differs from the Model Garden:
        Arguments of the Gaussian process have the defaults of its own layer. There, the head has `norm_multiplier=0.99`,
        `normalize_input=True`, `scale_random_features=False`, and in place of `custom_random_features_initializer=None` a random
        kernel of standard deviation 0.05 instead of 1, which makes the length scale 20 times as large. `gp_kernel_type`,
        `gp_kernel_scale`, `gp_output_bias`, `gp_kernel_scale_trainable`, `gp_output_bias_trainable`, `seed` and the arguments of
        `ProjectingLayer` can be given here too; there, they cannot. `return_gp_cov` must be True and `return_random_features`
        False. Every argument is in the configuration. While training, the covariance is None, not the identity. A temperature
        without a Gaussian process is an error; there, it divides logits by √(1 + λ). `initializer` is for the pooler too. Logits
        are the same with and without `return_covmat`. The pooler's kernel is never overwritten. Features may have three axes even
        without a pooler. The kernel's scale and the state of the inversion are weights too.

    Reference:
        [Liu et al., 2020](https://arxiv.org/abs/2006.10108), section 3 and appendix A.
    """

    def __init__(
        self,
        inner_dim,
        num_classes,
        cls_token_idx=0,
        activation="tanh",
        dropout_rate=0.0,
        initializer="glorot_uniform",
        use_spec_norm=True,
        use_gp_layer=True,
        temperature=None,
        **kwargs,
    ):
        parts = DEFAULTS | {name: kwargs.pop(name) for name in DEFAULTS if name in kwargs}
        super().__init__(inner_dim, num_classes, cls_token_idx, activation, dropout_rate, initializer, **kwargs)
        self.use_spec_norm = use_spec_norm
        self.use_gp_layer = use_gp_layer
        self.temperature = temperature
        for name, value in parts.items():
            setattr(self, name, value)
        self.check_parts()
        # Both are created here, so that their checks run in the constructor, even for a part that is switched off.
        pooler, process = self.make_bounded_pooler(), self.make_process()
        if use_spec_norm and inner_dim:
            self.pooler_dense = pooler
        if use_gp_layer:
            self.logits = process
            self.custom_random_features_initializer = self.logits.custom_random_features_initializer
            self.custom_random_features_activation = self.logits.custom_random_features_activation

    def build(self, features_shape):
        self.check_shape(features_shape)
        self.features_size = m = features_shape[-1]
        if self.inner_dim and self.use_spec_norm:
            self.pooler_dense.build((None, m))
        else:
            self.pooler_dense = self.make_dense("pooler_dense", m, self.inner_dim) if self.inner_dim else None
        self.dropout_layer = self.make_dropout(self.dropout_rate)
        if self.use_gp_layer:
            self.logits.build((None, self.inner_dim or m))
        else:
            self.logits = self.make_dense("logits", self.inner_dim or m, self.num_classes)

    def call(self, features, training=False, return_covmat=False):
        self.check_shape(features.shape, self.features_size)
        h = self.dropout_layer(self.pool(features, training), training=training)
        if not self.use_gp_layer:
            return self.logits(h)
        logits, variance = self.logits(h, training=training, diagonal=True)
        if self.temperature is not None and variance is not None:
            logits = self.mean_field(logits, variance)
        if not return_covmat:
            return logits
        # Computed separately from the variances, so that the logits do not depend on `return_covmat`.
        return logits, None if variance is None else self.logits(h, training=False)[1]

    def pool(self, features, training):
        """Equation (1)."""
        token = features[:, self.cls_token_idx] if len(features.shape) == 3 else features
        if not self.inner_dim:
            return token
        bounds = {"training": training} if self.use_spec_norm else {}
        return self.activation(self.pooler_dense(token, **bounds))

    def mean_field(self, logits, variance):
        """Equation (3)."""
        root = ops.sqrt(1 + self.temperature * in_float32_at_least(variance))
        return ops.cast(in_float32_at_least(logits) / root[:, None], self.compute_dtype)

    def reset_covariance_matrix(self):
        """Reset the precision to that of the prior. Call it before each pass over the data if `gp_cov_momentum` ≤ 0.

        Raises:
            ValueError: if `use_gp_layer` is False, or the layer has not been built.
        """
        if not self.use_gp_layer:
            raise ValueError("reset_covariance_matrix needs use_gp_layer=True. Received: use_gp_layer=False")
        self.logits.reset_covariance_matrix()

    def make_bounded_pooler(self):
        dense = keras.layers.Dense(max(self.inner_dim, 1), name="layer", dtype=self.dtype_policy, **self.projection_options())
        bounds = {name: getattr(self, name) for name in SPECTRAL_DEFAULTS}
        return SpectralNormalization(dense, name="pooler_dense", **bounds)

    def make_process(self):
        arguments = {name: getattr(self, name) for name in PROCESS_DEFAULTS}
        arguments |= {"kernel_initializer": fresh(self.initializer), "dtype": self.dtype_policy}
        return RandomFeatureGaussianProcess(self.num_classes, name="logits", **arguments)

    def check_parts(self):
        check_flags(use_spec_norm=self.use_spec_norm, use_gp_layer=self.use_gp_layer)
        if self.temperature is None:
            return
        check_number("None or a number of at least 0", lambda number: number >= 0, temperature=self.temperature)
        if not self.use_gp_layer:
            raise ValueError(f"temperature needs use_gp_layer=True. Received: temperature={self.temperature}, use_gp_layer=False")

    def compute_output_spec(self, features, training=False, return_covmat=False):
        # Not traced, because tracing would invert the precision.
        self.check_shape(features.shape)
        b = features.shape[0]
        logits = keras.KerasTensor((b, self.num_classes), self.compute_dtype)
        if not return_covmat or not self.use_gp_layer:
            return logits
        return logits, None if training else keras.KerasTensor((b, b), self.compute_dtype)

    def get_config(self):
        config = super().get_config() | {name: getattr(self, name) for name in DEFAULTS}
        for name in ("use_spec_norm", "use_gp_layer", "temperature"):
            config[name] = getattr(self, name)
        if self.use_gp_layer:
            custom = self.logits.get_config()
            config |= {name: custom[name] for name in custom if name.startswith("custom_random_features")}
        return config
