"""``outlast``: what people and scripts type.

Rules kept here: every command takes --json and prints one JSON document with it; exit codes are those of ``--help``; an
error is one line on standard error that says what is wrong and the mend; no traceback.

Left to others: the orders themselves (outlast.cli.commands), talking to the node (outlast.cli.talk).
"""

from __future__ import annotations

import sys

import click
import msgspec

from outlast.errors import BadInput, ConfigError, GatewayError, KeyFileError, OutlastError, PeerError

__all__ = ["main"]


def main() -> None:
    """Run the command line and exit."""
    from outlast.cli.commands import outlast
    from outlast.cli.show import plain
    from outlast.cli.talk import NotRunning

    as_json = "--json" in sys.argv[1:]
    code = 0
    error: OutlastError | None = None
    try:
        code = outlast.main(standalone_mode=False) or 0
    except click.exceptions.Exit as stop:
        code = stop.exit_code
    except click.exceptions.Abort:
        code = 130
    except KeyboardInterrupt:
        code = 130
    except click.exceptions.NoArgsIsHelpError as wrong:
        context = wrong.ctx or click.get_current_context()
        names = (
            ", ".join(context.command.list_commands(context)) if isinstance(context.command, click.Group) else "more"
        )
        code, error = 2, BadInput("usage", "a command is missing", f"one of {names}: see {context.command_path} --help")
    except click.UsageError as wrong:
        usage = wrong.ctx.command_path if wrong.ctx else "outlast"
        code, error = 2, BadInput("usage", wrong.format_message().rstrip("."), f"see {usage} --help")
    except (ConfigError, KeyFileError) as wrong:
        code, error = 78, wrong
    except BadInput as wrong:
        code, error = 2, wrong
    except (NotRunning, PeerError) as wrong:
        code, error = 3, wrong
    except GatewayError as wrong:
        code, error = 3 if wrong.kind == "away" else 1, wrong
    except OutlastError as wrong:
        code, error = 1, wrong
    except BrokenPipeError:
        # Whoever read our output has seen enough (head, a pager).
        sys.stderr.close()
        code = 0
    except OSError as wrong:
        code, error = 1, OutlastError(f"{wrong.filename or 'outlast'}: {wrong.strerror or wrong}")
    except Exception as wrong:  # noqa: BLE001 (the last line of defence: a person sees one line)
        code, error = 1, OutlastError(f"a defect in outlast itself: {wrong!r}")
    if error is not None:
        print(plain(f"outlast: {error}"), file=sys.stderr)
        if as_json:
            print(msgspec.json.encode(_fields(error)).decode())
    sys.exit(code)


def _fields(error: OutlastError) -> dict[str, str]:
    if isinstance(error, BadInput | GatewayError):
        return {"error": str(error), "field": error.field, "wrong": error.wrong, "mend": error.mend}
    return {"error": str(error)}
