"""How well the default model's identities reach the faces of a model made of real scans.

    python benchmarks/identity_span.py --ict PATH/ict_facekit.npz [--model FILE] [--faces 15]

Random neutral ICT-FaceKit identities are fitted by a similarity and identity coefficients alone.
What is minimized: the sum over the points, the ICT vertices of the face that a scanner sees, of
the squared distance in mm^2 to the nearest point of the model's skin, plus the prior's weight l
times the sum of squared coefficients; l = 1 is a loose fit, l = 10 a firm one. Printed are the mean
and 90 % quantile of the distance in mm, averaged over the faces, and the root mean square
coefficient, which is at most about 1 if the model calls these faces plausible.

The other way round, the ICT identities are fitted to as many samples of the default model, with as
many points on its face. Neither model is fitted to samples of its own, which would be no test. The
last lines say how far random faces of both models are from their mean, in mm RMS after the best
similarity: over the face, and within 15 mm of the landmarks of a feature.
"""

import argparse
import json
import sys
from pathlib import Path

import numpy as np
from scipy.spatial import cKDTree

sys.path.insert(0, str(Path(__file__).parents[1] / "data_scripts"))
from face_population import remove_similarity
from ict_population import N_INNER, Population
from surface_fit import LinearFace, Similarity, fit, visible

from facerecon.morphable_model import MorphableModel

SEED = 0
LOOSE, FIRM = 1.0, 10.0
FEATURES = {"nose": (27, 36), "eyes": (36, 48), "mouth": (48, 68), "chin": (6, 11)}
NEAR = 15.0  # mm from a landmark
RESULT = Path(__file__).parent / "results/identity_span.json"


def skin_of(model: MorphableModel) -> LinearFace:
    """The model's identities on its skin: without eyeballs and the inside of the mouth."""
    regions = model.regions
    hidden = regions["eye_left"] + regions["eye_right"] + regions["mouth_interior"] > 0.5
    components = model.basis[: model.n_identity].unflatten(1, (-1, 3)).numpy()
    triangles = model.triangles[~hidden[model.triangles].any(1)].numpy()
    return LinearFace(model.mean.double().numpy(), components, triangles)


def measure(
    face: LinearFace,
    anchors: np.ndarray,
    targets: list[tuple[np.ndarray, np.ndarray]],
    prior: float,
) -> dict[str, float]:
    """Residuals of fits to targets, each points (n, 3) and the landmarks (51, 3) to start from."""
    fits = []
    for points, landmarks in targets:
        fits.append(fit(face, points, Similarity.between(anchors, landmarks), prior))
    row = {
        "mean_mm": np.mean([found.residual.mean() for found in fits]),
        "p90_mm": np.mean([np.quantile(found.residual, 0.9) for found in fits]),
    }
    if len(face.components):
        row["coefficient_rms"] = np.sqrt(np.mean([found.coefficients**2 for found in fits]))
    return {name: round(float(value), 3) for name, value in row.items()}


def spread(face: LinearFace, points: np.ndarray, landmarks: np.ndarray) -> dict[str, float]:
    """RMS deviation from the mean in mm of the points (n,) of random faces, by feature.

    landmarks: (68,) vertex indices.
    """
    mean = face.mean[points] - face.mean[points].mean(0)
    moved = remove_similarity(face.components[:, points].astype(float), mean, np.ones(len(points)))
    squared = (moved**2).sum((0, 2))
    rows = {"face": np.sqrt(squared.mean())}
    for name, (first, last) in FEATURES.items():
        tree = cKDTree(face.mean[landmarks[first:last]])
        near = tree.query(face.mean[points])[0] < NEAR
        rows[name] = np.sqrt(squared[near].mean())
    return {name: round(float(value), 2) for name, value in rows.items()}


def main() -> None:
    """Measure, print a table, write JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--ict", type=Path, required=True, help="ICT-FaceKit packed as .npz")
    parser.add_argument("--model", type=Path, help="model file (default: the shipped one)")
    parser.add_argument("--faces", type=int, default=15)
    parser.add_argument("--output", type=Path, default=RESULT)
    args = parser.parse_args()
    if not args.ict.is_file():
        print(f"skipped: {args.ict} is not there; this needs ICT-FaceKit packed as .npz")
        return
    model = MorphableModel.load(args.model) if args.model else MorphableModel.default()
    ours, landmarks = skin_of(model), model.landmarks.numpy()[N_INNER:]
    ict = Population.load(args.ict)
    generator = np.random.default_rng(SEED)

    heads = [
        ict.face.shape(generator.normal(size=len(ict.face.components))) for _ in range(args.faces)
    ]
    to_ict = [(head[ict.points], ict.anchors(head)) for head in heads]
    on_face = visible(ours.mean, model.triangles.numpy()) & (model.regions["face"].numpy() > 0.5)
    points = generator.permutation(np.flatnonzero(on_face))[: len(ict.points)]
    shapes = [ours.shape(generator.normal(size=model.n_identity)) for _ in range(args.faces)]
    to_ours = [(shape[points], shape[landmarks]) for shape in shapes]

    rows = {}
    for target, targets, face, anchors, name in (
        ("ICT-FaceKit", to_ict, ours, ours.mean[landmarks], "default model"),
        ("default model", to_ours, ict.face, ict.anchors(ict.face.mean), "ICT-FaceKit"),
    ):
        cases = [("mean face only", 0, LOOSE)]
        for n in sorted({100, len(face.components)}, reverse=True):
            cases += [(f"{n} components, l = {prior:g}", n, prior) for prior in (LOOSE, FIRM)]
        for label, n, prior in cases:
            row = measure(face.pick(n), anchors, targets, prior)
            rows.setdefault(f"{name} fitted to {target}", {})[label] = row
            size = f"  {row['coefficient_rms']:5.2f}" if n else ""
            print(
                f"{name:>13} -> {target:<13}  {label:<24}"
                f" {row['mean_mm']:.2f} / {row['p90_mm']:.2f} mm{size}",
                flush=True,
            )
    rows["deviation_mm_rms"] = {
        "default model": spread(ours, points, model.landmarks.numpy()),
        "ICT-FaceKit": spread(ict.face, ict.points, ict.landmarks),
    }
    for name, row in rows["deviation_mm_rms"].items():
        print(
            f"{name:>13} deviates: " + ", ".join(f"{k} {v:.2f}" for k, v in row.items()), "mm RMS"
        )
    report = {"seed": SEED, "faces": args.faces, "points": len(ict.points), **rows}
    args.output.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
