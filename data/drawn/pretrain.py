"""python -m data.drawn.pretrain: trains the built-in CNN weights from drawn pictures, none of them ants or bees.

ShuffleNet, for problem 1, learns 25 kinds of creatures and things. SqueezeNet, for problems 2 and 5, learns textures,
colors and things of `lessons`, from filters that k-means finds. Each trains in a process of its own with one thread:
the same seed gives the same weights on any core count.
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
from data.drawn import creatures, filters, lessons, made_here, version
from data.weights import BUILTIN, MEAN, STD, build

CLASSES = creatures.PRETRAINING


def normalize(images):
    """uint8 or float pixels (N, 3, H, W) in 0..255 to what torchvision's networks expect, channels last."""
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (MEAN, STD))
    return ((images / 255 - mean) / std).contiguous(memory_format=torch.channels_last)


class Creatures:
    """How ShuffleNet learns to name the creature in a picture."""

    arch, epochs, pictures, rate, warm = "shufflenet_v2_x0_5", 26, (480 * len(CLASSES), 40 * len(CLASSES)), 3e-3, 0.1
    side, inputs = 112, 96  # pixels of a drawing, and of a training image

    @classmethod
    def draw(cls, seed, k):
        """Drawing k, of class k % 25: every other one of a class large, in the middle and with little around it."""
        k, label = divmod(k, len(CLASSES))
        half_length, off_center, litter = ((0.34, 0.48), 0.1, 4) if k % 2 else ((0.22, 0.45), 0.2, 14)
        rng = np.random.default_rng([2, seed, label, k])
        return creatures.draw_photo(CLASSES[label], rng, cls.side, half_length, off_center, litter), label

    @classmethod
    def build(cls, images):
        return build(cls.arch, len(CLASSES)).to(memory_format=torch.channels_last)

    @classmethod
    def loss(cls, network, images, labels):
        return F.cross_entropy(network(normalize(cls.augment(images.float()))), labels.long())

    @classmethod
    def augment(cls, images):
        """Turns by a multiple of 90 degrees, mirrors, and cuts out a random part, (N, 3, inputs, inputs)."""
        n = len(images)
        angle, scale = torch.randint(4, (n,)) * torch.pi / 2, 0.75 + 0.25 * torch.rand(n)
        mirror = torch.where(torch.rand(n) < 0.5, -1.0, 1.0)
        shift = (2 * torch.rand(n, 2) - 1) * (1 - scale)[:, None]
        cos, sin = torch.cos(angle) * scale, torch.sin(angle) * scale
        maps = torch.stack([cos * mirror, -sin, shift[:, 0], sin * mirror, cos, shift[:, 1]], 1).view(n, 2, 3)
        grid = F.affine_grid(maps, (n, 3, cls.inputs, cls.inputs), align_corners=False)
        return F.grid_sample(images, grid, padding_mode="reflection", align_corners=False)

    @classmethod
    def predict(cls, network, images):
        """The class of each image, int64 (N,)."""
        small = F.interpolate(images.float(), size=cls.inputs, mode="bilinear", antialias=True)
        return network(normalize(small)).argmax(1)

    @staticmethod
    def finish(network, images):
        return network


