"""Checks of the notebooks' exercises: readable messages for wrong answers, hints on request.

    exercise = Exercise("2.1", "First hint.", "Second hint.")
    exercise.equal(
        "the corner's place", lambda: project(corner), expected,
        mistakes={"You forgot the perspective division.": value_without_it},
    )
    exercise.true(lambda: project(corner).dtype.kind == "f", "The place is not a float.")
    exercise.passed("the depth is all that perspective needs.")

Hand in the student's code as a function without arguments. Then what it raises becomes a readable
message, and an exercise that nobody has solved yet (its body still raises the
`NotImplementedError` of the student version) is reported without an error, so that "Run All"
goes on. What follows in the same cell, `passed` included, is then skipped.
"""

import linecache
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np


class ExerciseError(AssertionError):
    """A wrong answer. Jupyter shows its message alone, without a traceback."""

    def _render_traceback_(self) -> list[str]:
        return [f"\x1b[31m{line}\x1b[0m" for line in str(self).splitlines()]


class Exercise:
    """One exercise and the state of its check.

    Args:
        number: of the chapter and of the exercise, "2.1".
        hints: sentences. A wrong answer shows the first, `hint` the others one by one.

    Attributes:
        solved: whether `passed` has been reached.
    """

    def __init__(self, number: str, *hints: str) -> None:
        self.number, self.solved = number, False
        self._hints = list(hints)
        self._shown = 0
        self._open = False  # not solved yet: skip all other checks

    def equal(
        self,
        name: str,
        answer: Any,
        expected: Any,
        mistakes: Mapping[str, Any] | None = None,
        atol: float = 1e-6,
        rtol: float = 1e-4,
    ) -> Any:
        """Compare a number, array or tensor with what is expected.

        Args:
            name: what is compared, as the message calls it.
            answer: a value, or a function without arguments that computes it.
            expected: from an independent computation.
            mistakes: sentences on wrong answers, and the value that each of them gives.
            atol, rtol: as for `numpy.allclose`.

        Returns:
            The answer; None if the exercise is not solved yet.

        Raises:
            ExerciseError: the answer is wrong, or its computation fails.
        """
        value = self._value(name, answer)
        if self._open:
            return None
        wanted = _array(expected)
        try:
            found = _array(value)
        except (TypeError, ValueError):
            kind = type(value).__name__
            self._fail(f"{name}: a number or an array is expected, your function gave a {kind}.")
        if found.size == wanted.size == 1:
            found, wanted = found.reshape(()), wanted.reshape(())

        def same(a: Any, b: Any) -> bool:
            return np.shape(a) == np.shape(b) and np.allclose(a, b, rtol, atol, equal_nan=True)

        if same(found, wanted):
            return value
        for sentence, wrong in (mistakes or {}).items():
            wrong = _array(wrong)
            if same(found, wrong.reshape(()) if wrong.size == 1 else wrong):
                self._fail(f"{name}: {sentence}")
        suspicion = next(_suspicions(found, wanted, same), "")
        both = _both(found, wanted, atol, rtol)
        both = f"{both[:1].upper()}{both[1:]}" if suspicion else both
        self._fail(f"{name}: {suspicion} {both}".replace("  ", " ").rstrip())

    def true(self, condition: Any, sentence: str) -> None:
        """Ask for a property of the answer.

        Args:
            condition: a truth value, or a function without arguments that computes it.
            sentence: says what is wrong if it is false.

        Raises:
            ExerciseError: it is false, or its computation fails.
        """
        value = self._value("", condition)
        if not self._open and not bool(value):
            self._fail(sentence)

    def passed(self, sentence: str) -> None:
        """Say that the exercise is solved and, in a sentence, what it was worth knowing."""
        if not self._open:
            self.solved = True
            print(f"{self.number} is right: {sentence}")

    def hint(self) -> None:
        """Print the next hint."""
        if self._shown == len(self._hints):
            print(f"There is no other hint for {self.number}.")
            return
        print(self._next_hint())

    def _next_hint(self) -> str:
        self._shown += 1
        return f"Hint {self._shown} of {len(self._hints)}: {self._hints[self._shown - 1]}"

    def _value(self, name: str, answer: Any) -> Any:
        """The value of an answer, which may be a function of the student's."""
        if self._open:
            return None
        if not callable(answer):
            value = answer
        else:
            try:
                value = answer()
            except NotImplementedError as error:
                if error.args:  # of a library
                    self._fail(_what_happened(error))
                self._open = True
                text = f"{self.number} is not solved yet. exercise.hint() prints a hint."
                print(text, file=sys.stderr)
                return None
            except ExerciseError:
                raise
            except Exception as error:
                self._fail(_what_happened(error))
        if value is None:
            what = f"{name}: the answer" if name else "the answer"
            self._fail(f"{what} is None. Does your function end with a return?")
        return value

    def _fail(self, sentence: str) -> None:
        lines = [f"{self.number} is not right yet. {sentence[:1].upper()}{sentence[1:]}"]
        if self._hints:
            self._shown = 0
            lines.append(self._next_hint())
            if len(self._hints) > 1:
                lines.append("exercise.hint() prints the next one.")
        raise ExerciseError("\n".join(lines)) from None


