"""Problem 5: image captioning. Trains an RNN and an LSTM in numpy to describe photos.

python image_captioning.py                     # the handout's experiment: both cells overfit 50 captions
python image_captioning.py --full              # the extra part: a whole data set, BLEU on the test split
python image_captioning.py --caption PHOTO ... # caption your photos with the trained model
"""

if __name__ == "__main__":
    from common.cli import quit_on_ctrl_c

    quit_on_ctrl_c()

import dataclasses
import functools
import math
import time
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F
from tqdm import tqdm

from bleu_utils import corpus_bleu, decode_captions, evaluate_model
from common import plots
from common.cli import Parser, UserError, add_common_flags, add_seed_flag, number, print_table, run_main, shown
from common.run import Best, History, Run, check_finite, epochs, find_model, load_model, pick_device
from data import captions, weights
from data.features import PhotoFeatures
from data.images import open_photo
from rnn import CELLS, CaptioningRNN

RUNS = "image_captioning-full", "image_captioning", "image_captioning-quick", "image_captioning-full-quick"
NAMES = {"rnn": "vanilla RNN", "lstm": "LSTM"}


@dataclasses.dataclass(frozen=True)
class Recipe:
    """How one model is trained."""

    epochs: int
    batch_size: int
    lr: float  # initial learning rate
    decay: float | str  # factor per epoch, or "cosine" for a cosine schedule to zero
    hidden: int = 512
    wordvec: int = 256
    dropout: float = 0.0  # of word vectors and hidden states
    feature_dropout: float = 0.0
    word_dropout: float = 0.0  # probability that an input word becomes <UNK>
    clip: float = 5.0  # maximum norm of the gradients
    pool: int = 1  # minibatches whose captions are sorted by length together
    every: int = 1  # epochs between checkpoints

    def lr_at(self, progress):
        """The learning rate after `progress` epochs (a float)."""
        if self.decay == "cosine":
            return self.lr * (1 + math.cos(math.pi * progress / self.epochs)) / 2
        return self.lr * self.decay ** int(progress)

    @property
    def dropouts(self):
        """The arguments of `CaptioningRNN.loss` after rng."""
        return self.dropout, self.feature_dropout, self.word_dropout


# The course's settings, and those of the extra part, chosen on Flickr8k's dev split.
SMALL = {
    "rnn": Recipe(epochs=50, batch_size=25, lr=5e-3, decay=0.95, every=10),
    "lstm": Recipe(epochs=50, batch_size=25, lr=5e-3, decay=0.995, every=10),
}
FULL = {
    "rnn": Recipe(epochs=12, batch_size=100, lr=1e-3, decay="cosine", dropout=0.5, feature_dropout=0.5, pool=50),
    "lstm": Recipe(epochs=12, batch_size=100, lr=2e-3, decay="cosine", dropout=0.3, word_dropout=0.3, pool=50),
}


def adam_step(params, grads, m, v, t, lr, beta1=0.9, beta2=0.999, eps=1e-8):
    """Step t = 1, 2, ... of Adam (Kingma & Ba 2015), in place, for dicts of arrays; the moments m, v start at 0.

    w -= lr m' / (sqrt(v') + eps) with m' = m / (1 - beta1^t), v' = v / (1 - beta2^t).
    """
    step, root = lr / (1 - beta1**t), math.sqrt(1 - beta2**t)
    for name, dw in grads.items():
        m[name] *= beta1
        m[name] += (1 - beta1) * dw
        v[name] *= beta2
        v[name] += (1 - beta2) * dw**2
        params[name] -= step * (m[name] / (np.sqrt(v[name]) / root + eps))


def clip_gradients(grads, most):
    """Scales all gradients by one factor, in place, so that their total norm is at most `most`."""
    norm = math.sqrt(sum(float(np.vdot(dw, dw)) for dw in grads.values()))
    if norm > most:
        for dw in grads.values():
            dw *= most / norm


