"""Train a network on CIFAR-10, on the CPU or the GPU, with the training loop in sight.

    python examples/train_cifar.py --device cpu
    python examples/train_cifar.py --device gpu --epochs 20 --augment
    python examples/train_cifar.py --dataset synthetic --epochs 2
    python examples/train_cifar.py --recipe resnet20 --epochs 60
    python examples/train_cifar.py --recipe my.toml

A recipe (minicnn/recipes/) says everything about network and training; --epochs, --batch-size,
--lr and --dtype change it.  Without one, the flags do.

It ends with the test accuracy, and leaves in --out: the model (model.safetensors), the figures
(metrics.json), the training curves and a page of test pictures with what the network sees in them.
The state of the run is there too: interrupted by Ctrl-C or by anything worse, it goes on with
--resume and the same flags, as if nothing had been.
"""

import argparse
import json
import platform
import statistics
import sys
import time
import warnings
from pathlib import Path

import numpy as np

import minicnn as mc
from minicnn.models import MODELS


def arguments():
    """Return the command line's flags."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--device", default="auto", help="auto, cpu, gpu or gpu:N (default auto)")
    parser.add_argument(
        "--dtype",
        choices=["float32", "float64", "bfloat16", "float16"],
        help="of products; 16 bits on a GPU only (default float32)",
    )
    parser.add_argument("--dataset", default="auto", choices=["auto", "cifar10", "synthetic"])
    parser.add_argument("--data-dir", help="where CIFAR-10 lies, or is to be put")
    parser.add_argument("--recipe", help=f"{', '.join(mc.recipes.names())}, or a file's path")
    parser.add_argument("--model", choices=sorted(MODELS), help="default tutorial_cnn")
    parser.add_argument("--epochs", type=int, help="default 10")
    parser.add_argument("--batch-size", type=int, help="default 128")
    parser.add_argument("--optimizer", choices=["adam", "sgd"], help="default adam")
    parser.add_argument("--lr", type=float, help="default 0.001 for adam, 0.02 for sgd")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--augment", action="store_true", help="random flips and shifts")
    parser.add_argument("--validation", type=float, default=0.1, help="share held out, 0 for none")
    parser.add_argument("--out", type=Path, help="folder for the results (default runs/TIME)")
    parser.add_argument("--resume", action="store_true", help="go on with the run in --out")
    parser.add_argument("--quiet", action="store_true", help="print the last line only")
    args = parser.parse_args()
    if any(value is not None and value < 1 for value in (args.epochs, args.batch_size)):
        parser.error("--epochs and --batch-size must be at least 1")
    if args.recipe and (args.model or args.optimizer or args.augment):
        parser.error("--model, --optimizer and --augment are the recipe's: write one of your own")
    if args.resume and args.out is None:
        parser.error("--resume goes on with a run in a folder: name it with --out")
    if args.out is None:
        args.out = Path("runs") / time.strftime("%Y%m%d-%H%M%S")
    return args


def recipe_of(args):
    """Return the recipe that is named, changed by other flags, or the one that the flags make."""
    if args.recipe:
        recipe = mc.recipes.load(args.recipe)
    else:
        sgd = args.optimizer == "sgd"
        adam, momentum = {"name": "Adam"}, {"name": "SGD", "momentum": 0.9, "nesterov": True}
        crop = {"name": "RandomCrop", "padding": 4}
        recipe = mc.Recipe(
            {
                "about": "the flags of examples/train_cifar.py",
                "model": {"name": args.model or "tutorial_cnn"},
                "training": {"epochs": 10, "batch_size": 128},
                "optimizer": momentum if sgd else adam,
                "schedule": {"name": "constant", "lr": 2e-2 if sgd else 1e-3},
                "augment": [{"name": "RandomFlip"}, crop] if args.augment else [],
            },
            "flags",
        )
    return recipe.changed(
        epochs=args.epochs, batch_size=args.batch_size, lr=args.lr, dtype=args.dtype
    )


def load_data(args):
    """Return the training set, the test set, the class names, the data set's name, and a note."""
    if args.dataset != "synthetic":
        try:
            with warnings.catch_warnings(record=True) as said:
                warnings.simplefilter("always", mc.DatasetWarning)
                train, test = mc.datasets.cifar10(args.data_dir)
            note = " ".join(str(warning.message) for warning in said)
            if note:
                print(f"note: {note}", file=sys.stderr)
            return train, test, mc.datasets.CIFAR10_CLASSES, "cifar10", note
        except mc.DatasetError as error:
            if args.dataset == "cifar10":
                raise
            note = f"NOT CIFAR-10: trained on drawn pictures, because {error}"
            print(f"\n{'!' * 78}\n{note}\n{'!' * 78}\n", file=sys.stderr)
    else:
        note = "drawn pictures, as asked"
    train = mc.datasets.synthetic(20_000, seed=args.seed)
    test = mc.datasets.synthetic(4_000, seed=args.seed + 1_000_000)
    return train, test, mc.datasets.SYNTHETIC_CLASSES, "synthetic", note


