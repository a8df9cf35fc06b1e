"""Problem 6: sentiment classification. Five models, from a bag of words to an LSTM, tell good reviews from bad ones.

python sentiment.py                                    # train and test all five, predict the unlabeled sentences
python sentiment.py --predict "Not bad at all!" ...    # classify your own sentences with every trained model
python sentiment.py --predict-file my_reviews.txt      # the same for a file with one sentence per line
"""

if __name__ == "__main__":
    from common.cli import quit_on_ctrl_c

    quit_on_ctrl_c()

import time
from collections import Counter, defaultdict, namedtuple
from itertools import pairwise, product
from pathlib import Path
from statistics import mean, stdev

import torch
from torch import nn
from torch.nn import functional as F
from tqdm import tqdm

from common import plots
from common import run as runs
from common.cli import Parser, UserError, add_common_flags, number, print_table, run_main, shown
from data import glove, reviews

# ---- vocabulary and batches

PAD, UNKNOWN = 0, 1  # the first two indices of a vocabulary: padding, and rare or new words


def make_vocabulary(sentences, least=2):
    """PAD, UNKNOWN, then the words seen `least` times or more (all words if there are none), most frequent first."""
    counts = Counter(word for sentence in sentences for word in sentence)
    words = [word for word, count in counts.most_common() if count >= least]
    return ["", "_unknown_", *(words or counts)]


def encode(split, vocabulary):
    """A data.reviews.Split as numbers: a list of sentences, int64 (T,), and their labels, (n,) float32 or empty."""
    index = {word: k for k, word in enumerate(vocabulary)}
    sentences = [torch.tensor([index.get(word, UNKNOWN) for word in sentence]) for sentence in split.sentences]
    return sentences, torch.tensor(split.labels or [], dtype=torch.float32)


def shuffled_batches(lengths, size):
    """Random batches (lists of row indices) of sentences of similar length, which need little padding."""
    batches = []
    for pool in torch.randperm(len(lengths)).split(100 * size):  # sorted by length, then cut into batches
        batches += pool[lengths[pool].argsort(descending=True, stable=True)].split(size)
    return [batches[k].tolist() for k in torch.randperm(len(batches))]


# ---- the five models, from words (N, T) to scores (N,): sigmoid(score) is the probability of label 1


class BagOfWords(nn.Module):
    """1. Bag of words (binary vector) -> Linear: score = w . x + b, x_v = 1 if word v is in the sentence, else 0."""

    def __init__(self, vocabulary_size, size=None):
        super().__init__()
        self.linear = nn.Linear(vocabulary_size, 1)
        nn.init.zeros_(self.linear.weight)

    def forward(self, words):
        words = words.sort(1).values
        again = F.pad(words[:, 1:] == words[:, :-1], (1, 0))
        weights = self.linear.weight.view(-1, 1)  # x is sparse: w . x is the sum of the weights of distinct words
        sums = F.embedding_bag(words.masked_fill(again, PAD), weights, mode="sum", padding_idx=PAD)  # (N, 1)
        return sums[:, 0] + self.linear.bias


class AverageEmbeddings(nn.Module):
    """2. Word embeddings -> average pooling -> Linear: score = w . (1/T sum_t e_t) + b. 3. The same with GloVe."""

    def __init__(self, vocabulary_size, size):
        super().__init__()
        self.embedding = nn.Embedding(vocabulary_size, size, padding_idx=PAD)
        nn.init.normal_(self.embedding.weight, std=0.1)
        self.dropout = nn.Dropout(0.5)
        self.linear = nn.Linear(size, 1)

    def forward(self, words):
        average = F.embedding_bag(words, self.embedding.weight, mode="mean", padding_idx=PAD)  # (N, D)
        return self.linear(self.dropout(average))[:, 0]


