//! The operators of one subtask, calling each other directly.

use std::time::Instant;

use weir_common::ids::CheckpointId;
use weir_dataflow::{
    Batch, Context, Deferred, KeyedState, Operator, OperatorInfo, Output, Result, SnapshotPart,
    SnapshotTarget,
};

use crate::backend::{KeyedBackend, Upload};
use crate::output::Outputs;

/// An operator with its state.
pub struct ChainedOperator {
    /// Who it is.
    pub info: OperatorInfo,
    /// The operator.
    pub operator: Box<dyn Operator>,
    /// Its keyed state, or the lack of one.
    pub state: Box<dyn KeyedBackend>,
    /// What its last snapshot froze is not all written.
    pub writing: bool,
}

/// What an operator has at a cut, before its files are uploaded.
pub struct OperatorCut {
    /// Who it is.
    pub info: OperatorInfo,
    /// Fingerprint of the state's layout.
    pub state_schema: String,
    /// What belongs to no key.
    pub part: SnapshotPart,
    /// The keyed state's files; `None`: no keyed state.
    pub keyed: Option<Upload>,
}

/// The operators behind a subtask's input (and behind its source), in order.
pub struct Chain {
    operators: Vec<ChainedOperator>,
    /// Where the last operator's rows go.
    pub outputs: Outputs,
}

/// What the head of a chain, or the operator before `rest`, emits into.
pub struct Downstream<'a> {
    rest: &'a mut [ChainedOperator],
    outputs: &'a mut Outputs,
    now_ms: i64,
}

impl Output for Downstream<'_> {
    fn emit(&mut self, batch: Batch) -> Result<()> {
        if batch.num_rows() == 0 {
            return Ok(());
        }
        match self.rest.split_first_mut() {
            None => self.outputs.emit(batch),
            Some((next, rest)) => {
                if rest.is_empty() {
                    self.outputs.reached_last(&batch);
                }
                next.run(rest, self.outputs, self.now_ms, |operator, context| {
                    operator.process(0, batch, context)
                })
            }
        }
    }
}

impl ChainedOperator {
    fn run<T>(
        &mut self,
        rest: &mut [Self],
        outputs: &mut Outputs,
        now_ms: i64,
        call: impl FnOnce(&mut dyn Operator, &mut Context<'_>) -> Result<T>,
    ) -> Result<T> {
        let mut out = Downstream {
            rest,
            outputs,
            now_ms,
        };
        let state: &mut dyn KeyedState = self.state.as_mut();
        let mut context = Context {
            state,
            out: &mut out,
            now_ms,
        };
        call(self.operator.as_mut(), &mut context)
    }

    /// Writes a part of what the snapshot froze; after the last one the snapshot is sealed.
    fn write_frozen(
        &mut self,
        rest: &mut [Self],
        outputs: &mut Outputs,
        now_ms: i64,
    ) -> Result<()> {
        self.writing = self.run(rest, outputs, now_ms, |operator, context| {
            operator.write_frozen(context)
        })?;
        if self.writing {
            return Ok(());
        }
        self.state.seal()
    }
}

impl Chain {
    /// Opened operators.
    pub fn new(operators: Vec<ChainedOperator>, outputs: Outputs) -> Self {
        Self { operators, outputs }
    }

    /// The whole chain as an output, for a source.
    pub fn head(&mut self, now_ms: i64) -> Downstream<'_> {
        Downstream {
            rest: &mut self.operators,
            outputs: &mut self.outputs,
            now_ms,
        }
    }