def main():
    """Run the command; return its exit code: 2 if it can't be done, 3 if training went wrong."""
    warnings.formatwarning = lambda message, *rest, **more: f"note: {message}\n"
    args = arguments()
    try:
        train(args)
    except mc.NotFinite as error:
        print(f"train_cifar: {error}", file=sys.stderr)
        return 3
    except (mc.DeviceError, ValueError, OSError) as error:
        print(f"train_cifar: {error}", file=sys.stderr)
        if isinstance(error, mc.DeviceError) and error.__cause__ is not None:
            print(f"  original error: {error.__cause__!r}", file=sys.stderr)
        return 2
    return 0


def train(args):
    """Train, test, and write the results."""
    say = (lambda *words: None) if args.quiet else print
    started = time.perf_counter()
    recipe, device = recipe_of(args), mc.device(args.device)
    say(f"device: {device.note}")

    (x, y), (x_test, y_test), classes, dataset, note = load_data(args)
    say(f"data: {dataset}, {len(x):,} pictures to train with, {len(x_test):,} to test with")

    model = recipe.build_model(x.shape[1:], len(classes), seed=args.seed, device=device)
    model.classes = tuple(classes)
    say(model.summary())

    # Hold out a part of the training pictures; the test set is touched once, at the end.
    rows, held_out = None, None
    if args.validation:
        stream = mc.Stream(args.seed, "validation")
        rows, held_out = mc.stratified_split(y, args.validation, stream)
    recipe.prepare(model, x if rows is None else x[rows])
    batches = mc.Batches(
        device.asarray(x),
        device.asarray(y),
        recipe.batch_size,
        indices=rows,
        stream=mc.Stream(args.seed, "shuffle"),
        augment=recipe.augment(),
        augment_stream=mc.Stream(args.seed, "augmentation"),
        drop_last=recipe.drop_last,
    )
    optimizer, loss = recipe.optimizer(len(batches)), recipe.loss()

    # The training loop.  `mc.fit` is these lines as a generator.
    run = mc.Run(
        model,
        optimizer,
        batches,
        folder=args.out,
        resume=args.resume,
        progress=not args.quiet and "auto",
    )
    with run:
        recipe.freeze(model, run.epoch - 1)  # as the last epoch had it, should all be done already
        while run.epoch < recipe.epochs:
            recipe.freeze(model, run.epoch)  # layers that are trained for some epochs only
            for x_batch, labels in run.rest_of_epoch():
                mc.train_step(
                    model,
                    optimizer,
                    x_batch,
                    labels,
                    loss,
                    meter=run.meter,
                    accumulate=recipe.accumulate,
                )
            validation = None
            if held_out is not None:
                validation = mc.evaluate(model, x, y, indices=held_out)
            say(run.end_epoch(validation))
    epochs = run.records

    with recipe.weights_to_test(model, optimizer):  # the averaged ones, where it keeps an average
        test = mc.evaluate(model, x_test, y_test, tta=recipe.tta)
        mc.save(model, args.out / "model.safetensors")
        draw(args.out, epochs, model, x_test, y_test, say)
    metrics = {
        "dataset": dataset,
        "dataset_note": note,
        "model": recipe.tables["model"]["name"],
        "device": str(device),
        "seed": args.seed,
        "epochs": [epoch.as_dict() for epoch in epochs],
        "test_loss": test["loss"],
        "test_accuracy": test["accuracy"],
        "images_per_second": statistics.median(e.images_per_second for e in epochs),
        "seconds": time.perf_counter() - started,
        "versions": {
            "minicnn": mc.__version__,
            "numpy": np.__version__,
            "python": platform.python_version(),
        },
        "parameters": model.params.count,
    }
    if args.recipe:
        metrics |= {
            "recipe": {"name": recipe.name, **recipe.tables},
            "training_seconds": sum(epoch.seconds for epoch in epochs),
        }
    (args.out / "metrics.json").write_text(json.dumps(metrics, indent=2) + "\n")
    print(
        f"test accuracy {test['accuracy']:.4f}  loss {test['loss']:.4f}  "
        f"({dataset}, {metrics['images_per_second']:,.0f} images/s)  results in {args.out}"
    )


def draw(out, epochs, model, x_test, y_test, say):
    """Draw the training curves and a page of test pictures, if matplotlib is there."""
    from minicnn import plots

    try:
        plots.save(plots.training_curves(epochs), out / "curves.png")
        some = slice(0, 32)
        probabilities = mc.predict(model, x_test[some])
        page = plots.predictions(probabilities, x_test[some], y_test[some], model.classes)
        plots.save(page, out / "predictions.png")
    except ImportError as error:
        say(f"no pictures drawn: {error}")


if __name__ == "__main__":
    sys.exit(main())
