"""``python -m featurewise``."""

from featurewise.cli import main

if __name__ == "__main__":
    main()
