"""Hostile files and absurd sizes: nothing in them runs, nothing else is touched, the answer is one line or a right one.

Rows for single readers stand with their tests: archives in test_files.py and test_download.py, pictures in
test_insects.py, weights in test_weights.py, h5 files in test_captions.py, models in the tests of the scripts.
"""

import dataclasses
import functools
import io
import os
import pickle
import shutil
import struct
import subprocess
import sys
import tarfile
import zipfile
import zlib

import h5py
import numpy as np
import pytest
import torch
from PIL import Image

import image_captioning as ic
import sentiment
import style_transfer
import transfer_learning as tl
from data import DataError, captions, files, glove, insects, plot, results, reviews, weights
from rnn import CaptioningRNN
from tests.conftest import ARCH, REPO, Bomb, python_environment, snapshot
from tests.test_captions import drawn, load_coco, write_coco

MB = 1 << 20
WORDS = [*captions.SPECIAL, "a", "dog", "runs"]
HOSTILE_NAMES = ["<b>x</b>&amp;", "\x1b[2J\x1b[31mred", "$\\frac{1}{0}$ $", "\u202egnp", "a\nb", "%s {0} \\n"]


@pytest.fixture(autouse=True)
def no_bars(monkeypatch):
    """Without progress bars stderr holds the errors alone."""
    for module in (captions, ic, sentiment, tl, style_transfer, insects, glove):
        monkeypatch.setattr(module, "tqdm", functools.partial(module.tqdm, disable=True))


def check_one_line(done, *named):
    assert done.status == 2, done.out
    assert done.err.startswith("error: ") and done.err.count("\n") == 1 and done.err[:-1].isprintable(), done.err
    assert all(str(name) in done.err for name in named), done.err


def check_one_error(call, *named):
    with pytest.raises(DataError) as error:
        call()
    assert "\n" not in str(error.value) and all(str(name) in str(error.value) for name in named), str(error.value)


# ---- what would run code


def pickled(path, mark):
    path.write_bytes(pickle.dumps(Bomb(mark)))


def saved_by_torch(path, mark):
    torch.save({"identity": Bomb(mark), "state": {}}, path)


def saved_in_the_old_way(path, mark):
    torch.save({"identity": Bomb(mark), "state": {}}, path, _use_new_zipfile_serialization=False)


def saved_by_numpy(path, mark):
    with open(path, "wb") as file:
        np.save(file, np.array([Bomb(mark)] * 3, object), allow_pickle=True)


def zipped_by_numpy(path, mark):
    with open(path, "wb") as file:
        np.savez(file, features=np.array([Bomb(mark)] * 3, object))


CODE = [pickled, saved_by_torch, saved_in_the_old_way, saved_by_numpy, zipped_by_numpy]


@pytest.mark.parametrize("save", CODE)
def test_the_files_below_would_run_code_in_careless_hands(tmp_path, save):
    save(tmp_path / "file", tmp_path / "mark")
    if save in (saved_by_numpy, zipped_by_numpy):
        found = np.load(tmp_path / "file", allow_pickle=True)
        assert found is not None and (save is saved_by_numpy or found["features"] is not None)
    else:
        torch.load(tmp_path / "file", weights_only=False) if save is not pickled else pickle.loads(
            (tmp_path / "file").read_bytes()
        )
    assert (tmp_path / "mark").is_dir()


MODELS = {
    "transfer_learning": (tl.main, ["--predict"]),
    "image_captioning": (ic.main, ["--caption"]),
    "sentiment": (sentiment.main, ["--predict"]),
}


@pytest.mark.parametrize("script", MODELS)
@pytest.mark.parametrize("save", CODE)
def test_a_model_file_that_would_run_code_does_not(tmp_path, command, script, save):
    main, flags = MODELS[script]
    Image.new("RGB", (32, 32)).save(tmp_path / "photo.png")
    save(tmp_path / "model.pt", tmp_path / "mark")
    before = snapshot(tmp_path)
    done = command(main, *flags, tmp_path / "photo.png", "--model", tmp_path / "model.pt", "--results", tmp_path / "r")
    check_one_line(done, tmp_path / "model.pt")
    assert snapshot(tmp_path) == before


