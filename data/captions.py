"""Problem 5's photos and captions: Flickr8k, COCO (cs231n's h5 files), your own photos, or the built-in scenes."""

import csv
import functools
import json
import re
import unicodedata
from collections import Counter
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import regex
from tqdm import tqdm

from bleu_utils import SPECIAL, decode_captions
from common.cli import UserError, shown, user_errors, write_text
from data import HOME, choose, drawn, fingerprint, lines, locate, sha256, weights
from data.drawn import scenes
from data.features import PhotoFeatures, StoredFeatures, h5_set

NULL, START, END, UNK = range(4)
SPLITS = ("train", "val", "test")
TOKENS, KAGGLE, KARPATHY = "Flickr8k.token.txt", "captions.txt", "dataset_flickr8k.json"
MARKERS = re.compile(r"</?(s|start|end|[sbe]os|pad|unk)>|^\s*startseq\b|\bendseq[\s.]*$", re.IGNORECASE)
LISTS = {"train": "Flickr_8k.trainImages.txt", "val": "Flickr_8k.devImages.txt", "test": "Flickr_8k.testImages.txt"}
USUAL_ARCH, BUILTIN_ARCH = "resnet50", "squeezenet1_1"
COUNTS = {"train": 1000, "val": 150, "test": 150}  # photos of the built-in set
COCO_MOST = 5000  # photos of COCO's validation files for the split val, and as many for test
NOT_PUBLISHED = "2258277193_586949ec62.jpg.1"  # is in Flickr8k's captions file but not in the set


@dataclass
class CaptionSet:
    """Photos with captions in three splits: train, val (chooses the epoch), test (used once)."""

    name: str  # for plots
    real: bool  # False if it is drawn
    idx_to_word: list  # the vocabulary, SPECIAL first
    captions: dict  # {split: (C, T) int32}, each row <START>, the words, <END>, then <NULL>
    image_idxs: dict  # {split: (C,) int}, the photo of each caption
    references: dict  # {split: for each photo, its captions as lists of words}; with rare words, except for COCO
    pictures: dict  # {split: the Path or web address of each photo}
    source: PhotoFeatures | StoredFeatures  # of the photos' features
    features: dict = field(default_factory=dict)  # {split: (P, D) float32} after `load_features`
    scaling: tuple = ()  # (mean, spread), see `scaled`

    @property
    def word_to_idx(self):
        return {word: k for k, word in enumerate(self.idx_to_word)}

    @property
    def fingerprint(self):
        """Changes when a caption, the vocabulary, a photo or the feature network changes."""
        arrays = [array.tobytes() for array in (*self.captions.values(), *self.image_idxs.values())]
        photos = [sha256(p) if isinstance(p, Path) else p for pictures in self.pictures.values() for p in pictures]
        return fingerprint(self.idx_to_word, arrays, self.references, photos, self.source.id)

    def load_features(self, photos=None):
        """Reads or computes the scaled features of `photos` {split: indices}. Raises UserError for a broken photo."""
        photos = photos or {split: range(len(pictures)) for split, pictures in self.pictures.items()}
        features = {split: self.source.read(split, chosen) for split, chosen in photos.items()}
        mean = features["train"].mean(axis=0)
        spread = np.sqrt(np.mean(np.square(features["train"] - mean)))
        self.scaling = mean, max(float(spread), 1e-6)
        self.features = {split: scaled(values, self.scaling) for split, values in features.items()}

    def part(self, split_photos, captions_each):
        """The subset of `split_photos` {split: indices}, with features. captions_each: captions per photo or None."""
        some = replace(self, captions={}, image_idxs={}, references={}, pictures={})
        for split, photos in split_photos.items():
            rows = [np.flatnonzero(self.image_idxs[split] == photo)[:captions_each] for photo in photos]
            some.captions[split] = self.captions[split][np.concatenate(rows)]
            some.image_idxs[split] = np.repeat(np.arange(len(photos)), [len(r) for r in rows])
            some.references[split] = [self.references[split][photo] for photo in photos]
            some.pictures[split] = [self.pictures[split][photo] for photo in photos]
        some.load_features(split_photos)
        return some


def scaled(features, scaling):
    """Features (N, D), centered and scaled. scaling: mean (D,) of the training photos, their RMS distance from it."""
    mean, spread = scaling
    return (features - mean) / np.float32(spread)


