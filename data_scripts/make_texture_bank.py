"""Learn skin textures from a folder of photographs: `make_texture_bank.py PHOTOS --out BANK.npz`.

Every photograph is registered with CoarseNet, its features are matched, the light is taken out by
Eq. (11) and the visible skin is unwrapped into the model's chart. See README.md in this folder.
"""

import argparse
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from delight import (
    MIN_SHADING,
    balance,
    bare_skin,
    dim_highlights,
    estimate_shading,
    even_out,
    explain_color,
    typical_skin,
)
from feature_matching import match_features
from scipy.ndimage import gaussian_filter

from facerecon.camera import POSE_UNITS, split
from facerecon.coarsenet import iterate
from facerecon.detection.detect import NoFaceError, detect_faces
from facerecon.evaluation.photos import LARGEST_COEFFICIENT
from facerecon.imaging import ImageError, crop, list_images, load_image, to_bytes, to_grey
from facerecon.lighting import BRIGHTEST, DARKEST, LUMA
from facerecon.model_mesh.unwrap import Mirror, fill, unwrap
from facerecon.morphable_model import MorphableModel
from facerecon.rasterize import interpolate
from facerecon.render import render
from facerecon.synthetic.chart import Chart
from facerecon.synthetic.shards import module_digest
from facerecon.synthetic.skin_zones import zones
from facerecon.synthetic.texture_bank import TextureBank, topology_digest
from facerecon.weights import load_coarsenet

COARSE, FINE = 200, 400  # pixels of the crop: for CoarseNet; for the texture


@dataclass(frozen=True)
class Gates:
    """What a photograph must fulfil."""

    least_side: float = 160.0  # pixels of the photograph across the crop
    yaw: float = 35.0  # degrees
    pitch: float = 30.0
    features: float = 0.45  # mean correlation of the matched features
    eyes: float = 0.35  # of the worse eye: sunglasses fail
    residual: float = 0.15  # robust spread of what light and albedo leave unexplained
    color: float = 3.0  # standard deviations of the priors of exposure, tint and pigments
    core: float = 0.6  # share of the bare-skin zone that is known
    uneven: float = 0.35  # robust spread of the bare skin's log intensity: shadows that were left
    odd: float = 0.30  # share of texels around eyes and nose far from the bank's median


class Rejected(Exception):
    """A photograph is not used; the message is the gate that it failed."""


