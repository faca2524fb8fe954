"""`python -m modeling_i2srm` is the command `i2srm`."""

from .cli.command import main

if __name__ == "__main__":
    main()
