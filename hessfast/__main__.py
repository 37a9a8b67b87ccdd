"""``python -m hessfast``, also under ``torchrun -m hessfast``."""

from hessfast.cli import main

main()
