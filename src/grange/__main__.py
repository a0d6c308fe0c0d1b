"""`python -m grange` is the `grange` command."""

from grange.cli.main import main

if __name__ == "__main__":
    main()
