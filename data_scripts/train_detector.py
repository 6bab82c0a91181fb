"""Train the face detector: `train_detector.py PHOTOS --out detector.safetensors`.

Scenes come from the synthetic world, which knows its boxes, and from the photographs on which two
Viola-Jones cascades agree. See README.md in this folder.
"""

import argparse
import math
import time
from dataclasses import asdict, replace
from pathlib import Path

import cascades
import cv2
import numpy as np
import torch
from canvases import CanvasConfig, CanvasMaker, Scene, detection_loss

from facerecon.camera import POSE_UNITS
from facerecon.detection.box import CROP_MARGIN
from facerecon.detection.network import DetectionNet, DetectionNetConfig, load_detector
from facerecon.imaging import list_images, load_image, to_bytes, to_grey
from facerecon.morphable_model import MorphableModel
from facerecon.synthetic.config import SyntheticConfig
from facerecon.synthetic.world import SyntheticWorld
from facerecon.weights import ModelCard, commit, lineage, save_weights, write_card

SCENE = 128  # pixels
LARGEST_FACE = 90.0  # pixels of the largest box in a photograph, which is shrunk to that
MIN_SUPPORT = 15  # windows of both cascades together
LEARNING_RATE, PLACE_WEIGHT, EMA = 3e-3, 0.5, 0.995


def world_config() -> SyntheticConfig:
    """The synthetic world from further away, with heads turned further and hidden more often."""
    base = SyntheticConfig()
    return replace(
        base,
        size=SCENE,
        detail=replace(base.detail, wrinkles=False, texture=False),  # finer than these pixels
        pose=replace(
            base.pose,
            p_frontal=0.4,
            yaw_limit=1.5,
            pitch_std=0.3,
            pitch_limit=0.7,
            roll_std=0.25,
            roll_limit=0.7,
            shift_std=0.12,
            shift_limit=0.3,
            log_scale_mean=-0.55,
            log_scale_std=0.2,
            log_scale_limit=1.1,
        ),
        skin=replace(base.skin, p_glasses=0.2, p_sunglasses=0.3),
        hair=replace(base.hair, p_hat=0.12),
        scene=replace(base.scene, p_occluder=0.15),
    )


@torch.no_grad()
def render_scenes(count: int, seed: int) -> list[Scene]:
    """Synthetic scenes of one face each."""
    world = SyntheticWorld(MorphableModel.default(), world_config())
    generator, sure = world.generator(seed), np.ones(1, dtype=bool)
    scenes = []
    while len(scenes) < count:
        faces = world.render(64, generator)
        pose = faces.r[:, -6:].double() * POSE_UNITS
        column, row = SCENE * (0.5 + pose[:, 3]), SCENE * (0.5 - pose[:, 4])
        width = SCENE / CROP_MARGIN * pose[:, 5].exp()
        images = to_bytes(faces.image[:, 0].numpy())
        boxes = torch.stack([column, row, width], 1).numpy()
        scenes += [Scene(i, b[None], sure) for i, b in zip(images, boxes, strict=True)]
        print(f"\rscenes: {len(scenes)} of {count}", end="", flush=True)
    print()
    return scenes[:count]


def photographed_scene(path: Path) -> Scene | None:
    """A photograph whose faces two cascades agree on; what only one sees is left open."""
    grey = to_bytes(to_grey(load_image(path)))
    agreed = [box for box in cascades.agreed(grey) if box.score >= MIN_SUPPORT]
    if not agreed:
        return None
    single = [box for cascade in cascades.FRONTAL for box in cascades.found(grey, cascade)]
    open_ = [b for b in single if all(b.overlap(a) < 0.3 for a in agreed)]
    factor = min(1.0, LARGEST_FACE / max(box.width for box in agreed))
    boxes = [[b.x + b.width / 2, b.y + b.height / 2, b.width] for b in agreed + open_]
    sure = np.arange(len(boxes)) < len(agreed)
    grey = cv2.resize(grey, None, fx=factor, fy=factor, interpolation=cv2.INTER_AREA)
    return Scene(grey, factor * np.array(boxes), sure)


def save_scenes(path: Path, **pools: list[Scene]) -> None:
    """Keep scenes, which take longer to make than the training, in one file."""
    arrays = {
        f"{pool}/{number}/{name}": array
        for pool, scenes in pools.items()
        for number, scene in enumerate(scenes)
        for name, array in scene._asdict().items()
    }
    np.savez(path, **arrays)


