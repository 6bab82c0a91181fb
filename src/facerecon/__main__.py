"""`python -m facerecon` is the same as the command `facerecon`."""

import sys

from facerecon.cli import main

if __name__ == "__main__":
    sys.exit(main())
