"""Layers against PyTorch on arrays that nobody thought of, and readers on files that nobody would write.

FUZZ_EXAMPLES=20000 python -m pytest tests/test_fuzz.py tries so many of each; the default, 50, are the same every time.
"""

import bz2
import contextlib
import copy
import functools
import gzip
import io
import json
import os
import shutil
import sys
import tarfile
import tempfile
import warnings
import zipfile
from collections import OrderedDict
from functools import partial

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from PIL import Image
from torch import nn

import image_captioning
import sentiment
import transfer_learning
from bleu_utils import decode_captions
from data import DataError, captions, files, glove, insects, results, reviews, weights
from rnn import SPECIAL, CaptioningRNN
from tests import runs
from tests.conftest import ARCH, random_state
from tests.runs import write
from tests.test_captions import flags, write_coco, write_flickr8k
from tests.test_files import tar_bytes, zip_bytes
from tests.test_hostile import holding_itself, nested
from tests.test_results import finish, make_run

EXAMPLES = int(os.environ.get("FUZZ_EXAMPLES", 50))
fuzz = settings(
    max_examples=EXAMPLES, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck)
)


# ---- files: how they are spoiled


def of_lines(edit):
    """The edit of bytes that `edit(lines, at, to, new)` does to the list of its lines."""

    def edit_bytes(content, at, to, new):
        lines = content.split(b"\n")
        edit(lines, at % len(lines), to % len(lines), new)
        return b"\n".join(lines)

    return edit_bytes


def swap_lines(lines, at, to, new):
    lines[at], lines[to] = lines[to], lines[at]


def set_field(lines, at, to, new, mark=b" "):
    fields = lines[at].split(mark)
    fields[to % len(fields)] = new
    lines[at] = mark.join(fields)


def swap_chunks(content, at, to, new):
    a, b = sorted((at, to))
    size = 1 + len(new)
    return content[:a] + content[b : b + size] + content[a + size : b] + content[a : a + size] + content[b + size :]


EDITS = {
    "flip": lambda content, at, to, new: content[:at] + bytes(b ^ (1 + to % 255) for b in content[at : at + 1])
    + content[at + 1 :],
    "cut off": lambda content, at, to, new: content[:at],
    "take out": lambda content, at, to, new: content[: min(at, to)] + content[max(at, to) :],
    "insert": lambda content, at, to, new: content[:at] + new + content[at:],
    "write over": lambda content, at, to, new: content[:at] + new + content[at + len(new) :],
    "double": lambda content, at, to, new: content[: max(at, to)] + content[min(at, to) :],
    "swap": swap_chunks,
    "swap lines": of_lines(swap_lines),
    "other line": of_lines(lambda lines, at, to, new: lines.__setitem__(at, new)),
    "line twice": of_lines(lambda lines, at, to, new: lines.insert(to, lines[at])),
    "drop line": of_lines(lambda lines, at, to, new: lines.pop(at)),
    "other word": of_lines(set_field),
    "other field": of_lines(partial(set_field, mark=b"\t")),
}  # fmt: skip
ODD_BYTES = [
    b"", b"\0", b"\0" * 4, b"\xff" * 4, b"\xff" * 8, b"\n", b"\r", b"\r\n", b"\t", b" ", b"\xff", b"\xef\xbb\xbf",
    "\u2028".encode(), "\u3000".encode(), "\x85".encode(), b"\xed\xa0\x80", b"nan", b"inf", b"-1", b"0", b"1e999",
    b"1" * 5000, b"0 ", b"1 ", b'"', b"[", b"{}", b"null", b"\\ud800", b"../", b"/", b"#", b"x" * 300, b"1_0",
    "\u0663".encode(), b"\x1b[2J",
]  # fmt: skip
places = st.integers(0, 2**24) | st.integers(-300, 300)  # the ends of a file hold more that can go wrong
news = st.sampled_from(ODD_BYTES) | st.binary(max_size=9)
edits = st.lists(st.tuples(st.sampled_from(list(EDITS)), places, places, news), max_size=4)