WEIGHTS = {
    "transfer_learning": (tl.main, ["--arch", ARCH, "--photos", "{photos}"], ARCH),
    "style_transfer": (style_transfer.main, ["--content", "{photo}", "--style", "{photo}"], "squeezenet1_1"),
    "image_captioning": (ic.main, ["--photos", "{own}", "--captions", "{own}.txt"], "squeezenet1_1"),
}


def own_photos(folder, count=10):
    """A folder of photos of one's own and their captions beside it."""
    folder.mkdir()
    for k in range(count):
        drawn("red", "ball", k).save(folder / f"p{k}.png")
    text = "".join(f"p{k}.png#{j}\ta red ball number {k}\n" for k in range(count) for j in range(2))
    folder.with_suffix(".txt").write_text(text)
    return folder


@pytest.mark.parametrize("script", WEIGHTS)
@pytest.mark.parametrize("save", CODE)
def test_a_weights_file_that_would_run_code_does_not(tmp_path, tiny_photos, command, script, save):
    main, flags, arch = WEIGHTS[script]
    (tmp_path / "data" / "weights").mkdir(parents=True)
    path = tmp_path / "data" / "weights" / f"{arch}.pth"
    save(path, tmp_path / "mark")
    places = {"photos": tiny_photos, "photo": next(tiny_photos.rglob("*.png")), "own": own_photos(tmp_path / "own")}
    given = [flag.format(**places) for flag in flags]
    before = snapshot(tmp_path)
    check_one_line(command(main, *given, "--data", tmp_path / "data", "--results", tmp_path / "r"), path)
    assert {k: v for k, v in snapshot(tmp_path).items() if not k.startswith("r")} == before  # the cache may be there


RUNS = {
    "transfer_learning": (tl.main, ["--photos", "{photos}", "--epochs", "1", "--scenarios", "freeze"], "freeze"),
    "style_transfer": (
        style_transfer.main,
        ["--content", "{photo}", "--style", "{photo}", "--steps", "1", "--size", "32", "--style-size", "32"],
        "stylized",
    ),
    "image_captioning": (
        ic.main,
        ["--photos", "{own}", "--captions", "{own}.txt", "--epochs", "1", "--hidden", "4", "--cells", "rnn"],
        "rnn",
    ),
    "sentiment": (sentiment.main, ["--models", "bag", "--epochs", "1"], "bag-0"),
}


def tiny_run(script, tmp_path, tiny_photos):
    """The main function and the flags of the smallest run of a script, and its checkpoint's name."""
    main, flags, checkpoint = RUNS[script]
    places = {"photos": tiny_photos, "photo": next(tiny_photos.rglob("*.png")), "own": own_photos(tmp_path / "own")}
    data = "builtin"
    if script == "sentiment":
        data = tmp_path / "data"
        (data / "glove").mkdir(parents=True)
        for name in reviews.SPLITS:
            (data / f"{name}.txt").write_text("1 good food\n0 bad food\n" * 8)
        (data / "glove" / "glove.6B.50d.txt").write_text("good 1 0\nbad 0 1\nfood 1 1\n")
    flags = [flag.format(**places) for flag in flags]
    return main, [*flags, "--data", data, "--results", tmp_path / "r"], f"checkpoint-{checkpoint}.pt"


@pytest.mark.parametrize("script", RUNS)
@pytest.mark.parametrize("save", CODE)
def test_a_checkpoint_that_would_run_code_does_not_with_resume(tmp_path, tiny_photos, command, script, save):
    main, flags, name = tiny_run(script, tmp_path, tiny_photos)
    folder = tmp_path / "r" / script
    folder.mkdir(parents=True)
    save(folder / name, tmp_path / "mark")
    check_one_line(command(main, *flags, "--resume"), folder / name, "--resume")
    assert not (tmp_path / "mark").exists() and os.listdir(folder) == [name]