def load(data, cache, device, which=None, photos=None, captions=None, min_count=None, arch=None, coco_features="pca"):
    """The CaptionSet to train on. Opens no photo and computes no features yet.

    data: the script's --data. cache: the folder for drawn scenes and features. device: for the feature network.
    which: "flickr8k" or "coco", if the data folder holds both (default: Flickr8k). photos, captions: your own folder of
    photos and your captions file. min_count: a training word rarer than this becomes <UNK> (default: 5 if there are
    over 2,000 words, else 1). arch: the torchvision network for the features. coco_features: "pca" (512 numbers per
    photo) or "fc7" (VGG-16's 4,096).
    Raises UserError, naming file and line, for a set that is missing, incomplete, broken or inconsistent.
    """
    names = [which] if which else ["flickr8k", "coco"]
    found = next((name for name in names if data != "builtin" and locate(name, data)), names[0])
    folder = None if photos else choose(found, data)
    if folder and found == "coco":
        return read_coco(folder, coco_features)
    if which and data is None and not (photos or folder):
        raise UserError(f"--set {which}: not found in {HOME}; get it: python -m data.download {which}")
    real = bool(photos or folder)
    pretrained = weights.choose(arch, data, real, USUAL_ARCH, BUILTIN_ARCH)
    if photos:
        name = f"photos in {shown(Path(photos).resolve().name)}"
        texts, pictures = read_own(Path(photos), Path(captions))
    else:
        name = "Flickr8k" if real else "built-in scenes (drawn)"
        texts, pictures = read_flickr8k(folder or drawn.made_here(cache, "scenes", draw))
    source = PhotoFeatures(pictures, pretrained, cache, device)
    references = {split: [texts[photo] for photo in pictures[split]] for split in SPLITS}
    words = make_vocabulary(references["train"], min_count)
    found = CaptionSet(name, real, words, {}, {}, references, pictures, source)
    for split, texts in references.items():
        found.captions[split] = encode([caption for photo in texts for caption in photo], found.word_to_idx)
        found.image_idxs[split] = np.repeat(np.arange(len(texts)), [len(photo) for photo in texts])
    return found


def read_flickr8k(folder):
    """The captions {photo: [words, ...]} and the photos {split: [photo, ...]}, as Paths, of a Flickr8k folder.

    The photos are in `images` or `Images`. The captions come from the published file, Kaggle's or Karpathy's; the
    splits come from the published lists, Karpathy's, or `read_own`. Raises UserError, naming file and line.
    """
    photos = next((folder / name for name in ("images", "Images") if (folder / name).is_dir()), folder / "images")
    file = next((folder / name for name in (TOKENS, KAGGLE, KARPATHY) if (folder / name).is_file()), folder / TOKENS)
    if file.name != TOKENS and not any((folder / name).is_file() for name in LISTS.values()):
        return read_own(photos, file)
    texts, seen = read_captions(file, photos)[0], {}
    find = photo_finder(photos)
    for split, name in LISTS.items():
        for number, line in _lines(folder / name):
            photo, at = find(line), f"{folder / name}, line {number}: {line[:80]}"
            if photo not in texts:
                raise UserError(f"{at} has no captions in {file.name}; add some or remove the line")
            if photo in seen:
                raise UserError(f"{at} is in {seen[photo][1]}, too; remove one of the lines")
            seen[photo] = split, f"{name}, line {number}"
        if split not in {where for where, _ in seen.values()}:
            raise UserError(f"{folder / name}: lists no photos; it should name one per line")
    return texts, {split: [photo for photo, (where, _) in seen.items() if where == split] for split in LISTS}


def read_own(folder, file):
    """Reads your own photos and captions. Returns the same as `read_flickr8k`.

    The splits come from the file if it has them. Otherwise, of every ten photos sorted by name, the 9th is for testing
    and the 10th for validation. Raises UserError for fewer than 10 photos or an empty split.
    """
    texts, splits = read_captions(file, folder)
    photos = sorted(texts)
    if not splits:
        if len(photos) < 10:
            raise UserError(f"{file}: has captions of {len(photos)} photos; add some, at least 10 are needed")
        splits = {photo: {8: "test", 9: "val"}.get(k % 10, "train") for k, photo in enumerate(photos)}
    found = {split: [photo for photo in photos if splits[photo] == split] for split in SPLITS}
    if empty := [split for split in SPLITS if not found[split]]:
        raise UserError(f"{file}: has no photo in split {empty[0]}; the splits are {', '.join(SPLITS)}")
    return texts, found


