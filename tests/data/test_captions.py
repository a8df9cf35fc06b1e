"""data/captions.py: every caption format is read correctly, and an error names the wrong file and line."""

import json
import re

import h5py
import numpy as np
import pytest
from PIL import Image

import data
from bleu_utils import SPECIAL
from common.cli import UserError
from data import captions
from data.captions import END, LISTS, NULL, SPLITS, START, TOKENS, UNK, tokenize

COUNTS = {"train": 16, "val": 3, "test": 2}


@pytest.fixture
def folder(tmp_path):
    """A tiny set in Flickr8k's layout: photos train0.png ..., two captions per photo."""
    folder = tmp_path / "flickr8k"
    (folder / "images").mkdir(parents=True)
    lines = []
    for split, count in COUNTS.items():
        names = [f"{split}{k}.png" for k in range(count)]
        for name, thing in zip(names, 6 * ["square", "ball", "bar"], strict=False):
            Image.new("RGB", (24, 18), (6 * len(lines), 90, 90)).save(folder / "images" / name)
            lines += [f"{name}#0\tA {thing} .", f"{name}#1\tThere is a {thing}, and it's {split} !"]
        (folder / LISTS[split]).write_text("".join(f"{name}\n" for name in names))
    lines.append("2258277193_586949ec62.jpg.1#0\tA line without a photo , as in the published file .")
    (folder / TOKENS).write_text("".join(f"{line}\n" for line in lines))
    return folder


def read(folder, **options):
    return captions.load(folder.parent, folder.parent / "cache", "cpu", arch="squeezenet1_1", **options)


@pytest.mark.parametrize(
    "text, words",
    [
        ("Two DOGS, one cat; no\tbird!", "two dogs one cat no bird"),
        ("the dog's ball , it 's the dogs' ball", "the dog 's ball it 's the dogs ball"),
        ("it isn't , he doesn't", "it isn't he doesn't"),
        ("a t-shirt - a black-and-white one", "a t-shirt a black-and-white one"),
        ('"Über" l\'été Кошка 蟻', "über l'été кошка 蟻"),
        ("le cafe\u0301 nai\u0308ve", "le caf\u00e9 na\u00efve"),
        ("खाना बहुत स्वादिष्ट था", "खाना बहुत स्वादिष्ट था"),
        ("<UNK> <END>", "unk end"),
        (" .,;:!?()&%$#@* ", ""),
    ],
)
def test_tokenize_matches_examples(text, words):
    assert tokenize(text) == words.split() == tokenize(words)


def test_each_split_follows_its_list_in_order(folder):
    (folder / LISTS["val"]).write_text("val2.png\nval0.png\n")  # not val1.png
    found = read(folder)
    assert found.pictures["val"] == [folder / "images" / "val2.png", folder / "images" / "val0.png"]
    assert (found.name, found.real) == ("Flickr8k", True)


def test_captions_are_grouped_by_photo(folder):
    lines = (folder / TOKENS).read_text().splitlines()
    (folder / TOKENS).write_text("\n".join(lines[1::2] + lines[:-3:2]) + "\n")  # without test1.png#0
    found = read(folder)
    assert found.image_idxs["val"].tolist() == [0, 0, 1, 1, 2, 2] and found.image_idxs["test"].tolist() == [0, 0, 1]
    square, ball = (f"there is a {thing} and it 's test".split() for thing in ("square", "ball"))
    assert found.references["test"] == [[square, ["a", "square"]], [ball]]
    there, is_, a, square, *and_it_s = map(found.idx_to_word.index, "there is a square and it 's".split())
    first, second = [START, there, is_, a, square, *and_it_s, UNK, END], [START, a, square, END, *[NULL] * 6]
    assert found.captions["test"][:2].tolist() == [first, second] and found.captions["test"].dtype == np.int32


@pytest.mark.parametrize("least, words", [(None, "'s a and ball bar is it square there train"), (17, "a")])
def test_the_vocabulary_comes_from_the_training_captions(folder, least, words):
    assert read(folder, min_count=least).idx_to_word == [*SPECIAL, *words.split()]


@pytest.mark.parametrize("count, least", [(1900, 1), (2100, 5)])
def test_large_sets_drop_words_seen_fewer_than_5_times(folder, count, least):
    with open(folder / TOKENS, "a") as file:
        print("train0.png#9", " ".join(f"w{k}" for k in range(count)), sep="\t", file=file)
    assert ("w7" in read(folder).idx_to_word) == (least == 1)


