"""data/captions.py: what is read is what is written, features are the network's own, and wrong input is one line."""

import json
import shutil
import types
from collections import Counter

import h5py
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageDraw
from torch import nn

from bleu_utils import SPECIAL, decode_captions
from data import DataError, captions, photo_features, weights
from data.builtin import scenes
from data.captions import END, NULL, SPLITS, START, UNK, encode, tokenize
from data.files import TEMPORARY
from tests.conftest import ARCH, random_state, snapshot
from tests.runs import check_one_error

COLORS = {"red": (210, 40, 30), "green": (40, 150, 60), "blue": (40, 70, 210), "yellow": (240, 210, 40)}
SHAPES = ("square", "ball", "bar")
COUNTS = {"train": 6, "val": 3, "test": 2}


def drawn(color, shape, shade):
    """A photo of 48 x 36 pixels: one thing on a grey ground."""
    image = Image.new("RGB", (48, 36), (shade,) * 3)
    pen = ImageDraw.Draw(image)
    if shape == "ball":
        pen.ellipse((14, 8, 34, 28), fill=COLORS[color])
    else:
        pen.rectangle((14, 8, 34, 28) if shape == "square" else (4, 15, 44, 21), fill=COLORS[color])
    return image


def write_flickr8k(folder, counts=COUNTS, each=2):
    """A tiny set in Flickr8k's layout: photos `train0.jpg` ..., `each` of up to three captions a photo."""
    (folder / "images").mkdir(parents=True)
    lines, k = [], 0
    for split, count in counts.items():
        names = [f"{split}{n}.jpg" for n in range(count)]
        for name in names:
            color, shape = list(COLORS)[k % 4], SHAPES[k % 3]
            drawn(color, shape, 90 + 4 * k).save(folder / "images" / name)
            texts = f"A {color} {shape} .", f"There is a {shape}, and it's {color} !", f"The {shape}'s color : {color}"
            lines += [f"{name}#{n}\t{text}" for n, text in enumerate(texts[:each])]
            k += 1
        (folder / captions.LISTS[split]).write_text("".join(f"{name}\n" for name in names))
    (folder / "Flickr8k.token.txt").write_text("".join(f"{line}\n" for line in lines))
    return folder


def flags(**given):
    """The flags that `captions.load` reads."""
    usual = dict(data=None, set=None, photos=None, captions=None, min_count=None, arch=None, coco_features="pca")
    return types.SimpleNamespace(**usual | given)


def read(folder, **given):
    """The set in `folder`; its features are kept beside it."""
    return captions.read_flickr8k(folder, "tiny", True, flags(**given), folder.parent / "cache", "cpu")


@pytest.fixture
def folder(tmp_path):
    return write_flickr8k(tmp_path / "flickr8k")


def rewrite(file, change):
    """Replaces a text file by what `change` makes of the list of its lines."""
    file.write_text("\n".join(change(file.read_text().splitlines())) + "\n")


# ---- words


@pytest.mark.parametrize(
    "text, words",
    [
        ("A dog runs .", "a dog runs"),
        ("Two DOGS, one cat; no\tbird!", "two dogs one cat no bird"),
        ("the dog's ball", "the dog 's ball"),
        ("the dogs' ball", "the dogs ball"),
        ("it's", "it 's"),
        ("the dog 's ball", "the dog 's ball"),
        ("it isn't , he doesn't", "it isn't he doesn't"),
        ("a t-shirt - a black-and-white one", "a t-shirt a black-and-white one"),
        ("-edge- cases- 'quoted'", "edge cases quoted"),
        ("a_b and dog's_", "a b and dog 's"),
        ("3 men in 4-wheelers", "3 men in 4-wheelers"),
        ('"Über" l\'été Кошка 蟻', "über l'été кошка 蟻"),
        ("<UNK> <END>", "unk end"),
        (" .,;:!?()&%$#@* ", ""),
    ],
)
def test_tokenize_lowers_drops_punctuation_and_sets_the_possessive_apart(text, words):
    assert tokenize(text) == words.split()


@given(st.text())
@settings(deadline=None, max_examples=50)
def test_the_words_of_any_text_written_out_are_the_same_words_again(text):
    words = tokenize(text)
    assert tokenize(" ".join(words)) == words
    assert all(word and not any(c.isspace() for c in word) for word in words)


WORDS = [*SPECIAL, "a", "dog", "cat", "'s", "runs"]
NUMBERS = {word: k for k, word in enumerate(WORDS)}


@given(st.lists(st.lists(st.sampled_from(WORDS[4:]), max_size=9), min_size=1, max_size=6))
@settings(deadline=None, max_examples=50)
def test_captions_decoded_are_what_was_encoded(sentences):
    numbers = encode(sentences, NUMBERS)
    assert decode_captions(numbers, WORDS) == [*map(" ".join, sentences)]


def test_encode_writes_start_the_words_end_and_pads_with_null_to_the_longest():
    numbers = encode([["a", "dog", "runs"], ["cat"]], NUMBERS)
    assert numbers.tolist() == [[START, 4, 5, 8, END], [START, 6, END, NULL, NULL]]
    assert numbers.dtype == np.int32


def test_encode_writes_a_word_that_it_does_not_know_as_unk():
    assert encode([["a", "cow"]], NUMBERS).tolist() == [[START, 4, UNK, END]]


@pytest.mark.parametrize(
    "numbers, words",
    [([START, 4, 5, END, NULL], "a dog"), ([4, 5, END, 6, 6], "a dog"), ([4, NULL, 5], "a dog"), ([4, 5], "a dog"),
     ([4, UNK, END], "a <UNK>"), ([END], ""), ([NULL, NULL], ""), ([], "")],
)  # fmt: skip
def test_decode_reads_up_to_the_end_without_start_and_padding(numbers, words):
    assert decode_captions(np.array(numbers, int), WORDS) == words


# ---- Flickr8k's layout


def test_each_list_makes_a_split_in_its_own_order(folder):
    for split, count in COUNTS.items():
        rewrite(folder / captions.LISTS[split], lambda lines: lines[::-1])
        assert [path.name for path in read(folder).pictures[split]] == [
            f"{split}{k}.jpg" for k in reversed(range(count))
        ]


def test_photos_are_paths_below_images(folder):
    assert all(path.parent == folder / "images" and path.is_file() for path in read(folder).pictures["train"])


def test_captions_stand_in_the_order_of_the_photos_and_then_of_the_file(folder):
    rewrite(folder / "Flickr8k.token.txt", lambda lines: lines[1::2] + lines[0::2])
    data = read(folder)
    assert data.image_idxs["val"].tolist() == [0, 0, 1, 1, 2, 2]
    assert decode_captions(data.captions["val"], data.idx_to_word) == [
        *("there is a square and it 's blue", "a blue square"),
        *("there is a ball and it 's yellow", "a yellow ball"),
        *("there is a bar and it 's red", "a red bar"),
    ]


def test_references_are_each_photos_captions_as_written(folder):
    assert read(folder).references["test"] == [
        ["a green square".split(), "there is a square and it 's green".split()],
        ["a blue ball".split(), "there is a ball and it 's blue".split()],
    ]


def test_photos_may_have_different_numbers_of_captions(folder):
    rewrite(folder / "Flickr8k.token.txt", lambda lines: [line for line in lines if "train1.jpg#1" not in line])
    data = read(folder)
    assert data.image_idxs["train"].tolist() == [0, 0, 1, 2, 2, 3, 3, 4, 4, 5, 5]
    assert [len(photo) for photo in data.references["train"]] == [2, 1, 2, 2, 2, 2]


