"""Hostile files and absurd sizes: nothing in them runs, nothing else is touched, the answer is one line or a right one.

Rows for single readers stand with their tests: archives in test_files.py and test_download.py, pictures in
test_insects.py, weights in test_weights.py, h5 files in test_captions.py, models in the tests of the scripts.
"""

import contextlib
import dataclasses
import itertools
import os
import pickle
import shutil
import struct
import tarfile
import zipfile
import zlib
from functools import partial

import h5py
import numpy as np
import pytest
import torch
from PIL import Image

import image_captioning as ic
import sentiment
import style_transfer
import transfer_learning as tl
from bleu_utils import SPECIAL
from data import captions, files, glove, insects, plot, results, reviews, tensors, weights
from rnn import CaptioningRNN
from tests.conftest import ARCH, run_python
from tests.runs import CODE, SCRIPTS, check_one_error, ctrl_c_at_save, refused, write
from tests.test_captions import drawn, load_coco, write_coco
from tests.test_files import make_tar, make_zip, zip_bytes
from tests.test_insects import chunk

MB = 1 << 20
WORDS = [*SPECIAL, "a", "dog", "runs"]
HOSTILE_NAMES = ["<b>x</b>&amp;", "\x1b[2J\x1b[31mred", "$\\frac{1}{0}$ $", "\u202egnp", "a\nb", "%s {0} \\n"]
ODD_FILE_NAMES = [name.replace("/", "\u2044") for name in HOSTILE_NAMES]


@pytest.fixture(autouse=True)
def no_bars(monkeypatch):
    """Without progress bars stderr holds the errors alone."""
    for module in (captions, ic, sentiment, tl, style_transfer, insects, glove):
        monkeypatch.setattr(module, "tqdm", partial(module.tqdm, disable=True))


# ---- what would run code (weights and models that would: test_bad_input.py)


def read_carelessly(path):
    """Loads a file in the ways in which what it holds is run."""
    for read in (pickle.load, partial(torch.load, weights_only=False), partial(np.load, allow_pickle=True)):
        with contextlib.suppress(Exception), open(path, "rb") as file:
            list(getattr(read(file), "values", list)())


@pytest.mark.parametrize("kind", CODE)
def test_the_files_below_would_run_code_in_careless_hands(tmp_path, kind):
    read_carelessly(write(tmp_path / "file", CODE[kind](tmp_path / "mark")))
    assert (tmp_path / "mark").is_dir()


def own_photos(folder, count=10):
    """A folder of photos of one's own and their captions beside it."""
    folder.mkdir()
    for k in range(count):
        drawn("red", "ball", k).save(folder / f"p{k}.png")
    text = "".join(f"p{k}.png#{j}\ta red ball number {k}\n" for k in range(count) for j in range(2))
    folder.with_suffix(".txt").write_text(text)
    return folder


@pytest.mark.parametrize("name", SCRIPTS)
@pytest.mark.parametrize("kind", CODE)
def test_a_checkpoint_that_would_run_code_does_not_with_resume(tmp_path, tiny_flags, command, name, kind):
    path = write(tmp_path / "r" / name / "checkpoint-start.pt", CODE[kind](tmp_path / "mark"))
    argv = [*tiny_flags(name), "--results", tmp_path / "r", "--resume"]
    assert refused(command(SCRIPTS[name].main, *argv), path, "--resume")
    assert not (tmp_path / "mark").exists() and os.listdir(path.parent) == [path.name]


@pytest.mark.parametrize("kind", CODE)
def test_a_features_cache_that_would_run_code_does_not_and_is_made_anew(tmp_path, kind):
    folder = own_photos(tmp_path / "own")
    source = captions.PhotoFeatures(
        {"val": sorted(folder.iterdir())[:3]}, weights.load("squeezenet1_1", "builtin"), tmp_path / "cache", "cpu"
    )
    good = source.read("val", range(3))
    [path] = (tmp_path / "cache").iterdir()
    path.write_bytes(CODE[kind](tmp_path / "mark"))
    assert np.array_equal(source.read("val", range(3)), good) and not (tmp_path / "mark").exists()


@pytest.mark.parametrize("kind", CODE)
def test_a_cache_of_trained_vectors_that_would_run_code_does_not(tmp_path, kind):
    sentences = [["good", "food"], ["good", "food"]]
    path = write(glove.trained(sentences, tmp_path / "cache"), CODE[kind](tmp_path / "mark"))
    check_one_error(lambda: glove.load(["good"], sentences, "builtin", None, tmp_path / "cache"), path)
    assert not (tmp_path / "mark").exists()


# ---- files that get larger when they are read


def save_zip_bomb(path, size):
    """A file of weights whose tensor takes `size` bytes and is packed: torch packs nothing, but would unpack it."""
    torch.save({"fc.weight": torch.zeros(1000)}, path)
    with zipfile.ZipFile(path) as plain:
        parts = {part.filename: plain.read(part) for part in plain.infolist()}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as packed:
        for name, content in parts.items():
            packed.writestr(name, content if "/data/" not in name else bytes(size))


