"""Problem 5: image captioning. Says in a sentence what a photo shows, with an RNN and an LSTM in numpy.

python image_captioning.py                     # the handout's experiment: both cells learn 50 captions by heart
python image_captioning.py --full              # its extra part: a whole data set, BLEU on the test split
python image_captioning.py --caption PHOTO ... # what the trained model says of your photos
"""

if __name__ == "__main__":
    from data import catch_ctrl_c

    catch_ctrl_c()

import dataclasses
import math
import textwrap
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F
from tqdm import tqdm

from bleu_utils import SPECIAL, corpus_bleu, decode_captions, evaluate_model
from data import DataError, captions, plot, results, weights
from data.photos import open_photo
from data.tensors import load_tensors, quiet
from rnn import CELLS, CaptioningRNN

MODEL = "a model that image_captioning.py saved"
BLOCK = 1 << 14  # numbers that are updated together: what an Adam step touches of them stays in the cache
NAMES = {"rnn": "vanilla RNN", "lstm": "LSTM"}


@dataclass(frozen=True)
class Recipe:
    """How one model is trained.

    decay: of the learning rate, a factor an epoch, or "cosine": to zero along a cosine. pool: how many minibatches'
    captions are sorted by length together. clip: the largest norm of the gradients. save_every: epochs.
    """

    epochs: int
    batch_size: int
    lr: float
    decay: float | str
    hidden: int = 512
    wordvec: int = 256
    dropout: float = 0.0
    clip: float = 5.0
    pool: int = 1
    save_every: int = 1

    def lr_at(self, progress):
        """The learning rate after `progress` epochs (a float)."""
        if self.decay == "cosine":
            return self.lr * (1 + math.cos(math.pi * progress / self.epochs)) / 2
        return self.lr * self.decay ** int(progress)


# The course's setting, and that of the extra part, chosen on Flickr8k's dev split.
SMALL = {
    "rnn": Recipe(epochs=50, batch_size=25, lr=5e-3, decay=0.95, save_every=10),
    "lstm": Recipe(epochs=50, batch_size=25, lr=5e-3, decay=0.995, save_every=10),
}
FULL = {
    "rnn": Recipe(epochs=12, batch_size=100, lr=1e-3, decay="cosine", dropout=0.5, pool=50),
    "lstm": Recipe(epochs=18, batch_size=100, lr=2e-3, decay="cosine", dropout=0.5, pool=50),
}


# ---- steps of optimization, in numpy


def sgd_step(params, grads, lr):
    """Stochastic gradient descent, in place: w -= lr dw for each parameter (a dict of arrays, as grads is)."""
    for name, w in params.items():
        w -= lr * grads[name]


def adam_state(params):
    """What `adam_step` remembers: the step count, the moments m and v of each parameter, a block to compute in."""
    m, v = ({name: np.zeros_like(w) for name, w in params.items()} for _ in range(2))
    return {"t": 0, "m": m, "v": v, "block": np.empty(BLOCK, next(iter(params.values())).dtype)}


def adam_step(params, grads, state, lr, beta1=0.9, beta2=0.999, eps=1e-8):
    """Adam (Kingma & Ba 2015), in place. params, grads: dicts of arrays of one dtype; state: `adam_state(params)`.

    m = beta1 m + (1 - beta1) dw, v = beta2 v + (1 - beta2) dw^2, m' = m / (1 - beta1^t), v' = v / (1 - beta2^t),
    w -= lr m' / (sqrt(v') + eps). Goes through the parameters block by block and allocates nothing.
    They are updated through flat views, so each must be C-contiguous.
    """
    state["t"] += 1
    step, root = lr / (1 - beta1 ** state["t"]), math.sqrt(1 - beta2 ** state["t"])
    for name, w in params.items():
        arrays = [a.reshape(-1) for a in (w, grads[name], state["m"][name], state["v"][name])]
        for k in range(0, w.size, BLOCK):
            w_k, dw, m, v = (a[k : k + BLOCK] for a in arrays)
            block = state["block"][: len(w_k)]
            m *= beta1
            m += np.multiply(dw, 1 - beta1, out=block)
            v *= beta2
            np.multiply(dw, dw, out=block)
            block *= 1 - beta2
            v += block
            np.sqrt(v, out=block)
            block /= root
            block += eps
            np.divide(m, block, out=block)
            block *= step
            w_k -= block


def clip_gradients(grads, most):
    """Scales all gradients by one factor, in place, so that their norm together is `most` at most. Returns the norm."""
    norm = math.sqrt(sum(float(np.vdot(dw, dw)) for dw in grads.values()))
    if norm > most:
        for dw in grads.values():
            dw *= most / norm
    return norm