class Unwrapper:
    """Turns photographs into logarithmic albedo textures."""

    def __init__(self, model: MorphableModel, size: int, gates: Gates):
        self.model, self.gates = model, gates
        self.network = load_coarsenet()
        self.chart = Chart(model, size)
        self.mirror = Mirror(model, self.chart)
        self.zones = zones(model, self.chart)
        self.mask = self.chart.mask.numpy()
        mean = interpolate(model.albedo_mean[None], self.chart.fragments, model.triangles)
        self.reference = np.log(mean[0].numpy().clip(0.02, 1)) * self.mask
        self.mean_grey = (model.albedo_mean @ torch.tensor(LUMA))[None, :, None]

    @torch.no_grad()
    def __call__(self, path: Path) -> tuple[np.ndarray, np.ndarray]:
        """Log intensity without light (3, T, T) and the texels that are known."""
        model, gates = self.model, self.gates
        photo = load_image(path)
        face, square = crop(photo, detect_faces(photo)[0].crop_box(), COARSE)
        if square.side < gates.least_side:
            raise Rejected("small")
        r = iterate(self.network, model, torch.from_numpy(to_grey(face))[None, None], 4)[-1]
        coefficients, pose = split(r, model.n_coefficients)
        turn = (pose * POSE_UNITS)[0].rad2deg()
        if turn[1].abs() > gates.yaw or turn[0].abs() > gates.pitch:
            raise Rejected("pose")
        if coefficients.abs().max() > LARGEST_COEFFICIENT or pose.abs().max() > 3:
            raise Rejected("implausible")
        square = square.at(FINE)
        image = torch.from_numpy(square.cut(photo)).permute(2, 0, 1)[None]
        rendering = render(model, r, FINE)
        grey = torch.from_numpy(to_grey(image[0].permute(1, 2, 0).numpy()))[None, None]
        light = estimate_shading(model, grey, rendering)
        if light.residual > gates.residual:
            raise Rejected("light")
        shift = self._shift(grey, rendering, light.shading)
        inside = torch.from_numpy(inside_photo(square, photo.shape[:2]))[None, None]
        seen = unwrap(model, self.chart, image, r, rendering, inside, shift)
        shading = unwrap(model, self.chart, light.shading, r, rendering).values[0].numpy()
        color = seen.values.numpy()
        level = np.tensordot(LUMA, color, 1)
        known = seen.known.numpy() & (shading > MIN_SHADING)
        known &= (level > DARKEST) & (level < BRIGHTEST)
        texture = np.log(color.clip(0.01, 1)) - np.log(shading.clip(MIN_SHADING))
        texture = (texture * self.mask).astype(np.float32)
        known = bare_skin(texture, known, self.zones, self.reference)
        core = known & self.zones.core
        if core.sum() < gates.core * self.zones.core.sum():
            raise Rejected("hidden")
        skin = (texture - self.reference)[:, core]
        bare = self._bare(texture, known, self.reference)
        if 1.4826 * np.median(np.abs(LUMA @ (skin - bare[:, None]))) > gates.uneven:
            raise Rejected("uneven")
        return texture, known

    def _bare(self, texture, known, reference) -> np.ndarray:
        """(3,) how much brighter the bare skin is than the reference's."""
        return np.median((texture - reference)[:, known & self.zones.core], axis=1)

    def _shift(self, grey, rendering, shading) -> torch.Tensor:
        model = self.model
        rendered = interpolate(self.mean_grey, rendering.fragments, model.triangles) * shading
        found = match_features(
            grey[0, 0].numpy(),
            rendered[0, 0].numpy(),
            rendering.projected[0, model.landmarks, :2].numpy(),
            model.mean[model.landmarks].numpy(),
            model.mean.numpy(),
        )
        scores = found.scores
        if np.mean(list(scores.values())) < self.gates.features:
            raise Rejected("features")
        if min(scores["right eye"], scores["left eye"]) < self.gates.eyes:
            raise Rejected("eyes")
        return torch.from_numpy(found.shift)

    def complete(self, texture: np.ndarray, known: np.ndarray, reference: np.ndarray) -> np.ndarray:
        """Evened out between left and right, hidden texels from the other side, then filled."""
        texels = len(self.mask)
        other = self.mirror(torch.from_numpy(texture * known)[None])[0].numpy()
        other_known = self.mirror.known(torch.from_numpy(known)).numpy()
        even = balance(texture, other, known & other_known, texels / 14)
        smooth = known & self.zones.shown & ~self.zones.bearded
        even = even_out(even, reference, smooth, texels / 20)
        even = dim_highlights(even, self._bare(even, known, reference), reference)
        other = self.mirror(torch.from_numpy(even * known).float()[None])[0].numpy()
        weight, other_weight = feather(known, self.mask), feather(other_known, self.mask)
        merged = np.where(known, even, np.where(other_known, other, reference))
        merged = np.where(known & other_known, other + weight * (even - other), merged)
        weight = np.maximum(weight, other_weight)
        return fill(merged, weight, self.mask, reference)


