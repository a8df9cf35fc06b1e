"""Problem 6's sentences: the course's files of labeled reviews, or built-in sentences; the tokenizer for raw text."""

import unicodedata
from dataclasses import dataclass, replace

import regex

from common.cli import UserError, write_text
from data import choose, drawn, fingerprint, lines
from data.drawn import sentences

SPLITS = ("train", "dev", "test")


@dataclass(frozen=True)
class Split:
    """Sentences (lists of tokens) and their labels (1 positive, 0 negative; None if unlabeled)."""

    sentences: list
    labels: list | None = None

    def __len__(self):
        return len(self.sentences)


@dataclass(frozen=True)
class Reviews:
    """Three labeled Splits, the sentences to predict (may be empty), the name in plots, and whether they are real."""

    train: Split
    dev: Split
    test: Split
    unlabelled: Split
    name: str
    real: bool

    @property
    def fingerprint(self):
        """Changes with any word or label."""
        return fingerprint(self.train, self.dev, self.test, self.unlabelled)


def load(data, cache):
    """The Reviews for training and evaluation.

    data: the script's --data. cache: the folder for the built-in set. If `tokenize` changes more than a tenth of the
    sentences of one file, tokenizes all files and prints a line. Raises UserError, naming the file and the line.
    """
    real = choose("sentences", data)
    title = "the course's review sentences (real)" if real else "built-in sentences (generated)"
    folder = real or drawn.made_here(cache, "sentences", write)

    def read(split):
        labelled = [read_labelled(folder / f"{name}.txt", split) for name in SPLITS]
        return [*labelled, read_unlabelled(file, split) if file.exists() else Split([])]

    file = folder / "unlabelled.txt"
    for name, found in zip((*SPLITS, "unlabelled"), parts := read(str.split), strict=True):
        some = found.sentences[:: len(found) // 1000 + 1]  # all of the course's sentences would take a second
        if sum(tokenize(" ".join(words)) != words for words in some) > len(some) / 10:  # in the course's files: 2%
            print(f"{folder / name}.txt: is raw text; all sentences are tokenized (lower case, punctuation split off)")
            parts = read(tokenize)
            break
    return Reviews(*parts, name=title, real=real is not None)


def part(sets, train, others):
    """The first `train` training sentences and the first `others` dev and test sentences, half for each label."""
    return replace(sets, **{name: _first(getattr(sets, name), train if name == "train" else others) for name in SPLITS})


def _first(split, most):
    rows = [[k for k, label in enumerate(split.labels) if label == one][: most // 2] for one in (0, 1)]
    rows = sorted(rows[0] + rows[1])
    return Split([split.sentences[k] for k in rows], [split.labels[k] for k in rows])


def read_labelled(path, split=str.split):
    """A Split from a file of lines `<label> <sentence>`. split: a function from a sentence to its tokens.

    Raises UserError, naming the line, if the label is not 0 or 1 or there are no words; also if a label never occurs.
    """
    tokens, labels = [], []
    for number, line in lines(path):
        label, sentence = [*line.split(maxsplit=1), "", ""][:2]
        words = split(sentence)
        if label not in ("0", "1"):
            raise UserError(f"{path}, line {number}: begins with {label[:20]!r}; it should begin with a label, 0 or 1")
        if not words:
            raise UserError(f"{path}, line {number}: has a label but no sentence; add its words or remove the line")
        tokens.append(words)
        labels.append(int(label))
    if len(set(labels)) < 2:
        raise UserError(f"{path}: needs sentences of both labels, 0 and 1; has labels {sorted(set(labels))}")
    return Split(tokens, labels)


def read_unlabelled(path, split=str.split):
    """A Split without labels: one sentence per line, `split` as above. Raises UserError for an empty line or file."""
    tokens = [split(line) for _, line in lines(path)]
    if [] in tokens or not tokens:
        raise UserError(f"{path}, line {[*tokens, []].index([]) + 1}: is empty; there should be one sentence a line")
    return Split(tokens)


def write(folder):
    """Writes the built-in sentences into `folder`, in the layout of the course's files."""
    for name, texts in sentences.splits().items():
        write_text(folder / f"{name}.txt", "".join(f"{text}\n" for text in texts))


CURLY = str.maketrans({"\u2018": "'", "\u2019": "'", "\u201c": '"', "\u201d": '"', "\u2026": "..."})
CLITIC = regex.compile(r"(?<=\w)(n't|'(?:s|m|d|re|ve|ll))(?!\w)")  # did|n't, it|'s
OPENING = regex.compile(r'(?<![^\s(\[])"')
TOKEN = regex.compile(
    r"""_num_
    | (?<!\w) n't (?!\w) | ' (?:s|m|d|re|ve|ll|n|em) (?!\w)   # split off by CLITIC
    | `` | '' | \.\.+ | --+
    | (?:dr|mr|mrs|ms|vs|a\.m|p\.m) \.                        # abbreviations keep their period
    | (?P<number> \d+ (?:[.,]\d+)* ) (?! \w | [-/:] \w )      # 5:30, 1/2 and 7pm are words in the data
    | [^\W_]+ (?: [-/:.'&] [^\W_]+ )*                         # hyphens, slashes and the like inside a word
    | \S""",
    regex.VERBOSE,
)


def tokenize(text):
    """The list of tokens of raw text, in the format of the course's files; empty for blank text.

    Lower case; punctuation, `n't`, `'s` and the like are separate tokens; numbers become `_num_`, double quotes
    `` and ''. A letter and its combining marks stay together. Tokenized text is unchanged, with rare exceptions.
    """
    text = unicodedata.normalize("NFC", text).translate(CURLY).lower().replace("cannot", "can not")
    text = OPENING.sub(" `` ", text).replace('"', " '' ")
    return [
        "_num_" if match["number"] else "..." if match[0].startswith("..") else match[0]
        for match in TOKEN.finditer(CLITIC.sub(r" \1", text))
    ]
