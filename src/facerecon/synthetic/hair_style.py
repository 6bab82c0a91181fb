"""Random hair styles, hats and scarves."""

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from facerecon.synthetic.config import HairConfig
from facerecon.synthetic.sampling import Sampler

N_WAVES = 12
"""Waves that make the outline of hair uneven."""


class Style(NamedTuple):
    """One batch of hair styles; (B, 1) unless said otherwise, lengths in mm, angles in rad."""

    covered: Tensor  # (B, 1) bool: hair or hat at all
    hat: Tensor  # (B, 1) bool
    front: Tensor  # height of the hairline above the forehead
    fringe: Tensor  # (B, 1) bool: front hair hangs over the forehead, else it rises from the scalp
    recess: Tensor  # by which the hairline rises beside its middle; < 0: it falls
    part: Tensor  # the hairline's slant
    side: Tensor  # lowest hair at the temples
    back: Tensor  # lowest hair behind the ears
    temple: Tensor  # angle from the front at which side hair begins
    thickness: Tensor
    lumps: Tensor  # (B, waves)
    hang: Tensor  # 1: hair falls straight down, 0: follows the head
    pole: Tensor  # (B, 3) unit vector: where on the skull the strands come from
    color: Tensor  # (B, C)
    density: Tensor  # cover of the full hair: less where the scalp shines through
    softness: Tensor  # mm over which the hairline fades in
    fray: Tensor  # mm by which its strands stick out
    contrast: Tensor
    gloss: Tensor
    table: Tensor  # (B,) which strands


def sample_style(
    config: HairConfig,
    eyes: float,
    hair_color: Float[Tensor, "batch channels"],
    generator: torch.Generator,
) -> Style:
    """One style for every face.

    Args:
        eyes: height of the mean face's eyes, mm. hair_color: that of the brows, a little lighter.
    """
    sampler = Sampler(len(hair_color), generator)
    long, fringe = sampler.chance(config.p_long, 1), sampler.chance(config.p_fringe, 1)
    hat, scarf = sampler.chance(config.p_hat, 1), sampler.chance(config.p_scarf, 1)
    cropped, tied = ~long & sampler.chance(config.p_cropped, 1), sampler.chance(config.p_tied, 1)
    receding = ~long & sampler.chance(config.p_receding, 1)
    long, fringe = (long & ~tied) | scarf, fringe & ~cropped & ~receding
    hat = hat | scarf
    hairline, bangs = sampler.uniform(*config.hairline, 1), sampler.uniform(*config.fringe, 1)
    hairline = hairline + receding * sampler.uniform(14, 45, 1)
    front = eyes + torch.where(fringe, bangs, hairline)
    falling = sampler.uniform(*config.long_end, 1)
    side = torch.where(long, falling, sampler.uniform(*config.short_end, 1))
    back = torch.where(long, falling + sampler.uniform(-20, 20, 1), sampler.uniform(-70, -40, 1))
    brim = eyes + sampler.uniform(24, 52, 1)
    front = torch.where(hat, brim, front)
    side = torch.where(hat & ~scarf, brim - 22, side)
    back = torch.where(hat & ~scarf, brim - 45, back)
    channels = hair_color.shape[1]
    cloth = sampler.uniform(0.03, 0.7, 1) * (0.6 + 0.4 * sampler.uniform(0, 1, channels))
    thick = sampler.uniform(0, 1, 1) ** 1.5 * (config.thickness[1] - config.thickness[0])
    thick = torch.where(cropped | tied, 0.2 * thick, thick) + config.thickness[0]
    contrast = sampler.uniform(*config.strand_contrast, 1)
    whole = torch.ones_like(thick)
    density = torch.where(cropped, sampler.uniform(0.6, 0.97, 1), whole)
    density = torch.where(receding, density * sampler.uniform(0.75, 1, 1), density)
    softness = sampler.uniform(2.5, 6, 1)
    # Four kinds of strands, two tables each; hair pulled back is straight or wavy.
    kind = sampler.uniform(0, 1, 1)
    kind = torch.where(kind < config.p_curly, 3, torch.where(kind > 0.65, 1, 2))
    kind = torch.where(cropped & (kind < 3), 0, kind)
    kind = torch.where(tied, kind.clamp(max=2), kind)
    return Style(
        covered=~sampler.chance(config.p_bald, 1) | hat,
        hat=hat,
        front=front,
        fringe=fringe | hat,
        recess=(sampler.uniform(*config.recess, 1) + 8 * receding) * ~hat,
        part=sampler.uniform(*config.part, 1)
        * torch.where(hat, 0.3, torch.where(fringe, 2.0, 1.0)),
        side=side,
        back=back,
        temple=torch.deg2rad(sampler.uniform(*config.temple, 1)) - 0.3 * long,
        thickness=torch.where(hat, 7 + 0.2 * thick, torch.where(fringe, 0.5 * thick, thick)),
        lumps=sampler.normal(N_WAVES) * torch.where(hat, 0.3, 1.0),
        hang=torch.where(long, sampler.uniform(0.7, 1.15, 1), sampler.uniform(0.0, 0.3, 1)),
        pole=_pole(sampler, fringe | cropped, tied),
        color=torch.where(hat, cloth, hair_color),
        density=torch.where(hat, whole, density),
        softness=torch.where(hat, 1.0, torch.where(cropped, softness + 3, softness)),
        fray=torch.where(hat, 0.3, torch.where(fringe, 4.5, torch.where(long, 3.0, 1.8))),
        contrast=contrast * torch.where(hat, 0.3, torch.where(cropped, 0.6, 1.0)),
        gloss=sampler.uniform(*config.gloss, 1) * ~hat * ~cropped,
        table=(2 * kind + sampler.chance(0.5, 1))[:, 0],
    )


def _pole(sampler: Sampler, forward: Tensor, back: Tensor) -> Float[Tensor, "batch 3"]:
    """Whorl at the crown (hair combed forward), side or middle parting, or combed back."""
    away = torch.pi + sampler.uniform(-1, 1, 1)
    azimuth = torch.where(forward, away, sampler.uniform(-0.7, 0.7, 1))
    height = torch.where(forward, sampler.uniform(0.8, 1.3, 1), sampler.uniform(0.75, 1.25, 1))
    height = torch.where(back & ~forward, sampler.uniform(0.3, 0.7, 1), height)
    flat = height.cos()
    return torch.cat([flat * azimuth.sin(), height.sin(), flat * azimuth.cos()], 1)