class NumpyLearner:
    """A CaptioningRNN, `model`, and Adam's moments."""

    def __init__(self, model):
        self.model, self.t = model, 0
        self.m, self.v = ({name: np.zeros_like(w) for name, w in model.params.items()} for _ in range(2))

    def step(self, features, words, lr, recipe, rng):
        """One step on a minibatch: features (N, D), words (N, T + 1). Returns its loss before the step, a float."""
        loss, grads = self.model.loss(features, words, rng, *recipe.dropouts)
        clip_gradients(grads, recipe.clip)
        self.t += 1
        adam_step(self.model.params, grads, self.m, self.v, self.t, lr)
        return float(loss)

    def state_dict(self):
        """The training state, as tensors."""
        return {"t": self.t, "params": tensors(self.model.params), "m": tensors(self.m), "v": tensors(self.v)}

    def load_state_dict(self, state):
        """Restores what `state_dict` returned."""
        self.t, parts = state["t"], [state[part] for part in ("params", "m", "v")]
        self.model.params, self.m, self.v = ({name: w.numpy() for name, w in part.items()} for part in parts)


def tensors(arrays):
    """A dict of arrays as a dict of tensors that share their memory."""
    return {name: torch.from_numpy(array) for name, array in arrays.items()}


class TorchCaptioningRNN(nn.Module):
    """A `CaptioningRNN` in PyTorch: the same parameters under the same names, gradients by autograd, CPU or CUDA."""

    def __init__(self, model):
        super().__init__()
        self.cell_type, self.null, self.start, self.unk = model.cell_type, model.null, model.start, model.unk
        for name, value in model.params.items():
            self.register_parameter(name, nn.Parameter(torch.from_numpy(value.copy())))

    def loss(self, features, words, dropout=0.0, feature_dropout=0.0, word_dropout=0.0):
        """`CaptioningRNN.loss` for tensors; call backward() on it for the gradients."""
        words_in, words_out = words[:, :-1].T, words[:, 1:].T  # (T, N)
        mask = words_out != self.null
        T = int(mask.any(1).nonzero().max()) + 1
        words_in, words_out, mask = words_in[:T], words_out[:T], mask[:T]
        if word_dropout:
            hidden = (torch.rand(words_in.shape, device=words.device) < word_dropout) & (words_in != self.start)
            words_in = words_in.masked_fill(hidden, self.unk)
        h0 = F.dropout(features, feature_dropout) @ self.W_proj + self.b_proj
        x = F.dropout(F.embedding(words_in, self.W_embed), dropout)
        cell_weights = [self.Wx.T, self.Wh.T, self.b, torch.zeros_like(self.b)]
        # has_biases, num_layers, dropout, train, bidirectional, batch_first
        settings = True, 1, 0.0, self.training, False, False
        if self.cell_type == "rnn":
            h, _ = torch.rnn_tanh(x, h0[None], cell_weights, *settings)
        else:
            cell_weights = [torch.cat([w.chunk(4)[gate] for gate in (1, 0, 2, 3)]) for w in cell_weights]  # i, f, c~, o
            h, _, _ = torch.lstm(x, (h0[None], torch.zeros_like(h0[None])), cell_weights, *settings)
        scores = F.dropout(h[mask], dropout) @ self.W_vocab + self.b_vocab
        return F.cross_entropy(scores, words_out[mask], reduction="sum") / len(words)


class TorchLearner:
    """A TorchCaptioningRNN, `twin`, and PyTorch's Adam, on a device. `epochs` seeds torch's generator for dropout."""

    def __init__(self, model, device):
        self.numpy_model, self.twin, self.device = model, TorchCaptioningRNN(model).to(device), device
        self.optimizer = torch.optim.Adam(self.twin.parameters(), fused=True)

    @property
    def model(self):
        """The CaptioningRNN with the twin's parameters; it has the beam search."""
        self.numpy_model.params = {name: w.detach().cpu().numpy() for name, w in self.twin.named_parameters()}
        return self.numpy_model

    def step(self, features, words, lr, recipe, rng):
        """As in NumpyLearner; `rng` is not used."""
        self.optimizer.param_groups[0]["lr"] = lr
        self.optimizer.zero_grad()
        features, words = (torch.from_numpy(a).to(self.device) for a in (features, words.astype(np.int64)))
        loss = self.twin.loss(features, words, *recipe.dropouts)
        loss.backward()
        nn.utils.clip_grad_norm_(self.twin.parameters(), recipe.clip)
        self.optimizer.step()
        return loss.item()

    def state_dict(self):
        """The parameters and Adam's state."""
        return {"twin": self.twin.state_dict(), "optimizer": self.optimizer.state_dict()}

    def load_state_dict(self, state):
        """Restores what `state_dict` returned."""
        self.twin.load_state_dict(state["twin"])
        self.optimizer.load_state_dict(state["optimizer"])


