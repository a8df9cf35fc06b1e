"""Pre-trained networks: finds a weights file, checks it, and builds its torchvision network."""

import difflib
import hashlib
import re
from dataclasses import dataclass
from pathlib import Path

import torch
import torchvision

from common.cli import UserError, shown
from data import HOME, check_folder, locate, sha256, visible

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of ImageNet's pixels, for all torchvision networks
BUILTIN = HOME / "builtin_weights"
WRAPPERS = ("model", "net", "state", "state_dict", "model_state_dict", "model_state", "params")
DRAWN_WARNING = "weights trained on drawings work poorly on photos; get real ones: python -m data.download weights"


@dataclass(frozen=True)
class Weights:
    """A checked weights file of a torchvision classifier."""

    arch: str
    state: dict  # of float32 tensors
    name: str  # for plots
    builtin: bool  # whether it was trained on drawings

    @property
    def image_size(self):
        """The side of the training images in pixels: 224 as for ImageNet, 128 for the built-in drawings of 160."""
        return 128 if self.builtin else 224

    @property
    def val_size(self):
        """The side of validation images: 8/7 of image_size (Touvron et al. 2019) if the network accepts any size."""
        return self.image_size if self.arch.startswith(("vit_", "maxvit")) else self.image_size * 8 // 7

    @property
    def fingerprint(self):
        """Changes when any weight changes."""
        digest = hashlib.sha256(self.arch.encode())
        for key in sorted(self.state):
            digest.update(self.state[key].contiguous().numpy())
        return digest.hexdigest()[:16]

    @property
    def trainable(self):
        """False if batch norm was folded away (all variances are 1): such a network is for evaluation only."""
        variances = [value for key, value in self.state.items() if key.endswith("running_var")]
        return not variances or any((variance != 1).any() for variance in variances)

    def network(self):
        """The network with these weights and their number of outputs, without auxiliary outputs."""
        network = build(self.arch, outputs(self.state))
        state = network.state_dict()  # not a new dict: MNASNet looks up its version in this one
        state.update(self.state)
        network.load_state_dict(state)
        return without_auxiliaries(network)

    def random_network(self):
        """The same network with random weights and two outputs."""
        return without_auxiliaries(build(self.arch, 2))

    def announce(self, data, real, sets):
        """Prints the data and the weights, and what to download if they are drawn. sets: names for `data.download`."""
        hint = "" if real else f"; get real data: python -m data.download {sets} weights"
        print(f"data: {data}{hint}\nweights: {self.name}")
        if real and self.builtin:
            print(f"warning: {DRAWN_WARNING}")


def to_pixels(image):
    """A normalized image (3, H, W) as pixels, a numpy array (H, W, 3) in 0..1."""
    pixels = image.cpu() * torch.tensor(STD).view(3, 1, 1) + torch.tensor(MEAN).view(3, 1, 1)
    return pixels.clamp(0, 1).permute(1, 2, 0).numpy()


def check_arch(arch):
    """Returns `arch`. Raises UserError unless it is the name of a torchvision classifier."""
    names = torchvision.models.list_models(module=torchvision.models)
    if arch not in names:
        near = difflib.get_close_matches(arch, names, n=3) or ["resnet18", "resnet50", "vgg16", "densenet121"]
        raise UserError(f"--arch {arch}: torchvision has no classifier of this name; try {', '.join(near)}")
    return arch


def build(arch, outputs):
    """The torchvision classifier `arch` with random weights and `outputs` outputs, built to match its weights files."""
    inception = {"init_weights": True, "transform_input": True} if arch in ("googlenet", "inception_v3") else {}
    return torchvision.models.get_model(arch, weights=None, num_classes=outputs, **inception)


def without_auxiliaries(network):
    """`network` without auxiliary outputs, which GoogLeNet and Inception v3 have."""
    for name in {"aux1", "aux2", "AuxLogits"} & dict(network.named_children()).keys():
        setattr(network, name, None)
        network.aux_logits = False
    return network