def test_captions_of_photos_in_no_list_are_passed_over(folder):
    drawn("red", "bar", 9).save(folder / "images" / "other.jpg")
    before = read(folder)
    with open(folder / "Flickr8k.token.txt", "a") as file:
        file.write("other.jpg#0\tAn odd thing\n")
    after = read(folder)
    assert after.idx_to_word == before.idx_to_word and after.references == before.references


def test_the_captions_of_a_split_are_as_wide_as_its_longest_needs(folder):
    assert {split: numbers.shape for split, numbers in read(folder).captions.items()} == {
        "train": (12, 10), "val": (6, 10), "test": (4, 10)
    }  # fmt: skip


@pytest.mark.parametrize("least", [1, 2, 3, 6])
def test_the_vocabulary_is_special_and_the_sorted_words_that_training_captions_hold_so_often(folder, least):
    lines = [line.split("\t")[1] for line in (folder / "Flickr8k.token.txt").read_text().splitlines()]
    counts = Counter(word for line in lines[:12] for word in tokenize(line))
    data = read(folder, min_count=least)
    assert data.idx_to_word == [*SPECIAL, *sorted(word for word, count in counts.items() if count >= least)]
    assert [data.word_to_idx[word] for word in data.idx_to_word] == list(range(len(data.idx_to_word)))


@pytest.mark.parametrize("split", SPLITS)
def test_a_word_too_rare_is_unk_in_the_numbers_and_itself_in_the_references(folder, split):
    rewrite(
        folder / "Flickr8k.token.txt",
        lambda lines: [f"{split}0.jpg#0\tA zebra ." if line.startswith(f"{split}0.jpg#0") else line for line in lines],
    )
    data = read(folder, min_count=2)
    assert "zebra" not in data.idx_to_word
    assert data.captions[split][0, :4].tolist() == [START, data.word_to_idx["a"], UNK, END]
    assert data.references[split][0][0] == ["a", "zebra"]


@pytest.mark.parametrize("count, expected", [(1900, 1), (2100, 5)])
def test_a_word_must_be_seen_five_times_where_the_training_captions_have_many_words_and_else_once(
    folder, count, expected
):
    often = " ".join(["often"] * 5)
    with open(folder / "Flickr8k.token.txt", "a") as file:
        for k in range(0, count, 100):
            file.write(f"train0.jpg#9\t{often} {' '.join(f'w{j}' for j in range(k, k + 100))}\n")
    vocabulary = read(folder).idx_to_word
    assert "often" in vocabulary and ("w7" in vocabulary) == (expected == 1)


def test_a_minimum_that_no_word_reaches_is_a_dataerror_that_names_the_flag(folder):
    with pytest.raises(DataError, match="--min-count 99: no word"):
        read(folder, min_count=99)


def test_the_photo_that_the_published_file_names_and_the_set_lacks_is_passed_over(folder):
    before = read(folder)
    with open(folder / "Flickr8k.token.txt", "a") as file:
        file.write("2258277193_586949ec62.jpg.1#0\tpeople waiting for the subway\n")
    assert read(folder).idx_to_word == before.idx_to_word


@pytest.mark.parametrize("newline", ["\r\n", "\r", "\n\n", "  \n"])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_files_with_a_byte_order_mark_and_any_line_ends_are_read_alike(folder, newline, mark):
    before = read(folder)
    for file in folder.glob("*.txt"):
        file.write_bytes((mark + file.read_text().replace("\n", newline)).encode())
    after = read(folder)
    assert (after.idx_to_word, after.references, after.pictures) == (
        before.idx_to_word,
        before.references,
        before.pictures,
    )


@pytest.mark.parametrize("odd", ["\u2028", "\x0b", "\x0c", "\x85", "\x1c"])
def test_an_odd_blank_within_a_caption_ends_no_line(folder, odd):
    rewrite(folder / "Flickr8k.token.txt", lambda lines: lines)
    text = (folder / "Flickr8k.token.txt").read_text()
    (folder / "Flickr8k.token.txt").write_text(text.replace("A red square", f"A red{odd}square"), encoding="utf-8")
    assert read(folder).references["train"][0][0] == ["a", "red", "square"]


def test_a_caption_may_hold_a_tab_and_a_photos_name_a_number_sign(folder):
    (folder / "images" / "val0.jpg").rename(folder / "images" / "va#l 0.jpg")
    for file in folder.glob("*.txt"):
        file.write_text(file.read_text().replace("val0.jpg", "va#l 0.jpg").replace("A blue square", "A\tblue\tsquare"))
    data = read(folder)
    assert data.pictures["val"][0].name == "va#l 0.jpg" and data.references["val"][0][0] == ["a", "blue", "square"]


def test_nothing_is_drawn_computed_or_written_when_a_set_is_read(folder, monkeypatch):
    monkeypatch.setattr(photo_features, "open_photo", lambda *_: pytest.fail("opened"))
    before = snapshot(folder.parent)
    read(folder)
    assert snapshot(folder.parent) == before


TOKENS = "Flickr8k.token.txt"
BAD = {}


def bad(name, file, *named):
    """Notes a row of the table: what spoils a file of the set (its path is given), and what the error must name."""

    def note(spoil):
        BAD[name] = spoil, file, named
        return spoil

    return note


def bad_line(name, file, number, line, *named):
    """A row: `line` (text, or bytes) stands in place of line `number`."""

    @bad(name, file, f"{file}, line {number}: ", *named)
    def _(path):
        lines = path.read_bytes().split(b"\n")
        lines[number - 1] = line if isinstance(line, bytes) else line.encode()
        path.write_bytes(b"\n".join(lines))


bad_line("a caption line without a tab", TOKENS, 3, "train1.jpg#0 A dog .", "a tab")
bad_line("a caption line without a number sign", TOKENS, 3, "train1.jpg\tA dog .", "'#'")
bad_line("a caption line that is a photo alone", TOKENS, 12, "train1.jpg")
bad_line("a caption of an unknown photo", TOKENS, 3, "nosuch.jpg#0\tA dog .", "no photo nosuch.jpg", "images")
bad_line("a caption of a photo outside of the folder", TOKENS, 1, f"../{TOKENS}#0\tA dog .", "no photo ../")
bad_line("a caption of a photo with control characters", TOKENS, 1, "\x1b[2J.jpg#0\tA dog .", r"\x1b[2J.jpg")
bad_line("a caption line of control characters", TOKENS, 1, "\x1b[2J" + "x" * 5000, r"\x1b[2J")
bad_line("a caption without a word", TOKENS, 4, "train1.jpg#1\t . ", "no word")
bad_line("a caption that is missing", TOKENS, 4, "train1.jpg#1\t", "no word")
bad_line("a caption line that is not UTF-8", TOKENS, 5, b"train2.jpg#0\tA caf\xe9", "UTF-8")
bad_line("a photo in a list without captions", captions.LISTS["val"], 2, "nosuch.jpg", "nosuch.jpg has no captions")
bad_line("a list that is not UTF-8", captions.LISTS["test"], 2, b"\xff\xfe", "UTF-8")
bad_line("a photo twice in a list", captions.LISTS["train"], 5, "train1.jpg", "twice", "line 2")


