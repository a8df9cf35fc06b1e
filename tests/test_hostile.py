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
