"""style_transfer.py: losses compared with their formulas, the learning rate schedule, published values."""

import numpy as np
import pytest
import torch
from PIL import Image

import style_transfer as st
from data import weights
from data.images import open_photo
from tests.scripts.tiny import noise

SETTING = {
    "image_size": 32, "style_size": 40, "content_layer": 3, "content_weight": 0.05, "style_layers": [1, 4],
    "style_weights": [20.0, 1.0], "tv_weight": 0.02,
}  # fmt: skip


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    return weights.build("squeezenet1_1", 10)


def features(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_content_loss_matches_its_formula():
    F, P = features(1, 2, 3, 4), features(1, 2, 3, 4, seed=1)
    assert st.content_loss(0.5, F, P).item() == pytest.approx(0.5 * (F - P).square().sum().item(), rel=1e-12)


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_gram_matrix_matches_its_formula(layout):
    F = features(2, 3, 4, 5).to(memory_format=layout)
    expected = torch.einsum("nchw,ndhw->ncd", F, F)
    assert torch.allclose(st.gram_matrix(F, normalize=False), expected, rtol=1e-12)
    assert torch.allclose(st.gram_matrix(F), expected / (3 * 4 * 5), rtol=1e-12)


def test_gram_matrix_gradient_matches_autograd():
    F = features(1, 3, 4, 5).requires_grad_()
    assert torch.autograd.gradcheck(st.gram_matrix, (F,))
    grams = st.gram_matrix(F, normalize=False), torch.einsum("nchw,ndhw->ncd", F, F)
    ours, theirs = (torch.autograd.grad(G, F, features(1, 3, 3, seed=2))[0] for G in grams)
    assert torch.allclose(ours, theirs, rtol=1e-12)


def test_style_loss_is_the_weighted_sum_over_its_layers():
    feats, targets = [features(1, 2, 4, 4), features(1, 3, 2, 2)], [features(1, 2, 2), features(1, 3, 3)]
    expected = sum(
        weight * (st.gram_matrix(feats[layer]) - target).square().sum()
        for layer, target, weight in zip((1, 0), targets[::-1], (2.0, 5.0), strict=True)
    )
    assert st.style_loss(feats, [1, 0], targets[::-1], [2.0, 5.0]).item() == pytest.approx(expected.item(), rel=1e-12)


def test_total_variation_loss_matches_its_formula():
    x = features(1, 3, 4, 5)
    expected = 0.1 * sum(x.diff(dim=dim).square().sum().item() for dim in (2, 3))
    assert st.total_variation_loss(x, 0.1).item() == pytest.approx(expected, rel=1e-12)


def test_features_are_the_outputs_of_the_network_modules(network):
    x, layers = torch.randn(1, 3, 40, 50), st.feature_layers(network, 4)
    for k, feature in enumerate(st.extract_features(x, layers)):
        assert torch.allclose(feature, network.features[: k + 1](x.clone()), atol=1e-5), k


def test_to_picture_inverts_to_image():
    picture = noise(50, 40)
    back = st.to_picture(st.to_image(picture, (50, 40)))
    assert abs(np.asarray(picture, int) - np.asarray(back, int)).max() <= 1


@pytest.mark.parametrize("size, expected", [((100, 50), (40, 20)), ((50, 100), (20, 40)), ((50, 50), (20, 20))])
def test_fit_size_applies_to_the_shorter_side(size, expected):
    assert st.fit_size(Image.new("RGB", size), 20, "--size") == expected


def test_keep_colors_changes_only_the_luminance():
    painted, content = noise(40, 30, 1), noise(80, 60, 2)
    kept = st.keep_colors(painted, content).convert("YCbCr")
    small = content.resize((40, 30), Image.Resampling.BILINEAR).convert("YCbCr")
    for k, source in enumerate((painted.convert("YCbCr"), small, small)):
        assert abs(np.asarray(kept, int)[..., k] - np.asarray(source, int)[..., k]).mean() < 6


def test_a_transfer_lowers_the_loss_and_returns_its_history(network):
    picture, history, ways = st.style_transfer(noise(60, 40), noise(50, 50, 1), **SETTING, steps=20, network=network)
    assert picture.size == (48, 32) and list(ways) == [1, 5, 10, 18]
    assert {len(history[key]) for key in ("content", "style", "tv", "total")} == {21}
    assert history["total"][-1] < 0.7 * max(history["total"])
    assert history["total"][3] == pytest.approx(sum(history[key][3] for key in st.TERMS))


def test_each_step_zeroes_the_gradients_first():
    image = torch.zeros(1, requires_grad=True)
    optimizer = torch.optim.SGD([image], lr=1.0)
    for _ in range(2):
        st.take_step(image, optimizer, lambda image, shift: {"content": 2 * image.sum(), "style": image.sum()})
    assert image.item() == -6


@pytest.mark.parametrize("given, rate, jitter", [({}, 3.0, 0), ({"learning_rate": 2.0, "jitter": 1}, 2.0, 1)])
def test_rates_clamping_and_shifts_follow_the_setting(network, monkeypatch, given, rate, jitter):
    rates, largest, shifts, take_step = [], [], set(), st.take_step

    def watched(image, optimizer, losses, shift):
        shifts.update(shift)
        rates.append(optimizer.param_groups[0]["lr"])
        largest.append(image.abs().max().item())
        return take_step(image, optimizer, losses, shift)

    monkeypatch.setattr(st, "take_step", watched)
    st.style_transfer(noise(30, 20), noise(30, 20, 1), **{**SETTING, "image_size": 20}, **given, network=network)
    assert rates == [rate] * 180 + [0.1] * 20 and shifts == set(range(-jitter, jitter + 1))
    assert max(largest[:190]) <= 1.5 < largest[190]


def test_jitter_shifts_the_picture_and_the_content_alike(network):
    image, content, style = torch.randn(3, 1, 3, 40, 40)
    layers, by = st.feature_layers(network, 4), ((5, -2), (2, 3))
    contents = content, content.roll(*by)
    losses, moved = (st.make_losses(layers, part, style, 3, 1.0, [1], [1e3], 0.0) for part in contents)
    assert losses(image, by[0]) == moved(image.roll(*by)) != losses(image)


def test_initial_noise_depends_only_on_the_seed(network):
    def first(seed):
        options = {"steps": 1, "network": network, "init_random": True, "seed": seed}
        return st.style_transfer(noise(30, 20), noise(30, 20, 1), **SETTING, **options)[1]["total"][0]

    assert first(0) == first(0) != first(1)


def test_losses_of_the_real_pictures_have_published_values(hw2_data):
    setting = st.PRESETS["starry_night"]
    pretrained = weights.load(st.ARCH, hw2_data)
    pictures = [open_photo(hw2_data / "styles" / f"{name}.jpg") for name in ("tubingen", "starry_night")]
    content, style = (st.to_image(picture, st.fit_size(picture, 192, "--size")) for picture in pictures)
    layers = st.feature_layers(pretrained.network(), 7)
    feats = {"content": st.extract_features(content, layers), "style": st.extract_features(style, layers)}
    zeros = st.extract_features(torch.zeros_like(content), layers)
    assert st.content_loss(6e-2, feats["content"][3], zeros[3]).item() == pytest.approx(32_437, rel=0.02)
    assert st.gram_matrix(feats["style"][5])[0].trace().item() == pytest.approx(31.85, rel=0.03)
    targets = [st.gram_matrix(feats["style"][layer]) for layer in setting["style_layers"]]
    loss = st.style_loss(feats["content"], setting["style_layers"], targets, setting["style_weights"])
    assert loss.item() == pytest.approx(44_512, rel=0.02)
    assert st.total_variation_loss(content, 2e-2).item() == pytest.approx(303.47, rel=1e-3)
