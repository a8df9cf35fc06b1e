"""How fast and how big: `python -m tests.benchmark [NAME ...] [--quick]`, every benchmark when none is named.

Two ways to compare, both interleaved (a, b, a, b, ...) so that whatever else the machine does hits both sides alike,
and both reported as medians:
- `interleaved(a, b)` times functions in this process;
- `Worker` is a process of its own that times what it is asked and idles in between, so that two libraries' thread pools
  and memory allocators do not disturb each other.

A benchmark is a generator of Rows, given `pairs`, the number of rounds; they are listed in BENCHMARKS.
"""

import dataclasses
import json
import os
import platform
import statistics
import subprocess
import sys
import time
import tracemalloc


@dataclasses.dataclass
class Row:
    """One comparison: `ours` (of `what`) over `theirs` (of `beside`), both in `unit`, and the bar for that ratio.

    low, high: the range of the ratio over the rounds, where each round has one.
    """

    what: str
    beside: str
    unit: str
    ours: float
    theirs: float
    ratio: float | None = None
    low: float | None = None
    high: float | None = None
    bar: float | None = None

    def __post_init__(self):
        self.ratio = self.ours / self.theirs if self.ratio is None else self.ratio

    @classmethod
    def of_rounds(cls, what, beside, unit, ours, theirs, bar=None):
        """From one number a round for each side: medians, and the median and range of the rounds' ratios."""
        ratios = [a / b for a, b in zip(ours, theirs, strict=True)]
        middle = [statistics.median(values) for values in (ours, theirs, ratios)]
        return cls(what, beside, unit, *middle, min(ratios), max(ratios), bar)

    def __str__(self):
        spread = "" if self.low is None else f"{self.low:.2f}-{self.high:.2f}"
        bar = "" if self.bar is None else f"{self.bar:g}, {'met' if self.ratio <= self.bar else 'missed'}"
        times = f"{self.ours:9.1f}{self.theirs:9.1f} {self.unit:3}"
        return f"{self.what:44} {self.beside:38}{times}{self.ratio:6.2f} {spread:10} {bar}".rstrip()


HEAD = f"{'what':44} {'beside':38}{'ours':>9}{'theirs':>9}     ratio {'range':10} bar"


def seconds(f):
    """Seconds that one call of f takes."""
    start = time.perf_counter()
    f()
    return time.perf_counter() - start


def interleaved(*functions, pairs=7):
    """Seconds of each function, a list of one a round, run in turn `pairs` times after one warm-up each."""
    for f in functions:
        f()
    rounds = [[seconds(f) for f in functions] for _ in range(pairs)]
    return [list(times) for times in zip(*rounds, strict=True)]


def timed(run, repeats):
    """Median milliseconds of `repeats` runs after one warm-up."""
    run()
    return 1e3 * statistics.median(seconds(run) for _ in range(repeats))


class Worker:
    """A process of its own that serves one side of a comparison: `ask(name, ...)` calls SERVED[name](...) there.

    OPENBLAS_CORETYPE and OPENBLAS_L2_SIZE are removed from its environment: they make numpy use another kernel than the
    one made for this processor. It loads no library but those that it is asked for.
    """

    def __init__(self):
        environment = {k: v for k, v in os.environ.items() if k not in ("OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE")}
        command = [sys.executable, "-m", "tests.benchmark", "--serve"]
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
        )

    def ask(self, *question):
        print(json.dumps(question), file=self.process.stdin, flush=True)
        return json.loads(self.process.stdout.readline())

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.stdin.close()
        self.process.wait()


def serve():
    """Answers questions, one JSON list a line, until there are no more."""
    for line in sys.stdin:
        name, *question = json.loads(line)
        print(json.dumps(SERVED[name](*question)), flush=True)


# ---- layers: the numpy LSTM and RNN against torch.nn's, forward + backward with all gradients, float32

