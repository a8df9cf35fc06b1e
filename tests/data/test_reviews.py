"""data/reviews.py: files, errors that name the line, tokens of raw text, the built-in sentences."""

import pytest

from common.cli import UserError
from data import reviews
from data.drawn import sentences

GOOD = "1 the soup was great .\n0 it was n't .\n"


@pytest.fixture
def folder(tmp_path):
    """A complete set with two sentences per file."""
    for name in reviews.SPLITS:
        (tmp_path / f"{name}.txt").write_text(GOOD)
    (tmp_path / "unlabelled.txt").write_text("so so .\nnever again !\n\n \n")  # empty lines at the end are ignored
    return tmp_path


def test_sentences_keep_the_order_of_their_files(folder):
    sets = reviews.load(folder, None)
    assert sets.train.sentences == [["the", "soup", "was", "great", "."], ["it", "was", "n't", "."]]
    assert sets.dev.labels == sets.test.labels == [1, 0] and sets.real
    assert sets.unlabelled.sentences == [["so", "so", "."], ["never", "again", "!"]] and sets.unlabelled.labels is None


@pytest.mark.parametrize(
    "content", [GOOD[:-1], GOOD.replace("\n", "\r\n"), "\ufeff" + GOOD, GOOD.replace(" ", "\t "), GOOD + "\n \n"]
)
def test_files_of_other_editors_are_read(folder, content):
    (folder / "dev.txt").write_bytes(content.encode())
    assert reviews.read_labelled(folder / "dev.txt") == reviews.read_labelled(folder / "train.txt")


@pytest.mark.parametrize("name", reviews.SPLITS)
def test_raw_reviews_are_tokenized_with_a_message(folder, capsys, name):
    (folder / f"{name}.txt").write_text("1 The Food was GREAT, really!\n0 Never again.\n")
    tokens = [reviews.tokenize("The Food was GREAT, really!"), ["never", "again", "."]]
    assert getattr(reviews.load(folder, None), name).sentences == tokens
    assert f"{name}.txt: is raw text" in capsys.readouterr().out


def test_the_fingerprint_changes_with_a_word(folder):
    before = reviews.load(folder, None).fingerprint
    (folder / "dev.txt").write_text(GOOD.replace("soup", "food"))
    assert reviews.load(folder, None).fingerprint != before


BROKEN = {  # what is wrong: (file, its content, message)
    "no file": ("test", None, "no such file"),
    "a label of 2": ("train", b"1 good\n2 bad\n", "line 2: begins with '2'"),
    "an empty line": ("test", b"1 good\n\n0 bad\n", "line 2"),
    "a label without a sentence": ("train", b"1 good\n0 bad\n1\n", "line 3: has a label but no sentence"),
    "a file that is not UTF-8": ("test", b"1 good\n0 caf\xe9\n", "line 2: .*UTF-8"),
    "a null character": ("train", b"1 go\0od\n", "line 1: .*UTF-8"),
    "a zip archive": ("train", b"PK\3\4\x14\0", "line 1: .*unpack it"),
    "a gzip archive": ("train", b"\x1f\x8b\x08\0", "line 1: .*unpack it"),
    "one class only": ("train", b"1 good\n1 fine\n", r"both labels, 0 and 1; has labels \[1\]"),
    "an unlabeled line without words": ("unlabelled", b"good\n \nbad\n", "line 2: is empty"),
    "an empty unlabeled file": ("unlabelled", b"", "line 1: is empty"),
}


@pytest.mark.parametrize("name, content, message", BROKEN.values(), ids=BROKEN)
def test_an_error_names_the_broken_file_and_line(folder, name, content, message):
    file = folder / f"{name}.txt"
    file.unlink() if content is None else file.write_bytes(content)
    with pytest.raises(UserError, match=f"{name}.txt.*{message}"):
        reviews.load(folder, None)


def test_a_part_has_half_of_each_label(folder):
    texts = [f"{label} {word}{k}\n" for label, word in ((0, "word"), (1, "w")) for k in range(9)]
    (folder / "train.txt").write_text("".join(texts))
    part = reviews.part(reviews.load(folder, None), 6, 2)
    assert part.train.labels == [0, 0, 0, 1, 1, 1] and part.train.sentences[3] == ["w0"]
    assert len(part.dev) == len(part.test) == 2 and len(part.unlabelled) == 2


def test_the_real_set_has_the_published_sizes(hw2_data, capsys):
    sets = reviews.load(hw2_data, None)
    assert [len(split) for split in (sets.train, sets.dev, sets.test, sets.unlabelled)] == [40_000, *3 * [10_000]]
    assert sum(sets.train.labels) == 20_000 and max(map(len, sets.test.sentences)) <= 15
    assert not capsys.readouterr().out  # no message about raw text


@pytest.mark.parametrize(
    "text, tokens",
    {
        "The food wasn't good!": "the food was n't good !",
        "I can't, won't and cannot.": "i ca n't , wo n't and can not .",
        "It's great; they've 2 pools, we'll stay": "it 's great ; they 've _num_ pools , we 'll stay",
        "It\u2019s \u201cgood\u201d\u2026": "it 's `` good '' ...",
        '"Best" I ever had ("yum")': "`` best '' i ever had ( `` yum '' )",
        "$14.99 for 1,000 fries, 50% off": "$ _num_ for _num_ fries , _num_ % off",
        "at 5:30 or 7pm, 1/2 off, 2-3 times": "at 5:30 or 7pm , 1/2 off , 2-3 times",
        "Dr. Who, p.m. or restaurant.com": "dr. who , p.m. or restaurant.com",
        "so-so hole-in-the-wall... -- meh": "so-so hole-in-the-wall ... -- meh",
        "Caf\u00e9 \U0001f355!!": "caf\u00e9 \U0001f355 ! !",
        "dogs' o'clock 'burgh": "dogs ' o'clock ' burgh",
        "le cafe\u0301 nai\u0308ve": "le caf\u00e9 na\u00efve",
        "खाना बहुत स्वादिष्ट था": "खाना बहुत स्वादिष्ट था",
        " \t\n": "",
    }.items(),
)
def test_raw_text_becomes_tokens_like_the_course_files(text, tokens):
    assert reviews.tokenize(text) == tokens.split()


def test_tokenizing_the_real_sentences_changes_almost_none(hw2_data):
    split = reviews.read_labelled(hw2_data / "dev.txt")
    changed = sum(reviews.tokenize(" ".join(sentence)) != sentence for sentence in split.sentences)
    assert changed <= 0.005 * len(split)


def test_the_built_in_set_has_the_layout_of_the_real_one(tmp_path, monkeypatch):
    small = {"train": 20, "dev": 10, "test": 10, "unlabelled": 5}
    monkeypatch.setattr(sentences.splits, "__defaults__", (0, small))
    sets = reviews.load("builtin", tmp_path)
    assert not sets.real and "built-in" in sets.name
    assert [len(split) for split in (sets.train, sets.dev, sets.test, sets.unlabelled)] == list(small.values())
