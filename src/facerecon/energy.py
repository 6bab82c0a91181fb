"""The settings of the energy that refines a surface, Eq. (14)."""

from dataclasses import dataclass


@dataclass(frozen=True)
class EnergyConfig:
    """Weights of the terms, the light, and which brightness counts as shading."""

    shading_weight: float = 1.0  # lambda_sh of Eq. (14)
    fidelity_weight: float = 5e-3  # lambda_f
    smoothness_weight: float = 1.0  # lambda_sm
    light_order: int = 2  # spherical harmonics of Eq. (9); the paper's 1 explains lamps less well
    detail_radius: float = 0.015  # of the crop; slower changes of brightness are light, not shape
    detail_limit: float = 0.08  # intensity; larger leftovers are taken for albedo or highlights
    edge_contrast: float = 0.05  # relative; nearer to the coarse face's own edges: misalignment
