"""Numeric gradients: checks that a backward pass is the derivative of its forward pass.

To check your own layer, `my_forward(x, w) -> out, cache` and `my_backward(dout, cache) -> dx, dw`:

    from tests.gradient_check import check_layer

    rng = np.random.default_rng(0)
    errors = check_layer(my_forward, my_backward, x=rng.standard_normal((4, 5)), w=rng.standard_normal((5, 3)))
    assert max(errors.values()) < 1e-7, errors

Use float64: in float32 the differences lose half of their digits.
"""

import json
import platform

import numpy as np

from common import cli


def relative_error(a, n):
    """max|a - n| / max(1e-8, max|a| + max|n|) of two arrays (or numbers) of equal shape; 0 if empty, inf if NaN."""
    a, n = np.asarray(a), np.asarray(n)
    if a.shape != n.shape:
        raise ValueError(f"shapes differ: {a.shape} and {n.shape}")
    error = abs(a - n).max(initial=0) / max(1e-8, abs(a).max(initial=0) + abs(n).max(initial=0))
    return float("inf") if np.isnan(error) else float(error)


def numeric_gradient(f, x, h=1e-5):
    """df/dx of a scalar function by central differences, (f(x + h) - f(x - h)) / 2h, one element of x at a time.

    x: an array of any shape, or a number. f gets a float64 copy of x; x itself does not change.
    """
    x = np.array(x, dtype=np.float64)
    gradient = np.empty_like(x)
    for index in np.ndindex(x.shape):
        value = x[index]
        x[index] = value + h
        above = f(x)
        x[index] = value - h
        below = f(x)
        x[index] = value
        gradient[index] = (above - below) / (2 * h)
    return gradient


def check_layer(forward, backward, seed=0, **inputs):
    """Relative error of each gradient of a layer, as {name of the input: error}, for a random dL/dout.

    forward(*inputs) returns one or more outputs and then the cache. backward(*douts, cache) returns a gradient for each
    float input, in order; integer inputs, such as word indices, have no gradient.
    Raises ValueError if the number of gradients is wrong or a gradient does not have the shape of its input.
    """
    *outs, cache = forward(*inputs.values())
    rng = np.random.default_rng(seed)
    douts = [rng.standard_normal(out.shape) for out in outs]
    gradients = backward(*douts, cache)
    gradients = gradients if isinstance(gradients, (tuple, list)) else [gradients]
    floats = {name: value for name, value in inputs.items() if value.dtype.kind == "f"}
    if len(gradients) != len(floats):
        raise ValueError(f"backward returned {len(gradients)} gradients, expected {len(floats)}: {', '.join(floats)}")
    errors = {}
    for (name, value), gradient in zip(floats.items(), gradients, strict=True):
        if np.shape(gradient) != value.shape:
            raise ValueError(f"the gradient of {name} has shape {np.shape(gradient)}, expected {value.shape}")

        def loss(changed, name=name):
            *outs, _ = forward(*{**inputs, name: changed}.values())
            return sum(np.sum(out * dout) for out, dout in zip(outs, douts, strict=True))

        errors[name] = relative_error(gradient, numeric_gradient(loss, value))
    return errors


def check_loss(loss_function, x, *rest):
    """Relative error of the dx of a loss; loss_function(x, *rest) returns (loss, dx)."""
    _, dx = loss_function(x, *rest)
    return relative_error(dx, numeric_gradient(lambda x: loss_function(x, *rest)[0], x))


def rnn_layer_errors(T=4, N=3, D=5, H=6, V=7, M=4):
    """{name of the layer: {input: error}} for every layer of layers.py and rnn_layers.py, on random input."""
    import layers
    import rnn_layers

    rng = np.random.default_rng(1)
    r = rng.standard_normal
    words = rng.integers(0, V, (N, T))
    rnn = {"Wx": r((D, H)), "Wh": r((H, H)), "b": r(H)}
    lstm = {"Wx": r((D, 4 * H)), "Wh": r((H, 4 * H)), "b": r(4 * H)}
    errors = {}

    def check(module, name, **inputs):
        errors[name] = check_layer(getattr(module, f"{name}_forward"), getattr(module, f"{name}_backward"), **inputs)

    check(layers, "fc", x=r((N, 2, 3)), w=r((6, M)), b=r(M))
    errors["dropout"] = check_layer(
        lambda x: layers.dropout_forward(x, 0.4, np.random.default_rng(2)), layers.dropout_backward, x=r((N, D))
    )
    errors["softmax_loss"] = {"x": check_loss(layers.softmax_loss, r((N, V)), rng.integers(0, V, N))}
    check(rnn_layers, "rnn_step", x=r((N, D)), prev_h=r((N, H)), **rnn)
    check(rnn_layers, "rnn", x=r((T, N, D)), h0=r((N, H)), **rnn)
    check(rnn_layers, "lstm_step", x=r((N, D)), prev_h=r((N, H)), prev_c=r((N, H)), **lstm)
    check(rnn_layers, "lstm", x=r((T, N, D)), h0=r((N, H)), **lstm)
    check(rnn_layers, "word_embedding", x=words, W=r((V, D)))
    check(rnn_layers, "temporal_fc", x=r((N, T, D)), w=r((D, M)), b=r(M))
    mask = rng.random((N, T)) < 0.5
    errors["temporal_softmax_loss"] = {"x": check_loss(rnn_layers.temporal_softmax_loss, r((N, T, V)), words, mask)}
    return errors


def print_table():
    """`python rnn_layers.py [--save FILE]`: prints each layer's worst gradient error and the homework's bound."""
    cli.run_main(_print_table, on_stop="nothing was saved")


def _print_table():
    parser = cli.Parser(prog="rnn_layers.py", description="Checks the gradients of all layers.")
    parser.add_argument("--save", metavar="FILE", help="also write the table as JSON, for python -m common.report")
    args = parser.parse_args()
    columns, rows = ["layer", "worst error", "bound", "gradient of", "result"], []
    for layer, errors in rnn_layer_errors().items():
        bound = 1e-6 if layer in ("rnn", "lstm") else 1e-7
        worst = max(errors, key=errors.get)
        result = "ok" if errors[worst] < bound else "FAILED"
        rows.append([layer, f"{errors[worst]:.1e}", f"{bound:.0e}", worst, result])
    cli.print_table(columns, rows)
    if args.save:
        versions = {"python": platform.python_version(), "numpy": np.__version__}
        table = {"data": "random inputs", "seed": 1, "table": {"columns": columns, "rows": rows}, "versions": versions}
        cli.write_text(args.save, json.dumps(table, indent=1) + "\n")
    raise SystemExit(any(row[-1] == "FAILED" for row in rows))
