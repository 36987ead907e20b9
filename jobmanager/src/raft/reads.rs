//! Linearizable reads: each waits until most members have confirmed the leader, and until what was committed then is applied. Pure.

use std::collections::HashMap;

use super::handle::{ProposeError, Reply};

/// Reads that are under way.
#[derive(Default)]
pub(super) struct Reads {
    next: u64,
    asked: HashMap<u64, Reply<()>>,
    confirmed: Vec<(u64, Reply<()>)>,
}

impl Reads {
    /// A read begins; gives what Raft is asked with.
    pub(super) fn begin(&mut self, reply: Reply<()>) -> Vec<u8> {
        self.next += 1;
        self.asked.insert(self.next, reply);
        self.next.to_be_bytes().to_vec()
    }

    /// Raft has confirmed a read at this index.
    pub(super) fn confirmed(&mut self, context: &[u8], index: u64) {
        let id = context.try_into().map(u64::from_be_bytes);
        if let Some(reply) = id.ok().and_then(|id| self.asked.remove(&id)) {
            self.confirmed.push((index, reply));
        }
    }

    /// Answers what is applied by now.
    pub(super) fn applied(&mut self, index: u64) {
        for (_, reply) in self.confirmed.extract_if(.., |(at, _)| *at <= index) {
            let _ = reply.send(Ok(()));
        }
    }

    /// This member does not lead any more.
    pub(super) fn forget(&mut self) {
        let confirmed = self.confirmed.drain(..).map(|(_, reply)| reply);
        for reply in self.asked.drain().map(|(_, reply)| reply).chain(confirmed) {
            let _ = reply.send(Err(ProposeError::NotLeader));
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::oneshot;

    use super::*;

    #[test]
    fn a_read_waits_for_its_confirmation_and_for_its_index() {
        let mut reads = Reads::default();
        let (reply, mut answer) = oneshot::channel();
        let context = reads.begin(reply);
        reads.applied(100);
        assert!(answer.try_recv().is_err());
        reads.confirmed(&context, 101);
        reads.applied(100);
        assert!(answer.try_recv().is_err());
        reads.applied(101);
        assert!(answer.try_recv().unwrap().is_ok());
    }

    #[test]
    fn a_deposed_leader_answers_no_read() {
        let mut reads = Reads::default();
        let (first, mut asked) = oneshot::channel();
        let (second, mut confirmed) = oneshot::channel();
        reads.begin(first);
        let context = reads.begin(second);
        reads.confirmed(&context, 5);
        reads.forget();
        for answer in [&mut asked, &mut confirmed] {
            assert!(matches!(
                answer.try_recv().unwrap(),
                Err(ProposeError::NotLeader)
            ));
        }
    }
}
