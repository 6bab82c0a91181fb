"""Messages to the user: one line each, whatever the names and causes in them hold."""

import re

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")


class OneLine(Exception):
    r"""Base of errors and warnings whose message is one line: control characters are escaped.

    A file may be called "a<newline>b.jpg"; its message says `a\nb.jpg`.
    """

    def __init__(self, message: object = "") -> None:
        super().__init__(one_line(str(message)))


def one_line(text: str) -> str:
    r"""The text with its control characters escaped, a line break as `\n`."""
    return _CONTROL.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


def cause_of(error: BaseException, length: int = 200) -> str:
    """What another library says, on one line and cut to a length; its type if it says nothing."""
    return one_line(" ".join(str(error).split()))[:length] or type(error).__name__
