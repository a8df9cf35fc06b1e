"""Problem 5's captions and their photos: COCO's h5 files, Flickr8k, a set of one's own, or the built-in scenes."""

import hashlib
import re
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from tqdm import tqdm

from bleu_utils import SPECIAL, decode_captions
from data import HOME, SETS, DataError, builtin, check_folder, files, locate, weights
from data.builtin import scenes
from data.files import fingerprint, sha256, user_errors, write_text
from data.photo_features import PhotoFeatures, StoredFeatures, features_shape, h5_integers
from data.results import shown

NULL, START, END, UNK = range(4)
SPLITS = ("train", "val", "test")
LISTS = {
    "train": "Flickr_8k.trainImages.txt",
    "val": "Flickr_8k.devImages.txt",
    "test": "Flickr_8k.testImages.txt",
}
USUAL_ARCH, BUILTIN_ARCH = "resnet50", "squeezenet1_1"
COUNTS = {"train": 1000, "val": 150, "test": 150}  # scenes of the built-in set
COCO_MOST = 5000  # photos of COCO's validation files that are used to validate, and as many to test
MOST_WORDS = 250  # of a caption: all are padded to the longest
NOT_PUBLISHED = {"2258277193_586949ec62.jpg.1"}  # the published captions file names it; it was never in the set


@dataclass
class CaptionSet:
    """Photos, their captions as words and as numbers, in three splits: train, val (chooses), test (is read once).

    name, real: what plots call it, and whether it is not drawn. idx_to_word: the vocabulary, SPECIAL first.
    captions: of each split (C, T) int32: START, the words, END, then NULL. image_idxs: (C,) int: each caption's photo.
    references: of each split one list a photo of its captions, each a list of words as written, none of them <UNK>
    (COCO's h5 files hold numbers alone: there a rare word is <UNK>).
    pictures: of each split one entry a photo: its Path, or its web address where there are features alone.
    source: `source.read(split, photos)` gives the features (len(photos), D) float32 of these photos of a split;
    `source.name` and `source.id` say what made them. features: of each split (P, D), once `load_features` was called:
    less `scaling[0]`, the training photos' mean (D,), and over `scaling[1]`, their root mean square then, a number.
    """

    name: str
    real: bool
    idx_to_word: list
    captions: dict
    image_idxs: dict
    references: dict
    pictures: dict
    source: object
    features: dict = field(default_factory=dict)
    scaling: tuple = ()

    @property
    def word_to_idx(self):
        return {word: k for k, word in enumerate(self.idx_to_word)}

    @property
    def fingerprint(self):
        """Changes when a caption, a word of the vocabulary, a photo or what its features are made by changes."""
        arrays = [part[split] for part in (self.captions, self.image_idxs) for split in self.captions]
        numbers = [hashlib.sha256(array.tobytes()).hexdigest() for array in arrays]
        photos = [
            sha256(picture) if isinstance(picture, Path) else picture
            for pictures in self.pictures.values()
            for picture in pictures
        ]
        references = [self.references[split] for split in self.captions if split != "train"]
        return fingerprint(self.idx_to_word, numbers, references, photos, self.source.id)

    def load_features(self):
        """Reads or computes the features of every photo, and scales them; they take photos x D x 4 bytes."""
        self._scale({split: self.source.read(split, range(len(self.pictures[split]))) for split in SPLITS})

    def _scale(self, features):
        mean = features["train"].mean(axis=0)
        spread = np.sqrt(np.mean(np.square(features["train"] - mean)))
        self.scaling = mean, max(float(spread), 1e-6)
        self.features = {split: scaled(values, self.scaling) for split, values in features.items()}

    def part(self, split_photos, captions_each):
        """A smaller set: of each split these photos (indices), of each photo its first `captions_each` captions."""
        captions, image_idxs, references, pictures, features = {}, {}, {}, {}, {}
        for split, photos in split_photos.items():
            rows = [np.flatnonzero(self.image_idxs[split] == photo)[:captions_each] for photo in photos]
            captions[split] = self.captions[split][np.concatenate(rows)]
            image_idxs[split] = np.repeat(np.arange(len(photos)), [len(r) for r in rows])
            references[split] = [self.references[split][photo] for photo in photos]
            pictures[split] = [self.pictures[split][photo] for photo in photos]
            features[split] = self.source.read(split, photos)
        some = CaptionSet(
            self.name, self.real, self.idx_to_word, captions, image_idxs, references, pictures, self.source
        )
        some._scale(features)
        return some


