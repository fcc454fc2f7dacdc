"""``python -m retgen``: the command line."""

from retgen.cli import main

if __name__ == "__main__":
    main()
