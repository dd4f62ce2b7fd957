"""`mwl serve` and `mwl demo`: run the provider."""

from __future__ import annotations

import argparse
import socket
import sys
import tempfile
from datetime import date
from pathlib import Path
from typing import Final

from .. import logs
from ..config import Config, from_table
from ..server import Running, ready_line, run
from ..store import Put, Store
from .options import add_config, load_config

__all__ = ["ARGUMENTS"]

DEMO_HTTP_PORT: Final = 8080


def _add_logging(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("-v", "--verbose", action="store_true", help="log every PDU; may log patient data")
    parser.add_argument("--log-json", action="store_true", help="log one JSON object a line")


# --- serve --------------------------------------------------------------------------------------------------------


def _serve_arguments(parser: argparse.ArgumentParser) -> None:
    add_config(parser)
    _add_logging(parser)
    parser.set_defaults(run=run_serve)


def run_serve(options: argparse.Namespace) -> int:
    """Serve until SIGTERM or SIGINT; SIGHUP reads the configuration again."""
    config = load_config(options)
    logs.set_up(sys.stderr, verbose=options.verbose, as_json=options.log_json)
    run(config, options.config, lambda provider: print(ready_line(provider), flush=True))
    return 0


# --- demo ---------------------------------------------------------------------------------------------------------


def _demo_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--entries", type=_count, default=200, metavar="N", help="sample entries (default: %(default)s)"
    )
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: %(default)s)")
    parser.add_argument("--port", type=int, default=11112, help="DICOM port, 0 for any (default: %(default)s)")
    parser.add_argument(
        "--http-port",
        type=int,
        metavar="PORT",
        help=f"HTTP port, 0 for any (default: {DEMO_HTTP_PORT}, or any if that is taken)",
    )
    _add_logging(parser)
    parser.set_defaults(run=run_demo)


def _count(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is no number of entries")
    return int(text)


def run_demo(options: argparse.Namespace) -> int:
    """Serve a generated worklist from a temporary store, to whoever calls."""
    from ..demo import sample_entries

    logs.set_up(sys.stderr, verbose=options.verbose, as_json=options.log_json)
    with tempfile.TemporaryDirectory(prefix="mwl-demo-") as folder:
        http_port = _free_http_port() if options.http_port is None else options.http_port
        config = demo_config(Path(folder), options.host, options.port, http_port)
        store = Store(config.store.path)
        store.commit_now([Put(entry) for entry in sample_entries(options.entries, date.today())], "demo")
        store.close()
        run(config, None, _announce)
    return 0


def _free_http_port() -> int:
    """Take the usual port, or any other if another program has it."""
    try:
        socket.create_server(("127.0.0.1", DEMO_HTTP_PORT)).close()
    except OSError as exc:
        print(f"HTTP port {DEMO_HTTP_PORT} cannot be used, another one is taken: {exc.strerror}", flush=True)
        return 0
    return DEMO_HTTP_PORT


def demo_config(folder: Path, host: str, port: int, http_port: int) -> Config:
    """Make the configuration of a demo: any caller, any number of associations, names of every alphabet."""
    return from_table(
        {
            "dicom": {"host": host, "port": port, "check_hosts": False},
            "http": {"host": "127.0.0.1", "port": http_port},
            "ae": [{"title": "WORKLIST", "max_associations": 0, "character_set": "ISO_IR 192"}],
        },
        base=folder,
    )


def _announce(provider: Running) -> None:
    host, _, port = provider.addresses["dicom"].rpartition(":")
    http = provider.addresses["http"]
    command = Path(sys.argv[0])
    mwl = f"{sys.executable} -m mwl" if command.stem != "mwl" else sys.argv[0]
    print(
        f"""A worklist of {len(provider.worklist):,} invented entries, AE title WORKLIST, at {host}:{port}.
To look at: http://{http}/
Any caller is welcome.  Type in another terminal:

  {mwl} find WORKLIST@{host}:{port} -k Modality=CT
  curl "http://{http}/mwlitems?Modality=CT&limit=1"

or, with DCMTK installed:

  echoscu -v -aec WORKLIST {host} {port}
  findscu -W -aec WORKLIST -k "ScheduledProcedureStepSequence[0].Modality=CT" -k PatientName {host} {port}

Ctrl-C ends it.
""",
        flush=True,
    )
    print(ready_line(provider), flush=True)


ARGUMENTS: Final = {"serve": _serve_arguments, "demo": _demo_arguments}
