"""Hostile files and absurd sizes: nothing in them runs, nothing else is touched, the answer is one line or a right one.

Rows for single readers stand with their tests: archives in test_files.py and test_download.py, pictures in
test_insects.py, weights in test_weights.py, h5 files in test_captions.py, models in the tests of the scripts.
"""

import functools
import io
import json
import os
import pickle
import shutil
import stat
import struct
import subprocess
import sys
import tarfile
import zipfile
import zlib
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from PIL import Image

import image_captioning as ic
import sentiment
import style_transfer
import transfer_learning as tl
from data import DataError, captions, download, files, glove, insects, results, reviews, weights
from rnn import CaptioningRNN
from tests.conftest import ARCH, REPO, Bomb, python_environment, snapshot
from tests.test_captions import drawn, load_coco, spoil_words, write_coco, write_flickr8k

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
    (tmp_path / "file.txt").write_text("a" * (files.LONGEST - 1) + "\nb\n")
    assert [len(line) for line in files.lines(tmp_path / "file.txt")] == [files.LONGEST - 1, 1]


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

