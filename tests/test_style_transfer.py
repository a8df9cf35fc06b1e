"""style_transfer.py: losses are their formulas, a step stays linear, a kill loses nothing, bad input is one line."""

import functools
import itertools
import re
import shutil
import types
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils._python_dispatch import TorchDispatchMode

import style_transfer as st
from data import DataError, builtin, styles, weights
from data.builtin import paintings
from data.photos import open_photo
from data.results import Checkpoint
from tests import runs
from tests.conftest import random_state, snapshot
from tests.runs import Table, check_refused, cut, noise, watched_run, without_times, world_folder


def tensor(*shape, seed=0):
    """Random numbers, float64."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


# ---- the losses against their formulas, number by number

SHAPES = [(1, 3, 5, 7), (2, 3, 4, 3), (1, 4, 1, 6), (2, 2, 6, 1), (3, 5, 2, 2), (1, 1, 1, 1)]


def loop_gram(features, normalize=True):
    N, C, H, W = features.shape
    gram = torch.zeros(N, C, C, dtype=torch.float64)
    for n, i, j in itertools.product(range(N), range(C), range(C)):
        for y, x in itertools.product(range(H), range(W)):
            gram[n, i, j] += features[n, i, y, x] * features[n, j, y, x]
    return gram / (H * W * C) if normalize else gram


def close(value, expected):
    torch.testing.assert_close(value, torch.as_tensor(expected, dtype=torch.float64), rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("shape", SHAPES)
def test_the_content_loss_is_its_formula(shape):
    F, P = tensor(*shape), tensor(*shape, seed=1)
    close(st.content_loss(0.7, F, P), 0.7 * sum((f - p) ** 2 for f, p in zip(F.flatten(), P.flatten(), strict=True)))


@pytest.mark.parametrize("normalize", [True, False])
@pytest.mark.parametrize("shape", SHAPES)
def test_the_gram_matrix_is_its_formula(shape, normalize):
    features = tensor(*shape)
    close(st.gram_matrix(features, normalize), loop_gram(features, normalize))
    assert st.gram_matrix(features).shape == (shape[0], shape[1], shape[1])


@pytest.mark.parametrize("shape", SHAPES)
def test_the_style_loss_is_its_formula_over_the_layers_asked_for(shape):
    feats = [tensor(*shape, seed=seed) for seed in range(3)]
    targets = [loop_gram(tensor(1, *shape[1:], seed=seed)) for seed in (8, 9)]
    expected = 0.0
    for layer, target, weight in zip((0, 2), targets, (3.0, 0.2), strict=True):
        expected += weight * sum((g - a) ** 2 for G in loop_gram(feats[layer])
                                 for g, a in zip(G.flatten(), target.flatten(), strict=True))  # fmt: skip
    close(st.style_loss(feats, [0, 2], targets, [3.0, 0.2]), expected)


@pytest.mark.parametrize("shape", [(1, 3, 5, 7), (2, 3, 4, 3), (1, 3, 1, 6), (2, 3, 6, 1), (1, 3, 1, 1)])
def test_the_total_variation_loss_is_its_formula(shape):
    img, expected = tensor(*shape), 0.0
    N, C, H, W = shape
    for n, c, y, x in itertools.product(range(N), range(C), range(H), range(W)):
        expected += (img[n, c, y, x + 1] - img[n, c, y, x]) ** 2 if x + 1 < W else 0.0
        expected += (img[n, c, y + 1, x] - img[n, c, y, x]) ** 2 if y + 1 < H else 0.0
    close(st.total_variation_loss(img, 0.3), 0.3 * expected)


def of_features(shape):
    """Each loss as a function of one tensor of that shape."""
    P, A = tensor(*shape, seed=1), loop_gram(tensor(*shape, seed=2))
    return {
        "content": lambda F: st.content_loss(0.7, F, P),
        "gram": lambda F: st.gram_matrix(F),
        "style": lambda F: st.style_loss([F, F * F], [0, 1], [A, A], [0.5, 2.0]),
        "total variation": lambda F: st.total_variation_loss(F, 0.3),
    }


@pytest.mark.parametrize("name", ["content", "gram", "style", "total variation"])
@pytest.mark.parametrize("shape", SHAPES)
def test_the_gradient_of_each_loss_is_the_numeric_one(shape, name):
    assert torch.autograd.gradcheck(of_features(shape)[name], tensor(*shape).requires_grad_())


LAYOUTS = {
    "contiguous": lambda x: x.contiguous(),
    "channels-last": lambda x: x.contiguous(memory_format=torch.channels_last),
    "transposed": lambda x: x.transpose(2, 3).contiguous().transpose(2, 3),
    "every second": lambda x: x.repeat_interleave(2, 3)[..., ::2],
}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype, rtol", [(torch.float32, 1e-5), (torch.float64, 1e-12)])
def test_the_gram_matrix_and_its_gradient_are_autograds_own_in_any_layout(layout, dtype, rtol):
    start = tensor(2, 5, 4, 3).to(dtype)
    ours = LAYOUTS[layout](start).detach().requires_grad_()
    plain = start.clone().requires_grad_()
    weight = tensor(2, 5, 5, seed=1).to(dtype)  # not symmetric
    gram, rows = st.gram_matrix(ours), plain.flatten(2)
    (gram * weight).sum().backward()
    expected = rows @ rows.transpose(1, 2) / 60
    (expected * weight).sum().backward()
    assert gram.dtype == dtype
    torch.testing.assert_close(gram, expected, rtol=rtol, atol=rtol)
    torch.testing.assert_close(ours.grad, plain.grad, rtol=rtol, atol=rtol)


@pytest.mark.parametrize("shape", SHAPES)
def test_the_losses_and_their_gradients_are_zero_where_current_equals_target(shape):
    F = tensor(*shape).requires_grad_()
    target = st.gram_matrix(F.detach())
    for loss in (st.content_loss(5.0, F, F.detach()), st.style_loss([F], [0], [target], [5.0])):
        [gradient] = torch.autograd.grad(loss, F)
        assert loss == 0 and not gradient.any()
    flat = torch.full(shape, 0.4, dtype=torch.float64, requires_grad=True)
    [gradient] = torch.autograd.grad(st.total_variation_loss(flat, 5.0), flat)
    assert not gradient.any()


def test_no_style_layers_are_no_style_loss():
    assert st.style_loss([tensor(1, 2, 3, 3)], [], [], []) == 0


@pytest.mark.parametrize("layers, targets, weights_", [([0], 2, [1.0]), ([0, 0], 2, [1.0]), ([0], 1, [1.0, 2.0])])
def test_lists_of_different_lengths_are_a_valueerror(layers, targets, weights_):
    F = tensor(1, 2, 3, 3)
    with pytest.raises(ValueError, match="must have one length"):
        st.style_loss([F], layers, [st.gram_matrix(F)] * targets, weights_)


def test_contents_of_different_shapes_are_a_valueerror_and_not_broadcast():
    with pytest.raises(ValueError, match=r"one shape, got \(1, 2, 3, 3\) and \(1, 2, 3, 1\)"):
        st.content_loss(1.0, tensor(1, 2, 3, 3), tensor(1, 2, 3, 1))


class Largest(TorchDispatchMode):
    """Notes the numbers in the largest tensor that any operation gives."""

    def __init__(self):
        super().__init__()
        self.numel = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        out = function(*args, **(kwargs or {}))
        for part in out if isinstance(out, (tuple, list)) else [out]:
            if isinstance(part, torch.Tensor):
                self.numel = max(self.numel, part.numel())
        return out


@pytest.mark.parametrize("shape", [(1, 64, 20, 30), (2, 128, 6, 5)])
@pytest.mark.parametrize("layout", ["contiguous", "channels-last"])
def test_no_tensor_of_the_gram_matrix_or_its_gradient_is_larger_than_the_features_or_the_matrix(shape, layout):
    features = LAYOUTS[layout](tensor(*shape)).detach().requires_grad_()
    with Largest() as largest:
        st.gram_matrix(features).square().sum().backward()
    N, C, H, W = shape
    assert largest.numel == max(N * C * H * W, N * C * C)


# ---- the network


@pytest.fixture(scope="module")
def network():
    network = weights.build(st.ARCH, 10)
    network.load_state_dict(random_state(st.ARCH))
    return network.eval()


def test_every_layers_features_are_the_networks_own_the_one_before_a_relu_too(network):
    x, expected = torch.randn(2, 3, 40, 50), []
    y = x.clone()
    for module in network.features:
        y = module(y.clone())
        expected.append(y.clone())
    feats = st.extract_features(x, st.feature_layers(network, 12))
    assert len(feats) == 13 and (feats[0] < 0).any()
    for ours, theirs in zip(feats, expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)


def test_the_layers_end_at_the_last_one_that_is_needed_and_have_no_gradients(network):
    layers = st.feature_layers(network, 4)
    assert len(layers) == 5 and not any(parameter.requires_grad for parameter in layers.parameters())


def test_the_targets_are_computed_once_and_each_evaluation_is_one_pass(network):
    layers, passes = st.feature_layers(network, 7), []
    layers[0].register_forward_hook(lambda *_: passes.append(1))
    content, style = torch.randn(1, 3, 32, 40), torch.randn(1, 3, 36, 36)
    losses = st.make_losses(layers, content, style, 3, 1.0, [1, 4], [1.0, 2.0], 0.5)
    assert len(passes) == 2
    for _ in range(3):
        losses(content)
    assert len(passes) == 5


def test_the_content_has_no_content_loss_and_the_style_no_style_loss(network):
    layers = st.feature_layers(network, 7)
    content, style = torch.randn(1, 3, 32, 40), torch.randn(1, 3, 36, 36)
    losses = st.make_losses(layers, content, style, 3, 1.0, [1, 4], [1.0, 2.0], 0.5)
    assert losses(content)["content"] == 0 and losses(content)["style"] > 0
    same = st.make_losses(layers, style, style, 3, 1.0, [1, 4], [1.0, 2.0], 0.5)(style)
    assert same["content"] == 0 and same["style"] == 0 and same["tv"] > 0


# ---- pictures


def test_a_picture_that_is_not_resized_comes_back_as_it_was():
    picture = noise(37, 23)
    assert np.array_equal(st.to_picture(st.to_image(picture, picture.size)), picture)


def test_what_is_darker_than_black_or_lighter_than_white_is_cut_off():
    image = torch.tensor([-100.0, 100.0]).view(1, 1, 1, 2).expand(1, 3, 1, 2)
    assert np.array_equal(st.to_picture(image), [[[0] * 3, [255] * 3]])


@pytest.mark.parametrize("given, size, expected", [((40, 20), 10, (20, 10)), ((20, 40), 10, (10, 20)),
                                                   ((1024, 768), 192, (256, 192)), ((9, 9), 30, (30, 30)),
                                                   ((101, 1), 7, (707, 7))])  # fmt: skip
def test_the_shorter_side_is_made_the_size_asked_for_and_the_shape_stays(given, size, expected):
    assert st.fit_size(Image.new("RGB", given), size, "--size") == expected
    assert st.to_image(Image.new("RGB", given), expected).shape == (1, 3, expected[1], expected[0])


def test_keep_colors_takes_the_luminance_of_the_picture_and_the_colours_of_the_content():
    picture, content = noise(30, 20, 1), Image.new("RGB", (60, 40), (90, 110, 150))
    kept = st.keep_colors(picture, content)
    luminance, blue, red = (np.asarray(kept.convert("YCbCr"), int)[..., k] for k in range(3))
    wanted, _, _ = (np.asarray(picture.convert("YCbCr"), int)[..., k] for k in range(3))
    middle = (wanted > 70) & (wanted < 200)  # elsewhere the colour does not fit into RGB
    assert middle.any() and np.abs(luminance - wanted)[middle].max() <= 2
    _, content_blue, content_red = content.convert("YCbCr").getpixel((0, 0))
    assert np.abs(blue - content_blue)[middle].max() <= 2 and np.abs(red - content_red)[middle].max() <= 2


# ---- the built-in pictures


@pytest.mark.parametrize(
    "name, draw", styles.DRAWINGS.values(), ids=lambda value: str(value) if str(value) == value else ""
)
def test_a_drawing_is_the_same_for_one_seed_and_another_for_another(name, draw):
    first, again, other = (draw(np.random.default_rng(seed), 96) for seed in (1, 1, 2))
    assert first.mode == "RGB" and min(first.size) == 96 and np.array_equal(first, again)
    assert np.abs(np.asarray(first, int) - np.asarray(other, int)).mean() > 2


def test_the_town_is_a_landscape_and_every_drawing_has_many_colours():
    for name, draw in styles.DRAWINGS.values():
        picture = draw(np.random.default_rng(0), 96)
        assert picture.size == ((128, 96) if name == "town" else (96, 96))
        assert len(set(picture.convert("P", palette=Image.Palette.ADAPTIVE, colors=64).tobytes())) > 20


def test_the_three_styles_differ_more_from_one_another_than_from_themselves():
    def colors(draw, seed):
        """The shares of 64 colours."""
        pixels = np.asarray(draw(np.random.default_rng(seed), 128)).reshape(-1, 3).astype(int) // 64
        return np.bincount(pixels @ (16, 4, 1), minlength=64) / len(pixels)

    draws = [paintings.draw_mosaic, paintings.draw_lines, paintings.draw_strokes]
    shares = [[colors(draw, seed) for seed in (1, 2)] for draw in draws]
    within = max(np.abs(a - b).sum() for a, b in shares)
    for (first, _), (second, _) in itertools.combinations(shares, 2):
        assert np.abs(first - second).sum() > 2 * within


@pytest.fixture(scope="session")
def small_drawings(tmp_path_factory):
    """A cache with the built-in pictures at 64 pixels, at the place where the real ones would be."""
    cache = tmp_path_factory.mktemp("results") / "cache"
    folder = cache / f"builtin-styles-{builtin.version()}"
    folder.mkdir(parents=True)
    for k, (name, draw) in enumerate(styles.DRAWINGS.values()):
        draw(np.random.default_rng(k), 64).save(folder / f"{name}.png")
    return cache


def test_drawings_that_are_in_the_cache_are_not_drawn_again(small_drawings):
    found = styles.load("builtin", small_drawings)
    assert (found.content.name, [path.stem for path in found.styles.values()]) == (
        "town.png",
        ["mosaic", "lines", "strokes"],
    )
    assert not found.real and "drawn" in found.name and list(found.styles) == list(st.PRESETS)
    assert Image.open(found.content).size == (85, 64)


def test_the_courses_pictures_are_taken_from_the_data_folder(hw2_data, tmp_path):
    found = styles.load(hw2_data, tmp_path)
    assert found.real and found.content == hw2_data / "styles" / "tubingen.jpg"
    assert found.styles == {name: hw2_data / "styles" / f"{name}.jpg" for name in st.PRESETS}
    assert not list(tmp_path.iterdir())


# ---- style_transfer

SETTING = dict(
    image_size=40, style_size=36, content_layer=3, content_weight=0.05, style_layers=[1, 4, 6, 7],
    style_weights=[200.0, 80.0, 12.0, 1.0], tv_weight=0.02,
)  # fmt: skip


def transfer(network, **changed):
    return st.style_transfer(noise(60, 45), noise(50, 50, 1), **{**SETTING, "network": network, "steps": 20, **changed})


def plain_transfer(network, content, style, steps, image_size, style_size, content_layer, content_weight, style_layers,
                   style_weights, tv_weight):  # fmt: skip
    """The handout's recipe with autograd alone, contiguous, every layer; the total loss after each step."""
    from torchvision import transforms

    def to_input(picture, size):
        steps = [transforms.Resize(size), transforms.ToTensor(), transforms.Normalize(weights.MEAN, weights.STD)]
        return transforms.Compose(steps)(picture)[None]

    def features(x):
        return [x := module(x) for module in network.features]

    def gram(F):
        N, C, H, W = F.shape
        return F.reshape(N, C, H * W) @ F.reshape(N, C, H * W).transpose(1, 2) / (C * H * W)

    network.requires_grad_(False).to(memory_format=torch.contiguous_format)
    content, style = to_input(content, image_size), to_input(style, style_size)
    P, A = features(content)[content_layer].clone(), [gram(features(style)[layer]) for layer in style_layers]
    x = content.clone().requires_grad_()
    optimizer, totals = torch.optim.Adam([x], lr=3.0), []

    def total():
        F = features(x)
        loss = content_weight * ((F[content_layer] - P) ** 2).sum()
        for layer, target, weight in zip(style_layers, A, style_weights, strict=True):
            loss = loss + weight * ((gram(F[layer]) - target) ** 2).sum()
        rough = (x[..., 1:] - x[..., :-1]).pow(2).sum() + (x[..., 1:, :] - x[..., :-1, :]).pow(2).sum()
        return loss + tv_weight * rough

    for step in range(steps):
        if step < 0.95 * steps:
            x.data.clamp_(-1.5, 1.5)
        if step == 0.9 * steps:
            optimizer.param_groups[0]["lr"] = 0.1
        optimizer.zero_grad()
        loss = total()
        loss.backward()
        optimizer.step()
        totals.append(loss.item())
    return [*totals, total().item()]


