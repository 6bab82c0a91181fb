"""One check that turns an argument of wrong shape into a readable error."""

from torch import Tensor


def require_shape(name: str, value: Tensor, *shape: int | None) -> None:
    """Raise unless `value` has exactly this shape; `None` stands for any length.

    Raises:
        ValueError: naming the argument, what was expected and what came.
    """
    fits = value.ndim == len(shape) and all(
        want is None or want == have for want, have in zip(shape, value.shape, strict=True)
    )
    if not fits:
        expected = ", ".join("any" if length is None else str(length) for length in shape)
        raise ValueError(f"{name} must have shape ({expected}), got {tuple(value.shape)}")