# ---- the same model in PyTorch


class TorchCaptioningRNN(nn.Module):
    """The twin of a `CaptioningRNN`: the same parameters under the same names, gradients by autograd, CPU or CUDA."""

    def __init__(self, model):
        super().__init__()
        self.word_to_idx, self.cell_type = model.word_to_idx, model.cell_type
        self.null, self.start, self.end = model.null, model.start, model.end
        for name, value in model.params.items():
            self.register_parameter(name, nn.Parameter(torch.from_numpy(value.copy())))

    def _run(self, x, h, c):
        """All steps of x (T, N, W) by PyTorch's own RNN or LSTM. Returns h (T, N, H) and the last states."""
        weights = [self.Wx.T, self.Wh.T, self.b, torch.zeros_like(self.b)]
        # with biases, one layer, no dropout between layers, whether in training, one direction, time first
        settings = True, 1, 0.0, self.training, False, False
        if self.cell_type == "rnn":
            h, last = torch.rnn_tanh(x, h[None], weights, *settings)
            return h, last[0], c
        h, last_h, last_c = torch.lstm(x, (h[None], c[None]), [swap_gates(w) for w in weights], *settings)
        return h, last_h[0], last_c[0]

    def loss(self, features, words, dropout=0.0):
        """As `CaptioningRNN.loss`, of tensors; returns the loss alone, to call backward() on."""
        words_in, words_out = words[:, :-1].T, words[:, 1:].T
        asked = words_out != self.null
        T = int(asked.any(1).nonzero().max()) + 1
        words_in, words_out, asked = words_in[:T], words_out[:T], asked[:T]
        h0 = F.dropout(features, dropout) @ self.W_proj + self.b_proj
        x = F.dropout(F.embedding(words_in, self.W_embed), dropout)
        h, _, _ = self._run(x, h0, torch.zeros_like(h0))
        scores = F.dropout(h[asked], dropout) @ self.W_vocab + self.b_vocab
        return F.cross_entropy(scores, words_out[asked], reduction="sum") / len(words)

    @torch.inference_mode()
    def sample(self, features, max_length=30):
        """As `CaptioningRNN.sample`, of a tensor or an array (N, D); <UNK> may be said. Returns a tensor on the CPU."""
        h = torch.as_tensor(features).to(self.W_proj) @ self.W_proj + self.b_proj
        c = torch.zeros_like(h)
        words = torch.full((len(h),), self.start, device=h.device)
        ended = torch.zeros_like(words, dtype=torch.bool)
        said = torch.full((len(h), max_length), self.null)
        for t in range(max_length):
            _, h, c = self._run(self.W_embed[words][None], h, c)
            scores = h @ self.W_vocab + self.b_vocab
            scores[:, [self.null, self.start]] = -torch.inf
            words = scores.argmax(1)
            said[:, t] = torch.where(ended, self.null, words).cpu()
            ended |= words == self.end
            if ended.all():
                break
        return said


def swap_gates(w):
    """w (4H, ...) with its gates, which are stacked f, i, c~, o, in PyTorch's order: i, f, c~, o."""
    f, i, c, o = w.chunk(4)
    return torch.cat([i, f, c, o])


# ---- training


class NumpyLearner:
    """A numpy model and its Adam. Every learner has these four methods."""

    def __init__(self, model):
        self.model, self.adam = model, adam_state(model.params)

    def step(self, features, words, lr, recipe, rng):
        """One step on a minibatch: features (N, D), words (N, T + 1). Returns its loss before the step.

        Where the loss is not finite the model may be left as it is; training ends there.
        """
        loss, grads = self.model.loss(features, words, recipe.dropout, rng)
        if math.isfinite(loss):
            clip_gradients(grads, recipe.clip)
            adam_step(self.model.params, grads, self.adam, lr)
        return float(loss)

    def numpy_model(self):
        """The CaptioningRNN as it is after the last step."""
        return self.model

    def state(self):
        """All that training goes on from, as tensors, for a checkpoint."""
        parts = {"params": self.model.params, "m": self.adam["m"], "v": self.adam["v"]}
        return {"t": self.adam["t"], **{part: to_tensors(arrays) for part, arrays in parts.items()}}

    def load(self, state):
        """Goes on from what `state` gave."""
        for part, arrays in (("params", self.model.params), ("m", self.adam["m"]), ("v", self.adam["v"])):
            for name, array in arrays.items():
                array[...] = state[part][name].numpy()
        self.adam["t"] = int(state["t"])


