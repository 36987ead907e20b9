//! `datagen`: rows made up by rules, with the options of Flink's connector. Row n depends only on the job and n, so a restart repeats it.

mod columns;
mod options;
mod source;

use arrow::datatypes::Schema;
use weir_dataflow::{Result, SourceReader};
use weir_proto::v1;

use crate::context::SourceContext;
use crate::options::OptionReader;
use crate::registry::SourceDescription;

pub(crate) fn describe(reader: OptionReader<'_>, schema: &Schema) -> Result<SourceDescription> {
    let options = options::DatagenOptions::read(reader, schema)?;
    Ok(SourceDescription {
        bounded: options.rows.is_some(),
        emits_updates: false,
        metadata: Vec::new(),
    })
}

pub(crate) fn open(spec: &v1::Source, context: SourceContext) -> Result<Box<dyn SourceReader>> {
    let reader = OptionReader::new(&spec.connector, &spec.options);
    let options = options::DatagenOptions::read(reader, &context.schema)?;
    Ok(Box::new(source::DatagenSource::open(options, context)?))
}
