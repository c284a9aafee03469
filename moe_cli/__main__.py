"""The program: `moe`, and `python -m moe_cli`."""

from moe_cli.signals import listen


def main() -> None:
    """Listen to signals, then import what takes time and run the command that was typed."""
    listen()
    from moe_cli.cli.app import main as command

    command()


if __name__ == "__main__":
    main()