SHAPES = {(16, 100, 256, 512): 1.0, (30, 128, 256, 512): 1.0, (16, 25, 256, 512): 1.3, (20, 100, 100, 100): 1.3}
GATES = {"LSTM": 4, "RNN": 1}


def layer_input(cell, T, N, D, H):
    """x, h0, Wx, Wh, b, dh, float32."""
    import numpy as np

    rng, G = np.random.default_rng(0), GATES[cell]
    scale = H**-0.5
    shapes = [(T, N, D), (N, H), (D, G * H), (H, G * H), (G * H,), (T, N, H)]
    return [(scale * rng.standard_normal(shape)).astype(np.float32) for shape in shapes]


def plain_lstm(x, h0, Wx, Wh, b, dh):
    """The equations as they stand, step after step, every gradient added up on the way."""
    import numpy as np

    from layers import sigmoid

    h, c, steps = h0, np.zeros_like(h0), []
    for x_t in x:
        a_f, a_i, a_c, a_o = np.split(x_t @ Wx + h @ Wh + b, 4, axis=1)
        f, i, g, o = sigmoid(a_f), sigmoid(a_i), np.tanh(a_c), sigmoid(a_o)
        steps.append((x_t, h, c, f, i, g, o))
        c = f * c + i * g
        h = o * np.tanh(c)
    dx, dWx, dWh, db = [], np.zeros_like(Wx), np.zeros_like(Wh), np.zeros_like(b)
    dh_next, dc = np.zeros_like(h0), np.zeros_like(h0)
    for dh_t, (x_t, h, c, f, i, g, o) in zip(dh[::-1], steps[::-1], strict=True):
        dh_t = dh_t + dh_next
        tanh_c = np.tanh(f * c + i * g)
        dc = dc + dh_t * o * (1 - tanh_c**2)
        da = np.hstack([dc * c * f * (1 - f), dc * g * i * (1 - i), dc * i * (1 - g**2), dh_t * tanh_c * o * (1 - o)])
        dx.append(da @ Wx.T)
        dh_next = da @ Wh.T
        dc = dc * f
        dWx += x_t.T @ da
        dWh += h.T @ da
        db += da.sum(axis=0)
    return np.stack(dx[::-1]), dh_next, dWx, dWh, db


def plain_rnn(x, h0, Wx, Wh, b, dh):
    """The same for the RNN."""
    import numpy as np

    h = [h0]
    for x_t in x:
        h.append(np.tanh(x_t @ Wx + h[-1] @ Wh + b))
    dx, dWx, dWh, db, dh_next = [], np.zeros_like(Wx), np.zeros_like(Wh), np.zeros_like(b), np.zeros_like(h0)
    for t in reversed(range(len(x))):
        da = (dh[t] + dh_next) * (1 - h[t + 1] ** 2)
        dx.append(da @ Wx.T)
        dh_next = da @ Wh.T
        dWx += x[t].T @ da
        dWh += h[t].T @ da
        db += da.sum(axis=0)
    return np.stack(dx[::-1]), dh_next, dWx, dWh, db


def products(x, h0, Wx, Wh, b, dh):
    """The floor: nothing but the matrix products that the layer cannot do without (into arrays made beforehand)."""
    import numpy as np

    (T, N, D), H, A = x.shape, h0.shape[1], Wx.shape[1]
    rows, h, a = x.reshape(T * N, D), dh, np.zeros((T, N, A), np.float32)
    flat_h, flat_a = h.reshape(T * N, H), a.reshape(T * N, A)
    step_a, dh0, dx, dWx, dWh = (np.empty(s, np.float32) for s in ((N, A), h0.shape, rows.shape, Wx.shape, Wh.shape))

    def run():
        np.matmul(rows, Wx, out=flat_a)
        for t in range(T):
            np.matmul(h[t], Wh, out=step_a)
        for t in range(T):
            np.matmul(a[t], Wh.T, out=dh0)
        np.matmul(flat_a, Wx.T, out=dx)
        np.matmul(rows.T, flat_a, out=dWx)
        np.matmul(flat_h.T, flat_a, out=dWh)

    return run


