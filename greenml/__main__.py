"""`python -m greenml`: the same front door as the `greenml` command."""

from greenml.cli import main

if __name__ == "__main__":
    main()
