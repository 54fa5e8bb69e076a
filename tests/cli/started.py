"""The command line as `python -m featurewise.cli` starts it, with more systems to be found.

Run as ``started.py FOLDER WORDS...``; its workers are started in the same way.
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
