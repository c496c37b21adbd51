"""A callback that begins each epoch with the covariance of the prior (Keras 3)."""

import keras

from layers.gaussian_process import RandomFeatureGaussianProcess


class ResetCovarianceCallback(keras.callbacks.Callback):
    """Resets the covariance of every Gaussian process in the model, however deep inside, as each epoch begins.

    Where `gp_cov_momentum` is 0 or less, each epoch adds its examples to the precision: without this, three epochs leave three
    times what the data say, and the variance is too small. With it, the precision is the sum over the last epoch. The model
    changes while that is summed; for the sum under the trained model, fit one more epoch with a learning rate of 0.

    Raises:
        ValueError: if the model has no such layer.

    Example:

    >>> model = keras.Sequential([RandomFeatureGaussianProcess(1, num_inducing=8, gp_cov_momentum=-1, return_gp_cov=True)])
    >>> callbacks = [ResetCovarianceCallback()]  # for model.fit
    """

    def on_epoch_begin(self, epoch, logs=None):
        layers = gaussian_processes(self.model)
        if not layers and self.model.built:
            raise ValueError(
                "ResetCovarianceCallback needs a model with a RandomFeatureGaussianProcess that has return_gp_cov=True. "
                f"Received: model {self.model.name!r} without one"
            )
        for layer in layers:
            if layer.built:  # else it is as it begins anyway
                layer.reset_covariance_matrix()


def gaussian_processes(layer):
    """All layers inside `layer`, itself included, that have a covariance."""
    found = (inner for inner in layer._flatten_layers() if isinstance(inner, RandomFeatureGaussianProcess))
    return [inner for inner in found if inner.return_gp_cov]