def nested(depth, twice=1):
    """A list in a list and so on; with `twice` 2 each holds the next one two times."""
    found = []
    for _ in range(depth):
        found = [found] * twice
    return found


def holding_itself():
    found = []
    found.append(found)
    return found


def shared(count):
    """So many names of one tensor of half precision, of which each would become one of its own."""
    one = torch.zeros(1000, dtype=torch.half)
    return {str(k): one for k in range(count)}


TENSORS = {
    "lists that double at every level": lambda path: torch.save(nested(60, 2), path),
    "tables that double at every level": lambda path: torch.save({"state": nested(60, 2)}, path),
    "a list that holds itself": lambda path: torch.save(holding_itself(), path),
    "a list in a list and so on": lambda path: torch.save(nested(300), path),
    "one tensor under many names": lambda path: torch.save(shared(1000), path),
    "a packed tensor": lambda path: save_zip_bomb(path, 10 * MB),
    "a legacy archive": lambda path: tarfile.open(path, "w").close(),
    "a results.json": lambda path: path.write_text('{"script": "sentiment"}'),
    "a list in JSON": lambda path: path.write_text("[1, 2]"),
    "a web page": lambda path: path.write_text("<html>404</html>"),
}


@pytest.mark.parametrize("case", TENSORS)
def test_a_file_of_tensors_without_end_is_one_line_at_once(tmp_path, case):
    TENSORS[case](tmp_path / "model.pt")
    check_one_error(lambda: tensors.load_tensors(tmp_path / "model.pt", "a model"), tmp_path / "model.pt")


@pytest.mark.parametrize("case", ["a results.json", "a list in JSON", "a web page"])
def test_a_text_file_is_called_no_pytorch_file_and_not_one_that_could_run_code(tmp_path, case):
    TENSORS[case](tmp_path / "model.pt")
    check_one_error(lambda: tensors.load_tensors(tmp_path / "model.pt", "a model"), "no PyTorch file")


def test_a_folder_in_the_place_of_a_model_is_called_a_folder(tmp_path):
    check_one_error(lambda: tensors.load_tensors(tmp_path, "a model"), f"{tmp_path}: is a folder")


def test_a_model_of_several_levels_and_of_tensors_with_two_names_is_read(tmp_path):
    shared = torch.arange(1000.0)
    content = {"a": {"b": [{"c": (shared, [1, "x", None])}]}, "again": shared}
    torch.save(content, tmp_path / "good.pt")
    found = tensors.load_tensors(tmp_path / "good.pt", "a model")
    assert torch.equal(found["again"], shared) and found["a"]["b"][0]["c"][1] == [1, "x", None]


JSON = {
    "a list in a list and so on": lambda path: path.write_text("[" * 1_000_000),
    "tables in tables": lambda path: path.write_text('{"a":' * 1_000_000),
    "more than 16 MB": lambda path: path.open("wb").truncate(500 * MB),
    "a number of a million digits": lambda path: path.write_text('{"idx_to_word": ' + "9" * 1_000_000 + "}"),
}


@pytest.mark.parametrize("case", JSON)
def test_a_vocabulary_without_end_is_one_line(tmp_path, case):
    folder = write_coco(tmp_path / "data" / "coco_captioning")
    JSON[case](folder / "coco2014_vocab.json")
    check_one_error(lambda: load_coco(folder), folder / "coco2014_vocab.json")


@pytest.mark.parametrize("case", JSON)
def test_a_results_json_without_end_is_one_line(tmp_path, case):
    JSON[case](tmp_path / "results.json")
    check_one_error(lambda: results.read_results(tmp_path / "results.json"), tmp_path / "results.json")


def a_megabyte_of(**fields):
    """A function that writes a .tar.gz of one such member."""
    return lambda path: make_tar(path, {"a": {"content": b"n" * MB, **fields}}, "w:gz")


def bzip2_in_zip(path):
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a", bytes(8 * MB), zipfile.ZIP_BZIP2)


def zip_in_zip(path):
    make_zip(path, {"inner.zip": zip_bytes({"bomb": bytes(8 * MB)})})


def sparse(path):
    """A member that claims a terabyte of holes."""
    header = bytearray(tarfile.TarInfo("a").tobuf(tarfile.GNU_FORMAT))
    header[156:157] = tarfile.GNUTYPE_SPARSE
    header[482] = 1  # more of the list of holes follows
    header[148:156] = b" " * 8
    header[148:156] = f"{sum(header):06o}\0 ".encode()
    path.write_bytes(bytes(header) + (bytes(504) + b"\1" + bytes(7)) * 2000)