def edited(valid, edits):
    """The bytes `valid` after these edits. Each is a name of EDITS, two places and new bytes."""
    for name, at, to, new in edits:
        size = len(valid) + 1
        valid = EDITS[name](valid, at % size, to % size, new)
    return valid


class Junk(bytes):
    """The whole file, and not an edit of a valid one."""


spoiled_bytes = edits | st.binary(max_size=200).map(Junk)


def spoil(valid, how):
    """A valid file's bytes, spoiled: edited, or replaced."""
    return bytes(how) if isinstance(how, Junk) else edited(valid, how)


ODD_JSON = [
    None, True, False, 0, -1, 1, 2**31, 2**63, 10**30, 1.5, -0.0, float("nan"), float("inf"), 1e-300, "", " ", "a\nb",
    "\u2028", "\x1b[2J", "\0", "\ud800", "x" * 5000, "../../x", "/", [], {}, [[]], [{}], {"a": []}, ["a", "b"], [1, 2],
]  # fmt: skip
ODD_IN_JSON = {repr(value)[:40]: lambda value=value: copy.deepcopy(value) for value in ODD_JSON}
ODD_VALUES = {
    **ODD_IN_JSON,
    "bytes": lambda: b"bytes", "tuple": lambda: (1, "a"), "set": lambda: {1, 2}, "complex": lambda: 1j,
    "huge number": lambda: 10**5000, "endless list": holding_itself, "deep list": lambda: nested(300),
    "ordered": lambda: OrderedDict(a=1), "number keys": lambda: {0: 1, None: 2, "a\nb": torch.zeros(1)},
    "no numbers": lambda: torch.zeros(0), "one number": lambda: torch.tensor(5.0), "whole": lambda: torch.arange(3),
    "NaN": lambda: torch.full((2, 3), torch.nan), "bool": lambda: torch.ones(2, dtype=torch.bool),
    "half": lambda: torch.ones(3).half(), "bfloat": lambda: torch.ones(3, dtype=torch.bfloat16),
    "complex tensor": lambda: torch.ones(2, dtype=torch.complex64),
    "expanded": lambda: torch.zeros(1).expand(10**12), "sparse": lambda: torch.eye(3).to_sparse(),
    "meta": lambda: torch.ones(2, device="meta"), "parameter": lambda: torch.nn.Parameter(torch.ones(2)),
    "dtype": lambda: torch.float32, "size": lambda: torch.Size([1, 2]), "device": lambda: torch.device("cpu"),
    "float8": lambda: torch.ones(2).to(torch.float8_e4m3fn), "sevenfold": lambda: torch.zeros([1] * 7),
    "no rows": lambda: torch.zeros(0, 3), "no columns": lambda: torch.zeros(3, 0),
}  # fmt: skip
TWISTS = {  # what may be done to a tensor that is there
    "transposed": lambda t: t.T if t.ndim == 2 else t.flip(0) if t.ndim else t,
    "doubled": lambda t: torch.cat([t, t]) if t.ndim else t,
    "cut": lambda t: t[:-1] if t.ndim else t,
    "whole": lambda t: t.long() if not t.is_complex() else t,
    "float64": lambda t: t.double(),
    "NaN": lambda t: t * torch.nan,
    "huge": lambda t: torch.full_like(t, 3e38) if t.is_floating_point() else t,
    "strided": lambda t: torch.stack([t, t], -1)[..., 0],
    "one number": lambda t: t.flatten()[:1].expand(t.shape) if t.numel() else t,
    "axis more": lambda t: t[None],
}


class Spoiled:
    """Content with some of its parts changed; `changes` says which, as a failing example is too long to read."""

    def __init__(self, content):
        self.root, self.changes = {"": copy.deepcopy(content)}, []

    def __repr__(self):
        return f"Spoiled({self.changes})"

    @property
    def content(self):
        return self.root[""]


