"""data/reviews.py and data/builtin/sentences.py: files, errors with their line, tokens, and the grammar's sentences."""

import collections

import pytest

from data import DataError, reviews
from data.builtin import sentences
from tests.runs import check_one_error

GOOD = "1 the soup was great .\n0 it was n't .\n"


@pytest.fixture
def folder(tmp_path):
    """A whole set of two sentences each."""
    for name in reviews.SPLITS:
        (tmp_path / f"{name}.txt").write_text(GOOD)
    (tmp_path / "unlabelled.txt").write_text("so so .\nnever again !\n")
    return tmp_path


# ---- the course's files


def test_a_set_is_read_word_by_word_with_its_labels_in_the_files_order(folder):
    sets = reviews.load(folder, None)
    assert sets.train.sentences == [["the", "soup", "was", "great", "."], ["it", "was", "n't", "."]]
    assert sets.dev.labels == sets.test.labels == [1, 0] and sets.real
    assert sets.unlabelled.sentences == [["so", "so", "."], ["never", "again", "!"]] and sets.unlabelled.labels is None


@pytest.mark.parametrize(
    "content",
    [GOOD.encode()[:-1], GOOD.replace("\n", "\r\n").encode(), b"\xef\xbb\xbf" + GOOD.encode(),
     b"1\tthe  soup was great .\n0 it was n't .\n"],
    ids=["no end of line at the end", "Windows' ends of line", "a byte order mark", "tabs and two blanks"],
)  # fmt: skip
def test_files_of_other_editors_are_read_alike(folder, content):
    (folder / "dev.txt").write_bytes(content)
    assert reviews.read_labelled(folder / "dev.txt") == reviews.read_labelled(folder / "train.txt")


def test_without_unlabelled_sentences_the_set_is_whole_all_the_same(folder):
    (folder / "unlabelled.txt").unlink()
    assert len(reviews.load(folder, None).unlabelled) == 0


def test_the_fingerprint_changes_with_a_word_and_with_a_label_of_any_file_but_not_with_blanks(folder):
    seen = {reviews.load(folder, None).fingerprint}
    for name in (*reviews.SPLITS, "unlabelled"):
        path = folder / f"{name}.txt"
        path.write_text(path.read_text().replace(" .", " !"))
        seen.add(reviews.load(folder, None).fingerprint)
    (folder / "dev.txt").write_text((folder / "dev.txt").read_text().replace("1 the", "0 the").replace("0 it", "1 it"))
    seen.add(reviews.load(folder, None).fingerprint)
    assert len(seen) == 6
    (folder / "dev.txt").write_text((folder / "dev.txt").read_text().replace(" ", "  "))
    assert reviews.load(folder, None).fingerprint in seen


BROKEN = {
    "a label of 2": ("train", b"1 good\n2 bad\n", "line 2"),
    "a label that is a word": ("dev", b"good 1\n", "line 1"),
    "a label glued to its sentence": ("dev", b"1 good\n0bad food\n", "line 2"),
    "an empty line": ("test", b"1 good\n\n0 bad\n", "line 2"),
    "an empty line at the end": ("test", b"1 good\n0 bad\n\n", "line 3"),
    "a label without a sentence": ("train", b"1 good\n0 bad\n1\n", "line 3"),
    "a label and blanks": ("train", b"1  \t \n0 bad\n", "line 1"),
    "an empty file": ("dev", b"", "is empty"),
    "a file that is not UTF-8": ("test", b"1 good\n0 caf\xe9\n", "line 2"),
    "one class only": ("train", b"1 good\n1 fine\n", "every label is 1"),
    "one class only in test": ("test", b"0 bad\n", "every label is 0"),
    "an unlabelled line without words": ("unlabelled", b"good\n \n", "line 2"),
    "an empty unlabelled file": ("unlabelled", b"", "is empty"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_a_broken_file_is_named_with_its_line(folder, case):
    name, content, said = BROKEN[case]
    (folder / f"{name}.txt").write_bytes(content)
    check_one_error(lambda: reviews.load(folder, None), f"{folder / name}.txt", said)


@pytest.mark.parametrize("name", reviews.SPLITS)
def test_a_missing_file_is_an_error_that_names_it(folder, name):
    (folder / f"{name}.txt").unlink()
    with pytest.raises(DataError, match=f"{name}.txt: no such file"):
        reviews.load(folder, None)


def test_a_part_has_as_many_of_both_classes_and_keeps_the_unlabelled_sentences(folder):
    (folder / "train.txt").write_text(
        "".join(f"0 word{k}\n" for k in range(9)) + "".join(f"1 w{k}\n" for k in range(9))
    )
    part = reviews.part(reviews.load(folder, None), 6, 2)
    assert part.train.labels == [0, 0, 0, 1, 1, 1] and part.train.sentences[3] == ["w0"]
    assert len(part.dev) == len(part.test) == 2 and len(part.unlabelled) == 2


def test_the_real_set_has_the_sizes_that_are_known(hw2_data):
    sets = reviews.load(hw2_data, None)
    assert [len(split) for split in (sets.train, sets.dev, sets.test, sets.unlabelled)] == [40_000, *3 * [10_000]]
    assert sum(sets.train.labels) == 20_000 and max(map(len, sets.test.sentences)) <= 15


# ---- raw text


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
        "was n't it ? _num_ stars": "was n't it ? _num_ stars",
        "Caf\u00e9 \U0001f355!!": "caf\u00e9 \U0001f355 ! !",
        "dogs' o'clock 'burgh": "dogs ' o'clock ' burgh",
        " \t\n": "",
    }.items(),
)
def test_raw_text_becomes_tokens_as_the_course_made_them(text, tokens):
    assert reviews.tokenize(text) == tokens.split()


