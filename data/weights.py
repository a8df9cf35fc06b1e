"""Pre-trained networks: finds a weights file, checks it, and builds the torchvision network that it belongs to."""

from dataclasses import dataclass
from pathlib import Path

import torch
import torchvision

from data import HOME, DataError, locate
from data.files import sha256
from data.results import load_tensors

BUILTIN = HOME / "builtin_weights"


@dataclass(frozen=True)
class Weights:
    """A checked weights file. `state` is a float32 state dict in torchvision's names."""

    arch: str
    state: dict
    name: str
    builtin: bool

    @property
    def image_size(self):
        return 128 if self.builtin else 224

    @property
    def trainable(self):
        """False where batch norm was folded away (means 0, variances 1): such a network is for evaluation only."""
        means = [v for k, v in self.state.items() if k.endswith("running_mean")]
        variances = [v for k, v in self.state.items() if k.endswith("running_var")]
        return not means or any(m.any() for m in means) or any((v != 1).any() for v in variances)

    def network(self):
        """The network with these weights, with as many outputs as they have."""
        network = build(self.arch, [value for value in self.state.values() if value.ndim in (2, 4)][-1].shape[0])
        network.load_state_dict(self.state)
        return without_auxiliaries(network)

    def random_network(self):
        """The same network with random weights."""
        return without_auxiliaries(build(self.arch, 2))


def classifiers():
    """The names of torchvision's image classifiers."""
    return torchvision.models.list_models(module=torchvision.models)


def check_arch(arch):
    """Raises DataError where `arch` is not the name of a torchvision classifier."""
    if arch not in classifiers():
        raise DataError(
            f"--arch {arch}: torchvision has no such classifier; it has resnet18, resnet50, vgg16, densenet121 ..."
        )


def build(arch, outputs):
    """The torchvision classifier `arch` with random weights and that many outputs, as its weights files have it."""
    inception = {"init_weights": True, "transform_input": True} if arch in ("googlenet", "inception_v3") else {}
    return torchvision.models.get_model(arch, weights=None, num_classes=outputs, **inception)


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
    return next((path for path in cached if path.is_file()), None)


def load(arch, data=None):
    """The weights of `arch` for a script's `--data`: a found file, or the built-in ones where there is none.

    Raises DataError where there are neither, or where the file is broken or of another architecture.
    """
    check_arch(arch)
    if data not in (None, "builtin") and not Path(data).is_dir():
        raise DataError(f"--data {data}: no such folder; leave --data out, or use --data builtin")
    path = find(arch, data) if data != "builtin" else None
    if path:
        return read(path, arch)
    if not (BUILTIN / f"{arch}.pth").is_file():
        raise DataError(
            f"--arch {arch}: no pre-trained weights; get them with 'python -m data.download weights --arch {arch}'"
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
    state = {key: value.float() if value.is_floating_point() else value for key, value in state.items()}
    matrices = [value for value in state.values() if value.ndim in (2, 4)]
    expected = empty_state(arch, len(matrices[-1]) if matrices else 1)
    for key, value in expected.items():
        if key.endswith("num_batches_tracked"):  # files from before PyTorch 0.4.1 lack it
            state.setdefault(key, torch.tensor(0))
        elif key not in state:
            raise DataError(f"{path}: has no {key}; it should be {what}")
        elif state[key].shape != value.shape:
            shapes = f"{tuple(state[key].shape)}, not {tuple(value.shape)}"
            raise DataError(f"{path}: {key} has the shape {shapes}; it should be {what}")
        elif not torch.isfinite(state[key]).all():
            raise DataError(f"{path}: {key} holds NaN or infinity; get the file again")
    if extra := state.keys() - expected.keys():
        raise DataError(f"{path}: has {min(map(str, extra))}, which {arch} has not; it should be {what}")
    origin = "built-in, trained on drawn pictures" if builtin else f"{Path(path).name}, SHA-256 {sha256(path)[:8]}"
    return Weights(arch, state, f"{arch} ({origin})", builtin)
