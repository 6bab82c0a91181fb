import numpy as np
import pytest
import scipy.io
import torch
from safetensors.torch import save_file
from torch.nn import functional

from facerecon.finenet import CONVOLUTIONS, GREY_MEAN, GREY_STD, FineNet, FineNetConfig
from facerecon.vgg import (
    CAFFE_MEAN,
    IMAGENET_MEAN,
    IMAGENET_STD,
    VGG_FACE_MEAN,
    VggFileError,
    load_vgg,
)

SMALL = FineNetConfig(width=4, regressor=(8, 6))


def small_net(trained: bool = True) -> FineNet:
    """A small network; `trained` fills every weight, so that each path shows in the output."""
    torch.manual_seed(0)
    network = FineNet(SMALL)
    if trained:
        with torch.no_grad():
            for parameter in network.parameters():
                parameter += 0.1 * torch.randn_like(parameter)
    return network


def inputs(height: int = 20, width: int = 24, batch: int = 2) -> tuple[torch.Tensor, ...]:
    generator = torch.Generator().manual_seed(1)
    image = torch.rand(batch, 1, height, width, generator=generator)
    depth = 20 * torch.randn(batch, 1, height, width, generator=generator)
    mask = torch.rand(batch, 1, height, width, generator=generator) < 0.8
    return image, depth, mask, torch.linspace(0.5, 1.0, batch)


def test_the_hypercolumn_has_450_channels_and_the_weights_fit_in_8_mb():
    network = FineNet()
    assert network.hypercolumn(torch.zeros(1, 2, 8, 8)).shape == (1, 450, 8, 8)
    n_parameters = sum(parameter.numel() for parameter in network.parameters())
    assert 2 * n_parameters < 8e6
    vgg = sum(getattr(network, name).weight.numel() for name in CONVOLUTIONS)
    assert vgg == 9 * (2 * 64 + 64**2 + 64 * 128 + 128**2 + 128 * 256 + 2 * 256**2)


def test_untrained_network_returns_the_coarse_depth():
    image, depth, mask, mm = inputs()
    assert (small_net(trained=False)(image, depth, mask, mm) == depth).all()


def test_untrained_network_learns():
    image, depth, mask, mm = inputs()
    depth, mask = 0.3 * torch.cumsum(torch.ones_like(depth), dim=3), torch.ones_like(mask)
    network = small_net(trained=False)
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-2)
    target = depth + 0.5 * (image - 0.5)
    losses = []
    for _ in range(60):
        optimizer.zero_grad()
        loss = (network(image, depth, mask, mm) - target)[mask].square().mean()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.3 * losses[0]
    assert all(parameter.grad.abs().sum() > 0 for parameter in network.parameters())


@pytest.mark.parametrize("config", [SMALL, FineNetConfig()])
def test_folded_and_plain_are_the_same_function(config):
    torch.manual_seed(0)
    network = FineNet(config)
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            noise = torch.randn_like(parameter)
            parameter += (0.02 if name.startswith("up") else 0.01) * noise
    batch = inputs(16, 20)
    outputs, gradients = [], []
    for folded in (True, False):
        network.folded = folded
        network.zero_grad()
        result = network(*batch)
        result[batch[2]].sin().sum().backward()
        outputs.append(result.detach() - batch[1])
        gradients.append([parameter.grad.clone() for parameter in network.parameters()])
    assert outputs[0].abs().max() > 0.01
    # float32 sums over up to 2304 products, in another order
    torch.testing.assert_close(outputs[0], outputs[1], atol=2e-5, rtol=1e-5)
    for one, other in zip(*gradients, strict=True):
        assert (one - other).norm() <= 1e-3 * other.norm()


@pytest.mark.parametrize("height, width", [(8, 8), (9, 10), (11, 7), (4, 13)])
def test_any_size(height, width):
    batch = inputs(height, width)
    refined = small_net()(*batch)
    assert refined.shape == (2, 1, height, width) and refined.isfinite().all()