class RNN(nn.Module):
    """4. GloVe -> RNN -> Linear at the final time step: h_t = tanh(Wx e_t + Wh h_t-1 + b), score = w . h_T + b'."""

    def __init__(self, vocabulary_size, size, hidden=128, dropout=0.3, cell=nn.RNN):
        super().__init__()
        self.embedding = nn.Embedding(vocabulary_size, size, padding_idx=PAD)
        nn.init.normal_(self.embedding.weight, std=0.1)
        self.dropout = nn.Dropout(dropout)
        self.cell = cell(size, hidden, batch_first=True)
        self.linear = nn.Linear(hidden, 1)
        nn.init.xavier_uniform_(self.cell.weight_ih_l0)
        for part in self.cell.weight_hh_l0.split(hidden):  # one block of an RNN, four gates of an LSTM
            nn.init.orthogonal_(part)
        nn.init.zeros_(self.cell.bias_ih_l0)
        nn.init.zeros_(self.cell.bias_hh_l0)

    def forward(self, words):
        h, _ = self.cell(self.dropout(self.embedding(words)))  # (N, T, H)
        last = (words != PAD).sum(1) - 1  # the sentence's last word, before the padding
        return self.linear(self.dropout(h[torch.arange(len(h)), last]))[:, 0]


class LSTM(RNN):
    """5. The same with an LSTM: c_t = f * c_t-1 + i * c~_t, h_t = o * tanh(c_t). The forget gates' bias starts at 1."""

    def __init__(self, vocabulary_size, size, hidden=128, dropout=0.4):
        super().__init__(vocabulary_size, size, hidden, dropout, nn.LSTM)
        nn.init.ones_(self.cell.bias_ih_l0[hidden : 2 * hidden])  # PyTorch's order is i, f, c~, o


Recipe = namedtuple("Recipe", "title model pretrained epochs lr batch_size")
RECIPES = {  # in the handout's order; epochs, learning rates, batch sizes and dropout were chosen on the dev split
    "bag": Recipe("bag of words", BagOfWords, False, 8, 0.02, 128),
    "average": Recipe("average", AverageEmbeddings, False, 6, 0.005, 128),
    "glove": Recipe("GloVe average", AverageEmbeddings, True, 8, 0.005, 128),
    "rnn": Recipe("RNN", RNN, True, 6, 0.001, 64),
    "lstm": Recipe("LSTM", LSTM, True, 5, 0.002, 64),
}


def build_model(recipe, vocabulary_size, vectors, spread=0.2):
    """An untrained model; if `recipe.pretrained`, its embeddings start from `vectors`, a data.glove.Vectors."""
    model = recipe.model(vocabulary_size, vectors.vectors.shape[1] if recipe.pretrained else 100)
    if recipe.pretrained:  # scaled to a standard deviation of `spread`; words without a vector stay random
        given = torch.from_numpy(vectors.vectors[vectors.found])
        model.embedding.weight.data[vectors.found] = given * (spread / given.std().clamp(min=1e-6))
    return model


# ---- training