class TorchLearner:
    """The same with the twin, on a device; random numbers are torch's own, seeded at the start of each epoch."""

    def __init__(self, model, device):
        self.model, self.device = model, device
        self.twin = TorchCaptioningRNN(model).to(device)
        self.optimizer = torch.optim.Adam(self.twin.parameters(), fused=True)

    def step(self, features, words, lr, recipe, rng):
        """As NumpyLearner's; `rng` is not used."""
        for group in self.optimizer.param_groups:
            group["lr"] = lr
        self.optimizer.zero_grad()
        features, words = (torch.from_numpy(a).to(self.device) for a in (features, words.astype(np.int64)))
        loss = self.twin.loss(features, words, recipe.dropout)
        loss.backward()
        nn.utils.clip_grad_norm_(self.twin.parameters(), recipe.clip)
        self.optimizer.step()
        return loss.item()

    def numpy_model(self):
        """The CaptioningRNN, given the twin's parameters: it has the beam search."""
        for name, value in self.twin.named_parameters():
            self.model.params[name][...] = value.detach().cpu().numpy()
        return self.model

    def state(self):
        """As NumpyLearner's."""
        return {"twin": self.twin.state_dict(), "optimizer": self.optimizer.state_dict()}

    def load(self, state):
        """As NumpyLearner's."""
        self.twin.load_state_dict(state["twin"])
        self.optimizer.load_state_dict(state["optimizer"])


def to_tensors(arrays):
    """A dict of arrays as a dict of tensors that share their memory."""
    return {name: torch.from_numpy(array) for name, array in arrays.items()}


def minibatches(lengths, batch_size, pool, rng):
    """All captions once, at random, as index arrays of `batch_size`.

    Those of `pool` minibatches at a time are sorted by length first: a minibatch is computed up to the end of its
    longest caption, so captions of one length waste nothing.
    """
    order = rng.permutation(len(lengths))
    batches = []
    for k in range(0, len(order), pool * batch_size):
        some = order[k : k + pool * batch_size]
        if pool > 1:
            some = some[np.argsort(lengths[some], kind="stable")]
        batches += [some[j : j + batch_size] for j in range(0, len(some), batch_size)]
    return [batches[k] for k in rng.permutation(len(batches))]


def best_epoch(history, latest=None):
    """The index of the epoch with the highest validation BLEU-4, among equals BLEU-1, the first of them.

    history: dict of lists, latest: the figures of one more epoch.
    """
    pairs = list(zip(history.get("bleu4", ()), history.get("bleu1", ()), strict=True))
    pairs += [(latest["bleu4"], latest["bleu1"])] if latest else []
    return pairs.index(max(pairs))


def train_model(learner, data, recipe, seed=0, checkpoint=None, label="training", validate=None):
    """Trains on data's training captions.

    learner: a NumpyLearner or TorchLearner. data: a data.captions.CaptionSet with its features. seed: epoch e draws its
    random numbers from (seed, e). checkpoint: a data.results.Checkpoint; training goes on from what it holds and is
    saved there after every recipe.save_every epochs. validate(model): the figures of an epoch, a dict of numbers, of
    which "bleu4" and, where that is equal, "bleu1" choose the best epoch.

    Returns (params, history): the parameters of the best epoch, the first of equals, or of the last epoch where there
    is no `validate`; and a dict of lists: step_loss, one number a step, and one an epoch: train_loss (the mean over its
    captions), seconds, and the figures of `validate`.
    Raises DataError where the loss is no longer finite, or the checkpoint belongs to another run.
    """
    words, image_idxs, features = data.captions["train"], data.image_idxs["train"], data.features["train"]
    lengths = (words != captions.NULL).sum(axis=1)
    history, best = {"step_loss": [], "train_loss": [], "seconds": []}, None
    if saved := checkpoint and checkpoint.load():
        with checkpoint.fits():
            results.check_history(saved["history"], history)
            history, best = saved["history"], {name: value.numpy() for name, value in saved["best"].items()}
            learner.load(saved["learner"])

    done, steps = len(history["train_loss"]), math.ceil(len(words) / recipe.batch_size)
    with tqdm(total=recipe.epochs * steps, initial=done * steps, desc=label, unit="step", leave=False) as bar:
        for epoch in range(done, recipe.epochs):
            started = time.perf_counter()
            results.seed_all(seed, epoch)
            rng = np.random.default_rng([seed, epoch])
            losses = []
            for k, rows in enumerate(minibatches(lengths, recipe.batch_size, recipe.pool, rng)):
                lr = recipe.lr_at(epoch + k / steps)
                loss = learner.step(features[image_idxs[rows]], words[rows], lr, recipe, rng)
                if not math.isfinite(loss):
                    raise DataError(f"{label}: the loss is no longer a number; try a smaller learning rate (--lr)")
                losses.append((loss, len(rows)))
                bar.set_postfix(loss=f"{loss:.3f}", refresh=False)
                bar.update()
            model = learner.numpy_model()
            figures = validate(model) if validate else {}
            history["step_loss"] += [loss for loss, _ in losses]
            history["train_loss"].append(sum(loss * count for loss, count in losses) / len(words))
            if not validate or best_epoch(history, figures) == epoch:
                best = {name: value.copy() for name, value in model.params.items()}
            figures["seconds"] = time.perf_counter() - started
            for name, value in figures.items():
                history.setdefault(name, []).append(value)
            if checkpoint and (epoch + 1) % recipe.save_every == 0:
                checkpoint.save({"history": history, "best": to_tensors(best), "learner": learner.state()})
    return best, history


