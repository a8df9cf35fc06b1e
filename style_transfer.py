"""Problem 2: style transfer. Paints a picture in the style of another one.

python style_transfer.py                                # the handout's three pictures
python style_transfer.py --content FILE --style FILE    # your own picture in your own style
python style_transfer.py --content FILE                 # your own picture in the handout's three styles
"""

if __name__ == "__main__":
    from common.cli import quit_on_ctrl_c

    quit_on_ctrl_c()

import functools
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import nn
from torchvision.transforms import functional as transforms
from tqdm import tqdm

from common import cli, plots
from common import run as runs
from common.cli import UserError, shown
from data import fingerprint, sha256, styles, weights
from data.images import open_photo

ARCH = "squeezenet1_1"
SETTING = "image_size", "style_size", "content_layer", "content_weight", "style_layers", "style_weights", "tv_weight"
PRESETS = {
    "composition_vii": (192, 512, 3, 5e-2, [1, 4, 6, 7], [20000.0, 500.0, 12.0, 1.0], 5e-2),
    "the_scream": (192, 224, 3, 3e-2, [1, 4, 6, 7], [200000.0, 800.0, 12.0, 1.0], 2e-2),  # also for your own styles
    "starry_night": (192, 192, 3, 6e-2, [1, 4, 6, 7], [300000.0, 1000.0, 15.0, 3.0], 2e-2),
}
PRESETS = {name: dict(zip(SETTING, numbers, strict=True)) for name, numbers in PRESETS.items()}
# For the built-in weights, chosen for a low style loss by the ImageNet weights (WRITEUP 2.4).
BUILTIN_SETTING = "style_size", "content_weight", "style_weights", "tv_weight", "learning_rate"
BUILTIN_PRESETS = {
    "composition_vii": (512, 1.7e-3, [400000.0, 10000.0, 5000.0, 6.0, 0.5], 1.0, 0.15),
    "the_scream": (256, 1e-3, [2000000.0, 16000.0, 8000.0, 12.0, 1.0], 0.4, 0.2),
    "starry_night": (288, 6e-3, [12000000.0, 20000.0, 10000.0, 4.5, 0.9], 0.4, 0.15),
}
BUILTIN_PRESETS = {
    name: dict(zip(BUILTIN_SETTING, numbers, strict=True), style_layers=[1, 3, 4, 6, 7], jitter=8)
    for name, numbers in BUILTIN_PRESETS.items()
}
STEPS, QUICK_STEPS, QUICK_SIZE = 200, 60, 96
TERMS = {"content": "content loss", "style": "style loss", "tv": "total variation loss"}
SMALLEST, MOST_PIXELS = 17, 2**24  # shorter side that SqueezeNet's pooling needs; pixels that take about 20 GB


def content_loss(content_weight, content_current, content_original):
    """Lc = wc · Σ_{c,i,j} (F_cij - P_cij)²: how far the picture's features are from the content's.

    content_weight: wc. content_current, content_original: F and P, features of one layer, both (N, C, H, W).
    """
    return content_weight * (content_current - content_original).square().sum()


class Gram(torch.autograd.Function):
    """G = F Fᵀ for F (N, C, K). The gradient dF = (dG + dGᵀ) F is one product here; autograd takes two."""

    @staticmethod
    def forward(ctx, F):
        ctx.save_for_backward(F)
        return torch.bmm(F, F.mT)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, dG):
        (F,) = ctx.saved_tensors
        dF = torch.empty_like(F)  # with F's strides, channels-last or not
        return torch.bmm(dG + dG.mT, F, out=dF)


def gram_matrix(features, normalize=True):
    """G_ij = Σ_k F_ik F_jk: how strongly channels i and j are active at the same positions k.

    features: F, (N, C, H, W). normalize: divide by H·W·C. Returns G, (N, C, C).
    """
    gram = Gram.apply(features.flatten(2))
    return gram / features[0].numel() if normalize else gram