def minibatches(lengths, batch_size, pool, rng):
    """All captions once, in random order, as arrays of `batch_size` indices. lengths: words in each caption.

    The captions of `pool` minibatches are sorted by length together: a minibatch takes as long as its longest caption.
    """
    order, size = rng.permutation(len(lengths)), pool * batch_size
    if pool > 1:
        pools = np.split(order, range(size, len(order), size))
        order = np.concatenate([rows[np.argsort(lengths[rows], kind="stable")] for rows in pools])
    batches = np.split(order, range(batch_size, len(order), batch_size))
    return [batches[k] for k in rng.permutation(len(batches))]


def best_epoch(history):
    """The index of the epoch with the best validation BLEU-4; ties go to the best BLEU-1, then to the first epoch."""
    scores = list(zip(history["bleu4"], history["bleu1"], strict=True))
    return scores.index(max(scores))


def train(cell, data, recipe, new_learner, seed=0, checkpoint=None, validate=None):
    """Trains a new model on the training captions of `data`, a CaptionSet with features; resumes from `checkpoint`.

    new_learner(model): a learner. validate(model): the metrics of an epoch, a dict of floats with bleu1 and bleu4.
    Returns the CaptioningRNN of the best epoch (of the last one without `validate`) and the history, a dict of lists:
    step_loss, one number per step; train_loss (mean over the captions), seconds and validate's metrics, one per epoch.
    Raises UserError if the loss is not finite.
    """
    words, image_idxs, features = data.captions["train"], data.image_idxs["train"], data.features["train"]
    lengths, steps = (words != captions.NULL).sum(axis=1), math.ceil(len(words) / recipe.batch_size)
    sizes = features.shape[1], recipe.wordvec, recipe.hidden
    learner = new_learner(CaptioningRNN(data.word_to_idx, *sizes, cell, np.float32, seed))
    history, best = History(step_loss=[]), Best()
    with tqdm(total=recipe.epochs * steps, desc=NAMES[cell], unit="step", leave=False) as bar:
        for epoch in epochs(recipe.epochs, seed, checkpoint, recipe.every, learner=learner, history=history, best=best):
            bar.update(epoch * steps - bar.n)  # steps done before a resumed epoch
            started, rng, losses = time.perf_counter(), np.random.default_rng([seed, epoch]), []
            batches = minibatches(lengths, recipe.batch_size, recipe.pool, rng)
            for k, rows in enumerate(batches):
                lr = recipe.lr_at(epoch + k / steps)
                losses.append(learner.step(features[image_idxs[rows]], words[rows], lr, recipe, rng))
                check_finite(losses[-1], NAMES[cell], "try a smaller learning rate (--lr)")
                bar.set_postfix(loss=f"{losses[-1]:.3f}", refresh=False)
                bar.update()
            history["step_loss"] += losses
            history.add(train_loss=float(np.average(losses, weights=[len(rows) for rows in batches])))
            if validate:
                history.add(**validate(learner.model))
                if best_epoch(history) == epoch:
                    best.offer(epoch, learner)
            history.add(seconds=time.perf_counter() - started)
    if validate:
        learner.load_state_dict(best.state)
    return learner.model, history


def write_captions(search, data, splits):
    """{split: the captions of its photos, as text}. search(features): the captions as numbers."""
    return {split: decode_captions(search(data.features[split]), data.idx_to_word) for split in splits}