def test_padding_does_not_reach_far_into_the_image():
    image, _, _, mm = inputs(32, 31, 1)
    flat, everywhere = torch.zeros_like(image), torch.ones_like(image, dtype=torch.bool)
    network = small_net()
    whole = network(image, flat, everywhere, mm)
    part = network(image[..., :27], flat[..., :27], everywhere[..., :27], mm)
    # 3 convolutions at a quarter, 2 at half, 2 at full resolution reach 18 + 3 pixels.
    torch.testing.assert_close(part[..., :6], whole[..., :6], atol=1e-5, rtol=0)
    assert (part[..., -3:] - whole[..., 24:27]).abs().max() > 1e-3


def test_only_the_mask_is_changed_or_looked_at():
    image, depth, mask, mm = inputs()
    network = small_net()
    refined = network(image, depth, mask, mm)
    assert (refined[~mask] == depth[~mask]).all()
    assert (refined[mask] != depth[mask]).float().mean() > 0.9
    hidden = torch.where(mask, depth, torch.nan)
    torch.testing.assert_close(network(image, hidden, mask, mm)[mask], refined[mask])


def test_gradient_with_nan_background_is_finite():
    image, depth, mask, mm = inputs()
    depth = torch.where(mask, depth, torch.nan).requires_grad_()
    network = small_net()
    network(image, depth, mask, mm)[mask].sum().backward()
    assert all(parameter.grad.isfinite().all() for parameter in network.parameters())
    assert depth.grad[mask].isfinite().all()


def test_result_follows_level_and_scale_of_the_depth():
    image, depth, mask, mm = inputs()
    network = small_net()
    residual = network(image, depth, mask, mm) - depth
    raised = network(image, depth + 37, mask, mm) - (depth + 37)
    torch.testing.assert_close(raised, residual, atol=1e-4, rtol=0)
    larger = network(image, 3 * depth, mask, 3 * mm) - 3 * depth
    torch.testing.assert_close(larger, 3 * residual, atol=1e-4, rtol=0)


def test_items_of_a_batch_do_not_mix():
    batch = inputs()
    network = small_net()
    both = network(*batch)
    for item in range(2):
        single = network(*(value[item : item + 1] for value in batch))
        torch.testing.assert_close(single, both[item : item + 1], atol=1e-5, rtol=0)


def test_up_convolutions_start_as_nearest_neighbor():
    network = small_net(trained=False)
    maps = torch.rand(1, 16, 3, 5)
    up = network.up3_2(network.up3_1(maps))
    torch.testing.assert_close(up, functional.interpolate(maps, scale_factor=4, mode="nearest"))


def test_maps_of_different_size_are_refused():
    image, depth, mask, mm = inputs()
    with pytest.raises(Exception, match=r"depth|mask|shape"):
        small_net()(image, depth[..., :-1], mask, mm)


# Files of VGG weights, small enough to make here.

SHAPES = {
    "conv1_1": (4, 3),
    "conv1_2": (4, 4),
    "conv2_1": (8, 4),
    "conv2_2": (8, 8),
    "conv3_1": (16, 8),
    "conv3_2": (16, 16),
    "conv3_3": (16, 16),
}
TORCHVISION = dict(zip(SHAPES, (0, 2, 5, 7, 10, 12, 14), strict=True))


def vgg_layers() -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
    generator = torch.Generator().manual_seed(2)
    return {
        name: (
            torch.randn(*shape, 3, 3, generator=generator) * (2 / (9 * shape[1])) ** 0.5,
            torch.randn(shape[0], generator=generator),
        )
        for name, shape in SHAPES.items()
    }


def vgg_face_state(**changes: torch.Tensor) -> dict[str, torch.Tensor]:
    state = {}
    for name, (weight, bias) in vgg_layers().items():
        state[f"{name}.weight"], state[f"{name}.bias"] = weight, bias
    state["fc6.weight"] = torch.zeros(2, 2)
    return {**state, **changes}


def torchvision_state() -> dict[str, torch.Tensor]:
    state = {}
    for name, (weight, bias) in vgg_layers().items():
        state[f"features.{TORCHVISION[name]}.weight"] = weight
        state[f"features.{TORCHVISION[name]}.bias"] = bias
    return state