def train_model(model, recipe, train, dev, seed=0, checkpoint=None):
    """Trains a model with AdamW, a learning rate that falls linearly to zero, and gradients clipped to norm 1.

    train, dev: from `encode`. checkpoint: a path. Returns losses (nats), accuracies (0..1) and seconds by epoch; the
    model keeps the weights of the epoch with the best dev accuracy. Raises UserError if the loss is not finite.
    """
    (sentences, labels), (dev_sentences, dev_labels), device = train, dev, model.linear.weight.device
    lengths, label = torch.tensor([len(words) for words in sentences]), f"{recipe.title}, seed {seed}"
    optimizer = torch.optim.AdamW(model.parameters(), lr=recipe.lr, fused=True)
    history, best, count = runs.History(), runs.Best(), recipe.epochs
    for epoch in runs.epochs(count, seed, checkpoint, model=model, optimizer=optimizer, history=history, best=best):
        started, total, right = time.perf_counter(), 0.0, 0
        batches = shuffled_batches(lengths, recipe.batch_size)
        model.train()
        for k, rows in enumerate(tqdm(batches, f"{label}, epoch {epoch + 1} of {count}", leave=False)):
            optimizer.param_groups[0]["lr"] = recipe.lr * (1 - (epoch + k / len(batches)) / count)
            words = nn.utils.rnn.pad_sequence([sentences[row] for row in rows], batch_first=True)  # (N, T)
            scores, targets = model(words.to(device)), labels[rows].to(device)  # (N,)
            loss = F.binary_cross_entropy_with_logits(scores, targets)
            runs.check_finite(loss.item(), label, "give other word vectors (--glove)")
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            total += loss.item() * len(rows)
            right += ((scores > 0) == (targets == 1)).sum().item()
        history.add(train_loss=total / len(labels), train_accuracy=right / len(labels))
        scores = predict(model, dev_sentences)
        loss = F.binary_cross_entropy_with_logits(scores, dev_labels).item()
        accuracy = ((scores > 0) == (dev_labels == 1)).double().mean().item()
        history.add(dev_loss=loss, dev_accuracy=accuracy, seconds=time.perf_counter() - started)
        best.offer(accuracy, model)
    model.load_state_dict(best.state)
    print(f"{label}: best dev accuracy {best.score:.2%}")
    return history


@torch.inference_mode()
def predict(model, sentences):
    """The model's scores (n,) for encoded sentences, in the same order, on the CPU."""
    model.eval()
    scores = torch.zeros(len(sentences))
    for rows in torch.tensor([len(words) for words in sentences]).argsort(descending=True).split(512):
        words = nn.utils.rnn.pad_sequence([sentences[row] for row in rows.tolist()], batch_first=True)  # (N, T)
        scores[rows] = model(words.to(model.linear.weight.device)).cpu()
    return scores


# ---- statistics and pictures


def mcnemar(first, second):
    """McNemar's exact test of two models on the same sentences. first, second: (n,) bool, what each got right.

    Returns (b, c, p): how many sentences only the first and only the second got right, and the two-sided p-value of
    "both are equally good": the probability that b + c fair coin flips are at least as uneven.
    """
    b, c = int((first & ~second).sum()), int((second & ~first).sum())
    coins = torch.distributions.Binomial(torch.tensor(b + c).double(), torch.tensor(0.5).double())
    return b, c, min(1.0, 2 * coins.log_prob(torch.arange(min(b, c) + 1).double()).exp().sum().item())


def measure(histories, right, seeds):
    """A model's metrics for results.json: means over the seeds, the interval of the mean, and each seed's values.

    histories: one for each seed. right: (seeds, n) bool, which test sentences each seed's model got right.
    """
    dev, test = [history["dev_accuracy"] for history in histories], right.double().mean(1).tolist()
    pairs = zip(dev, test, strict=True)
    each = [{"dev_accuracy": max(d), "best_epoch": d.index(max(d)) + 1, "test_accuracy": t} for d, t in pairs]
    return {
        "dev_accuracy": mean(map(max, dev)),
        "test_accuracy": mean(test),
        "test_spread": stdev(test) if len(test) > 1 else None,
        "test_interval": runs.wilson_interval(mean(test), right.shape[1]),
        "seconds": mean(sum(history["seconds"]) for history in histories),
        "seeds": dict(zip(seeds, each, strict=True)),
        "history": {key: values for key, values in histories[0].items() if key != "seconds"},
    }


def table_row(name, found):
    """A model's row of the table as text; the p-value is that of the first seed."""
    (low, high), spread = found["test_interval"], found["test_spread"]
    test = f"{found['test_accuracy']:.2%}" + (f" ± {spread:.2%}" if spread is not None else "")
    p = found["mcnemar"][next(iter(found["seeds"]))][2] if "mcnemar" in found else None
    p = "" if p is None else "< 0.001" if p < 0.001 else f"{p:.2g}"
    cells = [RECIPES[name].title, f"{found['dev_accuracy']:.2%}", test, f"{low:.2%}-{high:.2%}", p]
    return [*cells, f"{found['seconds']:.0f}", f"{found['parameters']:,}"]


