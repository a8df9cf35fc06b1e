"""python -m data.drawn.pretrain: trains the built-in CNN weights from drawn pictures, none of them ants or bees.

ShuffleNet, for problem 1, learns 25 kinds of creatures and things. SqueezeNet, for problems 2 and 5, learns textures,
colors and things of `lessons`, from filters that k-means finds. Each trains in a process of its own with one thread:
the same seed gives the same weights on any core count.
"""

import json
import multiprocessing
import shutil
import time
from functools import partial
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn
from tqdm import tqdm

from common.cli import Parser, add_seed_flag, number, run_main
from common.run import epochs, save_tensors, seed_all, write_json
from data import fingerprint
from data.drawn import creatures, filters, lessons, made_here, version
from data.weights import BUILTIN, MEAN, STD, build

CLASSES = creatures.PRETRAINING


def normalize(images):
    """uint8 or float pixels (N, 3, H, W) in 0..255 to what torchvision's networks expect, channels last."""
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (MEAN, STD))
    return ((images / 255 - mean) / std).contiguous(memory_format=torch.channels_last)


class Creatures:
    """ShuffleNet learns to name the creature in a picture."""

    epochs, train, val, rate, warm = 26, 480 * len(CLASSES), 40 * len(CLASSES), 3e-3, 0.1
    side, inputs = 112, 96  # pixels of a drawing, and of a training image

    def draw(self, seed, k):
        """Drawing k and its class, k % 25: half of a class large, in the middle and with little around it."""
        k, label = divmod(k, len(CLASSES))
        half_length, off_center, litter = ((0.34, 0.48), 0.1, 4) if k % 2 else ((0.22, 0.45), 0.2, 14)
        rng = np.random.default_rng([2, seed, label, k])
        return creatures.draw_photo(CLASSES[label], rng, self.side, half_length, off_center, litter), label

    def build(self, arch, images):
        """The untrained network, and what only its training needs."""
        return build(arch, len(CLASSES)).to(memory_format=torch.channels_last), nn.ModuleDict()

    def loss(self, network, heads, images, labels):
        return F.cross_entropy(network(normalize(self.augment(images.float()))), labels)

    def augment(self, images):
        """Turns by a multiple of 90 degrees, mirrors, and cuts out a random part, (N, 3, inputs, inputs)."""
        n = len(images)
        angle, scale = torch.randint(4, (n,)) * torch.pi / 2, 0.75 + 0.25 * torch.rand(n)
        mirror = torch.where(torch.rand(n) < 0.5, -1.0, 1.0)
        shift = (2 * torch.rand(n, 2) - 1) * (1 - scale)[:, None]
        cos, sin = torch.cos(angle) * scale, torch.sin(angle) * scale
        maps = torch.stack([cos * mirror, -sin, shift[:, 0], sin * mirror, cos, shift[:, 1]], 1).view(n, 2, 3)
        grid = F.affine_grid(maps, (n, 3, self.inputs, self.inputs), align_corners=False)
        return F.grid_sample(images, grid, padding_mode="reflection", align_corners=False)

    def predict(self, network, images):
        """The class of each image, int64 (N,)."""
        small = F.interpolate(images.float(), size=self.inputs, mode="bilinear", antialias=True)
        return network(normalize(small)).argmax(1)

    def finish(self, network, images):
        """Nothing is left to do."""


