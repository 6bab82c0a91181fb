"""Checks that turn an argument of wrong shape or kind into a readable error."""

from numbers import Real

from torch import SymInt, Tensor


def require_shape(name: str, value: Tensor, *shape: int | SymInt | None) -> None:
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


def require_whole(name: str, value: object, least: int = 1) -> int:
    """The value as an int; 200.0 is 200, too.

    Raises:
        ValueError: no whole number, or less than `least`; naming the argument and what came.
    """
    whole = isinstance(value, Real) and not isinstance(value, bool) and value % 1 == 0
    if not whole or value < least:
        raise ValueError(f"{name} must be a whole number of at least {least}, got {value!r}")
    return int(value)
