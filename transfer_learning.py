"""Problem 1: transfer learning. Tells ants from bees with a network that was trained on other pictures.

python transfer_learning.py                        # train three ways: fine-tuned, frozen, from scratch
python transfer_learning.py --photos DIR           # the same on your own photos in train/<class>/ and val/<class>/
python transfer_learning.py --predict PHOTO ...    # classify your photos with the trained model
"""

if __name__ == "__main__":
    from common.cli import quit_on_ctrl_c

    quit_on_ctrl_c()

import math
import os
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
MOST_CLASSES = 50  # with more classes there is no confusion matrix


def make_transforms(image_size, val_size):
    """Training and validation transforms: a PIL image to a normalized tensor (3, S, S), S = image_size and val_size."""
    to_input = [transforms.ToTensor(), transforms.Normalize(weights.MEAN, weights.STD)]
    augment = [transforms.RandomResizedCrop(image_size, scale=(0.35, 1.0)), transforms.RandomHorizontalFlip()]
    middle = [transforms.Resize(val_size * 9 // 8), transforms.CenterCrop(val_size)]
    return transforms.Compose(augment + to_input), transforms.Compose(middle + to_input)


def make_loaders(photos, sizes, batch_size, workers=0, most=None):
    """{"train": DataLoader, "val": DataLoader} of `images.Photos`. most: maximum photos per split, evenly spaced."""
    photos.train.transform, photos.val.transform = make_transforms(*sizes)
    loaders = {}
    for name, split in (("train", photos.train), ("val", photos.val)):
        part = Subset(split, range(0, len(split), math.ceil(len(split) / (most or len(split)))))
        loaders[name] = DataLoader(part, batch_size, shuffle=name == "train", num_workers=workers)
    return loaders


def train_model(model, loaders, criterion, optimizer, scheduler=None, num_epochs=10, seed=0, checkpoint=None, label=""):
    """Trains any model in place and keeps the weights with the best validation accuracy.

    model: maps a batch of inputs to scores (N, classes); modules in evaluation mode stay in evaluation mode. loaders:
    {"train": ..., "val": ...}, iterables of batches (inputs, targets (N,) int64). criterion(scores, targets): the mean
    loss of a batch. Returns the model at its best epoch (the first in a tie) and lists with one number per epoch:
    train_loss, train_accuracy (0..1), val_loss, val_accuracy, seconds. Raises UserError if the loss is not finite.
    """
    history, best, modes = runs.History(), runs.Best(), [(module, module.training) for module in model.modules()]
    scheduler = scheduler or torch.optim.lr_scheduler.ConstantLR(optimizer, factor=1)
    parts = {"model": model, "optimizer": optimizer, "scheduler": scheduler, "history": history, "best": best}
    for epoch in runs.epochs(num_epochs, seed, checkpoint, **parts):
        started, about = time.perf_counter(), f"{label} epoch {epoch + 1} of {num_epochs}"
        for module, mode in modes:
            module.training = mode
        loss, accuracy = run_epoch(model, loaders["train"], criterion, optimizer, about)
        history.add(train_loss=loss, train_accuracy=accuracy)
        with torch.no_grad():
            loss, accuracy = run_epoch(model.eval(), loaders["val"], criterion, None, about)
        scheduler.step()
        best.offer(accuracy, model)
        history.add(val_loss=loss, val_accuracy=accuracy, seconds=time.perf_counter() - started)
    model.load_state_dict(best.state)
    return model.eval(), history


def run_epoch(model, loader, criterion, optimizer, label):
    """One pass over `loader`; trains unless `optimizer` is None. Returns the mean loss and the accuracy (0..1)."""
    loss_sum, correct, count = 0.0, 0, 0
    with tqdm(loader, label, unit="batch", leave=False) as bar:
        for inputs, targets in bar:
            scores, targets = model(beside(model, inputs)), beside(model, targets)
            loss = criterion(scores, targets)
            if optimizer:
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
            runs.check_finite(loss.item(), label, "try a smaller learning rate (--lr, --backbone-lr)")
            loss_sum += loss.item() * len(targets)
            correct += (scores.argmax(1) == targets).sum().item()
            count += len(targets)
    return loss_sum / count, correct / count


def beside(model, batch):
    """`batch` on the model's device; images (N, 3, H, W) become channels-last, which makes convolutions faster."""
    layout = torch.channels_last if batch.ndim == 4 else torch.contiguous_format
    return batch.to(next(model.parameters()).device, memory_format=layout, non_blocking=True)


class Outputs:
    """A loader of (outputs, targets): what `network` computes, without gradients, from another loader's inputs."""

    def __init__(self, network, loader):
        self.network, self.loader = network, loader

    @torch.no_grad()
    def __iter__(self):
        for inputs, targets in self.loader:
            yield self.network(beside(self.network, inputs)), targets


def replace_head(network, classes):
    """Replaces the last layer, an `nn.Linear`, with a new one of `classes` outputs. Returns (name, new layer)."""
    name, old = [(name, module) for name, module in network.named_modules() if not any(module.children())][-1]
    if not isinstance(old, nn.Linear):
        raise UserError(f"--arch: {type(network).__name__} ends in a {type(old).__name__}, not a Linear; try resnet18")
    head = nn.Linear(old.in_features, classes, bias=old.bias is not None).to(old.weight.device)
    network.set_submodule(name, head)
    return name, head


def finetune(network, classes, loaders, backbone_lr=3e-4, **training):
    """Fine-tuning: starts from pre-trained weights instead of random ones and trains all layers.

    network: a torchvision classifier. It gets a new last layer for `classes` classes; the other layers use backbone_lr
    and keep their batch-norm statistics (16 photos are too few for new ones). training: options of `fit`.
    """
    _, head = replace_head(network, classes)
    network.train()
    for norm in (m for m in network.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)):
        norm.eval()
    pretrained = [p for p in network.parameters() if not any(p is q for q in head.parameters())]
    groups = [{"params": pretrained, "lr": backbone_lr}, {"params": head.parameters()}]
    return fit(network, groups, loaders, label="finetune", **training)


def freeze(network, classes, loaders, backbone_lr=None, **training):
    """Freezes all weights except those of the final fully connected layer, which starts from random weights."""
    network.requires_grad_(False).eval()
    name, head = replace_head(network, classes)
    network.set_submodule(name, nn.Identity())  # the rest maps photos to the head's inputs
    # The frozen part runs forward only: every epoch on the augmented training photos, once on the validation photos.
    features = {"train": Outputs(network, loaders["train"]), "val": list(Outputs(network, loaders["val"]))}
    _, history = fit(head, [{"params": head.parameters()}], features, label="freeze", **training)
    network.set_submodule(name, head)
    return network, history


def scratch(network, classes, loaders, backbone_lr=None, **training):
    """The baseline: the same training, starting from the random weights of `network`."""
    replace_head(network, classes)
    return fit(network.train(), [{"params": network.parameters()}], loaders, label="scratch", **training)


def fit(model, groups, loaders, num_epochs=10, lr=3e-3, **options):
    """`train_model` with SGD, momentum and a cosine learning rate schedule."""
    optimizer = torch.optim.SGD(groups, lr=lr, momentum=0.9, weight_decay=1e-3)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, num_epochs)
    return train_model(model, loaders, nn.CrossEntropyLoss(), optimizer, scheduler, num_epochs, **options)


