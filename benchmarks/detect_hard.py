"""Faces that are hard to find: cut by the photograph's edge, behind sunglasses, twenty at once.

    python benchmarks/detect_hard.py --photos FOLDER [--portraits FOLDER] [--out detect_hard.json]

Made from portraits of one face each. True is the only box that the network finds in the whole
portrait with a probability of 0.95 or more; portraits without one are left out. Prints JSON: the
share of faces found, and boxes that are on no face per 100 images.
"""

import argparse
import json
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from detect import is_right
from timing import machine

from facerecon.detection import network
from facerecon.detection.detect import Box, NoFaceError, detect_faces
from facerecon.imaging import list_images, load_image, to_grey
from facerecon.pipeline import Reconstructor

CUTS = (0.1, 0.2, 0.3, 0.4)  # share of the box that lies outside
EDGES = ("top", "bottom", "left", "right")
ROWS, COLUMNS, TILE = 4, 5, 200
SUNGLASSES = {
    "010": (0.50, 0.43, 0.47), "015": (0.49, 0.32, 0.20), "026": (0.30, 0.43, 0.36),
    "038": (0.53, 0.52, 0.53), "043": (0.62, 0.50, 0.55), "053": (0.49, 0.39, 0.58),
    "075": (0.53, 0.47, 0.44), "099": (0.50, 0.47, 0.50),
}  # fmt: skip
"""Of the folder of varied portraits (640 x 640): middle and width of the face's box by eye, in
shares of the picture."""


class Case(NamedTuple):
    """An image in [0, 1] and the boxes of all faces in it."""

    image: np.ndarray
    faces: list[Box]


def portraits(paths: list[Path]) -> list[Case]:
    """Those with exactly one certain face."""
    net, found = network.load_detector(), []
    for path in paths:
        photo = load_image(path)
        boxes = network.search(net, to_grey(photo), 0.95)
        if len(boxes) == 1:
            found.append(Case(photo, boxes))
    return found


def cut(case: Case, edge: str, share: float) -> Case:
    """The photograph without what lies beyond a line through the face's box."""
    box, (rows, columns) = case.faces[0], case.image.shape[:2]
    lost = share * box.width
    left = max(0, round(box.x + lost)) if edge == "left" else 0
    top = max(0, round(box.y + lost)) if edge == "top" else 0
    right = round(box.x + box.width - lost) if edge == "right" else columns
    bottom = round(box.y + box.height - lost) if edge == "bottom" else rows
    moved = Box(box.x - left, box.y - top, box.width, box.height)
    return Case(np.ascontiguousarray(case.image[top:bottom, left:right]), [moved])


def groups(cases: list[Case], count: int, rng: np.random.Generator) -> Iterator[Case]:
    """Twenty portraits side by side."""
    for _ in range(count):
        chosen = rng.choice(len(cases), ROWS * COLUMNS, replace=False)
        image = np.zeros((ROWS * TILE, COLUMNS * TILE, 3), np.float32)
        faces = []
        for place, index in enumerate(chosen):
            row, column = divmod(place, COLUMNS)
            photo, (box,) = cases[index]
            k = TILE / max(photo.shape[:2])
            small = cv2.resize(photo, None, fx=k, fy=k, interpolation=cv2.INTER_AREA)
            small = small[:TILE, :TILE]
            y, x = row * TILE, column * TILE
            image[y : y + small.shape[0], x : x + small.shape[1]] = small
            faces.append(Box(x + k * box.x, y + k * box.y, k * box.width, k * box.height))
        yield Case(image, faces)


def painted(cases: list[Case], rng: np.random.Generator) -> Iterator[Case]:
    """The same people with dark glasses, where CoarseNet says that the eyes are."""
    reconstruct = Reconstructor.from_pretrained(refine=None)
    for photo, (box,) in cases:
        points = reconstruct(photo, box).landmarks
        image, shade = photo.copy(), (float(rng.uniform(0.02, 0.15)),) * 3
        height = rng.uniform(0.65, 0.9)  # of a lens, over its width
        middles = []
        for eye in (points[36:42], points[42:48]):
            across = np.ptp(eye[:, 0])
            middles.append(tuple(map(int, np.rint(eye.mean(0)))))
            axes = (round(0.95 * across), round(0.95 * height * across))
            cv2.ellipse(image, middles[-1], axes, 0, 0, 360, shade, -1, cv2.LINE_AA)
        cv2.line(image, *middles, shade, max(2, round(0.02 * box.width)), cv2.LINE_AA)
        yield Case(image, [box])


def sunglasses(folder: Path) -> Iterator[Case]:
    """Real ones; the boxes are by eye."""
    for stem, (x, y, width) in SUNGLASSES.items():
        photo = load_image(folder / f"{stem}.jpg")
        side = photo.shape[1]
        truth = Box(side * (x - width / 2), side * (y - width / 2), side * width, side * width)
        yield Case(photo, [truth])


def judged(cases: list[Case]) -> dict[str, float]:
    """Percent of the faces that have a right box, and boxes on none per 100 images."""
    hits = total = false = 0
    for image, faces in cases:
        try:
            boxes = detect_faces(image)
        except NoFaceError:
            boxes = []
        hits += sum(any(is_right(box, face) for box in boxes) for face in faces)
        false += sum(not any(is_right(box, face) for face in faces) for box in boxes)
        total += len(faces)
    return {
        "images": len(cases),
        "faces": total,
        "found_pct": round(100 * hits / total, 1),
        "false_boxes_per_100_images": round(100 * false / len(cases), 1),
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--photos", type=Path, required=True, help="folder of portraits")
    parser.add_argument("--portraits", type=Path, help="folder of those in SUNGLASSES")
    parser.add_argument("--limit", type=int, default=40, help="portraits (default: 40)")
    parser.add_argument("--groups", type=int, default=10, help="of twenty (default: 10)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, help="write the JSON here, too")
    args = parser.parse_args()
    paths = list_images([args.photos])
    paths = [p for p in paths if p.stem.isdigit() and int(p.stem) % 2]  # not of the training
    cases = portraits(paths[:: max(1, len(paths) // args.limit)][: args.limit])
    rng = np.random.default_rng(args.seed)
    report = {"whole portrait": judged(cases)}
    for edge in EDGES:
        for share in CUTS:
            report[f"{share:.0%} cut at the {edge}"] = judged(
                [cut(case, edge, share) for case in cases]
            )
    report["groups of twenty"] = judged(list(groups(cases, args.groups, rng)))
    report["painted sunglasses"] = judged(list(painted(cases, rng)))
    if args.portraits:
        report["sunglasses"] = judged(list(sunglasses(args.portraits)))
    text = json.dumps({"machine": machine(), "cases": report}, indent=1)
    if args.out:
        args.out.write_text(text + "\n")
    print(text)


if __name__ == "__main__":
    main()
