"""Problem 6: sentiment classification. Five models, from a bag of words to an LSTM, tell good reviews from bad ones.

python sentiment.py                                    # train all five, measure them, predict the unlabelled sentences
python sentiment.py --predict "Not bad at all!" ...    # what every trained model says of your own sentences
python sentiment.py --predict-file my_reviews.txt      # the same for a file, one sentence a line
"""

if __name__ == "__main__":
    from data import catch_ctrl_c

    catch_ctrl_c()

import copy
import math
import time
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import mean, stdev

import torch
from torch import nn
from torch.nn import functional as F
from tqdm import tqdm

from data import DataError, glove, plot, results, reviews
from data.tensors import load_tensors, quiet

PAD, UNKNOWN = 0, 1  # the first two numbers of a vocabulary: no word at all, and every word that is not in it
MODEL = "models that sentiment.py saved"


# ---- words as numbers


def make_vocabulary(sentences, least=2):
    """The words seen `least` times or more, commonest first, behind one for PAD and one for UNKNOWN: a list of strings.

    Rarer words are UNKNOWN to the models in training too, so that they learn what to make of a new word; so are words
    that cannot be printed, with control characters in them, say.
    """
    counts = Counter(word for sentence in sentences for word in sentence)
    return ["", "_unknown_"] + [word for word, count in counts.most_common() if count >= least and word.isprintable()]


class Encoded:
    """Sentences (lists of words) as numbers of a vocabulary, one behind the other in a single tensor.

    labels: 0 or 1 for each sentence; None (they are not known) counts as zeros.
    """

    def __init__(self, sentences, vocabulary, labels=None):
        index = {word: k for k, word in enumerate(vocabulary)}
        self.words = torch.tensor([index.get(word, UNKNOWN) for sentence in sentences for word in sentence])
        self.lengths = torch.tensor([len(sentence) for sentence in sentences])
        self.starts = self.lengths.cumsum(0) - self.lengths
        self.labels = torch.zeros(len(sentences)) if labels is None else torch.tensor(labels, dtype=torch.float32)

    def __len__(self):
        return len(self.lengths)

    def batch(self, rows, device="cpu"):
        """The sentences `rows` (N,) as a minibatch: words (N, T) int64, lengths (N,) int64, labels (N,) float32.

        T is the length of the longest; PAD fills what the others lack. The lengths stay on the CPU.
        """
        lengths = self.lengths[rows]
        steps = torch.arange(int(lengths.max()))
        there = steps < lengths[:, None]
        words = self.words[(self.starts[rows][:, None] + steps) * there].where(there, PAD)
        return words.to(device), lengths, self.labels[rows].to(device)