class Lessons:
    """How SqueezeNet learns the textures, colours and things of `lessons`, from quarters of its maps.

    Two of its first layers learn to tell them too, by a linear layer each that is not kept. A batch norm after every
    convolution is folded into it at the end.
    """

    arch, epochs, pictures, rate, warm = "squeezenet1_1", 16, (24_000, 1000), 1e-3, 0.05
    early = {4: 128, 7: 256}  # layers, and their channels

    @staticmethod
    def draw(seed, k):
        return lessons.draw_lesson(np.random.default_rng([4, seed, k]), k)

    @classmethod
    def build(cls, images):
        outputs = sum(lessons.GROUPS.values())
        network = build(cls.arch, outputs)
        filters.learn_filters(network, normalize(images[:800].float()).contiguous())
        add_batch_norm(network)
        for name, layer in network.features.named_modules():
            if name.endswith("squeeze"):
                nn.init.constant_(layer[1].bias, 2)  # its ReLU changes little at first, as `filters` wants it
        heads = {str(k): nn.Sequential(nn.BatchNorm1d(c), nn.Linear(c, outputs)) for k, c in cls.early.items()}
        return nn.ModuleDict({"network": network.to(memory_format=torch.channels_last), "heads": nn.ModuleDict(heads)})

    @classmethod
    def loss(cls, model, images, labels):
        """The cross entropies of all groups, of the last layer and of the early ones."""
        with torch.no_grad():  # keep the filters smooth
            for weight in model.parameters():
                if weight.shape[2:] == (3, 3):
                    weight.copy_(filters.without_highest_frequency(weight))
        images, labels = cls.mirror(images, labels)
        with torch.autocast("cpu", torch.bfloat16):
            answers = cls.answers(model["network"], normalize(images.float()), model["heads"])
        return sum(
            F.cross_entropy(part.flatten(0, 1), labels[:, :, k].flatten().long(), ignore_index=-1)
            for answer in answers
            for k, part in enumerate(answer.split(list(lessons.GROUPS.values()), 2))
        )

    @staticmethod
    def mirror(images, labels):
        """Mirrors a batch and turns it by 180 degrees, each in half of the cases, and its labels with it."""
        if torch.rand(()) < 0.5:
            images, labels = images.flip(3), labels[:, [1, 0, 3, 2]].clone()
            direction = labels[:, :, 3]
            labels[:, :, 3] = torch.where(direction < 0, direction, lessons.DIRECTIONS - 1 - direction)
        if torch.rand(()) < 0.5:
            images, labels = images.flip(2, 3), labels.flip(1)
        return images, labels

    @staticmethod
    def answers(network, images, heads):
        """Scores of every class for each quarter, (N, 4, classes): of the early layers, then of the last."""
        answers, maps = [], images
        for k, module in enumerate(network.features):
            maps = module(maps)
            if str(k) in heads:
                quarters = F.adaptive_avg_pool2d(maps.float(), 2).permute(0, 2, 3, 1).flatten(0, 2)
                answers.append(heads[str(k)](quarters).view(len(images), 4, -1))
        scores = network.classifier[1](maps).float()
        return [*answers, F.adaptive_avg_pool2d(scores, 2).flatten(2).transpose(1, 2)]

    @classmethod
    def predict(cls, model, images):
        """The class of each group in each quarter, int64 (N, 4, groups)."""
        network = model["network"] if isinstance(model, nn.ModuleDict) else model
        (scores,) = cls.answers(network, normalize(images.float()), {})
        return torch.stack([part.argmax(2) for part in scores.split(list(lessons.GROUPS.values()), 2)], 2)

    @staticmethod
    def finish(model, images):
        network = fold_batch_norm(model["network"])
        filters.rescale(network, normalize(images[:400].float()))
        return network


TRAININGS = {training.arch: training for training in (Creatures, Lessons)}


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


def draw_one(job):
    arch, seed, k = job
    image, labels = TRAININGS[arch].draw(seed, k)
    return np.asarray(image), np.asarray(labels, np.int8)


def draw_all(cache, arch, seed, count):
    """Draws `count` pictures, on the first call, into images.npy and labels.npy of a folder; returns the folder."""

    def make(folder):
        with multiprocessing.get_context("spawn").Pool() as pool:
            drawn = pool.imap(draw_one, [(arch, seed, k) for k in range(count)], chunksize=50)
            images, labels = zip(*tqdm(drawn, desc=f"drawing for {arch}", total=count), strict=True)
        with user_errors(folder):
            np.save(folder / "images.npy", np.stack(images))
            np.save(folder / "labels.npy", np.stack(labels))

    return made_here(cache, f"pretrain-{fingerprint(arch, seed, count)}", make)


def read(folder):
    """What `draw_all` has drawn: images, uint8 (N, 3, H, W), and labels, int8 (N, ...)."""
    images, labels = (torch.from_numpy(np.load(folder / f"{name}.npy")) for name in ("images", "labels"))
    return images.permute(0, 3, 1, 2), labels


