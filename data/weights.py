"""Pre-trained networks: finds a weights file, checks it, and builds the torchvision network that it belongs to."""

import difflib
import hashlib
import os
import re
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path

import torch
import torchvision

from data import HOME, DataError, check_folder, locate
from data.files import sha256
from data.results import shown
from data.tensors import load_tensors

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of ImageNet's pixels, as every torchvision network expects
BUILTIN = HOME / "builtin_weights"


@dataclass(frozen=True)
class Weights:
    """A checked weights file of the torchvision classifier `arch`.

    state: a float32 state dict in torchvision's names. name: what plots and results.json call it. builtin: whether it
    learned from drawings.
    """

    arch: str
    state: dict
    name: str
    builtin: bool

    @property
    def image_size(self):
        """The side of the square that the network is trained on, in pixels: ImageNet's 224, 128 for drawings of 160."""
        return 128 if self.builtin else 224

    @property
    def val_size(self):
        """The side that it is validated on, 8/7 of `image_size` where the network takes any.

        A random part of a photo, blown up, shows things larger than the whole photo does; a larger whole makes up for
        that (Touvron et al. 2019, "Fixing the train-test resolution discrepancy").
        """
        return self.image_size if self.arch.startswith(("vit_", "maxvit")) else self.image_size * 8 // 7

    @property
    def fingerprint(self):
        """Changes when any of the weights does."""
        digest = hashlib.sha256(self.arch.encode())
        for key in sorted(self.state):
            digest.update(self.state[key].contiguous().numpy())
        return digest.hexdigest()[:16]

    @property
    def trainable(self):
        """False where batch norm was folded away (means 0, variances 1): such a network is for evaluation only."""
        means = [v for k, v in self.state.items() if k.endswith("running_mean")]
        variances = [v for k, v in self.state.items() if k.endswith("running_var")]
        return not means or any(m.any() for m in means) or any((v != 1).any() for v in variances)

    def network(self):
        """The network with these weights, with as many outputs as they have."""
        network = build(self.arch, outputs(self.state))
        state = OrderedDict(self.state)
        state._metadata = network.state_dict()._metadata  # MNASNet looks up its version there
        network.load_state_dict(state)
        return without_auxiliaries(network)

    def random_network(self):
        """The same network with random weights."""
        return without_auxiliaries(build(self.arch, 2))


def classifiers():
    """The names of torchvision's image classifiers."""
    return torchvision.models.list_models(module=torchvision.models)


def check_arch(arch):
    """Raises DataError where `arch` is not the name of a torchvision classifier."""
    known = classifiers()
    if arch not in known:
        near = difflib.get_close_matches(arch, known, n=3) or ["resnet18", "resnet50", "vgg16", "densenet121"]
        raise DataError(f"--arch {arch}: torchvision has no classifier of this name; there is {', '.join(near)}")


def build(arch, outputs):
    """The torchvision classifier `arch` with random weights and that many outputs, as its weights files have it."""
    inception = {"init_weights": True, "transform_input": True} if arch in ("googlenet", "inception_v3") else {}
    return torchvision.models.get_model(arch, weights=None, num_classes=outputs, **inception)


def outputs(state):
    """How many classes a state dict's last weight matrix (or convolution) tells apart."""
    return [1, *(len(value) for value in state.values() if value.ndim in (2, 4))][-1]


def modern_key(key):
    """A tensor's name as torchvision has it now; the published files of DenseNet and ViT have older ones."""
    key = re.sub(r"(denselayer\d+\.(?:norm|conv))\.(\d)", r"\1\2", key)
    return key.replace(".mlp.linear_1.", ".mlp.0.").replace(".mlp.linear_2.", ".mlp.3.")


def empty_state(arch, outputs):
    """The state dict of `build(arch, outputs)`, where possible of tensors that are shapes alone and take no memory."""
    try:
        with torch.device("meta"):
            return build(arch, outputs).state_dict()
    except NotImplementedError:  # RegNet reckons its widths with tensors
        return build(arch, outputs).state_dict()


