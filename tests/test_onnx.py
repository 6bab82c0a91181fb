"""ONNX files say what the networks say, and so does a reconstruction through them."""

import base64
import json
import sys

import numpy as np
import pytest
import torch

from facerecon import Reconstructor
from facerecon.cli import main
from facerecon.coarsenet import CoarseNet, CoarseNetConfig
from facerecon.detection.network import DetectionNet
from facerecon.finenet import FineNet, FineNetConfig
from facerecon.normalnet import NormalNet, NormalNetConfig
from facerecon.views.portraits import portraits

SMALL = {
    "coarsenet": lambda: CoarseNet(
        284, CoarseNetConfig(width=8, field=8, points=70, calibrated=True)
    ),
    "without points": lambda: CoarseNet(20, CoarseNetConfig(width=8, points=0)),
    "normalnet": lambda: NormalNet(NormalNetConfig(widths=(8, 8, 16, 16, 16))),
    "finenet": lambda: FineNet(FineNetConfig(width=8, regressor=(16, 8))),
    "detector": DetectionNet,
}


def untrained(name: str) -> torch.nn.Module:
    """With weights and statistics that are not at their start, where much is zero or one."""
    network = SMALL[name]().eval().requires_grad_(False)
    for key, value in network.state_dict().items():
        if value.is_floating_point():
            value.add_(0.05 * torch.rand(value.shape))
        elif key == "points":
            value.copy_(torch.arange(len(value)))
    return network


def inputs_of(name: str, batch: int, rows: int, columns: int) -> tuple[torch.Tensor, ...]:
    if name in ("coarsenet", "without points"):
        return torch.rand(batch, 7, 200, 200), torch.randn(
            batch, 290 if name == "coarsenet" else 26
        )
    if name == "normalnet":
        return (torch.rand(batch, 9, rows, columns),)
    if name == "finenet":
        image, depth, known = torch.rand(3, batch, 1, rows, columns)
        return image, 30 * depth, known > 0.3, torch.linspace(0.5, 1.5, batch)
    return (torch.randn(batch, 1, rows, columns),)


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("FACERECON_CACHE", str(tmp_path / "cache"))


@pytest.mark.slow
@pytest.mark.parametrize("name", SMALL)
def test_a_file_says_what_its_network_says(name):
    onnx = pytest.importorskip("onnx")
    pytest.importorskip("onnxscript")
    pytest.importorskip("onnxruntime")
    from facerecon.onnx_export import OPSET, onnx_bytes
    from facerecon.onnx_session import Session

    network = untrained(name)
    data = onnx_bytes(network)
    proto = onnx.load_from_string(data)
    assert {entry.version for entry in proto.opset_import if not entry.domain} == {OPSET}
    known = {entry.key: entry.value for entry in proto.metadata_props}
    assert known["network"] == type(network).__name__ and known["opset"] == str(OPSET)
    if name == "coarsenet":
        assert json.loads(known["points"]) == network.points.tolist()
        assert json.loads(known["log_spread"]) == pytest.approx(network.log_spread.tolist())
        values = np.frombuffer(base64.b64decode(known["calibration"]), "<f4").reshape(284, 285)
        np.testing.assert_array_equal(values, network.calibration.numpy())
    assert __file__.rpartition("/tests/")[0].encode() not in data, "no paths of this machine"
    session = Session(data)
    # Other batches and sizes than the exporter's example.
    for batch, rows, columns in ((1, 200, 200), (3, 64, 104)):
        given = inputs_of(name, batch, rows, columns)
        layers = network.read if isinstance(network, CoarseNet) else network
        expected, found = layers(*given), session(*given)
        expected, found = (x if isinstance(x, tuple) else (x,) for x in (expected, found))
        assert len(found) == len(expected)
        for one, other in zip(found, expected, strict=True):
            assert one.shape == other.shape
            # Sums of some hundred products of float32, in another order.
            torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("refine", ["normals", "finenet"])
def test_a_reconstruction_is_that_of_torch(refine, tmp_path):
    pytest.importorskip("onnxscript")
    pytest.importorskip("onnxruntime")
    torches = Reconstructor.from_pretrained(refine=refine)
    onnxes = Reconstructor.from_pretrained(refine=refine, backend="onnx")
    kept = sorted((tmp_path / "cache" / "onnx").iterdir())
    assert len(kept) == 3
    times = [path.stat().st_mtime_ns for path in kept]
    again = Reconstructor.from_pretrained(refine=refine, backend="onnx")  # from what is kept
    assert [path.stat().st_mtime_ns for path in kept] == times
    for name, photo in portraits().items():
        expected = torches(photo)
        for reconstructor in (onnxes, again):
            found = reconstructor(photo)
            assert np.allclose(found.coefficients, expected.coefficients, atol=1e-3), name
            assert np.allclose(found.pose, expected.pose, atol=1e-3), name
            # Differences of 1e-5 in r. A pixel at the outline may fall to either side, and some
            # pixels differ in depth by more than the others.
            assert (found.mask == expected.mask).mean() > 0.9999
            both = found.mask & expected.mask
            difference = np.abs(found.depth_mm - expected.depth_mm)[both]
            # Rounding differs from processor to processor: twice what one of them showed.
            assert np.quantile(difference, 0.999) < 2e-3, name  # mm
            assert difference.max() < 0.04, name


@pytest.mark.slow
def test_the_command_writes_all_and_overwrites_nothing(tmp_path, capsys):
    pytest.importorskip("onnxscript")
    out = tmp_path / "out"
    assert main(["export", "onnx", "--out", str(out)]) == 0
    names = ["coarsenet.onnx", "detector.onnx", "finenet.onnx", "normalnet.onnx"]
    assert sorted(path.name for path in out.iterdir()) == names
    capsys.readouterr()
    assert main(["export", "onnx", "--out", str(out)]) == 1
    assert "exists already; --overwrite" in capsys.readouterr().err


@pytest.mark.parametrize("missing", ["onnx", "onnxscript"])
def test_export_names_the_extra(missing, tmp_path, monkeypatch, capsys):
    for name in ("onnx", "onnxscript"):
        monkeypatch.setitem(sys.modules, name, None if name == missing else json)
    assert main(["export", "onnx", "--out", str(tmp_path)]) == 1
    said = capsys.readouterr().err
    assert missing in said and 'pip install "facerecon[onnx]"' in said and said.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_the_backend_names_the_extra(monkeypatch):
    from facerecon.onnx_session import Session

    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(ImportError, match=r'pip install "facerecon\[onnx\]"'):
        Session(b"")


def test_wrong_backends():
    with pytest.raises(ValueError, match="backend must be one of torch, onnx"):
        Reconstructor.from_pretrained(backend="tensorrt")


def test_only_networks_that_are_known():
    pytest.importorskip("onnxscript")
    from facerecon.onnx_export import onnx_bytes

    with pytest.raises(TypeError, match="Linear"):
        onnx_bytes(torch.nn.Linear(2, 2))
