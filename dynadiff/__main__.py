"""`python -m dynadiff`, which is what `accelerate launch -m dynadiff` starts."""

from dynadiff.cli.main import main

if __name__ == "__main__":
    main()