def feather(known: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """0 where unknown, rising to 1 over some texels inside; the chart's border is no edge."""
    width = len(mask) / 100
    soft = gaussian_filter((known | ~mask).astype(np.float32), width, mode="nearest")
    return np.clip(2 * soft - 1, 0, 1) * known


def inside_photo(square, shape: tuple[int, int]) -> np.ndarray:
    center = (np.arange(square.size) + 0.5) * square.step
    column, row = square.x + center, square.y + center
    return np.outer((row > 1) & (row < shape[0] - 1), (column > 1) & (column < shape[1] - 1))


def collect(unwrapper: Unwrapper, paths: list[Path], count: int):
    """Textures of up to `count` photographs, and how many failed at which gate."""
    found, reasons = {}, Counter()
    for path in paths:
        try:
            texture, known = unwrapper(path)
        except (Rejected, ImageError, NoFaceError) as error:
            reasons[str(error) if isinstance(error, Rejected) else type(error).__name__] += 1
            continue
        found[path.name] = texture.astype(np.float16), known
        if len(found) == count:
            break
        if len(found) % 25 == 0:
            print(f"{len(found)} textures; rejected: {dict(reasons)}", flush=True)
    return found, reasons


def expose(found: dict, where, gates: Gates, reasons: Counter) -> dict:
    """Bring every texture to the scale of albedo by its bare skin's color."""
    colors = {
        name: np.median(texture[:, where.core & known].astype(np.float32), axis=1)
        for name, (texture, known) in found.items()
    }
    typical = np.median(list(colors.values()), axis=0)
    level = float(np.mean(typical - typical_skin()))
    kept = {}
    for name, (texture, known) in found.items():
        exposure = explain_color(colors[name], level)
        if exposure.surprise > gates.color or np.ptp(colors[name]) < 0.08:
            reasons["color"] += 1
            continue
        kept[name] = texture - exposure.shift[:, None, None].astype(np.float16), known
    return kept


def without_outliers(found: dict, unwrapper: Unwrapper, gates: Gates, reasons: Counter) -> dict:
    """Drop photographs whose eye and nose region is unlike the bank's: glasses, fringes, hands."""
    where = unwrapper.zones
    y = unwrapper.chart.position[..., 1].numpy()
    landmarks = unwrapper.model.mean[unwrapper.model.landmarks].numpy()
    eyes = (y > landmarks[33, 1]) & (y < landmarks[17:27, 1].max())
    region = unwrapper.mask & eyes & (np.abs(unwrapper.chart.position[..., 0].numpy()) < 55)
    flat = []
    for texture, known in found.values():
        bare = np.median(texture[:, where.core & known], axis=1)
        grey = np.tensordot(LUMA, (texture - bare[:, None, None]).astype(np.float32), 1)
        flat.append(np.where(known, gaussian_filter(grey, len(y) / 250), np.nan)[region])
    flat = np.array(flat)
    flat = flat[:, np.isfinite(flat).mean(0) > 0.5]
    middle = np.nanmedian(flat, axis=0)
    spread = np.maximum(1.4826 * np.nanmedian(np.abs(flat - middle), axis=0), 0.05)
    odd = (np.abs(flat - middle) > 3 * spread) & np.isfinite(flat)
    share = odd.sum(1) / np.isfinite(flat).sum(1).clip(1)
    reasons["unlike the others"] += int((share > gates.odd).sum())
    return {
        name: item for (name, item), s in zip(found.items(), share, strict=True) if s <= gates.odd
    }


def mean_texture(found: dict, unwrapper: Unwrapper) -> np.ndarray:
    """(3, T, T) symmetric log mean of what the photographs show; the procedural one elsewhere."""
    total = sum(texture.astype(np.float32) * known for texture, known in found.values())
    count = sum(known.astype(np.float32) for _, known in found.values())
    both = torch.from_numpy(np.concatenate([total, count[None]]).astype(np.float32))
    both = (both + unwrapper.mirror(both[None])[0]).numpy()
    mean = both[:3] / np.maximum(both[3], 1)
    weight = np.clip(both[3] / (0.2 * len(found)) - 0.5, 0, 1)
    weight = gaussian_filter(weight, len(weight) / 100) * (weight > 0)
    return fill(mean, weight, unwrapper.mask, unwrapper.reference)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("photos", type=Path, nargs="+", help="folders or files")
    parser.add_argument("--out", type=Path, required=True, help="bank to write, .npz")
    parser.add_argument("--licence", required=True, help="of the photographs, for example MIT")
    parser.add_argument("--count", type=int, default=400, help="photographs to look at")
    parser.add_argument("--size", type=int, default=256, help="side of the textures")
    parser.add_argument("--seed", type=int, default=0, help="of the choice of photographs")
    arguments = parser.parse_args()
    paths = list_images(arguments.photos)
    order = np.random.default_rng(arguments.seed).permutation(len(paths))[: arguments.count]
    paths = [paths[i] for i in sorted(order)]
    gates, model = Gates(), MorphableModel.default()
    unwrapper = Unwrapper(model, arguments.size, gates)
    found, reasons = collect(unwrapper, paths, arguments.count)
    found = expose(found, unwrapper.zones, gates, reasons)
    found = without_outliers(found, unwrapper, gates, reasons)
    print(f"{len(found)} of {len(paths)} photographs used; rejected: {dict(reasons)}")
    if not found:
        raise SystemExit("no photograph passed the gates; give others")
    reference = mean_texture(found, unwrapper)
    albedo, known = [], []
    for texture, seen in found.values():
        full = unwrapper.complete(texture.astype(np.float32), seen, reference)
        full = np.exp(full) * unwrapper.mask
        albedo.append(to_bytes(full.transpose(1, 2, 0)))
        known.append(seen)
    TextureBank(
        np.stack(albedo),
        np.stack(known),
        tuple(found),
        arguments.licence,
        topology_digest(model),
        module_digest(unwrapper.network),
    ).save(arguments.out)
    print(f"{arguments.out}: {arguments.out.stat().st_size / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