BOMBS = {
    "a .tar.gz": (lambda path: make_tar(path, {"a": bytes(8 * MB)}, "w:gz"), "unpacks to more than"),
    "a .tar.bz2": (lambda path: make_tar(path, {"a": bytes(8 * MB)}, "w:bz2"), "unpacks to more than"),
    "a .tar.xz": (lambda path: make_tar(path, {"a": bytes(8 * MB)}, "w:xz"), "unpacks to more than"),
    "a long name": (a_megabyte_of(type=tarfile.GNUTYPE_LONGNAME), "not a whole"),
    "a long heading": (a_megabyte_of(type=tarfile.XHDTYPE), "not a whole"),
    "a heading for all": (a_megabyte_of(type=tarfile.XGLTYPE), "not a whole"),
    "a list of holes": (sparse, "not a whole"),
    "holes of the newer kind": (
        a_megabyte_of(
            pax_headers={"GNU.sparse.major": "1", "GNU.sparse.minor": "0"}, content=b"9999999\n" + b"0\n" * MB
        ),
        "not a whole",
    ),
    "bzip2 in a .zip": (bzip2_in_zip, "unpacked all at once"),
}


@pytest.mark.parametrize("case", BOMBS)
def test_an_archive_that_unpacks_without_end_is_refused_and_leaves_a_megabyte_at_most(tmp_path, case):
    make, says = BOMBS[case]
    make(tmp_path / "archive")
    check_one_error(lambda: files.unpack(tmp_path / "archive", tmp_path / "out", MB), tmp_path / "archive", says)
    assert sum(path.stat().st_size for path in tmp_path.glob("out/**/*") if path.is_file()) <= MB


def test_an_archive_in_an_archive_stays_packed(tmp_path):
    zip_in_zip(tmp_path / "archive")
    files.unpack(tmp_path / "archive", tmp_path / "out", MB)
    assert os.listdir(tmp_path / "out") == ["inner.zip"] and (tmp_path / "out" / "inner.zip").stat().st_size < MB


# ---- text files


LONG = {
    "a line of a gigabyte": lambda path: path.open("ab").truncate(1 << 30),
    "a line of letters": lambda path: path.write_bytes(path.read_bytes() + b"a" * (files.LONGEST + 1)),
    "a line of two bytes a letter": lambda path: path.write_bytes(path.read_bytes() + "é".encode() * 200_000),
}
TEXTS = {
    "captions": lambda path: list(captions._lines(path)),
    "a list": lambda path: captions.read_list(path, {"one": 1}),
    "reviews": reviews.read_labelled,
    "sentences": reviews.read_unlabelled,
}


@pytest.mark.parametrize("reader", TEXTS)
@pytest.mark.parametrize("case", LONG)
def test_a_line_without_end_is_one_line_that_names_it(tmp_path, reader, case):
    start = {"reviews": "1 good\n0 bad\n"}.get(reader, "one\n")
    (tmp_path / "file.txt").write_text(start)
    LONG[case](tmp_path / "file.txt")
    number = start.count("\n") + 1
    check_one_error(lambda: TEXTS[reader](tmp_path / "file.txt"), f"file.txt, line {number}: is longer than 131,072")


@pytest.mark.parametrize("reader", TEXTS)
def test_a_folder_in_the_place_of_a_text_file_is_called_a_folder(tmp_path, reader):
    check_one_error(lambda: TEXTS[reader](tmp_path), f"{tmp_path}: is a folder")


def test_a_line_as_long_as_it_may_be_is_read(tmp_path):
    (tmp_path / "file.txt").write_text("a" * files.LONGEST + "\nb\n")
    assert [len(line) for line in files.lines(tmp_path / "file.txt")] == [files.LONGEST, 1]


@pytest.mark.parametrize("bad", [b"\xff", b"\xed\xb2\x80", b"\xc3"], ids=["no letter", "half a pair", "cut"])
def test_bytes_that_are_no_text_are_named_with_their_line(tmp_path, bad):
    (tmp_path / "file.txt").write_bytes(b"\xef\xbb\xbfone\r\ntwo\rthr" + bad + b"ee\n")
    check_one_error(lambda: list(files.lines(tmp_path / "file.txt")), "file.txt, line 3: is not UTF-8")


def test_a_caption_of_more_words_than_all_others_could_be_padded_to_is_refused(tmp_path):
    own = own_photos(tmp_path / "own")
    file = own.with_suffix(".txt")
    file.write_text(file.read_text() + "p0.png#2\t" + "a " * (captions.MOST_WORDS + 1) + "\n")
    check_one_error(lambda: captions.read_captions(file, own), f"{file}, line 21: the caption has 251 words")


def test_a_caption_of_as_many_words_as_there_may_be_is_read(tmp_path):
    own = own_photos(tmp_path / "own")
    file = own.with_suffix(".txt")
    file.write_text(file.read_text() + "p0.png#2\t" + "a " * captions.MOST_WORDS + "\n")
    assert len(captions.read_captions(file, own)["p0.png"]) == 3