@st.composite
def spoiled_content(draw, make_content, odd=ODD_VALUES):
    """`make_content()`, dicts and lists of values, with up to three parts replaced, twisted, removed or renamed."""
    spoiled = Spoiled(make_content())
    for _ in range(draw(st.integers(0, 3))):
        holder, key = spoiled.root, ""
        while isinstance(holder[key], (dict, list)) and holder[key] and draw(st.integers(0, 3)):
            holder = holder[key]
            key = draw(st.sampled_from(list(holder) if isinstance(holder, dict) else range(len(holder))))
        how = draw(st.sampled_from(["replace", "twist", "remove", "double", "rename"]))
        value, new = holder[key], None
        if how == "twist" and isinstance(value, torch.Tensor) and value.layout == torch.strided:
            new = draw(st.sampled_from(list(TWISTS)))
            with contextlib.suppress(RuntimeError, NotImplementedError):  # not all can be done to odd types
                holder[key] = TWISTS[new](value)
        elif how == "twist" and isinstance(value, (int, float)):
            new = draw(st.sampled_from([-1, 1, 1000]))
            holder[key] = value + new
        elif how == "remove" and key != "":
            del holder[key]
        elif how == "double" and isinstance(holder, list):
            holder.append(value)
        elif how in ("double", "rename") and key != "" and isinstance(holder, dict):
            new = draw(st.sampled_from(["a\nb", "x", "0", f"{key}.weight", "\ud800"]))
            holder[new] = value if how == "double" else holder.pop(key)
        else:
            how, new = "replace", draw(st.sampled_from(list(odd)))
            holder[key] = odd[new]()
        spoiled.changes.append((how, key, new))
    return spoiled


def saved(content):
    """The bytes that torch.save makes of `content`."""
    try:
        return runs.saved(content)
    except Exception:  # it does not save everything that is odd
        assume(False)


def with_pickle(file, how):
    """A file of torch.save, its pickle spoiled, and its check sums right again."""
    out = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(file)) as source, zipfile.ZipFile(out, "w") as target:
        for name in source.namelist():
            content = source.read(name)
            target.writestr(name, spoil(content, how) if name.endswith("data.pkl") else content)
    return out.getvalue()


# ---- files: what is claimed