def predict(training, model, images):
    """The classes that the model finds in images (N, 3, H, W)."""
    model.eval()
    with torch.inference_mode():
        return torch.cat([training.predict(model, part) for part in images.split(100)])


def accuracy(predicted, labels):
    """The share of right ones among the classes that there are to learn."""
    return (predicted == labels)[labels >= 0].float().mean().item()


def pretrain(arch, folders, seed, count, checkpoint, out):
    """Trains `arch` for `count` epochs, from `checkpoint` if it is there, and writes half precision weights to `out`.

    folders: pictures to train and to validate on, as `draw_all` makes them. Returns figures for pretrain.json.
    """
    torch.set_num_threads(1)
    started, training = time.perf_counter(), TRAININGS[arch]
    (train, labels), (val, val_labels) = map(read, folders)
    seed_all(seed, arch)
    model = training.build(train)
    optimizer = torch.optim.AdamW(model.parameters(), lr=training.rate, weight_decay=0.02)
    batches = len(train) // 32
    schedule = {"total_steps": count * batches, "pct_start": training.warm}
    scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, training.rate, **schedule)
    for epoch in epochs(count, seed, checkpoint, network=model, optimizer=optimizer, scheduler=scheduler):
        seed_all(seed, arch, epoch)  # each network its own random numbers
        model.train()
        for batch in torch.randperm(len(train))[: batches * 32].view(batches, 32):
            loss = training.loss(model, train[batch], labels[batch])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            scheduler.step()
        right = accuracy(predict(training, model, val), val_labels)
        print(f"{arch}: epoch {epoch + 1} of {count}, last loss {loss:.3f}, val accuracy {right:.1%}", flush=True)

    model.eval()
    network = training.finish(model, train)
    half = {key: value.half() if value.is_floating_point() else value for key, value in network.state_dict().items()}
    save_tensors(Path(out, f"{arch}.pth"), half)
    network.load_state_dict(half)
    predicted = predict(training, network, val)
    right, minutes = accuracy(predicted, val_labels), round((time.perf_counter() - started) / 60, 1)
    found = fingerprint(predicted.tolist())
    return {"arch": arch, "epochs": count, "val_accuracy": right, "val_predictions": found, "minutes": minutes}


def main(argv=None):
    parser = Parser(prog="python -m data.drawn.pretrain", description=(__doc__ or "").partition("\n")[0])
    add = parser.add_argument
    add("--out", default=str(BUILTIN), metavar="DIR", help="folder for the weights")
    add("--cache", default="results/cache", metavar="DIR", help="folder for the drawings and the checkpoints")
    add("--pictures", type=number(32), help="drawings to train on (default: 12,000 for ShuffleNet, 24,000 for SqueezeNet)")
    add("--epochs", type=number(1), help="passes over the drawings (default: 26 for ShuffleNet, 16 for SqueezeNet)")
    add("--only", choices=TRAININGS, help="train one of the two networks")
    add("--restart", action="store_true", help="do not resume an unfinished run; begin anew")
    add_seed_flag(parser)
    args = parser.parse_args(argv)

    jobs, settings = [], fingerprint(version(), args.seed, args.pictures, args.epochs)
    unfinished = Path(args.cache, f"pretrain-{settings}")
    if args.restart:
        shutil.rmtree(unfinished, ignore_errors=True)
    for arch, training in TRAININGS.items():
        if args.only in (None, arch):
            counts = args.pictures or training.pictures[0], training.pictures[1]
            folders = [draw_all(args.cache, arch, 2 * args.seed + k, count) for k, count in enumerate(counts)]
            jobs.append((arch, folders, args.seed, args.epochs or training.epochs, unfinished / f"{arch}.pt", args.out))
    with multiprocessing.get_context("spawn").Pool(len(jobs)) as pool:
        runs = pool.starmap(pretrain, jobs, chunksize=1)
    content = {"seed": args.seed, "pictures": args.pictures, "classes": CLASSES, "runs": runs}
    write_json(Path(args.out, "pretrain.json"), content)
    shutil.rmtree(unfinished, ignore_errors=True)
    print("\n".join(map(str, runs)))


if __name__ == "__main__":
    run_main(main)