def t7_state(prefixed: bool) -> dict[str, torch.Tensor]:
    """VGG_FACE.t7's order: blue first; named by place, or by a class around it."""
    state = {}
    for name, (weight, bias) in vgg_layers().items():
        if name == "conv1_1":
            weight = weight.flip(1)
        new = name.replace("conv", "conv_") if prefixed else TORCHVISION[name]
        state[f"{new}.weight"], state[f"{new}.bias"] = weight, bias
    return state


def matconvnet(mean: np.ndarray | None, old: bool = False) -> dict[str, object]:
    layers = []
    for name, (weight, bias) in vgg_layers().items():
        filters = weight.permute(2, 3, 1, 0).numpy()
        if old:
            parameters = {"filters": filters, "biases": bias.numpy()}
        else:
            cell = np.empty(2, object)
            cell[0], cell[1] = filters, bias.numpy()[:, None]
            parameters = {"weights": cell}
        layers += [{"name": name, "type": "conv", **parameters}, {"name": "relu", "type": "relu"}]
    cells = np.empty(len(layers), object)
    cells[:] = layers
    content: dict[str, object] = {"layers": cells}
    if mean is not None:
        normalization = {"averageImage": mean}
        content |= (
            {"normalization": normalization} if old else {"meta": {"normalization": normalization}}
        )
    return content


def vgg_features(grey: torch.Tensor, mean, std) -> torch.Tensor:
    """conv3_3 as VGG computes it from a photograph with three equal channels."""
    mean, std = torch.tensor(mean).view(1, 3, 1, 1), torch.tensor(std).view(1, 3, 1, 1)
    maps = (grey.expand(-1, 3, -1, -1) - mean) / std
    for name, (weight, bias) in vgg_layers().items():
        if name in ("conv2_1", "conv3_1"):
            maps = functional.max_pool2d(maps, 2)
        maps = functional.relu(functional.conv2d(maps, weight, bias, padding=1))
    return maps


def write(path, layout: str) -> None:
    if layout == "vgg-face":
        torch.save(vgg_face_state(), path)
    elif layout == "nested":
        torch.save({"state_dict": vgg_face_state(), "epoch": 3}, path)
    elif layout == "torchvision":
        save_file(torchvision_state(), path)
    elif layout == "torchvision-caffe":
        unused = torch.full((3,), torch.nan)
        torch.save({**torchvision_state(), "classifier.0.bias": unused}, path)
    elif layout in ("t7", "t7-class"):
        torch.save(t7_state(layout == "t7-class"), path)
    else:
        average = np.full((5, 5, 3), 255 * np.array(VGG_FACE_MEAN, np.float32))
        scipy.io.savemat(path, matconvnet(average, old=layout == "mat-old"))


@pytest.mark.parametrize(
    "layout, suffix",
    [
        ("vgg-face", ".pth"),
        ("nested", ".pt"),
        ("torchvision", ".safetensors"),
        ("torchvision-caffe", ".pth"),
        ("t7", ".pth"),
        ("t7-class", ".pth"),
        ("mat", ".mat"),
        ("mat-old", ".mat"),
    ],
)
def test_features_of_a_grey_photograph_are_vgg_s_own(tmp_path, layout, suffix):
    path = tmp_path / f"vgg{suffix}"
    write(path, layout)
    network = small_net()
    load_vgg(path, network)
    mean, std = VGG_FACE_MEAN, (1 / 255,) * 3
    if layout == "torchvision":
        mean, std = IMAGENET_MEAN, IMAGENET_STD
    if layout == "torchvision-caffe":
        mean = CAFFE_MEAN
    image = torch.rand(1, 1, 48, 48, generator=torch.Generator().manual_seed(3))
    relief = torch.randn(1, 1, 48, 48)  # must not matter: its filters start at zero
    _, _, found = network._scales(torch.cat([(image - GREY_MEAN) / GREY_STD, relief], 1))
    expected = vgg_features(image, mean, std) * (np.mean(std) / GREY_STD)
    interior = (
        ...,
        slice(5, -5),
        slice(5, -5),
    )  # the padding at the border stands for another grey
    assert expected[interior].abs().max() > 0.1
    torch.testing.assert_close(found[interior], expected[interior], rtol=1e-3, atol=1e-4)