def without_auxiliaries(network):
    """`network` with its last layer as its only output: GoogLeNet and Inception v3 lose the ones that help training."""
    for name in ("aux1", "aux2", "AuxLogits"):
        if getattr(network, name, None) is not None:
            setattr(network, name, None)
            network.aux_logits = False
    return network


def find(arch, data=None):
    """The weights file of `arch`: under the data folder's `weights/`, else in torchvision's own cache, else None."""
    published = [weights.url.rsplit("/", 1)[-1] for weights in torchvision.models.get_model_weights(arch)]
    folder = locate("weights", data or HOME)
    if folder:
        for path in [
            folder / f"{arch}.pth",
            *(folder / name for name in published),
            *sorted(folder.glob(f"{arch}-*.pth")),
        ]:
            if path.exists():
                return path
    cached = [Path(torch.hub.get_dir()) / "checkpoints" / name for name in published]
    return next((path for path in cached if os.path.isfile(path)), None)  # also where the cache may not be entered


def load(arch, data=None):
    """The weights of `arch` for a script's `--data`: a found file, or the built-in ones where there is none.

    Raises DataError where there are neither, or where the file is broken or of another architecture.
    """
    check_arch(arch)
    check_folder(data)
    path = find(arch, data) if data != "builtin" else None
    if path:
        return read(path, arch)
    if not (BUILTIN / f"{arch}.pth").is_file():
        if data == "builtin":
            ours = " and ".join(sorted(path.stem for path in BUILTIN.glob("*.pth")))
            raise DataError(f"--arch {arch}: --data builtin has weights of {ours} alone; leave --data out")
        where = f" --data {data}" if data else ""
        raise DataError(
            f"--arch {arch}: no pre-trained weights; get them: python -m data.download --arch {arch}{where}"
        )
    return read(BUILTIN / f"{arch}.pth", arch, builtin=True)


def read(path, arch, builtin=False):
    """Reads a weights file (a plain state dict; half precision becomes float32) and checks it against `arch`.

    Raises DataError, naming the file, where it is broken, holds anything but tensors, is not finite, or is of another
    architecture.
    """
    what = f"the weights of {arch}"
    state = load_tensors(path, what)
    if not isinstance(state, dict) or not all(isinstance(v, torch.Tensor) for v in state.values()):
        raise DataError(f"{path}: holds no plain table of tensors; it should be {what}")
    state = {modern_key(str(key)): v.float() if v.is_floating_point() else v for key, v in state.items()}
    if outputs(state) < 1:
        raise DataError(f"{path}: tells no classes apart; it should be {what}")
    expected = empty_state(arch, outputs(state))
    for key, value in expected.items():
        if key.endswith("num_batches_tracked"):  # files from before PyTorch 0.4.1 lack it
            state.setdefault(key, torch.tensor(0))
        if key not in state:
            raise DataError(f"{path}: has no {key}; it should be {what}")
        elif state[key].shape != value.shape:
            shapes = f"{tuple(state[key].shape)}, not {tuple(value.shape)}"
            raise DataError(f"{path}: {key} has the shape {shapes}; it should be {what}")
        elif state[key].dtype != value.dtype:
            raise DataError(f"{path}: {key} is of the type {state[key].dtype}; it should be {what}")
        elif not torch.isfinite(state[key]).all():
            raise DataError(f"{path}: {key} holds NaN or infinity; get the file again")
    if extra := state.keys() - expected.keys():
        raise DataError(f"{path}: has {shown(min(map(str, extra)))}, which {arch} has not; it should be {what}")
    origin = (
        "built-in, trained on drawn pictures"
        if builtin
        else f"{shown(Path(path).name, 60)}, SHA-256 {sha256(path)[:8]}"
    )
    return Weights(arch, state, f"{arch} ({origin})", builtin)
