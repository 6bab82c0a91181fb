"""How well faces are found: recall, false boxes, precision of the box, and time.

    python benchmarks/detect.py --heads ict_facekit.npz --photos FOLDER [--out detect.json]

Photographed heads have true boxes (`facerecon evaluate heads`). Photographs of a folder have none:
there a box counts as right if most of the detectors that found something put one there, and the
names of the photographs without such a consensus are listed, to be looked at. dlib's HOG detector
takes part where `dlib-bin` is installed. Prints JSON.
"""

import argparse
import itertools
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from timing import machine, made_with

sys.path.insert(0, str(Path(__file__).parents[1] / "data_scripts"))
import cascades

from facerecon.camera import POSE_UNITS
from facerecon.detection import network
from facerecon.detection.detect import CROP_MARGIN, Box, NoFaceError, detect_faces
from facerecon.evaluation.heads.models import load_heads
from facerecon.evaluation.heads.table import YAW_BINS, true_yaw
from facerecon.evaluation.heads.views import Heads
from facerecon.imaging import Crop, list_images, load_image, to_bytes, to_grey
from facerecon.morphable_model import MorphableModel

SEED = 20_261_126  # not of the heads that any constant was chosen with
NEAR, LOG_WIDTH = 0.3, 0.5
"""A box is right if its middle is within 0.3 true widths and its width within a factor of 1.65:
detectors box different parts of a face."""

Detector = Callable[[np.ndarray], list[Box]]


def detectors() -> dict[str, Detector]:
    """By name: functions of a grey image in [0, 1]."""
    net = network.load_detector()

    def whole(grey: np.ndarray) -> list[Box]:
        try:
            return detect_faces(np.repeat(grey[..., None], 3, axis=2))
        except NoFaceError:
            return []

    def eight_bit(grey: np.ndarray) -> np.ndarray:
        return to_bytes(grey)

    found: dict[str, Detector] = {
        "facerecon": whole,
        "network alone": lambda grey: network.search(net, grey, 0.5),
        "Haar frontal": lambda grey: cascades.found(eight_bit(grey), cascades.FRONTAL[0]),
        "two Haar frontal agree": lambda grey: cascades.agreed(eight_bit(grey)),
        "Haar frontal and profile": lambda grey: cascades.candidates(eight_bit(grey)),
    }
    try:
        import dlib
    except ImportError:
        return found
    hog = dlib.get_frontal_face_detector()

    def peer(grey: np.ndarray) -> list[Box]:
        boxes, scores, _ = hog.run(eight_bit(grey), 1, 0.0)
        return [
            Box(b.left(), b.top(), b.width(), b.height(), score)
            for b, score in zip(boxes, scores, strict=True)
        ]

    return found | {"dlib HOG, upsampled once": peer}


def is_right(box: Box, truth: Box) -> bool:
    """Whether a box is on this face."""
    x = (box.x + box.width / 2 - truth.x - truth.width / 2) / truth.width
    y = (box.y + box.height / 2 - truth.y - truth.height / 2) / truth.width
    return bool(np.hypot(x, y) < NEAR and abs(np.log(box.width / truth.width)) < LOG_WIDTH)


def run(detector: Detector, images: list[np.ndarray]) -> tuple[list[list[Box]], float, float]:
    """Boxes per image, and milliseconds per image: wall and processor time."""
    detector(images[0])
    wall, cpu = time.perf_counter(), time.process_time()
    boxes = [detector(image) for image in images]
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    return boxes, 1e3 * wall / len(images), 1e3 * cpu / len(images)


def heads(file: Path, count: int, profiles: int) -> tuple[list[np.ndarray], list[Box], np.ndarray]:
    """Photographs of heads, their true boxes, and the absolute yaw in degrees."""
    photos: list[np.ndarray] = []
    crops: list[Crop] = []

    def keep(grey: np.ndarray, true: Crop) -> tuple[bool, Crop]:
        photos.append(grey)
        crops.append(true)
        return True, true

    source = Heads(load_heads(file), MorphableModel.default())
    views = source.render(count, SEED, profiles, keep)
    places = (views.pose.double() * POSE_UNITS)[:, 3:].tolist()
    squares = [crop.moved(*place) for crop, place in zip(crops, places, strict=True)]
    margin = 0.5 - 0.5 / CROP_MARGIN
    boxes = [
        Box(s.x + margin * s.side, s.y + margin * s.side, *2 * (s.side / CROP_MARGIN,))
        for s in squares
    ]
    return photos, boxes, true_yaw(views).abs().numpy()


