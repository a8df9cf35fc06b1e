"""python -m data.drawn.pretrain: trains the built-in CNN weights from drawn pictures, none of them ants or bees.

Each network trains in a process of its own with one thread: the same seed gives the same weights on any core count.
"""

import multiprocessing
import shutil
import time
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn
from tqdm import tqdm

from common.cli import Parser, add_seed_flag, number, run_main, user_errors
from common.run import epochs, save_tensors, seed_all, write_json
from data import fingerprint
from data.drawn import creatures, made_here, version
from data.weights import BUILTIN, MEAN, STD, build

SIDE, INPUT = 112, 96  # pixels of a drawing, and of a training image
TRAIN, VAL = 480, 40  # drawings a class
EPOCHS = {"shufflenet_v2_x0_5": 26, "squeezenet1_1": 9}
CLASSES = creatures.PRETRAINING


def draw_one(job):
    """Drawing k of a class, uint8 (SIDE, SIDE, 3): every other one large, in the middle and with little around it."""
    seed, label, k = job
    half_length, off_center, litter = ((0.34, 0.48), 0.1, 4) if k % 2 else ((0.22, 0.45), 0.2, 14)
    rng = np.random.default_rng([2, seed, label, k])
    return np.asarray(creatures.draw_photo(CLASSES[label], rng, SIDE, half_length, off_center, litter))


def draw_all(cache, seed, per_class):
    """Draws `per_class` pictures of each class, on the first call, into a file (N, SIDE, SIDE, 3); returns its path."""

    def make(folder):
        jobs = [(seed, label, k) for k in range(per_class) for label in range(len(CLASSES))]
        with multiprocessing.get_context("spawn").Pool() as pool:
            images = list(tqdm(pool.imap(draw_one, jobs, chunksize=50), desc="drawing", total=len(jobs)))
        with user_errors(folder):
            np.save(folder / "images.npy", np.stack(images))

    return made_here(cache, f"pretrain-{fingerprint(seed, per_class)}", make) / "images.npy"


def normalize(images):
    """uint8 or float pixels (N, 3, H, W) in 0..255 to what torchvision's networks expect, channels last."""
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (MEAN, STD))
    return ((images / 255 - mean) / std).contiguous(memory_format=torch.channels_last)


def augment(images):
    """Turns by a multiple of 90 degrees, mirrors, and cuts out a random part, (N, 3, INPUT, INPUT)."""
    n = len(images)
    angle, scale = torch.randint(4, (n,)) * torch.pi / 2, 0.75 + 0.25 * torch.rand(n)
    mirror = torch.where(torch.rand(n) < 0.5, -1.0, 1.0)
    shift = (2 * torch.rand(n, 2) - 1) * (1 - scale)[:, None]
    cos, sin = torch.cos(angle) * scale, torch.sin(angle) * scale
    maps = torch.stack([cos * mirror, -sin, shift[:, 0], sin * mirror, cos, shift[:, 1]], 1).view(n, 2, 3)
    grid = F.affine_grid(maps, (n, 3, INPUT, INPUT), align_corners=False)
    return F.grid_sample(images, grid, padding_mode="reflection", align_corners=False)


def add_batch_norm(network):
    """Puts a batch norm after every convolution of a SqueezeNet but the last, to train it; takes the last ReLU away."""
    network.classifier[2] = nn.Identity()
    for name, layer in [(n, m) for n, m in network.features.named_modules() if isinstance(m, nn.Conv2d)]:
        network.features.set_submodule(name, nn.Sequential(layer, nn.BatchNorm2d(layer.out_channels)))
    return network


def fold_batch_norm(network):
    """The plain SqueezeNet that computes the same as `add_batch_norm`'s in evaluation mode."""
    for name, pair in [(n, m) for n, m in network.features.named_modules() if isinstance(m, nn.Sequential)]:
        if len(pair) == 2 and isinstance(pair[1], nn.BatchNorm2d):
            network.features.set_submodule(name, nn.utils.fusion.fuse_conv_bn_eval(*pair))
    return network


