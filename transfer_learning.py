"""Problem 1: transfer learning. Tells ants from bees with a network that was trained on other pictures.

python transfer_learning.py                        # train: fine-tuned, frozen and from scratch
python transfer_learning.py --photos DIR           # the same on your own train/<class>/ and val/<class>/
python transfer_learning.py --predict PHOTO ...    # classify your photos with the trained model
"""

if __name__ == "__main__":
    from common.cli import quit_on_ctrl_c

    quit_on_ctrl_c()

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

from common import cli, plots
from common import run as runs
from common.cli import UserError, shown
from data import images, weights

USUAL_ARCH, BUILTIN_ARCH = "resnet18", "shufflenet_v2_x0_5"
QUICK_PHOTOS = 64  # of each split, with --quick
RUNS = ("transfer_learning", "transfer_learning-quick")  # the folders below --results


# ---- data


def make_transforms(image_size, val_size):
    """Training and validation transforms: a PIL image to a normalized tensor (3, S, S).

    Training: a random part of the photo, mirrored half of the time; S is `image_size`. Validation: the middle; S is
    `val_size`.
    """
    to_input = [transforms.ToTensor(), transforms.Normalize(weights.MEAN, weights.STD)]
    augment = [transforms.RandomResizedCrop(image_size, scale=(0.35, 1.0)), transforms.RandomHorizontalFlip()]
    middle = [transforms.Resize(val_size * 9 // 8), transforms.CenterCrop(val_size)]
    return transforms.Compose(augment + to_input), transforms.Compose(middle + to_input)


def make_loaders(photos, sizes, batch_size, workers=0, most=None):
    """The DataLoaders {"train": ..., "val": ...} of an `images.Photos`.

    sizes: `make_transforms`' arguments. workers: processes that read photos. most: photos of each split, evenly spread.
    """
    photos.train.transform, photos.val.transform = make_transforms(*sizes)
    loaders = {}
    for name, split in (("train", photos.train), ("val", photos.val)):
        part = Subset(split, range(0, len(split), math.ceil(len(split) / most))) if most else split
        options = {"num_workers": workers, "worker_init_fn": ignore_ctrl_c}
        loaders[name] = DataLoader(part, batch_size, shuffle=name == "train", **options)
    return loaders


def ignore_ctrl_c(worker):
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the main process answers it


# ---- training


def train_model(
    model, loaders, criterion, optimizer, scheduler=None, num_epochs=10, seed=0, checkpoint=None, label="training"
):
    """Trains any model and keeps its best weights by validation accuracy.

    model: maps a batch of inputs to scores (N, classes); changed in place. Its modules in evaluation mode stay in it.
    loaders: {"train": ..., "val": ...}, iterables with a length of batches (inputs, targets (N,) int64).
    criterion(scores, targets): the mean loss of a batch. scheduler: stepped once an epoch. seed, checkpoint: as in
    `common.run.epochs`. label: the progress bar's.

    Returns (model, history): the model with the weights of its best epoch (the first of equals), and lists of one
    number an epoch: train_loss, train_accuracy, val_loss, val_accuracy (shares in 0..1) and seconds.
    Raises UserError if the loss is no longer finite.
    """
    history, best, modes = runs.History(), runs.Best(), [(module, module.training) for module in model.modules()]
    parts = {"model": model, "optimizer": optimizer, "history": history, "best": best}
    parts |= {"scheduler": scheduler} if scheduler else {}
    batches = len(loaders["train"]) + len(loaders["val"])
    with tqdm(total=num_epochs * batches, desc=label, unit="batch", leave=False) as bar:
        for epoch in runs.epochs(num_epochs, seed, checkpoint, **parts):
            started, bar.n = time.perf_counter(), epoch * batches
            for module, mode in modes:
                module.training = mode
            loss, accuracy = run_epoch(model, loaders["train"], criterion, optimizer, bar)
            history.add(train_loss=loss, train_accuracy=accuracy)
            model.eval()
            with torch.no_grad():
                loss, accuracy = run_epoch(model, loaders["val"], criterion, None, bar)
            if scheduler:
                scheduler.step()
            best.offer(accuracy, model)
            history.add(val_loss=loss, val_accuracy=accuracy, seconds=time.perf_counter() - started)
    model.load_state_dict(best.state)
    return model.eval(), history


def run_epoch(model, loader, criterion, optimizer, bar):
    """One pass over `loader`, with steps unless `optimizer` is None. Returns the mean loss and the accuracy (0..1)."""
    device = next(model.parameters()).device
    loss_sum, correct, count = 0.0, 0, 0
    for inputs, targets in loader:
        inputs, targets = to_device(inputs, device), targets.to(device)
        scores = model(inputs)
        loss = criterion(scores, targets)
        if optimizer:
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        runs.check_finite(loss.item(), bar.desc, "try a smaller learning rate (--lr, --backbone-lr)")
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
    """Replaces the network's last layer by a new `nn.Linear` with random weights and `classes` outputs.

    Returns the layer's dotted name and the new layer. Raises UserError unless the last layer is fully connected.
    """
    name, old = [(name, module) for name, module in network.named_modules() if not any(module.children())][-1]
    if not isinstance(old, nn.Linear):
        kind = f"{type(network).__name__} ends in a {type(old).__name__}"
        raise UserError(f"--arch: {kind}, not in a fully connected layer; choose another, for example resnet18")
    head = nn.Linear(old.in_features, classes).to(old.weight.device)
    network.set_submodule(name, head)
    return name, head


def finetune(network, classes, loaders, backbone_lr=3e-4, **training):
    """Initializes with pre-trained weights instead of random ones; all layers are trained.

    network: a torchvision classifier; its last layer is replaced by a new one for `classes` classes. The pre-trained
    layers take small steps (backbone_lr) and keep their batch-norm statistics, for which 16 photos are too few.
    training: num_epochs, lr, seed, checkpoint of `fit`. Returns (network, history) as `train_model` does.
    """
    _, head = replace_head(network, classes)
    network.train()
    for module in network.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.eval()
    pretrained = [p for p in network.parameters() if not any(p is q for q in head.parameters())]
    groups = [{"params": pretrained, "lr": backbone_lr}, {"params": head.parameters()}]
    return fit(network, groups, loaders, label="finetune", **training)


def freeze(network, classes, loaders, backbone_lr=None, **training):
    """Freezes all weights except those of the final fully connected layer, which is new and random; it is trained.

    The frozen part stays in evaluation mode and runs forward only: once an epoch over the training photos, which are
    augmented anew, and once in all over the validation photos. Arguments and result as `finetune`.
    """
    name, head = replace_head(network, classes)
    network.requires_grad_(False).eval()
    head.requires_grad_(True).train()
    network.set_submodule(name, nn.Identity())  # the rest maps photos to the head's inputs
    features = {"train": Features(network, loaders["train"]), "val": list(Features(network, loaders["val"]))}
    _, history = fit(head, [{"params": head.parameters()}], features, label="freeze", **training)
    network.set_submodule(name, head)
    return network, history


class Features:
    """A loader of what a frozen network computes from another loader's images: batches (features, targets)."""

    def __init__(self, frozen, loader):
        self.frozen, self.loader = frozen, loader

    def __len__(self):
        return len(self.loader)

    def __iter__(self):
        device = next(self.frozen.parameters()).device
        for inputs, targets in self.loader:
            with torch.no_grad():
                features = self.frozen(to_device(inputs, device))
            yield features, targets


def scratch(network, classes, loaders, backbone_lr=None, **training):
    """The baseline: the same recipe from random weights (those of `network`). Arguments and result as `finetune`."""
    replace_head(network, classes)
    return fit(network.train(), [{"params": network.parameters()}], loaders, label="scratch", **training)


def fit(model, groups, loaders, num_epochs=10, lr=3e-3, seed=0, checkpoint=None, label="training"):
    """`train_model` by SGD with momentum and a learning rate that falls along a cosine."""
    optimizer = torch.optim.SGD(groups, lr=lr, momentum=0.9, weight_decay=1e-3)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, num_epochs)
    criterion = nn.CrossEntropyLoss()
    return train_model(model, loaders, criterion, optimizer, scheduler, num_epochs, seed, checkpoint, label)


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

    Mistakes come first, framed, the most confident at the top left; then the least confident right ones.
    """
    probabilities, targets = predict(model, loader)
    confidence, predicted = probabilities.max(1)
    wrong = predicted != targets
    order = torch.argsort(torch.where(wrong, -confidence - 1, confidence)).tolist()[:num_images]
    captions = []
    for k in order:
        verdict = f"{'WRONG' if wrong[k] else 'right'}: {classes[predicted[k]]}, {confidence[k]:.0%}"
        captions.append((f"{verdict}\ntruth: {classes[targets[k]]}", bool(wrong[k])))
    pixels = [to_pixels(loader.dataset[k][0]) for k in order]
    return plots.picture_grid(pixels, captions, f"{title}\n{int(wrong.sum())} of {len(targets)} wrong, mistakes first")


def to_pixels(image):
    """A normalized image, a tensor (3, H, W), as pixels, a numpy array (H, W, 3) in 0..1."""
    pixels = image * torch.tensor(weights.STD).view(3, 1, 1) + torch.tensor(weights.MEAN).view(3, 1, 1)
    return pixels.clamp(0, 1).permute(1, 2, 0).numpy()


def plot_curves(histories, guess, title):
    """Loss and accuracy by epoch. guess: the share of the most frequent class."""
    panels = (
        ("cross-entropy loss (nats)", 1, {"train_loss": ("--", "train"), "val_loss": ("-", "val")}),
        ("accuracy (%)", 100, {"train_accuracy": ("--", "train"), "val_accuracy": ("-", "val")}),
    )
    figure, (loss, accuracy) = plots.learning_curves(histories, panels, title)
    loss.set_ylim(0, 1.08 * loss.dataLim.ymax)
    accuracy.axhline(100 * guess, color="grey", linestyle=":", label="always the most frequent class")
    figure.legend(*accuracy.get_legend_handles_labels(), loc="outside lower center", ncols=4, fontsize=8)
    return figure


def plot_confusion(confusions, classes, title):
    """For each scenario how many validation photos of each class (rows) are predicted as each class (columns)."""
    figure = plots.new_figure(1.5 + 3.2 * len(confusions), 3.6, title)
    panels, ticks = figure.subplots(1, len(confusions), squeeze=False)[0], range(len(classes))
    for axes, (name, counts) in zip(panels, confusions.items(), strict=True):
        shares = [[count / max(1, sum(row)) for count in row] for row in counts]
        axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
        axes.grid(False)
        axes.set(title=name, xlabel="predicted class", ylabel="true class")
        axes.set_xticks(ticks, classes, rotation=0 if len(classes) < 4 else 90)
        axes.set_yticks(ticks, classes)
        for r, c in [(r, c) for r in ticks for c in ticks] if len(classes) <= 12 else []:
            axes.text(c, r, counts[r][c], ha="center", va="center", color="white" if shares[r][c] > 0.6 else "black")
    return figure


# ---- the run


def measure(model, history, loader, classes):
    """The metrics of one scenario; a row of the confusion counts is a true class."""
    probabilities, targets = predict(model, loader)
    pairs = targets * classes + probabilities.argmax(1)
    best = max(history["val_accuracy"])
    return {
        "best_val_accuracy": best,
        "best_interval": runs.wilson_interval(best, len(targets)),
        "best_epoch": history["val_accuracy"].index(best) + 1,
        "last_val_accuracy": history["val_accuracy"][-1],
        "val_photos": len(targets),
        "trained_parameters": sum(p.numel() for p in model.parameters() if p.requires_grad),
        "confusion": pairs.bincount(minlength=classes**2).view(classes, classes).tolist(),
        "history": history,
    }


def report(run, models, histories, classes, loader, pretrained):
    """Saves the models, the plots, the table and results.json."""
    about, names = f"{run.saved['data']}; {pretrained.arch}", [shown(name, 30) for name in classes]
    columns = ["scenario", "best val", "95% interval", "best epoch", "last val", "trained parameters"]
    metrics, rows = {}, []
    for name, model in models.items():
        found = metrics[name] = measure(model, histories[name], loader, len(classes))
        best, last, (low, high) = (found[k] for k in ("best_val_accuracy", "last_val_accuracy", "best_interval"))
        row = f"{name}|{best:.1%}|{low:.1%}-{high:.1%}|{found['best_epoch']}|{last:.1%}|{found['trained_parameters']:,}"
        rows.append(row.split("|"))
        saved = {"scenario": name, "arch": pretrained.arch, "classes": classes, "val_size": pretrained.val_size}
        run.model(f"{name}.pt", {**saved, "state": model.state_dict()})
    confusions = {name: found["confusion"] for name, found in metrics.items()}
    counts = [sum(row) for row in confusions[name]]
    figure = plot_curves(histories, max(counts) / sum(counts), f"Learning curves · {about}")
    caption = "Where the pre-trained networks start, and the gap between training (dashed) and validation (solid)."
    run.figure(figure, "learning_curves.png", "Learning curves", caption)
    figure = plot_confusion(confusions, names, f"Confusion counts at the best epoch · {about}")
    run.figure(figure, "confusion.png", "Confusion counts", "The diagonal is right; the rest shows what is confused.")
    for name, model in models.items():
        figure = visualize_model(model, loader, names, f"{name} at its best epoch · validation photos · {about}")
        caption = "Mistakes first, framed, with the predicted class's probability; then the least confident right ones."
        run.figure(figure, f"visualize_{name}.png", f"Validation photos, {name}", caption)
    run.finish(metrics, columns, rows)


def show_predictions(paths, photos, model_path, picture, device):
    """`--predict`: prints what a saved model predicts for photos, then draws them with it."""
    model, saved = runs.load_model(model_path, "transfer_learning", build)
    about = shown(f"{saved['scenario']}, {saved['arch']}, trained on {saved['data']}")
    print(f"model: {shown(model_path)} ({about})")
    _, transform = make_transforms(saved["val_size"], saved["val_size"])
    probabilities, _ = predict(model.to(device), [(transform(photo)[None], torch.zeros(1)) for photo in photos])
    rows, captions = [], []
    for path, row in zip(paths, probabilities, strict=True):
        ranked = [(shown(saved["classes"][k], 30), row[k].item()) for k in row.argsort(descending=True)[:3].tolist()]
        rows.append([path, ranked[0][0], ", ".join(f"{label} {share:.1%}" for label, share in ranked)])
        captions.append((f"{shown(Path(path).name, 30)}\n{ranked[0][0]}, {ranked[0][1]:.0%}", False))
    cli.print_table(["photo", "class", "probabilities"], rows)
    plots.save(plots.picture_grid(photos, captions, f"Predictions of {shown(model_path.name)} ({about})"), picture)
    print(f"  {shown(picture)}")


def build(saved):
    """The network of a saved model."""
    model = weights.without_auxiliaries(weights.build(saved["arch"], len(saved["classes"])))
    replace_head(model, len(saved["classes"]))
    model.load_state_dict(saved["state"])
    return model.to(memory_format=torch.channels_last)


# ---- the command


def parse_args(argv=None):
    parser = cli.Parser(prog="transfer_learning.py", description=(__doc__ or "").partition("\n")[0])
    count, rate, add = cli.number(1, below=2**31), cli.number(0, float, below=1e6), parser.add_argument
    cli.add_common_flags(parser, f"2 epochs, {QUICK_PHOTOS} photos each to train and to validate")
    cli.add_seed_flag(parser)
    add("--epochs", type=count, help="passes over the training photos (default: 10; 2 with --quick)")
    add("--batch-size", type=count, default=16, help="photos a step")
    add("--lr", type=rate, default=3e-3, help="learning rate of new layers")
    add("--backbone-lr", type=rate, default=3e-4, help="learning rate of pre-trained layers")
    add("--scenarios", nargs="+", choices=SCENARIOS, help="which to train (default: all three)")
    add("--arch", help=f"torchvision classifier (default: {USUAL_ARCH} if its weights are there, else {BUILTIN_ARCH})")
    add("--photos", metavar="DIR", help="your own photos, in DIR/train/<class>/ and DIR/val/<class>/")
    add("--workers", type=cli.number(0, below=257), help="processes that read photos (default: 0; 8 with CUDA)")
    add("--predict", nargs="+", metavar="PHOTO", help="train nothing; classify these photos")
    add("--model", metavar="FILE", help="for --predict (default: the last run's freeze, else finetune, else scratch)")
    args = parser.parse_args(argv)
    parser.keep_to(args, "--predict", "--model", "--results", "--device", "--quick")
    if args.model and not args.predict:
        parser.error("--model goes with --predict")
    args.epochs = args.epochs or (2 if args.quick else 10)
    args.scenarios = [name for name in SCENARIOS if name in (args.scenarios or SCENARIOS)]
    return args


def load(args):
    """The photos, the pre-trained weights, and the settings that results depend on; says which data and weights."""
    photos = images.load(args.data, args.photos, Path(args.results, "cache"))
    pretrained = weights.choose(args.arch, args.data, photos.real, USUAL_ARCH, BUILTIN_ARCH)
    replace_head(pretrained.network(), len(photos.classes))  # fail now if the architecture does not fit
    if "finetune" in args.scenarios and not pretrained.trainable:
        raise UserError(f"{pretrained.name}: has no batch norm to fine-tune; give other weights, or --scenarios freeze")
    counts = f"{len(photos.train)} to train and {len(photos.val)} to validate, {len(photos.classes)} classes"
    hint = "" if photos.real else "; real photos: 'python -m data.download insects weights'"
    print(f"data: {photos.name}, {counts}{hint}\nweights: {pretrained.name}")
    if photos.real and pretrained.builtin:
        print(
            "warning: real photos, but weights trained on drawings; 'python -m data.download weights' gets better ones"
        )
    keys = ("epochs", "batch_size", "lr", "backbone_lr", "scenarios", "quick", "workers")
    settings = {key: getattr(args, key) for key in keys} | {"device": runs.pick_device(args.device).type}
    return photos, pretrained, settings | {"classes": photos.classes, "photos_fingerprint": photos.fingerprint}


def train(run, args, photos, pretrained, device):
    """Trains the scenarios, one after the other, and reports them."""
    workers = args.workers if args.workers is not None else min(8, os.cpu_count() or 1) * (device.type == "cuda")
    sizes, most = (pretrained.image_size, pretrained.val_size), QUICK_PHOTOS if args.quick else None
    loaders, models, histories = make_loaders(photos, sizes, args.batch_size, workers, most), {}, {}
    for name in args.scenarios:
        runs.seed_all(args.seed, name)
        network = pretrained.random_network() if name == "scratch" else pretrained.network()
        network = network.to(device, memory_format=torch.channels_last)
        training = {"num_epochs": args.epochs, "lr": args.lr, "seed": args.seed, "checkpoint": run.checkpoint(name)}
        model, history = SCENARIOS[name](network, len(photos.classes), loaders, args.backbone_lr, **training)
        run.seconds[name] = sum(history.pop("seconds"))
        models[name], histories[name] = model, history
        print(f"{name}: best validation accuracy {max(history['val_accuracy']):.1%}")
    report(run, models, histories, photos.classes, loaders["val"], pretrained)


def main(argv=None):
    """The script; argv: its flags (default: the command line's)."""
    args = parse_args(argv)
    device = runs.pick_device(args.device)
    if args.predict:
        photos = [images.open_photo(path) for path in args.predict]
        path = runs.find_model(args, "transfer_learning", RUNS, ("freeze.pt", "finetune.pt", "scratch.pt"))
        folder = Path(args.results, RUNS[0]) if args.model else path.parent
        return show_predictions(args.predict, photos, path, folder / "predictions.png", device)
    photos, pretrained, settings = load(args)
    data = photos.name + ", quick look at a part" * args.quick
    with runs.Run("transfer_learning", args, data, pretrained.name, settings) as run:
        train(run, args, photos, pretrained, device)


if __name__ == "__main__":
    cli.run_main(main)
