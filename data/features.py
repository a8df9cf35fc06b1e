"""Features of problem 5's photos: computed by a network and cached, or read from cs231n's h5 files."""

import contextlib
import io
import itertools
from pathlib import Path

import h5py
import numpy as np
import torch
from torch import nn
from torchvision import transforms
from tqdm import tqdm

from common.cli import UserError, write_bytes
from data import fingerprint, sha256, weights
from data.images import open_photo

SHARD = 500  # photos per cache file; a stopped run keeps its finished files
BATCH = 32  # photos per forward pass


def whole_photo(size):
    """The transform from a photo to a network's input: resized to a square of `size` pixels, normalized."""
    normalize = transforms.Normalize(weights.MEAN, weights.STD)
    return transforms.Compose([transforms.Resize((size, size)), transforms.ToTensor(), normalize])


class Extractor(nn.Module):
    """The input of a classifier's last layer: images (N, 3, H, W) float32 to features (N, D).

    A feature map (SqueezeNet's) is averaged over its four quarters, to tell left from right. pretrained: a Weights.
    """

    def __init__(self, pretrained):
        super().__init__()
        self.network = pretrained.network().eval().requires_grad_(False)
        layers = [module for module in self.network.modules() if isinstance(module, (nn.Linear, nn.Conv2d))]
        layers[-1].register_forward_pre_hook(lambda layer, inputs: setattr(self, "seen", inputs[0]))

    def forward(self, images):
        self.network(images)
        seen = nn.functional.adaptive_avg_pool2d(self.seen, 2) if self.seen.ndim == 4 else self.seen
        return seen.flatten(1)


class PhotoFeatures:
    """Features of photos from a pre-trained network, cached by the content of the photos and the weights.

    paths: {split: paths of its photos}. pretrained: data.weights.Weights. cache: a folder. device: torch's.
    """

    def __init__(self, paths, pretrained, cache, device):
        self.paths, self.pretrained, self.cache, self.device = paths, pretrained, Path(cache), torch.device(device)
        self.name, self.arch, self.builtin = pretrained.name, pretrained.arch, pretrained.builtin
        self.id = fingerprint(pretrained.fingerprint, pretrained.image_size)
        self.extractor = None

    def read(self, split, photos):
        """The features (N, D) float32 of N photos of a split, given by index. Raises UserError for a broken photo."""
        paths = [self.paths[split][k] for k in photos]
        shards = [paths[k : k + SHARD] for k in range(0, len(paths), SHARD)]
        with tqdm(total=len(paths), desc=f"features of {split} photos", unit="photo", leave=False, delay=1) as bar:
            return np.concatenate([self._shard(shard, bar) for shard in shards])

    def _shard(self, paths, bar):
        key = fingerprint(self.id, self.device.type, [sha256(path) for path in paths])  # devices round differently
        file = self.cache / f"features-{key}.npy"
        try:
            features = np.load(file, allow_pickle=False)
            bar.update(len(paths))
        except (OSError, ValueError, EOFError):  # missing or truncated
            features = self.compute(map(open_photo, paths), bar)
            buffer = io.BytesIO()
            np.save(buffer, features, allow_pickle=False)
            write_bytes(file, buffer.getbuffer())
        return features

    def compute(self, images, bar=None):
        """The features (N, D) float32 of N RGB images, computed in batches. bar: a tqdm bar to update."""
        if self.extractor is None:
            self.extractor = Extractor(self.pretrained).to(self.device, memory_format=torch.channels_last)
        prepared, parts = map(whole_photo(self.pretrained.image_size), images), []
        while batch := list(itertools.islice(prepared, BATCH)):
            with torch.inference_mode():
                features = self.extractor(torch.stack(batch).to(self.device, memory_format=torch.channels_last))
            parts.append(features.float().cpu().numpy())
            if bar is not None:
                bar.update(len(batch))
        return np.concatenate(parts)


class StoredFeatures:
    """Features stored in h5 files. sources: {split: (file, the row of each photo in its data set `features`)}."""

    arch, builtin = None, False  # without the network, a model cannot caption other photos

    def __init__(self, sources, name):
        self.sources, self.name = sources, name
        self.id = fingerprint(name, [sha256(file) for file in sorted({file for file, _ in sources.values()})])

    def read(self, split, photos):
        """The features (N, D) float32 of N photos of a split, given by index. Raises UserError for a broken file."""
        file, rows = self.sources[split]
        rows, order = np.unique(rows[np.asarray(photos)], return_inverse=True)  # h5py needs rows in increasing order
        with h5_set(file, "features") as stored:
            found = stored[rows] if len(rows) < 2000 else stored[:][rows]  # h5py is slow for many indices
        features = found.astype(np.float32)[order]
        if not np.isfinite(features).all():
            raise UserError(f"{file}: the features hold NaN or infinity; get the file again")
        return features


@contextlib.contextmanager
def h5_set(file, name):
    """The open data set `name` of an h5 file. Raises UserError if the file is broken or has no such data set."""
    try:
        with h5py.File(file, "r") as content:
            yield content[name]
    except (OSError, KeyError, RuntimeError, ValueError) as error:
        raise UserError(f"{file}: cut short, not an h5 file, or has no {name} ({error}); get the file again") from None