VECTORS = {
    "a line of 8 MB": ("good 1 2\nbad " + "1 " * (4 * MB), "line 2"),
    "a first line of 8 MB": ("bad " + "1 " * (4 * MB), "line 1"),
    "vectors of no number": ("1 0\ngood\n", "line 1: vectors of 0 numbers"),
    "vectors of a billion numbers": ("1 1000000000\ngood 1 2\n", "line 1: vectors of "),
    "a count of 10,000 digits": ("1 " + "9" * 10_000 + "\ngood 1 2\n", "line 1: vectors of "),
    "a tab between two numbers": ("the 1 2 3\ngood 1\t2 3 4\n", "line 2"),
    "two blanks": ("the 1 2 3\ngood 1  2\n", "line 2"),
    "a number too large": ("good 1 1e300 3\n", "line 1: holds a number that is not finite"),
}


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("case", VECTORS)
def test_absurd_vectors_are_one_line_that_names_theirs(tmp_path, case):
    text, said = VECTORS[case]
    (tmp_path / "vectors.txt").write_text(text)
    check_one_error(lambda: glove.read(tmp_path / "vectors.txt", ["good", "bad"]), tmp_path / "vectors.txt", said)


# ---- h5 files


H5 = "train2014_vgg16_fc7_pca.h5"


def h5_link(link):
    def put(path, other):
        with h5py.File(path, "w") as file:
            file["features"] = link(other)

    return put


def h5_stored_elsewhere(path, other):
    with h5py.File(path, "w") as file:
        file.create_dataset("features", (5, 4), np.float32, external=[(str(other), 0, 80)])


def h5_virtual(path, other):
    layout = h5py.VirtualLayout((5, 4), np.float32)
    layout[:] = h5py.VirtualSource(str(other), "features", (5, 4))
    with h5py.File(path, "w") as file:
        file.create_virtual_dataset("features", layout)


def h5_claim(shape, dtype=np.float32, **options):
    def put(path, other):
        with h5py.File(path, "w") as file:
            file.create_dataset("features", shape, dtype, **options)

    return put


def h5_packed(path, other):
    with h5py.File(path, "w") as file:
        file.create_dataset(
            "features", data=np.zeros((1 << 15, 1 << 10), np.float32), compression=1, chunks=(1024, 1024)
        )


H5_FILES = {
    "a link to another file": h5_link(lambda other: h5py.ExternalLink(str(other), "features")),
    "a soft link to a link to another file": h5_link(lambda other: h5py.SoftLink("/elsewhere")),
    "a link to itself": h5_link(lambda other: h5py.SoftLink("/features")),
    "numbers that lie in another file": h5_stored_elsewhere,
    "a view of another file": h5_virtual,
    "a terabyte on paper": h5_claim((1 << 20, 1 << 18), chunks=(1024, 16)),
    "two gigabytes on paper": h5_claim((1 << 19, 1 << 10), chunks=(1024, 16)),
    "zeros that were packed": h5_packed,
    "strings of any length": h5_claim((5, 4), h5py.string_dtype()),
    "lists of any length": h5_claim((5, 4), h5py.vlen_dtype(np.float32)),
    "references": h5_claim((5, 4), h5py.ref_dtype),
    "pairs": h5_claim((5, 4), np.dtype([("a", np.float32), ("b", np.float32)])),
}


@pytest.mark.parametrize("case", H5_FILES)
def test_features_that_are_not_whole_in_their_own_file_are_one_line(tmp_path, case):
    folder = write_coco(tmp_path / "data" / "coco_captioning")
    other = (folder / H5).rename(tmp_path / "other.h5")
    H5_FILES[case](folder / H5, other)
    if case == "a soft link to a link to another file":
        with h5py.File(folder / H5, "a") as file:
            file["elsewhere"] = h5py.ExternalLink(str(other), "features")
    check_one_error(lambda: load_coco(folder), folder / H5)


# ---- pictures


def png_with(kind, head, size=8):
    """A function that writes a PNG of 32 pixels with a chunk of `head` and `size` MB of zeros, packed."""

    def put(path):
        Image.new("RGB", (32, 32)).save(path, "png")
        content, packed = path.read_bytes(), zlib.compressobj(9)
        body = b"".join([head, *(packed.compress(bytes(MB)) for _ in range(size)), packed.flush()])
        path.write_bytes(content[:33] + chunk(kind, body) + content[33:])

    return put


def gif_of_many(path):
    """A GIF of 100,000 pictures."""
    Image.new("P", (16, 16)).save(path, "gif")
    content = path.read_bytes()
    start = content.index(b",\0\0\0\0")
    path.write_bytes(content[:start] + content[start:-1] * 100_000 + b";")


