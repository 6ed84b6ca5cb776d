"""`python -m lami`, which is also what `torchrun -m lami train ...` starts."""

from lami.cli.main import main

if __name__ == "__main__":
    main()
