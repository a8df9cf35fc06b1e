"""What a network sees of problem 5's photos: features computed and kept in a cache, or read from cs231n's h5 files."""

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

from data import DataError, weights
from data.files import fingerprint, sha256, write_bytes
from data.photos import open_photo
from data.results import shown

SHARD = 500  # photos whose features make one file of the cache: a stopped run does not lose them
BATCH = 32  # photos that go through the network together
EXTRACTION = 1  # to be raised when features of the same photos and weights come out otherwise
LARGEST = 1e9  # no feature is larger: squares and their sums are finite then
PACKED = 20  # times that what lies in an h5 file may get larger when it is read


# ---- computed from photos


def whole_photo(size):
    """A photo as the networks take it: all of it, squeezed into a square of `size` pixels, normalized."""
    return transforms.Compose(
        [transforms.Resize((size, size)), transforms.ToTensor(), transforms.Normalize(weights.MEAN, weights.STD)]
    )


class Extractor(nn.Module):
    """What a classifier's last layer sees of a photo: images (N, 3, H, W) to features (N, D).

    Of a map, as SqueezeNet's last layer sees, the averages over the four quarters: what is left of what, and above it.
    """

    def __init__(self, pretrained):
        super().__init__()
        self.network = pretrained.network().eval().requires_grad_(False)
        layers = [module for module in self.network.modules() if isinstance(module, (nn.Linear, nn.Conv2d))]
        layers[-1].register_forward_pre_hook(self._keep)

    def _keep(self, layer, inputs):
        self.seen = inputs[0]

    def forward(self, images):
        self.network(images)
        seen = nn.functional.adaptive_avg_pool2d(self.seen, 2) if self.seen.ndim == 4 else self.seen
        return seen.flatten(1)


class PhotoFeatures:
    """Features of photos by a pre-trained network, kept in files that a change of photos or weights makes invalid.

    paths: of each split the photos. pretrained: data.weights.Weights. cache: a folder. device: torch's.
    """

    def __init__(self, paths, pretrained, cache, device):
        self.paths, self.pretrained, self.cache, self.device = paths, pretrained, Path(cache), torch.device(device)
        self.name, self.arch, self.builtin = pretrained.name, pretrained.arch, pretrained.builtin
        smaller = [pretrained.image_size] * pretrained.builtin  # the built-in weights see photos of another size
        self.id = fingerprint(pretrained.fingerprint, EXTRACTION, *smaller)
        self.extractor, self.width = None, None

    def read(self, split, photos):
        """The features of these photos of a split. Raises DataError on a photo that is missing or broken."""
        paths = [self.paths[split][k] for k in photos]
        shards = [paths[k : k + SHARD] for k in range(0, len(paths), SHARD)]
        with tqdm(total=len(paths), desc=f"features of {split} photos", unit="photo", leave=False, delay=1) as bar:
            return np.concatenate([self._shard(shard, bar) for shard in shards])

    def _shard(self, paths, bar):
        key = fingerprint(self.id, self.device.type, [sha256(path) for path in paths])  # devices round differently
        file = self.cache / f"features-{key}.npy"
        features = _load_array(file, len(paths))
        if features is not None:
            bar.update(len(paths))
        else:
            features = self.compute(map(open_photo, paths), bar)
            buffer = io.BytesIO()
            np.save(buffer, features, allow_pickle=False)
            write_bytes(file, buffer.getbuffer())
        if self.width not in (None, features.shape[1]):
            raise DataError(
                f"{self.cache}: features of one network have {self.width} and {features.shape[1]} numbers; "
                "remove the files features-*.npy there"
            )
        self.width = features.shape[1]
        return features

    def compute(self, images, bar=None):
        """The features (N, D) float32 of N photos, as `open_photo` gives them; it holds one of them at a time."""
        if self.extractor is None:
            self.extractor = Extractor(self.pretrained).to(self.device, memory_format=torch.channels_last)
        prepare = whole_photo(self.pretrained.image_size)
        prepared, parts = map(prepare, images), []
        while batch := list(itertools.islice(prepared, BATCH)):
            with torch.inference_mode():
                features = self.extractor(torch.stack(batch).to(self.device, memory_format=torch.channels_last))
            parts.append(features.float().cpu().numpy())
            if not np.isfinite(parts[-1]).all():
                raise DataError(f"{self.name}: makes numbers of photos that are not finite; get other weights")
            if bar is not None:
                bar.update(len(batch))
        return np.concatenate(parts)