def read_captions(file, folder):
    """The captions {photo: [words, ...]} in a file, and the photos' splits {photo: split} if it has them.

    file: see `entries`. Photos are Paths in `folder`. Raises UserError, naming the line or the photo, for a caption
    without words or a photo that is not in the folder.
    """
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder; it should hold the photos that {file.name} names")
    texts, splits, find = {}, {}, photo_finder(folder)
    for at, photo, caption, split in entries(file):
        path, words = find(photo), tokenize(MARKERS.sub(" ", caption))
        if photo == NOT_PUBLISHED:
            continue
        if path not in texts and not path.is_file():
            raise UserError(f"{at}: no photo {photo[:80]} in {folder}; add the photo or remove the line")
        if not words:
            raise UserError(f"{at}: the caption has no words; change or remove the line")
        texts.setdefault(path, []).append(words)
        if splits.setdefault(path, split) != split:
            raise UserError(f"{at}: is in two splits; remove one of the entries")
    if not texts:
        raise UserError(f"{file}: holds no captions; its lines should be: photo.jpg#0, a tab, the caption")
    if max(len(words) for captions in texts.values() for words in captions) == 1:
        print(f"warning: {shown(file)}: every caption is one word; are there spaces between the words?")
    return texts, splits if any(splits.values()) else {}


def photo_finder(folder):
    """A function from a photo's name to its Path: an exact match, else one that ignores case and Unicode form."""

    def plain(name):
        return unicodedata.normalize("NFC", name).casefold()

    by_name = {plain(path.name): path for path in folder.iterdir()}

    @functools.cache  # a photo has several captions
    def find(name):
        path = folder / name
        return path if path.is_file() else by_name.get(plain(name), path)

    return find


def entries(file):
    """Yields (position, photo's file name, caption, split or None) for each caption of a file.

    Formats: lines of `photo#k`, a tab, a caption (Flickr8k); a header `image,caption`, or with `|`, and CSV rows
    (Kaggle); Karpathy's JSON. Raises UserError, naming the file and, where known, the line or the photo.
    """
    if file.suffix == ".json":
        with user_errors(file):
            content = file.read_bytes()
        try:
            for image in json.loads(content)["images"]:
                split = {"restval": "train", **{split: split for split in SPLITS}}[image["split"]]
                for sentence in image["sentences"]:
                    if not isinstance(image["filename"], str) or not isinstance(sentence["raw"], str):
                        raise TypeError("a filename or caption is not a string")
                    yield f"{file}, photo {image['filename'][:80]}", image["filename"], sentence["raw"], split
        except (ValueError, KeyError, TypeError) as error:
            reason = f"missing or unknown {error}" if isinstance(error, KeyError) else error
            raise UserError(f"{file}: is not like Karpathy's dataset_flickr8k.json ({reason}); get it again") from None
        return
    numbered = list(_lines(file))
    if header := numbered and re.fullmatch(r"\W?image\w*\W?([,|;]).*(caption|comment)\w*\W?", numbered[0][1], re.I):
        columns, rows = numbered[0][1].count(header[1]), (line for _, line in numbered[1:])
        reader = csv.reader(rows, delimiter=header[1], strict=True)
        try:
            for row in reader:
                caption = header[1].join(row[columns:]) or re.sub(r"^\s*\d+\s", "", row[-1])  # if a `|` is missing
                yield f"{file}, line {numbered[reader.line_num][0]}", row[0], caption, None
        except csv.Error as error:
            raise UserError(f"{file}, line {numbered[reader.line_num][0]}: {error}; correct the quotes") from None
        return
    for number, line in numbered:
        photo, tab, caption = line.partition("\t")
        photo, mark, _ = photo.rpartition("#")
        if not tab or not mark:
            what = "should be a photo's name, '#', a number, a tab, a caption"
            raise UserError(f"{file}, line {number}: {what}; found {line[:60]!r}")
        yield f"{file}, line {number}", photo, caption, None


def _lines(file):
    """The number and text of each line that is not blank."""
    return ((number, line.strip(" ")) for number, line in lines(file) if line.strip())


def draw(folder):
    """Draws the built-in scenes into `folder`, in Flickr8k's layout, each from its own seed."""
    (folder / "images").mkdir()
    texts = []
    for s, (split, count) in enumerate(COUNTS.items()):
        names = [f"{split}_{k:04d}.png" for k in range(count)]
        for k, name in enumerate(tqdm(names, desc=f"drawing the built-in scenes, {split}", leave=False)):
            image, captions = scenes.draw_scene(np.random.default_rng([5, s, k]))
            image.save(folder / "images" / name)
            texts += [f"{name}#{j}\t{caption}" for j, caption in enumerate(captions)]
        write_text(folder / LISTS[split], "\n".join(names) + "\n")
    write_text(folder / TOKENS, "\n".join(texts) + "\n")


def tokenize(text):
    """The words of a sentence: lower case, no punctuation, `'s` as a separate word, hyphens kept inside words.

    A letter and its combining marks (accents, vowel signs) stay together.
    """
    text = unicodedata.normalize("NFC", text).lower().replace("_", " ").replace("\u2019", "'")
    return regex.findall(r"'s\b|\w+(?:['-](?!s\b)\w+)*", text)