def test_the_losses_after_every_step_are_those_of_the_plain_formulation(network):
    _, history = transfer(network)
    plain = plain_transfer(network, noise(60, 45), noise(50, 50, 1), 20, **SETTING)
    assert history["total"][:5] == pytest.approx(plain[:5], rel=1e-3)  # from there on rounding grows
    assert history["total"] == pytest.approx(plain, rel=0.1)


def test_the_history_has_the_start_and_every_step_and_total_is_the_sum_of_the_terms(network):
    _, history = transfer(network)
    assert set(history) == {"content", "style", "tv", "total", "seconds"} and len(history["seconds"]) == 20
    for content, style, tv, total in zip(*(history[key] for key in (*st.TERMS, "total")), strict=True):
        assert total == content + style + tv and np.isfinite(total)
    assert len(history["total"]) == 21 and history["total"][-1] < history["total"][1]


@pytest.fixture
def watched(network, monkeypatch):
    """What 200 steps do: the learning rate of each and the largest normalized pixel that it starts from."""
    seen, take_step = [], st.take_step

    def spy(image, optimizer, losses):
        seen.append((optimizer.param_groups[0]["lr"], image.detach().abs().max().item()))
        return take_step(image, optimizer, losses)

    monkeypatch.setattr(st, "take_step", spy)
    transfer(network, steps=200, image_size=16, style_size=16)
    return seen


