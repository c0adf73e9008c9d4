"""`python -m firstlib.cli`, for launchers such as accelerate."""

from firstlib.cli.commands import main

main()
