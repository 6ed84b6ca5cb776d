"""`python -m lami`."""

from lami.cli.main import main

if __name__ == "__main__":
    main()