def numpy_layer(cell, *shape):
    """The layer, as a function of no arguments that returns h and the gradients."""
    import rnn_layers

    *inputs, dh = layer_input(cell, *shape)
    forward, backward = getattr(rnn_layers, f"{cell.lower()}_forward"), getattr(rnn_layers, f"{cell.lower()}_backward")

    def run():
        h, cache = forward(*inputs)
        return h, backward(dh, cache)

    return run


def torch_layer(cell, T, N, D, H):
    """torch.nn.LSTM or torch.nn.RNN, forward and backward."""
    import torch

    x, h0, *_, dh = (torch.from_numpy(a) for a in layer_input(cell, T, N, D, H))
    layer = getattr(torch.nn, cell)(D, H)
    x.requires_grad_()
    h0 = h0[None].requires_grad_()
    state = (h0, torch.zeros(1, N, H)) if cell == "LSTM" else h0
    leaves = [x, h0, *layer.parameters()]

    def run():
        h, _ = layer(x, state)
        torch.autograd.grad(h, leaves, dh)

    return run


def plain_layer(cell, *shape):
    """The plain formulation, as a function of no arguments."""
    plain, arrays = {"LSTM": plain_lstm, "RNN": plain_rnn}[cell], layer_input(cell, *shape)
    return lambda: plain(*arrays)


def numpy_memory(cell, *shape):
    """MB that forward + backward allocate, and MB of h, gates, cells, their gradients and the results."""
    run = numpy_layer(cell, *shape)
    tracemalloc.start()
    h, gradients = run()
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    # h, the gates and their gradients, for the LSTM c and tanh(c) too, and the gradients that are returned
    kept = {"LSTM": 1 + 4 + 4 + 2, "RNN": 1 + 1}[cell] * h.nbytes + sum(g.nbytes for g in gradients)
    return peak / 1e6, kept / 1e6


def blas_kernel():
    """(kernel, threads) of numpy's matrix products, as far as threadpoolctl can say."""
    try:
        from threadpoolctl import threadpool_info
    except ImportError:
        return "unknown (threadpoolctl is not installed)", "?"
    import numpy  # noqa: F401  (loads its BLAS)

    blas = [pool for pool in threadpool_info() if pool["user_api"] == "blas"]
    return (blas[0].get("architecture", blas[0]["internal_api"]), blas[0]["num_threads"]) if blas else ("none", "?")


SERVED = {
    "kernel": blas_kernel,
    "memory": numpy_memory,
    "numpy": lambda repeats, *question: timed(numpy_layer(*question), repeats),
    "torch": lambda repeats, *question: timed(torch_layer(*question), repeats),
    "plain": lambda repeats, *question: timed(plain_layer(*question), repeats),
    "products": lambda repeats, cell, *shape: timed(products(*layer_input(cell, *shape)), repeats),
}


def layers(pairs):
    """float32 forward + backward of the numpy layers and of torch.nn's, all gradients, the input's included."""
    with Worker() as numpy, Worker() as torch:
        print("numpy's kernel {}, {} threads".format(*numpy.ask("kernel")))
        for cell in GATES:
            for shape, bar in SHAPES.items():
                repeats = 3 if shape[1] * shape[3] > 20_000 else 7
                times = {"torch": [], "numpy": [], "products": [], "plain": []}
                for k in range(pairs):
                    times["torch"].append(torch.ask("torch", repeats, cell, *shape))
                    times["numpy"].append(numpy.ask("numpy", repeats, cell, *shape))
                    for what in ("products", "plain") if k < 3 else ():
                        times[what].append(numpy.ask(what, repeats, cell, *shape))
                what, few = f"{cell}, T, N, D, H = {', '.join(map(str, shape))}", min(pairs, 3)
                yield Row.of_rounds(what, f"torch.nn.{cell}", "ms", times["numpy"], times["torch"], bar)
                yield Row.of_rounds(what, "the equations step by step", "ms", times["numpy"][:few], times["plain"])
                yield Row.of_rounds(
                    "  its matrix products alone", f"torch.nn.{cell}", "ms", times["products"], times["torch"][:few]
                )
                yield Row("  peak memory", "what it must keep", "MB", *numpy.ask("memory", cell, *shape), bar=1.3)


