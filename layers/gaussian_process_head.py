"""A classifier of sequences that knows how far its inputs are from what it was trained on (Keras 3)."""

import keras
from keras import ops

from layers.classification_head import ClassificationHead
from layers.common.normalization import in_float32_at_least
from layers.gaussian_process import RandomFeatureGaussianProcess
from layers.spectral_normalization import SpectralNormalization

# As those layers have them: a test compares.
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
class GaussianProcessClassificationHead(ClassificationHead):
    """A score for each class, from the vector of one token, and how much is known about it.

    Computes equations (1) to (3) of `reference/gaussian_process_head/`, with dropout behind the pooler. A pooler whose kernel
    is bounded keeps distances; a Gaussian process on random features turns distance from the training data into variance.

    Axes: `b` batch, `t` position, `m` model size, `f` pooler size, `c` class.

    Args:
        inner_dim, num_classes, cls_token_idx, activation, dropout_rate: As for `ClassificationHead`.
        initializer: How the pooler starts and, without a Gaussian process, the logits' map.
        use_spec_norm: Whether the pooler is a `SpectralNormalization`. Without a pooler there is nothing to bound.
        use_gp_layer: Whether the logits come from a `RandomFeatureGaussianProcess`. If not, this is a `ClassificationHead`.
        temperature: No temperature, but the factor λ of the mean field: logits g of variance v become g / √(1 + λ v), outside of
            training. Of one logit, π/8 makes its logistic function the probability that is to be expected; of two under softmax,
            whose difference varies twice as much, π/4. None, like 0, leaves logits as they are.
        iteration, norm_multiplier: Of the `SpectralNormalization`, with its defaults.
        num_inducing, gp_kernel_type, gp_kernel_scale, gp_output_bias, normalize_input, gp_kernel_scale_trainable,
            gp_output_bias_trainable, gp_cov_momentum, gp_cov_ridge_penalty, scale_random_features, use_custom_random_features,
            custom_random_features_initializer, custom_random_features_activation, l2_regularization, gp_cov_likelihood, seed:
            Of the `RandomFeatureGaussianProcess`, with its defaults. For a posterior as it should be, `gp_cov_momentum=-1`, and
            a `ResetCovarianceCallback` in `fit`.
        bias_initializer, kernel_regularizer, bias_regularizer, activity_regularizer, kernel_constraint, bias_constraint: As for
            `ProjectingLayer`, of the pooler and of a logits' map that is no Gaussian process.

    Call arguments:
        features: Tensor of shape `(b, t, m)`; or `(b, m)`, one vector for each sequence.
        training: Whether to drop, to move the power iteration on, and to count the batch in the precision. Logits are then those
            without the mean field. `fit`, `predict` and `evaluate` see to it by themselves.
        return_covmat: Whether to return the covariance too.

    Returns:
        Logits of shape `(b, c)`; with `return_covmat` a list of them and their covariance `(b, b)`, the same for all classes,
        which is None while training. In the compute dtype.

    Raises:
        ValueError: for what `ClassificationHead`, `SpectralNormalization` and `RandomFeatureGaussianProcess` reject; a
            temperature below 0; and a temperature, a covariance, or an argument of a part, where that part is not used.

    Example:

    >>> head = GaussianProcessClassificationHead(8, 3, temperature=0.39, num_inducing=16, gp_cov_momentum=-1)
    >>> _ = head(keras.ops.ones((2, 5, 6)), training=True)
    >>> [tensor.shape for tensor in head(keras.ops.ones((2, 5, 6)), return_covmat=True)]
    [TensorShape([2, 3]), TensorShape([2, 2])]

    Differs from the Model Garden:
        Arguments of the Gaussian process have the defaults that they have alone. There the head has norm_multiplier=0.99,
        normalize_input=True, scale_random_features=False, and a random kernel of deviation 0.05 in place of 1, a length-scale
        20 times as large. Each argument is in the configuration. While training there is no covariance in place of the identity.
        A temperature without a covariance is an error; there it divides by √(1 + λ). Logits are the same with and without
        `return_covmat`. The pooler's kernel is never overwritten, and features may have three axes without a pooler.

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
        # Both are made here, so that what they find wrong is found here.
        if use_spec_norm and inner_dim:
            self.pooler_dense = self.make_bounded_pooler()
        if use_gp_layer:
            self.logits = self.make_process()
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
        self.check_covariance(return_covmat)
        h = self.dropout_layer(self.pool(features, training), training=training)
        if not self.use_gp_layer:
            return self.logits(h)
        logits, variance = self.logits(h, training=training, diagonal=True)
        if self.temperature is not None and variance is not None:
            logits = self.mean_field(logits, variance)
        if not return_covmat:
            return logits
        # Asked for apart from the variances, so that asking changes no digit of the logits.
        return [logits, None if variance is None else self.logits(h, training=False)[1]]

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
        """Forget all examples, as each pass over the data has to where `gp_cov_momentum` is 0 or less.

        Raises:
            ValueError: without a Gaussian process, or before the first call.
        """
        if not self.use_gp_layer:
            raise ValueError("reset_covariance_matrix needs use_gp_layer=True. Received: use_gp_layer=False")
        self.logits.reset_covariance_matrix()

    def make_bounded_pooler(self):
        dense = keras.layers.Dense(self.inner_dim, name="layer", dtype=self.dtype_policy, **self.projection_options())
        bounds = {name: getattr(self, name) for name in SPECTRAL_DEFAULTS}
        return SpectralNormalization(dense, name="pooler_dense", **bounds)

    def make_process(self):
        arguments = {name: getattr(self, name) for name in PROCESS_DEFAULTS}
        return RandomFeatureGaussianProcess(self.num_classes, name="logits", dtype=self.dtype_policy, **arguments)

    def check_parts(self):
        temperature = self.temperature
        is_number = isinstance(temperature, (int, float)) and not isinstance(temperature, bool)
        if temperature is not None and not (is_number and 0 <= temperature < float("inf")):
            raise ValueError(f"temperature must be None or a number of at least 0. Received: temperature={temperature!r}")
        bounded = self.use_spec_norm and self.inner_dim > 0
        needs = dict.fromkeys(SPECTRAL_DEFAULTS, ("use_spec_norm=True and inner_dim above 0", bounded))
        for name, default in (DEFAULTS | {"temperature": None}).items():
            what, there = needs.get(name, ("use_gp_layer=True", self.use_gp_layer))
            if not there and getattr(self, name) != default:
                raise ValueError(f"{name} needs {what}. Received: {name}={getattr(self, name)!r} without")

    def check_covariance(self, return_covmat):
        if return_covmat and not self.use_gp_layer:
            raise ValueError("return_covmat needs use_gp_layer=True. Received: return_covmat=True, use_gp_layer=False")

    def compute_output_spec(self, features, training=False, return_covmat=False):
        # Not traced, for a trace would invert the precision.
        self.check_shape(features.shape)
        self.check_covariance(return_covmat)
        b = features.shape[0]
        logits = keras.KerasTensor((b, self.num_classes), self.compute_dtype)
        if not return_covmat:
            return logits
        return [logits, None if training else keras.KerasTensor((b, b), self.compute_dtype)]

    def get_config(self):
        config = super().get_config() | {name: getattr(self, name) for name in DEFAULTS}
        for name in ("use_spec_norm", "use_gp_layer", "temperature"):
            config[name] = getattr(self, name)
        if self.use_gp_layer:
            custom = self.logits.get_config()
            config |= {name: custom[name] for name in custom if name.startswith("custom_random_features")}
        return config