def plot_curves(histories, title):
    """Loss and accuracy by epoch, training dashed and dev solid, one column per model."""
    train, dev = ("C1--", "training"), ("C0-", "dev")
    loss = "cross-entropy loss (nats)", 1, {"train_loss": train, "dev_loss": dev}
    accuracy = "accuracy (%)", 100, {"train_accuracy": train, "dev_accuracy": dev}
    return plots.learning_curves(histories, (loss, accuracy), title)


def plot_accuracies(metrics, title):
    """Test accuracy of each model with each seed, and the 95% interval of the mean."""
    axes = plots.new_figure(8, 1.6 + 0.55 * len(metrics), title).subplots()
    for row, (color, found) in enumerate(zip(plots.COLORS, metrics.values(), strict=False)):
        axes.plot([100 * end for end in found["test_interval"]], [row, row], "|-", color=color, markersize=12)
        for seed in found["seeds"].values():
            axes.plot(100 * seed["test_accuracy"], row, "o", color=color, markerfacecolor="white")
    axes.set_yticks(range(len(metrics)), [f"{RECIPES[k].title}\n{v['test_accuracy']:.2%}" for k, v in metrics.items()])
    axes.grid(False, axis="y")
    axes.set_ylim(len(metrics) - 0.4, -0.6)
    axes.set_xlabel("test accuracy (%); circles: single seeds; lines: 95% interval of the mean, given on the left")
    return axes.figure


def plot_words(weights, vocabulary, title, most=15):
    """The words with the `most` lowest and the `most` highest weights (V,) of the bag of words."""
    ranked = sorted(zip(weights[2:].tolist(), vocabulary[2:], strict=True))
    values, words = zip(*ranked[:most], *ranked[most:][-most:], strict=True)
    axes = plots.new_figure(8, 1.2 + 0.24 * len(words), title).subplots()
    axes.barh(range(len(words)), values, color=[plots.COLORS[value < 0] for value in values])
    axes.set_yticks(range(len(words)), [shown(word, 30) for word in words], fontsize=9)
    axes.grid(False, axis="y")
    axes.set(ylim=(-0.8, len(words) - 0.2), xlabel="weight: what a word adds to the log odds of a good review")
    return axes.figure


# ---- the run


def load_data(data, glove_file, cache, quick, pretrained):
    """The Reviews to train on, their vocabulary and, if `pretrained`, its word vectors and their coverage.

    data, glove_file, quick: the flags. cache: a folder for the built-in set and for trained word vectors.
    """
    sets, vectors, covered = reviews.load(data, cache), None, {}
    sets = reviews.part(sets, 8000, 2000) if quick else sets
    hint = "" if sets.real else "; get real sentences: 'python -m data.download sentences glove'"
    sizes = f"{len(sets.train):,} train, {len(sets.dev):,} dev, {len(sets.test):,} test"
    print(f"data: {sets.name}: {sizes}, {len(sets.unlabelled):,} to predict{hint}")
    vocabulary = make_vocabulary(sets.train.sentences)
    if pretrained:
        vectors = glove.load(vocabulary, sets.train.sentences, data, glove_file, cache)
        counts = Counter(word for sentence in sets.train.sentences for word in sentence)
        covered = vectors.coverage([counts[word] for word in vocabulary])
        print(f"vectors: {vectors.name}, for {covered['words']:.0%} of words, {covered['tokens']:.0%} of the text")
    return sets, vocabulary, vectors, covered


