//! `nexmark`: the load of the public Nexmark suite, generated in columns.
//!
//! Event n depends on nothing but the options and n, so any parallelism gives the same events. Only what the query reads is generated: whole
//! rows of persons, auctions and bids, or fields of them, are left out if `read_schema` does not have them.

mod columns;
mod draw;
mod model;
mod options;
mod source;
#[cfg(test)]
mod tests;
mod text;

use arrow::datatypes::Schema;
use weir_dataflow::{Result, SourceReader};

use crate::context::SourceContext;
use crate::options::OptionReader;
use crate::registry::SourceDescription;
use columns::Plan;
use options::NexmarkOptions;

pub(crate) fn describe(options: OptionReader<'_>, schema: &Schema) -> Result<SourceDescription> {
    let options = NexmarkOptions::read(options)?;
    Plan::new(schema)?;
    Ok(SourceDescription {
        bounded: options.events.is_some(),
        emits_updates: false,
        emits_upserts: false,
        metadata: Vec::new(),
    })
}

pub(crate) fn open(
    options: OptionReader<'_>,
    context: SourceContext,
) -> Result<Box<dyn SourceReader>> {
    let options = NexmarkOptions::read(options)?;
    Ok(Box::new(source::NexmarkReader::open(options, context)?))
}
