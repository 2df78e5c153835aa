"""What `examples/train_cifar.py` does, as one writes it in Keras: `epochs.py` times both.

    python benchmarks/peers/keras_cifar.py --data-dir DIR --epochs 10

It reads CIFAR-10's six files as Keras' own loader does, with pickle: name only a copy you trust.
"""

from __future__ import annotations

import argparse
import pickle
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf
from keras import layers

MEAN, STD = (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)


def arguments() -> argparse.Namespace:
    """Return the command line's flags."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data-dir", type=Path, required=True)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--batch-size", type=int, default=128)
    return parser.parse_args()


def load(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Return one file's pictures, normalized floats (N, 32, 32, 3), and its labels."""
    with path.open("rb") as file:
        batch = pickle.load(file, encoding="bytes")
    x = np.asarray(batch[b"data"]).reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)
    x = x.astype("float32", order="C")
    x *= np.float32(1 / 255) / np.float32(STD)
    x -= np.float32(MEAN) / np.float32(STD)
    return x, np.asarray(batch[b"labels"], "int64")


def tutorial_cnn() -> keras.Model:
    """Return the tutorial network."""
    return keras.Sequential(
        [
            keras.Input((32, 32, 3)),
            layers.Conv2D(32, 3, activation="relu"),
            layers.MaxPooling2D(2),
            layers.Conv2D(64, 3, activation="relu"),
            layers.MaxPooling2D(2),
            layers.Conv2D(64, 3, activation="relu"),
            layers.Flatten(),
            layers.Dense(64, activation="relu"),
            layers.Dense(10),
        ]
    )


def main() -> None:
    """Train, validate after each epoch, test at the end."""
    args = arguments()
    folder = args.data_dir / "cifar-10-batches-py"
    folder = folder if folder.is_dir() else args.data_dir
    parts = [load(folder / f"data_batch_{i}") for i in range(1, 6)]
    x, y = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
    x_test, y_test = load(folder / "test_batch")
    model = tutorial_cnn()
    model.compile(
        keras.optimizers.Adam(1e-3),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    model.fit(x, y, args.batch_size, args.epochs, validation_split=0.1, verbose=2)
    loss, accuracy = model.evaluate(x_test, y_test, batch_size=256, verbose=0)
    print(f"versions keras {keras.__version__}, tensorflow {tf.__version__}")
    print(f"test accuracy {accuracy:.4f}  loss {loss:.4f}")


if __name__ == "__main__":
    main()
