"""Move a network to other classes: learn eight classes from many pictures, then two from a few.

    python examples/transfer.py --device cpu
    python examples/transfer.py --dataset synthetic --epochs 2 --seeds 1
    python examples/transfer.py --pictures my/pictures            # a folder for each class

A network is trained on eight classes of CIFAR-10.  Then it gets another head, and a few pictures of
the other two, or of your own: first with all below the head frozen, then with everything trained,
what was there before at a tenth of the learning rate.  Beside it a new network learns from the same
pictures alone, in as many steps.

It prints a table of test accuracies, mean and range over the seeds, and leaves in --out all of them
(transfer.json) and the last network that was moved (model.safetensors).
"""

import argparse
import copy
import json
import platform
import sys
import time
import warnings
from pathlib import Path

import numpy as np

import minicnn as mc
from minicnn.models import MODELS

WAYS = ("frozen", "unfrozen", "from scratch")


def arguments():
    """Return the command line's flags."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--device", default="auto", help="auto, cpu, gpu or gpu:N (default auto)")
    parser.add_argument("--dataset", default="cifar10", choices=["cifar10", "synthetic"])
    parser.add_argument("--data-dir", help="where CIFAR-10 lies, or is to be put")
    parser.add_argument("--model", default="tutorial_cnn", choices=sorted(MODELS))
    parser.add_argument("--targets", help="the classes to move to (default cat,dog; star,crescent)")
    parser.add_argument("--pictures", type=Path, help="move to the classes in this folder instead")
    parser.add_argument("--per-class", default="10,50,200", help="how many pictures of each")
    parser.add_argument("--epochs", type=int, default=10, help="of the first training")
    parser.add_argument("--steps", type=int, default=300, help="of each part of the second")
    parser.add_argument("--seeds", type=int, default=3, help="how often to do it all (default 3)")
    parser.add_argument("--out", type=Path, help="folder for the results (default runs/TIME)")
    parser.add_argument("--quiet", action="store_true", help="print the table only")
    args = parser.parse_args()
    try:
        args.per_class = [int(count) for count in args.per_class.split(",")]
    except ValueError:
        parser.error(f"--per-class {args.per_class}: expected numbers such as 10,50,200")
    if min(args.epochs, args.steps, args.seeds, *args.per_class) < 1:
        parser.error("--epochs, --steps, --seeds and --per-class must be at least 1")
    if args.out is None:
        args.out = Path("runs") / time.strftime("%Y%m%d-%H%M%S")
    return args


def load_data(args):
    """Return the training set, the test set, and the names of the classes."""
    if args.dataset == "cifar10":
        return *mc.datasets.cifar10(args.data_dir), mc.datasets.CIFAR10_CLASSES
    train, test = mc.datasets.synthetic(20_000, seed=0), mc.datasets.synthetic(4_000, seed=1)
    return train, test, mc.datasets.SYNTHETIC_CLASSES


def only(data, classes):
    """Return the pictures of some classes, which are numbered anew in that order."""
    x, y = data
    rows = np.isin(y, classes)
    return x[rows], np.array([classes.index(label) for label in y[rows]])


def own_pictures(folder, size):
    """Return two thirds of the pictures in a folder to train with, the others, and the classes."""
    x, y, names = mc.datasets.from_directory(folder, size)
    rows, held_out = mc.stratified_split(y, 1 / 3, mc.Stream(0, "validation"))
    return (x[rows], y[rows]), (x[held_out], y[held_out]), names


def a_few(data, count, seed):
    """Draw ``count`` pictures of each class; all that there are, where there aren't so many."""
    x, y = data
    rng = np.random.default_rng(seed)
    rows = [rng.permutation(np.flatnonzero(y == label))[:count] for label in range(y.max() + 1)]
    rows = np.concatenate(rows)
    return x[rows], y[rows]


def new_model(name, classes, x, seed, device):
    """Return a network for such pictures; one whose first layer whitens gets it from them."""
    model = MODELS[name](classes).build(x.shape[1:], seed=seed, device=device)
    if "whiten" in dict(model.children()) and len(x) >= 100:
        mc.models.whiten(model, x)
    return model


def train(model, data, optimizer, steps, seed):
    """Take so many steps on batches of 32, flipped and shifted at random."""
    x, y = data
    batches = mc.Batches(
        model.device.asarray(x),
        model.device.asarray(y),
        min(32, len(x)),
        stream=mc.Stream(seed, "shuffle"),
        augment=[mc.augment.RandomFlip(), mc.augment.RandomCrop(4)],
        augment_stream=mc.Stream(seed, "augmentation"),
        drop_last=True,
    )
    while optimizer.steps < steps:
        for x_batch, labels in batches.epoch():
            mc.train_step(model, optimizer, x_batch, labels)
            if optimizer.steps == steps:
                break


