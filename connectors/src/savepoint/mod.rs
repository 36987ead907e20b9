//! `savepoint`: the state of an operator in a savepoint or checkpoint, as the rows of a table that ends.
//!
//! One database of the operator (what one subtask had written) is one split, its state the number of rows that were read of it: they
//! always come in the same order.

mod source;

use arrow::datatypes::Schema;
use weir_dataflow::{Result, SourceReader};

use crate::context::SourceContext;
use crate::layout::check_metadata;
use crate::options::OptionReader;
use crate::registry::SourceDescription;

/// Of a table.
struct SavepointOptions {
    /// Folder of the snapshot.
    path: String,
    /// Operator by id, beginning of its id, or name.
    operator: String,
    /// One of the operator's tables; the first if not named.
    table: Option<String>,
}

fn read(options: OptionReader<'_>) -> Result<SavepointOptions> {
    let path = options.required("path")?.to_owned();
    let scheme = path.split_once("://").map_or("file", |(scheme, _)| scheme);
    if !["file", "s3", "s3a"].contains(&scheme) {
        return Err(options.invalid("path", &path, "a path, file:///PATH or s3://BUCKET/PATH"));
    }
    let read = SavepointOptions {
        path,
        operator: options.required("operator")?.to_owned(),
        table: options.text("table").map(str::to_owned),
    };
    options.finish()?;
    Ok(read)
}

pub(crate) fn describe(options: OptionReader<'_>, schema: &Schema) -> Result<SourceDescription> {
    read(options)?;
    check_metadata("savepoint", schema, &[])?;
    Ok(SourceDescription {
        bounded: true,
        emits_updates: false,
        emits_upserts: false,
        metadata: Vec::new(),
    })
}

pub(crate) fn open(
    options: OptionReader<'_>,
    context: SourceContext,
) -> Result<Box<dyn SourceReader>> {
    let options = read(options)?;
    Ok(Box::new(source::SavepointSource::open(options, context)?))
}