def tiff_with(change):
    """A TIFF whose list of tags `change(content, where it begins, how many there are)` changes."""

    def put(path):
        Image.new("RGB", (32, 32)).save(path, "tiff", tiffinfo={65000: "odd", 65001: "x" * 100})
        content = bytearray(path.read_bytes())
        start = struct.unpack("<I", content[4:8])[0]
        change(content, start, struct.unpack("<H", content[start : start + 2])[0])
        path.write_bytes(content)

    return put


def counts_too_large(content, start, count):
    for k in range(count):
        at = start + 2 + 12 * k
        if content[at : at + 2] == struct.pack("<H", 65001):
            content[at + 4 : at + 8] = struct.pack("<I", 0x7FFFFFFF)


def a_list_that_holds_itself(content, start, count):
    content[start + 2 + 12 * count : start + 6 + 12 * count] = struct.pack("<I", start)


WHOLE = {
    "100,000 pictures in a GIF": gif_of_many,
    "tags that nobody knows": tiff_with(lambda *_: None),
    "a tag of two gigabytes": tiff_with(counts_too_large),
    "a list of tags that holds itself": tiff_with(a_list_that_holds_itself),
}
BROKEN = {
    "a huge packed text": png_with(b"zTXt", b"name\0\0"),
    "a huge international text": png_with(b"iTXt", b"name\0\1\0\0\0"),
    "a huge colour profile": png_with(b"iCCP", b"name\0\0"),
    "PostScript": lambda path: path.write_text(
        "%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\nshowpage\n%%EOF\n"
    ),
    "a PDF": lambda path: path.write_text("%PDF-1.4\n1 0 obj\n<<>>\nendobj\n"),
    "a pickle": lambda path: path.write_bytes(pickle.dumps([1])),
}


@pytest.mark.parametrize("case", WHOLE)
def test_of_an_odd_picture_the_first_image_is_taken(tmp_path, case):
    WHOLE[case](tmp_path / "photo.jpg")
    opened = insects.open_photo(tmp_path / "photo.jpg")
    assert opened.mode == "RGB" and opened.size in ((16, 16), (32, 32)) and opened.getextrema() == ((0, 0),) * 3


@pytest.mark.parametrize("case", BROKEN)
def test_what_is_no_picture_or_hides_too_much_is_one_line(tmp_path, case):
    BROKEN[case](tmp_path / "photo.jpg")
    check_one_error(lambda: insects.open_photo(tmp_path / "photo.jpg"), tmp_path / "photo.jpg")


def iptc(path):
    """An IPTC record in which a picture in PostScript lies."""
    eps = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\nshowpage\n%%EOF\n"

    def field(record, number, body):
        return bytes([0x1C, record, number]) + struct.pack(">H", len(body)) + body

    head = field(3, 60, b"\1\1") + field(3, 20, b"\0\x09") + field(3, 30, b"\0\x09") + field(3, 120, b"\0\1")
    path.write_bytes(head + field(8, 10, eps))


@pytest.mark.parametrize("save", [BROKEN["PostScript"], iptc], ids=["by itself", "in an IPTC record"])
@pytest.mark.parametrize("name", ["photo.jpg", "photo.eps", "photo.iim"])
def test_no_picture_starts_ghostscript(tmp_path, monkeypatch, save, name):
    (tmp_path / "gs").write_text(f"#!/bin/sh\nmkdir {tmp_path}/mark\n")
    (tmp_path / "gs").chmod(0o700)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setattr("PIL.EpsImagePlugin.gs_binary", None)  # it looks for Ghostscript once
    save(tmp_path / name)
    check_one_error(lambda: insects.open_photo(tmp_path / name), tmp_path / name)
    assert not (tmp_path / "mark").exists()


# ---- models of absurd numbers


def caption_model(**given):
    """What a file of a captioning model holds; `given` changes it."""
    pretrained = weights.load("squeezenet1_1", "builtin")
    source = captions.PhotoFeatures({}, pretrained, "unused", "cpu")
    model = CaptioningRNN({word: k for k, word in enumerate(WORDS)}, 2048, 8, 8, "lstm", np.float32, 0)
    good = {"script": "image_captioning", "cell": "lstm", "data": "d", "vocabulary": WORDS, "features": source.name}
    good |= {"arch": "squeezenet1_1", "builtin": True, "features_id": source.id, "mean": torch.zeros(2048)}
    good |= {"spread": 1.0, "params": ic.to_tensors(model.params)}
    return good | given


def times(factor):
    good = caption_model()
    return {**good, "params": {name: w * factor for name, w in good["params"].items()}}


