//! `blackhole`: takes everything, keeps nothing. For tests and measurements.

use bytes::Bytes;
use weir_dataflow::{Batch, Deferred, Result, SinkWriter};

use crate::options::OptionReader;
use crate::registry::{Accepts, SinkDescription};

pub(crate) fn describe(options: OptionReader<'_>) -> Result<SinkDescription> {
    options.finish()?;
    Ok(SinkDescription {
        accepts: Accepts::All,
        transactional: false,
    })
}

pub(crate) fn open(options: OptionReader<'_>) -> Result<Box<dyn SinkWriter>> {
    options.finish()?;
    Ok(Box::new(Blackhole))
}

struct Blackhole;

impl SinkWriter for Blackhole {
    fn ready(&mut self) -> Result<bool> {
        Ok(true)
    }

    fn write(&mut self, _: &Batch) -> Result<()> {
        Ok(())
    }

    fn prepare(&mut self, _: u64) -> Result<Deferred<Vec<Bytes>>> {
        Ok(Box::new(|| Ok(Vec::new())))
    }
}