def test_the_learning_rate_falls_at_step_180_and_the_pixels_are_clamped_before_steps_0_to_189(watched):
    rates, largest = zip(*watched, strict=True)
    assert rates == (3.0,) * 180 + (0.1,) * 20
    assert max(largest[:190]) <= 1.5 < largest[190]


def test_file_names_and_open_pictures_give_the_same(network, tmp_path):
    noise(60, 45).save(tmp_path / "a.png")
    noise(50, 50, 1).save(tmp_path / "b.png")
    by_name = st.style_transfer(tmp_path / "a.png", str(tmp_path / "b.png"), **SETTING, network=network, steps=3)
    assert by_name[0].tobytes() == transfer(network, steps=3)[0].tobytes()


def test_without_a_network_the_weights_that_are_found_are_taken(monkeypatch):
    monkeypatch.setattr(weights, "find", lambda arch, data=None: None)
    picture, history = st.style_transfer(noise(60, 45), noise(50, 50, 1), **SETTING, steps=2)
    assert picture.size == (53, 40) and len(history["total"]) == 3


def test_a_random_start_is_noise_that_the_seed_decides(network):
    first, again = (transfer(network, init_random=True, steps=2) for _ in range(2))
    other = transfer(network, init_random=True, steps=2, seed=1)
    assert first[0].tobytes() == again[0].tobytes() != other[0].tobytes()
    assert first[1]["content"][0] > 0 and transfer(network, steps=2)[1]["total"][0] != first[1]["total"][0]