# ---- the two experiments


def overfit_small(run, data, recipes, new_learner, seed):
    """The handout's experiment: each cell overfits `data`, a CaptionSet of a few photos with one caption each."""
    references = {split: decode_captions(data.captions[split], data.idx_to_word) for split in ("train", "val")}
    count, metrics, rows, examples = len(references["train"]), {}, [], []
    print(f"overfitting {count} photos with one caption each")
    for cell, recipe in recipes.items():
        model, history = train(cell, data, recipe, new_learner, seed, run.checkpoint(cell))
        run.seconds[cell] = sum(history.pop("seconds"))
        save_model(run, cell, model, data)
        written = write_captions(model.sample, data, references)
        loss, _ = model.forward(data.features["train"], data.captions["train"])
        repeated = sum(a == b for a, b in zip(written["train"], references["train"], strict=True))
        bleu = {f"unigram_bleu_{split}": evaluate_model(model, data, split) for split in references}
        metrics[cell] = {"final_loss": float(loss), "repeated": repeated, "captions": count, **bleu}
        metrics[cell] |= {"parameters": sum(w.size for w in model.params.values()), "step_loss": history["step_loss"]}
        percents = (f"{100 * share:.1f}" for share in bleu.values())
        rows.append([NAMES[cell], f"{loss:.3f}", f"{repeated} of {count}", *percents])
        print(f"{NAMES[cell]}: final training loss {loss:.3f}")
        examples += show_captions(run, data, cell, written, references, {"train": range(4), "val": range(4)})
    run.text("examples.txt", examples)
    run.figure(plot_steps(metrics, about(data)), "learning_curves.png", "Learning curves", "The loss at each step.")
    run.finish(metrics, ["model", "final training loss", "captions repeated", "unigram BLEU train", "val"], rows)


def train_full(run, data, recipes, new_learner, seed, beam_width):
    """The extra part: the validation split chooses the epoch; the test split is used only at the end."""
    validate = functools.partial(validation, data=data, beam_width=beam_width)
    models, metrics, rows, examples = {}, {}, [], []
    for cell, recipe in recipes.items():
        model, history = train(cell, data, recipe, new_learner, seed, run.checkpoint(cell), validate)
        run.seconds[cell] = sum(history.pop("seconds"))
        save_model(run, cell, model, data)
        models[cell], best = model, best_epoch(history)
        metrics[cell] = {"best_epoch": best + 1, "unigram_bleu_val": evaluate_model(model, data, "val", seed=seed)}
        metrics[cell] |= {"parameters": sum(w.size for w in model.params.values())}
        metrics[cell] |= {"history": {name: values for name, values in history.items() if name != "step_loss"}}
        print(f"{NAMES[cell]}: best validation BLEU-4 {100 * history['bleu4'][best]:.1f} in epoch {best + 1}")

    references = {split: [" ".join(photo[0]) for photo in data.references[split]] for split in ("val", "test")}
    chosen, beam = choose_photos(data, {"val": 4, "test": 4}, seed), f"beam {beam_width}"
    for cell, model in models.items():
        greedy = functools.partial(model.sample, unk=False)
        search = functools.partial(model.beam_search, beam_width=beam_width, unk=False)
        written = {"greedy": write_captions(greedy, data, references), beam: write_captions(search, data, references)}
        # Each photo gets the caption of the previous one, to show how much captions depend on the photo.
        written[f"{beam}, another photo"] = {split: texts[-1:] + texts[:-1] for split, texts in written[beam].items()}
        examples += show_captions(run, data, cell, written[beam], references, chosen)
        for name, texts in written.items():
            bleu = metrics[cell][name] = {split: bleu_of(texts[split], data.references[split]) for split in texts}
            shares = [bleu["val"]["bleu1"], bleu["val"]["bleu4"], *bleu["test"].values()]
            rows.append([NAMES[cell], name, *(f"{100 * share:.1f}" for share in shares)])
    run.text("examples.txt", examples)
    caption = "Loss on the training and validation captions, and BLEU on the validation photos, by epoch."
    run.figure(plot_epochs(metrics, about(data)), "learning_curves.png", "Learning curves", caption)
    run.finish(metrics, ["model", "search", "val BLEU-1", "BLEU-4", "test BLEU-1", "BLEU-2", "BLEU-3", "BLEU-4"], rows)