def report(run, models, histories, seeds, sets, vocabulary, covered):
    """Evaluates the models on the test split and writes predictions, examples, models, plots and results.json.

    models, histories: {name: one for each seed}; the first seed is shown. covered: from `load_data`.
    """
    data, source, scores, right, metrics = run.saved["data"], run.saved["weights"], {}, {}, {}
    (test, labels), (unlabelled, _) = encode(sets.test, vocabulary), encode(sets.unlabelled, vocabulary)
    for above, name in pairwise([None, *models]):
        scores[name] = torch.stack([predict(model, test) for model in models[name]])
        right[name] = (scores[name] > 0) == (labels == 1)
        metrics[name] = measure(histories[name], right[name], seeds)
        run.seconds[name] = metrics[name]["seconds"]
        metrics[name]["parameters"] = sum(parameter.numel() for parameter in models[name][0].parameters())
        if above:
            tests = zip(seeds, map(mcnemar, right[above], right[name]), strict=True)
            metrics[name]["mcnemar"] = {"against": above, **dict(tests)}
        if unlabelled:
            predictions = (predict(models[name][0], unlabelled) > 0).int().tolist()
            run.text(f"predictions_q{[*RECIPES].index(name) + 1}.txt", predictions)
    if {"bag", "lstm"} <= models.keys():
        bag, lstm = (scores[name][0].sigmoid() for name in ("bag", "lstm"))
        order = [k for k in (lstm - bag).abs().argsort(descending=True) if right["lstm"][0, k] > right["bag"][0, k]]
        title = "label, P(good) by the LSTM (correct) and by the bag of words (wrong); largest difference first"
        lines = [f"{labels[k]:.0f}  {lstm[k]:6.1%}  {bag[k]:6.1%}  {' '.join(sets.test.sentences[k])}" for k in order]
        run.text("examples.txt", [title, *lines])
    states = {name: found[0].state_dict() for name, found in models.items()}
    run.model("models.pt", {"weights": source, "vocabulary": vocabulary, "models": states})

    caption = "Loss and accuracy by epoch. All models except the bag of words train with dropout."
    first = {RECIPES[name].title: found[0] for name, found in histories.items()}
    figure = plot_curves(first, f"Learning curves, seed {seeds[0]}\n{data}; {source}")
    run.figure(figure, "learning_curves.png", "Learning curves", caption)
    caption = "If intervals overlap, see the p-value of McNemar's test in the table."
    figure = plot_accuracies(metrics, f"Test accuracy\n{data}; {source}")
    run.figure(figure, "test_accuracy.png", "Test accuracy", caption)
    if "bag" in models:
        caption, title = "The words with the largest positive and negative weights.", "Weights of the bag of words"
        figure = plot_words(models["bag"][0].linear.weight[0], vocabulary, f"{title}, seed {seeds[0]}\n{data}")
        run.figure(figure, "bag_of_words.png", title, caption)
    columns = ["model", "dev", "test", "95% interval", "p, to the row above", "seconds", "parameters"]
    sizes = {"vocabulary": len(vocabulary), "covered": covered, "test_sentences": len(test)}
    run.finish({**metrics, **sizes}, columns, [table_row(name, found) for name, found in metrics.items()])


def load_models(saved):
    """The models in a models.pt, by name."""
    models = {}
    for name, state in saved["models"].items():
        size = None if name == "bag" else state["embedding.weight"].shape[1]
        models[name] = RECIPES[name].model(len(saved["vocabulary"]), size)
        models[name].load_state_dict(state)
    return models


def show_predictions(path, own, device):
    """Prints what each model in a models.pt predicts for a reviews.Split: good or bad, and the probability of good."""
    if [] in own.sentences:
        raise UserError(f"--predict: sentence {own.sentences.index([]) + 1} has no words")
    models, saved = runs.load_model(path, "sentiment", load_models)
    print(f"models: {shown(path)} (trained on {shown(saved['data'])}; {shown(saved['weights'])})")
    (sentences, _), known, rows = encode(own, saved["vocabulary"]), set(saved["vocabulary"]), []
    chances = [predict(model.to(device), sentences).sigmoid() for model in models.values()]
    for sentence, *values in zip(own.sentences, *chances, strict=True):
        unknown = " ".join(dict.fromkeys(f"'{word}'" for word in sentence if word not in known))
        verdicts = [f"{'good' if p > 0.5 else 'bad'} ({p:.1%})" for p in values]
        rows.append([shown(" ".join(sentence), 60), *verdicts, shown(unknown, 60)])
    print_table(["verdict (probability of good)", *(RECIPES[name].title for name in models), "unknown words"], rows)