CAPTIONERS = {
    "parameters of 1e30": lambda: times(1e30),
    "parameters of 1e38": lambda: times(3e38),
    "a mean of 1e38": lambda: caption_model(mean=torch.full((2048,), -3e38), spread=1e-8),
    "a spread of 1e-320": lambda: caption_model(spread=1e-320),
    "a word with a control character": lambda: caption_model(vocabulary=[*WORDS[:-1], "\x1b[2J"]),
    "a word with a bell": lambda: caption_model(vocabulary=[*WORDS[:-1], "run\x07s"]),
    "a word that turns the text around": lambda: caption_model(vocabulary=[*WORDS[:-1], "\u202eruns"]),
    "a word with a blank": lambda: caption_model(vocabulary=[*WORDS[:-1], "runs fast"]),
    "an empty word": lambda: caption_model(vocabulary=[*WORDS[:-1], ""]),
    "an architecture without built-in weights": lambda: caption_model(arch="resnet18"),
    "built-in weights of no architecture": lambda: caption_model(arch=None),
}


@pytest.fixture
def photo(tmp_path):
    drawn("red", "ball", 3).save(tmp_path / "photo.png")
    return tmp_path / "photo.png"


def caption(command, tmp_path, photo, content):
    torch.save(content, tmp_path / "model.pt")
    return command(ic.main, "--caption", photo, "--model", tmp_path / "model.pt", "--results", tmp_path / "r")


def test_the_model_that_the_rows_below_spoil_is_good(tmp_path, command, photo):
    done = caption(command, tmp_path, photo, caption_model())
    assert done.status == 0 and done.err == "" and str(photo) in done.out


@pytest.mark.parametrize("case", CAPTIONERS)
def test_a_captioning_model_of_absurd_content_is_one_line_and_says_nothing(tmp_path, command, photo, case):
    done = caption(command, tmp_path, photo, CAPTIONERS[case]())
    assert refused(done, tmp_path / "model.pt")
    assert not (tmp_path / "r" / "image_captioning").exists()


def sentiment_models(size=4, hidden=4, factor=1.0, words=("", "_unknown_", "good", "bad")):
    """What a file of sentiment models holds, an LSTM of absurd sizes or numbers among them."""
    torch.manual_seed(0)
    bag, lstm = sentiment.BagOfWords(len(words)), sentiment.LSTM(len(words), 4, hidden=4)
    parts = {"bag": sentiment.saved_model(bag), "lstm": sentiment.saved_model(lstm)}
    parts["lstm"]["state"] = {name: w * factor for name, w in parts["lstm"]["state"].items()}
    parts["lstm"] |= {"size": size, "hidden": hidden}
    return {"script": "sentiment", "data": "d", "weights": "w", "vocabulary": list(words), "models": parts}


def endless_average():
    """Averaged embeddings whose score is infinity less infinity."""
    average = sentiment.AverageEmbeddings(4, 2)
    with torch.no_grad():
        average.embedding.weight.fill_(3e38)
        average.linear.weight.copy_(torch.tensor([[3e38, -3e38]]))
    return {**sentiment_models(), "models": {"average": sentiment.saved_model(average)}}


SENTIMENTS = {
    "parameters of 1e38": endless_average,
    "a hidden size that its file has not": lambda: sentiment_models(hidden=10_000),
    "vectors larger than its file": lambda: sentiment_models(size=10_000),
    "double precision": lambda: sentiment_models(factor=torch.ones((), dtype=torch.float64).expand(1)),
    "a word with a control character": lambda: sentiment_models(words=("", "_unknown_", "good", "\x1b[2J")),
}


@pytest.mark.parametrize("case", SENTIMENTS)
def test_a_file_of_sentiment_models_of_absurd_content_is_one_line(tmp_path, command, case):
    torch.save(SENTIMENTS[case](), tmp_path / "models.pt")
    done = command(sentiment.main, "--predict", "good", "--model", tmp_path / "models.pt", "--results", tmp_path / "r")
    assert refused(done, tmp_path / "models.pt")


def test_the_sentiment_models_that_the_rows_above_spoil_are_good(tmp_path, command):
    torch.save(sentiment_models(), tmp_path / "models.pt")
    done = command(sentiment.main, "--predict", "good", "--model", tmp_path / "models.pt", "--results", tmp_path / "r")
    assert done.status == 0 and done.err == "" and done.out.count("%") == 2


def test_words_that_cannot_be_printed_are_unknown_to_a_model():
    sentences = [["good", "\x1b[2J", "\u200b", "bad"]] * 2
    assert sentiment.make_vocabulary(sentences) == ["", "_unknown_", "good", "bad"]


def classifier(factor=1.0, classes=("ants", "bees")):
    torch.manual_seed(0)
    network = weights.without_auxiliaries(weights.build(ARCH, len(classes)))
    state = {k: v * factor if v.is_floating_point() else v for k, v in network.state_dict().items()}
    about = {"script": "transfer_learning", "scenario": "freeze", "arch": ARCH, "data": "d"}
    return about | {"classes": list(classes), "val_size": 64, "state": state}