@pytest.mark.parametrize("save", CODE)
def test_a_features_cache_that_would_run_code_does_not_and_is_made_anew(tmp_path, save):
    folder = own_photos(tmp_path / "own")
    source = captions.PhotoFeatures(
        {"val": sorted(folder.iterdir())[:3]}, weights.load("squeezenet1_1", "builtin"), tmp_path / "cache", "cpu"
    )
    good = source.read("val", range(3))
    [path] = (tmp_path / "cache").iterdir()
    save(path, tmp_path / "mark")
    assert np.array_equal(source.read("val", range(3)), good) and not (tmp_path / "mark").exists()


@pytest.mark.parametrize("save", CODE)
def test_a_cache_of_trained_vectors_that_would_run_code_does_not(tmp_path, save):
    sentences = [["good", "food"], ["good", "food"]]
    path = glove.trained(sentences, tmp_path / "cache")
    save(path, tmp_path / "mark")
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
    check_one_error(lambda: results.load_tensors(tmp_path / "model.pt", "a model"), tmp_path / "model.pt")


@pytest.mark.parametrize("case", ["a results.json", "a list in JSON", "a web page"])
def test_a_text_file_is_called_no_pytorch_file_and_not_one_that_could_run_code(tmp_path, case):
    TENSORS[case](tmp_path / "model.pt")
    check_one_error(lambda: results.load_tensors(tmp_path / "model.pt", "a model"), "no PyTorch file")


def test_a_folder_in_the_place_of_a_model_is_called_a_folder(tmp_path):
    check_one_error(lambda: results.load_tensors(tmp_path, "a model"), f"{tmp_path}: is a folder")


def test_a_model_of_several_levels_and_of_tensors_with_two_names_is_read(tmp_path):
    shared = torch.arange(1000.0)
    content = {"a": {"b": [{"c": (shared, [1, "x", None])}]}, "again": shared}
    torch.save(content, tmp_path / "good.pt")
    found = results.load_tensors(tmp_path / "good.pt", "a model")
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


def tar_of(path, *members, mode="w:gz"):
    """A .tar of pairs: a TarInfo's fields, its content."""
    with tarfile.open(path, mode) as archive:
        for fields, content in members:
            member = tarfile.TarInfo("a")
            for field, value in fields.items():
                setattr(member, field, value)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))


def bzip2_in_zip(path):
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a", bytes(50 * MB), zipfile.ZIP_BZIP2)