def test_the_mean_of_a_mat_file_counts(tmp_path):
    networks = []
    for mean in (None, np.array([129.1863, 104.7624, 93.5940]), np.array([10.0, 20.0, 30.0])):
        path = tmp_path / "vgg.mat"
        scipy.io.savemat(path, matconvnet(mean))
        networks.append(small_net())
        load_vgg(path, networks[-1])
    first, second, third = (network.conv1_1.bias for network in networks)
    torch.testing.assert_close(first, second, atol=1e-4, rtol=0)
    assert (first - third).abs().max() > 0.01


def test_the_order_of_channels_is_that_of_the_mean(tmp_path):
    """Caffe's order under VGG-Face's names gives the same network only with the mean turned."""
    biases = []
    for name, flip, mean in (
        ("rgb.pth", False, None),
        ("bgr.pth", True, VGG_FACE_MEAN[::-1]),
        ("mistaken.pth", True, None),
    ):
        weight = vgg_layers()["conv1_1"][0]
        changed = {"conv1_1.weight": weight.flip(1) if flip else weight}
        torch.save(vgg_face_state(**changed), tmp_path / name)
        network = small_net()
        load_vgg(tmp_path / name, network, mean=mean)
        biases.append(network.conv1_1.bias)
    torch.testing.assert_close(biases[0], biases[1])
    assert (biases[0] - biases[2]).abs().max() > 1e-3


def test_given_mean_and_std_replace_those_of_the_layout(tmp_path):
    path = tmp_path / "vgg.pth"
    torch.save(torchvision_state(), path)
    network = small_net()
    load_vgg(path, network, mean=(0.5, 0.5, 0.5), std=(0.25, 0.25, 0.25))
    weight, bias = vgg_layers()["conv1_1"]
    torch.testing.assert_close(network.conv1_1.weight[:, 0], weight.sum(1))
    torch.testing.assert_close(network.conv1_1.bias, bias)


def test_missing_file(tmp_path):
    with pytest.raises(FileNotFoundError, match="no such file"):
        load_vgg(tmp_path / "none.pth", small_net())


@pytest.mark.parametrize("suffix", [".pth", ".safetensors", ".mat"])
def test_damaged_file(tmp_path, suffix):
    path = tmp_path / f"vgg{suffix}"
    path.write_bytes(b"this is not a file of weights" * 10)
    with pytest.raises(VggFileError, match="not a readable"):
        load_vgg(path, small_net())


class _Code:
    pass


def test_pickled_code_is_refused(tmp_path):
    path = tmp_path / "vgg.pth"
    torch.save({"conv1_1.weight": _Code()}, path)
    with pytest.raises(VggFileError, match="plain state dict"):
        load_vgg(path, small_net())


@pytest.mark.parametrize(
    "content, message",
    [
        ([1, 2], "no state dict"),
        ({"layer.weight": torch.zeros(2)}, "no conv1_1.weight; it holds layer.weight"),
        (vgg_face_state(**{"conv2_1.bias": torch.zeros(9)}), r"conv2_1.bias has shape \(9,\)"),
        (
            vgg_face_state(**{"conv3_3.bias": torch.full((16,), torch.nan)}),
            "conv3_3.bias holds NaN",
        ),
    ],
)
def test_unsuitable_content_changes_nothing(tmp_path, content, message):
    path = tmp_path / "vgg.pth"
    torch.save(content, path)
    network = small_net()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    with pytest.raises(VggFileError, match=message):
        load_vgg(path, network)
    assert all((value == before[name]).all() for name, value in network.state_dict().items())


def test_torchvision_file_with_batch_normalization(tmp_path):
    path = tmp_path / "vgg16_bn.pth"
    state = torchvision_state()
    del state["features.2.weight"]
    torch.save(state, path)
    with pytest.raises(VggFileError, match=r"no features\.2\.weight.*without batch norm"):
        load_vgg(path, small_net())