def _load_array(file, rows):
    """The features that a cache file holds, or None where it is not there or is broken."""
    try:
        features = np.load(file, allow_pickle=False)
        fits = features.ndim == 2 and len(features) == rows and features.dtype == np.float32
        return features if fits and np.isfinite(features).all() else None
    except Exception:  # numpy raises whatever broken bytes lead it to
        return None


# ---- stored in h5 files


class StoredFeatures:
    """Features that lie in h5 files: of each split (file, rows of its data set `features`)."""

    arch, builtin = None, False  # the network is not here: no photo of one's own can be captioned

    def __init__(self, sources, name):
        self.sources, self.name = sources, name
        self.id = fingerprint(name, [sha256(file) for file in sorted({file for file, _ in sources.values()})])

    def read(self, split, photos):
        """The features of these photos of a split. Raises DataError on a file that breaks off or holds odd numbers."""
        file, rows = self.sources[split]
        rows = rows[np.asarray(photos)]
        order = np.argsort(rows)  # h5py reads rows in rising order
        with open_h5(file) as content:
            stored = content["features"]
            found = stored[rows[order]] if len(rows) < 2000 else stored[:][rows[order]]  # many by number are slow
        features = np.empty(found.shape, np.float32)
        with np.errstate(over="ignore"):  # it is infinite then, and refused
            features[order] = found
        if not (np.abs(features) < LARGEST).all():  # NaN is not either
            raise DataError(f"{file}: features hold NaN or infinity, or {LARGEST:g} or more; get the file again")
        return features


@contextlib.contextmanager
def open_h5(file):
    """An open h5 file; what h5py raises on a broken one is a DataError."""
    if not file.is_file():
        raise DataError(f"{file}: no such file; python -m data.download coco gets it")
    try:
        with h5py.File(file, "r") as content:
            yield content
    except (OSError, RuntimeError, ValueError, KeyError, TypeError, MemoryError) as error:
        reason = (str(error).splitlines() or [""])[0]
        raise DataError(f"{file}: cut short or no h5 file ({shown(reason, 100)}); get it again") from None


def h5_set(file, content, name, axes):
    """The data set `name` of an open h5 file, checked to be an array of so many axes."""
    # What lies in another file is not opened.
    found = content.get(name) if isinstance(content.get(name, getlink=True), h5py.HardLink) else None
    if not isinstance(found, h5py.Dataset) or found.is_virtual or found.external:
        raise DataError(f"{file}: has no data set {name!r}; get the file again")
    if found.ndim != axes:
        raise DataError(f"{file}: {name} has the shape {found.shape}, expected {axes} axes; get the file again")
    if not found.size:
        raise DataError(f"{file}: {name} is empty; get the file again")
    if found.nbytes > max(PACKED * found.id.get_storage_size(), 1 << 26):
        raise DataError(
            f"{file}: {name} should have {found.nbytes:,} bytes, far more than the file; get the file again"
        )
    return found


def h5_integers(file, name, axes):
    """The data set `name` of an h5 file, int64, of so many axes. Raises DataError where it is none or is not whole."""
    with open_h5(file) as content:
        found = h5_set(file, content, name, axes)
        if found.dtype.kind not in "iu":
            raise DataError(f"{file}: {name} holds {found.dtype} and not integers; get the file again")
        return found[:].astype(np.int64)


def features_shape(file):
    """(P, D): of how many photos an h5 file holds the `features`, and how many numbers of each. DataError as above."""
    with open_h5(file) as content:
        found = h5_set(file, content, "features", 2)
        if found.dtype.kind != "f":
            raise DataError(f"{file}: features are not floating-point numbers; get the file again")
        return found.shape