def zip_in_zip(path):
    inner = io.BytesIO()
    with zipfile.ZipFile(inner, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("bomb", bytes(50 * MB))
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("inner.zip", inner.getvalue())


def sparse(path):
    """A member that claims a terabyte of holes."""
    header = bytearray(tarfile.TarInfo("a").tobuf(tarfile.GNU_FORMAT))
    header[156:157] = tarfile.GNUTYPE_SPARSE
    header[482] = 1  # more of the list of holes follows
    header[148:156] = b" " * 8
    header[148:156] = f"{sum(header):06o}\0 ".encode()
    path.write_bytes(bytes(header) + (bytes(504) + b"\1" + bytes(7)) * 2000)


BOMBS = {
    "a .tar.gz": (lambda path: tar_of(path, ({}, bytes(50 * MB))), "unpacks to more than"),
    "a .tar.bz2": (lambda path: tar_of(path, ({}, bytes(50 * MB)), mode="w:bz2"), "unpacks to more than"),
    "a .tar.xz": (lambda path: tar_of(path, ({}, bytes(50 * MB)), mode="w:xz"), "unpacks to more than"),
    "a long name": (lambda path: tar_of(path, ({"type": tarfile.GNUTYPE_LONGNAME}, b"n" * MB)), "not a whole"),
    "a long heading": (lambda path: tar_of(path, ({"type": tarfile.XHDTYPE}, b"n" * MB)), "not a whole"),
    "a heading for all": (lambda path: tar_of(path, ({"type": tarfile.XGLTYPE}, b"n" * MB)), "not a whole"),
    "a list of holes": (sparse, "not a whole"),
    "holes of the newer kind": (
        lambda path: tar_of(
            path,
            ({"pax_headers": {"GNU.sparse.major": "1", "GNU.sparse.minor": "0"}}, b"9999999\n" + b"0\n" * MB),
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
    "a line of 100 MB": ("good 1 2\nbad " + "1 " * (50 * MB), "line 2"),
    "a first line of 100 MB": ("bad " + "1 " * (50 * MB), "line 1"),
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


def png_chunk(kind, body):
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png_with(kind, head):
    """A PNG of 32 pixels with a chunk of `head` and 256 MB of zeros, packed."""

    def put(path):
        Image.new("RGB", (32, 32)).save(path, "png")
        content, packed = path.read_bytes(), zlib.compressobj(9)
        body = b"".join([head, *(packed.compress(bytes(MB)) for _ in range(256)), packed.flush()])
        path.write_bytes(content[:33] + png_chunk(kind, body) + content[33:])

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
    "a web page": lambda path: path.write_text("<!DOCTYPE html><html><script>x</script></html>"),
    "a drawing of elements": lambda path: path.write_text('<?xml version="1.0"?><svg width="9" height="9"/>'),
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
    check_one_line(done, tmp_path / "model.pt")
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
    check_one_line(done, tmp_path / "models.pt")


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
    check_one_line(done, tmp_path / "model.pt")
    assert not (tmp_path / "r").exists()


def test_weights_of_absurd_numbers_are_one_line_where_features_are_made_of_them(tmp_path, command):
    own = own_photos(tmp_path / "own")
    (tmp_path / "data" / "weights").mkdir(parents=True)
    state = weights.load("squeezenet1_1", "builtin").state
    torch.save({k: v * 1e30 for k, v in state.items()}, tmp_path / "data" / "weights" / "squeezenet1_1.pth")
    given = ["--photos", own, "--captions", own.with_suffix(".txt"), "--data", tmp_path / "data"]
    check_one_line(command(ic.main, *given, "--results", tmp_path / "r"), "squeezenet1_1.pth", "not finite")


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


@pytest.mark.parametrize("name", HOSTILE_NAMES)
def test_a_class_with_an_odd_name_is_trained_shown_and_predicted_on_clean_lines(tmp_path, photos, command, name):
    name = name.replace("/", "\u2044")
    for split in ("train", "val"):
        (photos / split / "ants").rename(photos / split / name)
    given = [
        "--photos",
        photos,
        "--data",
        "builtin",
        "--epochs",
        1,
        "--scenarios",
        "freeze",
        "--results",
        tmp_path / "r",
    ]
    done = command(tl.main, *given)
    assert done.status == 0 and done.err == ""
    photo = next((photos / "val" / name).iterdir())
    odd = photo.rename(photo.with_name(f"{name}.png"))
    done = command(tl.main, "--predict", odd, "--results", tmp_path / "r")
    assert done.status == 0 and done.err == "" and all(map(str.isprintable, done.out.splitlines()))
    assert results.shown(name, 30) in done.out


@pytest.mark.parametrize("name", HOSTILE_NAMES)
def test_a_photo_with_an_odd_name_is_captioned_on_clean_lines(tmp_path, photo, command, name):
    odd = photo.rename(tmp_path / (name.replace("/", "\u2044") + ".png"))
    done = caption(command, tmp_path, odd, caption_model(data=name, features=caption_model()["features"]))
    assert done.status == 0 and done.err == "" and all(map(str.isprintable, done.out.splitlines()))


@pytest.mark.parametrize("name", HOSTILE_NAMES)
def test_captions_and_photos_of_odd_texts_are_learned_and_shown_on_clean_lines(tmp_path, command, name):
    name = name.replace("/", "\u2044").replace("\n", "\t")  # a line break would end the line of the captions file
    own = own_photos(tmp_path / "own")
    for path in list(own.iterdir()):
        path.rename(own / f"{name}{path.name}")
    lines = own.with_suffix(".txt").read_text().splitlines()
    lines = [f"{name}{line} {name}" for line in lines] if "\t" not in name else lines
    if "\t" in name:  # nor can a photo's name hold a tab
        for path in list(own.iterdir()):
            path.rename(own / path.name.removeprefix(name))
        lines = [f"{line} {name}" for line in lines]
    own.with_suffix(".txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    given = ["--photos", own, "--captions", own.with_suffix(".txt"), "--data", "builtin", "--epochs", 1, "--hidden", 4]
    done = command(ic.main, *given, "--cells", "rnn", "--results", tmp_path / "r")
    assert done.status == 0 and done.err == "" and all(map(str.isprintable, done.out.splitlines()))
    examples = (tmp_path / "r" / "image_captioning" / "examples.txt").read_text(encoding="utf-8")
    assert all(map(str.isprintable, examples.splitlines()))


@pytest.mark.parametrize("name", HOSTILE_NAMES)
def test_a_weights_file_with_an_odd_name_is_named_on_clean_lines(tmp_path, name):
    (tmp_path / "weights").mkdir()
    path = tmp_path / "weights" / f"squeezenet1_1-{name.replace('/', chr(0x2044))}.pth"
    shutil.copy(weights.BUILTIN / "squeezenet1_1.pth", path)
    assert weights.load("squeezenet1_1", tmp_path).name.isprintable()


@pytest.mark.parametrize("text", HOSTILE_NAMES)
def test_a_sentence_with_odd_letters_is_predicted_on_clean_lines(tmp_path, command, text):
    torch.save(sentiment_models(), tmp_path / "models.pt")
    done = command(sentiment.main, "--predict", text, "--model", tmp_path / "models.pt", "--results", tmp_path / "r")
    assert done.status == 0 and done.err == "" and all(map(str.isprintable, done.out.splitlines()))


@pytest.mark.parametrize("text", HOSTILE_NAMES)
def test_odd_text_in_a_figure_is_drawn_as_it_is_written(tmp_path, text):
    figure = plot.picture_grid([Image.new("RGB", (8, 8))], [(results.shown(text), True)], results.shown(text))
    plot.save_figure(figure, tmp_path / "figure.png")
    assert [axes.get_title() for axes in figure.axes] == [results.shown(text)]
    assert not any(label.get_parse_math() for label in (figure.axes[0].title, figure._suptitle))


# ---- memory


MEASURE = """
import resource, sys
from data import DataError, captions, files, glove, insects, results, reviews
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
    "a packed tensor of 1.5 GB": (lambda path: save_zip_bomb(path, 1500 * MB), "results.load_tensors(path, 'x')"),
    "a picture with see-through parts": (save_rgba, "insects.open_photo(path)"),
    "a picture of 32 bit": (save_grey, "insects.open_photo(path)"),
    "a huge packed text in a picture": (png_with(b"zTXt", b"name\0\0"), "insects.open_photo(path)"),
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
    done = subprocess.run(
        [sys.executable, "-c", code, path], cwd=REPO, env=python_environment(), capture_output=True, text=True
    )
    assert done.stderr == ""
    photo = 480 if "picture" in case else 0  # what an RGB photo of 89 million pixels takes
    assert int(done.stdout.split()[0]) < 1000 + photo, done.stdout


# ---- checkpoints that were changed


@pytest.fixture
def stopped(monkeypatch):
    """A function that makes a run end, as by Ctrl-C, when a checkpoint is saved for the second time."""

    def stop(main, flags, command):
        save, left = results.Checkpoint.save, [2]

        def save_and_stop(checkpoint, state):
            save(checkpoint, state)
            left[0] -= 1
            if left[0] == 0:
                raise KeyboardInterrupt

        with monkeypatch.context() as patch:
            patch.setattr(results.Checkpoint, "save", save_and_stop)
            assert command(main, *flags).status == 130

    return stop


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


@pytest.mark.parametrize("script", RUNS)
def test_a_checkpoint_whose_history_was_changed_is_one_line_with_resume(
    tmp_path, tiny_photos, command, stopped, monkeypatch, script
):
    small = {cell: dataclasses.replace(recipe, save_every=1) for cell, recipe in ic.SMALL.items()}
    monkeypatch.setattr(ic, "SMALL", small)
    main, flags, name = tiny_run(script, tmp_path, tiny_photos)
    stopped(main, flags, command)
    path = tmp_path / "r" / script / name
    good = torch.load(path, weights_only=True)
    for change in HISTORIES.values():
        torch.save({**good, "state": {**good["state"], "history": change(good["state"]["history"])}}, path)
        check_one_line(command(main, *flags, "--resume"), path, "--resume")
    torch.save(good, path)
    assert command(main, *flags, "--resume").status == 0