@contextlib.contextmanager
def silence():
    """Fails where anything is written to stderr, by Python, a warning or a C library."""
    with tempfile.TemporaryFile() as written, warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        for category in (DeprecationWarning, PendingDeprecationWarning, ImportWarning, ResourceWarning):
            warnings.simplefilter("ignore", category)  # as in a script that is run
        sys.stderr.flush()
        before = os.dup(2)
        os.dup2(written.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(before, 2)
            os.close(before)
        written.seek(0)
        assert written.read() == b""
        assert [str(warning.message) for warning in seen] == []


def read_or_refused(read, *arguments):
    """What `read` gives, or None where it refuses with a DataError of one line. Nothing else may come."""
    with silence():
        try:
            return read(*arguments)
        except DataError as error:
            assert len(str(error).splitlines()) == 1, str(error)
            return None


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return tmp_path_factory.mktemp("fuzz")


# ---- text


REVIEWS = "1 a good film , \u00e9t\u00e9\n0 not good\n1 _num_ stars\n0 bad , bad film\n".encode()


@fuzz
@given(spoiled_bytes)
def test_labelled_sentences_are_read_or_refused(place, how):
    found = read_or_refused(reviews.read_labelled, write(place / "train.txt", spoil(REVIEWS, how)))
    if found:
        assert len(found.sentences) == len(found.labels) > 1
        assert all(found.sentences) and set(found.labels) == {0, 1}


@fuzz
@given(spoiled_bytes, st.sampled_from([str.split, reviews.tokenize]))
def test_unlabelled_sentences_are_read_or_refused(place, how, split):
    found = read_or_refused(reviews.read_unlabelled, write(place / "unlabelled.txt", spoil(REVIEWS, how)), split)
    assert found is None or all(found.sentences)


GLOVE = b"3 2\nfilm 0.5 -1.25\ngood 1e-3 2\nbad -.5 7\n"


@fuzz
@given(spoiled_bytes, st.booleans())
def test_word_vectors_are_read_or_refused(place, how, header):
    path = write(place / "glove.txt", spoil(GLOVE if header else GLOVE[4:], how))
    found = read_or_refused(glove.load, ["good", "film", "\u00e9t\u00e9"], [], None, path, place)
    if found:
        assert found.vectors.dtype == np.float32 and np.isfinite(found.vectors).all()
        assert len(found.vectors) == len(found.found) == 3 and found.found.any()


def assert_captions_fit(data):
    """The parts of a CaptionSet go together."""
    V = len(data.idx_to_word)
    for split in captions.SPLITS:
        rows, idxs = data.captions[split], data.image_idxs[split]
        assert len(rows) == len(idxs) and len(data.pictures[split]) == len(data.references[split]) > 0
        assert rows.min() >= 0 and rows.max() < V and (rows[:, 0] == captions.START).all()
        assert set(idxs) == set(range(len(data.pictures[split])))
        assert all(words for photo in data.references[split] for words in photo)


@pytest.fixture(scope="module")
def flickr8k(place):
    """A tiny Flickr8k whose network is loaded once, as each example would load the same."""
    built_in = weights.load(captions.BUILTIN_ARCH, "builtin")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(captions, "choose_weights", lambda args, real: built_in)
        patch.setattr(weights.Weights, "fingerprint", "fuzz")
        yield write_flickr8k(place / "flickr8k", {"train": 8, "val": 2, "test": 2})


@contextlib.contextmanager
def spoiled_file(path, content):
    """`path` holds `content` while the block runs."""
    before = path.read_bytes()
    path.write_bytes(content)
    try:
        yield
    finally:
        path.write_bytes(before)


@fuzz
@given(st.sampled_from(["Flickr8k.token.txt", *captions.LISTS.values()]), spoiled_bytes)
def test_a_set_of_captions_is_read_or_refused(flickr8k, name, how):
    path = flickr8k / name
    with spoiled_file(path, spoil(path.read_bytes(), how)):
        data = read_or_refused(captions.read_flickr8k, flickr8k, "tiny", True, flags(), flickr8k.parent, "cpu")
    if data:
        assert_captions_fit(data)


@fuzz
@given(spoiled_bytes)
def test_captions_of_ones_own_are_read_or_refused(flickr8k, how):
    file = write(flickr8k.parent / "own.txt", spoil((flickr8k / "Flickr8k.token.txt").read_bytes(), how))
    data = read_or_refused(captions.read_own, flickr8k / "images", file, flags(), flickr8k.parent, "cpu")
    if data:
        assert_captions_fit(data)


# ---- h5


@pytest.fixture(scope="module")
def coco(place):
    return write_coco(place / "coco_captioning")


def load_coco(folder):
    data = captions.read_coco(folder, "pca")
    data.load_features()
    return data


COCO_FILES = [
    "captions.h5",
    "train2014_vgg16_fc7_pca.h5",
    "val2014_vgg16_fc7_pca.h5",
    "vocab.json",
    "train2014_urls.txt",
]


@fuzz
@given(st.sampled_from(COCO_FILES), spoiled_bytes)
def test_the_h5_files_are_read_or_refused(coco, name, how):
    path = coco / (name if "2014" in name else f"coco2014_{name}")
    with spoiled_file(path, spoil(path.read_bytes(), how)):
        data = read_or_refused(load_coco, coco)
    if data:
        assert_captions_fit(data)
        for split, features in data.features.items():
            assert features.dtype == np.float32 and len(features) == len(data.pictures[split])


# ---- photos


def photo_bytes(format, mode="RGB", **options):
    levels = np.random.default_rng(1).integers(0, 256, (9, 14, 4), np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(levels).convert(mode).save(buffer, format, **options)
    return buffer.getvalue()


def exif():
    found = Image.Exif()
    found[0x0112], found[0x010E], found[0x8769] = 6, "a photo", {0x9003: "2020:01:01 00:00:00"}
    return found


PHOTOS = {
    "jpeg": lambda: photo_bytes("JPEG", exif=exif()),
    "progressive": lambda: photo_bytes("JPEG", "CMYK", progressive=True),
    "png": lambda: photo_bytes("PNG", "RGBA", exif=exif()),
    "palette": lambda: photo_bytes("PNG", "P", transparency=3),
    "16 bit": lambda: photo_bytes("PNG", "I;16"),
    "gif": lambda: photo_bytes("GIF", "P"),
    "webp": lambda: photo_bytes("WEBP", exif=exif()),
    "tiff": lambda: photo_bytes("TIFF", compression="tiff_lzw"),
    "tiff in jpeg": lambda: photo_bytes("TIFF", compression="jpeg"),
    "float tiff": lambda: photo_bytes("TIFF", "F"),
    "bmp": lambda: photo_bytes("BMP"),
    "ico": lambda: photo_bytes("ICO", "RGBA", sizes=[(14, 9)]),
    "ppm": lambda: photo_bytes("PPM"),
    "tga": lambda: photo_bytes("TGA", "RGBA"),
    "pcx": lambda: photo_bytes("PCX"),
    "jpeg 2000": lambda: photo_bytes("JPEG2000"),
    "dds": lambda: photo_bytes("DDS"),
    "icns": lambda: photo_bytes("ICNS"),
    "psd": lambda: b"8BPS\0\1" + bytes(6) + b"\0\3\0\0\0\2\0\0\0\2\0\x08\0\3" + bytes(12) + b"\0\0" + bytes(12),
}
HEADS = [content()[:40] for content in PHOTOS.values()]


@fuzz
@given(st.sampled_from(list(PHOTOS)), spoiled_bytes)
def test_a_photo_is_read_or_refused(place, format, how):
    image = read_or_refused(insects.open_photo, write(place / "photo", spoil(PHOTOS[format](), how)))
    if image:
        assert image.mode == "RGB" and min(image.size) > 0


@fuzz
@given(st.sampled_from(HEADS), st.binary(max_size=300))
def test_a_photo_that_only_begins_like_one_is_read_or_refused(place, head, rest):
    image = read_or_refused(insects.open_photo, write(place / "photo", head + rest))
    if image:
        assert image.mode == "RGB" and min(image.size) > 0


# ---- archives


MEMBERS = {"a.txt": b"some text" * 20, "folder/b.bin": bytes(range(256)), "folder/" + "\u00e9" * 60: b""}
ARCHIVES = {
    "zip": (zip_bytes(MEMBERS), bytes),
    "tar": (tar_bytes(MEMBERS), bytes),
    "gnu tar": (tar_bytes(MEMBERS, format=tarfile.GNU_FORMAT), bytes),
    "tar.gz": (tar_bytes(MEMBERS), gzip.compress),  # spoiled before it is compressed
    "tar.bz2": (tar_bytes(MEMBERS), bz2.compress),
    "gz": (gzip.compress(tar_bytes(MEMBERS)), bytes),
}
MOST = 20_000


@fuzz
@given(st.sampled_from(list(ARCHIVES)), spoiled_bytes)
def test_an_archive_is_unpacked_inside_of_its_folder_or_refused(place, kind, how):
    content, compress = ARCHIVES[kind]
    path = write(place / "archive", compress(spoil(content, how)))
    outside = sorted(place.rglob("*"))
    out = place / "out"
    try:
        read_or_refused(files.unpack, path, out / "in", MOST)
        written = [entry for entry in out.rglob("*") if not entry.is_dir()]
        assert all(entry.is_file() and not entry.is_symlink() for entry in written)
        assert sum(entry.stat().st_size for entry in written) <= MOST
    finally:
        shutil.rmtree(out, ignore_errors=True)
    assert sorted(place.rglob("*")) == outside


# ---- tensors: weights, checkpoints, models


def fuzz_net(arch, outputs):
    """What `weights.build` gives for the architecture "fuzz_net": torchvision's are too large for many examples."""
    if arch != "fuzz_net":
        raise ValueError(f"Unknown model {arch}")
    return nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, outputs)
    )


