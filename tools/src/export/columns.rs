//! Tables for notebooks and query engines: an Arrow stream, or a Parquet file that appears when it is whole.

use super::{Args, Aside, Format};
use crate::{
    book::not_there,
    run::{Count, Failure, Outcome, count_bar, print_json},
};
use chronicle::{System, storage::root::Root};
use chronicle_columnar::{
    ArrowStream, Error, ParquetFile, Request, Scales, Sink, Table, What, arrow_array::RecordBatch,
};
use indicatif::ProgressBar;
use serde_json::json;
use std::{
    io::{self, IsTerminal, Write},
    path::Path,
};

/// More columns than this help nobody, and a row of them is a batch.
const DEPTH_MAX: usize = 1_000;

/// Which table.
#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Of {
    /// Books at regular times, gaps included
    Books,
    /// Every level that changed, and every gap
    Deltas,
    /// Trades
    Trades,
    /// The venue's own best bids and offers
    Quotes,
}

pub(super) fn export(args: &Args, root: &Root) -> Outcome {
    let to_stdout = args.out == Path::new("-");
    if args.what == Of::Books && args.depth > DEPTH_MAX {
        return Err(Failure::Usage(format!("--depth of a table with columns is at most {DEPTH_MAX}")));
    }
    match args.format {
        Format::Parquet if to_stdout => return Err(Failure::Usage("--as parquet needs a FILE".to_owned())),
        _ if to_stdout && args.json => {
            return Err(Failure::Usage("--json tells of a FILE; standard output has the stream".to_owned()));
        }
        _ if to_stdout && io::stdout().is_terminal() => {
            let hint = "an Arrow stream is bytes, not text: pipe it, or give a FILE";
            return Err(Failure::Usage(hint.to_owned()));
        }
        _ => {}
    }
    let request = Request {
        venue: args.venue.clone(),
        symbol: args.symbol.clone(),
        dates: args.date.0..=args.date.1,
        what: match args.what {
            Of::Books => What::Books { every_ns: args.every, depth: args.depth },
            Of::Deltas => What::Deltas,
            Of::Trades => What::Trades,
            Of::Quotes => What::Quotes,
        },
        scales: match (args.price_scale, args.qty_scale) {
            (Some(price), Some(qty)) => Some(Scales { price, qty }),
            _ => None,
        },
    };
    let failure = |error| match error {
        Error::Read(error) => not_there(error, root),
        other => other.into(),
    };
    let table = Table::open(&System, root, request).map_err(failure)?;
    if to_stdout {
        let out = io::BufWriter::with_capacity(1 << 16, io::stdout().lock());
        let written = ArrowStream::new(out, table.schema()).and_then(|sink| fill(&table, sink));
        return match written {
            Err(error) if error.is_broken_pipe() => Ok(()),
            other => other.map(drop).map_err(failure),
        };
    }
    let aside = Aside::new(&args.out)?;
    let written = match args.format {
        Format::Parquet => ParquetFile::new(aside.out(), table.schema().clone()).and_then(|sink| fill(&table, sink)),
        _ => ArrowStream::new(aside.out(), table.schema()).and_then(|sink| fill(&table, sink)),
    };
    let rows = written.map_err(failure)?;
    let len = aside.len()?;
    aside.publish()?;
    if args.json {
        let columns = table.schema().fields().iter();
        let columns: Vec<_> = columns.map(|field| json!([field.name(), field.data_type().to_string()])).collect();
        return print_json(&json!({ "file": args.out, "rows": rows, "len": len, "columns": columns }));
    }
    writeln!(io::stderr(), "{}: {} rows, {} bytes", args.out.display(), Count(rows), Count(len))?;
    Ok(())
}

fn fill<S: Sink>(table: &Table<System>, sink: S) -> Result<u64, Error> {
    let mut shown = Shown { sink, bar: count_bar("export") };
    let rows = table.write(&mut shown)?;
    shown.close()?;
    Ok(rows)
}

/// A sink whose rows are counted on the terminal.
struct Shown<S> {
    sink: S,
    bar: ProgressBar,
}

impl<S: Sink> Sink for Shown<S> {
    fn batch(&mut self, batch: &RecordBatch) -> Result<(), Error> {
        self.bar.inc(batch.num_rows() as u64);
        self.sink.batch(batch)
    }

    fn close(self) -> Result<(), Error> {
        self.bar.finish_and_clear();
        self.sink.close()
    }
}