def style_loss(feats, style_layers, style_targets, style_weights):
    """Ls = Σ_l ws_l · Σ_{i,j} (G_lij - A_lij)²: how far the Gram matrices are from the style's.

    feats: the features of every layer, from `extract_features`. style_layers: the layers l. style_targets: for each l,
    A_l, the style's normalized Gram matrix, (1, C_l, C_l). style_weights: for each l, ws_l.
    """
    loss = feats[0].new_zeros(())
    for layer, target, weight in zip(style_layers, style_targets, style_weights, strict=True):
        loss = loss + weight * (gram_matrix(feats[layer]) - target).square().sum()
    return loss


def total_variation_loss(img, tv_weight):
    """Ltv = wtv · Σ_c ( Σ_{i,j} (x_{c,i,j+1} - x_cij)² + Σ_{i,j} (x_{c,i+1,j} - x_cij)² ), the roughness.

    img: x, (N, 3, H, W). tv_weight: wtv.
    """
    across = img[:, :, :, 1:] - img[:, :, :, :-1]
    down = img[:, :, 1:, :] - img[:, :, :-1, :]
    return tv_weight * (across.square().sum() + down.square().sum())


def feature_layers(network, last):
    """Modules 0 to `last` of a SqueezeNet's `features`, frozen and channels-last, without in-place ReLUs."""
    layers = nn.Sequential(*(nn.ReLU() if isinstance(m, nn.ReLU) else m for m in network.features[: last + 1]))
    return layers.eval().requires_grad_(False).to(memory_format=torch.channels_last)


def extract_features(x, layers):
    """The output of each of `layers` for a batch of normalized images x, (N, 3, H, W), in order."""
    feats = [x]
    for layer in layers:
        feats.append(layer(feats[-1]))
    return feats[1:]


def make_losses(layers, content, style, content_layer, content_weight, style_layers, style_weights, tv_weight):
    """A function of an image (N, 3, H, W) and a shift; it returns the losses content, style and tv."""
    with torch.no_grad():
        feats = extract_features(style, layers)
        style_targets = [gram_matrix(feats[layer]) for layer in style_layers]

    @functools.lru_cache(maxsize=1)  # one target for all steps without jitter
    @torch.no_grad()
    def content_target(shift):
        return layers[: content_layer + 1](content.roll(shift, (2, 3)))

    def losses(image, shift=(0, 0)):
        feats = extract_features(image.roll(shift, (2, 3)), layers)
        return {
            "content": content_loss(content_weight, feats[content_layer], content_target(shift)),
            "style": style_loss(feats, style_layers, style_targets, style_weights),
            "tv": total_variation_loss(image, tv_weight),
        }

    return losses


def fit_size(picture, size, flag):
    """(width, height) of a picture resized to a shorter side of `size` pixels. Raises UserError if out of range."""
    short, long = sorted(picture.size)
    long = int(size * long / short)
    if size < SMALLEST or size * long > MOST_PIXELS:
        raise UserError(f"{flag} {size}: {size} x {long} pixels; give {SMALLEST} or more, up to {MOST_PIXELS:,} in all")
    return (size, long) if picture.width <= picture.height else (long, size)


def to_image(picture, size):
    """A picture, resized to (width, height) `size`, as a normalized image (1, 3, H, W), channels-last float32."""
    pixels = transforms.to_tensor(transforms.resize(picture, size[::-1]))
    return transforms.normalize(pixels, weights.MEAN, weights.STD)[None].to(memory_format=torch.channels_last)


def to_picture(image):
    """A normalized image (1, 3, H, W) as an RGB picture."""
    return Image.fromarray((255 * weights.to_pixels(image.detach()[0])).round().astype(np.uint8))


def keep_colors(picture, content):
    """`picture` in the colors of `content`: its luminance with the chrominance of `content` (Gatys et al. 2016)."""
    _, blue, red = content.resize(picture.size, Image.Resampling.BILINEAR).convert("YCbCr").split()
    return Image.merge("YCbCr", (picture.convert("YCbCr").getchannel(0), blue, red)).convert("RGB")


