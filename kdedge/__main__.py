"""``python -m kdedge``."""

from kdedge.cli import main

if __name__ == "__main__":
    main()