def read_scenes(path: Path, pool: str) -> list[Scene]:
    """The scenes of one pool of such a file."""
    with np.load(path) as file:
        count = len({key.split("/")[1] for key in file.files if key.startswith(f"{pool}/")})
        return [
            Scene(*(file[f"{pool}/{number}/{name}"] for name in Scene._fields))
            for number in range(count)
        ]


def train(maker: CanvasMaker, network: DetectionNet, steps: int, batch: int) -> dict[str, float]:
    """Train in place; the network ends with averaged weights. Returns the last losses."""
    network.to(memory_format=torch.channels_last).train()
    optimizer = torch.optim.AdamW(network.parameters(), lr=LEARNING_RATE, weight_decay=1e-4)
    average = {name: value.clone() for name, value in network.state_dict().items()}
    mirrored = torch.tensor([-1.0, 1.0, 1.0]).view(1, 3, 1, 1)
    losses = []
    for step in range(steps):
        rate = (
            LEARNING_RATE * min(1, (step + 1) / 100) * 0.5 * (1 + math.cos(math.pi * step / steps))
        )
        for group in optimizer.param_groups:
            group["lr"] = rate
        if step % 2 == 0:
            image, label, place = maker.batch(batch)
        else:  # a canvas costs as much as a step, so each is used in the mirror, too
            image, label, place = image.flip(3), label.flip(3), place.flip(3) * mirrored
        face, where = detection_loss(network(image), label, place)
        optimizer.zero_grad()
        (face + PLACE_WEIGHT * where).backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 5.0)
        optimizer.step()
        decay = min(EMA, step / (step + 20))
        for name, value in network.state_dict().items():
            if value.is_floating_point():
                average[name].lerp_(value, 1 - decay)
            else:
                average[name].copy_(value)
        losses.append((face.item(), where.item()))
        if step % 100 == 99:
            recent = np.mean(losses[-100:], axis=0)
            print(
                f"step {step + 1} of {steps}: face {recent[0]:.3f}, place {recent[1]:.3f}",
                flush=True,
            )
    network.load_state_dict(average)
    network.eval()
    face, where = np.mean(losses[-100:], axis=0)
    return {"face loss": float(face), "place loss": float(where)}


def main() -> None:
    """Render, train, write weights and card."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "photos", type=Path, nargs="*", help="folders or files; none: synthetic only"
    )
    parser.add_argument(
        "--even", action="store_true", help="only files with an even number as name"
    )
    parser.add_argument("--licence", default="", help="of the photographs, for the card")
    parser.add_argument("--out", type=Path, required=True, help="weights to write, .safetensors")
    parser.add_argument("--scenes", type=int, default=8192)
    parser.add_argument("--steps", type=int, default=3000)
    parser.add_argument("--batch", type=int, default=48)
    parser.add_argument("--cache", type=Path, help="keeps the scenes, .npz; read if it is there")
    parser.add_argument("--start", type=Path, help="weights to go on from, .safetensors")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    start = time.monotonic()
    torch.manual_seed(arguments.seed)
    if arguments.cache and arguments.cache.is_file():
        scenes = read_scenes(arguments.cache, "scenes")
        photographs = read_scenes(arguments.cache, "photographs")
    else:
        paths = list_images(arguments.photos) if arguments.photos else []
        if arguments.even:
            paths = [p for p in paths if p.stem.isdigit() and int(p.stem) % 2 == 0]
        photographs = [scene for scene in map(photographed_scene, paths) if scene]
        scenes = render_scenes(arguments.scenes, arguments.seed)
        if arguments.cache:
            save_scenes(arguments.cache, scenes=scenes, photographs=photographs)
    config = CanvasConfig()
    if arguments.start:
        network = load_detector(arguments.start).requires_grad_(True)
    else:
        network = DetectionNet(DetectionNetConfig())
    maker = CanvasMaker(scenes, photographs, config, arguments.seed)
    metrics = train(maker, network, arguments.steps, arguments.batch)
    kind = f"{len(photographs)} photographs ({arguments.licence or 'licence not given'})"
    card = ModelCard(
        task="detector",
        preset="",
        data=f"{len(scenes)} synthetic scenes" + (f" and {kind}" if photographs else ""),
        samples=arguments.steps * arguments.batch,
        seed=arguments.seed,
        hours=round((time.monotonic() - start) / 3600, 3),
        commit=commit(),
        config={"network": asdict(network.config), "canvas": asdict(config)},
        metrics=metrics,
        command="python data_scripts/train_detector.py",
        **({"started_from": lineage(arguments.start)} if arguments.start else {}),
    )
    save_weights(arguments.out, network, card)
    print(f"wrote {arguments.out} and {write_card(arguments.out)}")


if __name__ == "__main__":
    main()
