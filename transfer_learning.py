"""Problem 1: transfer learning. Tells ants from bees with a network that learned from other pictures before.

python transfer_learning.py                        # train: fine-tuned, frozen and from scratch
python transfer_learning.py --photos DIR           # the same on your own train/<class>/ and val/<class>/
python transfer_learning.py --predict PHOTO ...    # what the trained model says of your photos
"""

if __name__ == "__main__":
    from data import catch_ctrl_c

    catch_ctrl_c()

import copy
import math
import os
import signal
import time
from pathlib import Path

import torch
from torch import nn
from torch.utils.data import DataLoader, Subset
from torchvision import transforms
from tqdm import tqdm

from data import DataError, insects, plot, results, weights
from data.photos import open_photo
from data.tensors import load_tensors, quiet

USUAL_ARCH, BUILTIN_ARCH = "resnet18", "shufflenet_v2_x0_5"
QUICK_PHOTOS = 64  # of each split, with --quick
MODEL = "a model that transfer_learning.py saved"


# ---- data


def make_transforms(image_size, val_size):
    """What makes a network's input of a photo: a pair of transforms, to tensors (3, S, S), normalized.

    For training: a random part of the photo, half of the time mirrored; S is `image_size`. For validation: its middle;
    S is `val_size`.
    """
    to_input = [transforms.ToTensor(), transforms.Normalize(weights.MEAN, weights.STD)]
    augment = [transforms.RandomResizedCrop(image_size, scale=(0.35, 1.0)), transforms.RandomHorizontalFlip()]
    middle = [transforms.Resize(val_size * 9 // 8), transforms.CenterCrop(val_size)]
    return transforms.Compose(augment + to_input), transforms.Compose(middle + to_input)


def make_loaders(photos, sizes, batch_size, workers=0, most=None):
    """The DataLoaders {"train": ..., "val": ...} of `insects.Photos`, whose transforms it sets.

    sizes: `make_transforms`' arguments. workers: processes that read photos. most: the largest number of photos to
    take of each split; they are evenly spread.
    """
    loaders = {}
    splits = {"train": photos.train, "val": photos.val}
    for (name, split), transform in zip(splits.items(), make_transforms(*sizes), strict=True):
        split.transform = transform
        chosen = Subset(split, range(0, len(split), math.ceil(len(split) / most))) if most else split
        loaders[name] = DataLoader(
            chosen, batch_size, shuffle=name == "train", num_workers=workers, worker_init_fn=leave_ctrl_c
        )
    return loaders


def leave_ctrl_c(worker):
    """Lets the script alone answer Ctrl-C, which reaches the processes that read photos too."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


# ---- training


def train_model(
    model, loaders, criterion, optimizer, scheduler=None, num_epochs=10, seed=0, checkpoint=None, label="training"
):
    """Trains any model and keeps its best weights by validation accuracy.

    model: maps a batch of inputs to scores (N, classes); it is changed in place. A module that comes in evaluation mode
    (batch norm that shall keep its statistics) stays in it.
    loaders: {"train": ..., "val": ...}, each iterable over batches (inputs, targets (N,) int64) and with a length.
    criterion(scores, targets): the mean loss of a batch. optimizer: over the parameters to train. scheduler: stepped
    once an epoch. num_epochs: passes over the training batches. label: what the progress bar calls it.
    seed: epoch e draws its random numbers from (seed, e), whatever came before.
    checkpoint: a data.results.Checkpoint; training goes on from what it holds and is saved there after every epoch.

    Returns (model, history): the model with the weights of its best epoch (the first of equals), and a dict of lists,
    one number an epoch: train_loss, train_accuracy, val_loss, val_accuracy (shares in 0..1) and seconds.
    Raises DataError where the loss is no longer finite, or the checkpoint belongs to another run.
    """
    modes = [(module, module.training) for module in model.modules()]
    history = {key: [] for key in ("train_loss", "train_accuracy", "val_loss", "val_accuracy", "seconds")}
    best = copy.deepcopy(model.state_dict())
    if saved := checkpoint and checkpoint.load():
        with checkpoint.fits():
            results.check_history(saved["history"], history)
            history, best = saved["history"], saved["best"]
            model.load_state_dict(best)  # whether it fits, is known now and not at the end
            for part, name in ((model, "model"), (optimizer, "optimizer"), (scheduler, "scheduler")):
                if part is not None:
                    part.load_state_dict(saved[name])

    done = len(history["val_accuracy"])
    batches = len(loaders["train"]) + len(loaders["val"])
    with tqdm(total=num_epochs * batches, initial=done * batches, desc=label, unit="batch", leave=False) as bar:
        for epoch in range(done, num_epochs):
            started = time.perf_counter()
            results.seed_all(seed, epoch)
            for module, mode in modes:
                module.training = mode
            train_loss, train_accuracy = run_epoch(model, loaders["train"], criterion, optimizer, bar)
            model.eval()
            with torch.no_grad():
                val_loss, val_accuracy = run_epoch(model, loaders["val"], criterion, None, bar)
            if scheduler:
                scheduler.step()
            if val_accuracy > max(history["val_accuracy"], default=-1):
                best = copy.deepcopy(model.state_dict())
            values = train_loss, train_accuracy, val_loss, val_accuracy, time.perf_counter() - started
            for key, value in zip(history, values, strict=True):
                history[key].append(value)
            if checkpoint:
                checkpoint.save(
                    {"history": history, "best": best, "model": model.state_dict(), "optimizer": optimizer.state_dict(),
                     "scheduler": scheduler.state_dict() if scheduler else None}
                )  # fmt: skip
    model.load_state_dict(best)
    model.eval()
    return model, history


def run_epoch(model, loader, criterion, optimizer, bar):
    """One pass over `loader`; with an `optimizer` (it may be None) a step for each batch.

    Returns the mean loss and the accuracy (0..1). Raises DataError where a loss is no longer finite.
    """
    device = next(model.parameters()).device
    loss_sum, correct, count = 0.0, 0, 0
    for inputs, targets in loader:
        inputs, targets = to_device(inputs, device), targets.to(device)
        scores = model(inputs)
        loss = criterion(scores, targets)
        if not torch.isfinite(loss):
            raise DataError(
                f"{bar.desc}: the loss is no longer a number; try a smaller learning rate (--lr, --backbone-lr)"
            )
        if optimizer:
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        loss_sum += loss.item() * len(targets)
        correct += (scores.argmax(1) == targets).sum().item()
        count += len(targets)
        bar.set_postfix(loss=f"{loss.item():.3f}", refresh=False)
        bar.update()
    return loss_sum / count, correct / count


def to_device(inputs, device):
    """`inputs` on `device`; images (N, 3, H, W) channels-last, the layout in which convolutions run faster."""
    layout = torch.channels_last if inputs.ndim == 4 else torch.contiguous_format
    return inputs.to(device, memory_format=layout, non_blocking=True)


# ---- the scenarios


def replace_head(network, classes):
    """Puts a new `nn.Linear` with random weights and `classes` outputs in place of the network's last layer.

    Returns the layer's dotted name and the new layer. Raises DataError where the last layer is not fully connected.
    """
    name, old = [(name, module) for name, module in network.named_modules() if not any(module.children())][-1]
    if not isinstance(old, nn.Linear):
        raise DataError(
            f"--arch: {type(network).__name__} ends in a layer of the kind {type(old).__name__}, not in a fully "
            "connected one that could be replaced; choose another, say resnet18"
        )
    head = nn.Linear(old.in_features, classes).to(old.weight.device)
    set_layer(network, name, head)
    return name, head


def set_layer(network, name, layer):
    """Puts `layer` at the dotted `name` in `network`."""
    parent, _, last = name.rpartition(".")
    setattr(network.get_submodule(parent), last, layer)


def finetune(network, classes, loaders, recipe, checkpoint=None):
    """Starts from pre-trained weights instead of random ones; all layers are trained as usual.

    network: a torchvision classifier; its last layer is replaced by a new one for `classes` classes. recipe: the flags
    --epochs, --lr, --backbone-lr and --seed. The pre-trained layers take small steps (--backbone-lr) and keep their
    batch-norm statistics, which 16 photos are too few to estimate anew; the new layer takes steps of --lr.

    Returns (network, history) as `train_model` does.
    """
    _, head = replace_head(network, classes)
    network.train()
    for module in network.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.eval()
    in_head = {id(parameter) for parameter in head.parameters()}
    pretrained = [parameter for parameter in network.parameters() if id(parameter) not in in_head]
    groups = [{"params": pretrained, "lr": recipe.backbone_lr}, {"params": head.parameters(), "lr": recipe.lr}]
    return fit(network, groups, loaders, recipe, checkpoint, "finetune")


def freeze(network, classes, loaders, recipe, checkpoint=None):
    """Freezes all weights except those of the final fully connected layer, which is new and random; only it is trained.

    The frozen part has no gradients and no optimizer state and stays in evaluation mode. It runs forward alone: once an
    epoch over the training photos, which are augmented anew, and once in all over the validation photos, which never
    change. Arguments and result as `finetune`'s.
    """
    name, head = replace_head(network, classes)
    network.requires_grad_(False).eval()
    head.requires_grad_(True).train()
    set_layer(network, name, nn.Identity())  # what is left maps photos to the head's inputs
    features = {"train": Features(network, loaders["train"]), "val": Features(network, loaders["val"], keep=True)}
    _, history = fit(head, [{"params": head.parameters()}], features, recipe, checkpoint, "freeze")
    set_layer(network, name, head)
    return network, history


class Features:
    """A loader of what a frozen network makes of another loader's images: batches (features, targets).

    keep: they are computed in the first pass only and kept, for images that do not change.
    """

    def __init__(self, frozen, loader, keep=False):
        self.frozen, self.loader, self.keep, self.kept = frozen, loader, keep, None

    def __len__(self):
        return len(self.loader)

    def __iter__(self):
        if self.kept is not None:
            yield from self.kept
            return
        device, batches = next(self.frozen.parameters()).device, []
        for inputs, targets in self.loader:
            with torch.inference_mode():
                features = self.frozen(to_device(inputs, device))
            batch = features.clone(), targets  # a clone can be trained on, an inference tensor cannot
            if self.keep:
                batches.append(batch)
            yield batch
        if self.keep:
            self.kept = batches


def scratch(network, classes, loaders, recipe, checkpoint=None):
    """The baseline: the same recipe from random weights, with which `network` must come.

    Every layer is new, so each takes steps of --lr, and batch norm estimates its statistics. Arguments and result as
    `finetune`'s.
    """
    replace_head(network, classes)
    return fit(network.train(), [{"params": network.parameters()}], loaders, recipe, checkpoint, "scratch")


def fit(model, groups, loaders, recipe, checkpoint, label):
    """`train_model` with the recipe that the scenarios share: SGD with momentum, rates that fall along a cosine."""
    optimizer = torch.optim.SGD(groups, lr=recipe.lr, momentum=0.9, weight_decay=1e-3)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, recipe.epochs)
    return train_model(
        model, loaders, nn.CrossEntropyLoss(), optimizer, scheduler, recipe.epochs, recipe.seed, checkpoint, label
    )


SCENARIOS = {"finetune": finetune, "freeze": freeze, "scratch": scratch}


# ---- pictures


def predict(model, loader):
    """Class probabilities of every image of `loader` (N, classes) and the targets (N,), on the CPU."""
    device = next(model.parameters()).device
    model.eval()
    with torch.inference_mode():
        pairs = [(model(to_device(inputs, device)).softmax(1).cpu(), targets) for inputs, targets in loader]
    return torch.cat([p for p, _ in pairs]), torch.cat([t for _, t in pairs])


def visualize_model(model, loader, classes, title, num_images=16):
    """A figure of validation images with their true class, the model's prediction and its probability.

    The mistakes come first, the surest at the top left, framed and marked; then the least sure of the right ones.
    """
    probabilities, targets = predict(model, loader)
    sureness, predicted = probabilities.max(1)
    wrong = predicted != targets
    order = torch.argsort(torch.where(wrong, -sureness - 1, sureness)).tolist()[:num_images]
    captions = []
    for k in order:
        truth, guess = classes[targets[k]], classes[predicted[k]]
        verdict = f"WRONG: {guess}" if wrong[k] else f"right: {guess}"
        captions.append((f"{verdict}, {sureness[k]:.0%}\ntruth: {truth}", bool(wrong[k])))
    images = [to_pixels(loader.dataset[k][0]) for k in order]
    return plot.picture_grid(images, captions, f"{title}\n{int(wrong.sum())} of {len(targets)} wrong, mistakes first")


def to_pixels(image):
    """A normalized image, a tensor (3, H, W), as pixels, a numpy array (H, W, 3) in 0..1."""
    pixels = image * torch.tensor(weights.STD).view(3, 1, 1) + torch.tensor(weights.MEAN).view(3, 1, 1)
    return pixels.clamp(0, 1).permute(1, 2, 0).numpy()


def plot_curves(histories, guess, title):
    """Loss and accuracy by epoch, training dashed and validation solid, all scenarios in one figure.

    guess: the share of the commonest class among the validation photos, which a model that learned nothing gets too.
    """
    panels = (
        ("cross-entropy loss (nats)", 1, {"train_loss": ("--", "train"), "val_loss": ("-", "val")}),
        ("accuracy (%)", 100, {"train_accuracy": ("--", "train"), "val_accuracy": ("-", "val")}),
    )
    figure, (loss, accuracy) = plot.learning_curves(histories, panels, title)
    loss.set_ylim(0, 1.08 * loss.dataLim.ymax)
    accuracy.axhline(100 * guess, color="grey", linestyle=":", label="always the commonest class")
    figure.legend(*accuracy.get_legend_handles_labels(), loc="outside lower center", ncols=4, fontsize=8)
    return figure


def plot_confusion(confusions, classes, title):
    """For each scenario how many validation photos of each class (rows) were taken for which (columns).

    confusions: {scenario: counts}, counts a list of rows. A cell is as dark as its share of the row is large.
    """
    figure = plot.new_figure(1.5 + 3.2 * len(confusions), 3.6)
    figure.suptitle(title, wrap=True)
    panels = figure.subplots(1, len(confusions), squeeze=False)[0]
    for axes, (name, counts) in zip(panels, confusions.items(), strict=True):
        shares = [[count / max(1, sum(row)) for count in row] for row in counts]
        axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
        axes.grid(False)
        axes.set(title=name, xlabel="predicted class", ylabel="true class")
        ticks = range(len(classes))
        axes.set_xticks(ticks, classes, rotation=0 if len(classes) < 4 else 90)
        axes.set_yticks(ticks, classes)
        if len(classes) <= 12:
            for row in ticks:
                for column in ticks:
                    color = "white" if shares[row][column] > 0.6 else "black"
                    axes.text(column, row, counts[row][column], ha="center", va="center", color=color)
    return figure


# ---- the run


def train(args):
    """Trains the scenarios, one after the other, and writes what a grader reads."""
    device = results.pick_device(args.device)
    photos = insects.load(args.data, args.photos, Path(args.results) / "cache")
    pretrained = choose_weights(args, photos)
    count = len(photos.classes)
    replace_head(pretrained.network(), count)  # an unfit architecture says so before the run begins
    if "finetune" in args.scenarios and not pretrained.trainable:
        raise DataError(
            f"{pretrained.name}: its batch norm is folded away, so it serves evaluation only and cannot be fine-tuned; "
            "give other weights, or --scenarios freeze"
        )
    hint = "" if photos.real else "; real photos: 'python -m data.download insects weights'"
    print(f"data: {photos.name}, {len(photos.train)} to train and {len(photos.val)} to validate, {count} classes{hint}")
    print(f"weights: {pretrained.name}")
    if photos.real and pretrained.builtin:
        print("warning: real photos, but weights that learned from drawings; 'python -m data.download weights' helps")

    workers = args.workers
    if workers is None:
        workers = min(8, os.cpu_count() or 1) if device.type == "cuda" else 0
    settings = {key: getattr(args, key) for key in ("epochs", "batch_size", "lr", "backbone_lr", "scenarios", "quick")}
    settings |= {"workers": workers, "device": device.type}
    settings |= {"classes": photos.classes, "photos_fingerprint": photos.fingerprint}
    data = photos.name + ", quick look at a part" * args.quick
    with results.Run("transfer_learning", args, data, pretrained.name, settings) as run:
        if run.finished:
            return results.show_results(run.finished, run.folder)
        sizes = pretrained.image_size, pretrained.val_size
        loaders = make_loaders(photos, sizes, args.batch_size, workers, most=QUICK_PHOTOS if args.quick else None)
        models, histories = {}, {}
        for name in args.scenarios:
            results.seed_all(args.seed, name)
            network = pretrained.random_network() if name == "scratch" else pretrained.network()
            network = network.to(device, memory_format=torch.channels_last)
            model, history = SCENARIOS[name](network, count, loaders, args, run.checkpoint(name))
            models[name], histories[name] = model, history
            run.seconds[name] = sum(history.pop("seconds"))
            print(f"{name}: best validation accuracy {max(history['val_accuracy']):.1%}")
        report(run, models, histories, photos.classes, loaders["val"], pretrained)


def choose_weights(args, photos):
    """The weights to start from: `--arch`'s, or ResNet-18's where they are found, or the built-in ones.

    Drawn photos go with the weights that learned from drawings, unless `--arch` or `--data` asks for others.
    """
    source = args.data or ("builtin" if args.arch is None and not photos.real else None)
    usual = source != "builtin" and weights.find(USUAL_ARCH, source)
    arch = USUAL_ARCH if usual else BUILTIN_ARCH
    return weights.load(arch if args.arch is None else args.arch, source)


def report(run, models, histories, classes, loader, pretrained):
    """The models, the plots, the table and results.json of a finished training."""
    data = run.saved["data"]
    shown = f"{data}; {pretrained.arch}"
    names = [results.shown(name, 30) for name in classes]  # as figures take them
    metrics = {name: measure(model, histories[name], loader, len(classes)) for name, model in models.items()}
    rows = []
    for name, figures in metrics.items():
        low, high = figures["best_interval"]
        rows.append(
            [name, f"{figures['best_val_accuracy']:.1%}", f"{low:.1%}-{high:.1%}", str(figures["best_epoch"])]
            + [f"{figures['last_val_accuracy']:.1%}", f"{figures['trained_parameters']:,}"]
        )
        about = {"script": "transfer_learning", "scenario": name, "arch": pretrained.arch, "data": data}
        about |= {"classes": classes, "val_size": pretrained.val_size, "state": models[name].state_dict()}
        run.model(f"{name}.pt", about)

    confusions = {name: figures["confusion"] for name, figures in metrics.items()}
    photos_a_class = [sum(row) for row in confusions[next(iter(confusions))]]  # the same for each scenario
    guess = max(photos_a_class) / sum(photos_a_class)
    run.figure(
        plot_curves(histories, guess, f"Learning curves · {shown}"),
        "learning_curves.png",
        "Learning curves",
        "How high the pre-trained networks start, how far the same photos bring one from random weights, and the gap "
        "between training (dashed) and validation (solid).",
    )
    run.figure(
        plot_confusion(confusions, names, f"Confusion counts at the best epoch · {shown}"),
        "confusion.png",
        "Confusion counts",
        "At the best epoch. The diagonal is right; the rest shows which class is taken for which.",
    )
    for name, model in models.items():
        run.figure(
            visualize_model(model, loader, names, f"{name} at its best epoch · validation photos · {shown}"),
            f"visualize_{name}.png",
            f"Validation photos, {name}",
            "Mistakes first, marked, with the predicted class's probability; then the right ones, least sure first.",
        )
    run.finish(metrics, ["scenario", "best val", "95% interval", "best epoch", "last val", "trained parameters"], rows)


def measure(model, history, loader, classes):
    """What results.json says of one scenario: accuracies, interval, confusion counts (row: true class), history."""
    probabilities, targets = predict(model, loader)
    pairs = targets * classes + probabilities.argmax(1)
    best = max(history["val_accuracy"])
    return {
        "best_val_accuracy": best,
        "best_interval": results.wilson_interval(best, len(targets)),
        "best_epoch": history["val_accuracy"].index(best) + 1,
        "last_val_accuracy": history["val_accuracy"][-1],
        "val_photos": len(targets),
        "trained_parameters": sum(p.numel() for p in model.parameters() if p.requires_grad),
        "confusion": pairs.bincount(minlength=classes**2).view(classes, classes).tolist(),
        "history": history,
    }


# ---- predictions for one's own photos


def show_predictions(args):
    """`--predict`: prints what a saved model says of the user's photos, and saves it as a picture."""
    device = results.pick_device(args.device)
    photos = [open_photo(path) for path in args.predict]
    runs, files = ("transfer_learning", "transfer_learning-quick"), ("freeze.pt", "finetune.pt", "scratch.pt")
    path = results.model_file(args, "transfer_learning.py", runs, files)
    model, saved = load_model(path)
    about = results.shown(f"{saved['scenario']}, {saved['arch']}, trained on {saved['data']}")
    classes = [results.shown(name, 30) for name in saved["classes"]]
    print(f"model: {results.shown(path)} ({about})")
    _, transform = make_transforms(saved["val_size"], saved["val_size"])
    probabilities, _ = predict(model.to(device), [(transform(photo)[None], torch.zeros(1)) for photo in photos])
    if not probabilities.isfinite().all():
        raise DataError(f"{path}: holds numbers that are too large to compute with; train again")

    rows, captions = [], []
    for name, row in zip(args.predict, probabilities, strict=True):
        ranked = [(classes[k], row[k].item()) for k in row.argsort(descending=True)[:3].tolist()]
        rows.append([name, ranked[0][0], ", ".join(f"{label} {share:.1%}" for label, share in ranked)])
        captions.append((f"{results.shown(Path(name).name, 30)}\n{ranked[0][0]}, {ranked[0][1]:.0%}", False))
    figure = plot.picture_grid(photos, captions, f"Predictions of {results.shown(path.name)} ({about})")
    picture = (Path(args.results, "transfer_learning") if args.model else path.parent) / "predictions.png"
    plot.save_figure(figure, picture)
    results.print_table(["photo", "class", "probabilities"], rows)
    print(f"  {results.shown(picture)}")


@quiet()
def load_model(path):
    """A model that `report` saved, ready to predict, and what was saved with it. DataError for any other file."""
    saved = load_tensors(path, MODEL)
    try:
        classes, texts = saved["classes"], [saved["script"], saved["scenario"], saved["arch"], saved["data"]]
        if saved["script"] != "transfer_learning" or saved["val_size"] not in range(1, 1025):
            raise ValueError
        if not isinstance(classes, list) or not 2 <= len(classes) <= 10_000:
            raise ValueError
        if not all(isinstance(text, str) and len(text) < 1000 for text in texts + classes):
            raise ValueError
        if not all(tensor.isfinite().all() for tensor in saved["state"].values()):
            raise ValueError
        model = weights.without_auxiliaries(weights.build(saved["arch"], len(classes)))
        replace_head(model, len(classes))
        model.load_state_dict(saved["state"])
    except Exception:  # a part is missing or of the wrong kind, and PyTorch raises whatever that leads it to
        raise DataError(f"{path}: is not {MODEL}; train again, or give another --model") from None
    return model.to(memory_format=torch.channels_last), saved


# ---- flags


def parse_args(argv=None):
    """The flags, those whose default depends on others filled in."""
    parser = results.Parser(prog="transfer_learning.py", description=__doc__.splitlines()[0])
    count, rate = results.at_least(1, below=2**31), results.at_least(0, float, below=1e6)
    results.add_common_flags(parser, f"2 epochs, {QUICK_PHOTOS} photos each to train and to validate")
    results.add_seed_flag(parser)
    parser.add_argument(
        "--epochs",
        type=count,
        help="passes over the training photos (default: 10; 2 with --quick)",
    )
    parser.add_argument("--batch-size", type=count, default=16, help="photos a step")
    parser.add_argument("--lr", type=rate, default=3e-3, help="learning rate of new layers")
    parser.add_argument(
        "--backbone-lr",
        type=rate,
        default=3e-4,
        help="learning rate of pre-trained layers",
    )
    parser.add_argument("--scenarios", nargs="+", choices=SCENARIOS, help="which to train (default: all three)")
    parser.add_argument(
        "--arch", help=f"torchvision classifier (default: {USUAL_ARCH} where its weights are, else {BUILTIN_ARCH})"
    )
    parser.add_argument("--photos", metavar="DIR", help="your own photos, in DIR/train/<class>/ and DIR/val/<class>/")
    parser.add_argument(
        "--workers",
        type=results.at_least(0, below=257),
        help="processes that read photos (default: 0 on the CPU, 8 for CUDA)",
    )
    parser.add_argument("--predict", nargs="+", metavar="PHOTO", help="train nothing; say what these photos show")
    parser.add_argument(
        "--model",
        metavar="FILE",
        help="the model for --predict (default: the last run's freeze, else finetune, else scratch)",
    )
    args = parser.parse_args(argv)
    parser.keep_to("--predict", "--model", "--results", "--device", "--quick")
    if args.model and not args.predict:
        parser.error("--model goes with --predict")
    args.epochs = args.epochs or (2 if args.quick else 10)
    args.scenarios = [name for name in SCENARIOS if name in (args.scenarios or SCENARIOS)]
    return args


def main(argv=None):
    """The script: `argv` are its flags, None those of the command line."""
    args = parse_args(argv)
    if args.predict:
        show_predictions(args)
    else:
        train(args)


if __name__ == "__main__":
    results.run_main(main)
