"""How depth errors are taken: the knobs of the evaluation protocol."""

from dataclasses import dataclass


@dataclass(frozen=True)
class ProtocolConfig:
    """How depth errors are taken (Table 1); docs/evaluation.md gives the reasons."""

    translation: str = (
        "median"  # along z: "median" or "mean" of the differences becomes zero; "none"
    )
    scale: str = "none"  # of the relief: "none"; "size", true over assumed pixel width; "fit"
    rigid: bool = False  # then rotate and translate by ICP and measure between the surfaces
    crop_mm: float | None = None  # only points this near to the tip of the nose
    registration: str = "report"  # of photograph and range: "report" the offset, or "correct" it
    least_offset: float = 2.5  # pixels; a smaller one is within the error of measuring it
    quantile: float = 0.9
    bootstrap: int = 2000  # resamples of the subjects
    confidence: float = 0.95
    seed: int = 0