    /// Calls every operator in order, each able to emit into those behind it.
    fn each(
        &mut self,
        now_ms: i64,
        mut call: impl FnMut(&mut dyn Operator, &mut Context<'_>) -> Result<()>,
    ) -> Result<()> {
        let mut rest = self.operators.as_mut_slice();
        while let Some((operator, behind)) = rest.split_first_mut() {
            operator.run(behind, &mut self.outputs, now_ms, &mut call)?;
            rest = behind;
        }
        Ok(())
    }

    /// Every operator can take a batch.
    pub fn ready(&mut self) -> Result<bool> {
        for operator in &mut self.operators {
            if !operator.operator.ready()? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Every operator can be cut, whether or not it can take a batch.
    pub fn can_be_cut(&mut self) -> Result<bool> {
        for operator in &mut self.operators {
            if !operator.operator.can_be_cut()? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Rows for an input of the first operator.
    pub fn process(&mut self, input: usize, batch: Batch, now_ms: i64) -> Result<()> {
        match self.operators.split_first_mut() {
            None => self.outputs.emit(batch),
            Some((first, rest)) => {
                if rest.is_empty() {
                    self.outputs.reached_last(&batch);
                }
                first.run(rest, &mut self.outputs, now_ms, |operator, context| {
                    operator.process(input, batch, context)
                })
            }
        }
    }

    /// Event time through all operators; gives what the last one forwards.
    pub fn watermark(&mut self, watermark: i64, now_ms: i64) -> Result<i64> {
        let mut current = watermark;
        self.each(now_ms, |operator, context| {
            current = operator.watermark(current, context)?;
            Ok(())
        })?;
        Ok(current)
    }

    /// Processing time.
    pub fn tick(&mut self, now_ms: i64) -> Result<()> {
        self.each(now_ms, |operator, context| operator.tick(context))
    }

    /// Nothing more comes.
    pub fn end_of_data(&mut self, now_ms: i64) -> Result<()> {
        self.each(now_ms, |operator, context| operator.end_of_data(context))
    }

    /// The cut through all operators, the synchronous part of it. If the one before is not all written, that is waited for.
    pub fn snapshot(
        &mut self,
        checkpoint: CheckpointId,
        target: &SnapshotTarget,
        now_ms: i64,
    ) -> Result<Vec<OperatorCut>> {
        self.write_all_frozen(now_ms)?;
        let mut cuts = Vec::with_capacity(self.operators.len());
        let mut rest = self.operators.as_mut_slice();
        while let Some((operator, behind)) = rest.split_first_mut() {
            let part = operator.run(behind, &mut self.outputs, now_ms, |operator, context| {
                operator.snapshot(checkpoint, context)
            })?;
            let keyed = operator.state.snapshot(checkpoint, target)?;
            operator.write_frozen(behind, &mut self.outputs, now_ms)?;
            cuts.push(OperatorCut {
                info: operator.info.clone(),
                state_schema: operator.operator.state_schema(),
                part,
                keyed,
            });
            rest = behind;
        }
        Ok(cuts)
    }

    /// What the last snapshot froze is not all written.
    pub fn is_writing(&self) -> bool {
        self.operators.iter().any(|operator| operator.writing)
    }

    /// Writes of what the last snapshot froze as much as can be done until `deadline` without waiting; whether that was anything.
    pub fn write_frozen(&mut self, now_ms: i64, deadline: Instant) -> Result<bool> {
        let mut wrote = false;
        let mut rest = self.operators.as_mut_slice();
        while let Some((operator, behind)) = rest.split_first_mut() {
            while operator.writing && operator.state.has_room() {
                if wrote && Instant::now() >= deadline {
                    return Ok(true);
                }
                operator.write_frozen(behind, &mut self.outputs, now_ms)?;
                wrote = true;
            }
            rest = behind;
        }
        Ok(wrote)
    }

    fn write_all_frozen(&mut self, now_ms: i64) -> Result<()> {
        let mut rest = self.operators.as_mut_slice();
        while let Some((operator, behind)) = rest.split_first_mut() {
            while operator.writing {
                operator.write_frozen(behind, &mut self.outputs, now_ms)?;
            }
            rest = behind;
        }
        Ok(())
    }

    /// The checkpoint is complete; gives the commits.
    pub fn checkpoint_completed(&mut self, checkpoint: CheckpointId) -> Result<Vec<Deferred<()>>> {
        let mut commits = Vec::new();
        for operator in &mut self.operators {
            operator.state.checkpoint_completed(checkpoint);
            commits.extend(operator.operator.checkpoint_completed(checkpoint)?);
        }
        Ok(commits)
    }

    /// The checkpoint will never be complete.
    pub fn checkpoint_aborted(&mut self, checkpoint: CheckpointId) {
        for operator in &mut self.operators {
            operator.state.checkpoint_aborted(checkpoint);
        }
    }

    /// Bytes of keyed state of all operators.
    pub fn state_bytes(&self) -> u64 {
        self.operators.iter().map(|o| o.state.size_bytes()).sum()
    }

    /// Bytes of all operators' working sets.
    pub fn memory_bytes(&self) -> u64 {
        let operators = self.operators.iter();
        operators.map(|o| o.operator.memory_bytes() as u64).sum()
    }

    /// The end of the attempt.
    pub fn close(&mut self) {
        for operator in &mut self.operators {
            operator.operator.close();
        }
    }
}