class Lessons:
    """SqueezeNet learns the textures, colors and things of `lessons`, from quarters of its maps.

    Two of its first layers learn to tell them too, by a linear layer each that is not kept. A batch norm after every
    convolution is folded into it at the end.
    """

    epochs, train, val, rate, warm = 16, 24_000, 1000, 1e-3, 0.05
    heads = {"4": 128, "7": 256}  # layers that learn too, and their channels
    classes = list(lessons.GROUPS.values())

    def draw(self, seed, k):
        """Lesson k and its labels, (4, groups)."""
        return lessons.draw_lesson(np.random.default_rng([4, seed, k]), k)

    def build(self, arch, images):
        """The network with filters learned from `images`, and the linear layers of the early ones."""
        network = build(arch, sum(self.classes))
        filters.learn_filters(network, normalize(images[:800]).contiguous())
        add_batch_norm(network).to(memory_format=torch.channels_last)
        heads = {k: nn.Sequential(nn.BatchNorm1d(n), nn.Linear(n, sum(self.classes))) for k, n in self.heads.items()}
        return network, nn.ModuleDict(heads)

    def loss(self, network, heads, images, labels):
        """The sum of the cross entropies of all groups, of the last layer and of the early ones."""
        with torch.no_grad():  # keep the filters smooth
            for weight in network.parameters():
                if weight.shape[2:] == (3, 3):
                    weight.copy_(filters.without_highest_frequency(weight))
        images, labels = self.mirror(images, labels)
        with torch.autocast("cpu", torch.bfloat16):
            answers = self.answers(network, heads, normalize(images))
        return sum(
            F.cross_entropy(scores, right, ignore_index=-1)
            for answer in answers
            for scores, right in zip(answer.split(self.classes, 1), labels.flatten(0, 1).T, strict=True)
        )

    def mirror(self, images, labels):
        """Mirrors a batch and turns it by 180 degrees, each in half of the cases, and its labels with it."""
        if torch.rand(()) < 0.5:
            images, labels = images.flip(3), labels[:, [1, 0, 3, 2]]
            direction = labels[:, :, 3]
            labels[:, :, 3] = torch.where(direction < 0, direction, lessons.DIRECTIONS - 1 - direction)
        if torch.rand(()) < 0.5:
            images, labels = images.flip(2, 3), labels.flip(1)
        return images, labels

    def answers(self, network, heads, images):
        """Scores of all classes for each quarter, (4 N, classes): of the `heads`, then of the last layer."""
        answers, maps = [], images
        for k, module in enumerate(network.features):
            maps = module(maps)
            if str(k) in heads:
                answers.append(heads[str(k)](quarters(maps)))
        return [*answers, quarters(network.classifier[1](maps))]

    def predict(self, network, images):
        """The class of each group in each quarter, int64 (N, 4, groups)."""
        [scores] = self.answers(network, {}, normalize(images))
        return torch.stack([part.argmax(1) for part in scores.split(self.classes, 1)], 1).unflatten(0, (-1, 4))

    def finish(self, network, images):
        """Makes it a plain SqueezeNet, whose features have the sizes that problem 2's weights are made for."""
        filters.rescale(fold_batch_norm(network), normalize(images[:400]))


TRAININGS = {"shufflenet_v2_x0_5": Creatures(), "squeezenet1_1": Lessons()}


def quarters(maps):
    """The means of the quarters of maps (N, C, H, W), (4 N, C)."""
    return F.adaptive_avg_pool2d(maps.float(), 2).permute(0, 2, 3, 1).flatten(0, 2)


def add_batch_norm(network):
    """Puts a batch norm after every convolution of a SqueezeNet but the last, to train it; takes the last ReLU away."""
    network.classifier[2] = nn.Identity()
    for name, layer in [(n, m) for n, m in network.features.named_modules() if isinstance(m, nn.Conv2d)]:
        norm = nn.BatchNorm2d(layer.out_channels)
        if name.endswith("squeeze"):
            nn.init.constant_(norm.bias, 2)  # its ReLU changes little at first, as `filters` wants it
        network.features.set_submodule(name, nn.Sequential(layer, norm))
    return network


def fold_batch_norm(network):
    """The plain SqueezeNet that computes the same as `add_batch_norm`'s in evaluation mode."""
    for name, pair in [(n, m) for n, m in network.features.named_modules() if n and isinstance(m, nn.Sequential)]:
        network.features.set_submodule(name, nn.utils.fusion.fuse_conv_bn_eval(*pair))
    return network


def draw_all(cache, arch, seed, count):
    """The file of `count` pictures, uint8 (N, 3, H, W), and labels, int64 (N, ...); drawn on the first call."""

    def make(folder):
        with multiprocessing.get_context("spawn").Pool() as pool:
            drawn = pool.imap(partial(TRAININGS[arch].draw, seed), range(count), chunksize=50)
            images, labels = map(np.stack, zip(*tqdm(drawn, desc=f"drawing for {arch}", total=count), strict=True))
        with open(folder / "pictures.pt", "wb") as file:  # its errors are OSErrors, torch's own are not
            torch.save((torch.from_numpy(images).permute(0, 3, 1, 2), torch.from_numpy(labels).long()), file)

    return made_here(cache, f"pretrain-{fingerprint(arch, seed, count)}", make) / "pictures.pt"