@bad("a file with a byte order mark that is not UTF-8", TOKENS, f"{TOKENS}, line 3: is not UTF-8")
def _(path):
    lines = path.read_bytes().split(b"\n")
    path.write_bytes(b"\xef\xbb\xbf" + b"\n".join([*lines[:2], b"\xff", *lines[3:]]))


@bad("a file with Windows' line ends and a bad line", TOKENS, f"{TOKENS}, line 3: ")
def _(path):
    lines = path.read_bytes().split(b"\n")
    path.write_bytes(b"\r\n".join([*lines[:2], b"bad", *lines[3:]]))


for _one, _other in (("train", "val"), ("train", "test"), ("val", "test")):

    @bad(f"a photo in {_one} and {_other}", captions.LISTS[_other], f"{_one}1.jpg is in ", captions.LISTS[_one])
    def _(path, one=_one):
        path.write_text(path.read_text() + f"{one}1.jpg\n")


for _file in (TOKENS, *captions.LISTS.values()):
    bad(f"{_file} is missing", _file, f"{_file}: no such file")(lambda path: path.unlink())
    bad(f"{_file} is empty", _file, f"{_file}: ")(lambda path: path.write_bytes(b""))
    bad(f"{_file} holds blanks alone", _file, f"{_file}: ")(lambda path: path.write_bytes(b"\n \r\n\t\n"))

    @bad(f"{_file} is a folder", _file, f"{_file}: is a folder")
    def _(path):
        path.unlink()
        path.mkdir()


@bad("images is missing", "images", "images: no such folder")
def _(path):
    shutil.rmtree(path)


@bad("images is a file", "images", "images: no such folder")
def _(path):
    shutil.rmtree(path)
    path.touch()


@bad("a photo that has captions is missing", "images", f"{TOKENS}, line 13: ", "val0.jpg")
def _(path):
    (path / "val0.jpg").unlink()


@pytest.mark.parametrize("case", BAD)
def test_a_bad_set_is_one_dataerror_that_names_the_file_and_the_line(folder, case):
    spoil, file, named = BAD[case]
    spoil(folder / file)
    message = check_one_error(lambda: read(folder), folder, *named)
    assert len(message) < 700


# ---- a folder of one's own


def own(tmp_path, count):
    """A folder of `count` photos and a captions file beside it, as flags."""
    (tmp_path / "garden").mkdir()
    names = [f"photo {k:02d}.png" for k in range(count)]
    for k, name in enumerate(names):
        drawn("red", "ball", 50 + k).save(tmp_path / "garden" / name)
    (tmp_path / "texts.txt").write_text("".join(f"{name}#0\tA ball number {name[6:8]}\n" for name in names[::-1]))
    return flags(photos=str(tmp_path / "garden"), captions=str(tmp_path / "texts.txt"))


def test_of_ones_own_photos_by_name_each_tenth_validates_and_the_one_before_it_tests(tmp_path):
    data = captions.load(own(tmp_path, 23), tmp_path / "cache", "cpu")
    numbers = {split: [int(path.stem[-2:]) for path in paths] for split, paths in data.pictures.items()}
    assert numbers == {
        "val": [9, 19],
        "test": [8, 18],
        "train": [k for k in range(23) if k % 10 < 8],
    }


def test_ones_own_photos_are_real_and_called_by_their_folders_name(tmp_path):
    data = captions.load(own(tmp_path, 10), tmp_path / "cache", "cpu")
    assert data.real and data.name == "photos in garden"


def test_ten_photos_of_ones_own_make_three_splits(tmp_path):
    data = captions.load(own(tmp_path, 10), tmp_path / "cache", "cpu")
    assert {split: len(paths) for split, paths in data.pictures.items()} == {"train": 8, "val": 1, "test": 1}


def test_fewer_than_ten_photos_of_ones_own_are_a_dataerror_that_counts_them(tmp_path):
    with pytest.raises(DataError, match=r"texts\.txt: captions of 9 photos; .*10"):
        captions.load(own(tmp_path, 9), tmp_path / "cache", "cpu")


def test_photos_of_ones_own_without_a_caption_are_passed_over(tmp_path):
    given = own(tmp_path, 12)
    rewrite(tmp_path / "texts.txt", lambda lines: lines[2:])
    data = captions.load(given, tmp_path / "cache", "cpu")
    assert sum(map(len, data.pictures.values())) == 10


@pytest.mark.parametrize("flag", ["photos", "captions"])
def test_a_missing_folder_or_captions_file_of_ones_own_is_a_dataerror_that_names_it(tmp_path, flag):
    given = own(tmp_path, 10)
    setattr(given, flag, str(tmp_path / "nosuch"))
    with pytest.raises(DataError, match="nosuch: no such"):
        captions.load(given, tmp_path / "cache", "cpu")


# ---- which set


@pytest.fixture
def home(tmp_path, monkeypatch):
    """An empty folder in the place of `data/`."""
    monkeypatch.setattr(captions, "HOME", tmp_path / "home")
    (tmp_path / "home").mkdir()
    return tmp_path / "home"


def test_flickr8k_is_taken_where_a_folder_holds_both_sets(home):
    for name in ("coco_captioning", "flickr8k"):
        (home / name).mkdir()
    assert captions.find(home) == captions.find(None) == ("flickr8k", home / "flickr8k")


@pytest.mark.parametrize("name, part", [("flickr8k", "flickr8k"), ("coco", "coco_captioning")])
def test_set_chooses_between_them(home, name, part):
    for other in ("coco_captioning", "flickr8k"):
        (home / other).mkdir()
    assert captions.find(home, name) == captions.find(None, name) == (name, home / part)


def test_the_set_that_is_there_is_taken_alone(home):
    (home / "coco_captioning").mkdir()
    assert captions.find(home) == ("coco", home / "coco_captioning")


def test_without_a_real_set_the_built_in_one_is_taken(home):
    assert captions.find(None) == ("builtin", None)


def test_builtin_is_taken_where_it_is_asked_for_though_a_real_set_is_there(home, monkeypatch):
    (home / "flickr8k").mkdir()
    monkeypatch.chdir(home.rename(home.parent / "builtin").parent)  # not even that of a folder of the name
    assert captions.find("builtin") == ("builtin", None)


@pytest.mark.parametrize(
    "data, wanted, named",
    [
        ("home", None, ["--data ", "home", "flickr8k or coco_captioning", "--data builtin", "data.download flickr8k"]),
        ("home", "coco", ["--data ", "no coco_captioning", "data.download coco --data "]),
        (None, "coco", ["--set coco", "no coco_captioning", "data.download coco"]),
        (None, "flickr8k", ["--set flickr8k", "data.download flickr8k"]),
        ("nosuch", None, ["--data ", "nosuch", "no such folder"]),
    ],
)
def test_a_set_that_is_asked_for_and_missing_is_a_dataerror_that_says_how_to_get_it(home, data, wanted, named):
    check_one_error(lambda: captions.find(data and str(home.parent / data), wanted), *named)


def test_load_reads_the_set_of_the_data_folder(folder, tmp_path):
    data = captions.load(flags(data=str(tmp_path)), tmp_path / "cache", "cpu")
    assert (data.name, data.real, len(data.pictures["train"])) == ("Flickr8k", True, 6)


def test_drawn_scenes_go_with_the_weights_that_learned_from_drawings(home):
    assert captions.choose_weights(flags(), real=False).builtin


