"""`python -m facerecon` is the same as the command `facerecon`."""

import sys

from facerecon.cli import main

sys.exit(main())