def scaled(features, scaling):
    """Features (N, D) as a model takes them: less the mean and over the spread of those that it was trained on."""
    mean, spread = scaling
    return (features - mean) / np.float32(spread)


# ---- which set


def load(args, cache, device):
    """The CaptionSet that a run of image_captioning.py trains on; no photo is opened and no feature computed yet.

    args: the flags --data, --set, --photos, --captions, --min-count, --arch, --coco-features. cache: the folder for
    built-in drawings and features. device: where the network that makes the features runs.
    Raises DataError, naming file and line, on a set that is incomplete, broken, or contradicts itself.
    """
    if args.photos:
        return read_own(Path(args.photos), Path(args.captions), args, cache, device)
    name, folder = find(args.data, args.set)
    if name == "coco":
        return read_coco(folder, args.coco_features)
    if name == "flickr8k":
        return read_flickr8k(folder, "Flickr8k", True, args, cache, device)
    return read_flickr8k(draw(cache), "built-in scenes (drawn)", False, args, cache, device)


def find(data, wanted=None):
    """The name and folder of the set to read: ("flickr8k" or "coco", Path), or ("builtin", None).

    data: the script's `--data`; wanted: `--set`, where DIR holds both.
    """
    check_folder(data)
    names = [wanted] if wanted else ["flickr8k", "coco"]
    if data != "builtin":
        for name in names:
            if folder := locate(name, data or HOME):
                return name, folder
    if data is None and wanted is None or data == "builtin":
        return "builtin", None
    parts, get = " or ".join(SETS[name][0] for name in names), f"python -m data.download {names[0]}"
    where = f"--data {data}" if data else f"--set {wanted}"
    raise DataError(
        f"{where}: there is no {parts}; use --data builtin, or get it: {get}{f' --data {data}' if data else ''}"
    )


def choose_weights(args, real):
    """The network that makes the features: `--arch`'s, or ResNet-50's where it is found, or the built-in SqueezeNet.

    Drawn scenes go with the weights that learned from drawings, unless `--arch` or `--data` asks for others.
    """
    source = args.data or ("builtin" if args.arch is None and not real else None)
    usual = source != "builtin" and weights.find(USUAL_ARCH, source)
    return weights.load(args.arch or (USUAL_ARCH if usual else BUILTIN_ARCH), source)


# ---- photos with a captions file


def read_flickr8k(folder, name, real, args, cache, device):
    """Flickr8k's own layout: images/, Flickr8k.token.txt (photo#k, a tab, a caption), and a list of photos a split."""
    texts = read_captions(folder / "Flickr8k.token.txt", folder / "images")
    lists = {split: read_list(folder / file, texts) for split, file in LISTS.items()}
    for split, other in (("val", "train"), ("test", "train"), ("test", "val")):
        if both := set(lists[split]) & set(lists[other]):
            raise DataError(
                f"{folder / LISTS[split]}: {min(both)} is in {LISTS[other]} too; a photo goes into one split"
            )
    return _photo_set(name, real, texts, lists, folder / "images", args, cache, device)


def read_own(photos, file, args, cache, device):
    """A folder of photos and a captions file; of the photos by name each tenth validates, the one before it tests."""
    texts = read_captions(file, photos)
    names = sorted(texts)
    if len(names) < 10:
        raise DataError(
            f"{file}: captions of {len(names)} photos; there must be 10 or more, of which one tests, one validates"
        )
    lists = {"val": names[9::10], "test": names[8::10]}
    lists["train"] = sorted(set(names) - {*lists["val"], *lists["test"]})
    return _photo_set(f"photos in {shown(photos.resolve().name)}", True, texts, lists, photos, args, cache, device)


def read_captions(file, photos):
    """{photo: [caption, ...]} of a captions file, whose lines are `photo#k`, a tab, a caption.

    Raises DataError, naming the line, where one is no such line, names no photo in the folder `photos`, or has no word.
    """
    if not photos.is_dir():
        raise DataError(f"{photos}: no such folder; it should hold the photos that {file.name} names")
    with user_errors(photos):
        there = {path.name for path in photos.iterdir()}
    texts = {}
    for number, line in _lines(file):
        photo, tab, caption = line.partition("\t")
        photo, mark, _ = photo.rpartition("#")
        at = f"{file}, line {number}"
        if not tab or not mark:
            raise DataError(
                f"{at}: should be a photo's name, '#', a number, a tab and the caption; it is {shown(line, 60)!r}"
            )
        if photo in NOT_PUBLISHED:
            continue
        if photo not in there:
            raise DataError(f"{at}: no photo {shown(photo, 80)} in {photos}; add the photo or remove the line")
        if photo not in texts and not (photos / photo).is_file():
            raise DataError(f"{at}: {shown(photo, 80)} in {photos} is a folder or the like, not a photo")
        if not 0 < (words := len(tokenize(caption))) <= MOST_WORDS:
            found = f"{words:,} words; {MOST_WORDS} are the most" if words else "no word"
            raise DataError(f"{at}: the caption has {found}; change or remove the line")
        texts.setdefault(photo, []).append(caption)
    if not texts:
        raise DataError(f"{file}: holds no captions; its lines should be: photo.jpg#0, a tab, the caption")
    return texts