def _array(value: Any) -> np.ndarray:
    """A number, an array, a tensor or a list of these, as an array of numbers.

    Raises:
        TypeError, ValueError: it is none of these.
    """
    if hasattr(value, "detach"):
        value = value.detach().cpu().numpy()
    elif isinstance(value, list | tuple):
        value = [_array(part) for part in value]
    array = np.asarray(value)
    if array.dtype.kind not in "biufc":
        raise TypeError(f"{array.dtype} is no kind of number")
    return array if array.dtype.kind in "fc" else array.astype(float)


def _suspicions(
    found: np.ndarray, wanted: np.ndarray, same: Callable[[Any, Any], bool]
) -> Iterator[str]:
    """What may be wrong with any answer, the likeliest first."""
    if found.shape != wanted.shape:
        text = f"the shape is {found.shape}, expected {wanted.shape}."
        if found.ndim > 1 and found.shape == wanted.shape[::-1]:
            text += " It looks transposed."
        yield text
        return
    lost = ~np.isfinite(found) & np.isfinite(wanted)
    if lost.any():
        share = "" if found.ndim == 0 else f" in {lost.sum()} of {lost.size} places"
        yield f"it is NaN or infinite{share}. Is something divided by zero?"
        return
    if not found.any():
        yield "your function gave zero" + (" everywhere." if found.ndim else ".")
    if same(found, -wanted):
        yield "the sign is flipped."
    if found.ndim > 1 and same(found, wanted.T):
        yield "it is transposed."
    if found.size > 2 and np.isfinite(wanted).all():
        factor = (found * wanted).sum() / (wanted**2).sum() if wanted.any() else 0
        if factor and same(found / factor, wanted):
            yield f"it is {factor:.4g} times what is expected, everywhere: a factor is wrong."
        shift = (found - wanted).mean()
        if same(found - shift, wanted):
            yield f"it is off by {shift:.4g} everywhere: something is added or left out."
        for axis in range(found.ndim):
            if same(np.flip(found, axis), wanted):
                yield f"it is in reverse order along axis {axis}."
        if same(np.sort(found, axis=None), np.sort(wanted, axis=None)):
            yield "the numbers are right, but in another order."


def _both(found: np.ndarray, wanted: np.ndarray, atol: float, rtol: float) -> str:
    """Both numbers, at the place where they differ most."""
    if found.shape != wanted.shape:
        return ""
    with np.errstate(invalid="ignore"):
        error = np.abs(found - wanted) / (atol + rtol * np.abs(wanted) + np.finfo(float).tiny)
    place = np.unravel_index(np.argmax(np.where(np.isnan(error), np.inf, error)), found.shape)
    where = f" at {[int(i) for i in place]}" if found.ndim else ""
    return f"expected about {wanted[place]:.5g}{where}, your function gave {found[place]:.5g}."


def _what_happened(error: Exception) -> str:
    """The error of the student's code, and the line that raised it."""
    frames = traceback.extract_tb(error.__traceback__)
    own = [f for f in frames if f.filename != __file__ and "site-packages" not in f.filename]
    text = f"Your function stopped with {type(error).__name__}: {error}"
    if "NoneType" in str(error):
        text = f"Your function gave None. Does it end with a return? ({error})"
    if own and own[-1].name != "<lambda>":  # that is the check's, not the student's
        last = own[-1]
        line = (linecache.getline(last.filename, last.lineno or 0) or last.line or "").strip()
        text += f"\nin line {last.lineno} of {last.name}" + (f": {line}" if line else "")
    return text