def move(base, classes, few, test, steps, seed):
    """Move a trained network to a few pictures; return it, and its accuracy on the way."""
    model = copy.deepcopy(base)
    accuracy = {}

    # The head alone.  All below is frozen: it does what it does in prediction, and no gradient goes
    # there.  The new head is trained; it isn't what was frozen.
    model.trainable = False
    model.replace_head(len(classes), seed=seed, names=classes)
    train(model, few, mc.Adam(mc.schedule.cosine(3e-3, steps)), steps, seed)
    accuracy["frozen"] = mc.evaluate(model, *test)["accuracy"]

    # Then everything, what was learnt from many pictures at a tenth of the rate.  BatchNorm stays
    # frozen: so few pictures don't say how the numbers are distributed.
    model.trainable = True
    for layer in model.walk():
        if isinstance(layer, mc.BatchNorm):
            layer.trainable = False
    head = [layer for layer in model.walk() if isinstance(layer, mc.Dense)][-1]
    optimizer = mc.Adam(mc.schedule.cosine(1e-3, steps), lr_scale={f"{head.path}/*": 1.0, "*": 0.1})
    train(model, few, optimizer, steps, seed + 1000)
    accuracy["unfrozen"] = mc.evaluate(model, *test)["accuracy"]
    return model, accuracy


def main():
    """Run the command; return its exit code: 2 if it can't be done, 3 if training went wrong."""
    warnings.formatwarning = lambda message, *rest, **more: f"note: {message}\n"
    args = arguments()
    try:
        run(args)
    except mc.NotFinite as error:
        print(f"transfer: {error}", file=sys.stderr)
        return 3
    except (mc.DeviceError, ValueError, OSError, ImportError) as error:
        print(f"transfer: {error}", file=sys.stderr)
        return 2
    return 0


def run(args):
    """Do it all for each seed, and write the results."""
    say = (lambda *words: None) if args.quiet else print
    started = time.perf_counter()
    device = mc.device(args.device)
    train_set, test_set, classes = load_data(args)
    asked = args.targets or {"cifar10": "cat,dog", "synthetic": "star,crescent"}[args.dataset]
    targets = asked.split(",")
    if len(targets) < 2 or len(set(targets)) < len(targets) or not set(targets) <= set(classes):
        raise ValueError(f"--targets {asked}: expected two or more of {', '.join(classes)}")
    kept = [name for name in classes if name not in targets]
    if len(kept) < 2:
        raise ValueError(f"--targets {asked}: two classes must be left to learn from")
    base_set = only(train_set, [classes.index(name) for name in kept])
    shape = base_set[0].shape[1:]
    if args.pictures:
        few_set, few_test, targets = own_pictures(args.pictures, shape[:2])
    else:
        numbers = [classes.index(name) for name in targets]
        few_set, few_test = only(train_set, numbers), only(test_set, numbers)
    there = int(np.bincount(few_set[1]).max())
    counts = list(dict.fromkeys(min(count, there) for count in args.per_class))
    say(f"device: {device.note}")
    say(f"first: {len(base_set[0]):,} pictures of {', '.join(kept)}")
    say(f"then: {', '.join(targets)}; {len(few_test[0]):,} pictures to test with")
    if max(args.per_class) > there:
        print(
            f"note: there are {there} pictures of a class to train with, no more", file=sys.stderr
        )

    results = []
    for seed in range(args.seeds):
        base = new_model(args.model, len(kept), base_set[0], seed, device)
        augment = [mc.augment.RandomFlip(), mc.augment.RandomCrop(4)]
        how = {"epochs": args.epochs, "batch_size": 128, "augment": augment, "seed": seed}
        for epoch in mc.fit(
            base, *base_set, optimizer=mc.Adam(1e-3), progress=not args.quiet and "auto", **how
        ):
            say(f"seed {seed}: {epoch}")
        for count in counts:
            few = a_few(few_set, count, seed)
            model, accuracy = move(base, targets, few, few_test, args.steps, seed)
            alone = new_model(args.model, len(targets), few[0], seed, device)
            steps = 2 * args.steps
            train(alone, few, mc.Adam(mc.schedule.cosine(1e-3, steps)), steps, seed)
            accuracy["from scratch"] = mc.evaluate(alone, *few_test)["accuracy"]
            results.append({"seed": seed, "pictures_per_class": count, "accuracy": accuracy})
            said = ", ".join(f"{way} {accuracy[way]:.1%}" for way in WAYS)
            say(f"seed {seed}, {count} pictures of each class: {said}")

    args.out.mkdir(parents=True, exist_ok=True)
    mc.save(model, args.out / "model.safetensors")
    lines = table(results, counts)
    written = {
        "dataset": args.dataset,
        "pictures": None if args.pictures is None else str(args.pictures),
        "model": args.model,
        "device": str(device),
        "first_classes": kept,
        "classes": list(targets),
        "epochs": args.epochs,
        "steps": args.steps,
        "test_pictures": len(few_test[0]),
        "results": results,
        "table": lines,
        "seconds": time.perf_counter() - started,
        "versions": {
            "minicnn": mc.__version__,
            "numpy": np.__version__,
            "python": platform.python_version(),
        },
    }
    (args.out / "transfer.json").write_text(json.dumps(written, indent=2) + "\n")
    print("\n".join(lines))
    say(f"results in {args.out}")


def table(results, counts):
    """Return the lines of a Markdown table: mean, and in brackets the range over the seeds."""
    lines = [f"| pictures of each class | {' | '.join(WAYS)} |", "|---" * (len(WAYS) + 1) + "|"]
    for count in counts:
        cells = [f"{count:,}"]
        for way in WAYS:
            found = [r["accuracy"][way] for r in results if r["pictures_per_class"] == count]
            low, high = min(found), max(found)
            cells.append(f"{np.mean(found):.1%} ({low:.1%} to {high:.1%})")
        lines.append(f"| {' | '.join(cells)} |")
    return lines


if __name__ == "__main__":
    sys.exit(main())
