"""Train the regression trees of [19] on synthetic faces: src/facerecon/assets/landmarks.dat.

    python data_scripts/train_landmarks.py --out landmarks.dat [--heads ict_facekit.npz]

Needs dlib (pip install "facerecon[compare]"). The faces are rendered once and kept in --cache.
Prints the error on held-out synthetic faces and, if given, on photographs of other heads: the mean
distance of 68 points over the square root of the area of their bounding box, in percent.
"""

import argparse
import time
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from facerecon.camera import split
from facerecon.evaluation.heads.models import load_heads
from facerecon.evaluation.heads.views import Heads
from facerecon.imaging import to_bytes
from facerecon.methods.contour import Contour
from facerecon.methods.kazemi2014 import (
    MIRROR,
    SIZE,
    ShapePredictor,
    face_rectangle,
    require_dlib,
)
from facerecon.morphable_model import MorphableModel
from facerecon.synthetic.config import PoseConfig
from facerecon.synthetic.sampling import mixed_seed
from facerecon.synthetic.world import SyntheticWorld
from facerecon.training.presets import SyntheticConfig

# The boxes of the detector scatter as in CoarseNet's training; profiles are not asked of the trees.
POSE = PoseConfig(yaw_limit=0.9)
INNER = slice(17, 68)
BATCH = 32


def render_faces(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Grey crops (N, SIZE, SIZE) uint8 and landmarks (N, 68, 2) as an annotator would see them."""
    world = SyntheticWorld(MorphableModel.default(), SyntheticConfig(size=SIZE, pose=POSE))
    contour = Contour(world.model)
    images, points = [], []
    for start in tqdm(range(0, count, BATCH), desc="faces", unit="batch"):
        faces = world.render(
            min(BATCH, count - start), world.generator(mixed_seed("landmarks", seed, start))
        )
        coefficients, pose = split(faces.r, world.model.n_coefficients)
        index = contour.march(world.model.vertices(coefficients), pose)
        places = faces.rendering.projected[..., :2].gather(1, index[..., None].expand(-1, -1, 2))
        images += [to_bytes(image) for image in faces.image[:, 0].numpy()]
        points.append(places.numpy())
    return np.stack(images), np.concatenate(points)


def with_mirrored(images: np.ndarray, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The faces and their mirror images."""
    flipped = points[:, list(MIRROR)]
    flipped[..., 0] = SIZE - 1 - flipped[..., 0]
    return (
        np.concatenate([images, np.ascontiguousarray(images[:, :, ::-1])]),
        np.concatenate([points, flipped]),
    )


def train(images: np.ndarray, points: np.ndarray, path: Path, args: argparse.Namespace) -> None:
    """Write the trees that fit these faces."""
    dlib = require_dlib()
    options = dlib.shape_predictor_training_options()
    options.cascade_depth = args.cascade
    options.num_trees_per_cascade_level = args.trees
    options.tree_depth = args.depth
    options.nu = args.nu
    options.oversampling_amount = args.oversampling
    options.feature_pool_size = args.pool
    options.num_test_splits = args.splits
    options.lambda_param = 0.1
    options.num_threads = args.threads
    options.random_seed = f"facerecon {args.seed}"
    options.be_verbose = False
    rectangle = dlib.rectangle(*face_rectangle(SIZE))
    shapes = [
        [
            dlib.full_object_detection(
                rectangle, [dlib.point(round(float(x)), round(float(y))) for x, y in one]
            )
        ]
        for one in points
    ]
    path.parent.mkdir(parents=True, exist_ok=True)
    dlib.train_shape_predictor(list(images), shapes, options).save(str(path))


def error(predictor: ShapePredictor, images: np.ndarray, points: np.ndarray) -> dict[str, float]:
    """Percent of the box of all points, and of the 51 inner ones."""
    found = np.stack([predictor.on_crop(image) for image in images])
    values = {}
    for name, part in (("all 68", slice(None)), ("inner 51", INNER)):
        true = points[:, part]
        extent = np.ptp(true, axis=1).prod(axis=1) ** 0.5
        distance = np.linalg.norm(found[:, part] - true, axis=2).mean(axis=1)
        values[name] = float(100 * np.mean(distance / extent))
    return values


def other_heads(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Photographs of 200 other heads within 60 degrees, and the landmarks on their skin."""
    views = Heads(load_heads(path), MorphableModel.default(), SIZE).render(200, seed=0)
    images = np.stack([to_bytes(image) for image in views.image[:, 0].numpy()])
    return images, views.landmarks[..., :2].numpy()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--cache", type=Path, default=Path("runs/landmark_faces.npz"))
    parser.add_argument("--faces", type=int, default=1300)
    parser.add_argument("--cascade", type=int, default=10)
    parser.add_argument("--trees", type=int, default=80)
    parser.add_argument("--depth", type=int, default=3)
    parser.add_argument("--nu", type=float, default=0.25)
    parser.add_argument("--oversampling", type=int, default=4)
    parser.add_argument("--pool", type=int, default=300)
    parser.add_argument("--splits", type=int, default=15)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--heads", type=Path, help="ICT-FaceKit packed as .npz, or a model")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    if args.cache.is_file():
        with np.load(args.cache, allow_pickle=False) as file:
            images, points = file["images"], file["points"]
    else:
        images, points = render_faces(args.faces + 300, args.seed)
        args.cache.parent.mkdir(parents=True, exist_ok=True)
        np.savez_compressed(args.cache, images=images, points=points)
    held_out, training = slice(-300, None), slice(0, min(args.faces, len(images) - 300))
    began = time.process_time()
    train(*with_mirrored(images[training], points[training]), args.out, args)
    print(f"{args.out}: {args.out.stat().st_size / 1e6:.1f} MB", end=", ")
    print(f"{time.process_time() - began:.0f} s of processor time")
    predictor = ShapePredictor(args.out)
    print("training faces", error(predictor, images[:300], points[:300]))
    print("held-out faces", error(predictor, images[held_out], points[held_out]))
    if args.heads:
        print("other heads", error(predictor, *other_heads(args.heads)))


if __name__ == "__main__":
    main()