@pytest.mark.parametrize("newline", ["\r\n", " \n", "\n\n"])
def test_line_ends_and_byte_order_marks_do_not_matter(folder, newline):
    before = read(folder).fingerprint
    for file in folder.glob("*.txt"):
        file.write_bytes(("\ufeff" + file.read_text().replace("\n", newline)).encode())
    assert read(folder).fingerprint == before


@pytest.mark.parametrize("start, end", [(" <start>", "<end>"), ("startseq", "endseq ."), ("<s>", "</s>")])
def test_start_and_end_markers_are_removed(folder, start, end):
    before = read(folder).references
    (folder / TOKENS).write_text(re.sub(r"\t(.*)", rf"\t{start} \1 {end}", (folder / TOKENS).read_text()))
    assert read(folder).references == before


@pytest.fixture
def textless(folder):
    """The tiny set's photos, in a folder `Images`, without the texts."""
    for file in folder.glob("*.txt"):
        file.unlink()
    return (folder / "images").rename(folder / "Images").parent


@pytest.mark.parametrize("header, mark", [("image,caption", ","), ("image_name| comment_number| comment", "| 0| ")])
def test_kaggle_captions_are_read(textless, header, mark):
    lines = "".join(f'train{k}.png{mark}"A ball, red"\n' for k in range(10))
    (textless / "captions.txt").write_text(f"{header}\n{lines}")
    found = read(textless)
    assert {split: len(photos) for split, photos in found.references.items()} == {"train": 8, "val": 1, "test": 1}
    assert found.references["train"] == [[["a", "ball", "red"]]] * 8


def test_an_error_names_an_unclosed_quote(textless):
    (textless / "captions.txt").write_text('image,caption\ntrain0.png,"A ball .\ntrain1.png,"A ball .\n')
    with pytest.raises(UserError, match="captions.txt, line 3: .*correct the quotes"):
        read(textless)


def test_file_names_match_in_any_case_and_normal_form(folder):
    before = read(folder).references
    for old, new in (("train1.png", "Cafe\u0301.png"), ("val1.png", "val1.PNG")):
        (folder / "images" / old).rename(folder / "images" / new)
    for file in folder.glob("*.txt"):
        file.write_text(file.read_text().replace("train1.png", "caf\u00e9.png"))
    assert read(folder).references == before


def test_karpathys_json_defines_the_splits(textless):
    splits, texts = ["train", "restval", "val", "test"], [{"raw": "A ball."}]
    images = [{"filename": f"train{k}.png", "split": split, "sentences": texts} for k, split in enumerate(splits)]
    (textless / "dataset_flickr8k.json").write_text(json.dumps({"images": images}))
    found = read(textless)
    names = {split: [photo.name for photo in photos] for split, photos in found.pictures.items()}
    assert names == {"train": ["train0.png", "train1.png"], "val": ["train2.png"], "test": ["train3.png"]}
    assert found.references["test"] == [[["a", "ball"]]]


def test_captions_of_one_word_each_give_a_warning(folder, capsys):
    (folder / TOKENS).write_text("".join(f"train{k}.png#0\tall-in-one\n" for k in range(10)))
    captions.read_own(folder / "images", folder / TOKENS)
    assert "every caption is one word" in capsys.readouterr().out


BAD = {  # what is wrong: (file, text to replace, new text, message)
    "no tab": (TOKENS, "train1.png#0\t", "train1.png#0 ", f"{TOKENS}, line 3: should be .* a tab"),
    "no number sign": (TOKENS, "train1.png#0", "train1.png", f"{TOKENS}, line 3: should be .*'#'"),
    "no such photo": (TOKENS, "train1.png#0", "nosuch.png#0", f"{TOKENS}, line 3: no photo nosuch.png in .*images"),
    "no word": (TOKENS, "train1.png#0\tA ball .", "train1.png#0\t .", f"{TOKENS}, line 3: the caption has no word"),
    "a photo without captions": (LISTS["val"], "val1", "nosuch", f"{LISTS['val']}, line 2: nosuch.png has no captions"),
    "a photo twice": (LISTS["train"], "train4", "train1", f"line 5: train1.png is in {LISTS['train']}, line 2, too"),
    "a photo in two splits": (LISTS["test"], "test1", "val0", f"line 2: val0.png is in {LISTS['val']}, line 1, too"),
    "no captions": (TOKENS, "(?s).+", "\n", f"{TOKENS}: holds no captions"),
    "no photos": (LISTS["val"], "(?s).+", "\n", f"{LISTS['val']}: lists no photos"),
}