def test_real_photos_go_with_the_usual_network_where_its_weights_are(weights_folder, monkeypatch):
    monkeypatch.setattr(captions, "USUAL_ARCH", ARCH)
    chosen = captions.choose_weights(flags(data=str(weights_folder)), real=True)
    assert (chosen.arch, chosen.builtin) == (ARCH, False)


def test_real_photos_go_with_the_built_in_network_where_the_usual_ones_weights_are_not(home):
    chosen = captions.choose_weights(flags(data=str(home)), real=True)
    assert (chosen.arch, chosen.builtin) == (captions.BUILTIN_ARCH, True)


@pytest.mark.parametrize("real", [True, False])
def test_arch_chooses_the_network(weights_folder, real):
    chosen = captions.choose_weights(flags(data=str(weights_folder), arch=ARCH), real)
    assert (chosen.arch, chosen.builtin) == (ARCH, False)


def test_builtin_takes_the_built_in_weights_though_others_are_there(weights_folder, monkeypatch):
    monkeypatch.setattr(weights, "HOME", weights_folder)
    assert captions.choose_weights(flags(data="builtin", arch=ARCH), real=True).builtin


# ---- the network's features


def images_of(count):
    return [drawn(list(COLORS)[k % 4], SHAPES[k % 3], 60 + 5 * k) for k in range(count)]


def pretrained(arch, outputs=10, seed=0, builtin=False):
    return weights.Weights(arch, random_state(arch, outputs, seed), arch, builtin)


@pytest.fixture(scope="module")
def resnet():
    return pretrained("resnet18")


def batch_of(images, size):
    return torch.stack([photo_features.whole_photo(size)(image) for image in images])


def test_a_resnets_features_are_what_its_last_layer_makes_the_scores_of(resnet):
    images = batch_of(images_of(2), 96)
    features = photo_features.Extractor(resnet)(images)
    network = resnet.network().eval()
    assert features.shape == (2, 512)
    torch.testing.assert_close(network.fc(features), network(images))


def test_a_squeezenets_features_are_the_means_of_the_four_quarters_of_its_last_map():
    builtin = weights.load("squeezenet1_1", "builtin")
    images = batch_of(images_of(3), 128)
    seen = builtin.network().eval().features(images)
    assert seen.shape == (3, 512, 7, 7)
    top, bottom = seen[:, :, :4], seen[:, :, 3:]  # of seven rows the fourth is in both
    quarters = [half[..., side].mean((2, 3)) for half in (top, bottom) for side in (slice(4), slice(3, 7))]
    features = photo_features.Extractor(builtin)(images)
    torch.testing.assert_close(features.view(3, 512, 4), torch.stack(quarters, 2))


def test_the_features_tell_left_from_right_and_above_from_below():
    builtin = weights.load("squeezenet1_1", "builtin")
    image = Image.new("RGB", (64, 64), "grey")
    image.paste((220, 30, 30), (4, 4, 28, 28))
    turned = [image, image.transpose(Image.FLIP_LEFT_RIGHT), image.transpose(Image.FLIP_TOP_BOTTOM)]
    features = captions.PhotoFeatures({}, builtin, "unused", "cpu").compute(turned)
    gaps = [np.abs(features[a] - features[b]).max() for a, b in ((0, 1), (0, 2), (1, 2))]
    assert min(gaps) > 0.05 * features.max()


def test_the_network_is_in_evaluation_mode_and_asks_for_no_gradients(resnet):
    extractor = photo_features.Extractor(resnet)
    images = batch_of(images_of(2), 64)
    assert torch.equal(extractor(images), extractor(images)) and not extractor(images).requires_grad