def sorted_batches(lengths, size, shuffle=False, most=1 << 16):
    """Row numbers in batches of sentences of about one length, so that hardly anything is padding.

    lengths: (n,) int64. size: sentences a batch, fewer where they would be more than `most` words with their padding.
    shuffle: sentences are dealt out at random to pools of 100 batches and sorted within one; the batches come in random
    order. Returns a list of int64 tensors; every row is in one of them.
    """
    order = torch.randperm(len(lengths)) if shuffle else torch.arange(len(lengths))
    batches = []
    for pool in order.split(100 * size if shuffle else max(1, len(lengths))):
        pool = pool[lengths[pool].argsort(descending=True, stable=True)]
        while len(pool):
            count = max(1, min(size, most // int(lengths[pool[0]])))
            batches.append(pool[:count])
            pool = pool[count:]
    return [batches[k] for k in torch.randperm(len(batches))] if shuffle else batches


# ---- the five models: words (N, T) int64 and lengths (N,) to scores (N,); sigmoid(score) is the probability of label 1


def make_embedding(vocabulary_size, size, vectors=None, spread=0.2):
    """An `nn.Embedding` of random vectors, or of pre-trained ones, scaled to a standard deviation of `spread`.

    vectors: a data.glove.Vectors in the order of the vocabulary; words that it lacks get small random vectors.
    """
    embedding = nn.Embedding(vocabulary_size, size, padding_idx=PAD)
    with torch.no_grad():
        embedding.weight.normal_(std=spread / 2)
        if vectors is not None:
            found = torch.from_numpy(vectors.found)
            given = torch.from_numpy(vectors.vectors)[found]
            embedding.weight[found] = given * (spread / given.std().clamp(min=1e-6))
        embedding.weight[PAD] = 0
    return embedding


class BagOfWords(nn.Module):
    """1. Bag of words (binary vector) -> Linear: score = w . x + b, x_v = 1 where word v is in the sentence, else 0.

    x (N, V) is nearly all zeros, so w . x is the sum of the weights of a sentence's different words.
    """

    def __init__(self, vocabulary_size):
        super().__init__()
        self.linear = nn.Linear(vocabulary_size, 1)
        nn.init.zeros_(self.linear.weight)

    def forward(self, words, lengths):
        words = words.sort(1).values
        again = F.pad(words[:, 1:] == words[:, :-1], (1, 0))
        weights = self.linear.weight.view(-1, 1)  # (V, 1): a table with a vector of one number for each word
        sums = F.embedding_bag(words.masked_fill(again, PAD), weights, mode="sum", padding_idx=PAD)  # (N, 1)
        return sums[:, 0] + self.linear.bias


class AverageEmbeddings(nn.Module):
    """2 and 3. Word embeddings -> average pooling -> Linear: score = w . (1/T sum_t e_t) + b."""

    def __init__(self, vocabulary_size, size, vectors=None, dropout=0.0):
        super().__init__()
        self.dropout = nn.Dropout(dropout)
        self.embedding = make_embedding(vocabulary_size, size, vectors)
        self.linear = nn.Linear(size, 1)

    def forward(self, words, lengths):
        average = F.embedding_bag(words, self.embedding.weight, mode="mean", padding_idx=PAD)  # (N, D)
        return self.linear(self.dropout(average))[:, 0]


class RNN(nn.Module):
    """4. Embeddings -> RNN -> Linear at the final time step: h_t = tanh(Wx e_t + Wh h_t-1 + b), score = w . h_T + b'.

    T is the sentence's own last word: what is computed for the padding behind it is not looked at.
    Wh begins orthogonal, so that at first what is carried on neither grows nor shrinks.
    """

    Cell = nn.RNN

    def __init__(self, vocabulary_size, size, vectors=None, hidden=128, dropout=0.0):
        super().__init__()
        self.dropout = nn.Dropout(dropout)
        self.embedding = make_embedding(vocabulary_size, size, vectors)
        self.cell = self.Cell(size, hidden, batch_first=True)
        self.linear = nn.Linear(hidden, 1)
        nn.init.xavier_uniform_(self.cell.weight_ih_l0)
        for part in self.cell.weight_hh_l0.split(hidden):  # one of an RNN, four gates of an LSTM
            nn.init.orthogonal_(part)
        nn.init.zeros_(self.cell.bias_ih_l0)
        nn.init.zeros_(self.cell.bias_hh_l0)

    def forward(self, words, lengths):
        h, _ = self.cell(self.dropout(self.embedding(words)))  # (N, T, H)
        last = h[torch.arange(len(h)), lengths - 1]  # (N, H)
        return self.linear(self.dropout(last))[:, 0]


class LSTM(RNN):
    """5. The same with an LSTM, whose forget gates begin open (bias 1)."""

    Cell = nn.LSTM

    def __init__(self, *sizes, **options):
        super().__init__(*sizes, **options)
        with torch.no_grad():
            self.cell.bias_ih_l0.chunk(4)[1].fill_(1)  # PyTorch's order is i, f, c~, o


@dataclass(frozen=True)
class Recipe:
    """How a model is made and trained: AdamW, a learning rate that falls to zero along a line, clipped gradients."""

    question: int  # the handout's
    title: str
    model: type
    options: dict  # of the model, beside its sizes
    epochs: int
    lr: float
    batch_size: int = 64
    weight_decay: float = 0.01
    embedding: int | None = None  # size of the word vectors; None: pre-trained vectors bring their own

    @property
    def pretrained(self):
        """Whether the model begins with pre-trained vectors."""
        return self.embedding is None and self.model is not BagOfWords

    def build(self, vocabulary_size, vectors):
        """The model for a vocabulary of that many words. vectors: their pre-trained ones, a data.glove.Vectors."""
        if self.model is BagOfWords:
            return BagOfWords(vocabulary_size)
        if self.pretrained:
            return self.model(vocabulary_size, vectors.vectors.shape[1], vectors, **self.options)
        return self.model(vocabulary_size, self.embedding, **self.options)


RECIPES = {  # the numbers were chosen on the dev split
    "bag": Recipe(1, "bag of words", BagOfWords, {}, epochs=8, lr=0.02, batch_size=128),
    "average": Recipe(
        2, "average", AverageEmbeddings, {"dropout": 0.5}, epochs=6, lr=0.005, batch_size=128, embedding=100
    ),
    "glove": Recipe(3, "GloVe average", AverageEmbeddings, {"dropout": 0.5}, epochs=8, lr=0.005, batch_size=128),
    "rnn": Recipe(4, "RNN", RNN, {"hidden": 128, "dropout": 0.3}, epochs=6, lr=0.001),
    "lstm": Recipe(5, "LSTM", LSTM, {"hidden": 128, "dropout": 0.4}, epochs=5, lr=0.002),
}


# ---- training


def train_model(model, train, dev, recipe, epochs, seed=0, checkpoint=None, label="training"):
    """Trains a model on `train` and keeps its weights of the epoch with the best accuracy on `dev`.

    model: one of the five; it is changed in place. train, dev: Encoded sentences. recipe: its Recipe. epochs: passes
    over `train`. seed: epoch e draws its random numbers from (seed, e). checkpoint: a data.results.Checkpoint; training
    goes on from what it holds and is saved there after every epoch. label: what the progress bar calls it.

    Returns (model, history): the model with its best weights (the first of equals) in evaluation mode, and a dict of
    lists, one number an epoch: train_loss, train_accuracy (with dropout), dev_loss, dev_accuracy (0..1), seconds.
    Raises DataError where the loss is no longer finite, or the checkpoint belongs to another run.
    """
    optimizer = torch.optim.AdamW(model.parameters(), lr=recipe.lr, weight_decay=recipe.weight_decay, fused=True)
    history = {key: [] for key in ("train_loss", "train_accuracy", "dev_loss", "dev_accuracy", "seconds")}
    best = copy.deepcopy(model.state_dict())
    if saved := checkpoint and checkpoint.load():
        with checkpoint.fits():
            results.check_history(saved["history"], history)
            history, best = saved["history"], saved["best"]
            model.load_state_dict(best)  # whether it fits, is known now and not at the end
            model.load_state_dict(saved["model"])
            optimizer.load_state_dict(saved["optimizer"])

    done = len(history["seconds"])
    with tqdm(total=epochs * len(train), initial=done * len(train), desc=label, unit="sentence", leave=False) as bar:
        for epoch in range(done, epochs):
            started = time.perf_counter()
            results.seed_all(seed, epoch)
            train_loss, train_accuracy = train_epoch(model, train, optimizer, recipe, epoch / epochs, 1 / epochs, bar)
            scores = predict(model, dev)
            dev_loss = F.binary_cross_entropy_with_logits(scores, dev.labels).item()
            dev_accuracy = accuracy(scores, dev.labels)
            if dev_accuracy > max(history["dev_accuracy"], default=-1):
                best = copy.deepcopy(model.state_dict())
            values = train_loss, train_accuracy, dev_loss, dev_accuracy, time.perf_counter() - started
            for key, value in zip(history, values, strict=True):
                history[key].append(value)
            if checkpoint:
                checkpoint.save(
                    {"history": history, "best": best, "model": model.state_dict(), "optimizer": optimizer.state_dict()}
                )
    model.load_state_dict(best)
    return model.eval(), history


def train_epoch(model, train, optimizer, recipe, done, share, bar):
    """One pass over `train`, which is the part `share` of the whole training, of which the part `done` is behind it.

    Returns the mean loss and the accuracy while training.
    """
    model.train()
    device = next(model.parameters()).device
    criterion = nn.BCEWithLogitsLoss()
    loss_sum, correct = 0.0, 0
    batches = sorted_batches(train.lengths, recipe.batch_size, shuffle=True)
    for k, rows in enumerate(batches):
        for group in optimizer.param_groups:
            group["lr"] = recipe.lr * (1 - done - share * k / len(batches))
        words, lengths, labels = train.batch(rows, device)
        scores = model(words, lengths)
        loss = criterion(scores, labels)
        if not torch.isfinite(loss):
            raise DataError(f"{bar.desc}: the loss is no longer a number; give other word vectors (--glove)")
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        loss_sum += loss.item() * len(rows)
        correct += ((scores > 0) == (labels > 0.5)).sum().item()
        bar.set_postfix(loss=f"{loss.item():.3f}", refresh=False)
        bar.update(len(rows))
    return loss_sum / len(train), correct / len(train)


def predict(model, sentences):
    """The model's scores (n,) of Encoded sentences, in their order, on the CPU; sigmoid makes probabilities of them."""
    model.eval()
    device = next(model.parameters()).device
    scores = torch.zeros(len(sentences))
    with torch.inference_mode():
        for rows in sorted_batches(sentences.lengths, 512):
            words, lengths, _ = sentences.batch(rows, device)
            scores[rows] = model(words, lengths).cpu()
    return scores


def accuracy(scores, labels):
    """The share of scores (n,) on the right side of zero for labels (n,) of 0 and 1."""
    return ((scores > 0) == (labels > 0.5)).double().mean().item()


# ---- statistics


def mcnemar(first, second):
    """McNemar's exact test of two models on the same sentences. first, second: (n,) bool, where each was right.

    Returns (b, c, p): how often only the first and only the second was right, and the two-sided probability of so
    uneven a split or a more uneven one if both were equally good: of b + c fair coins.
    """
    b, c = int((first & ~second).sum()), int((second & ~first).sum())
    n, k = torch.tensor(b + c, dtype=torch.float64), torch.arange(min(b, c) + 1, dtype=torch.float64)
    log_shares = torch.lgamma(n + 1) - torch.lgamma(k + 1) - torch.lgamma(n - k + 1) - n * math.log(2)
    return b, c, min(1.0, 2 * log_shares.logsumexp(0).exp().item())  # log (n over k) / 2^n, summed over k


# ---- pictures


def plot_curves(histories, title):
    """Loss and accuracy by epoch, training dashed and dev solid, all models in one figure."""
    panels = (
        ("binary cross-entropy loss (nats)", 1, {"train_loss": ("--", "train"), "dev_loss": ("-", "dev")}),
        ("accuracy (%)", 100, {"train_accuracy": ("--", "train"), "dev_accuracy": ("-", "dev")}),
    )
    named = {RECIPES[name].title: history for name, history in histories.items()}
    figure, (_, accuracy) = plot.learning_curves(named, panels, title, height=5)
    figure.legend(*accuracy.get_legend_handles_labels(), loc="outside lower center", ncols=5, fontsize=8)
    return figure


def plot_accuracies(metrics, count, title):
    """Test accuracy of each model: the mean over the seeds with its 95% interval, and each seed's as a ring."""
    figure = plot.new_figure(8, 1.6 + 0.55 * len(metrics))
    figure.suptitle(title, wrap=True)
    axes = figure.subplots()
    for row, (name, found) in enumerate(metrics.items()):
        value, color = 100 * found["test_accuracy"], plot.COLORS[list(RECIPES).index(name)]
        low, high = (100 * end for end in found["test_interval"])
        axes.errorbar(value, row, xerr=[[value - low], [high - value]], fmt="o", color=color, capsize=4)
        rings = [100 * run["test_accuracy"] for run in found["seeds"].values()]
        axes.plot(rings, [row + 0.22] * len(rings), "o", markerfacecolor="none", color=color, markersize=4)
        axes.annotate(f"{value:.2f}", (value, row), xytext=(0, 7), textcoords="offset points", ha="center", fontsize=9)
    axes.set_yticks(range(len(metrics)), [RECIPES[name].title for name in metrics])
    axes.set_ylim(len(metrics) - 0.4, -0.6)
    axes.grid(False, axis="y")
    axes.set_xlabel(f"accuracy on the {count:,} test sentences (%): mean, 95% interval; below, a ring a seed")
    return figure


def plot_words(weights, title):
    """The words with the largest weights of the bag of words. weights: (word, weight) pairs, lowest first."""
    figure = plot.new_figure(8, 1.2 + 0.24 * len(weights))
    figure.suptitle(title, wrap=True)
    axes = figure.subplots()
    colors = [plot.COLORS[0] if weight > 0 else plot.COLORS[1] for _, weight in weights]
    axes.barh(range(len(weights)), [weight for _, weight in weights], color=colors)
    axes.set_yticks(range(len(weights)), [results.shown(word, 30) for word, _ in weights], fontsize=9)
    axes.set_ylim(-0.8, len(weights) - 0.2)
    axes.grid(False, axis="y")
    axes.set_xlabel("weight: what the word adds to the score (log odds of a good review)")
    return figure


# ---- the run


def train(args):
    """Trains the models, one after the other and seed after seed, and writes what a grader reads."""
    device = results.pick_device(args.device)
    cache = Path(args.results) / "cache"
    sets = reviews.load(args.data, cache)
    if args.quick:
        sets = reviews.part(sets, 8000, 2000)
    vocabulary = make_vocabulary(sets.train.sentences)
    if len(vocabulary) == 2:
        raise DataError(f"{sets.name}: no word comes twice in the training sentences; give more of them to learn from")
    hint = "" if sets.real else "; real sentences: 'python -m data.download sentences glove'"
    print(f"data: {sets.name}: {len(sets.train):,} to train, {len(sets.dev):,} dev, {len(sets.test):,} test{hint}")
    if not len(sets.unlabelled):
        print("no unlabelled.txt there: no predictions are written")
    recipes = {name: RECIPES[name] for name in args.models}
    vectors, source, covered = None, "no vectors", {}
    if args.glove or any(recipe.pretrained for recipe in recipes.values()):
        vectors = glove.load(vocabulary, sets.train.sentences, args.data, args.glove, cache)
        counts = Counter(word for sentence in sets.train.sentences for word in sentence)
        source, covered = vectors.name, vectors.coverage([counts[word] for word in vocabulary])
        print(
            f"vectors: {source}; for {covered['words']:.0%} of {len(vocabulary) - 2:,} words, "
            f"{covered['tokens']:.0%} of the text"
        )

    splits = {name: getattr(sets, name) for name in (*reviews.SPLITS, "unlabelled")}
    encoded = {name: Encoded(split.sentences, vocabulary, split.labels) for name, split in splits.items()}
    settings = {"epochs": args.epochs, "trained": args.models, "quick": args.quick, "device": device.type}
    settings |= {"sentences_fingerprint": sets.fingerprint}
    settings |= {name: {**asdict(recipe), "model": recipe.model.__name__} for name, recipe in recipes.items()}
    data = sets.name + ", quick look at a part" * args.quick
    with results.Run("sentiment", args, data, source, settings) as run:
        if run.finished:
            return results.show_results(run.finished, run.folder)
        models, histories = {}, {}
        for seed in args.seeds:
            for name, recipe in recipes.items():
                results.seed_all(seed, name)
                model = recipe.build(len(vocabulary), vectors).to(device)
                models[name, seed], histories[name, seed] = train_model(
                    model, encoded["train"], encoded["dev"], recipe, args.epochs or recipe.epochs, seed,
                    run.checkpoint(f"{name}-{seed}"), f"{recipe.title}, seed {seed}",
                )  # fmt: skip
                best = max(histories[name, seed]["dev_accuracy"])
                print(f"{recipe.title}, seed {seed}: best dev accuracy {best:.2%}")
        report(run, models, histories, sets, encoded, vocabulary, covered)


def report(run, models, histories, sets, encoded, vocabulary, covered):
    """The one look at the test split, then the plots, the predictions, the models, the table and results.json.

    models, histories: by (name, seed).
    """
    names, seeds = list(dict.fromkeys(name for name, _ in models)), list(dict.fromkeys(seed for _, seed in models))
    scores = {key: predict(model, encoded["test"]) for key, model in models.items()}
    right = {key: (score > 0) == (encoded["test"].labels > 0.5) for key, score in scores.items()}
    metrics = {}
    for name in names:
        metrics[name] = measure([histories[name, seed] for seed in seeds], [right[name, seed] for seed in seeds], seeds)
        metrics[name]["parameters"] = sum(parameter.numel() for parameter in models[name, seeds[0]].parameters())
    for before, name in zip(names, names[1:], strict=False):
        tests = {seed: mcnemar(right[before, seed], right[name, seed]) for seed in seeds}
        metrics[name]["mcnemar"] = {"against": before, **{str(seed): found for seed, found in tests.items()}}

    write_predictions(run, {name: models[name, seeds[0]] for name in names}, encoded["unlabelled"])
    weights = bag_weights(models["bag", seeds[0]], vocabulary) if "bag" in names else []
    write_examples(run, weights, sets.test, {name: scores[name, seeds[0]] for name in names})
    run.model(
        "models.pt",
        {"script": "sentiment", "data": run.saved["data"], "weights": run.saved["weights"], "vocabulary": vocabulary,
         "models": {name: saved_model(models[name, seeds[0]]) for name in names}},
    )  # fmt: skip

    shown = run.saved["data"]
    first = {name: histories[name, seeds[0]] for name in names}
    run.figure(
        plot_curves(first, f"Learning curves, seed {seeds[0]} · {shown}\n{run.saved['weights']}"),
        "learning_curves.png",
        "Learning curves",
        "Training (dashed, with dropout) and dev (solid): how far each model gets, and where it begins to overfit.",
    )
    run.figure(
        plot_accuracies(metrics, len(sets.test), f"Test accuracy · {shown}\n{run.saved['weights']}"),
        "test_accuracy.png",
        "Test accuracy",
        "What each model adds to the one above it; where intervals overlap, see McNemar's test in the table.",
    )
    if weights:
        half = min(15, len(weights) // 2)
        run.figure(
            plot_words(
                weights[:half] + weights[-half:], f"Largest weights of the bag of words, seed {seeds[0]}\n{shown}"
            ),
            "bag_of_words.png",
            "Largest weights of the bag of words",
            "The words that speak most for a good review (right) and for a bad one (left).",
        )
    columns = ["model", "dev", "test", "95% interval", "p, to the row above", "seconds", "parameters"]
    rows = [table_row(name, found, seeds) for name, found in metrics.items()]
    run.seconds |= {name: found["seconds"] for name, found in metrics.items()}
    sizes = {"vocabulary": len(vocabulary), "covered": covered, "test_sentences": len(sets.test)}
    run.finish({**metrics, **sizes}, columns, rows)


def measure(histories, right, seeds):
    """What results.json says of one model: means over the seeds, the interval of the mean, and each seed's own."""
    runs = {
        str(seed): {
            "dev_accuracy": max(history["dev_accuracy"]),
            "best_epoch": history["dev_accuracy"].index(max(history["dev_accuracy"])) + 1,
            "test_accuracy": hits.double().mean().item(),
        }
        for seed, history, hits in zip(seeds, histories, right, strict=True)
    }
    test = [run["test_accuracy"] for run in runs.values()]
    return {
        "dev_accuracy": mean(run["dev_accuracy"] for run in runs.values()),
        "test_accuracy": mean(test),
        "test_spread": stdev(test) if len(test) > 1 else None,
        "test_interval": results.wilson_interval(mean(test), len(right[0])),
        "seconds": mean(sum(history["seconds"]) for history in histories),
        "seeds": runs,
        "history": {key: values for key, values in histories[0].items() if key != "seconds"},
    }


def table_row(name, found, seeds):
    """One model's row of the table, cells as text. found: its figures, as `measure` and `report` make them."""
    low, high = found["test_interval"]
    spread = "" if found["test_spread"] is None else f" ± {found['test_spread']:.2%}"
    p = f"{found['mcnemar'][str(seeds[0])][2]:.2g}" if "mcnemar" in found else ""
    accuracies = [f"{found['dev_accuracy']:.2%}", f"{found['test_accuracy']:.2%}{spread}", f"{low:.2%}-{high:.2%}"]
    return [RECIPES[name].title, *accuracies, p, f"{found['seconds']:.0f}", f"{found['parameters']:,}"]


def write_predictions(run, models, unlabelled):
    """`predictions_q<question>.txt` of each model: 0 or 1 a line for each unlabelled sentence, in the file's order."""
    if not len(unlabelled):
        return
    for name, model in models.items():
        run.text(f"predictions_q{RECIPES[name].question}.txt", (predict(model, unlabelled) > 0).int().tolist())


def bag_weights(model, vocabulary):
    """(word, weight) pairs of the bag of words, lowest first, without PAD and UNKNOWN."""
    weights = model.linear.weight[0].tolist()
    return sorted(zip(vocabulary[2:], weights[2:], strict=True), key=lambda pair: pair[1])


def write_examples(run, weights, test, scores, most=40):
    """`examples.txt`: the largest weights, and test sentences where the LSTM is right and the bag of words wrong.

    weights: from `bag_weights`. test: a reviews.Split. scores: name -> (n,).
    """
    lines = [f"{run.saved['data']}; {run.saved['weights']}; models of the first seed"]
    if weights:
        for title, pairs in (("good", weights[:-21:-1]), ("bad", weights[:20])):
            words = ", ".join(f"{word} {weight:+.2f}" for word, weight in pairs)
            lines += ["", f"The bag of words' largest weights for a {title} review: {words}"]
    if {"bag", "lstm"} <= scores.keys():
        sign = torch.tensor(test.labels) * 2 - 1
        bag, lstm = (scores[name] * sign for name in ("bag", "lstm"))  # above 0: right
        found = ((bag < 0) & (lstm > 0)).nonzero()[:, 0]
        found = found[(lstm - bag)[found].argsort(descending=True)].tolist()
        lines += [
            "",
            f"Test sentences where the LSTM is right and the bag of words wrong: {len(found)}, the clearest first",
            "label, probability of a good review by the LSTM and by the bag of words, sentence",
        ]
        lines += [
            f"{test.labels[k]}  {scores['lstm'][k].sigmoid():6.1%}  {scores['bag'][k].sigmoid():6.1%}  "
            + " ".join(test.sentences[k])
            for k in found[:most]
        ]
    run.text("examples.txt", lines)


# ---- predictions for one's own sentences


def saved_model(model):
    """What the file of models keeps of one: the size of its embeddings and its weights."""
    size = model.embedding.embedding_dim if hasattr(model, "embedding") else 0
    hidden = model.linear.in_features if isinstance(model, RNN) else 0
    return {"size": size, "hidden": hidden, "state": {key: value.cpu() for key, value in model.state_dict().items()}}


@quiet()
def load_models(path):
    """The models of a file that `report` saved, by name, and what was saved with them. DataError for any other file."""
    saved = load_tensors(path, MODEL)
    try:
        vocabulary, parts, texts = saved["vocabulary"], saved["models"], [saved["data"], saved["weights"]]
        if saved["script"] != "sentiment" or not isinstance(vocabulary, list) or not parts:
            raise ValueError
        if len(vocabulary) < 2 or not all(isinstance(text, str) for text in vocabulary + texts):
            raise ValueError
        if not all(word.isprintable() for word in vocabulary):
            raise ValueError
        models = {}
        for name in (name for name in RECIPES if name in parts):
            state, size, hidden = (parts[name][key] for key in ("state", "size", "hidden"))
            rows = max(state["linear.weight"].shape) if name == "bag" else len(state["embedding.weight"])
            if rows != len(vocabulary):
                raise DataError(
                    f"{path}: its {RECIPES[name].title} learned another vocabulary, of {rows:,} words, than the one of "
                    f"{len(vocabulary):,} that is saved with it; train again"
                )
            if not all(tensor.isfinite().all() for tensor in state.values()):
                raise ValueError
            if not 0 <= max(size, hidden) <= 10_000 or any(w.dtype != torch.float32 for w in state.values()):
                raise ValueError
            options = {"hidden": hidden} if issubclass(RECIPES[name].model, RNN) else {}
            with torch.device("meta"):  # shapes alone: what the sizes promise takes no memory before the state is there
                models[name] = BagOfWords(rows) if name == "bag" else RECIPES[name].model(rows, size, **options)
            models[name].load_state_dict(state, assign=True)
        if models.keys() != parts.keys():
            raise ValueError
    except DataError:
        raise
    except Exception:  # a part is missing or of the wrong kind, and PyTorch raises whatever that leads it to
        raise DataError(f"{path}: does not hold {MODEL}; train again, or give another --model") from None
    return models, saved


def show_predictions(args):
    """`--predict`, `--predict-file`: prints each trained model's probability that the user's sentences are good."""
    device = results.pick_device(args.device)
    if args.predict_file:
        sentences = reviews.read_unlabelled(args.predict_file, reviews.tokenize).sentences
    else:
        sentences = [reviews.tokenize(text) for text in args.predict]
        if [] in sentences:
            raise DataError(f"--predict: sentence {sentences.index([]) + 1} has no words in it")
    path = results.model_file(args, "sentiment.py", ("sentiment", "sentiment-quick"), ("models.pt",))
    models, saved = load_models(path)
    print(
        f"models: {results.shown(path)} (trained on {results.shown(saved['data'])}; {results.shown(saved['weights'])})"
    )
    encoded = Encoded(sentences, saved["vocabulary"])
    chances = {RECIPES[name].title: predict(model.to(device), encoded).sigmoid() for name, model in models.items()}
    if not all(chance.isfinite().all() for chance in chances.values()):
        raise DataError(f"{path}: holds numbers that are too large to compute with; train again")
    known, rows = set(saved["vocabulary"]), []
    for k, sentence in enumerate(sentences):
        strange = " ".join(dict.fromkeys(f"'{word}'" for word in sentence if word not in known))
        shares = [f"{chance[k]:.1%}" for chance in chances.values()]
        rows.append([results.shown(" ".join(sentence), 60), *shares, results.shown(strange, 60)])
    print("the probability that a sentence is a good review, by each model; words that none of them knows")
    results.print_table(["sentence", *chances, "not in the vocabulary"], rows)


# ---- flags


def parse_args(argv=None):
    """The flags, those whose default depends on others filled in."""
    parser = results.Parser(prog="sentiment.py", description=__doc__.splitlines()[0])
    results.add_common_flags(parser, "2 epochs, a part of the sentences")
    parser.add_argument(
        "--seeds", "--seed", nargs="+", type=results.at_least(0, below=2**31), default=[0], metavar="SEED",
        help="train once with each; the table shows means, predictions are the first's",
    )  # fmt: skip
    parser.add_argument(
        "--epochs",
        type=results.at_least(1, below=2**31),
        help="passes over the training sentences (default: each model's own, "
        + ", ".join(f"{name} {recipe.epochs}" for name, recipe in RECIPES.items())
        + "; 2 with --quick)",
    )
    parser.add_argument("--models", nargs="+", choices=RECIPES, help="which to train (default: all five)")
    parser.add_argument(
        "--glove",
        metavar="FILE",
        help=f"word vectors, a GloVe text file (default: {glove.USUAL} in DIR/glove, or else trained here)",
    )
    parser.add_argument("--predict", nargs="+", metavar="TEXT", help="train nothing; what do the models say of these?")
    parser.add_argument("--predict-file", metavar="FILE", help="the same for a text file with one sentence a line")
    parser.add_argument("--model", metavar="FILE", help="models for --predict (default: models.pt of the last run)")
    args = parser.parse_args(argv)
    for flag in ("--predict", "--predict-file"):
        parser.keep_to(flag, "--model", "--results", "--device", "--quick")
    if args.model and not (args.predict or args.predict_file):
        parser.error("--model goes with --predict or --predict-file")
    if len(set(args.seeds)) < len(args.seeds):
        parser.error("argument --seeds: names a seed twice")
    args.epochs = args.epochs or (2 if args.quick else None)
    args.seed = args.seeds if len(args.seeds) > 1 else args.seeds[0]  # as results.json has it
    args.models = [name for name in RECIPES if name in (args.models or RECIPES)]
    return args


def main(argv=None):
    """The script: `argv` are its flags, None those of the command line."""
    args = parse_args(argv)
    if args.predict or args.predict_file:
        show_predictions(args)
    else:
        train(args)


if __name__ == "__main__":
    results.run_main(main)