def read_list(file, texts):
    """The photos that a list names, one a line. Raises DataError where one has no caption, or twice the same."""
    photos = {}
    for number, photo in _lines(file):
        at = f"{file}, line {number}: {shown(photo, 80)}"
        if photo not in texts:
            raise DataError(f"{at} has no captions in Flickr8k.token.txt; add some or remove the line")
        if photo in photos:
            raise DataError(f"{at} is listed twice, first in line {photos[photo]}; remove one of the lines")
        photos[photo] = number
    if not photos:
        raise DataError(f"{file}: lists no photos; it should name one a line")
    return list(photos)


def _lines(file):
    """The number and the text of each line that is not blank."""
    return ((number, line.strip(" ")) for number, line in enumerate(files.lines(file), 1) if line.strip())


def _photo_set(name, real, texts, lists, folder, args, cache, device):
    """The CaptionSet of captions as text, {photo: [caption, ...]}, and lists of photos."""
    references = {split: [[tokenize(text) for text in texts[photo]] for photo in lists[split]] for split in SPLITS}
    words = Counter(word for captions in references["train"] for caption in captions for word in caption)
    least = args.min_count or (5 if len(words) > 2000 else 1)
    vocabulary = [*SPECIAL, *sorted(word for word, count in words.items() if count >= least)]
    if len(vocabulary) == len(SPECIAL):
        raise DataError(f"--min-count {least}: no word is in the training captions that often; give a smaller number")
    word_to_idx = {word: k for k, word in enumerate(vocabulary)}
    paths = {split: [folder / photo for photo in lists[split]] for split in SPLITS}
    return CaptionSet(
        name=name,
        real=real,
        idx_to_word=vocabulary,
        captions={s: encode([c for photo in references[s] for c in photo], word_to_idx) for s in SPLITS},
        image_idxs={s: np.repeat(np.arange(len(lists[s])), [len(photo) for photo in references[s]]) for s in SPLITS},
        references=references,
        pictures=paths,
        source=PhotoFeatures(paths, choose_weights(args, real), cache, device),
    )


# ---- words


def tokenize(text):
    """The words of a sentence: lower case, punctuation dropped, `'s` a word of its own, hyphens kept inside words."""
    return re.findall(r"'s\b|\w+(?:['-](?!s\b)\w+)*", text.lower().replace("_", " "))


def is_word(word):
    """Whether a word of a vocabulary can be shown: of printable letters and no blank."""
    return word.isprintable() and word.split() == [word]


def encode(captions, word_to_idx):
    """Captions, lists of words, as numbers (C, T) int32: <START>, the words (rare ones <UNK>), <END>, then <NULL>."""
    numbers = np.full((len(captions), max(map(len, captions)) + 2), NULL, np.int32)
    for row, caption in zip(numbers, captions, strict=True):
        row[: len(caption) + 2] = [START, *(word_to_idx.get(word, UNK) for word in caption), END]
    return numbers


# ---- the h5 files of Stanford's course cs231n


