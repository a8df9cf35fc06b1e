"""Speed: `python -m tests.benchmark [NAME ...]` compares the time of each part with PyTorch or with the plain code.

Both sides of a comparison take turns (a, b, a, b, ...), so that other load on the machine slows both. Times and ratios
are medians over the rounds. Each benchmark is a generator of rows; BENCHMARKS lists all benchmarks.
"""

import itertools
import json
import os
import platform
import statistics
import subprocess
import sys
import timeit

SHAPES = {  # (T, N, D, H): bar
    (16, 100, 256, 512): 1.0,
    (30, 128, 256, 512): 1.0,
    (16, 25, 256, 512): 1.3,
    (20, 100, 100, 100): 1.3,
}
CAPTIONS = {100: 1.0, 25: 1.2}  # captions per step: bar


def row(what, beside, ours, theirs, bar=None):
    """One comparison. ours, theirs: milliseconds of each round; bar: the largest ratio that is acceptable."""
    ratios = [a / b for a, b in zip(ours, theirs, strict=True)]
    ours, theirs, ratio = map(statistics.median, (ours, theirs, ratios))
    return {"what": what, "beside": beside, "unit": "ms", "ours": ours, "theirs": theirs, "ratio": ratio,
            "low": min(ratios), "high": max(ratios), "bar": bar}  # fmt: skip


def line(row):
    """A row as a line of the table."""
    times = f"{row['ours']:9.1f}{row['theirs']:9.1f} ms {row['ratio']:6.2f}"
    verdict = f"  {row['bar']:g}, {'met' if row['ratio'] <= row['bar'] else 'missed'}" if row["bar"] else ""
    return f"{row['what']:40} {row['beside']:26}{times} {row['low']:.2f}-{row['high']:.2f}{verdict}"


def timed(run):
    """Median milliseconds of 3 to 20 calls, after a warm-up."""
    calls = min(20, max(3, int(0.5 / timeit.timeit(run, number=1))))
    return 1e3 * statistics.median(timeit.repeat(run, number=1, repeat=calls))


class Worker:
    """A process for one side, because numpy's and PyTorch's threads slow each other down in a shared process.

    `ask(name, ...)` times the callable that this module's function `name` returns, in milliseconds. The process runs
    without OPENBLAS_CORETYPE and OPENBLAS_L2_SIZE, which make numpy use a kernel for another processor.
    """

    def __init__(self):
        environment = {k: v for k, v in os.environ.items() if k not in ("OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE")}
        command, pipe = [sys.executable, "-m", "tests.benchmark", "--serve"], subprocess.PIPE
        self.process = subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, env=environment)

    def ask(self, *question):
        print(json.dumps(question), file=self.process.stdin, flush=True)
        return json.loads(self.process.stdout.readline())


def serve():
    """Answers questions from stdin, one JSON list per line."""
    for question in sys.stdin:
        name, *arguments = json.loads(question)
        print(timed(globals()[name](*arguments)), flush=True)


# ---- layers


def layer_input(cell, T, N, D, H):
    """x, h0, Wx, Wh, b and dh in float32."""
    import numpy as np

    rng, G = np.random.default_rng(0), {"LSTM": 4, "RNN": 1}[cell]
    shapes = [(T, N, D), (N, H), (D, G * H), (H, G * H), (G * H,), (T, N, H)]
    return [(H**-0.5 * rng.standard_normal(shape)).astype(np.float32) for shape in shapes]


def sequence(cell, *shape):
    """Runs rnn_forward and rnn_backward, or the LSTM's."""
    import rnn_layers

    *inputs, dh = layer_input(cell, *shape)
    forward, backward = (getattr(rnn_layers, f"{cell.lower()}_{way}") for way in ("forward", "backward"))

    def run():
        h, cache = forward(*inputs)
        return h, *backward(dh, cache)

    return run


def steps(cell, *shape):
    """Runs the step functions one after another and adds up the weight gradients."""
    import numpy as np

    import rnn_layers

    x, h0, *weights, dh = layer_input(cell, *shape)
    forward, backward = (getattr(rnn_layers, f"{cell.lower()}_step_{way}") for way in ("forward", "backward"))

    def run():
        state, h, caches, dx = [h0] if cell == "RNN" else [h0, np.zeros_like(h0)], [], [], []
        for x_t in x:
            *state, cache = forward(x_t, *state, *weights)
            h.append(state[0])
            caches.append(cache)
        dstate, dweights = [np.zeros_like(s) for s in state], [np.zeros_like(w) for w in weights]
        for dh_t, cache in zip(dh[::-1], caches[::-1], strict=True):
            dx_t, *rest = backward(dh_t + dstate[0], *dstate[1:], cache)
            dstate, dweights = rest[:-3], [total + dw for total, dw in zip(dweights, rest[-3:], strict=True)]
            dx.append(dx_t)
        return np.stack(h), np.stack(dx[::-1]), dstate[0], *dweights

    return run


def products(cell, *shape):
    """Runs only the matrix products that the layer needs."""
    import numpy as np

    x, h0, Wx, Wh, _, h = layer_input(cell, *shape)
    (T, N, D), H = x.shape, h0.shape[1]
    x, h_rows, a, step_a, dh0 = x.reshape(T * N, D), h.reshape(T * N, H), x @ Wx, h0 @ Wh, h0.copy()

    def run():
        a_rows = np.matmul(x, Wx, out=a.reshape(T * N, -1))
        for t in range(T):
            np.matmul(h[t], Wh, out=step_a)
            np.matmul(a[t], Wh.T, out=dh0)
        return a_rows @ Wx.T, x.T @ a_rows, h_rows.T @ a_rows

    return run