def choose_photos(data, counts, seed):
    """{split: sorted indices of `counts[split]` of its photos, drawn at random}; all photos if there are fewer."""
    rng, chosen = np.random.default_rng(seed), {}
    for split, count in counts.items():
        total = len(data.pictures[split])
        chosen[split] = np.sort(rng.choice(total, min(count, total), replace=False))
    return chosen


def validation(model, data, beam_width):
    """The metrics of an epoch: the loss on the validation captions, BLEU-1 and BLEU-4 of a beam search."""
    words, image_idxs, features = data.captions["val"], data.image_idxs["val"], data.features["val"]
    parts = np.split(np.arange(len(words)), range(500, len(words), 500))
    total = sum(float(model.forward(features[image_idxs[rows]], words[rows])[0]) * len(rows) for rows in parts)
    texts = decode_captions(model.beam_search(features, beam_width, unk=False), data.idx_to_word)
    bleu = bleu_of(texts, data.references["val"])
    return {"val_loss": total / len(words), "bleu1": bleu["bleu1"], "bleu4": bleu["bleu4"]}


def bleu_of(texts, references):
    """{"bleu1": ..., "bleu4": ...} of captions as text. references: for each caption, lists of words."""
    return {f"bleu{n}": value for n, value in enumerate(corpus_bleu(references, [t.split() for t in texts]), 1)}


def show_captions(run, data, cell, written, references, chosen):
    """Prints and draws the captions of the `chosen` photos {split: indices}. Returns the lines of examples.txt."""
    lines, photos, labels = [f"== {NAMES[cell]}"], [], []
    for split in written:
        rows = zip(data.pictures[split], written[split], references[split], strict=True)
        for k, (picture, text, reference) in enumerate(rows):
            name = shown(picture.name if isinstance(picture, Path) else picture)  # or its web address
            example = [f"{split} {name}", f"  {NAMES[cell]}: {text}", f"  reference: {reference}"]
            lines += example
            if k in chosen[split]:
                print(*(f"  {line}" for line in example), sep="\n")
                photos.append(picture)
                labels.append(("\n".join([split, *map(str.strip, example[1:])]), False))
    if isinstance(photos[0], Path):
        figure = plots.picture_grid([*map(open_photo, photos)], labels, f"Captions by {NAMES[cell]}\n{about(data)}")
        caption = "Each photo with the model's caption and a reference."
        run.figure(figure, f"samples_{cell}.png", f"Captions, {NAMES[cell]}", caption)
    return lines


def about(data):
    """The data and the source of the features, for plot titles."""
    return f"{data.name}; features: {data.source.name}"


def plot_steps(metrics, title):
    """The loss of each step, on a logarithmic scale. metrics: {cell: {"step_loss": losses}}."""
    figure = plots.new_figure(8, 4.8, f"Learning curves\n{title}")
    axes = figure.subplots()
    for cell, found in metrics.items():
        axes.plot(range(1, len(found["step_loss"]) + 1), found["step_loss"], label=NAMES[cell])
    axes.set(xlabel="training step", ylabel="minibatch loss (nats per caption)", yscale="log")
    axes.yaxis.set_major_formatter("{x:g}")
    figure.legend(loc="outside lower center", ncols=2)
    return figure


def plot_epochs(metrics, title):
    """Training and validation loss, and validation BLEU, by epoch. metrics: {cell: {"history": history}}."""
    losses = {"train_loss": ("C1--", "training loss, with dropout"), "val_loss": ("C0-", "validation loss")}
    bleus = {"bleu1": ("C2--", "validation BLEU-1"), "bleu4": ("C3-", "validation BLEU-4")}
    panels = ("loss (nats per caption)", 1, losses), ("BLEU (%)", 100, bleus)
    histories = {NAMES[cell]: found["history"] for cell, found in metrics.items()}
    return plots.learning_curves(histories, panels, f"Learning curves\n{title}")