@pytest.mark.parametrize("size", [(48, 36), (20, 90), (64, 64)])
def test_all_of_a_photo_is_squeezed_into_a_square(size):
    image = Image.new("RGB", size, "white")
    image.paste("black", (0, 0, size[0] // 2, size[1]))
    tensor = photo_features.whole_photo(32)(image)
    assert tensor.shape == (3, 32, 32)
    assert (tensor[:, :, :14] < -1.5).all() and (tensor[:, :, 18:] > 2).all()


def test_a_photos_features_do_not_depend_on_the_photos_beside_it():
    source = captions.PhotoFeatures({}, weights.load("squeezenet1_1", "builtin"), "unused", "cpu")
    images = images_of(photo_features.BATCH + 3)
    together = source.compute(images)
    assert together.dtype == np.float32 and together.shape == (len(images), 2048)
    np.testing.assert_allclose(source.compute(images[-2:]), together[-2:], rtol=1e-4, atol=1e-5)


# ---- the cache of features


class Toy(nn.Module):
    """In the place of the network: the mean colour of each image. Counts the images."""

    seen = 0

    def __init__(self, pretrained):
        super().__init__()

    def forward(self, images):
        Toy.seen += len(images)
        return images.mean((2, 3))


@pytest.fixture
def toy(monkeypatch):
    monkeypatch.setattr(photo_features, "Extractor", Toy)
    monkeypatch.setattr(Toy, "seen", 0)
    return Toy


def cached(folder):
    return sorted((folder.parent / "cache").glob("features-*.npy"))


def test_features_are_the_networks_own_of_the_photos_of_the_split(folder):
    data = read(folder)
    source = captions.PhotoFeatures({}, weights.load("squeezenet1_1", "builtin"), "unused", "cpu")
    for split in SPLITS:
        images = [Image.open(path).convert("RGB") for path in data.pictures[split]]
        np.testing.assert_array_equal(data.source.read(split, range(len(images))), source.compute(images))


def test_features_that_were_computed_once_are_read_from_the_cache(folder, toy):
    first = read(folder).source.read("train", range(6))
    assert toy.seen == 6 and len(cached(folder)) == 1
    second = read(folder).source.read("train", range(6))
    assert toy.seen == 6 and np.array_equal(first, second)


def test_the_cache_is_not_used_for_a_photo_that_has_changed(folder, toy):
    before = read(folder).source.read("train", range(6))
    drawn("green", "bar", 255).save(folder / "images" / "train2.jpg")
    after = read(folder).source.read("train", range(6))
    assert toy.seen == 12
    assert [np.array_equal(a, b) for a, b in zip(before, after, strict=True)] == [True, True, False, True, True, True]


def test_the_cache_is_not_used_for_other_weights(folder, toy):
    for seed in (0, 1):
        source = captions.PhotoFeatures(
            read(folder).pictures, pretrained(ARCH, seed=seed), folder.parent / "cache", "cpu"
        )
        source.read("val", range(3))
    assert toy.seen == 6 and len(cached(folder)) == 2


def test_the_cache_is_not_used_where_the_same_weights_see_photos_of_another_size(folder, toy):
    for builtin in (True, False):
        source = captions.PhotoFeatures(
            read(folder).pictures, pretrained(ARCH, builtin=builtin), folder.parent / "cache", "cpu"
        )
        source.read("val", range(3))
    assert toy.seen == 6 and len(cached(folder)) == 2


def saved(array):
    def save(path):
        with open(path, "wb") as file:
            np.save(file, array, allow_pickle=True)

    return save


def zipped(path):
    with open(path, "wb") as file:
        np.savez(file, np.zeros((3, 3), np.float32))


HUGE = b"{'descr': '<f4', 'fortran_order': False, 'shape': (3, 99999999999999), }".ljust(117) + b"\n"
BROKEN = {
    "empty": lambda path: path.write_bytes(b""),
    "cut short": lambda path: path.write_bytes(path.read_bytes()[:-5]),
    "cut in its head": lambda path: path.write_bytes(path.read_bytes()[:30]),
    "of text": lambda path: path.write_text("features"),
    "of NaN": saved(np.full((3, 3), np.nan, np.float32)),
    "of too few photos": saved(np.zeros((2, 3), np.float32)),
    "of one axis": saved(np.zeros(3, np.float32)),
    "of another dtype": saved(np.zeros((3, 3))),
    "of Python objects": saved(np.array([[print]] * 3, object)),
    "of a number": saved(np.float32(3)),
    "that is an archive": zipped,
    "that begins like an archive": lambda path: path.write_bytes(b"PK\x03\x04 and no more"),
    "that promises too much": lambda path: path.write_bytes(b"\x93NUMPY\x01\x00\x76\x00" + HUGE),
}


@pytest.mark.parametrize("how", BROKEN)
def test_a_broken_cache_file_is_computed_again_and_mended(folder, toy, how):
    good = read(folder).source.read("val", range(3))
    [path] = cached(folder)
    content = path.read_bytes()
    BROKEN[how](path)
    assert path.read_bytes() != content
    assert np.array_equal(read(folder).source.read("val", range(3)), good)
    assert toy.seen == 6 and path.read_bytes() == content


def test_features_come_in_the_order_in_which_photos_are_asked_for(folder, toy):
    source = read(folder).source
    rows = source.read("train", range(6))
    assert np.array_equal(source.read("train", [4, 0, 5]), rows[[4, 0, 5]])


def test_features_are_kept_shard_by_shard_so_that_a_stopped_run_does_not_lose_them(folder, toy, monkeypatch):
    monkeypatch.setattr(photo_features, "SHARD", 2)
    opened = []

    def tired(path):
        opened.append(path)
        if len(opened) == 5:
            raise KeyboardInterrupt
        return Image.open(path).convert("RGB")

    with monkeypatch.context() as patch:
        patch.setattr(photo_features, "open_photo", tired)
        with pytest.raises(KeyboardInterrupt):
            read(folder).source.read("train", range(6))
    assert len(cached(folder)) == 2 and not list(folder.parent.rglob(f"{TEMPORARY}*"))
    toy.seen = 0
    resumed = read(folder).source.read("train", range(6))
    assert toy.seen == 2 and len(cached(folder)) == 3
    monkeypatch.setattr(photo_features, "SHARD", 500)
    assert np.array_equal(resumed, read(folder).source.read("train", range(6)))


def test_large_photos_are_opened_one_batch_at_a_time(folder, monkeypatch, toy):
    monkeypatch.setattr(photo_features, "BATCH", 2)
    opened, most, forward = [], [], Toy.forward
    monkeypatch.setattr(
        photo_features, "open_photo", lambda path: opened.append(path) or Image.open(path).convert("RGB")
    )
    monkeypatch.setattr(Toy, "forward", lambda self, images: most.append(len(opened)) or forward(self, images))
    read(folder).source.read("train", range(6))
    assert most == [2, 4, 6]


@pytest.mark.parametrize("how", ["missing", "cut short", "of text"])
@pytest.mark.parametrize("split", SPLITS)
def test_a_photo_that_is_missing_or_broken_is_a_dataerror_that_names_it_when_features_are_read(folder, split, how, toy):
    data, path = read(folder), folder / "images" / f"{split}1.jpg"
    if how == "missing":
        path.unlink()
    else:
        path.write_bytes(path.read_bytes()[:400] if how == "cut short" else b"no photo")
    with pytest.raises(DataError, match=f"{split}1.jpg: "):
        data.load_features()
    assert data.features == {}


# ---- scaling, parts, the fingerprint


def test_the_training_photos_features_are_scaled_to_mean_zero_and_root_mean_square_one(folder):
    data = read(folder)
    data.load_features()
    assert {split: (values.shape, values.dtype) for split, values in data.features.items()} == {
        split: ((count, 2048), np.dtype(np.float32)) for split, count in COUNTS.items()
    }
    np.testing.assert_allclose(data.features["train"].mean(axis=0), 0, atol=1e-5)
    assert np.sqrt(np.mean(data.features["train"] ** 2)) == pytest.approx(1, rel=1e-5)


@pytest.mark.parametrize("split", SPLITS)
def test_every_split_is_scaled_by_the_training_photos_numbers(folder, split):
    data = read(folder)
    data.load_features()
    raw, train = (data.source.read(s, range(COUNTS[s])) for s in (split, "train"))
    mean = train.mean(axis=0)
    spread = np.sqrt(np.mean((train - mean) ** 2))
    np.testing.assert_allclose(data.features[split], (raw - mean) / spread, rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(captions.scaled(raw, data.scaling), data.features[split])


def test_photos_that_are_all_alike_are_scaled_to_zeros(folder):
    for path in (folder / "images").glob("*.jpg"):
        drawn("red", "ball", 99).save(path)
    data = read(folder)
    data.load_features()
    assert all(np.isfinite(values).all() and np.abs(values).max() < 1 for values in data.features.values())


PHOTOS = {"train": [4, 1], "val": [2, 0]}


def test_a_part_holds_the_chosen_photos_with_their_first_captions(folder):
    data = read(folder)
    part = data.part(PHOTOS, captions_each=1)
    assert part.captions.keys() == PHOTOS.keys()
    for split, photos in PHOTOS.items():
        assert part.captions[split].tolist() == data.captions[split][[2 * k for k in photos]].tolist()
        assert part.image_idxs[split].tolist() == [0, 1]
        assert part.pictures[split] == [data.pictures[split][k] for k in photos]
        assert part.references[split] == [data.references[split][k] for k in photos]
    assert (part.idx_to_word, part.name, part.real, part.source) == (
        data.idx_to_word, data.name, data.real, data.source,
    )  # fmt: skip


@pytest.mark.parametrize("each, expected", [(1, [0, 1]), (2, [0, 0, 1, 1]), (9, [0, 0, 1, 1]), (None, [0, 0, 1, 1])])
def test_a_part_holds_so_many_captions_of_each_photo_as_there_are(folder, each, expected):
    assert read(folder).part(PHOTOS, each).image_idxs["train"].tolist() == expected


def test_a_parts_features_are_its_photos_scaled_by_its_own_training_photos(folder):
    data = read(folder)
    part = data.part(PHOTOS, 1)
    raw = {split: data.source.read(split, photos) for split, photos in PHOTOS.items()}
    np.testing.assert_allclose(part.scaling[0], raw["train"].mean(axis=0), rtol=1e-6)
    for split in PHOTOS:
        np.testing.assert_array_equal(part.features[split], captions.scaled(raw[split], part.scaling))


def test_a_part_opens_the_photos_of_its_own_alone(folder, toy):
    read(folder).part(PHOTOS, 1)
    assert toy.seen == 4


@pytest.mark.parametrize("split", SPLITS)
def test_the_fingerprint_changes_with_a_caption(folder, split):
    before = read(folder).fingerprint
    rewrite(folder / TOKENS, lambda lines: [line.replace(f"{split}1.jpg#0\tA", f"{split}1.jpg#0\tThere is a")
                                            for line in lines])  # fmt: skip
    assert read(folder).fingerprint != before


@pytest.mark.parametrize("split", ["val", "test"])
def test_the_fingerprint_changes_with_a_word_that_is_unk_in_the_numbers(folder, split):
    prints = set()
    for word in ("A", "Zebra", "Yak"):
        rewrite(folder / TOKENS, lambda lines, word=word: [
            f"{split}1.jpg#0\t{word} ball" if line.startswith(f"{split}1.jpg#0") else line for line in lines
        ])  # fmt: skip
        prints.add(read(folder).fingerprint)
    assert len(prints) == 3


@pytest.mark.parametrize("split", SPLITS)
def test_the_fingerprint_changes_with_a_photo_under_the_same_name(folder, split):
    before = read(folder).fingerprint
    drawn("green", "bar", 1).save(folder / "images" / f"{split}1.jpg")
    assert read(folder).fingerprint != before


def test_the_fingerprint_changes_with_the_weights(folder):
    data, prints = read(folder), set()
    for seed in (0, 1):
        data.source = captions.PhotoFeatures(data.pictures, pretrained(ARCH, seed=seed), "unused", "cpu")
        prints.add(data.fingerprint)
    assert len(prints) == 2


def test_the_fingerprint_changes_with_the_vocabulary(folder):
    assert read(folder).fingerprint != read(folder, min_count=4).fingerprint


@pytest.mark.parametrize("split", ["train", "val"])
def test_the_fingerprint_of_a_part_changes_with_its_photos(folder, split, toy):
    data = read(folder)
    assert data.part(PHOTOS, 1).fingerprint == data.part(PHOTOS, 1).fingerprint
    assert data.part(PHOTOS, 1).fingerprint != data.part({**PHOTOS, split: [0, 1]}, 1).fingerprint


def test_the_fingerprint_does_not_depend_on_where_the_folder_lies(folder, tmp_path):
    before = read(folder).fingerprint
    assert read(folder.rename(tmp_path / "elsewhere")).fingerprint == before


# ---- cs231n's files


VOCABULARY = [*SPECIAL, "a", "dog", "cat", "runs"]
COCO = {
    "train_captions": [[1, 4, 5, 2, 0], [1, 4, 6, 7, 2], [1, 5, 3, 2, 0], [1, 6, 2, 0, 0]],
    "train_image_idxs": [3, 0, 3, 1],
    "val_captions": [[1, 5, 2], [1, 6, 2], [1, 7, 2], [1, 4, 2], [1, 5, 2]],
    "val_image_idxs": [4, 2, 0, 4, 1],
}
COUNT = {"train": 5, "val": 6}  # photos; some have no caption


def coco_features(name, width):
    """The features in the files of `write_coco`."""
    return np.random.default_rng(len(name)).standard_normal((COUNT[name], width)).astype(np.float32)


def write_h5(path, arrays):
    with h5py.File(path, "w") as file:
        for name, array in arrays.items():
            file[name] = array


def write_coco(folder):
    """A tiny set in the format of cs231n's files."""
    folder.mkdir(parents=True)
    write_h5(folder / "coco2014_captions.h5", {name: np.array(rows, np.int32) for name, rows in COCO.items()})
    words = {"idx_to_word": VOCABULARY, "word_to_idx": {word: k for k, word in enumerate(VOCABULARY)}}
    (folder / "coco2014_vocab.json").write_text(json.dumps(words))
    for name, count in COUNT.items():
        for suffix, width in (("_pca", 4), ("", 7)):
            write_h5(folder / f"{name}2014_vgg16_fc7{suffix}.h5", {"features": coco_features(name, width)})
        urls = "".join(f"http://photos.invalid/{name}{k}.jpg\n" for k in range(count))
        (folder / f"{name}2014_urls.txt").write_text(urls)
    return folder


@pytest.fixture
def coco(tmp_path):
    return write_coco(tmp_path / "data" / "coco_captioning")


def load_coco(folder, **given):
    return captions.load(flags(data=str(folder.parent), **given), folder.parent / "cache", "cpu")


def test_the_training_captions_of_the_h5_files_are_read_with_their_photos(coco):
    data = load_coco(coco)
    assert data.captions["train"].tolist() == COCO["train_captions"] and data.captions["train"].dtype == np.int32
    assert data.image_idxs["train"].tolist() == [2, 0, 2, 1]  # of the photos 0, 1 and 3, which have captions
    assert data.references["train"] == [[["a", "cat", "runs"]], [["cat"]], [["a", "dog"], ["dog", "<UNK>"]]]
    assert (data.idx_to_word, data.real) == (VOCABULARY, True)


def test_photos_of_the_h5_files_are_named_by_their_web_addresses(coco):
    assert load_coco(coco).pictures["train"] == [f"http://photos.invalid/train{k}.jpg" for k in (0, 1, 3)]


def test_without_the_list_of_addresses_they_are_said_to_be_unknown(coco):
    (coco / "train2014_urls.txt").unlink()
    assert load_coco(coco).pictures["train"] == ["(address unknown)"] * 3


def test_the_first_half_of_the_validation_photos_validates_and_the_second_tests(coco):
    data = load_coco(coco)
    assert data.pictures["val"] == [f"http://photos.invalid/val{k}.jpg" for k in (0, 1)]
    assert data.pictures["test"] == [f"http://photos.invalid/val{k}.jpg" for k in (2, 4)]
    assert data.references["val"] == [[["runs"]], [["dog"]]] and data.image_idxs["val"].tolist() == [0, 1]
    assert data.references["test"] == [[["cat"]], [["dog"], ["a"]]]
    assert data.image_idxs["test"].tolist() == [1, 0, 1]


def test_a_photo_too_many_goes_into_neither_half(coco, monkeypatch):
    monkeypatch.setattr(captions, "COCO_MOST", 1)
    data = load_coco(coco)
    assert data.pictures["val"] + data.pictures["test"] == [f"http://photos.invalid/val{k}.jpg" for k in (0, 1)]


@pytest.mark.parametrize("which, width", [("pca", 4), ("fc7", 7)])
def test_the_features_asked_for_are_read_and_scaled(coco, which, width):
    data = load_coco(coco, coco_features=which)
    train, val = coco_features("train", width)[[0, 1, 3]], coco_features("val", width)
    assert np.array_equal(data.source.read("train", range(3)), train)
    data.load_features()
    np.testing.assert_array_equal(data.features["val"], captions.scaled(val[[0, 1]], data.scaling))
    np.testing.assert_array_equal(data.features["test"], captions.scaled(val[[2, 4]], data.scaling))
    np.testing.assert_allclose(data.scaling[0], train.mean(axis=0), rtol=1e-6)
    assert ("512" in data.source.name) == (which == "pca") and "VGG-16" in data.source.name


@pytest.mark.parametrize("photos", [[2, 0], [1], [0, 2, 1]])
def test_stored_features_come_in_the_order_in_which_photos_are_asked_for(coco, photos):
    expected = coco_features("train", 4)[[0, 1, 3]][photos]
    assert np.array_equal(load_coco(coco).source.read("train", photos), expected)


@pytest.mark.filterwarnings("error")
def test_many_stored_features_of_half_precision_come_in_order_as_float32_without_a_warning(coco):
    count = 2100
    rng = np.random.default_rng(0)
    features = rng.standard_normal((count, 4)).astype(np.float16)
    write_h5(coco / "train2014_vgg16_fc7_pca.h5", {"features": features})
    spoil_h5(coco, train_captions=np.tile([1, 4, 2], (count, 1)), train_image_idxs=rng.permutation(count))
    (coco / "train2014_urls.txt").unlink()
    photos = rng.permutation(count)
    found = load_coco(coco).source.read("train", photos)
    assert found.dtype == np.float32 and np.array_equal(found, features[photos].astype(np.float32))


def test_stored_features_name_no_network(coco):
    source = load_coco(coco).source
    assert source.arch is None and not source.builtin


def test_a_part_of_the_h5_files_is_taken_as_of_photos(coco):
    part = load_coco(coco).part({"train": [2, 0], "val": [1]}, captions_each=1)
    assert part.captions["train"].tolist() == [COCO["train_captions"][0], COCO["train_captions"][1]]
    np.testing.assert_array_equal(
        part.features["train"], captions.scaled(coco_features("train", 4)[[3, 0]], part.scaling)
    )


@pytest.mark.parametrize("change", ["caption", "features", "address", "vocabulary", "other features"])
def test_the_fingerprint_changes_with_the_h5_files(coco, change):
    before, which = load_coco(coco).fingerprint, "pca"
    if change == "caption":
        spoil_h5(coco, val_captions=COCO["val_captions"][::-1])
    elif change == "features":
        write_h5(coco / "val2014_vgg16_fc7_pca.h5", {"features": coco_features("val", 4)[::-1]})
    elif change == "address":
        rewrite(coco / "val2014_urls.txt", lambda lines: lines[::-1])
    elif change == "vocabulary":
        spoil_words(coco, [*VOCABULARY[:-1], "sleeps"])
    else:
        which = "fc7"
    assert load_coco(coco, coco_features=which).fingerprint != before


def spoil_h5(coco, **arrays):
    """Other arrays in the h5 file of captions; None leaves one out."""
    given = {name: np.array(rows) for name, rows in COCO.items()} | arrays
    write_h5(coco / "coco2014_captions.h5", {name: array for name, array in given.items() if array is not None})


def spoil_words(coco, words):
    (coco / "coco2014_vocab.json").write_text(json.dumps({"idx_to_word": words}))


def changed(name, row, value):
    """COCO's array `name` with another value in its row."""
    array = np.array(COCO[name])
    array[row] = value
    return array


def features_file(name, array):
    return lambda coco: write_h5(coco / f"{name}2014_vgg16_fc7_pca.h5", {"features": array})


def half(file):
    def cut(coco):
        content = (coco / file).read_bytes()
        (coco / file).write_bytes(content[: len(content) // 2])

    return cut


def group(file, name, kept=()):
    def put(coco):
        write_h5(coco / file, dict(kept))
        with h5py.File(coco / file, "a") as content:
            content.create_group(name)

    return put


def unallocated(coco):
    """Features of a petabyte, on paper."""
    with h5py.File(coco / "train2014_vgg16_fc7_pca.h5", "w") as file:
        file.create_dataset("features", (5, 4), np.float32)
    spoil_h5(coco, train_captions=None)
    with h5py.File(coco / "coco2014_captions.h5", "a") as file:
        file.create_dataset("train_captions", (2**40, 2**8), np.int32, chunks=(1024, 16))


ALL = {name: np.array(rows) for name, rows in COCO.items()}
CAPTIONS, FEATURES, VALUES = "coco2014_captions.h5", "train2014_vgg16_fc7_pca.h5", "val2014_vgg16_fc7_pca.h5"
VOCAB = "coco2014_vocab.json"
BAD_COCO = {
    "captions cut short": (half(CAPTIONS), CAPTIONS, "cut short or no h5 file"),
    "features cut short": (half(FEATURES), FEATURES, "cut short or no h5 file"),
    "captions that are text": (lambda c: (c / CAPTIONS).write_text("no h5"), CAPTIONS, "no h5 file"),
    "features that are empty": (lambda c: (c / VALUES).write_bytes(b""), VALUES, "no h5 file"),
    "no captions file": (lambda c: (c / CAPTIONS).unlink(), CAPTIONS, "no such file"),
    "no features file": (lambda c: (c / VALUES).unlink(), VALUES, "no such file"),
    "no vocabulary": (lambda c: (c / VOCAB).unlink(), VOCAB, "no such file"),
    **{f"no data set {n}": (lambda c, n=n: spoil_h5(c, **{n: None}), CAPTIONS, f"no data set '{n}'") for n in COCO},
    "no data set features": (lambda c: write_h5(c / FEATURES, {"x": [[1.0]]}), FEATURES, "no data set 'features'"),
    "a group in place of captions": (
        group(CAPTIONS, "train_captions", {n: a for n, a in ALL.items() if n != "train_captions"}),
        CAPTIONS,
        "no data set 'train_captions'",
    ),
    "a group in place of features": (group(FEATURES, "features"), FEATURES, "no data set 'features'"),
    "captions of floats": (lambda c: spoil_h5(c, val_captions=ALL["val_captions"] + 0.5), CAPTIONS, "not integers"),
    "captions of text": (lambda c: spoil_h5(c, val_captions=[[b"a", b"dog"]] * 5), CAPTIONS, "not integers"),
    "photos of floats": (
        lambda c: spoil_h5(c, train_image_idxs=ALL["train_image_idxs"] / 1),
        CAPTIONS,
        "train_image_idxs holds float64 and not integers",
    ),
    "features of integers": (features_file("train", np.ones((5, 4), int)), FEATURES, "not floating-point"),
    "features of text": (features_file("train", np.full((5, 4), b"x")), FEATURES, "not floating-point"),
    "captions of one axis": (lambda c: spoil_h5(c, train_captions=np.ones(4, int)), CAPTIONS, "(4,), expected 2 axes"),
    "captions of no axis": (lambda c: spoil_h5(c, train_captions=np.array(4)), CAPTIONS, "expected 2 axes"),
    "photos of two axes": (lambda c: spoil_h5(c, val_image_idxs=np.ones((5, 1), int)), CAPTIONS, "expected 1 axes"),
    "features of three axes": (features_file("val", np.ones((6, 2, 2))), VALUES, "expected 2 axes"),
    "captions without a row": (lambda c: spoil_h5(c, val_captions=np.empty((0, 3), int)), CAPTIONS, "is empty"),
    "captions without a column": (lambda c: spoil_h5(c, val_captions=np.empty((5, 0), int)), CAPTIONS, "is empty"),
    "captions of one column": (
        lambda c: spoil_h5(c, val_captions=np.ones((5, 1), int)),
        CAPTIONS,
        "val_captions has one that is not <START> and words",
    ),
    "a caption of padding alone": (
        lambda c: spoil_h5(c, train_captions=changed("train_captions", 2, [1, 0, 0, 0, 0])),
        CAPTIONS,
        "train_captions has one that is not <START> and words",
    ),
    "a caption of its start and its end alone": (
        lambda c: spoil_h5(c, train_captions=changed("train_captions", 2, [1, 2, 0, 0, 0])),
        CAPTIONS,
        "train_captions has one that is not <START> and words",
    ),
    "a caption without its start": (
        lambda c: spoil_h5(c, val_captions=changed("val_captions", 1, [5, 4, 2])),
        CAPTIONS,
        "val_captions has one that is not <START> and words",
    ),
    "features without a row": (features_file("val", np.empty((0, 4), np.float32)), VALUES, "is empty"),
    "features without a column": (features_file("train", np.empty((5, 0), np.float32)), FEATURES, "is empty"),
    "a word beyond the vocabulary": (
        lambda c: spoil_h5(c, train_captions=changed("train_captions", 3, 8)),
        CAPTIONS,
        "train_captions holds word 8, the vocabulary has 8 words",
    ),
    "a negative word": (
        lambda c: spoil_h5(c, val_captions=changed("val_captions", 0, -1)),
        CAPTIONS,
        "val_captions holds word -1",
    ),
    "a word too large for its type": (
        lambda c: spoil_h5(c, val_captions=np.full((5, 3), 2**64 - 1, np.uint64)),
        CAPTIONS,
        "val_captions holds word",
    ),
    "a photo beyond the features": (
        lambda c: spoil_h5(c, train_image_idxs=changed("train_image_idxs", 0, 5)),
        CAPTIONS,
        "train_image_idxs holds photo 5, train2014_vgg16_fc7_pca.h5 has 5 photos",
    ),
    "a negative photo": (
        lambda c: spoil_h5(c, val_image_idxs=changed("val_image_idxs", 0, -2)),
        CAPTIONS,
        "val_image_idxs holds photo -2",
    ),
    "more captions than photos of them": (
        lambda c: spoil_h5(c, train_image_idxs=ALL["train_image_idxs"][:3]),
        CAPTIONS,
        "4 train_captions, but 3 train_image_idxs",
    ),
    "captions of a petabyte": (unallocated, CAPTIONS, ": "),
    "captions of one validation photo": (
        lambda c: spoil_h5(c, val_image_idxs=np.ones(5, int)),
        CAPTIONS,
        "one validation photo",
    ),
    "train and val features of different width": (
        features_file("val", np.ones((6, 5), np.float32)),
        "coco_captioning",
        "different sizes [4, 5]",
    ),
    "features with NaN": (features_file("train", np.full((5, 4), np.nan, np.float32)), FEATURES, "NaN or infinity"),
    "features that are too large": (
        features_file("train", np.full((5, 4), -1e30, np.float32)),
        FEATURES,
        "or 1e+09 or more",
    ),
    "features too large for float32": (features_file("val", np.full((6, 4), 1e300)), VALUES, "or 1e+09 or more"),
    "features with infinity": (features_file("val", np.full((6, 4), np.inf, np.float32)), VALUES, "NaN or infinity"),
    "a vocabulary that is no JSON": (lambda c: (c / VOCAB).write_text("{'a':"), VOCAB, "'idx_to_word'"),
    "a vocabulary that is not UTF-8": (lambda c: (c / VOCAB).write_bytes(b'["\xff"]'), VOCAB, "'idx_to_word'"),
    "a vocabulary that is a list": (lambda c: (c / VOCAB).write_text("[1, 2]"), VOCAB, "'idx_to_word'"),
    "a vocabulary nested too deep": (lambda c: (c / VOCAB).write_text("[" * 100_000), VOCAB, "'idx_to_word'"),
    "a vocabulary without its words": (lambda c: (c / VOCAB).write_text('{"word_to_idx": {}}'), VOCAB, "'idx_to_word'"),
    "a vocabulary of numbers": (lambda c: spoil_words(c, [*SPECIAL, 1, 2, 3, 4]), VOCAB, "'idx_to_word'"),
    "a vocabulary with an empty word": (lambda c: spoil_words(c, [*VOCABULARY[:7], ""]), VOCAB, "'idx_to_word'"),
    "a vocabulary with two words in one": (lambda c: spoil_words(c, [*VOCABULARY[:7], "a b"]), VOCAB, "'idx_to_word'"),
    "a vocabulary with control characters": (
        lambda c: spoil_words(c, [*VOCABULARY[:7], "\x1b[2J"]),
        VOCAB,
        "'idx_to_word'",
    ),
    "a vocabulary that is a text": (lambda c: spoil_words(c, "<NULL>"), VOCAB, "'idx_to_word'"),
    "a vocabulary without the special words": (
        lambda c: spoil_words(c, VOCABULARY[4:] * 2),
        VOCAB,
        "begin with <NULL>",
    ),
    "special words in another order": (
        lambda c: spoil_words(c, [*VOCABULARY[1:4], "<NULL>", *VOCABULARY[4:]]),
        VOCAB,
        "begin with <NULL>",
    ),
    "a word twice in the vocabulary": (lambda c: spoil_words(c, [*VOCABULARY[:7], "a"]), VOCAB, "each word once"),
    "addresses too few": (
        lambda c: (c / "val2014_urls.txt").write_text("http://one\n"),
        "val2014_urls.txt",
        "names 1 photos, the features are of 6",
    ),
    "addresses that are not UTF-8": (
        lambda c: (c / "train2014_urls.txt").write_bytes(b"\xff\n" * 5),
        "train2014_urls.txt, line 1",
        "UTF-8",
    ),
}


@pytest.mark.parametrize("case", BAD_COCO)
def test_broken_h5_files_are_one_dataerror_that_names_the_file(coco, case):
    spoil, *named = BAD_COCO[case]
    spoil(coco)
    check_one_error(lambda: load_coco(coco).load_features(), coco, *named)


# ---- the built-in set


@pytest.fixture
def few(monkeypatch):
    monkeypatch.setattr(captions, "COUNTS", {"train": 4, "val": 2, "test": 1})


def builtin_set(tmp_path):
    return captions.load(flags(data="builtin"), tmp_path / "cache", "cpu")


def test_the_built_in_set_has_so_many_photos_with_five_captions_each(tmp_path, few):
    data = builtin_set(tmp_path)
    assert {split: [len(photo) for photo in photos] for split, photos in data.references.items()} == {
        "train": [5] * 4, "val": [5] * 2, "test": [5],
    }  # fmt: skip
    assert not data.real and "drawn" in data.name and data.source.builtin


def test_a_built_in_photo_and_its_captions_are_those_of_one_scene(tmp_path, few):
    data = builtin_set(tmp_path)
    image, texts = scenes.draw_scene(np.random.default_rng([5, 1, 0]))
    assert data.references["val"][0] == [tokenize(text) for text in texts]
    assert np.array_equal(np.asarray(Image.open(data.pictures["val"][0])), np.asarray(image))


def test_two_drawings_of_the_built_in_set_are_bit_equal(tmp_path, few):
    first, second = (snapshot(captions.draw(tmp_path / name)) for name in "ab")
    assert first == second and len(first) == 7 + 4 + 1


def test_no_two_scenes_of_the_built_in_set_are_the_same(tmp_path, few):
    photos = [content for name, content in snapshot(captions.draw(tmp_path)).items() if name.endswith(".png")]
    assert len(set(photos)) == 7


def test_the_built_in_set_is_drawn_once_and_then_found(tmp_path, few, monkeypatch):
    folder = captions.draw(tmp_path)
    monkeypatch.setattr(scenes, "draw_scene", lambda *_: pytest.fail("drawn again"))
    assert captions.draw(tmp_path) == folder


def test_a_drawing_that_is_interrupted_leaves_nothing_and_is_done_again(tmp_path, few, monkeypatch):
    calls, draw_scene = [], scenes.draw_scene

    def tired(rng):
        calls.append(rng)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return draw_scene(rng, 16)

    with monkeypatch.context() as patch:
        patch.setattr(scenes, "draw_scene", tired)
        with pytest.raises(KeyboardInterrupt):
            captions.draw(tmp_path / "cache")
    assert snapshot(tmp_path / "cache") == {}
    assert len(list(captions.draw(tmp_path / "cache").rglob("*.png"))) == 7