@pytest.mark.parametrize("name, old, new, message", BAD.values(), ids=BAD)
def test_an_error_names_the_wrong_line(folder, name, old, new, message):
    (folder / name).write_text(re.sub(old, new, (folder / name).read_text()))
    with pytest.raises(UserError, match=message):
        read(folder)


def test_own_photos_are_split_by_name(folder):
    found = read(folder, photos=str(folder / "images"), captions=str(folder / TOKENS))
    paths = sorted((folder / "images").iterdir())  # 21 photos
    assert found.pictures["train"] == [*paths[:8], *paths[10:18], paths[20]]
    assert (found.pictures["val"], found.pictures["test"]) == (paths[9::10], paths[8::10])
    assert found.real and found.name == "photos in images"


def test_fewer_than_ten_own_photos_are_an_error(folder):
    (folder / TOKENS).write_text("".join(f"train{k}.png#0\ta ball\n" for k in range(9)))
    with pytest.raises(UserError, match=f"{TOKENS}: has captions of 9 photos"):
        read(folder, photos=str(folder / "images"), captions=str(folder / TOKENS))


def test_features_are_scaled_by_the_training_photos(folder):
    found = read(folder)
    found.load_features()
    np.testing.assert_allclose(found.features["train"].mean(axis=0), 0, atol=1e-5)
    assert np.mean(found.features["train"] ** 2) == pytest.approx(1, rel=1e-5)
    assert {split: len(values) for split, values in found.features.items()} == COUNTS


def test_a_part_contains_the_chosen_photos(folder):
    found, photos = read(folder), {"train": [4, 1], "val": [2, 0]}
    part = found.part(photos, captions_each=1)
    for split, chosen in photos.items():
        assert part.captions[split].tolist() == found.captions[split][[2 * k for k in chosen]].tolist()
        assert part.image_idxs[split].tolist() == [0, 1]
        assert part.pictures[split] == [found.pictures[split][k] for k in chosen]
        assert part.references[split] == [found.references[split][k] for k in chosen]
        raw = found.source.read(split, chosen)
        np.testing.assert_array_equal(part.features[split], captions.scaled(raw, part.scaling))
    assert found.part(photos, None).image_idxs["train"].tolist() == [0, 0, 1, 1]


def test_the_fingerprint_changes_with_a_photo_or_a_rare_word(folder):
    prints = {read(folder, min_count=3).fingerprint}
    Image.new("RGB", (5, 5)).save(folder / "images" / "val1.png")
    prints.add(read(folder, min_count=3).fingerprint)
    (folder / TOKENS).write_text((folder / TOKENS).read_text().replace("it's val", "it's valid"))
    prints.add(read(folder, min_count=3).fingerprint)
    assert len(prints) == 3


def test_flickr8k_comes_before_coco_unless_chosen(folder):
    (folder.parent / "coco_captioning").mkdir()
    assert read(folder).name == "Flickr8k"
    with pytest.raises(UserError, match="coco2014_vocab.json: no such file; get it: python -m data.download coco"):
        read(folder, which="coco")


def test_a_chosen_set_that_is_missing_is_an_error(tmp_path, monkeypatch):
    monkeypatch.setattr(data, "HOME", tmp_path)
    with pytest.raises(UserError, match="--set coco: .*python -m data.download coco"):
        captions.load(None, tmp_path, "cpu", which="coco")


@pytest.mark.parametrize("folder", ["hw2", "hw2/data/flickr8k"])
def test_a_data_folder_one_level_off_gives_a_hint(tmp_path, folder):
    (tmp_path / "hw2/data/flickr8k").mkdir(parents=True)
    with pytest.raises(UserError, match="did you mean --data .*hw2/data[?]"):
        data.choose("flickr8k", tmp_path / folder)


def test_the_built_in_scenes_are_drawn_only_once(tmp_path, monkeypatch):
    monkeypatch.setattr(captions, "COUNTS", {"train": 2, "val": 1, "test": 1})
    first = captions.load("builtin", tmp_path, "cpu")
    assert (first.name, first.real, first.source.builtin) == ("built-in scenes (drawn)", False, True)
    assert [len(photo) for split in SPLITS for photo in first.references[split]] == [5, 5, 5, 5]
    monkeypatch.setattr(captions.scenes, "draw_scene", None)  # must not be called again
    assert captions.load("builtin", tmp_path, "cpu").fingerprint == first.fingerprint


