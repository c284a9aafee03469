"""`python -m moe_cli` is `moe`."""

if __name__ == "__main__":
    from moe_cli.signals import listen

    listen()

    from moe_cli.cli.app import main

    main()