def style_transfer(
    content_image, style_image, image_size, style_size, content_layer, content_weight, style_layers, style_weights,
    tv_weight, init_random=False, *, learning_rate=3.0, jitter=0, steps=STEPS, network=None, device="cpu", seed=0,
    checkpoint=None, label="painting",
):  # fmt: skip
    """Minimizes content_loss + style_loss + total_variation_loss over the pixels with Adam.

    content_image, style_image: file names or PIL images. image_size, style_size: their shorter sides in pixels.
    content_layer, style_layers: indices of modules in SqueezeNet's `features`, 0 to 12. init_random: start from uniform
    noise instead of the content. steps: with the handout's 200, Adam's `learning_rate` falls to 0.1 at step 180
    and the normalized pixels are clamped to ±1.5 before steps 0 to 189; other numbers scale these steps in proportion.
    jitter: each step shifts the network's input at random by up to this many pixels, which hides the network's grid.
    network: a SqueezeNet (default: from `data.weights`). seed, checkpoint: as in `common.run.epochs`.
    Returns a PIL image; lists of steps + 1 losses: content, style, tv, total; and {step: PIL image} after
    5, 25, 50 and 90% of the steps. Raises UserError if a size is out of range or the loss is not finite.
    """
    network = weights.load(ARCH).network() if network is None else network
    layers, images = feature_layers(network, max([content_layer, *style_layers])).to(device), []
    for picture, size, flag in (content_image, image_size, "--size"), (style_image, style_size, "--style-size"):
        picture = picture if isinstance(picture, Image.Image) else open_photo(picture)
        images.append(to_image(picture, fit_size(picture, size, flag)).to(device))
    losses = make_losses(layers, *images, content_layer, content_weight, style_layers, style_weights, tv_weight)

    runs.seed_all(seed)
    start = torch.rand(images[0].shape).to(device) if init_random else images[0].clone()
    image = nn.Parameter(start.to(memory_format=torch.channels_last))
    optimizer, history, on_the_way = torch.optim.Adam([image]), runs.History(), runs.History()
    shown_after = {max(1, round(share * steps)) for share in (0.05, 0.25, 0.5, 0.9)} - {steps}
    parts = {"image": nn.ParameterList([image]), "optimizer": optimizer, "history": history, "on the way": on_the_way}
    with tqdm(total=steps, desc=label, unit="step", leave=False) as bar:
        for step in runs.epochs(steps, seed, checkpoint, every=20, **parts):
            bar.update(step - bar.n)
            if step < steps * 19 // 20:  # 190 of 200
                image.data.clamp_(-1.5, 1.5)
            if step in shown_after:
                on_the_way[step] = torch.from_numpy(np.array(to_picture(image)))
            optimizer.param_groups[0]["lr"] = learning_rate if step < steps * 9 // 10 else 0.1  # 180 of 200
            shift = tuple(torch.randint(-jitter, jitter + 1, (2,)).tolist())
            note(history, take_step(image, optimizer, losses, shift), bar, label)
        with torch.no_grad():
            note(history, losses(image), bar, label)
    history["total"] = [sum(values) for values in zip(*(history[key] for key in TERMS), strict=True)]
    return to_picture(image), history, {step: Image.fromarray(p.numpy()) for step, p in on_the_way.items()}


def take_step(image, optimizer, losses, shift=(0, 0)):
    """One step of `optimizer` on the sum of `losses(image, shift)`; returns the losses before it."""
    optimizer.zero_grad()
    terms = losses(image, shift)
    sum(terms.values()).backward()
    optimizer.step()
    return terms


def note(history, terms, bar, label):
    """Appends the losses to the history and shows their sum in the progress bar."""
    values = {key: term.item() for key, term in terms.items()}
    history.add(**values)
    runs.check_finite(sum(values.values()), label, "give smaller weights")
    bar.set_postfix(loss=f"{sum(values.values()):.4g}", refresh=False)


