"""Boxes of faces in a photograph, and the selection among overlapping ones."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from facerecon.messages import one_line

CROP_MARGIN = 1.2
"""Side of the crop over that of the detector's box; 1.2 times 178 mm are 214 mm of a mean head."""


@dataclass(frozen=True)
class Box:
    """A face: left, top, width and height in pixels, counted from the image's left top corner.

    The score is the confidence of the detector; larger is better.
    """

    x: float
    y: float
    width: float
    height: float
    score: float = 0.0

    @classmethod
    def of(cls, numbers: "Box | Sequence[float]") -> "Box":
        """A box from x, y, width and height.

        Raises:
            ValueError: not four finite numbers, or width or height is not positive.
        """
        score = 0.0
        if isinstance(numbers, Box):
            numbers, score = (numbers.x, numbers.y, numbers.width, numbers.height), numbers.score
        try:
            x, y, width, height = map(float, numbers)
        except (TypeError, ValueError):
            x = y = width = height = math.nan
        if not (math.isfinite(x + y + width + height) and width > 0 and height > 0):
            raise ValueError(
                f"box {one_line(str(numbers))}: expected four finite numbers, x, y, width and"
                " height in pixels, the last two above 0"
            )
        return cls(x, y, width, height, score)

    def crop_box(self) -> tuple[float, float, float, float]:
        """The square (x, y, side, side) with the same center that the networks see."""
        side = CROP_MARGIN * max(self.width, self.height)
        return self.x + (self.width - side) / 2, self.y + (self.height - side) / 2, side, side

    def overlap(self, other: "Box") -> float:
        """Intersection over union, 0 to 1."""
        width = min(self.x + self.width, other.x + other.width) - max(self.x, other.x)
        if width <= 0:  # most pairs in a crowd
            return 0.0
        height = min(self.y + self.height, other.y + other.height) - max(self.y, other.y)
        shared = width * max(height, 0.0)
        return shared / (self.width * self.height + other.width * other.height - shared)

    def holds_center_of(self, other: "Box") -> bool:
        """Whether the middle of another box lies in this one."""
        x, y = other.x + other.width / 2, other.y + other.height / 2
        return self.x < x < self.x + self.width and self.y < y < self.y + self.height


def clash(box: Box, better: Box, most_overlap: float = 0.3) -> bool:
    """Whether two boxes cannot both be faces: they overlap, or one has its middle in the other."""
    inside = better.holds_center_of(box) or box.holds_center_of(better)
    return inside or box.overlap(better) > most_overlap


def distinct(boxes: list[Box], most_overlap: float = 0.3) -> list[Box]:
    """The best boxes that do not overlap, best first; one within a much larger one may stay."""
    kept: list[Box] = []
    for box in sorted(boxes, key=lambda box: -box.score):
        if not any(box.overlap(k) > most_overlap for k in kept):
            kept.append(box)
    return kept


def averaged(box: Box, boxes: list[Box]) -> Box:
    """Where all boxes that nearly agree with a box lie, on average by squared score (above 0)."""
    near = [b for b in boxes if b.overlap(box) > 0.5]
    total = sum(b.score**2 for b in near)
    x, y, width, height = (
        sum(getattr(b, name) * b.score**2 for b in near) / total
        for name in ("x", "y", "width", "height")
    )
    return Box(x, y, width, height, box.score)