def save_model(run, cell, model, data):
    """Saves a model with what it needs to caption a photo: its vocabulary and the source of its features."""
    source, (mean, spread) = data.source, data.scaling
    content = {"script": "image_captioning", "cell": cell, "vocabulary": data.idx_to_word}  # also with --full
    content |= {"features": source.name, "arch": source.arch, "builtin": source.builtin, "features_id": source.id}
    content |= {"mean": torch.from_numpy(mean), "spread": spread, "params": tensors(model.params)}
    run.model(f"{cell}.pt", content)


def rebuild(saved):
    """The CaptioningRNN that `save_model` saved."""
    (D, H), (_, W) = saved["params"]["W_proj"].shape, saved["params"]["W_embed"].shape
    model = CaptioningRNN({word: k for k, word in enumerate(saved["vocabulary"])}, D, W, H, saved["cell"])
    for name, value in model.params.items():
        value[...] = saved["params"][name].numpy()
    return model


def caption_photos(photos, file, data, results, device, beam_width):
    """Prints and draws a model's captions of photos {path: image}. data, results: the folders from the flags."""
    model, saved = load_model(file, "image_captioning", rebuild)
    if saved["arch"] is None:
        raise UserError(f"{file}: was trained on cs231n's features, whose network is not here; give another --model")
    pretrained = weights.load(saved["arch"], "builtin" if saved["builtin"] else data)
    source = PhotoFeatures({}, pretrained, results / "cache", device)
    if source.id != saved["features_id"]:
        raise UserError(f"{file}: needs the weights {saved['features']}, found {source.name}; name them by --data")
    if file.parent.name in ("image_captioning", "image_captioning-quick"):
        print("note: this model has overfitted a few captions; train one with --full to caption new photos")
    title = f"{NAMES[saved['cell']]}, trained on {saved['data']}"
    print(f"model: {shown(file)} ({shown(title)})")
    features = captions.scaled(source.compute(photos.values()), (saved["mean"].numpy(), saved["spread"]))
    texts = decode_captions(model.beam_search(features, beam_width, unk=False), saved["vocabulary"])
    print_table(["photo", "caption"], list(zip(photos, texts, strict=True)))
    labels = [(f"{shown(Path(path).name)}\n{text}", False) for path, text in zip(photos, texts, strict=True)]
    figure = plots.picture_grid(list(photos.values()), labels, f"Captions by {title}")
    plots.save(figure, results / "captions.png")
    print(f"  {shown(results / 'captions.png')}")


