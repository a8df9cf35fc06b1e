"""Problem 6's sentences: the course's files of labelled reviews, or the built-in ones; raw text to tokens."""

import re
from dataclasses import dataclass, replace
from pathlib import Path

from data import DataError, builtin, choose, files
from data.builtin import sentences
from data.files import fingerprint, write_text

SPLITS = ("train", "dev", "test")


@dataclass(frozen=True)
class Split:
    """Sentences (lists of tokens) and their labels (1 positive, 0 negative; None where there are none)."""

    sentences: list
    labels: list | None = None

    def __len__(self):
        return len(self.sentences)


@dataclass(frozen=True)
class Reviews:
    """The labelled splits, the sentences to predict (an empty Split where there are none), and their name in plots."""

    train: Split
    dev: Split
    test: Split
    unlabelled: Split
    name: str
    real: bool = True

    @property
    def fingerprint(self):
        """Changes with any word or label of any split."""
        return fingerprint(*((split.sentences, split.labels) for split in vars(self).values() if type(split) is Split))


def load(data, cache):
    """The sentences that a run trains on and is measured on.

    data: the script's `--data`. cache: the folder where the built-in set is written if it is not there yet.
    Raises DataError, naming the file and the line, on an incomplete set or a broken file.
    """
    folder = choose("sentences", data)
    if folder:
        return read(folder, "the course's review sentences (real)")
    return replace(read(write_builtin(cache), "built-in sentences (generated)"), real=False)


def read(folder, name):
    """The `Reviews` in `folder/{train,dev,test}.txt` and, where it is there, `folder/unlabelled.txt`.

    Raises DataError where a file is missing, empty, not UTF-8, or of one class only, and for a line without a label of
    0 or 1 or without a sentence.
    """
    labelled = {split: read_labelled(Path(folder) / f"{split}.txt") for split in SPLITS}
    unlabelled = Path(folder) / "unlabelled.txt"
    return Reviews(**labelled, unlabelled=read_unlabelled(unlabelled) if unlabelled.exists() else Split([]), name=name)


def part(sets, train, others):
    """The `Reviews` with the first `train` sentences to train on and the first `others` of dev and of test.

    Half of them are of each class, since a file may hold all of one class first.
    """
    return replace(sets, **{name: _first(vars(sets)[name], train if name == "train" else others) for name in SPLITS})


def _first(split, most):
    rows = [[k for k, label in enumerate(split.labels) if label == one][: most // 2] for one in (0, 1)]
    rows = sorted(rows[0] + rows[1])
    return Split([split.sentences[k] for k in rows], [split.labels[k] for k in rows])


def read_labelled(path):
    """A `Split` from a file of lines `<label> <sentence>`, tokens apart by white space. DataError as in `read`."""
    tokens, labels = [], []
    for number, line in enumerate(read_lines(path), 1):
        label, *sentence = line.split() or [""]
        if label not in ("0", "1"):
            raise DataError(
                f"{path}, line {number}: begins with {label[:20]!r}; it should begin with the label, 0 or 1"
            )
        if not sentence:
            raise DataError(f"{path}, line {number}: has a label but no sentence; add its words or remove the line")
        tokens.append(sentence)
        labels.append(int(label))
    if len(set(labels)) < 2:
        raise DataError(f"{path}: every label is {labels[0]}; sentences of both classes, 0 and 1, are needed")
    return Split(tokens, labels)


def read_unlabelled(path, split=str.split):
    """A `Split` without labels from a file of one sentence a line. split: makes tokens of a line.

    Raises DataError where the file is missing, empty or not UTF-8, or a line has no words.
    """
    lines = [split(line) for line in read_lines(path)]
    if [] in lines:
        raise DataError(f"{path}, line {lines.index([]) + 1}: is empty; there should be one sentence a line")
    return Split(lines)


def read_lines(path):
    """The lines of a text file, one at a time. Raises DataError as `files.lines` does, and where there is none."""
    line = None
    for line in files.lines(path):
        yield line
    if line is None:
        raise DataError(f"{path}: is empty; there should be one sentence a line")


def write_builtin(cache):
    """The folder of the built-in sentences, in the layout of the course's, written on the first call."""
    return builtin.made(cache, "sentences", _write)


def _write(folder):
    for name, lines in sentences.splits().items():
        write_text(folder / f"{name}.txt", "".join(f"{line}\n" for line in lines))


# ---- raw text


CURLY = str.maketrans({"\u2018": "'", "\u2019": "'", "\u201c": '"', "\u201d": '"', "\u2026": "..."})
CLITIC = re.compile(r"(?<=\w)(n't|'(?:s|m|d|re|ve|ll))(?!\w)")  # did|n't, it|'s
OPENING = re.compile(r'(?<![^\s(\[])"')
TOKEN = re.compile(
    r"""_num_
    | (?<!\w) n't (?!\w) | ' (?:s|m|d|re|ve|ll|n|em) (?!\w)   # what CLITIC cut off
    | `` | '' | \.\.+ | --+
    | (?:dr|mr|mrs|ms|vs|a\.m|p\.m) \.                        # abbreviations keep their full stop
    | (?P<number> \d+ (?:[.,]\d+)* ) (?! \w | [-/:] \w )      # 5:30, 1/2 and 7pm are words in the data
    | [^\W_]+ (?: [-/:.'&] [^\W_]+ )*                         # hyphens, slashes and the like inside of a word
    | \S""",
    re.VERBOSE,
)


def tokenize(text):
    """Raw text as tokens in the way of the course's files (a list; empty where the text is blank).

    Lower case; punctuation apart; `n't`, `'s` and the like apart; numbers as `_num_`; double quotes as `` and ''.
    Text that is tokenized already comes out as it went in, but for a few rarities.
    """
    text = text.translate(CURLY).lower().replace("cannot", "can not")
    text = OPENING.sub(" `` ", text).replace('"', " '' ")
    return [
        "_num_" if match["number"] else "..." if match[0].startswith("..") else match[0]
        for match in TOKEN.finditer(CLITIC.sub(r" \1", text))
    ]
