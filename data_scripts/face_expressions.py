"""The 84 expression units: names, partners, groups and how common each is."""

import re

import numpy as np
from face_population import reflect

# The model has no tongue; mouthClose only makes sense with an open jaw.
NOT_USED = ("tongueOut", "mouthClose")
# Units of one group do not occur together. The first pattern that matches a name decides.
GROUPS = (
    ("neck", r"^neck"),
    ("gaze", r"^eyeLook"),
    ("brows", r"^brow|^eyebrows"),
    ("lids", r"^eye"),
    ("cheeks", r"^cheek"),
    ("nose", r"^nose"),
    ("upper lip", r"UpperUp|RollUpper|ShrugUpper|mouth-elevation|mouth-upward"),
    ("lower lip", r"LowerDown|RollLower|ShrugLower|mouth-depression|mouth-retraction"),
    ("jaw", r"^jaw|^mouth-open|^mouth-part-later|^mouth-parling"),
    ("mouth", r"^mouth"),
)
COMMON = {
    r"^jawOpen$": 10.0, r"^mouthSmile": 10.0, r"^eyeBlink": 8.0,
    r"^browInnerUp$": 5.0, r"^browDown": 5.0, r"^mouthLowerDown": 5.0, r"^mouthUpperUp": 5.0,
    r"^eyeSquint": 4.0, r"^browOuterUp": 3.0, r"^eyeLook": 3.0, r"^mouthFrown": 3.0,
    r"^mouthPucker$": 3.0, r"^mouthStretch": 3.0, r"^cheekSquint": 3.0, r"^noseSneer": 3.0,
    r"^eyeWide": 3.0, r"^mouth-corner-puller$": 3.0,
}  # fmt: skip


def _other_side(name: str) -> str:
    swap = {"Left": "Right", "Right": "Left", "left": "right", "right": "left"}
    return re.sub("Left|Right|left|right", lambda match: swap[match[0]], name)


def mirrored_name(name: str, names: list[str]) -> str:
    """The unit that is the mirror image of this one; the unit itself if it is symmetric."""
    return _other_side(name) if _other_side(name) in names else name


def partner(name: str, names: list[str]) -> str:
    """The unit that usually goes with this one: its other side, or the other eye's same gaze."""
    if name.startswith(("eyeLookIn", "eyeLookOut")):
        swap = {"In": "Out", "Out": "In"}
        return re.sub("In|Out", lambda match: swap[match[0]], _other_side(name))
    if name in ("jawLeft", "jawRight", "mouthLeft", "mouthRight"):
        return name  # these exclude each other
    return mirrored_name(name, names)


def group(name: str) -> int:
    """Index into GROUPS."""
    return next(i for i, (_, pattern) in enumerate(GROUPS) if re.search(pattern, name))


def frequency(name: str) -> float:
    """Relative frequency of a unit."""
    return next((f for pattern, f in COMMON.items() if re.search(pattern, name)), 1.0)


def symmetric_units(units: dict[str, np.ndarray], mirror: np.ndarray) -> dict[str, np.ndarray]:
    """Average every unit (v, 3) with its mirror image's reflection: the sides agree exactly."""
    names = list(units)
    return {
        name: (units[name] + reflect(units[mirrored_name(name, names)], mirror)) / 2
        for name in names
        if name not in NOT_USED
    }