@pytest.mark.parametrize("size", [(200, 20), (20, 200), (30, 30)])
def test_any_aspect_ratio_works_and_stays(network, size):
    picture, _ = st.style_transfer(
        noise(*size), noise(50, 50, 1), **{**SETTING, "image_size": 24}, network=network, steps=2
    )
    assert picture.size == tuple(24 * side // min(size) for side in size)


def test_the_pictures_on_the_way_are_shown_once_in_their_order(network):
    seen = []
    transfer(network, show=lambda step, picture: seen.append((step, picture.size)))
    assert seen == [(step, (53, 40)) for step in (1, 5, 10, 18)]


class Interrupted(Exception):
    pass


@pytest.mark.parametrize("at", [1, 25, 39, 45])
def test_resumed_from_a_checkpoint_the_picture_and_history_are_bit_equal(network, tmp_path, monkeypatch, at):
    undisturbed, history = transfer(network, steps=45)
    checkpoint, left, take_step = Checkpoint(tmp_path / "c.pt", {}), [at], st.take_step

    def breaks_off(*arguments):
        left[0] -= 1
        if left[0] == 0:
            raise Interrupted
        return take_step(*arguments)

    monkeypatch.setattr(st, "take_step", breaks_off)
    with pytest.raises(Interrupted):
        transfer(network, steps=45, checkpoint=checkpoint)
    monkeypatch.setattr(st, "take_step", take_step)
    shown = {}
    resumed, resumed_history = transfer(network, steps=45, checkpoint=checkpoint, show=shown.__setitem__)
    assert resumed.tobytes() == undisturbed.tobytes()
    assert without_times(resumed_history) == without_times(history) and list(shown) == [2, 11, 22, 40]


def test_a_finished_picture_is_not_painted_again(network, tmp_path, monkeypatch):
    checkpoint = Checkpoint(tmp_path / "c.pt", {})
    first, history = transfer(network, checkpoint=checkpoint)
    monkeypatch.setattr(st, "take_step", None)
    again, same = transfer(network, checkpoint=checkpoint)
    assert first.tobytes() == again.tobytes() and history == same


@pytest.mark.parametrize(
    "changed, message",
    [({"style_layers": [1, 4]}, "2 layers but 4 weights"), ({"style_weights": [1.0]}, "4 layers but 1 weights"),
     ({"content_layer": 13}, "--content-layer 13: no such layer"), ({"content_layer": -1}, "--content-layer -1"),
     ({"style_layers": [1, 4, 6, 99]}, "--style-layers 99"), ({"image_size": 8}, "--size 8.*too few for layer 7"),
     ({"style_size": 2}, "--style-size 2.*too few"), ({"image_size": 100_000}, "--size 100000.*smaller"),
     ({"tv_weight": float("inf")}, "no longer a number")],
)  # fmt: skip
def test_a_setting_that_does_not_fit_is_a_dataerror_that_says_what(network, changed, message):
    with pytest.raises(DataError, match=message):
        transfer(network, **changed)


def test_the_smallest_size_that_works_for_a_layer_is_taken_and_one_less_is_refused(network):
    for layer in (1, 4, 7, 12):
        setting = {"content_layer": layer, "style_layers": [], "style_weights": []}
        for size in range(1, 40):
            try:
                transfer(network, **setting, image_size=size, steps=1)
                break
            except DataError as error:
                assert "too few" in str(error)
        assert 2 < size < 35


# ---- the figures

HISTORY = {"content": [0.0, 2.0, 3.0], "style": [900.0, 90.0, 9.0], "tv": [1.0, 2.0, 1.0], "total": [901.0, 94.0, 13.0]}


def test_the_curves_show_the_total_and_each_term_on_a_logarithmic_scale():
    figure = st.plot_curves(HISTORY, "the title")
    [axes] = figure.axes
    lines = {line.get_label(): list(line.get_ydata()) for line in axes.lines}
    assert lines["total"] == HISTORY["total"] and lines["style loss"] == HISTORY["style"]
    assert lines["content loss"] == HISTORY["content"] and lines["total variation loss"] == HISTORY["tv"]
    assert [line.get_xdata()[0] for line in axes.lines if "learning rate" in line.get_label()] == [1]  # of 2 steps
    assert axes.get_yscale() == "log" and "loss" in axes.get_ylabel() and "steps" in axes.get_xlabel()
    figure.canvas.draw()
    assert not any("math" in label.get_text() for label in axes.get_yticklabels())


def test_a_sheet_has_a_named_panel_for_every_picture():
    rows = [[("a", noise(8, 6)), ("b", noise(6, 8))], [("c", noise(5, 5)), ("d", noise(9, 9))]]
    figure = st.plot_sheet(rows, "the title")
    assert [axes.get_title() for axes in figure.axes] == list("abcd") and figure.get_suptitle() == "the title"


# ---- the whole script


@pytest.fixture
def flags(tiny_flags):
    """A run on one's own pictures: `--results` and the rest come behind it, and the last one counts."""
    return tiny_flags("style_transfer")


@pytest.fixture
def finished_run(finished_runs):
    """A run on one's own pictures; its results folder. Not to be changed."""
    return finished_runs("style_transfer").results


@pytest.fixture(scope="session")
def three(tiny_styles, tmp_path_factory):
    """A run of the handout's three: its results folder, its figures, what it printed. Not to be changed."""
    folder = tmp_path_factory.mktemp("three")
    argv = ["--data", tiny_styles, "--size", 32, "--style-size", 32, "--steps", 10, "--results", folder]
    with watched_run() as (figures, out):
        st.main(list(map(str, argv)))
    return types.SimpleNamespace(results=folder, folder=folder / "style_transfer", figures=figures, out=out.getvalue())


read = functools.partial(runs.read, name="style_transfer")


STYLIZED = {"stylized.png", "stylized-curves.png", "sheet.png", "on_the_way.png", "results.json"} | {
    f"stylized-after_{step:03d}.png" for step in (1, 6, 12, 22)
}


def test_the_handouts_three_pictures_leave_their_files_and_nothing_else(three):
    names = {"sheet.png", "on_the_way.png", "results.json"}
    for name in st.PRESETS:
        names |= {f"{name}.png", f"{name}-curves.png", *(f"{name}-after_{step:03d}.png" for step in (1, 2, 5, 9))}
    assert set(snapshot(three.folder)) == names


def test_the_table_of_the_handout_is_what_runs(three):
    saved = read(three.results)["settings"]
    for name, row in {
        "composition_vii": (512, 5e-2, [20000, 500, 12, 1], 5e-2),
        "the_scream": (224, 3e-2, [200000, 800, 12, 1], 2e-2),
        "starry_night": (192, 6e-2, [300000, 1000, 15, 3], 2e-2),
    }.items():
        preset = st.PRESETS[name]
        assert (preset["style_size"], preset["content_weight"], preset["style_weights"], preset["tv_weight"]) == row
        assert (preset["image_size"], preset["content_layer"], preset["style_layers"]) == (192, 3, [1, 4, 6, 7])
        assert saved[f"{name}.style_weights"] == row[2] and saved[f"{name}.image_size"] == 32
    assert st.STEPS == 200


def test_results_json_names_the_pictures_and_has_the_losses_at_the_start_and_after_every_step(three):
    saved = read(three.results)
    assert st.ARCH in saved["weights"] and "tubingen" in saved["data"]
    assert saved["metrics"].keys() == set(st.PRESETS) and saved["seconds"].keys() == {*st.PRESETS, "total"}
    for figures in saved["metrics"].values():
        assert all(len(values) == 11 for values in figures["history"].values())
        assert figures["total"] == figures["history"]["total"][-1] and (figures["width"], figures["height"]) == (38, 32)


def test_the_pictures_have_no_border_and_the_plots_are_larger(three):
    for plot in read(three.results)["plots"]:
        with Image.open(three.folder / plot["file"]) as image:
            painted = plot["file"].removesuffix(".png") in st.PRESETS or "-after_" in plot["file"]
            assert (image.size == (38, 32)) == painted


def test_every_figure_of_the_handouts_three_names_the_data(three):
    assert set(three.figures) == {"sheet.png", "on_the_way.png", *(f"{name}-curves.png" for name in st.PRESETS)}
    assert all("real pictures" in figure.get_suptitle() for figure in three.figures.values())


def test_a_run_prints_its_data_and_its_weights(three):
    assert three.out.startswith("data: tubingen") and re.search(rf"^weights: {st.ARCH} ", three.out, re.MULTILINE)
    assert "warning" not in three.out


def test_ones_own_pictures_leave_their_files_and_the_names_without_folders(finished_run):
    assert set(snapshot(finished_run / "style_transfer")) == STYLIZED
    assert read(finished_run)["data"] == "cat.jpg in the style of quilt.png"


def test_ones_own_content_is_painted_in_each_style_of_the_set_or_in_the_one_asked_for(
    tiny_styles, own_pictures, tmp_path, command
):
    argv = ["--data", tiny_styles, "--content", own_pictures / "cat.jpg", "--size", 24, "--style-size", 24]
    assert command(st.main, *argv, "--steps", 1, "--results", tmp_path).status == 0
    assert set(read(tmp_path)["metrics"]) == set(st.PRESETS) and "cat.jpg" in read(tmp_path)["data"]
    assert command(st.main, *argv, "--steps", 1, "--results", tmp_path, "--preset", "the_scream").status == 0
    assert set(read(tmp_path)["metrics"]) == {"the_scream"}
    assert not (tmp_path / "style_transfer" / "starry_night.png").exists()


def test_the_flags_replace_the_presets_numbers(flags, tmp_path, command):
    own = ["--preset", "starry_night", "--content-layer", 4, "--content-weight", 0.5, "--style-layers", 1, 3,
           "--style-weights", 7, 8.5, "--tv-weight", 0, "--init", "noise", "--steps", 2]  # fmt: skip
    assert command(st.main, *flags, *own, "--results", tmp_path).status == 0
    saved = {key: value for key, value in read(tmp_path)["settings"].items() if "." in key}
    assert saved.pop("stylized.fingerprint")
    assert saved == {
        "stylized.image_size": 40, "stylized.style_size": 36, "stylized.content_layer": 4,
        "stylized.content_weight": 0.5, "stylized.style_layers": [1, 3], "stylized.style_weights": [7.0, 8.5],
        "stylized.tv_weight": 0.0,
    }  # fmt: skip


def test_keep_colors_gives_the_same_losses_and_a_picture_in_the_contents_colours(
    flags, finished_run, own_pictures, tmp_path, command
):
    assert command(st.main, *flags, "--keep-colors", "--results", tmp_path).status == 0
    assert read(tmp_path)["metrics"] == read(finished_run)["metrics"]
    plain, kept = (Image.open(at / "style_transfer" / "stylized.png") for at in (finished_run, tmp_path))
    assert np.array_equal(kept, st.keep_colors(plain, open_photo(own_pictures / "cat.jpg")))


MODES = ["L", "LA", "1", "P", "RGBA", "CMYK", "16 bit", "exif"]


@pytest.mark.parametrize("mode", MODES)
def test_pictures_of_every_mode_simply_work(flags, tmp_path, command, mode):
    path = tmp_path / ("print.tif" if mode == "CMYK" else "picture.png")
    if mode == "16 bit":
        Image.fromarray(np.linspace(0, 65535, 3000).astype(np.uint16).reshape(50, 60)).save(path)
    elif mode == "exif":
        exif = Image.Exif()
        exif[274] = 6
        noise(50, 60).save(path, exif=exif)
    else:
        noise(60, 50).convert(mode).save(path)
    argv = ["--content", path, "--style", path, "--steps", 1, "--results", tmp_path / "results"]
    done = command(st.main, *flags, *argv)
    assert done.status == 0, done.err
    assert Image.open(tmp_path / "results" / "style_transfer" / "stylized.png").size == (48, 40)


def test_the_built_in_pictures_go_with_the_built_in_weights_and_say_so(small_drawings, tmp_path, command):
    shutil.copytree(small_drawings, tmp_path / "cache")
    done = command(st.main, "--data", "builtin", "--quick", "--size", 32, "--steps", 1, "--results", tmp_path)
    assert done.status == 0, done.err
    assert "built-in" in done.out.splitlines()[0] and "data.download" in done.out.splitlines()[0]
    assert "drawn pictures" in done.out.splitlines()[1] and "warning" not in done.out
    assert set(runs.read(tmp_path, "style_transfer-quick")["metrics"]) == {"mosaic", "lines", "strokes"}


def test_real_pictures_with_weights_that_learned_from_drawings_are_warned_of(flags, tmp_path, command):
    done = command(st.main, *flags, "--data", "builtin", "--steps", 1, "--results", tmp_path)
    assert done.status == 0 and "warning: " in done.out and "python -m data.download weights" in done.out


def test_the_courses_pictures_and_weights_run_from_the_data_folder(hw2_data, tmp_path, command):
    argv = ["--data", hw2_data, "--size", 32, "--style-size", 32, "--steps", 2, "--results", tmp_path]
    done = command(st.main, *argv)
    assert done.status == 0 and f"weights: {st.ARCH} ({st.ARCH}.pth" in done.out and "warning" not in done.out
    assert all(np.isfinite(figures["total"]) for figures in read(tmp_path)["metrics"].values())


@pytest.mark.slow
@pytest.mark.parametrize("name", st.PRESETS)
def test_the_total_loss_of_each_real_picture_is_within_2_percent_of_the_plain_formulations(hw2_data, name):
    content, style = (open_photo(hw2_data / "styles" / f"{which}.jpg") for which in (styles.CONTENT, name))
    pretrained = weights.load(st.ARCH, hw2_data)
    _, history = st.style_transfer(content, style, **st.PRESETS[name], network=pretrained.network())
    plain = plain_transfer(pretrained.network(), content, style, st.STEPS, **st.PRESETS[name])
    assert all(np.isfinite(values).all() for values in history.values())
    assert history["total"][-1] <= 1.02 * plain[-1] and history["total"][-1] < 0.1 * history["total"][0]


# ---- bad input


class World:
    """Good input to spoil: pictures of one's own, a data folder, an earlier run's results."""

    def __init__(self, flags, own_pictures, tiny_styles, tmp_path):
        self.flags, self.tmp, self.results = flags, tmp_path, world_folder(tmp_path, "style_transfer")
        self.own = shutil.copytree(own_pictures, tmp_path / "own")
        self.styles = shutil.copytree(tiny_styles / "styles", tmp_path / "data" / "styles")

    def run(self, *more):
        return [*self.flags, "--results", self.results, *more]

    def set(self, name, change):
        """A run of the handout's three, of which `change` spoils one."""
        path = self.styles / f"{name}.jpg"
        change(path)
        return ["--data", self.tmp / "data", "--steps", 1, "--results", self.results], path


BAD = Table({
    "--data names a missing folder, without pictures of one's own": lambda world: (
        ["--data", world.tmp / "nosuch", "--results", world.results], world.tmp / "nosuch"
    ),
    "five layers and four weights": lambda world: (
        world.run("--style-layers", 1, 2, 3, 4, 5, "--style-weights", 1, 1, 1, 1), "--style-layers"
    ),
    "a JPEG content cut short": lambda world: (world.run("--content", cut(world.own / "cat.jpg")), "cat.jpg"),
    "a set without its content": lambda world: world.set("tubingen", Path.unlink),
    "a set without a style": lambda world: world.set("the_scream", Path.unlink),
    "a set with a broken style": lambda world: world.set("starry_night", cut),
})  # fmt: skip


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_one_line_on_stderr_and_status_2_and_changes_no_result(
    case, flags, own_pictures, tiny_styles, tmp_path, command
):
    argv, named = BAD[case](World(flags, own_pictures, tiny_styles, tmp_path))
    check_refused(command, st.main, argv, named, tmp_path)
