"""``python -m featurewise.cli`` with a further folder of systems.

Run as ``started.py FOLDER ARGUMENTS...``; its workers are started in the same way.
"""

import importlib
import sys

import featurewise.systems
from featurewise.cli import main

if __name__ == "__main__":
    folder = sys.argv.pop(1)
    featurewise.systems.__path__.append(folder)
    importlib.import_module("featurewise.cli.run").COMMAND = (sys.executable, __file__, folder)
    main()
