"""`neuronscope`, and `python -m neuronscope`."""

from neuronscope.cli.signals import leaving_on_signals


def main() -> None:
    """Run the command line; the console script `neuronscope`."""
    with leaving_on_signals():  # importing takes a moment, too
        from neuronscope.cli.main import main as command_line

        command_line()


if __name__ == "__main__":
    main()
