"""The worker for Keras on TensorFlow."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from benchmarks.peers.keras_twin import Twin
from benchmarks.peers.protocol import one_by_one, serve


class Keras:
    """Trains with `fit` on batches as they lie or shuffled, or predicts in one of three ways.

    The pictures are floats, normalized beforehand, and tensors already.  `fit` computes no
    metrics but the loss.
    """

    def __init__(self, task: dict[str, Any]) -> None:
        tf.config.threading.set_intra_op_parallelism_threads(task["threads"])
        tf.config.threading.set_inter_op_parallelism_threads(task["threads"])
        keras.utils.set_random_seed(0)
        folder, self.batch = Path(task["folder"]), task["batch"]
        self.x = tf.constant(np.load(folder / "nhwc.npy"))
        self.y = tf.constant(np.load(folder / "labels.npy"))
        twin = Twin(task["config"], task["shape"])
        with np.load(folder / "weights.npz") as weights:
            twin.copy_weights([weights[name] for name in weights.files])
        self.model = twin.model
        self.parameters = sum(int(np.prod(w.shape)) for w in self.model.trainable_weights)
        self.versions = {"keras": keras.__version__, "tensorflow": tf.__version__}
        self.training, self.shuffled = task["mode"] == "train", task.get("shuffled", False)
        self.how = task.get("how", "fit")
        self.model.compile(
            keras.optimizers.Adam(1e-3),
            keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        )
        self.starts = itertools.cycle(range(0, len(self.x) - self.batch + 1, self.batch))

    def logits(self, count: int) -> list[list[float]]:
        return self.model(self.x[:count], training=False).numpy().tolist()

    def round(self, steps: int) -> dict[str, Any]:
        if self.training:
            return self.fit(steps)
        if self.batch == 1:
            return one_by_one(lambda: self.predict(self.next_batch()), steps)
        if self.how == "predict":
            for done in range(0, steps * self.batch, len(self.x)):
                self.predict(self.x[: steps * self.batch - done])
        else:
            for _ in range(steps):
                self.predict(self.next_batch())
        return {"images": steps * self.batch}

    def fit(self, steps: int) -> dict[str, Any]:
        """Train for so many steps, or, beyond the end of the data, for whole epochs."""
        full = len(self.x) // self.batch
        epochs, each = max(1, round(steps / full)), min(steps, full)
        self.model.fit(
            self.x,
            self.y,
            self.batch,
            epochs,
            verbose=0,
            shuffle=self.shuffled,
            steps_per_epoch=each if each < full else None,
        )
        return {"images": epochs * each * self.batch}

    def predict(self, x: Any) -> Any:
        """Predict in the way that is to be measured: a batch, or with "predict" a block of them."""
        if self.how == "predict":
            return self.model.predict(x, batch_size=self.batch, verbose=0)
        if self.how == "predict_on_batch":
            return self.model.predict_on_batch(x)
        return self.model(x, training=False)

    def next_batch(self) -> Any:
        """Return the next pictures as they lie."""
        start = next(self.starts)
        return self.x[start : start + self.batch]


if __name__ == "__main__":
    serve(Keras)
