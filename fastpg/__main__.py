"""``python -m fastpg`` is ``fastpg``."""

from fastpg.cli import main

main()
