"""How far, and which way, real faces are from the mean: writes identity_spread.npz.

    python data_scripts/measure_identity_spread.py PATH/ict_facekit.npz

MakeHuman's components are fitted to 200 ICT-FaceKit identities (MIT licence, USC Institute for
Creative Technologies). Only the scatter of the coefficients is kept. `build_morphable_model.py`
reads it and needs no ICT data.
"""

import argparse
from pathlib import Path

import numpy as np
from build_morphable_model import SPREAD, Settings, makehuman_geometry
from face_population import IdentitySpread, parity
from ict_population import N_INNER, Population, spread_evenly
from surface_fit import LinearFace, Similarity, fit

SEED = 1
PRIOR = 2.0  # weight of the prior, between a loose and a firm fit
KEEP = 2  # every second point is enough
ROUNDS = 10


def skin_surface(geometry: dict[str, np.ndarray]) -> LinearFace:
    """The model's skin with its identity components: no eyeballs, no inside of the mouth."""
    masks = dict(zip(geometry["region_names"].tolist(), geometry["region_masks"], strict=True))
    hidden = masks["eye_left"] + masks["eye_right"] + masks["mouth_interior"] > 0.5
    triangles = geometry["triangles"]
    shown = triangles[~hidden[triangles].any(1)]
    return LinearFace(geometry["mean"], geometry["identity_basis"], shown)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("ict", type=Path, help="ICT-FaceKit packed as .npz")
    parser.add_argument("--output", type=Path, default=SPREAD)
    arguments = parser.parse_args()
    population = Population.load(arguments.ict)
    geometry = makehuman_geometry(Settings())
    face = skin_surface(geometry)
    generator = np.random.default_rng(SEED)
    coefficients, residual = [], []
    for identity in spread_evenly(len(population.face.components), generator):
        shape = population.face.shape(identity)
        anchors = population.anchors(shape)
        start = Similarity.between(face.mean[geometry["landmarks"][N_INNER:]], anchors)
        points = shape[generator.permutation(population.points)[::KEEP]]
        found = fit(face, points, start, PRIOR / KEEP, ROUNDS)
        coefficients.append(found.coefficients)
        residual.append(found.residual.mean())
    sign = parity(face.components, geometry["mirror"])
    about = {
        "population": f"{len(residual)} identities of ICT-FaceKit (MIT licence)",
        "seed": SEED,
        "prior": PRIOR,
        "residual_mm": round(float(np.mean(residual)), 3),
    }
    IdentitySpread.measure(np.array(coefficients), sign, face.components, about).save(
        arguments.output
    )
    print(f"{len(residual)} fits, mean residual {np.mean(residual):.3f} mm")
    print(f"{arguments.output}: {arguments.output.stat().st_size / 1e3:.0f} kB")


if __name__ == "__main__":
    main()