def predict(network, images):
    """The class of each image (N, 3, SIDE, SIDE), int64 (N,)."""
    network.eval()
    with torch.inference_mode():
        small = (F.interpolate(p.float(), size=INPUT, mode="bilinear", antialias=True) for p in images.split(100))
        return torch.cat([network(normalize(part)).argmax(1) for part in small])


def pretrain(arch, files, seed, count, checkpoint, out):
    """Trains `arch` for `count` epochs, from `checkpoint` if it is there, and writes half precision weights to `out`.

    files: drawings to train and to validate on, number i of class i % len(CLASSES). Returns figures for pretrain.json.
    """
    torch.set_num_threads(1)
    started = time.perf_counter()
    train, val = (torch.from_numpy(np.load(file)).permute(0, 3, 1, 2) for file in files)
    labels, val_labels = (torch.arange(len(images)) % len(CLASSES) for images in (train, val))
    seed_all(seed, arch)
    network = build(arch, len(CLASSES)).to(memory_format=torch.channels_last)
    if arch.startswith("squeezenet"):
        add_batch_norm(network)
    optimizer = torch.optim.AdamW(network.parameters(), lr=3e-3, weight_decay=0.02)
    batches = len(train) // 32
    scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, 3e-3, total_steps=count * batches, pct_start=0.1)
    for epoch in epochs(count, seed, checkpoint, network=network, optimizer=optimizer, scheduler=scheduler):
        seed_all(seed, arch, epoch)  # each network its own random numbers
        network.train()
        for batch in torch.randperm(len(train))[: batches * 32].view(batches, 32):
            loss = F.cross_entropy(network(normalize(augment(train[batch].float()))), labels[batch])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            scheduler.step()
        accuracy = (predict(network, val) == val_labels).float().mean()
        print(f"{arch}: epoch {epoch + 1} of {count}, last loss {loss:.3f}, val accuracy {accuracy:.1%}", flush=True)

    network.eval()
    if arch.startswith("squeezenet"):
        fold_batch_norm(network)
    half = {key: value.half() if value.is_floating_point() else value for key, value in network.state_dict().items()}
    save_tensors(Path(out, f"{arch}.pth"), half)
    network.load_state_dict(half)
    predicted = predict(network, val)
    accuracy, minutes = (predicted == val_labels).float().mean().item(), round((time.perf_counter() - started) / 60, 1)
    found = fingerprint(predicted.tolist())
    return {"arch": arch, "epochs": count, "val_accuracy": accuracy, "val_predictions": found, "minutes": minutes}


def main(argv=None):
    parser = Parser(prog="python -m data.drawn.pretrain", description=__doc__)
    add = parser.add_argument
    add("--out", default=str(BUILTIN), metavar="DIR", help="folder for the weights")
    add("--cache", default="results/cache", metavar="DIR", help="folder for the drawings and the checkpoints")
    add("--per-class", type=number(2), default=TRAIN, help="training drawings a class")
    add("--epochs", type=number(1), help="passes over the drawings (default: 26 for ShuffleNet, 9 for SqueezeNet)")
    add("--restart", action="store_true", help="do not resume an unfinished run; begin anew")
    add_seed_flag(parser)
    args = parser.parse_args(argv)

    files = [draw_all(args.cache, 2 * args.seed, args.per_class), draw_all(args.cache, 2 * args.seed + 1, VAL)]
    unfinished = Path(args.cache, f"pretrain-{fingerprint(version(), args.seed, args.per_class, args.epochs)}")
    if args.restart:
        shutil.rmtree(unfinished, ignore_errors=True)
    jobs = [(a, files, args.seed, args.epochs or n, unfinished / f"{a}.pt", args.out) for a, n in EPOCHS.items()]
    with multiprocessing.get_context("spawn").Pool(len(jobs)) as pool:
        runs = pool.starmap(pretrain, jobs, chunksize=1)
    content = {"seed": args.seed, "per_class": args.per_class, "classes": CLASSES, "runs": runs}
    write_json(Path(args.out, "pretrain.json"), content)
    shutil.rmtree(unfinished)
    print("\n".join(map(str, runs)))


if __name__ == "__main__":
    run_main(main)