def parse_args(argv=None):
    """Parses and checks the flags."""
    parser = Parser(prog="image_captioning.py", description=(__doc__ or "").partition("\n")[0])
    add_common_flags(parser, "20 epochs, or 2 epochs on 300 photos with --full")
    add_seed_flag(parser)
    add, count, share = parser.add_argument, number(1, below=2**31), number(0, float, 1)
    add("--full", action="store_true", help="the extra part: train on the whole set, measure BLEU on its test split")
    add("--cells", nargs="+", choices=CELLS, default=[*CELLS], help="what to train")
    add("--backend", choices=("numpy", "torch"), default="numpy", help="torch: the same model in PyTorch, on --device")
    add("--epochs", type=count, help="passes over the captions (default: 50; --full: 12)")
    add("--batch-size", type=count, help="captions per step (default: 25; --full: 100)")
    add("--lr", type=number(0, float, 1e6), help="initial learning rate (default: 5e-3; --full: RNN 1e-3, LSTM 2e-3)")
    add("--hidden", type=number(1, below=2**14), help="size of the hidden state (default: 512)")
    add("--dropout", type=share, help="dropout of word vectors and hidden states (--full: RNN 0.5, LSTM 0.3)")
    add("--feature-dropout", type=share, help="dropout of the photos' features (--full: RNN 0.5)")
    add("--word-dropout", type=share, help="probability that an input word becomes <UNK> (--full: LSTM 0.3)")
    add("--small", type=count, default=50, help="captions to overfit, and validation photos to caption, without --full")
    add("--beam-width", type=number(1, below=1001), default=5, help="captions that the beam search keeps")
    add("--set", choices=("flickr8k", "coco"), help="real set to use if DIR holds both (default: flickr8k)")
    add("--coco-features", choices=("pca", "fc7"), default="pca", help="cs231n's features: 512 or 4,096 per photo")
    add("--photos", metavar="DIR", help="your own photos, with --captions")
    add("--captions", metavar="FILE", help="their captions, one per line: photo.jpg#0, a tab, the caption")
    add("--min-count", type=count, help="rarer words become <UNK> (default: 5 if there are over 2,000 words, else 1)")
    add("--arch", type=weights.check_arch, help="feature network (default: resnet50 if found, else squeezenet1_1)")
    add("--caption", nargs="+", metavar="PHOTO", help="caption these photos instead of training")
    add("--model", metavar="FILE", help="for --caption (default: the LSTM of the last --full run, else the last run's)")
    args = parser.parse_args(argv)
    parser.keep_to(args, "--caption", "--model", "--beam-width", "--data", "--results", "--device", "--quick")
    if args.model and not args.caption:
        parser.error("argument --model: needs --caption")
    if args.set and (args.data == "builtin" or args.photos):
        parser.error("argument --set: chooses between real sets; leave it out with --data builtin or --photos")
    if (args.photos is None) != (args.captions is None):
        parser.error("give --photos and --captions together")
    if args.quick and args.epochs is None:
        args.epochs = 2 if args.full else 20
    return args


def describe(data):
    """Prints the data and the features of a run, with a hint if real ones are missing."""
    counts = ", ".join(f"{len(data.pictures[split]):,} {split}" for split in captions.SPLITS)
    hint = "" if data.real else "; get real photos: 'python -m data.download flickr8k weights'"
    print(f"data: {data.name}, photos: {counts}; {len(data.idx_to_word):,} words{hint}\nfeatures: {data.source.name}")
    if data.real and data.source.builtin:
        print(f"warning: {weights.DRAWN_WARNING}")


def main(argv=None):
    """Runs the script. argv: its flags (default: those of the command line)."""
    args = parse_args(argv)
    device = pick_device(args.device)
    if args.caption:
        photos = {path: open_photo(path) for path in args.caption}
        file = find_model(args, "image_captioning", RUNS, ("lstm.pt", "rnn.pt"))
        return caption_photos(photos, file, args.data, Path(args.results), device, args.beam_width)
    reader = {name: getattr(args, name) for name in ("photos", "captions", "min_count", "arch", "coco_features")}
    data = captions.load(args.data, Path(args.results, "cache"), device, args.set, **reader)
    describe(data)
    if args.full and not args.quick:
        data.load_features()
    else:
        counts = {"train": 200, "val": 50, "test": 50} if args.full else {"train": args.small, "val": args.small}
        data = data.part(choose_photos(data, counts, args.seed), captions_each=None if args.full else 1)
    given = {name: value for name, value in vars(args).items() if name in vars(FULL["rnn"]) and value is not None}
    recipes = {cell: dataclasses.replace((FULL if args.full else SMALL)[cell], **given) for cell in args.cells}
    settings = {f"{cell}_{name}": value for cell, recipe in recipes.items() for name, value in vars(recipe).items()}
    settings |= dict(backend=args.backend, device=device.type, beam_width=args.beam_width, fingerprint=data.fingerprint)
    new_learner = functools.partial(TorchLearner, device=device) if args.backend == "torch" else NumpyLearner
    data.name += ", quick run on a part" * args.quick
    with Run("image_captioning" + "-full" * args.full, args, data.name, data.source.name, settings) as run:
        experiment = functools.partial(train_full, beam_width=args.beam_width) if args.full else overfit_small
        experiment(run, data, recipes, new_learner, args.seed)


if __name__ == "__main__":
    run_main(main)