def make_vocabulary(references, min_count=None):
    """SPECIAL, then in alphabetical order the words that occur at least `min_count` times in `references`."""
    counts = Counter(word for photo in references for caption in photo for word in caption)
    least = min_count or (5 if len(counts) > 2000 else 1)
    words = sorted(word for word, count in counts.items() if count >= least)
    if not words:
        raise UserError(f"--min-count {least}: no word is that frequent in training captions; give a smaller number")
    return [*SPECIAL, *words]


def encode(captions, word_to_idx):
    """Captions, lists of words, as numbers (C, T) int32: <START>, the words (rare ones <UNK>), <END>, then <NULL>."""
    numbers = np.full((len(captions), max(map(len, captions)) + 2), NULL, np.int32)
    for row, caption in zip(numbers, captions, strict=True):
        row[: len(caption) + 2] = [START, *(word_to_idx.get(word, UNK) for word in caption), END]
    return numbers


def read_coco(folder, which):
    """The CaptionSet of `coco2014_captions.h5`, `coco2014_vocab.json` and the feature files in the same folder.

    which: "pca" or "fc7". There is no test split: the first 5,000 validation photos become val, the next 5,000 test.
    """
    words, file = folder / "coco2014_vocab.json", folder / "coco2014_captions.h5"
    h5 = {name: folder / f"{name}2014_vgg16_fc7{'_pca' * (which == 'pca')}.h5" for name in ("train", "val")}
    for path in (words, file, *h5.values()):
        if not path.is_file():
            raise UserError(f"{path}: no such file; get it: python -m data.download coco")
    try:
        vocabulary = json.loads(words.read_bytes())["idx_to_word"]
        if vocabulary[:4] != list(SPECIAL):
            raise ValueError
    except (ValueError, KeyError, TypeError):
        raise UserError(f"{words}: has no list idx_to_word that starts with {SPECIAL}; get the file again") from None
    captions, image_idxs, pictures, references, sources, widths = {}, {}, {}, {}, {}, {}
    for name in ("train", "val"):
        with h5_set(h5[name], "features") as stored:
            count, widths[name] = stored.shape
        rows, idxs = _coco_captions(file, name, len(vocabulary), count)
        list_ = folder / f"{name}2014_urls.txt"
        urls = [line for _, line in _lines(list_)] if list_.is_file() else ["(address unknown)"] * count
        if len(urls) != count:
            raise UserError(f"{list_}: names {len(urls)} photos, but there are features of {count}; get the file again")
        photos = np.unique(idxs)
        half = min(len(photos) // 2, COCO_MOST)
        parts = {"train": photos} if name == "train" else {"val": photos[:half], "test": photos[half : 2 * half]}
        for split, chosen in parts.items():
            there = np.isin(idxs, chosen)
            captions[split], image_idxs[split] = rows[there], np.searchsorted(chosen, idxs[there])
            pictures[split], sources[split] = [urls[k] for k in chosen], (h5[name], chosen)
            references[split] = [[] for _ in chosen]
            for k, text in zip(image_idxs[split], decode_captions(captions[split], vocabulary), strict=True):
                references[split][k].append(text.split())
    if widths["train"] != widths["val"]:
        raise UserError(f"{folder}: the features of train and val differ in size {widths}; get them again")
    source = StoredFeatures(sources, f"VGG-16 fc7{', 512 principal components' * (which == 'pca')} (cs231n's files)")
    return CaptionSet("COCO (cs231n's files)", True, vocabulary, captions, image_idxs, references, pictures, source)


def _coco_captions(file, name, words, photos):
    """The captions (C, T) int32 of a split, each < `words`, and the photo (C,) of each caption, < `photos`."""
    with h5_set(file, f"{name}_captions") as rows, h5_set(file, f"{name}_image_idxs") as idxs:
        rows, idxs = rows[:], idxs[:]
    if rows.ndim != 2 or idxs.shape != rows.shape[:1] or not rows.size or (rows[:, 0] != START).any():
        raise UserError(f"{file}: {name}_captions are not one row of <START> and words for each of {name}_image_idxs")
    for what, numbers, count in (("word", rows, words), ("photo", idxs, photos)):
        if numbers.min() < 0 or numbers.max() >= count:
            found = f"{what}s {numbers.min()} ... {numbers.max()}, but there are {count} {what}s"
            raise UserError(f"{file}: {name} has {found}; the files do not match, get all of them again")
    return rows.astype(np.int32), idxs
