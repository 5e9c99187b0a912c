"""``python -m napari_medseg`` is the command ``napari-medseg``."""

import sys

from napari_medseg.cli import main

if __name__ == "__main__":
    sys.exit(main())
