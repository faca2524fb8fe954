"""The start of the command `i2srm`: its help needs no import of modeling_i2srm, which takes seconds."""

import sys
from importlib.util import find_spec, module_from_spec, spec_from_file_location
from pathlib import Path


def main() -> None:
    """Run modeling_i2srm/cli/command.py, which imports the package when a subcommand needs it."""
    package = find_spec("modeling_i2srm")
    if package is None or package.origin is None:
        sys.exit("i2srm: modeling_i2srm is not installed: pip install modeling-i2srm")
    spec = spec_from_file_location("i2srm_subcommands", Path(package.origin).parent / "cli" / "command.py")
    assert spec is not None and spec.loader is not None  # of a .py file
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    module.main()


if __name__ == "__main__":
    main()
