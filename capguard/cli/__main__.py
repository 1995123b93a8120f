"""`python -m capguard.cli`."""

from capguard.cli import main

if __name__ == "__main__":
    main()
