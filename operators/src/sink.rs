//! The end of a chain: hands rows to a connector's writer and sees to it that what was prepared is committed exactly when its
//! checkpoint is complete, also when that is found out only after a crash.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use weir_common::ids::CheckpointId;
use weir_dataflow::schema::decode_schema;
use weir_dataflow::{
    Batch, Committer, Context, Deferred, Error, KeyedState, OpenContext, Operator, OperatorStates,
    Result, SinkWriter, SnapshotPart,
};
use weir_proto::v1;
use weir_proto::v1::operator_state::Redistribution;

use crate::committables::Committables;
use crate::sink_constraints::Constraints;

/// Name of the list of committables.
pub const COMMITTABLES: &str = "committables";

/// How long a checkpoint waits for the one before it to be prepared.
const PREPARE_ORDER_TIMEOUT: Duration = Duration::from_secs(600);

/// Runs a connector's writer.
pub struct SinkOperator {
    constraints: Constraints,
    writer: Box<dyn SinkWriter>,
    ledger: Arc<Ledger>,
}

/// Shared with the threads that prepare and commit.
#[derive(Default)]
struct Ledger {
    state: Mutex<Committables>,
    changed: Condvar,
}

impl Ledger {
    fn lock(&self) -> MutexGuard<'_, Committables> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Everything prepared up to `checkpoint`, once no earlier one is still being prepared.
    fn finish(&self, checkpoint: u64, prepared: Result<Vec<Bytes>>) -> Result<Vec<Bytes>> {
        let mut state = self.lock();
        let result = match prepared {
            Ok(items) => {
                state.prepared(checkpoint, items);
                Ok(())
            }
            Err(error) => {
                state.failed(checkpoint, error.to_string());
                Err(error)
            }
        };
        self.changed.notify_all();
        result?;
        let (state, timeout) = self
            .changed
            .wait_timeout_while(state, PREPARE_ORDER_TIMEOUT, |state| {
                state.waits_for_earlier(checkpoint)
            })
            .unwrap_or_else(PoisonError::into_inner);
        if timeout.timed_out() {
            return Err(Error::Internal(format!(
                "checkpoint {checkpoint} waited for an earlier one to be prepared"
            )));
        }
        state.in_snapshot(checkpoint).map_err(sink_error)
    }
}

fn sink_error(message: String) -> Error {
    Error::External {
        system: "sink",
        message,
    }
}

impl SinkOperator {
    /// Wraps an opened writer.
    ///
    /// # Errors
    /// If the description is broken.
    pub fn new(spec: v1::Sink, writer: Box<dyn SinkWriter>) -> Result<Self> {
        let schema = decode_schema(&spec.schema)?;
        Ok(Self {
            constraints: Constraints::new(&spec, &schema),
            writer,
            ledger: Arc::default(),
        })
    }
}

impl Operator for SinkOperator {
    /// Commits what the restored snapshot holds, then aborts what earlier attempts left open. Blocks: runs before the first row.
    fn open(&mut self, context: OpenContext, _: &mut dyn KeyedState) -> Result<()> {
        let Some(committer) = self.writer.committer() else {
            return Ok(());
        };
        let restored = context.restored.get(COMMITTABLES);
        if !restored.is_empty() {
            tracing::info!(
                job = %context.info.job,
                subtask = context.info.subtask,
                attempt = context.info.attempt.0,
                count = restored.len(),
                "committing what the restored snapshot had prepared"
            );
            committer.commit(restored)?;
        }
        committer.abort_leftovers()
    }

    fn ready(&mut self) -> Result<bool> {
        if let Some(failure) = self.ledger.lock().failure() {
            return Err(sink_error(failure.to_owned()));
        }
        self.writer.ready()
    }

    fn can_be_cut(&mut self) -> Result<bool> {
        self.writer.can_prepare()
    }

    fn process(&mut self, _: usize, batch: Batch, _: &mut Context<'_>) -> Result<()> {
        self.writer.write(&self.constraints.apply(batch)?)
    }

    fn snapshot(&mut self, checkpoint: CheckpointId, _: &mut Context<'_>) -> Result<SnapshotPart> {
        let prepare = self.writer.prepare(checkpoint.0)?;
        self.ledger.lock().begin(checkpoint.0);
        let ledger = Arc::clone(&self.ledger);
        let deferred: Deferred<OperatorStates> = Box::new(move || {
            let items = ledger.finish(checkpoint.0, prepare())?;
            let mut states = OperatorStates::default();
            if !items.is_empty() {
                // Every subtask commits all of them at a restore, before it aborts what it does not know: one that was dealt to
                // another subtask could else be aborted before that one comes to commit it.
                states.put(COMMITTABLES, Redistribution::Union, items);
            }
            Ok(states)
        });
        Ok(SnapshotPart {
            states: OperatorStates::default(),
            deferred: Some(deferred),
        })
    }

    fn checkpoint_completed(&mut self, checkpoint: CheckpointId) -> Result<Option<Deferred<()>>> {
        let Some(committer) = self.writer.committer() else {
            return Ok(None);
        };
        let ledger = Arc::clone(&self.ledger);
        Ok(Some(Box::new(move || {
            commit_up_to(&ledger, committer.as_ref(), checkpoint.0)
        })))
    }

    fn close(&mut self) {
        self.writer.close();
    }
}

