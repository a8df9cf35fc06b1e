"""Filters from pictures without labels: where the built-in SqueezeNet's training begins.

Layer after layer, spherical k-means on whitened patches of what the layers before it make (Coates and Ng 2012).
"""

import math

import torch
import torch.nn.functional as F

EDGES, COLORS = 40, 24  # the filters of the first layer
PATCHES = 40_000  # for each layer
LEVELS = {0: 1.5, 3: 6, 4: 30, 6: 250, 7: 90, 9: 100, 10: 20, 11: 13, 12: 1.3}  # mean squares by layer, as ImageNet's


def without_highest_frequency(weight):
    """3x3 filters without the part that alternates from pixel to pixel: a picture made to please them has no grid."""
    alternating = torch.tensor([1.0, -1.0, 1.0])
    project = torch.eye(3) - torch.outer(alternating, alternating) / 3
    return project @ weight @ project


def first_filters():
    """Derivatives of gray, red-green and yellow-blue in all directions, then blurred colors, (64, 3, 3, 3)."""
    low, slope = torch.tensor([1, 2, 1]) / 4, torch.tensor([-1, 0, 1]) / 2
    down, across, blur = torch.outer(slope, low), torch.outer(low, slope), torch.outer(low, low)
    axes = F.normalize(torch.tensor([[1.0, 1, 1], [1, -1, 0], [1, 1, -2]]), dim=1)
    filters = [
        axis[:, None, None] * (angle.cos() * across + angle.sin() * down)
        for axis, count in zip(axes, (EDGES // 2, EDGES // 4, EDGES // 4), strict=True)
        for angle in torch.arange(count) * 2 * math.pi / count
    ]
    mixed = F.normalize(torch.randn(COLORS, 3), dim=1)
    return torch.cat([torch.stack(filters), mixed[:, :, None, None] * blur])


def patches(maps, side):
    """Random squares of maps (N, C, H, W), (PATCHES, C, side, side)."""
    n, _, height, width = maps.shape
    image = torch.randint(n, (PATCHES, 1, 1))
    row = torch.randint(height - side + 1, (PATCHES, 1, 1)) + torch.arange(side)[:, None]
    column = torch.randint(width - side + 1, (PATCHES, 1, 1)) + torch.arange(side)
    return maps[image, :, row, column].permute(0, 3, 1, 2)


def k_means(points, count):
    """`count` unit vectors, each the mean direction of the points (N, D) that are nearest to it."""
    points = F.normalize(points, dim=1)
    means = points[torch.randperm(len(points))[:count]]
    for _ in range(12):
        nearest = (points @ means.T).argmax(1)
        sums = torch.zeros_like(means).index_add_(0, nearest, points)
        rare = torch.bincount(nearest, minlength=count) < 5
        sums[rare] = points[torch.randint(len(points), (int(rare.sum()),))]
        means = F.normalize(sums, dim=1)
    return means


def squeeze(layer, maps):
    """Makes a 1x1 convolution the principal components of `maps`, shifted so far that its ReLU changes nothing."""
    points = patches(maps, 1).flatten(1)
    values, vectors = torch.linalg.eigh(torch.cov(points.T))
    weight = (vectors / (values + 1e-6 * values[-1]).clamp(min=1e-12).sqrt())[:, -layer.out_channels :].T
    layer.weight[:] = weight.view_as(layer.weight)
    layer.bias[:] = -(points @ weight.T).quantile(0.0005, 0)


def expand(layer, maps):
    """Makes a convolution the k-means of whitened patches of `maps`, above 0 at half of all places."""
    points = patches(maps, layer.kernel_size[0])
    if layer.kernel_size == (3, 3):
        points = without_highest_frequency(points)
    points = points.flatten(1)
    values, vectors = torch.linalg.eigh(torch.cov(points.T))
    scale = (values > 1e-6 * values[-1]) * (values.clamp(min=0) + 0.1 * values.mean()).rsqrt()
    whiten = vectors * scale @ vectors.T
    weight = k_means((points - points.mean(0)) @ whiten, layer.out_channels) @ whiten
    found = points @ weight.T
    threshold = found.quantile(0.5, 0)
    size = F.relu(found - threshold).square().mean(0).sqrt()
    layer.weight[:] = (weight / size[:, None]).view_as(layer.weight)
    layer.bias[:] = -threshold / size


@torch.no_grad()
def learn_filters(network, images):
    """Sets every filter of a SqueezeNet's `features` from normalized images (N, 3, H, W)."""
    first = network.features[0]
    first.weight[:] = first_filters()
    first.bias.zero_()
    maps = first(images)
    mean, spread = maps.mean((0, 2, 3)), maps.std((0, 2, 3))
    threshold = torch.cat([torch.zeros(EDGES), mean[EDGES:] + spread[EDGES:] * (2 * torch.rand(COLORS) - 1)])
    first.weight /= spread[:, None, None, None]
    first.bias[:] = -threshold / spread
    maps = F.relu(first(images))
    for module in network.features[2:]:
        if hasattr(module, "squeeze"):
            squeeze(module.squeeze, maps)
            small = F.relu(module.squeeze(maps))
            expand(module.expand1x1, small)
            expand(module.expand3x3, small)
        maps = module(maps)


@torch.no_grad()
def rescale(network, images):
    """Gives every channel of `features` about the same mean square on normalized images, by layer as in LEVELS.

    The network still computes the same: what reads a channel is divided by the factor. Style losses then have the size
    for which the handout's weights are made, and no channel counts for nothing.
    """
    fires = [(k, module) for k, module in enumerate(network.features) if hasattr(module, "squeeze")]
    readers = iter([*(fire.squeeze for _, fire in fires), network.classifier[1]])
    level(network.features[:1], [next(readers)], LEVELS[0], images)
    for k, fire in fires:
        maps, expands = network.features[:k](images), [fire.expand1x1, fire.expand3x3]
        level([fire.squeeze], expands, 1, maps)
        level(expands, [next(readers)], LEVELS[k], F.relu(fire.squeeze(maps)))


def level(writers, readers, target, maps):
    """Scales the channels that `writers` make of `maps` to a mean square of `target`; weak ones stay weaker."""
    squares = torch.cat([F.relu(writer(maps)).square().mean((0, 2, 3)) for writer in writers])
    factor = (squares / squares.mean()).clamp(1 / 16, 16).rsqrt()
    factor *= (target / (squares * factor**2).mean()).sqrt()
    for writer, part in zip(writers, factor.split([w.out_channels for w in writers]), strict=True):
        writer.weight *= part[:, None, None, None]
        writer.bias *= part
    for reader in readers:
        reader.weight /= factor[:, None, None]