# ---- what both experiments share


def load_data(args):
    """The CaptionSet that the flags ask for; says which."""
    data = captions.load(args, Path(args.results) / "cache", results.pick_device(args.device))
    hint = "" if data.real else "; real photos: 'python -m data.download flickr8k weights'"
    counts = ", ".join(f"{len(data.pictures[split]):,} {split}" for split in captions.SPLITS)
    print(f"data: {data.name}, photos: {counts}; {len(data.idx_to_word):,} words{hint}")
    print(f"features: {data.source.name}")
    if data.real and data.source.builtin:
        print("warning: real photos, but weights that learned from drawings; 'python -m data.download weights' helps")
    return data


def start_run(script, args, data, recipes):
    """The results.Run of these recipes ({cell: Recipe}) on this data."""
    settings = {f"{cell}_{name}": value for cell, recipe in recipes.items() for name, value in vars(recipe).items()}
    device = results.pick_device(args.device).type
    settings |= {"backend": args.backend, "device": device, "quick": args.quick, "fingerprint": data.fingerprint}
    settings |= {"beam_width": args.beam_width, "captions": args.small}
    name = data.name + ", quick look at a part" * args.quick
    return results.Run(script, args, name, data.source.name, settings)


def train_cell(cell, data, recipe, args, run, validate=None):
    """Trains a new model for data's vocabulary and features. Returns it, with its best parameters, and its history."""
    width = data.features["train"].shape[1]
    model = CaptioningRNN(data.word_to_idx, width, recipe.wordvec, recipe.hidden, cell, np.float32, args.seed)
    learner = NumpyLearner(model)
    if args.backend == "torch":
        learner = TorchLearner(model, results.pick_device(args.device))
    params, history = train_model(learner, data, recipe, args.seed, run.checkpoint(cell), NAMES[cell], validate)
    model.params = params
    run.seconds[cell] = sum(history.pop("seconds"))
    return model, history


def save_model(run, cell, model, data):
    """Saves a model with all that it takes to caption a photo: its vocabulary and what makes its features."""
    source = data.source
    about = {"script": "image_captioning", "cell": cell, "data": run.saved["data"], "vocabulary": data.idx_to_word}
    about |= {"features": source.name, "arch": source.arch, "builtin": source.builtin, "features_id": source.id}
    mean, spread = data.scaling
    about |= {"mean": torch.from_numpy(mean), "spread": spread, "params": to_tensors(model.params)}
    run.model(f"{cell}.pt", about)


def show_samples(run, data, cell, told, title):
    """Prints what a model says of some photos of each split, and draws the photos with it.

    told: {split: (indices of photos, what the model says of each, what a person wrote of each)}.
    """
    pictures, texts = [], []
    for split, (photos, said, truth) in told.items():
        for k, text, other in zip(photos, said, truth, strict=True):
            picture = data.pictures[split][k]
            print(f"  {split} {results.shown(picture_name(picture), 100)}")
            print(f"    {NAMES[cell]}: {text}\n    people: {other}")
            pictures.append(picture)
            texts.append((f"{split}\n{wrapped(NAMES[cell], text)}\n{wrapped('people', other)}", False))
    if isinstance(pictures[0], Path):
        figure = plot.picture_grid([open_photo(path) for path in pictures], texts, title, below=True)
        run.figure(
            figure,
            f"samples_{cell}.png",
            f"Captions, {NAMES[cell]}",
            "Each photo with what the model says and what a person wrote.",
        )