def on_heads(file: Path, count: int, profiles: int) -> dict:
    """Per detector: recall by yaw, false boxes per image, error of the right boxes, time."""
    photos, truth, yaw = heads(file, count, profiles)
    report = {}
    for name, detector in detectors().items():
        boxes, wall, cpu = run(detector, photos)
        right = [
            [b for b in found if is_right(b, t)] for found, t in zip(boxes, truth, strict=True)
        ]
        hit = np.array([len(r) > 0 for r in right])
        false = np.array([len(b) - len(r) for b, r in zip(boxes, right, strict=True)])
        best = [
            (max(r, key=lambda b: b.overlap(t)), t) for r, t in zip(right, truth, strict=True) if r
        ]
        shift = [
            np.hypot(b.x + b.width / 2 - t.x - t.width / 2, b.y + b.height / 2 - t.y - t.height / 2)
            / t.width
            for b, t in best
        ]
        size = [abs(np.log(b.width / t.width)) for b, t in best]
        recall = {
            f"{low}-{high}": round(100 * float(hit[(yaw >= low) & (yaw < high)].mean()), 1)
            for low, high in itertools.pairwise(YAW_BINS)
            if ((yaw >= low) & (yaw < high)).any()
        }
        report[name] = {
            "recall_pct_by_yaw": recall,
            "recall_pct_within_60": round(100 * float(hit[yaw <= 60].mean()), 1),
            "false_boxes_per_100_images": round(100 * float(false.mean()), 1),
            "off_centre_pct_of_width_median": round(100 * float(np.median(shift)), 1),
            "width_off_pct_median": round(100 * float(np.median(size)), 1),
            "wall_ms": round(wall, 1),
            "cpu_ms": round(cpu, 1),
        }
    return {"images": len(photos), "size": list(photos[0].shape), "detectors": report}


def on_photographs(paths: list[Path]) -> dict:
    """The same without a truth: agreement with the consensus, and what to look at."""
    photos = [to_grey(load_image(path)) for path in paths]
    results = {name: run(detector, photos) for name, detector in detectors().items()}
    voters = [n for n in ("network alone", "two Haar frontal agree", "dlib HOG, upsampled once")]
    consensus: list[Box | None] = []
    for index in range(len(photos)):
        votes = [results[n][0][index] for n in voters if n in results and results[n][0][index]]
        likely = [
            (sum(any(is_right(b, c) for b in vote) for vote in votes), c)
            for vote in votes
            for c in vote
        ]
        most = max((number for number, _ in likely), default=0)
        enough = most > len(votes) / 2 and most >= 2
        consensus.append(next(c for n, c in likely if n == most) if enough else None)
    known = [index for index, box in enumerate(consensus) if box]
    report = {}
    for name, (boxes, wall, cpu) in results.items():
        right = [any(is_right(b, consensus[i]) for b in boxes[i]) for i in known]
        report[name] = {
            "right_pct_of_consensus": round(100 * float(np.mean(right)), 1),
            "some_box_pct": round(100 * float(np.mean([len(b) > 0 for b in boxes])), 1),
            "more_than_one_box_pct": round(100 * float(np.mean([len(b) > 1 for b in boxes])), 1),
            "wall_ms": round(wall, 1),
            "cpu_ms": round(cpu, 1),
            "missed": [paths[i].name for i, ok in zip(known, right, strict=True) if not ok],
            "nothing": [p.name for p, b in zip(paths, boxes, strict=True) if not b],
        }
    return {
        "images": len(photos),
        "with_consensus": len(known),
        "without_consensus": [p.name for p, box in zip(paths, consensus, strict=True) if not box],
        "detectors": report,
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--heads", type=Path, help="heads for `facerecon evaluate heads`, .npz")
    parser.add_argument("--photos", type=Path, help="folder of portraits")
    parser.add_argument("--odd", action="store_true", help="only those with an odd number as name")
    parser.add_argument("--count", type=int, default=300, help="heads within 60 degrees of yaw")
    parser.add_argument("--profiles", type=int, default=100, help="heads beyond")
    parser.add_argument("--limit", type=int, default=0, help="photographs; 0: all")
    parser.add_argument("--out", type=Path, help="write the JSON here, too")
    args = parser.parse_args()
    if not args.heads and not args.photos:
        parser.error("give --heads, --photos or both")
    report = {"machine": machine(), "threads": torch.get_num_threads()}
    report |= made_with(detector=None, coarsenet=None)
    if args.heads:
        report["heads"] = on_heads(args.heads, args.count, args.profiles)
    if args.photos:
        paths = list_images([args.photos])
        if args.odd:
            paths = [p for p in paths if p.stem.isdigit() and int(p.stem) % 2]
        step = max(1, len(paths) // args.limit) if args.limit else 1
        report["photographs"] = on_photographs(paths[::step])
    text = json.dumps(report, indent=1)
    if args.out:
        args.out.write_text(text + "\n")
    print(text)


if __name__ == "__main__":
    main()
