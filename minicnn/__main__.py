"""``python -m minicnn`` is the console command ``minicnn``."""

import sys

from .cli import main

sys.exit(main())