# ---- transfer: what freezing saves, ResNet-18 at 224 pixels on the built-in photos, all of them, batches of 16


def transfer(pairs):
    """An epoch of `freeze` over an epoch of `finetune`, training and validation, photos read from the disk included."""
    import types

    import torch

    import transfer_learning
    from data import insects, weights

    loaders = transfer_learning.make_loaders(insects.load("builtin", None, "results/cache"), (224, 256), 16)

    def epochs(scenario, count):
        """Seconds of each of `count` epochs, from random weights: they cost what trained ones do."""
        recipe = types.SimpleNamespace(epochs=count, lr=1e-3, backbone_lr=1e-4, seed=0)
        network = weights.build("resnet18", 2).to(memory_format=torch.channels_last)
        return scenario(network, 2, loaders, recipe)[1]["seconds"]

    rounds = [
        (epochs(transfer_learning.finetune, 1)[0], *epochs(transfer_learning.freeze, 2)) for _ in range(min(pairs, 3))
    ]
    finetune, first, later = (statistics.median(times) for times in zip(*rounds, strict=True))
    for what, ours, bar in (
        ("freeze, mean of ten epochs", (first + 9 * later) / 10, 0.35),
        ("freeze, the first epoch", first, None),
        ("freeze, a later epoch", later, None),
    ):
        yield Row(what, "an epoch of finetune", "s", ours, finetune, bar=bar)


# ---- captioning: a training step of the numpy model and of its PyTorch twin, and a beam search

CAPTIONING = {100: 1.0, 25: 1.2}  # captions a step: the bar
STEPS, WORDS, FEATURES, HIDDEN = 16, 1004, 512, 512


def captioning_learner(backend, N):
    """A learner of image_captioning.py and a minibatch: N captions of 16 words, none of them padding."""
    import numpy as np
    import torch

    import image_captioning
    from rnn import SPECIAL, CaptioningRNN

    words = {word: k for k, word in enumerate([*SPECIAL, *map(str, range(WORDS - len(SPECIAL)))])}
    model = CaptioningRNN(words, FEATURES, 256, HIDDEN, "lstm")
    rng = np.random.default_rng(0)
    features = rng.standard_normal((N, FEATURES)).astype(np.float32)
    captions = rng.integers(len(SPECIAL), WORDS, (N, STEPS + 1))
    learners = {
        "numpy": lambda: image_captioning.NumpyLearner(model),
        "torch": lambda: image_captioning.TorchLearner(model, torch.device("cpu")),
    }
    return learners[backend](), features, captions


def captioning_step(backend, N, repeats):
    """Median milliseconds of a step: loss, gradients, their norm, Adam."""
    import image_captioning

    learner, features, captions = captioning_learner(backend, N)
    recipe = image_captioning.Recipe(epochs=1, batch_size=N, lr=1e-3, decay=1.0)
    return timed(lambda: learner.step(features, captions, 1e-3, recipe, None), repeats)


def beam_search(photos):
    """Seconds of a beam search of width 3 over so many photos, 30 words each: an untrained model ends no sooner."""
    learner, features, _ = captioning_learner("numpy", photos)
    return seconds(lambda: learner.model.beam_search(features, 3))


SERVED |= {"captioning": captioning_step, "beam": beam_search}


