"""`python -m neuronscope` is the command `neuronscope`."""

from neuronscope.cli import main

if __name__ == "__main__":
    main()
