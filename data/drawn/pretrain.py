"""python -m data.pretrain: trains the built-in CNN weights from drawn pictures, none of them ants or bees.

The two networks train side by side, each in a process of its own with a single thread, so that the result does not
depend on the number of cores. The same seed on the same kind of machine gives the same weights.
"""

import multiprocessing
import time
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn
from tqdm import tqdm

from data.builtin import creatures, version
from data.files import fingerprint, new_folder, user_errors, write_json
from data.results import Checkpoint, Parser, at_least, run_main, seed_all
from data.tensors import save_tensors
from data.weights import BUILTIN, MEAN, STD, build

SIDE, INPUT = 112, 96  # pixels a drawing has, and a training image
TRAIN, VAL = 480, 40  # drawings a class
EPOCHS = {"shufflenet_v2_x0_5": 26, "squeezenet1_1": 9}
CLASSES = creatures.PRETRAINING


def draw_one(job):
    """Drawing k of a class, uint8 (SIDE, SIDE, 3): every other one large, in the middle and with little around it."""
    seed, label, k = job
    rng = np.random.default_rng([2, seed, label, k])
    easy = dict(half_length=(0.34, 0.48), off_center=0.1, litter=4)
    usual = dict(half_length=(0.22, 0.45), off_center=0.2, litter=14)
    return np.asarray(creatures.draw_photo(CLASSES[label], rng, SIDE, **(easy if k % 2 else usual)))


def draw_all(folder, seed, per_class):
    """Draws `per_class` pictures of each class into `folder/<key>/images.npy` (N, SIDE, SIDE, 3); returns that file."""
    target = Path(folder) / f"pretrain-{fingerprint(version(), seed, per_class, SIDE)}"
    if not target.is_dir():
        jobs = [(seed, label, k) for k in range(per_class) for label in range(len(CLASSES))]
        with new_folder(target) as unfinished, multiprocessing.get_context("spawn").Pool() as pool:
            images = list(
                tqdm(pool.imap(draw_one, jobs, chunksize=50), total=len(jobs), desc="drawing", unit="picture")
            )
            with user_errors(target):
                np.save(unfinished / "images.npy", np.stack(images))
    return target / "images.npy"


def normalize(images):
    """uint8 or float pixels (N, 3, H, W) in 0..255 to what torchvision's networks expect, channels last."""
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (MEAN, STD))
    return ((images / 255 - mean) / std).contiguous(memory_format=torch.channels_last)


def augment(images):
    """Turns by a multiple of 90 degrees, mirrors, and cuts out a random part, (N, 3, INPUT, INPUT)."""
    n = len(images)
    angle = torch.randint(4, (n,)) * torch.pi / 2
    scale = 0.75 + 0.25 * torch.rand(n)
    mirror = torch.where(torch.rand(n) < 0.5, -1.0, 1.0)
    shift = (2 * torch.rand(n, 2) - 1) * (1 - scale)[:, None]
    cos, sin = torch.cos(angle) * scale, torch.sin(angle) * scale
    maps = torch.stack([cos * mirror, -sin, shift[:, 0], sin * mirror, cos, shift[:, 1]], 1).view(n, 2, 3)
    grid = F.affine_grid(maps, (n, 3, INPUT, INPUT), align_corners=False)
    return F.grid_sample(images, grid, padding_mode="reflection", align_corners=False)


def add_batch_norm(network):
    """Puts a batch norm behind every convolution of a SqueezeNet but the last, and takes the last ReLU away.

    With them it learns from random weights at a high learning rate. `fold_batch_norm` undoes it when it has learned.
    """
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
        parts = [
            normalize(F.interpolate(part.float(), size=INPUT, mode="bilinear", antialias=True))
            for part in images.split(100)
        ]
        return torch.cat([network(part).argmax(1) for part in parts])