def outputs(state):
    """The number of classes in a state dict: the rows of its last matrix or convolution."""
    return [1, *(len(value) for value in state.values() if value.ndim in (2, 4))][-1]


def find(arch, data=None):
    """The weights file of `arch`: from the data folder's `weights/`, else from torchvision's cache, else None."""
    published = [weights.url.rsplit("/", 1)[-1] for weights in torchvision.models.get_model_weights(arch)]
    paths = [Path(torch.hub.get_dir(), "checkpoints", name) for name in published]
    if folder := locate("weights", data):
        ours = [folder / name for name in (f"{arch}.pth", *published)]
        others = sorted(path for path in folder.glob(f"{arch}[-.]*") if path.suffix in (".pth", ".pt", ".tar", ".bin"))
        paths = [*ours, *others, *paths]
    return next(filter(Path.exists, paths), None)


def choose(arch, data, real, usual, drawn):
    """The `Weights` for a script's `--arch`; without it those of `usual` if found, else the built-in ones of `drawn`.

    real: whether the pictures are photos. Drawn pictures use built-in weights unless --arch or --data is given.
    """
    source = "builtin" if data is None and arch is None and not real else data
    found = source != "builtin" and find(arch or usual, source)
    folder = None if found or source == "builtin" else locate("weights", source)
    if folder and (names := sorted(path.name for path in folder.iterdir() if visible(path.name))):
        print(f"{folder}: has no file whose name begins with {arch or usual}; it holds {', '.join(names[:3])}")
    return load(arch or (usual if found else drawn), source)


def load(arch, data=None):
    """The `Weights` of `arch` for a script's `--data`: from `find`, else built-in; UserError if there are none."""
    check_arch(arch)
    check_folder(data)
    path = (data != "builtin" and find(arch, data)) or BUILTIN / f"{arch}.pth"
    if not path.exists():
        download = f"get them: python -m data.download --arch {arch}{f' --data {data}' if data else ''}"
        cure = "leave out --data builtin" if data == "builtin" else download
        raise UserError(f"--arch {arch}: has no pre-trained weights here; {cure}")
    return read(path, arch)


def read(path, arch):
    """The `Weights` in a file: a state dict or a training checkpoint that holds one, converted to float32.

    Raises UserError, naming the file, if they do not fit `arch`.
    """
    advice = f"it should be the weights of {arch}; get it again"
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
        for name in WRAPPERS:  # of a training checkpoint
            state = state[name] if isinstance(state.get(name), dict) else state
        state = {modern_key(str(key)): value.float() for key, value in state.items()}
    except Exception as error:  # torch raises many kinds of errors; other files hold no tensors
        reason = getattr(error, "strerror", None) or "cut short, or not a table of tensors as model.state_dict() is"
        raise UserError(f"{path}: {reason}; {advice}") from None
    expected = {key: tuple(value.shape) for key, value in build(arch, outputs(state)).state_dict().items()}
    state = {key: torch.tensor(0) for key in expected if key.endswith("num_batches_tracked")} | state
    for key in expected | state:
        shape = tuple(state[key].shape) if key in state else "missing"
        if shape != expected.get(key):
            raise UserError(f"{path}: the tensor {key} is {shape}, not {expected.get(key, 'missing')}; {advice}")
        if not state[key].isfinite().all():
            raise UserError(f"{path}: the tensor {key} holds NaN or infinity; get the file again")
    builtin = path.parent == BUILTIN
    origin = "built-in, trained on drawn pictures" if builtin else f"{shown(path.name, 60)}, SHA-256 {sha256(path)[:8]}"
    return Weights(arch, state, f"{arch} ({origin})", builtin)


def modern_key(key):
    """A tensor's name in today's torchvision: removes wrappers' prefixes (`module.`) and renames keys of old files."""
    key = re.sub(r"^(module\.|_orig_mod\.|model\.|net\.)+", "", key)
    key = re.sub(r"(denselayer\d+\.(?:norm|conv))\.(\d)", r"\1\2", key)
    return key.replace(".mlp.linear_1.", ".mlp.0.").replace(".mlp.linear_2.", ".mlp.3.")