COLUMNS = {  # of the table
    "best val": "{best_val_accuracy:.1%}", "95% interval": "{best_interval[0]:.1%}-{best_interval[1]:.1%}",
    "best epoch": "{best_epoch}", "last val": "{last_val_accuracy:.1%}", "trained parameters": "{trained_parameters:,}",
}  # fmt: skip
SCENARIOS = {"finetune": finetune, "freeze": freeze, "scratch": scratch}


def predict(model, loader):
    """Class probabilities (N, classes) of the images of `loader` and their targets (N,), on the CPU."""
    pairs = [(scores.softmax(1).cpu(), targets) for scores, targets in Outputs(model.eval(), loader)]
    return [torch.cat(column) for column in zip(*pairs, strict=True)]


def visualize_model(model, loader, classes, title, num_images=16):
    """A figure: up to half are mistakes (framed, most confident first), the rest correct (least confident first)."""
    probabilities, targets = predict(model, loader)
    confidence, predicted = probabilities.max(1)
    wrong = predicted != targets
    order, mistakes = torch.argsort(torch.where(wrong, -confidence - 1, confidence)).tolist(), int(wrong.sum())
    order = (order[: min(mistakes, num_images // 2)] + order[mistakes:])[:num_images]
    captions = []
    for k in order:
        verdict, label = "WRONG" if wrong[k] else "correct", classes[predicted[k]]
        captions.append((f"{verdict}: {label}, {confidence[k]:.0%}\ntruth: {classes[targets[k]]}", bool(wrong[k])))
    pixels = [weights.to_pixels(loader.dataset[k][0]) for k in order]
    return plots.picture_grid(pixels, captions, f"{title}\n{len(targets) - mistakes} of {len(targets)} correct")


def measure(model, history, loader):
    """The metrics of one scenario. confusion: one row per true class; empty for more than MOST_CLASSES classes."""
    probabilities, targets = predict(model, loader)
    best, classes = max(history["val_accuracy"]), probabilities.shape[1]
    confusion = (targets * classes + probabilities.argmax(1)).bincount(minlength=classes**2)
    return {
        "best_val_accuracy": best,
        "best_interval": runs.wilson_interval(best, len(targets)),
        "best_epoch": history["val_accuracy"].index(best) + 1,
        "last_val_accuracy": history["val_accuracy"][-1],
        "trained_parameters": sum(p.numel() for p in model.parameters() if p.requires_grad),
        "confusion": confusion.view(classes, classes).tolist() if classes <= MOST_CLASSES else [],
        "history": history,
    }


def draw(run, models, metrics, classes, loader, arch):
    """Saves the plots: loss and accuracy by epoch, validation photos, confusion matrices."""
    about = f"{run.saved['data']}; {arch}"
    counts = torch.tensor(loader.dataset.dataset.targets)[list(loader.dataset.indices)].bincount()
    most = (counts.max() / counts.sum()).item()
    histories = {name: f["history"] | {"most": [most] * len(f["history"]["val_loss"])} for name, f in metrics.items()}
    train, val, guess = ("C1--", "training"), ("C0-", "validation"), ("k:", "most frequent class")
    loss = "cross-entropy loss (nats)", 1, {"train_loss": train, "val_loss": val}
    accuracy = "accuracy (%)", 100, {"train_accuracy": train, "val_accuracy": val, "most": guess}
    figure = plots.learning_curves(histories, (loss, accuracy), f"Learning curves\n{about}")
    run.figure(figure, "learning_curves.png", "Learning curves", "Dotted: always predict the most frequent class.")
    caption = "Up to half are mistakes (framed), most confident first; then correct ones, least confident first."
    for name, model in models.items():
        figure = visualize_model(model, loader, classes, f"Validation photos, {name} at its best epoch\n{about}")
        run.figure(figure, f"visualize_{name}.png", f"Validation photos, {name}", caption)
    if len(classes) > MOST_CLASSES:
        return
    width, ticks = 1.8 + 3.2 * len(metrics), range(len(classes))
    figure = plots.new_figure(width, 3.6, f"Confusion matrix at the best epoch (darker: more photos)\n{about}")
    for axes, (name, found) in zip(figure.subplots(1, len(metrics), squeeze=False)[0], metrics.items(), strict=True):
        axes.imshow(found["confusion"], cmap="Blues", vmin=0, vmax=2 * counts.max())  # pale, for black text
        axes.grid(False)
        axes.set(title=name, xlabel="predicted class", ylabel="true class", yticks=ticks, yticklabels=classes)
        axes.set_xticks(ticks, classes, rotation=0 if len(classes) < 4 else 90)
        for r, c in [(r, c) for r in ticks for c in ticks] if len(classes) <= 12 else []:
            axes.text(c, r, found["confusion"][r][c], ha="center", va="center")
    run.figure(figure, "confusion.png", "Confusion matrix", "Validation photos; correct ones are on the diagonal.")


def show_predictions(args, device):
    """`--predict`: prints and draws a saved model's predictions for photos."""
    photos = [images.open_photo(path) for path in args.predict]
    folders, files = ("transfer_learning", "transfer_learning-quick"), ("freeze.pt", "finetune.pt", "scratch.pt")
    file = runs.find_model(args, "transfer_learning", folders, files)
    network, saved = runs.load_model(
        file, "transfer_learning", lambda found: weights.Weights(found["arch"], found["state"], "", False).network()
    )
    print(f"model: {shown(file)} ({shown(saved['scenario'])}, {saved['arch']}, trained on {shown(saved['data'])})")
    _, transform = make_transforms(saved["val_size"], saved["val_size"])
    batches, rows, captions = [(transform(photo)[None], torch.zeros(1)) for photo in photos], [], []
    for path, row in zip(args.predict, predict(network.to(device), batches)[0], strict=True):
        ranked = [f"{shown(saved['classes'][k], 30)} {row[k]:.1%}" for k in row.argsort(descending=True)[:3].tolist()]
        rows.append([path, ", ".join(ranked)])
        captions.append((f"{shown(Path(path).name, 30)}\n{ranked[0]}", False))
    cli.print_table(["photo", "most probable classes"], rows)
    title = f"Predictions of {shown(saved['scenario'])} ({saved['arch']}), trained on\n{shown(saved['data'])}"
    plots.save(plots.picture_grid(photos, captions, title), picture := Path(args.results, "predictions.png"))
    print(f"  {shown(picture)}")


def parse_args(argv=None):
    parser = cli.Parser(prog="transfer_learning.py", description=(__doc__ or "").partition("\n")[0])
    count, rate, add = cli.number(1, below=2**31), cli.number(0, float, below=1e6), parser.add_argument
    cli.add_common_flags(parser, f"2 epochs, {QUICK_PHOTOS} training and {QUICK_PHOTOS} validation photos")
    cli.add_seed_flag(parser)
    add("--epochs", type=count, help="passes over the training photos (default: 10; 2 with --quick)")
    add("--batch-size", type=count, default=16, help="photos per step")
    add("--lr", type=rate, default=3e-3, help="learning rate of new layers")
    add("--backbone-lr", type=rate, default=3e-4, help="learning rate of pre-trained layers")
    add("--scenarios", nargs="+", metavar="NAME", choices=SCENARIOS, default=[*SCENARIOS], help="what to train")
    add("--arch", type=weights.check_arch, help=f"network (default: {USUAL_ARCH} if found, else {BUILTIN_ARCH})")
    add("--photos", metavar="DIR", help="your own photos, in DIR/train/<class>/ and DIR/val/<class>/")
    add("--workers", type=cli.number(0, below=257), help="processes that read photos (default: 0; 8 with CUDA)")
    add("--predict", nargs="+", metavar="PHOTO", help="classify these photos instead of training")
    add("--model", metavar="FILE", help="for --predict (default: the last run's freeze, else finetune, else scratch)")
    args = parser.parse_args(argv)
    parser.keep_to(args, "--predict", "--model", "--results", "--device", "--quick")
    if args.model and not args.predict:
        parser.error("--model needs --predict")
    args.epochs = args.epochs or (2 if args.quick else 10)
    return args


def train(run, args, photos, pretrained, device):
    """Trains the scenarios one after another and saves the models, the plots, the table and results.json."""
    workers = args.workers if args.workers is not None else min(8, os.cpu_count() or 1) * (device.type == "cuda")
    sizes, most = (pretrained.image_size, pretrained.val_size), QUICK_PHOTOS if args.quick else None
    loaders, models, metrics = make_loaders(photos, sizes, args.batch_size, workers, most), {}, {}
    for name in args.scenarios:
        runs.seed_all(args.seed, name)
        network = pretrained.random_network() if name == "scratch" else pretrained.network()
        network = network.to(device, memory_format=torch.channels_last)
        training = {"num_epochs": args.epochs, "lr": args.lr, "seed": args.seed, "checkpoint": run.checkpoint(name)}
        model, history = SCENARIOS[name](network, len(photos.classes), loaders, args.backbone_lr, **training)
        run.seconds[name] = sum(history.pop("seconds"))
        models[name], metrics[name] = model, measure(model, history, loaders["val"])
        saved = {"scenario": name, "arch": pretrained.arch, "classes": photos.classes, "val_size": pretrained.val_size}
        run.model(f"{name}.pt", {**saved, "state": model.state_dict()})
        print(f"{name}: best validation accuracy {max(history['val_accuracy']):.1%}")
    draw(run, models, metrics, plots.drawable(photos.classes), loaders["val"], pretrained.arch)
    rows = [[name, *(cell.format(**found) for cell in COLUMNS.values())] for name, found in metrics.items()]
    run.finish(metrics, ["scenario", *COLUMNS], rows)


def main(argv=None):
    """Runs the script. argv: its flags (default: those of the command line)."""
    args = parse_args(argv)
    device = runs.pick_device(args.device)
    if args.predict:
        return show_predictions(args, device)
    photos = images.load(args.data, args.photos, Path(args.results, "cache"))
    pretrained = weights.choose(args.arch, args.data, photos.real, USUAL_ARCH, BUILTIN_ARCH)
    if "finetune" in args.scenarios and not pretrained.trainable:
        raise UserError(f"{pretrained.name}: has no batch norm to fine-tune; give other weights, or --scenarios freeze")
    name = f"{photos.name}, {len(photos.train)} training and {len(photos.val)} validation photos"
    pretrained.announce(name, photos.real, "insects")
    keys = ("epochs", "batch_size", "lr", "backbone_lr", "scenarios", "quick", "workers")
    settings = {key: getattr(args, key) for key in keys} | {"device": device.type}
    settings |= {"classes": photos.classes, "photos_fingerprint": photos.fingerprint}
    data = photos.name + ", quick run on a part" * args.quick
    with runs.Run("transfer_learning", args, data, pretrained.name, settings) as run:
        train(run, args, photos, pretrained, device)


if __name__ == "__main__":
    cli.run_main(main)