def pretrain(arch, files, seed, epochs, out, checkpoint):
    """Trains the network `arch` and writes its weights, half precision, to `out/<arch>.pth`.

    files: the drawings to train and to validate on, as `draw_all` gives them, class k where the place modulo the number
    of classes is k. checkpoint: saved after every epoch. Returns the run's figures for pretrain.json.
    """
    torch.set_num_threads(1)
    started = time.perf_counter()
    train, val = (torch.from_numpy(np.load(file)).permute(0, 3, 1, 2) for file in files)
    labels, val_labels = (torch.arange(len(images)) % len(CLASSES) for images in (train, val))
    seed_all(seed, arch)
    network = build(arch, len(CLASSES))
    if arch.startswith("squeezenet"):
        network = add_batch_norm(network)
    network = network.to(memory_format=torch.channels_last)
    optimizer = torch.optim.AdamW(network.parameters(), lr=3e-3, weight_decay=0.02)
    batches = len(train) // 32
    scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, 3e-3, total_steps=epochs * batches, pct_start=0.1)
    done, parts = 0, {"network": network, "optimizer": optimizer, "scheduler": scheduler}
    if saved := checkpoint.load():
        done = saved["epoch"]
        started -= 60 * saved["minutes"]
        for name, part in parts.items():
            part.load_state_dict(saved[name])
    for epoch in range(done, epochs):
        seed_all(seed, arch, epoch)
        network.train()
        total = 0.0
        for batch in torch.randperm(len(train))[: batches * 32].view(batches, 32):
            loss = F.cross_entropy(network(normalize(augment(train[batch].float()))), labels[batch])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            scheduler.step()
            total += loss.item()
        accuracy = (predict(network, val) == val_labels).float().mean().item()
        minutes = (time.perf_counter() - started) / 60
        print(
            f"{arch}: epoch {epoch + 1} of {epochs}, loss {total / batches:.3f}, val accuracy {accuracy:.1%}, "
            f"{minutes:.1f} min",
            flush=True,
        )
        checkpoint.save(
            {"epoch": epoch + 1, "minutes": minutes, **{name: part.state_dict() for name, part in parts.items()}}
        )

    network.eval()
    if arch.startswith("squeezenet"):
        network = fold_batch_norm(network)
    half = {key: value.half() if value.is_floating_point() else value for key, value in network.state_dict().items()}
    save_tensors(Path(out) / f"{arch}.pth", half)
    network.load_state_dict(half)
    predicted = predict(network, val)
    return {
        "arch": arch, "epochs": epochs, "val_accuracy": (predicted == val_labels).float().mean().item(),
        "val_predictions": fingerprint(predicted.tolist()), "minutes": round((time.perf_counter() - started) / 60, 1),
    }  # fmt: skip


def main(argv=None):
    parser = Parser(prog="python -m data.pretrain", description=__doc__)
    parser.add_argument("--out", default=str(BUILTIN), metavar="DIR", help="folder for the weights")
    parser.add_argument(
        "--cache", default="results/cache", metavar="DIR", help="folder for the drawings and the checkpoints"
    )
    parser.add_argument("--seed", type=at_least(0, below=2**31), default=0, help="of the drawings and of the training")
    parser.add_argument("--per-class", type=at_least(2), default=TRAIN, help="training drawings a class")
    parser.add_argument(
        "--epochs", type=at_least(1), help="passes over the drawings (default: 26 for ShuffleNet, 9 for SqueezeNet)"
    )
    parser.add_argument("--resume", action="store_true", help="go on from the last epoch that was finished")
    args = parser.parse_args(argv)

    files = [draw_all(args.cache, 2 * args.seed, args.per_class), draw_all(args.cache, 2 * args.seed + 1, VAL)]
    jobs = []
    for arch, usual in EPOCHS.items():
        epochs = args.epochs or usual
        identity = {
            "arch": arch,
            "seed": args.seed,
            "per_class": args.per_class,
            "epochs": epochs,
            "drawings": version(),
        }
        checkpoint = Checkpoint(Path(args.cache) / f"checkpoint-pretrain-{arch}.pt", identity)
        if not args.resume:
            with user_errors(checkpoint.path):
                checkpoint.path.unlink(missing_ok=True)
        jobs.append((arch, files, args.seed, epochs, args.out, checkpoint))
    with multiprocessing.get_context("spawn").Pool(len(jobs)) as pool:
        runs = pool.starmap(pretrain, jobs, chunksize=1)
    write_json(
        Path(args.out) / "pretrain.json",
        {"seed": args.seed, "per_class": args.per_class, "classes": CLASSES, "runs": runs},
    )
    for run in runs:
        print(", ".join(f"{key} {value}" for key, value in run.items()))


if __name__ == "__main__":
    run_main(main)
