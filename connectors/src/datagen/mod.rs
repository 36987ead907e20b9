//! `datagen`: rows made up by rules, with the options of Flink's connector. Row n depends only on the job and n, so a restart repeats it.

mod columns;
mod options;
mod source;

use arrow::datatypes::Schema;
use weir_dataflow::schema::decode_schema;
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
        emits_upserts: false,
        metadata: Vec::new(),
    })
}

pub(crate) fn open(spec: &v1::Source, context: SourceContext) -> Result<Box<dyn SourceReader>> {
    let reader = OptionReader::new(&spec.connector, &spec.options);
    let table = if spec.table_schema.is_empty() {
        context.schema.clone()
    } else {
        decode_schema(&spec.table_schema)?
    };
    let mut options = options::DatagenOptions::read(reader, &table)?;
    let rules = context.schema.fields().iter().map(|field| {
        let index = table.index_of(field.name())?;
        Ok(options.columns[index].clone())
    });
    options.columns = rules.collect::<Result<_>>()?;
    Ok(Box::new(source::DatagenSource::open(options, context)?))
}
