#!/usr/bin/env python3
"""A day of the archive as a data frame: `chronicle export --as arrow` into Polars, or into pandas by way of pyarrow.

In a notebook, with the command `chronicle` on the path:

    from notebook import read
    trades = read("market", "binance-spot", "btcusdt", "2024-08-08", "trades")
    books = read("market", "binance-spot", "btcusdt", "2024-08-08..2024-08-09", "books", "--every", "1s", "--depth", "5")
    books = books.filter(books["valid"])          # where ids are missing the book is not known
    frame = read("market", "binance-spot", "btcusdt", "2024-08-08", "quotes", pandas=True)

Or behind a pipe:

    chronicle export --root market --venue binance-spot --symbol btcusdt --date 2024-08-08 --as arrow --what trades - \\
        | python3 docs/notebook.py [--pandas]

Times are UTC with nanoseconds. Prices and quantities are exact decimals; `.cast(polars.Float64)`, or in pandas
`.astype(float)`, makes them floats where that is what you want. The columns of each table: docs/replay.md.
"""
import subprocess
import sys


def read(root, venue, symbol, date, what="books", *options, command="chronicle", pandas=False):
    """One table of a symbol over a day, or a range of days `A..B`. A failure of the command is an exception: what it
    gave out before is right, and not all."""
    arguments = [command, "export", "--root", root, "--venue", venue, "--symbol", symbol, "--date", date]
    arguments += ["--as", "arrow", "--what", what, *options, "-"]
    with subprocess.Popen(arguments, stdout=subprocess.PIPE) as process:
        try:
            frame = from_stream(process.stdout, pandas)
        finally:
            # Without a stream there is nothing to read, and the command has said why.
            process.stdout.close()
            if process.wait() != 0:
                raise RuntimeError(f"{' '.join(arguments)}: exit code {process.returncode}")
    return frame


def from_stream(stream, pandas=False):
    """An Arrow IPC stream as a frame."""
    if pandas:
        import pyarrow

        return pyarrow.ipc.open_stream(stream).read_pandas()
    import polars

    return polars.read_ipc_stream(stream)


if __name__ == "__main__":
    print(from_stream(sys.stdin.buffer, "--pandas" in sys.argv[1:]))
