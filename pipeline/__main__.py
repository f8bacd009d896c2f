"""python -m pipeline is the nightshoot command."""

from pipeline.cli import main

main()