WORDS = [*SPECIAL, "a", "dog", "cat", "runs"]
COCO = {
    "train_captions": [[1, 4, 5, 2, 0], [1, 4, 6, 7, 2], [1, 5, 3, 2, 0], [1, 6, 2, 0, 0]],
    "train_image_idxs": [3, 0, 3, 1],
    "val_captions": [[1, 5, 2], [1, 6, 2], [1, 7, 2], [1, 4, 2], [1, 5, 2]],
    "val_image_idxs": [4, 2, 0, 4, 1],
}
FEATURES = np.random.default_rng(0).standard_normal((6, 4)).astype(np.float32)


def write_h5(path, **arrays):
    with h5py.File(path, "w") as file:
        file.update(arrays)


@pytest.fixture
def coco(tmp_path):
    folder = tmp_path / "coco_captioning"
    folder.mkdir()
    write_h5(folder / "coco2014_captions.h5", **COCO)
    (folder / "coco2014_vocab.json").write_text(json.dumps({"idx_to_word": WORDS}))
    for name in ("train", "val"):
        write_h5(folder / f"{name}2014_vgg16_fc7_pca.h5", features=FEATURES)
        (folder / f"{name}2014_urls.txt").write_text("".join(f"http://x.invalid/{name}{k}.jpg\n" for k in range(6)))
    return folder


def test_coco_captions_match_their_photos(coco):
    found = read(coco)
    assert found.captions["train"].tolist() == COCO["train_captions"] and found.captions["train"].dtype == np.int32
    assert found.image_idxs["train"].tolist() == [2, 0, 2, 1]  # among photos 0, 1 and 3, which have captions
    assert found.references["train"] == [[["a", "cat", "runs"]], [["cat"]], [["a", "dog"], ["dog", "<UNK>"]]]
    assert found.pictures["train"] == [f"http://x.invalid/train{k}.jpg" for k in (0, 1, 3)]
    assert found.idx_to_word == WORDS and found.source.arch is None and found.real
    assert found.pictures["val"] == [f"http://x.invalid/val{k}.jpg" for k in (0, 1)]  # half of the validation photos
    assert found.references["test"] == [[["cat"]], [["dog"], ["a"]]]  # the other half


def test_coco_features_match_the_option(coco):
    (coco / "train2014_urls.txt").unlink()  # optional
    assert np.array_equal(read(coco).source.read("train", [2, 0]), FEATURES[[3, 0]])
    with pytest.raises(UserError, match="train2014_vgg16_fc7.h5: no such file"):
        read(coco, coco_features="fc7")


NUMBERS = "coco2014_captions.h5"
BAD_COCO = {  # what is wrong: (file, its new content, message)
    "a cut file": ("train2014_vgg16_fc7_pca.h5", b"\x89HDF", "train2014.*cut short"),
    "no data set": (NUMBERS, {}, "has no train_captions"),
    "an unknown word": (NUMBERS, COCO | {"train_captions": [[1, 8, 2]] * 4}, "train has words 1 ... 8, .* 8 words"),
    "an unknown photo": (NUMBERS, COCO | {"val_image_idxs": [6] * 5}, "val has photos 6 ... 6, .* 6 photos"),
    "no <START>": (NUMBERS, COCO | {"val_captions": [[5, 4, 2]] * 5}, "val_captions .*<START>"),
    "features of two sizes": ("val2014_vgg16_fc7_pca.h5", {"features": np.ones((6, 7))}, "differ in size"),
    "other words": ("coco2014_vocab.json", b'{"idx_to_word": ["a", "dog"]}', "starts with .*<NULL>"),
    "few addresses": ("val2014_urls.txt", b"x\n", "val2014_urls.txt: names 1 photos"),
}


@pytest.mark.parametrize("name, content, message", BAD_COCO.values(), ids=BAD_COCO)
def test_an_error_names_inconsistent_h5_files(coco, name, content, message):
    write_h5(coco / name, **content) if isinstance(content, dict) else (coco / name).write_bytes(content)
    with pytest.raises(UserError, match=message):
        read(coco)