def read_coco(folder, which):
    """The CaptionSet of `coco2014_captions.h5`, `coco2014_vocab.json` and the features' files beside them.

    which: "pca" (512 numbers a photo) or "fc7" (VGG-16's 4,096). There is no test split in these files: the first 5,000
    of the validation photos validate, the next 5,000 test.
    """
    vocabulary = _vocabulary(folder / "coco2014_vocab.json")
    suffix = {"pca": "_pca", "fc7": ""}[which]
    captions, image_idxs, pictures, references, sources, widths = {}, {}, {}, {}, {}, set()
    for name in ("train", "val"):
        file, h5 = folder / "coco2014_captions.h5", folder / f"{name}2014_vgg16_fc7{suffix}.h5"
        rows, idxs = _coco_captions(file, name, len(vocabulary))
        count, width = features_shape(h5)
        widths.add(width)
        if idxs.min() < 0 or idxs.max() >= count:
            bad = idxs.min() if idxs.min() < 0 else idxs.max()
            raise DataError(
                f"{file}: {name}_image_idxs holds photo {bad}, {h5.name} has {count} photos; get both files again"
            )
        urls = _urls(folder / f"{name}2014_urls.txt", count)
        photos = np.unique(idxs)
        parts = {"train": photos}
        if name == "val":
            half = min(len(photos) // 2, COCO_MOST)
            parts = {"val": photos[:half], "test": photos[half : 2 * half]}
        for split, chosen in parts.items():
            there = np.isin(idxs, chosen)
            captions[split] = rows[there].astype(np.int32)
            image_idxs[split] = np.searchsorted(chosen, idxs[there])
            pictures[split] = [urls[k] for k in chosen]
            sources[split] = (h5, chosen)
            references[split] = [[] for _ in chosen]
            for k, text in zip(image_idxs[split], decode_captions(captions[split], vocabulary), strict=True):
                references[split][k].append(text.split())
    if len(widths) > 1:
        raise DataError(
            f"{folder}: the features of train and val have different sizes {sorted(widths)}; get them again"
        )
    if not len(pictures["val"]):
        raise DataError(f"{folder / 'coco2014_captions.h5'}: captions of one validation photo; there must be 2 or more")
    source = StoredFeatures(
        sources, f"VGG-16 fc7{', 512 principal components' if which == 'pca' else ''} (cs231n's files)"
    )
    return CaptionSet("COCO (cs231n's files)", True, vocabulary, captions, image_idxs, references, pictures, source)


def _coco_captions(file, name, words):
    """The captions (C, T) of the split `name` and the number of each one's photo (C,), int64, of `words` words."""
    rows = h5_integers(file, f"{name}_captions", 2)
    idxs = h5_integers(file, f"{name}_image_idxs", 1)
    if len(rows) != len(idxs):
        raise DataError(f"{file}: {len(rows)} {name}_captions, but {len(idxs)} {name}_image_idxs; get the file again")
    if rows.min() < 0 or rows.max() >= words:
        bad = rows.min() if rows.min() < 0 else rows.max()
        raise DataError(
            f"{file}: {name}_captions holds word {bad}, the vocabulary has {words} words; get both files again"
        )
    if rows.shape[1] < 2 or not ((rows[:, 0] == START) & (rows[:, 1] > END)).all():
        raise DataError(f"{file}: {name}_captions has one that is not <START> and words; get the file again")
    return rows, idxs


def _vocabulary(file):
    """The words of `coco2014_vocab.json` by their index."""
    if not file.is_file():
        raise DataError(f"{file}: no such file; python -m data.download coco gets it")
    try:
        words = files.read_json(file)["idx_to_word"]
        if not isinstance(words, list) or not all(map(is_word, words)):
            raise ValueError
    except files.BAD_JSON:
        raise DataError(f"{file}: holds no list 'idx_to_word' of words; get the file again") from None
    if words[:4] != list(SPECIAL) or len(set(words)) != len(words):
        raise DataError(f"{file}: should begin with {', '.join(SPECIAL)} and name each word once; get the file again")
    return words


def _urls(file, count):
    """Where each photo lies on the web, one a line; unknown where the list is not there."""
    if not file.is_file():
        return ["(address unknown)"] * count
    urls = [line for _, line in _lines(file)]
    if len(urls) != count:
        raise DataError(f"{file}: names {len(urls)} photos, the features are of {count}; get the file again")
    return urls


# ---- the built-in set


def draw(cache):
    """The folder of the built-in scenes, in Flickr8k's layout, drawn from a fixed seed on the first call."""
    return builtin.made(cache, "scenes", _draw)


def _draw(folder):
    (folder / "images").mkdir()
    lines = []
    with tqdm(total=sum(COUNTS.values()), desc="drawing the built-in scenes", leave=False) as bar:
        for s, (split, count) in enumerate(COUNTS.items()):
            names = [f"{split}_{k:04d}.png" for k in range(count)]
            for k, name in enumerate(names):
                image, captions = scenes.draw_scene(np.random.default_rng([5, s, k]))
                image.save(folder / "images" / name)
                lines += [f"{name}#{j}\t{caption}" for j, caption in enumerate(captions)]
                bar.update()
            write_text(folder / LISTS[split], "\n".join(names) + "\n")
    write_text(folder / "Flickr8k.token.txt", "\n".join(lines) + "\n")
