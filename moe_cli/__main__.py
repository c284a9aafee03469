"""`python -m moe_cli` is `moe`."""

from moe_cli.cli.app import main

if __name__ == "__main__":
    main()