def picture_name(picture):
    """What lists call a picture of a CaptionSet: its file's name, or its web address."""
    return picture.name if isinstance(picture, Path) else picture


def wrapped(name, text):
    """`name: text` in lines of 36 characters, to be drawn below a photo."""
    return textwrap.fill(results.shown(f"{name}: {text}", 200), 36)


# ---- part 4: fifty captions by heart


def learn_by_heart(args):
    """The handout's experiment: both cells learn the captions of a few photos; curves, samples, results.json."""
    data = load_data(args)
    photos = choose_photos(data, {"train": args.small, "val": args.small}, args.seed)
    small = data.part(photos, captions_each=1)
    print(f"by heart: {len(photos['train'])} captions of as many photos")
    recipes = {cell: adjusted(SMALL[cell], args) for cell in args.cells}
    with start_run("image_captioning", args, data, recipes) as run:
        if run.finished:
            return results.show_results(run.finished, run.folder)
        metrics, rows, lines = {}, [], []
        for cell, recipe in recipes.items():
            model, history = train_cell(cell, small, recipe, args, run)
            save_model(run, cell, model, small)
            said = {split: model.sample(small.features[split]) for split in photos}
            said = {split: decode_captions(said[split], small.idx_to_word) for split in photos}
            truth = {split: decode_captions(small.captions[split], small.idx_to_word) for split in photos}
            metrics[cell] = measure_by_heart(model, small, said, truth, history)
            rows.append(row_by_heart(cell, metrics[cell]))
            print(f"{NAMES[cell]}: final training loss {metrics[cell]['final_loss']:.3f}")
            told = {split: (range(min(4, len(said[split]))), said[split][:4], truth[split][:4]) for split in photos}
            title = f"{NAMES[cell]} after {recipe.epochs} epochs · {run.saved['data']}; features: {small.source.name}"
            show_samples(run, small, cell, told, title)
            lines += example_lines(NAMES[cell], small, said, truth)
        run.text("examples.txt", lines)
        losses = {cell: figures["step_loss"] for cell, figures in metrics.items()}
        run.figure(
            plot_by_heart(losses, f"Learning captions by heart · {run.saved['data']}; {small.source.name}"),
            "learning_curves.png",
            "Learning curves",
            "The loss of each training step of both cells, on a logarithmic scale.",
        )
        run.finish(metrics, ["model", "final training loss", "captions repeated", "unigram BLEU train", "val"], rows)


def choose_photos(data, counts, seed):
    """{split: indices of `counts[split]` of its photos, drawn at random, rising}; all photos where there are fewer."""
    rng = np.random.default_rng(seed)
    chosen = {}
    for split, count in counts.items():
        there = len(data.pictures[split])
        chosen[split] = np.sort(rng.choice(there, min(count, there), replace=False))
    return chosen


def measure_by_heart(model, small, said, truth, history):
    """What results.json says of one cell. said, truth: captions as text, one a photo, of train and val."""
    final_loss, _ = model.forward(small.features["train"], small.captions["train"])
    return {
        "final_loss": float(final_loss),
        "repeated": sum(a == b for a, b in zip(said["train"], truth["train"], strict=True)),
        "captions": len(truth["train"]),
        "unigram_bleu_train": evaluate_model(model, small, "train"),
        "unigram_bleu_val": evaluate_model(model, small, "val"),
        "parameters": sum(w.size for w in model.params.values()),
        "step_loss": history["step_loss"],
    }


def row_by_heart(cell, figures):
    """One cell's row of the table, as text. figures: from `measure_by_heart`."""
    bleu = [f"{100 * figures[f'unigram_bleu_{split}']:.1f}" for split in ("train", "val")]
    return [NAMES[cell], f"{figures['final_loss']:.3f}", f"{figures['repeated']} of {figures['captions']}", *bleu]


def example_lines(name, data, said, truth):
    """All captions of a model beside those of people, as lines of text."""
    lines = [f"== {name}"]
    for split in said:
        for picture, text, other in zip(data.pictures[split], said[split], truth[split], strict=True):
            lines += [f"{split} {results.shown(picture_name(picture))}", f"  {name}: {text}", f"  people: {other}"]
    return lines


def plot_by_heart(losses, title):
    """The loss of each step of each cell ({cell: losses}), on a logarithmic scale."""
    figure = plot.new_figure(8, 4.5)
    figure.suptitle(title, wrap=True)
    axes = figure.subplots()
    for cell, values in losses.items():
        axes.plot(range(1, len(values) + 1), values, label=NAMES[cell])
    axes.set(xlabel="training step", ylabel="loss of the minibatch (nats a caption)", yscale="log")
    axes.yaxis.set_major_formatter("{x:g}")
    axes.legend()
    return figure