def torch_layer(cell, T, N, D, H):
    """Runs torch.nn.RNN or torch.nn.LSTM, forward and backward."""
    import torch

    x, h0, *_, dh = (torch.from_numpy(a) for a in layer_input(cell, T, N, D, H))
    layer, x, h0 = getattr(torch.nn, cell)(D, H), x.requires_grad_(), h0[None].requires_grad_()
    state = (h0, torch.zeros(1, N, H)) if cell == "LSTM" else h0
    return lambda: torch.autograd.grad(layer(x, state)[0], [x, h0, *layer.parameters()], dh)


def layers(pairs):
    """The numpy layers compared with torch.nn and with their own steps: float32, forward + backward, all gradients."""
    numpy, torch = Worker(), Worker()
    for cell, shape in itertools.product(("LSTM", "RNN"), SHAPES):
        sides = ((numpy, "sequence"), (torch, "torch_layer"), (numpy, "products"), (numpy, "steps"))
        rounds = [[worker.ask(name, cell, *shape) for worker, name in sides] for _ in range(pairs)]
        ours, theirs, floor, plain = zip(*rounds, strict=True)
        what = f"{cell}, T, N, D, H = {', '.join(map(str, shape))}"
        yield row(what, f"torch.nn.{cell}", ours, theirs, SHAPES[shape])
        yield row("  its matrix products", f"torch.nn.{cell}", floor, theirs)
        yield row("  the sequence", "its steps, one by one", ours, plain)


# ---- captioning


def captioning_learner(backend, N, T=16, V=1004, D=512):
    """A learner of image_captioning.py with an LSTM (H = 512), and a minibatch without padding."""
    import numpy as np
    import torch

    import image_captioning
    from rnn import SPECIAL, CaptioningRNN

    words = {word: k for k, word in enumerate([*SPECIAL, *map(str, range(V - len(SPECIAL)))])}
    model, rng = CaptioningRNN(words, D, 256, 512, "lstm"), np.random.default_rng(0)
    learners = {"numpy": image_captioning.NumpyLearner, "torch": image_captioning.TorchLearner}
    learner = learners[backend](model, *[torch.device("cpu")] * (backend == "torch"))
    return learner, rng.standard_normal((N, D)).astype(np.float32), rng.integers(len(SPECIAL), V, (N, T + 1))


def captioning_step(backend, N):
    """A training step: loss, gradients, clipping, Adam."""
    import image_captioning

    learner, features, captions = captioning_learner(backend, N)
    recipe = image_captioning.Recipe(epochs=1, batch_size=N, lr=1e-3, decay=1.0)
    return lambda: learner.step(features, captions, 1e-3, recipe, None)


def captioning(pairs):
    """A step of the numpy LSTM (16 words, vocabulary of 1,004) compared with PyTorch's LSTM and fused Adam."""
    sides = ((Worker(), "numpy"), (Worker(), "torch"))
    for N, bar in CAPTIONS.items():
        rounds = [[worker.ask("captioning_step", backend, N) for worker, backend in sides] for _ in range(pairs)]
        yield row(f"a step of {N} captions", "the same step in PyTorch", *zip(*rounds, strict=True), bar)


# ---- style


def style(pairs):
    """A step of style_transfer.py compared with forward + backward of the same truncated network and picture."""
    import torch

    import style_transfer
    from data import weights

    setting = {key: value for key, value in style_transfer.PRESETS["starry_night"].items() if "_size" not in key}
    network = weights.load(style_transfer.ARCH, "builtin").network()
    features = style_transfer.feature_layers(network, max(setting["style_layers"]))
    image = torch.rand(1, 3, 192, 256).contiguous(memory_format=torch.channels_last).requires_grad_()
    losses = style_transfer.make_losses(features, image.detach().flip(3), image.detach(), **setting)
    optimizer = torch.optim.Adam([image], lr=1e-3)
    sides = lambda: style_transfer.take_step(image, optimizer, losses), lambda: features(image).sum().backward()
    rounds = [[timed(run) for run in sides] for _ in range(pairs)]
    yield row("a step", "only the network", *zip(*rounds, strict=True), 1.25)


BENCHMARKS = {"layers": layers, "captioning": captioning, "style": style}


def main(argv=None):
    """Compares the time of each part with PyTorch or with the plain code."""
    from common.cli import Parser, number
    from common.run import write_json

    parser = Parser(prog="python -m tests.benchmark", description=main.__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"any of {', '.join(BENCHMARKS)} (default: all)")
    parser.add_argument("--pairs", type=number(1), default=5, metavar="K", help="number of interleaved rounds")
    parser.add_argument("--save", metavar="FILE", help="also write the rows as JSON")
    args = parser.parse_args(argv)
    if unknown := set(args.names) - set(BENCHMARKS):
        parser.error(f"no benchmark named {', '.join(sorted(unknown))}; choose from {', '.join(BENCHMARKS)}")
    found = {"machine": f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}"}
    for name in args.names or BENCHMARKS:
        print(f"\n{name}: {BENCHMARKS[name].__doc__}")
        found[name] = []
        for result in BENCHMARKS[name](args.pairs):
            print(line(result), flush=True)
            found[name].append(result)
    if args.save:
        write_json(args.save, found)


if __name__ == "__main__":
    if sys.argv[1:] == ["--serve"]:
        serve()
    else:
        from common.cli import run_main  # here, because it loads PyTorch, which a numpy worker does not need

        run_main(main, "nothing was written")