def captioning(pairs):
    """A training step of the captioning LSTM by numpy and by PyTorch (its own LSTM kernel, fused Adam); beam search."""
    print(f"T = {STEPS}, V = {WORDS:,}, word vectors 256, H = {HIDDEN}, float32")
    with Worker() as numpy, Worker() as torch:
        for N, bar in CAPTIONING.items():
            rounds = [
                (numpy.ask("captioning", "numpy", N, 3), torch.ask("captioning", "torch", N, 3)) for _ in range(pairs)
            ]
            yield Row.of_rounds(
                f"a step of {N} captions", "the same by PyTorch", "ms", *zip(*rounds, strict=True), bar=bar
            )
        yield Row("beam 3, 1,000 photos, 30 words each", "a minute", "s", numpy.ask("beam", 1000), 60, bar=1)


# ---- style: a step of style transfer beside the network alone, the handout's layers and sizes, built-in weights


def style(pairs):
    """A step of style_transfer.py over a bare forward + backward of the same truncated network on the same image."""
    import torch

    import style_transfer
    from data import weights

    setting = {key: value for key, value in style_transfer.PRESETS["starry_night"].items() if "_size" not in key}
    network = weights.load(style_transfer.ARCH, "builtin").network()
    last, taps = max(setting["style_layers"]), setting["style_layers"]
    plain_layers = network.features[: last + 1].eval().requires_grad_(False)  # as torchvision gives it: contiguous
    layers = style_transfer.feature_layers(weights.load(style_transfer.ARCH, "builtin").network(), last)

    def start(height, width, layout):
        """A picture of soft blotches, to be painted."""
        torch.manual_seed(0)
        blotches = torch.nn.functional.interpolate(torch.randn(1, 3, 12, 16), (height, width), mode="bicubic")
        return blotches.contiguous(memory_format=layout).requires_grad_()

    def bare(layers, image):
        def run():
            image.grad = None
            layers(image).sum().backward()

        return run

    def stepper(layers, image):
        """The script's own step."""
        losses = style_transfer.make_losses(layers, image.detach().flip(3), image.detach(), **setting)
        optimizer = torch.optim.Adam([image], lr=1e-3)

        def run():
            with torch.no_grad():
                image.clamp_(-style_transfer.LIMIT, style_transfer.LIMIT)
            style_transfer.take_step(image, optimizer, losses)

        return run

    def products(layers, image):
        """The floor: of the Gram matrices the two products a layer that no float32 formulation can do without."""
        with torch.no_grad():
            feats = [style_transfer.extract_features(image, layers)[layer].flatten(2) for layer in taps]

        def run():
            for F in feats:
                torch.bmm(torch.bmm(F, F.mT), F)

        return run

    def kept(height, width):
        """MB that a step keeps for its backward pass."""
        image, storages = start(height, width, torch.channels_last), {}

        def note(tensor):
            storages[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage()
            return tensor

        losses = style_transfer.make_losses(layers, image.detach(), image.detach(), **setting)
        with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
            terms = losses(image)
        return len(terms) and sum(storage.nbytes() for storage in storages.values()) / 1e6

    last_layout, first_layout = torch.channels_last, torch.contiguous_format
    times = interleaved(
        stepper(layers, start(192, 256, last_layout)), bare(layers, start(192, 256, last_layout)),
        bare(plain_layers, start(192, 256, first_layout)), stepper(plain_layers, start(192, 256, first_layout)),
        products(layers, start(192, 256, last_layout)), pairs=2 * pairs,
    )  # fmt: skip
    step, alone, alone_contiguous, step_contiguous, floor = ([1e3 * value for value in side] for side in times)
    no_less = [a + b for a, b in zip(alone, floor, strict=True)]
    yield Row.of_rounds("a step", "the network alone, channels-last", "ms", step, alone, 1.25)
    yield Row.of_rounds("  the network and two products a Gram matrix", "the network alone", "ms", no_less, alone)
    yield Row.of_rounds("a step", "the network as torchvision gives it", "ms", step, alone_contiguous)
    yield Row.of_rounds("a step", "a step on contiguous tensors", "ms", step, step_contiguous)
    yield Row(
        "kept for backward, four times the pixels", "kept for backward", "MB", kept(384, 512), kept(192, 256), bar=4
    )


# ---- sentiment: what sorting the sentences by length saves, an epoch of the LSTM on the built-in sentences


def sentiment(pairs):
    """A training epoch of sentiment.py's LSTM over one with unsorted batches, padded to the longest sentence of all."""
    import torch
    from tqdm import tqdm

    from data import results, reviews
    from sentiment import LSTM, RECIPES, Encoded, make_vocabulary, train_epoch

    train = reviews.load("builtin", "results/cache").train
    vocabulary, recipe = make_vocabulary(train.sentences), RECIPES["lstm"]
    encoded = Encoded(train.sentences, vocabulary, train.labels)

    class Unsorted(Encoded):
        def batch(self, rows, device="cpu"):
            rows = order[rows]
            words, lengths, labels = super().batch(rows, device)
            return torch.nn.functional.pad(words, (0, int(self.lengths.max()) - words.shape[1])), lengths, labels

    order = torch.randperm(len(encoded))
    unsorted = Unsorted(train.sentences, vocabulary, train.labels)

    def epoch(sentences):
        results.seed_all("benchmark")
        network = LSTM(len(vocabulary), 50, **recipe.options)
        optimizer = torch.optim.AdamW(network.parameters(), lr=recipe.lr, fused=True)
        return lambda: train_epoch(network, sentences, optimizer, recipe, 0, 0.1, tqdm(disable=True))

    ours, plain = interleaved(epoch(encoded), epoch(unsorted), pairs=min(pairs, 5))
    yield Row.of_rounds("an epoch, sorted by length", "unsorted, padded to the longest", "s", ours, plain)


# ---- the command


BENCHMARKS = {
    "layers": layers,
    "transfer": transfer,
    "style": style,
    "captioning": captioning,
    "sentiment": sentiment,
}


def processor():
    """The processor's name, where the system tells."""
    try:
        with open("/proc/cpuinfo") as lines:
            return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def set_threads(count):
    """So many threads for PyTorch in this process and for all libraries of the workers to come."""
    import torch

    torch.set_num_threads(count)
    os.environ |= {f"{library}_NUM_THREADS": str(count) for library in ("OPENBLAS", "OMP", "MKL")}


def main(argv=None):
    """How fast and how big each part is, beside PyTorch or the plain formulation: a table of ratios."""
    from data.files import write_json
    from data.results import Parser, at_least

    parser = Parser(prog="python -m tests.benchmark", description=main.__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"which of: {', '.join(BENCHMARKS)} (default: all)")
    parser.add_argument("--pairs", type=at_least(1), default=9, metavar="K", help="interleaved rounds")
    parser.add_argument("--quick", action="store_true", help="three rounds only")
    parser.add_argument("--threads", type=at_least(1), metavar="K", help="threads of each library (default: its own)")
    parser.add_argument("--save", metavar="FILE", help="write the rows as JSON too")
    args = parser.parse_args(argv)
    if unknown := set(args.names) - set(BENCHMARKS):
        parser.error(f"no benchmark named {', '.join(sorted(unknown))}; there are {', '.join(BENCHMARKS)}")
    if args.threads:
        set_threads(args.threads)
    machine = f"{processor()}, {os.cpu_count()} cores, Python {platform.python_version()}"
    print(f"{machine}; medians of interleaved rounds; ratio: ours over theirs")
    found = {"machine": machine, "threads": args.threads}
    for name in args.names or BENCHMARKS:
        print(f"\n{name}: {BENCHMARKS[name].__doc__}")
        found[name] = []
        for row in BENCHMARKS[name](3 if args.quick else args.pairs):
            print(row if found[name] else f"{HEAD}\n{row}", flush=True)
            found[name].append(dataclasses.asdict(row))
    if args.save:
        write_json(args.save, found)


if __name__ == "__main__":
    if sys.argv[1:] == ["--serve"]:
        serve()
    else:
        from data.results import run_main  # here, as it loads PyTorch, which a worker does not need

        run_main(main, "nothing was written")