@pytest.fixture
def _tiny_networks(monkeypatch):
    monkeypatch.setattr(weights, "build", fuzz_net)


tiny_networks = pytest.mark.usefixtures("_tiny_networks")


@functools.cache
def tiny_weights():
    return random_state("fuzz_net", 3)


def read_weights(place, content):
    found = read_or_refused(weights.read, write(place / "weights.pth", content), "fuzz_net")
    if found:
        assert all(value.dtype == torch.float32 for value in found.state.values() if value.is_floating_point())
        with silence():
            found.network()


@tiny_networks
@fuzz
@given(spoiled_bytes)
def test_weights_are_read_or_refused(place, how):
    read_weights(place, spoil(saved(tiny_weights()), how))


@tiny_networks
@fuzz
@given(spoiled_bytes)
def test_weights_of_a_spoiled_pickle_are_read_or_refused(place, how):
    read_weights(place, with_pickle(saved(tiny_weights()), how))


@tiny_networks
@fuzz
@given(spoiled_content(tiny_weights))
def test_weights_of_odd_content_are_read_or_refused(place, spoiled):
    read_weights(place, saved(spoiled.content))


IDENTITY = {"epochs": 3, "data": "some photos", "lr": 0.1, "layers": ["a", "b"]}
STATE = {"epoch": 2, "model": {"w": torch.ones(2, 3), "b": torch.zeros(3)}, "history": [[0.5, 0.25]], "best": None}
CHECKPOINT = {"identity": IDENTITY, "state": STATE}