def test_a_classifier_of_absurd_numbers_is_one_line_and_draws_nothing(tmp_path, command, photo):
    torch.save(classifier(factor=1e30), tmp_path / "model.pt")
    done = command(tl.main, "--predict", photo, "--model", tmp_path / "model.pt", "--results", tmp_path / "r")
    assert refused(done, tmp_path / "model.pt")
    assert not (tmp_path / "r").exists()


def test_weights_of_absurd_numbers_are_one_line_where_features_are_made_of_them(tmp_path, command):
    own = own_photos(tmp_path / "own")
    (tmp_path / "data" / "weights").mkdir(parents=True)
    state = weights.load("squeezenet1_1", "builtin").state
    torch.save({k: v * 1e30 for k, v in state.items()}, tmp_path / "data" / "weights" / "squeezenet1_1.pth")
    given = ["--photos", own, "--captions", own.with_suffix(".txt"), "--data", tmp_path / "data"]
    assert refused(command(ic.main, *given, "--results", tmp_path / "r"), "squeezenet1_1.pth", "not finite")


def test_features_in_the_cache_of_another_size_are_one_line(tmp_path):
    folder = own_photos(tmp_path / "own")
    paths = sorted(folder.iterdir())
    for split in ("train", "val"):
        source = captions.PhotoFeatures(
            {"train": paths[:3], "val": paths[3:6]}, weights.load("squeezenet1_1", "builtin"), tmp_path / "cache", "cpu"
        )
        source.read(split, range(3))
    [first, _] = sorted((tmp_path / "cache").iterdir())
    np.save(first, np.zeros((3, 7), np.float32))
    source.width = None
    check_one_error(lambda: [source.read(split, range(3)) for split in ("train", "val")], tmp_path / "cache", "remove")


# ---- names and texts that are shown


def check_clean(done):
    """The command has ended well and printed nothing but printable lines."""
    assert done.status == 0 and done.err == "" and all(map(str.isprintable, done.out.splitlines()))


def test_classes_with_odd_names_are_trained_shown_and_predicted_on_clean_lines(tmp_path, photos, command):
    for split in ("train", "val"):
        for name in ODD_FILE_NAMES:
            shutil.copytree(photos / split / "ants", photos / split / name)
    given = ["--photos", photos, "--data", "builtin", "--epochs", 1, "--scenarios", "freeze"]
    done = command(tl.main, *given, "--results", tmp_path / "r")
    assert done.status == 0 and done.err == ""
    odd = [next((photos / "val" / name).iterdir()).rename(photos / f"{name}.png") for name in ODD_FILE_NAMES]
    done = command(tl.main, "--predict", *odd, "--results", tmp_path / "r")
    check_clean(done)
    assert all(results.shown(name, 30) in done.out for name in ODD_FILE_NAMES)


def test_photos_with_odd_names_are_captioned_on_clean_lines(tmp_path, photo, command):
    odd = [shutil.copy(photo, tmp_path / f"{name}.png") for name in ODD_FILE_NAMES]
    torch.save(caption_model(data="".join(HOSTILE_NAMES)), tmp_path / "model.pt")
    check_clean(command(ic.main, "--caption", *odd, "--model", tmp_path / "model.pt", "--results", tmp_path / "r"))


