"""The ``kdedge`` command: every body parses, calls the library and prints.

Nothing heavy is imported before a command is chosen, and ``classify`` never loads torch or onnx.
"""

import sys

__all__ = ["main"]


def main() -> None:
    """Entry point of the console script. Exit codes: 0 done, 1 a fault of kdedge, 2 a mistake in what was given."""
    from kdedge.cli.app import app
    from kdedge.errors import KdedgeError

    try:
        app(standalone_mode=True)
    except KdedgeError as error:
        if "--debug" in sys.argv:
            raise
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    except OSError as error:
        if "--debug" in sys.argv or error.filename is None:
            raise
        print(f"error: {error.filename}: {error.strerror}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:  # while the commands are loaded
        print("interrupted", file=sys.stderr)
        sys.exit(130)
    except SystemExit as end:
        if end.code in (130, 143):  # what typer makes of Ctrl-C, and SIGTERM, without a word
            print("interrupted", file=sys.stderr)
        raise