def load_checkpoint(place, content):
    checkpoint = results.Checkpoint(write(place / "checkpoint-x.pt", content), IDENTITY)
    assert isinstance(read_or_refused(checkpoint.load), (dict, type(None)))


@fuzz
@given(spoiled_bytes)
def test_a_checkpoint_is_read_or_refused(place, how):
    load_checkpoint(place, spoil(saved(CHECKPOINT), how))


@fuzz
@given(spoiled_bytes)
def test_a_checkpoint_of_a_spoiled_pickle_is_read_or_refused(place, how):
    load_checkpoint(place, with_pickle(saved(CHECKPOINT), how))


@fuzz
@given(spoiled_content(lambda: CHECKPOINT))
def test_a_checkpoint_of_odd_content_is_read_or_refused(place, spoiled):
    load_checkpoint(place, saved(spoiled.content))


def sentiment_file():
    """What sentiment.py saves of its five models, all tiny."""
    words = ["<pad>", "<unk>", "good", "bad"]
    built = {
        name: sentiment.BagOfWords(4) if name == "bag" else recipe.model(
            4, 2, **({"hidden": 3} if issubclass(recipe.model, sentiment.RNN) else {})
        )
        for name, recipe in sentiment.RECIPES.items()
    }  # fmt: skip
    about = {"script": "sentiment", "data": "some sentences", "weights": "some vectors", "vocabulary": words}
    return {**about, "models": {name: sentiment.saved_model(model) for name, model in built.items()}}


def captioning_file(cell="lstm"):
    """What image_captioning.py saves of a tiny model."""
    model = CaptioningRNN({word: k for k, word in enumerate([*SPECIAL, "dog"])}, 4, 3, 2, cell)
    about = {"script": "image_captioning", "cell": cell, "data": "some photos", "vocabulary": [*SPECIAL, "dog"]}
    about |= {"features": "a network", "arch": ARCH, "builtin": True, "features_id": "0123", "mean": torch.zeros(4)}
    return {**about, "spread": 1.5, "params": {name: torch.from_numpy(w) for name, w in model.params.items()}}


def transfer_file():
    """What transfer_learning.py saves of a model."""
    model = weights.build("fuzz_net", 2)
    transfer_learning.replace_head(model, 2)
    about = {"script": "transfer_learning", "scenario": "freeze", "arch": "fuzz_net", "data": "some photos"}
    return {**about, "classes": ["ants", "bees"], "val_size": 32, "state": model.state_dict()}


def use_sentiment(models, saved):
    encoded = sentiment.Encoded([["good"], ["bad", "film"]], saved["vocabulary"])
    for model in models.values():
        assert sentiment.predict(model, encoded).shape == (2,)