def test_captions_and_photos_of_odd_texts_are_learned_and_shown_on_clean_lines(tmp_path, command):
    own, names = own_photos(tmp_path / "own"), [name.replace("\n", "\t") for name in ODD_FILE_NAMES]
    lines = own.with_suffix(".txt").read_text().splitlines()
    for path, name in zip(sorted(own.iterdir()), itertools.cycle(names), strict=False):
        if "\t" not in name:  # which ends a photo's name there
            lines = [line.replace(path.name, f"{name}{path.name}") for line in lines]
            path.rename(own / f"{name}{path.name}")
    lines = [f"{line} {name}" for line, name in zip(lines, itertools.cycle(names), strict=False)]
    own.with_suffix(".txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    given = ["--photos", own, "--captions", own.with_suffix(".txt"), "--data", "builtin", "--epochs", 1, "--hidden", 4]
    check_clean(command(ic.main, *given, "--cells", "rnn", "--results", tmp_path / "r"))
    examples = (tmp_path / "r" / "image_captioning" / "examples.txt").read_text(encoding="utf-8")
    assert all(map(str.isprintable, examples.splitlines()))


@pytest.mark.parametrize("name", ODD_FILE_NAMES)
def test_a_weights_file_with_an_odd_name_is_named_on_clean_lines(tmp_path, name):
    (tmp_path / "weights").mkdir()
    shutil.copy(weights.BUILTIN / "squeezenet1_1.pth", tmp_path / "weights" / f"squeezenet1_1-{name}.pth")
    assert weights.load("squeezenet1_1", tmp_path).name.isprintable()


def test_sentences_with_odd_letters_are_predicted_on_clean_lines(tmp_path, command):
    torch.save(sentiment_models(), tmp_path / "models.pt")
    check_clean(command(sentiment.main, "--predict", *HOSTILE_NAMES, "--model", tmp_path / "models.pt"))


@pytest.mark.parametrize("text", HOSTILE_NAMES)
def test_odd_text_in_a_figure_is_drawn_as_it_is_written(tmp_path, text):
    figure = plot.picture_grid([Image.new("RGB", (8, 8))], [(results.shown(text), True)], results.shown(text))
    plot.save_figure(figure, tmp_path / "figure.png")
    assert [axes.get_title() for axes in figure.axes] == [results.shown(text)]
    assert not any(label.get_parse_math() for label in (figure.axes[0].title, figure._suptitle))


# ---- memory


MEASURE = """
import resource, sys
from data import DataError, captions, files, glove, insects, results, reviews, tensors
from pathlib import Path
peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
before = peak()
try:
    {call}
    said = "read"
except DataError as error:
    said = str(error)
print((peak() - before) // 1024, said)
"""


def save_rgba(path):
    Image.new("RGBA", (9400, 9400)).save(path, "png")


def save_grey(path):
    Image.fromarray(np.zeros((9400, 9400), np.int32)).save(path, "tiff", compression="tiff_lzw")


def save_long_vocabulary(path):
    write_coco(path)
    (path / "coco2014_vocab.json").write_text("[" + "[]," * (20 * MB) + "[]]")


HUNGRY = {  # what makes the file, and what reads it
    "a captions file of a gigabyte in one line": (LONG["a line of a gigabyte"], "list(captions._lines(Path(path)))"),
    "reviews of a gigabyte in one line": (LONG["a line of a gigabyte"], "reviews.read_labelled(path)"),
    "sentences of a gigabyte in one line": (LONG["a line of a gigabyte"], "reviews.read_unlabelled(path)"),
    "vectors of a gigabyte in one line": (LONG["a line of a gigabyte"], "glove.read(path, ['good'])"),
    "a packed tensor of 1.5 GB": (lambda path: save_zip_bomb(path, 1500 * MB), "tensors.load_tensors(path, 'x')"),
    "a picture with see-through parts": (save_rgba, "insects.open_photo(path)"),
    "a picture of 32 bit": (save_grey, "insects.open_photo(path)"),
    "a huge packed text in a picture": (png_with(b"zTXt", b"name\0\0", 256), "insects.open_photo(path)"),
    "a vocabulary of 60 MB of empty lists": (save_long_vocabulary, "captions.read_coco(Path(path), 'pca')"),
    "features of two gigabytes on paper": (
        lambda path: (write_coco(path), H5_FILES["two gigabytes on paper"](path / H5, None)),
        "captions.read_coco(Path(path), 'pca')",
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("case", HUNGRY)
def test_a_hostile_file_takes_less_than_a_gigabyte_beside_a_photo_as_large_as_may_be(tmp_path, case):
    make, call = HUNGRY[case]
    path = tmp_path / "file"
    path.touch()
    if "vocabulary" in case or "paper" in case:
        path.unlink()
    make(path)
    code = "import sys; path = sys.argv[1]\n" + MEASURE.replace("{call}", call)
    done = run_python("-c", code, path)
    assert done.stderr == ""
    photo = 480 if "picture" in case else 0  # what an RGB photo of 89 million pixels takes
    assert int(done.stdout.split()[0]) < 1000 + photo, done.stdout


# ---- checkpoints that were changed


HISTORIES = {
    "nothing": lambda history: None,
    "a number": lambda history: 10**9,
    "a list": lambda history: [1, 2],
    "no names": lambda history: {},
    "texts": lambda history: {name: ["x"] * len(values) for name, values in history.items()},
    "tables": lambda history: {name: {} for name in history},
    "tensors": lambda history: {name: torch.zeros(len(values)) for name, values in history.items()},
    "lists of unequal length": lambda history: {**history, "seconds": [*history["seconds"], 1.0]},
}


@pytest.mark.parametrize("name", SCRIPTS)
def test_a_checkpoint_whose_history_was_changed_is_one_line_with_resume(
    tmp_path, tiny_flags, command, monkeypatch, name
):
    small = {cell: dataclasses.replace(recipe, save_every=1) for cell, recipe in ic.SMALL.items()}
    monkeypatch.setattr(ic, "SMALL", small)
    argv = [*tiny_flags(name), "--results", tmp_path]
    with ctrl_c_at_save(2):  # the first is checkpoint-start.pt
        assert command(SCRIPTS[name].main, *argv).status == 130
    [path] = {*(tmp_path / name).glob("checkpoint-*.pt")} - {tmp_path / name / "checkpoint-start.pt"}
    good = torch.load(path, weights_only=True)
    for change in HISTORIES.values():
        torch.save({**good, "state": {**good["state"], "history": change(good["state"]["history"])}}, path)
        assert refused(command(SCRIPTS[name].main, *argv, "--resume"), path, "--resume")