fn commit_up_to(ledger: &Ledger, committer: &dyn Committer, checkpoint: u64) -> Result<()> {
    let due = ledger.lock().due(checkpoint);
    for (id, items) in due {
        if !items.is_empty() {
            committer.commit(&items)?;
        }
        ledger.lock().committed(id);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::datatypes::DataType;
    use weir_dataflow::schema::encode_schema;
    use weir_dataflow::testing::{Harness, batch, open_context, schema};

    #[derive(Default)]
    struct Store {
        committed: Mutex<Vec<Bytes>>,
        refuse: Mutex<bool>,
    }

    impl Committer for Store {
        fn commit(&self, committables: &[Bytes]) -> Result<()> {
            if *self.refuse.lock().unwrap() {
                return Err(Error::External {
                    system: "test",
                    message: "down".into(),
                });
            }
            self.committed
                .lock()
                .unwrap()
                .extend(committables.iter().cloned());
            Ok(())
        }
    }

    struct Writer {
        store: Arc<Store>,
        open: usize,
    }

    impl SinkWriter for Writer {
        fn ready(&mut self) -> Result<bool> {
            Ok(true)
        }

        fn write(&mut self, batch: &Batch) -> Result<()> {
            self.open += batch.num_rows();
            Ok(())
        }

        fn prepare(&mut self, checkpoint_id: u64) -> Result<Deferred<Vec<Bytes>>> {
            let rows = std::mem::take(&mut self.open);
            Ok(Box::new(move || {
                Ok(vec![Bytes::from(format!("{checkpoint_id}:{rows}"))])
            }))
        }

        fn committer(&self) -> Option<Arc<dyn Committer>> {
            Some(Arc::clone(&self.store) as Arc<dyn Committer>)
        }
    }

    fn operator(store: &Arc<Store>, not_null: Vec<u32>) -> Box<dyn Operator> {
        let schema = schema(&[("x", DataType::Int64)]);
        let spec = v1::Sink {
            table: "t".into(),
            schema: encode_schema(&schema),
            not_null,
            ..v1::Sink::default()
        };
        Box::new(
            SinkOperator::new(
                spec,
                Box::new(Writer {
                    store: Arc::clone(store),
                    open: 0,
                }),
            )
            .unwrap(),
        )
    }

    fn committed(store: &Store) -> Vec<String> {
        let items = store.committed.lock().unwrap();
        items
            .iter()
            .map(|item| String::from_utf8(item.to_vec()).unwrap())
            .collect()
    }

    #[test]
    fn an_aborted_checkpoints_rows_are_committed_with_the_next_one() {
        let (store, input) = (
            Arc::new(Store::default()),
            schema(&[("a", DataType::Int64)]),
        );
        let mut harness =
            Harness::open(operator(&store, vec![]), vec![input.clone()], input.clone()).unwrap();
        harness.push(0, batch(&input, "1\n2").unwrap()).unwrap();
        harness.snapshot().unwrap();
        harness.push(0, batch(&input, "3").unwrap()).unwrap();
        harness.snapshot().unwrap();
        assert!(committed(&store).is_empty());
        harness.complete().unwrap();
        assert_eq!(committed(&store), ["1:2", "2:1"]);
        harness.complete().unwrap();
        assert_eq!(committed(&store).len(), 2);
    }

    #[test]
    fn what_a_crash_left_uncommitted_is_committed_on_restore() {
        let (store, input) = (
            Arc::new(Store::default()),
            schema(&[("a", DataType::Int64)]),
        );
        let mut harness =
            Harness::open(operator(&store, vec![]), vec![input.clone()], input.clone()).unwrap();
        harness.push(0, batch(&input, "1").unwrap()).unwrap();
        let snapshot = harness.snapshot().unwrap();
        *store.refuse.lock().unwrap() = true;
        assert!(harness.complete().is_err());
        *store.refuse.lock().unwrap() = false;
        let context = open_context(vec![input.clone()], input, 0, 1);
        Harness::restore(operator(&store, vec![]), context, &snapshot).unwrap();
        assert_eq!(committed(&store), ["1:1"]);
    }

    /// The subtask ends, but a later snapshot that was cut before is still finished: it would lose the rows.
    #[test]
    fn a_failed_prepare_fails_later_snapshots_also_after_the_subtask_has_heard_of_it() {
        let ledger = Ledger::default();
        ledger.lock().begin(1);
        ledger.lock().begin(2);
        assert!(
            ledger
                .finish(1, Err(sink_error("full".to_owned())))
                .is_err()
        );
        assert!(
            ledger
                .lock()
                .failure()
                .is_some_and(|why| why.contains("full"))
        );
        let later = ledger.finish(2, Ok(vec![Bytes::from_static(b"b")]));
        assert!(later.unwrap_err().to_string().contains("full"));
    }

    #[test]
    fn a_null_in_a_not_null_column_names_the_column() {
        let (store, input) = (
            Arc::new(Store::default()),
            schema(&[("a", DataType::Int64)]),
        );
        let mut harness = Harness::open(
            operator(&store, vec![0]),
            vec![input.clone()],
            input.clone(),
        )
        .unwrap();
        let error = harness
            .push(0, batch(&input, "null").unwrap())
            .unwrap_err()
            .to_string();
        assert!(error.contains("column 'x' of table 't'"), "{error}");
    }
}
