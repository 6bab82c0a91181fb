"""Learn the linear albedo model of Eq. (10) from a texture bank: `learn_albedo.py BANK --out FILE`.

Writes `albedo_mean` and `albedo_basis` as in a model file, with the licence of the photographs, and
pictures of the procedural and the learned model. Every fifth photograph of the bank is kept aside
(`held_out`) for benchmarks/albedo.py.
"""

import argparse
import io
from pathlib import Path

import numpy as np
import torch
from face_population import fix_signs
from jaxtyping import Float
from PIL import Image

from facerecon.files import write_file
from facerecon.imaging import to_bytes
from facerecon.model_mesh.unwrap import vertex_places
from facerecon.morphable_model import MorphableModel
from facerecon.rasterize import interpolate
from facerecon.render import render
from facerecon.synthetic.chart import Chart
from facerecon.synthetic.photographed_skin import nearest_inside
from facerecon.synthetic.skin import Skin
from facerecon.synthetic.skin_zones import skin_weight
from facerecon.synthetic.texture_bank import TextureBank, topology_digest

HOLD_OUT = 5  # every fifth photograph
COMPONENTS = 10
PANEL = 150  # pixels of a face in the pictures


def albedo_of_bank(
    model: MorphableModel, bank: TextureBank, generator: torch.Generator
) -> Float[np.ndarray, "n vertices 3"]:
    """Albedo per vertex of every texture.

    Eyes and mouth, which no texture shows, are procedural; other skin outside the chart is
    the procedural mean in the photograph's tone.
    """
    chart = Chart(model, bank.albedo.shape[1])
    place = vertex_places(model, chart)
    inside = (place.abs() <= 1).all(1)
    nearest = nearest_inside(chart.mask.numpy())
    rows = []
    for albedo in bank.albedo:
        texture = torch.from_numpy(albedo[nearest].astype(np.float32) / 255).permute(2, 0, 1)
        rows.append(Chart.sample(texture[None], place.T[None, :, None])[0, :, 0].T)
    shown = torch.stack(rows)
    sampled = Skin(model).sample(len(bank), generator)
    weight = skin_weight(model) * inside
    tone = torch.einsum("v,nvc->nc", weight, shown) / (weight @ sampled.mean(0))
    regions = model.regions
    own = regions["eye_left"] + regions["eye_right"] + regions["mouth_interior"] > 0.5
    rest = torch.where(own[:, None], sampled, tone[:, None] * sampled.mean(0))
    return torch.where(inside[:, None], shown, rest).clamp(0, 1).numpy()