def test_the_real_sentences_come_out_of_the_tokenizer_as_they_went_in(hw2_data):
    split = reviews.read_labelled(hw2_data / "dev.txt")
    changed = sum(reviews.tokenize(" ".join(sentence)) != sentence for sentence in split.sentences)
    assert changed <= 0.005 * len(split)


def test_the_builtin_sentences_come_out_of_the_tokenizer_as_they_went_in(drawn):
    assert [line for line in drawn["unlabelled"] if reviews.tokenize(line) != line.split()] == []


# ---- the built-in set


@pytest.fixture(scope="module")
def drawn():
    return sentences.splits(counts={"train": 6000, "dev": 1000, "unlabelled": 1000})


def test_one_seed_gives_the_same_sentences_and_another_gives_others(drawn):
    assert sentences.splits(counts={"train": 50}) == sentences.splits(counts={"train": 50})
    assert sentences.splits(1, counts={"train": 50}) != sentences.splits(counts={"train": 50})


def test_no_builtin_sentence_comes_twice_in_or_between_the_files(drawn):
    lines = [line.removeprefix("0 ").removeprefix("1 ") for name in drawn for line in drawn[name]]
    assert len(set(lines)) == len(lines) == 8000


def test_builtin_labels_are_balanced_and_lengths_those_of_the_real_set(drawn):
    labels = [line[0] for line in drawn["train"]]
    assert 0.47 < labels.count("1") / len(labels) < 0.53
    lengths = [len(line.split()) - 1 for line in drawn["train"]]
    assert min(lengths) == 5 and max(lengths) == 15 and 9 < sum(lengths) / len(lengths) < 11.5


def test_builtin_words_have_a_long_tail_as_in_real_reviews(drawn):
    counts = collections.Counter(word for line in drawn["train"] for word in line.split()[1:])
    assert len(counts) > 1500 and 0.15 < sum(count == 1 for count in counts.values()) / len(counts) < 0.7


def test_in_the_grammar_the_same_words_can_mean_either(drawn):
    """Every kind of sentence but the plain one has good and bad words, or a negation, with both labels."""
    sides = {"0": set(), "1": set()}
    for line in drawn["train"]:
        label, *words = line.split()
        sides[label].add(tuple(sorted({"not", "but", "though", "unlike"} & set(words))))
    assert sides["0"] == sides["1"] and len(sides["0"]) >= 5


def test_the_builtin_set_is_written_once_in_the_course_layout(tmp_path, monkeypatch):
    monkeypatch.setattr(sentences, "COUNTS", {})
    small = {"train": 20, "dev": 10, "test": 10, "unlabelled": 5}
    monkeypatch.setattr(sentences.splits, "__defaults__", (0, small))
    sets = reviews.load("builtin", tmp_path)
    assert not sets.real and "built-in" in sets.name
    assert [len(split) for split in (sets.train, sets.dev, sets.test, sets.unlabelled)] == list(small.values())
    monkeypatch.setattr(sentences, "splits", None)  # not needed any more
    assert reviews.load("builtin", tmp_path) == sets