def parse_args(argv=None):
    parser = Parser(prog="sentiment.py", description=(__doc__ or "").partition("\n")[0])
    add_common_flags(parser, "2 epochs on a part of the sentences")
    add, seed = parser.add_argument, number(0, below=2**31)
    add("--seeds", "--seed", nargs="+", type=seed, default=[0], help="train once per seed; predictions use the first")
    add("--epochs", type=number(1), help="passes over the sentences (default: 5 to 8, by model; 2 with --quick)")
    add("--models", nargs="+", choices=RECIPES, default=[*RECIPES], metavar="MODEL", help="what to train")
    add("--glove", metavar="FILE", help="word vectors (default: those in DIR/glove, else trained here)")
    add("--predict", nargs="+", metavar="TEXT", help="classify these sentences instead of training")
    add("--predict-file", metavar="FILE", help="the same for a text file with one sentence per line")
    add("--model", metavar="FILE", help="models for --predict (default: models.pt of the last run)")
    args = parser.parse_args(argv)
    for flag in ("--predict", "--predict-file"):
        parser.keep_to(args, flag, "--model", "--results", "--device", "--quick")
    if args.model and not (args.predict or args.predict_file):
        parser.error("--model needs --predict or --predict-file")
    if len({*args.seeds}) < len(args.seeds):
        parser.error("argument --seeds: has the same seed twice")
    args.seed = args.seeds if len(args.seeds) > 1 else args.seeds[0]  # for results.json
    args.models = [name for name in RECIPES if name in args.models]
    args.epochs = args.epochs or (2 if args.quick else None)
    return args


def main(argv=None):
    """Runs the script. argv: its flags (default: those of the command line)."""
    args = parse_args(argv)
    device = runs.pick_device(args.device)
    if args.predict or args.predict_file:
        own = reviews.Split([reviews.tokenize(text) for text in args.predict or []])
        own = reviews.read_unlabelled(args.predict_file, reviews.tokenize) if args.predict_file else own
        path = runs.find_model(args, "sentiment", ("sentiment", "sentiment-quick"), ("models.pt",))
        return show_predictions(path, own, device)
    recipes = {name: RECIPES[name]._replace(epochs=args.epochs or RECIPES[name].epochs) for name in args.models}
    cache, pretrained = Path(args.results, "cache"), args.glove or any(recipe.pretrained for recipe in recipes.values())
    sets, vocabulary, vectors, covered = load_data(args.data, args.glove, cache, args.quick, pretrained)
    data, source = sets.name + ", quick run on a part" * args.quick, vectors.name if vectors else "no vectors"
    settings = {"epochs": args.epochs, "trained": args.models, "device": device.type, "sentences": sets.fingerprint}
    settings |= {name: {"epochs": r.epochs, "lr": r.lr, "batch_size": r.batch_size} for name, r in recipes.items()}
    with runs.Run("sentiment", args, data, source, settings) as run:
        train, dev = encode(sets.train, vocabulary), encode(sets.dev, vocabulary)
        models, histories = defaultdict(list), defaultdict(list)
        for seed, (name, recipe) in product(args.seeds, recipes.items()):
            runs.seed_all(seed, name)
            models[name].append(build_model(recipe, len(vocabulary), vectors).to(device))
            checkpoint = run.checkpoint(f"{name}-{seed}")
            histories[name].append(train_model(models[name][-1], recipe, train, dev, seed, checkpoint))
        report(run, models, histories, args.seeds, sets, vocabulary, covered)


if __name__ == "__main__":
    run_main(main)
