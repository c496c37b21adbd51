"""A callback that resets the covariance before each epoch (Keras 3)."""

import keras

from layers.gaussian_process import RandomFeatureGaussianProcess


class ResetCovarianceCallback(keras.callbacks.Callback):
    """Resets the covariance of every Gaussian process in the model, nested ones included, at the start of each epoch.

    If `gp_cov_momentum` is 0 or less, each epoch adds its examples to the precision. Without this callback, three epochs count
    each example three times, and the variance is too small. With it, the precision is the sum over the last epoch. Since the
    model changes during this epoch, fit one more epoch with a learning rate of 0 to get the precision of the trained model.

    Raises:
        ValueError: at the start of an epoch, if the model has no `RandomFeatureGaussianProcess` with `return_gp_cov=True`.

    Example:

    >>> model = keras.Sequential([RandomFeatureGaussianProcess(1, num_inducing=8, gp_cov_momentum=-1, return_gp_cov=True)])
    >>> model.compile("sgd", ["mse", None])
    >>> x, y = keras.ops.ones((4, 2)), keras.ops.ones((4, 1))
    >>> _ = model.fit(x, y, epochs=2, verbose=0, callbacks=[ResetCovarianceCallback()])
    """

    def on_epoch_begin(self, epoch, logs=None):
        layers = gaussian_processes(self.model)
        if not layers and self.model.built:
            raise ValueError(
                "ResetCovarianceCallback needs a model with a RandomFeatureGaussianProcess that has return_gp_cov=True. "
                f"Received: model {self.model.name!r} without one"
            )
        for layer in layers:
            if layer.built:  # otherwise, there is nothing to reset
                layer.reset_covariance_matrix()


def gaussian_processes(layer):
    """All Gaussian processes with a covariance inside `layer`, including itself."""
    found = (inner for inner in layer._flatten_layers() if isinstance(inner, RandomFeatureGaussianProcess))
    return [inner for inner in found if inner.return_gp_cov]