def plot_curves(history, title):
    """The total loss and each term after every step, on a logarithmic scale."""
    figure = plots.new_figure(7.5, 4.8, title)
    axes = figure.subplots()
    for (key, label), color in zip({"total": "total", **TERMS}.items(), ("black", *plots.COLORS), strict=False):
        axes.plot(history[key], color=color, label=label, linewidth=2.2 if key == "total" else 1.3)
    axes.axvline(len(history["tv"]) * 9 // 10, color="gray", linestyle=":", label="learning rate falls to 0.1")
    axes.set(xlabel="Adam steps", ylabel="loss (weighted, logarithmic scale)", yscale="log")
    axes.yaxis.set_major_formatter("{x:.0e}")
    figure.legend(*axes.get_legend_handles_labels(), loc="outside lower center", ncols=3, fontsize=8)
    return figure


def plan(content, style, preset, data, cache):
    """The jobs {name: (names, pictures, preset, fingerprint)}, the name of the data, and whether all of it is drawn.

    content, style, preset: the flags. With `style` or `preset` there is only one job.
    """
    found, jobs = None if content and style else styles.load(data, cache, None if style else preset), {}
    for key in [preset or "the_scream"] if style else [preset] if preset else PRESETS:
        paths = Path(content or found.content), Path(style or found.styles[key])
        names = [shown(path.stem, 60) for path in paths]
        job = names, [open_photo(path) for path in paths], key, fingerprint(*map(sha256, paths))
        jobs["stylized" if style else names[1]] = job
    if content or style:
        return jobs, f"{names[0]} in the style of {', '.join(names[1] for names, *_ in jobs.values())}", False
    return jobs, found.name, not found.real


def choose_setting(preset, builtin, given):
    """The settings of a preset for ImageNet's or the built-in weights; the values in `given` replace its own."""
    setting = PRESETS[preset] | (BUILTIN_PRESETS[preset] if builtin else {}) | given
    chosen, count = setting["style_layers"], len(setting["style_weights"])
    if len(chosen) != count:
        layers = " ".join(map(str, chosen))
        raise UserError(f"--style-layers {layers}, but {count} --style-weights: give both, one weight for each layer")
    return setting


def paint(run, jobs, args, network, device):
    """Paints the pictures one after another and saves the pictures, plots and results.json."""
    rows, sheet, ways, metrics, about = [], [], [], {}, f"{run.saved['data']}; {ARCH}"
    for name, (names, (content, style), setting, _) in jobs.items():
        picture, history, stages = style_transfer(
            content, style, **setting, init_random=args.init == "noise", steps=args.steps, network=network,
            device=device, seed=args.seed, checkpoint=run.checkpoint(name), label=name,
        )  # fmt: skip
        title, stages[args.steps] = " in the style of ".join(names), picture
        if args.keep_colors:
            stages = {step: keep_colors(image, content) for step, image in stages.items()}
        for step, image in stages.items():
            file = f"{name}.png" if step == args.steps else f"{name}-after_{step:03d}.png"
            run.picture(image, file, f"{title}, after {step} steps", "In full resolution.")
        caption = "The style loss falls by orders of magnitude; the content loss levels off."
        run.figure(plot_curves(history, f"{title}\n{about}"), f"{name}-curves.png", f"Learning curve, {title}", caption)
        ends = [history["total"][0], *(history[key][-1] for key in ("total", *TERMS))]
        ends = [f"{value:,.0f}" if value >= 1000 else f"{value:.4g}" for value in ends]
        rows.append([title, f"{picture.width} x {picture.height}", *ends])
        history = {key: [float(f"{value:.6g}") for value in values] for key, values in history.items()}
        last = {key: values[-1] for key, values in history.items()}
        metrics[name] = {"width": picture.width, "height": picture.height, **last, "history": history}
        way = [(image, (f"{names[1]}, after {step} steps", False)) for step, image in stages.items()]
        ways += way
        sheet += [(content, (names[0], False)), (style, (names[1], False)), way[-1]]
        print(f"{title}: total loss {ends[0]}, after {args.steps} steps {ends[1]}")
    figure = plots.picture_grid(*zip(*sheet, strict=True), f"Content, style and result\n{about}", columns=3)
    caption = "The result has the objects of the content in the colors and strokes of the style."
    run.figure(figure, "sheet.png", "Content, style and result", caption)
    figure = plots.picture_grid(*zip(*ways, strict=True), f"Intermediate pictures\n{about}", columns=len(way))
    caption = "The strokes form step by step."
    run.figure(figure, "on_the_way.png", "Intermediate pictures", caption)
    run.finish(metrics, ["picture", "pixels", "total at the start", "total in the end", *TERMS], rows)


def parse_args(argv=None):
    parser = cli.Parser(prog="style_transfer.py", description=(__doc__ or "").partition("\n")[0])
    count, weight, add = cli.number(1, below=2**31), cli.number(0, float, below=1e15), parser.add_argument
    layer, own = cli.number(0, below=13), " (default: the preset's)"
    cli.add_common_flags(parser, f"{QUICK_STEPS} steps, shorter side {QUICK_SIZE} pixels")
    cli.add_seed_flag(parser)
    add("--steps", type=count, help=f"Adam steps (default: {STEPS}; {QUICK_STEPS} with --quick)")
    add("--content", metavar="FILE", help="your own picture to paint (default: the data set's)")
    add("--style", metavar="FILE", help="your own style picture (default: the data set's three)")
    add("--preset", choices=PRESETS, type=styles.style_name, help="a style of the handout; with --style, its settings")
    add("--init", choices=("content", "noise"), default="content", help="what to start from")
    add("--keep-colors", action="store_true", help="keep the colors of the content")
    add("--size", dest="image_size", metavar="N", type=count, help="the result's shorter side in pixels" + own)
    add("--style-size", metavar="N", type=count, help="the style's shorter side in pixels" + own)
    add("--content-layer", metavar="L", type=layer, help="module for the content loss, 0 to 12" + own)
    add("--content-weight", metavar="W", type=weight, help="weight of the content loss" + own)
    add("--style-layers", metavar="L", nargs="+", type=layer, help="modules for the style loss" + own)
    add("--style-weights", metavar="W", nargs="+", type=weight, help="one weight per style layer" + own)
    add("--tv-weight", metavar="W", type=weight, help="weight of the total variation loss" + own)
    args = parser.parse_args(argv)
    args.steps = args.steps or (QUICK_STEPS if args.quick else STEPS)
    args.image_size = args.image_size or (QUICK_SIZE if args.quick else None)
    return args


def main(argv=None):
    """Runs the script. argv: its flags (default: those of the command line)."""
    args = parse_args(argv)
    device = runs.pick_device(args.device)
    given = {key: getattr(args, key) for key in SETTING if getattr(args, key) is not None}
    jobs, data, drawn = plan(args.content, args.style, args.preset, args.data, Path(args.results, "cache"))
    pretrained, data = weights.choose(None, args.data, not drawn, ARCH, ARCH), data + ", quick run" * args.quick
    pretrained.announce(data, not drawn, "styles")
    settings = {key: getattr(args, key) for key in ("steps", "init", "keep_colors", "quick")} | {"device": device.type}
    for name, (names, pictures, preset, digest) in jobs.items():
        setting = choose_setting(preset, pretrained.builtin, given)
        jobs[name] = names, pictures, setting, digest
        settings |= {f"{name}.{key}": value for key, value in setting.items()} | {f"{name}.fingerprint": digest}
    with runs.Run("style_transfer", args, data, pretrained.name, settings) as run:
        paint(run, jobs, args, pretrained.network(), device)


if __name__ == "__main__":
    cli.run_main(main)