def linear_model(
    samples: Float[np.ndarray, "n vertices 3"], mirror: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Mean and components, per standard deviation, of samples and their mirror images."""
    rows = np.concatenate([samples, samples[:, mirror]]).astype(np.float32)
    mean = rows.mean(0)
    rows = (rows - mean).reshape(len(rows), -1)
    variance, vectors = np.linalg.eigh((rows @ rows.T).astype(np.float64) / len(rows))
    order = np.argsort(variance)[::-1][:COMPONENTS]
    chosen = vectors[:, order].T.astype(np.float32) / np.sqrt(len(rows))
    kept = variance[order].sum() / variance.sum()
    print(f"{COMPONENTS} components hold {kept:.1%} of the variance")
    basis = fix_signs((chosen @ rows).reshape(COMPONENTS, *mean.shape))
    return mean, basis.astype(np.float32)


def read_albedo(path: Path, model: MorphableModel) -> tuple[dict[str, np.ndarray], dict]:
    """`albedo_mean` and `albedo_basis` of a file that this script wrote, and where it is from."""
    with np.load(path, allow_pickle=False) as file:
        learned = {name: file[name] for name in file.files}
    if str(learned["topology"]) != topology_digest(model):
        raise SystemExit(f"{path}: of a model with other triangles; learn the albedo again")
    about = {name: learned[name].item() for name in ("source", "licence", "n_photographs")}
    names = ("albedo_mean", "albedo_basis")
    return {name: learned[name].astype(np.float32) for name in names}, about


def picture(
    model: MorphableModel, mean: np.ndarray, basis: np.ndarray, generator: torch.Generator
) -> np.ndarray:
    """Rows: mean and five components at -2; the same at +2; eight samples. Soft frontal light."""
    steps = torch.zeros(20, len(basis))
    for k in range(5):
        steps[1 + k, k], steps[7 + k, k] = -2, 2
    steps[12:] = torch.randn(8, len(basis), generator=generator)
    colors = torch.from_numpy(mean) + torch.tensordot(steps, torch.from_numpy(basis), 1)
    r = torch.zeros(1, model.n_coefficients + 6)
    r[0, model.n_coefficients + 1] = 0.3
    faces = render(model, r, PANEL)
    light = 0.55 + 0.45 * faces.normals[:, 2:] + 0.12 * faces.normals[:, 1:2]
    panels = [
        interpolate(color[None].contiguous(), faces.fragments, model.triangles) * light
        for color in colors
    ]
    panels = [torch.where(faces.mask, panel, torch.ones_like(panel))[0] for panel in panels]
    blank = torch.ones_like(panels[0])
    grid = [*panels[:6], blank, blank, *panels[6:12], blank, blank, *panels[12:]]
    grid = torch.stack(grid).view(3, 8, 3, PANEL, PANEL).permute(0, 3, 1, 4, 2)
    return to_bytes(grid.reshape(3 * PANEL, 8 * PANEL, 3).numpy())


def linear_skin(
    model: MorphableModel, components: int = 10, samples: int = 1000, seed: int = 0
) -> tuple[Float[np.ndarray, "vertices 3"], Float[np.ndarray, "components vertices 3"]]:
    """Mean and principal components, per standard deviation, of procedural skin.

    The linear albedo of Eq. (10) from no photograph.

    Args:
        samples: whole faces, a multiple of 100.
    """
    skin, generator = Skin(model), torch.Generator().manual_seed(seed)
    faces = [skin.sample(100, generator) for _ in range(samples // 100)]
    rows = torch.cat(faces).flatten(1).numpy()
    mean = rows.mean(0)
    rows = rows - mean
    vectors = np.linalg.eigh((rows @ rows.T).astype(np.float64) / len(rows))[1]
    chosen = vectors[:, ::-1][:, :components].T.astype(np.float32) / np.sqrt(len(rows))
    basis = (chosen @ rows).astype(np.float32)
    return mean.reshape(-1, 3), basis.reshape(components, -1, 3)


def save_picture(pixels: np.ndarray, path: Path) -> None:
    data = io.BytesIO()
    Image.fromarray(pixels).quantize(256).save(data, "PNG", optimize=True)
    write_file(path, data.getvalue())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("bank", type=Path)
    parser.add_argument("--out", type=Path, required=True, help="arrays to write, .npz")
    parser.add_argument("--figures", type=Path, help="folder of the pictures")
    parser.add_argument("--source", default="", help="what the photographs are, for the record")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    model = MorphableModel.default()
    bank = TextureBank.load(arguments.bank, model)
    generator = torch.Generator().manual_seed(arguments.seed)
    held_out = np.arange(len(bank)) % HOLD_OUT == HOLD_OUT - 1
    samples = albedo_of_bank(model, bank, generator)
    mean, basis = linear_model(samples[~held_out], model.mirror.numpy())
    data = io.BytesIO()
    np.savez_compressed(
        data,
        albedo_mean=mean.astype(np.float16),  # as in a model file
        albedo_basis=basis.astype(np.float16),
        licence=np.array(bank.licence),
        topology=np.array(bank.topology),
        source=np.array(arguments.source),
        n_photographs=np.array((~held_out).sum()),
        held_out=np.array(bank.names)[held_out],
    )
    write_file(arguments.out, data.getvalue())
    if arguments.figures:
        procedural = linear_skin(model, COMPONENTS)
        for name, arrays in (("procedural", procedural), ("learned", (mean, basis))):
            generator = torch.Generator().manual_seed(arguments.seed)
            pixels = picture(model, *arrays, generator)
            save_picture(pixels, arguments.figures / f"{name}.png")


if __name__ == "__main__":
    main()
