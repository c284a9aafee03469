"""The program: `moe`, and `python -m moe_cli`."""

from moe_cli.signals import listen


def main() -> None:
    """Install the signal handlers, then do the slow imports and run the command."""
    listen()
    from moe_cli.cli.app import main as command

    command()


if __name__ == "__main__":
    main()