# ---- part 5: a whole data set


def train_full(args):
    """The extra part: trains on all training captions, lets the validation split choose, reads the test split once."""
    data = load_data(args)
    if args.quick:
        data = data.part(choose_photos(data, {"train": 200, "val": 50, "test": 50}, args.seed), captions_each=None)
    else:
        data.load_features()
    recipes = {cell: adjusted(FULL[cell], args) for cell in args.cells}
    with start_run("image_captioning-full", args, data, recipes) as run:
        if run.finished:
            return results.show_results(run.finished, run.folder)
        models, histories = {}, {}
        for cell, recipe in recipes.items():
            model, history = train_cell(cell, data, recipe, args, run, lambda m: validation(m, data, args))
            models[cell], histories[cell] = model, history
            best = best_epoch(history)
            print(f"{NAMES[cell]}: best validation BLEU-4 {100 * history['bleu4'][best]:.1f} in epoch {best + 1}")
            save_model(run, cell, model, data)
        report_full(run, models, histories, data, args)


def validation(model, data, args):
    """The figures of an epoch: loss on the validation captions, BLEU-1 and BLEU-4 of a beam search on its photos."""
    words, idxs, features = (part["val"] for part in (data.captions, data.image_idxs, data.features))
    total = sum(
        float(model.forward(features[idxs[k : k + 500]], words[k : k + 500])[0]) * len(words[k : k + 500])
        for k in range(0, len(words), 500)
    )
    said = model.beam_search(features, args.beam_width, unk=False)
    bleu = corpus_bleu(data.references["val"], [text.split() for text in decode_captions(said, data.idx_to_word)])
    return {"val_loss": total / len(words), "bleu1": bleu[0], "bleu4": bleu[3]}


def report_full(run, models, histories, data, args):
    """Tables, curves, samples and results.json of `train_full`; the test split is read here, and nowhere else."""
    metrics, rows, lines = {}, [], []
    people = {split: [" ".join(photo[0]) for photo in data.references[split]] for split in ("val", "test")}
    samples = choose_photos(data, {"val": 4, "test": 4}, args.seed)
    for cell, model in models.items():
        said = search_photos(model, data, args.beam_width)
        bleu = {name: bleu_of(splits, data) for name, splits in said.items()}
        metrics[cell] = {
            "best_epoch": best_epoch(histories[cell]) + 1,
            "unigram_bleu_val": evaluate_model(model, data, "val", seed=args.seed),
            "parameters": sum(w.size for w in model.params.values()),
            "history": {name: values for name, values in histories[cell].items() if name != "step_loss"},
            **bleu,
        }
        for name, found in bleu.items():
            figures = [found["val"]["bleu1"], found["val"]["bleu4"], *found["test"].values()]
            rows.append([NAMES[cell], name, *(f"{100 * value:.1f}" for value in figures)])
        beam = said[f"beam {args.beam_width}"]
        texts = {split: [" ".join(words) for words in spoken] for split, spoken in beam.items()}
        told = {
            split: (photos, [texts[split][k] for k in photos], [people[split][k] for k in photos])
            for split, photos in samples.items()
        }
        show_samples(run, data, cell, told, f"{NAMES[cell]} · {run.saved['data']}; features: {data.source.name}")
        lines += example_lines(NAMES[cell], data, texts, people)
    run.text("examples.txt", lines)
    run.figure(
        plot_full(histories, f"Learning curves · {run.saved['data']}; {data.source.name}"),
        "learning_curves.png",
        "Learning curves",
        "Loss on training and validation captions and BLEU of the validation photos' captions, by epoch.",
    )
    run.finish(metrics, ["model", "search", "val BLEU-1", "BLEU-4", "test BLEU-1", "BLEU-2", "BLEU-3", "BLEU-4"], rows)


def search_photos(model, data, width):
    """What a model says of the validation and test photos by each search: {search: {split: captions, lists of words}}.

    "another photo" shows what the words owe to the photo: the search is given the features of the photo before.
    """

    def greedy(features):
        return model.sample(features, unk=False)

    def beam(features):
        return model.beam_search(features, width, unk=False)

    searches = {
        "greedy": greedy,
        f"beam {width}": beam,
        f"beam {width}, another photo": lambda features: beam(np.roll(features, 1, axis=0)),
    }
    return {
        name: {
            split: [text.split() for text in decode_captions(search(data.features[split]), data.idx_to_word)]
            for split in ("val", "test")
        }
        for name, search in searches.items()
    }