def validate(training, network, images, labels):
    """The classes that the network finds in images, and the share of right ones among those that there are to find."""
    network.eval()
    with torch.inference_mode():
        found = torch.cat([training.predict(network, part) for part in images.split(100)])
    return found, (found == labels)[labels >= 0].float().mean().item()


def pretrain(arch, files, seed, count, checkpoint, out):
    """Trains `arch` for `count` epochs, from `checkpoint` if it is there, and writes half precision weights to `out`.

    files: pictures to train and to validate on, as `draw_all` makes them. Returns figures for pretrain.json.
    """
    torch.set_num_threads(1)
    started, training = time.perf_counter(), TRAININGS[arch]
    (images, labels), val = map(torch.load, files)
    seed_all(seed, arch)
    network, heads = training.build(arch, images)
    optimizer = torch.optim.AdamW([*network.parameters(), *heads.parameters()], lr=training.rate, weight_decay=0.02)
    batches = len(images) // 32
    steps, warm = count * batches, training.warm
    warm += 1e-9 * (steps * warm == 1)  # OneCycleLR divides by steps * warm - 1
    scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, training.rate, total_steps=steps, pct_start=warm)
    parts = {"network": network, "heads": heads, "optimizer": optimizer, "scheduler": scheduler}
    for epoch in epochs(count, seed, checkpoint, **parts):
        seed_all(seed, arch, epoch)  # each network its own random numbers
        network.train()
        for batch in torch.randperm(len(images))[: batches * 32].view(batches, 32):
            loss = training.loss(network, heads, images[batch], labels[batch])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            scheduler.step()
        _, right = validate(training, network, *val)
        print(f"{arch}: epoch {epoch + 1} of {count}, last loss {loss:.3f}, val accuracy {right:.1%}", flush=True)

    network.eval()
    training.finish(network, images)
    half = {key: value.half() if value.is_floating_point() else value for key, value in network.state_dict().items()}
    save_tensors(Path(out, f"{arch}.pth"), half)
    network.load_state_dict(half)
    found, right = validate(training, network, *val)
    minutes = round((time.perf_counter() - started) / 60, 1)
    figures = {"val_accuracy": right, "val_predictions": fingerprint(found.tolist()), "minutes": minutes}
    return {"arch": arch, "seed": seed, "pictures": len(images), "epochs": count, **figures}


def main(argv=None):
    parser = Parser(prog="python -m data.drawn.pretrain", description=(__doc__ or "").partition("\n")[0])
    add = parser.add_argument
    add("--out", default=str(BUILTIN), metavar="DIR", help="folder for the weights")
    add("--cache", default="results/cache", metavar="DIR", help="folder for the drawings and the checkpoints")
    add("--pictures", type=number(32), help="drawings to train on (12,000 for ShuffleNet, 24,000 for SqueezeNet)")
    add("--epochs", type=number(1), help="passes over the drawings (26 for ShuffleNet, 16 for SqueezeNet)")
    add("--only", choices=TRAININGS, help="train one of the two networks")
    add("--restart", action="store_true", help="start over instead of resuming an unfinished run")
    add_seed_flag(parser)
    args = parser.parse_args(argv)

    jobs = []
    unfinished = Path(args.cache, f"pretrain-{fingerprint(version(), args.seed, args.pictures, args.epochs)}")
    if args.restart:
        shutil.rmtree(unfinished, ignore_errors=True)
    for arch in [args.only] if args.only else TRAININGS:
        training = TRAININGS[arch]
        counts = args.pictures or training.train, training.val
        files = [draw_all(args.cache, arch, 2 * args.seed + k, count) for k, count in enumerate(counts)]
        jobs.append((arch, files, args.seed, args.epochs or training.epochs, unfinished / f"{arch}.pt", args.out))
    with multiprocessing.get_context("spawn").Pool(len(jobs)) as pool:
        runs = pool.starmap(pretrain, jobs, chunksize=1)
    file = Path(args.out, "pretrain.json")  # keeps the figures of the network that is not trained now
    known = json.loads(file.read_text(encoding="utf-8"))["runs"] if file.exists() else []
    known = {run["arch"]: run for run in known + runs}
    write_json(file, {"classes": CLASSES, "runs": list(known.values())})
    shutil.rmtree(unfinished, ignore_errors=True)
    print("\n".join(map(str, runs)))


if __name__ == "__main__":
    run_main(main)