def use_captioning(model, saved):
    features = captions.scaled(np.ones((2, len(saved["mean"])), np.float32), (saved["mean"].numpy(), saved["spread"]))
    with np.errstate(all="ignore"):  # weights near the largest of all numbers
        for row in model.beam_search(features, 2, 4, unk=False):
            decode_captions(row, saved["vocabulary"])
    assert isinstance(saved["data"] + saved["features"] + image_captioning.NAMES[saved["cell"]], str)


def use_transfer(model, saved):
    with torch.inference_mode():
        assert model.eval()(torch.zeros(2, 3, 32, 32)).shape == (2, len(saved["classes"]))


MODELS = {
    "sentiment": (sentiment_file, sentiment.load_models, use_sentiment),
    "captioning": (captioning_file, image_captioning.load_model, use_captioning),
    "transfer": (transfer_file, transfer_learning.load_model, use_transfer),
}
each_model = pytest.mark.parametrize("kind", MODELS)


@functools.cache
def model_file(kind):
    torch.manual_seed(0)
    return MODELS[kind][0]()


def load_model(place, kind, content):
    _, load, use = MODELS[kind]
    found = read_or_refused(load, write(place / "model.pt", content))
    if found:
        use(*found)


@each_model
@tiny_networks
@fuzz
@given(spoiled_bytes)
def test_a_model_is_read_or_refused(place, kind, how):
    load_model(place, kind, spoil(saved(model_file(kind)), how))


@each_model
@tiny_networks
@fuzz
@given(spoiled_bytes)
def test_a_model_of_a_spoiled_pickle_is_read_or_refused(place, kind, how):
    load_model(place, kind, with_pickle(saved(model_file(kind)), how))


@each_model
@tiny_networks
@fuzz
@given(st.data())
def test_a_model_of_odd_content_is_read_or_refused(place, kind, data):
    load_model(place, kind, saved(data.draw(spoiled_content(partial(model_file, kind))).content))


@each_model
def test_a_model_file_that_is_one_tensor_is_refused_without_a_warning(place, kind):
    assert read_or_refused(MODELS[kind][1], write(place / "model.pt", saved(torch.ones(3)))) is None


# ---- results.json


@pytest.fixture(scope="module")
def run_folder(place):
    """The folder of a finished run."""
    with make_run(place / "results") as run:
        finish(run)
    return run.folder


def read_results(folder, content):
    """results.json, as the overview, a resumed run and the next run take it."""
    path = folder / "results.json"
    with spoiled_file(path, content), contextlib.redirect_stdout(io.StringIO()) as out:
        read_or_refused(results.main, [str(folder.parent)])
        resumed = make_run(folder.parent, resume=True)
        if read_or_refused(lambda: resumed._take_up() or resumed.finished):
            with silence():
                results.show_results(resumed.finished, folder)
        with silence():
            resumed._outdated()
    out.getvalue().encode()  # the terminal's line breaks and no letter that it cannot write
    for file in folder.glob("checkpoint-*"):
        file.unlink()


@fuzz
@given(spoiled_bytes)
def test_results_json_is_read_or_refused(run_folder, how):
    read_results(run_folder, spoil((run_folder / "results.json").read_bytes(), how))


RESULTS = {
    "script": "script", "data": "some data", "weights": "some weights", "seed": 0, "settings": {"epochs": 3},
    "metrics": {"accuracy": 0.5}, "table": {"columns": ["what", "accuracy"], "rows": [["model", "50.0%"]]},
    "seconds": {"total": 1.0}, "versions": {}, "models": ["model.pt"],
    "plots": [{"file": "plot.png", "title": "A plot", "caption": "What to see in it."}],
}  # fmt: skip


@fuzz
@given(spoiled_content(lambda: RESULTS, ODD_IN_JSON))
def test_results_json_of_odd_content_is_read_or_refused(run_folder, spoiled):
    read_results(run_folder, json.dumps(spoiled.content).encode())