def bleu_of(said, data):
    """{split: {"bleu1": ..., "bleu4": ...}} of captions as lists of words ({split: captions}), a share of 1."""
    bleu = {split: corpus_bleu(data.references[split], said[split]) for split in said}
    return {split: {f"bleu{n}": value for n, value in enumerate(found, 1)} for split, found in bleu.items()}


def plot_full(histories, title):
    """Training and validation loss, and validation BLEU, by epoch, all cells."""
    losses = {"train_loss": ("--", "training, with dropout"), "val_loss": ("-", "validation")}
    panels = (
        ("loss (nats a caption)", 1, losses),
        ("BLEU of the validation photos (%)", 100, {"bleu1": ("--", "BLEU-1"), "bleu4": ("-", "BLEU-4")}),
    )
    named = {NAMES[cell]: history for cell, history in histories.items()}
    figure, (loss, bleu) = plot.learning_curves(named, panels, title)
    bleu.set_ylim(0, None)
    for axes, place in ((loss, "best"), (bleu, "center")):
        axes.legend(fontsize=8, loc=place)
    return figure


# ---- captions for one's own photos


def caption_photos(args):
    """`--caption`: prints what a saved model says of the user's photos, and saves it as a picture."""
    photos = [open_photo(path) for path in args.caption]
    runs = "image_captioning-full", "image_captioning", "image_captioning-quick", "image_captioning-full-quick"
    path = results.model_file(args, "image_captioning.py", runs, ("lstm.pt", "rnn.pt"))
    model, saved = load_model(path)
    if not args.model and "-full" not in path.parent.name:
        print("note: this model knows a few sentences by heart; one trained with --full describes new photos")
    if saved["arch"] is None:
        raise DataError(
            f"{path}: cannot caption photos: it learned from features in cs231n's files, whose network is not here; "
            "give another --model"
        )
    pretrained = weights.load(saved["arch"], "builtin" if saved["builtin"] else args.data)
    source = captions.PhotoFeatures({}, pretrained, Path(args.results, "cache"), results.pick_device(args.device))
    if source.id != saved["features_id"]:
        raise DataError(
            f"{path}: was trained with features of {results.shown(saved['features'])}, but here are the weights "
            f"{pretrained.name}; name the folder with the right ones with --data"
        )
    about = results.shown(f"{NAMES[saved['cell']]}, trained on {saved['data']}")
    print(f"model: {results.shown(path)} ({about})")
    try:
        with np.errstate(over="raise", invalid="raise"):
            features = captions.scaled(source.compute(photos), (saved["mean"].numpy(), saved["spread"]))
            said = model.beam_search(features, args.beam_width, unk=False)
    except FloatingPointError:
        raise DataError(f"{path}: holds numbers that are too large to compute with; train again") from None
    said = decode_captions(said, saved["vocabulary"])
    results.print_table(["photo", "caption"], list(zip(args.caption, said, strict=True)))
    texts = [(wrapped(Path(name).name, text), False) for name, text in zip(args.caption, said, strict=True)]
    picture = (Path(args.results, "image_captioning") if args.model else path.parent) / "captions.png"
    plot.save_figure(
        plot.picture_grid(photos, texts, f"Captions by {results.shown(path.name)} ({about})", below=True), picture
    )
    print(f"  {results.shown(picture)}")


@quiet()
def load_model(path):
    """A model that `save_model` saved, as a CaptioningRNN, and what was saved with it. DataError for other files."""
    saved = load_tensors(path, MODEL)
    try:
        words, params = saved["vocabulary"], {name: value.numpy() for name, value in saved["params"].items()}
        texts = [saved["script"], saved["data"], saved["features"], saved["features_id"], *words]
        if saved["script"] != "image_captioning":
            raise ValueError
        if not all(isinstance(text, str) and len(text) < 1000 for text in texts):
            raise ValueError
        if words[:4] != list(SPECIAL) or not all(np.isfinite(value).all() for value in params.values()):
            raise ValueError
        if saved["arch"] not in (None, *weights.classifiers()) or not isinstance(saved["builtin"], bool):
            raise ValueError
        if saved["builtin"] and not (weights.BUILTIN / f"{saved['arch']}.pth").is_file():
            raise ValueError
        if not all(map(captions.is_word, words)):
            raise ValueError
        (D, H), W = params["W_proj"].shape, params["W_embed"].shape[1]
        model = CaptioningRNN({word: k for k, word in enumerate(words)}, D, W, H, saved["cell"])
        if saved["mean"].shape != (D,) or not saved["mean"].isfinite().all() or not 1e-9 < saved["spread"] < 1e9:
            raise ValueError
        kinds, expected = ({k: (v.shape, v.dtype) for k, v in p.items()} for p in (params, model.params))
        if kinds != expected:
            raise ValueError
    except Exception:  # a part is missing or of the wrong kind, and numpy raises whatever that leads it to
        raise DataError(f"{path}: is not {MODEL}; train again, or give another --model") from None
    model.params = params
    return model, saved


