"""A classifier that knows what it does not know: its variance grows with the distance from what it was trained on."""

from pathlib import Path

import keras
import numpy as np

import layers

keras.utils.set_random_seed(0)
FOLDER = Path("build")
rng = np.random.default_rng(0)
labels = rng.integers(0, 2, 512)
points = rng.normal(size=(512, 2)) * 0.4 + np.array([[-1.5, 0], [1.5, 0]])[labels]

# Spectral norms below 1 keep points that are far apart from becoming alike on their way to the Gaussian process.
inputs = keras.Input((2,))
x = keras.layers.Dense(32, trainable=False, kernel_initializer="orthogonal")(inputs)
for _ in range(2):
    x = x + layers.SpectralNormalization(keras.layers.Dense(32, activation="relu"), norm_multiplier=0.9)(x)
head = layers.GaussianProcessClassificationHead(
    32,
    num_classes=2,
    temperature=np.pi / 4,  # logits shrink as the variance grows, so that probabilities go to 1/2
    num_inducing=256,
    gp_cov_momentum=-1,  # every example counts once
    seed=0,
)
logits, covariance = head(x, return_covmat=True)
model = keras.Model(inputs, logits)
uncertain = keras.Model(inputs, {"logits": logits, "covariance": covariance})  # the same layers

loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
model.compile(keras.optimizers.Adam(1e-2), loss, metrics=["accuracy"])
# Each epoch adds its examples to the precision, so each has to begin with that of the prior.
model.fit(points, labels, epochs=3, batch_size=32, verbose=0, callbacks=[layers.ResetCovarianceCallback()])
_, accuracy = model.evaluate(points, labels, verbose=0)
print(f"accuracy: {accuracy:.2f}")

FOLDER.mkdir(exist_ok=True)
uncertain.save(FOLDER / "uncertain_classifier.keras")
loaded = keras.saving.load_model(FOLDER / "uncertain_classifier.keras")

places = np.array([[-1.5, 0.0], [1.5, 0.0], [0.0, 8.0], [30.0, 30.0]])
outputs = {name: np.array(x) for name, x in loaded(places).items()}
variances = np.diag(outputs["covariance"])
probabilities = np.array(keras.ops.softmax(outputs["logits"]))
for place, p, variance in zip(places, probabilities, variances):
    print(f"at {place}: probabilities {p.round(2)}, variance {variance:.3f}")