# ---- flags


def adjusted(recipe, args):
    """A copy of the recipe in which the flags that were given replace its numbers."""
    given = {name: getattr(args, name) for name in ("epochs", "batch_size", "lr", "hidden", "dropout")}
    return dataclasses.replace(recipe, **{name: value for name, value in given.items() if value is not None})


def parse_args(argv=None):
    """The flags, those whose default depends on others filled in."""
    parser = results.Parser(prog="image_captioning.py", description=__doc__.splitlines()[0])
    count = results.at_least(1, below=2**31)
    results.add_common_flags(parser, "20 epochs, with --full 2 epochs of 300 photos")
    results.add_seed_flag(parser)
    add = parser.add_argument
    add(
        "--full", action="store_true", help="train on the whole set and measure BLEU on its test split (the extra part)"
    )
    add("--cells", nargs="+", choices=CELLS, help="which to train (default: both)")
    add("--backend", choices=("numpy", "torch"), default="numpy", help="torch: the same model by PyTorch, on --device")
    add(
        "--epochs",
        type=count,
        help="passes over the training captions (default: 50; with --full 12 for the RNN, 18 for the LSTM)",
    )
    add("--batch-size", type=count, help="captions a step (default: 25; with --full 100)")
    add(
        "--lr",
        type=results.at_least(0, float, below=1e6),
        help="learning rate at first (default: 0.005; with --full 0.001 for the RNN, 0.002 for the LSTM)",
    )
    add("--hidden", type=results.at_least(1, below=2**14), help="size of the hidden state (default: 512)")
    add("--dropout", type=results.at_least(0, float, below=1), help="share dropped (default: 0; with --full 0.5)")
    add(
        "--small",
        type=count,
        default=50,
        metavar="COUNT",
        help="captions to learn by heart, and validation photos to look at, without --full",
    )
    add(
        "--beam-width",
        type=results.at_least(1, below=1001),
        default=5,
        help="captions that the beam search keeps open",
    )
    add("--set", choices=("flickr8k", "coco"), help="which real set, where DIR holds both (default: flickr8k)")
    add(
        "--coco-features",
        choices=("pca", "fc7"),
        default="pca",
        help="of cs231n's files: 512 numbers a photo, or 4,096",
    )
    add("--photos", metavar="DIR", help="your own photos, with --captions")
    add("--captions", metavar="FILE", help="their captions, a line each: photo.jpg#0, a tab, the caption")
    add(
        "--min-count",
        type=count,
        help="a word rarer than this is <UNK> (default: 5 where the training captions have over 2,000 words, else 1)",
    )
    add(
        "--arch",
        help=f"torchvision classifier that makes the features (default: {captions.USUAL_ARCH} where its weights are, "
        f"else {captions.BUILTIN_ARCH})",
    )
    add("--caption", nargs="+", metavar="PHOTO", help="train nothing; say what these photos show")
    add(
        "--model",
        metavar="FILE",
        help="the model for --caption (default: the LSTM of the last --full run, else of the last run)",
    )
    args = parser.parse_args(argv)
    parser.keep_to("--caption", "--model", "--beam-width", "--data", "--results", "--device", "--quick")
    if args.model and not args.caption:
        parser.error("--model goes with --caption")
    if args.set and (args.data == "builtin" or args.photos):
        parser.error("--set chooses between real sets; leave it out with --data builtin or --photos")
    if (args.photos is None) != (args.captions is None):
        parser.error("--photos and --captions go together")
    args.cells = [cell for cell in CELLS if cell in (args.cells or CELLS)]
    if args.quick and args.epochs is None:
        args.epochs = 2 if args.full else 20
    return args


def main(argv=None):
    """The script: `argv` are its flags, None those of the command line."""
    args = parse_args(argv)
    if args.caption:
        caption_photos(args)
    elif args.full:
        train_full(args)
    else:
        learn_by_heart(args)


if __name__ == "__main__":
    results.run_main(main)
