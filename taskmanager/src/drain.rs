//! Leaving: what a task manager that was asked to go waits for. The job manager moves jobs away meanwhile; it says when nothing is left here, or that
//! a job cannot move.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior};

use crate::node::Node;

/// A change of leader takes a second or two. Who is without one for longer is not moved by anybody.
const LEADERLESS: Duration = Duration::from_secs(10);
const TICK: Duration = Duration::from_millis(50);

/// What a leader said to a heartbeat of a task manager that drains.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Answer {
    /// No job has a slot here, nor will have one.
    pub drained: bool,
    /// Why a job cannot move; empty: none that cannot.
    pub cannot_drain: String,
}

/// The wish to leave, shared with the heartbeats.
pub struct Drain {
    wanted: watch::Sender<bool>,
    answer: watch::Sender<Answer>,
}

impl Drain {
    /// It stays.
    pub fn new() -> Self {
        Self {
            wanted: watch::Sender::new(false),
            answer: watch::Sender::new(Answer::default()),
        }
    }

    /// Whether it wants to leave.
    pub fn is_wanted(&self) -> bool {
        *self.wanted.borrow()
    }

    /// To a heartbeat that said so.
    pub fn answered(&self, answer: Answer) {
        self.answer.send_replace(answer);
    }
}

/// Why it leaves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Leaving {
    /// Nothing runs here.
    Drained,
    /// Something runs here that cannot move: why.
    CannotDrain(String),
    /// Something runs here after all the time there was.
    TimedOut,
    /// Nobody is there who would move what runs here.
    Leaderless,
}

/// What is seen of the task manager at a moment.
#[derive(Debug, Clone, Default)]
struct Sight {
    answer: Answer,
    /// No attempt runs here.
    idle: bool,
    /// A leader is known.
    led: bool,
}

/// Decides when to leave. Pure.
#[derive(Debug)]
struct Departure {
    deadline: Instant,
    led_at: Instant,
}

impl Departure {
    fn new(now: Instant, timeout: Duration) -> Self {
        Self {
            deadline: now + timeout,
            led_at: now,
        }
    }

    fn step(&mut self, now: Instant, sight: &Sight) -> Option<Leaving> {
        if sight.led {
            self.led_at = now;
        }
        let late = now >= self.deadline;
        if sight.idle && (sight.answer.drained || !sight.led || late) {
            return Some(Leaving::Drained);
        }
        if !sight.idle && !sight.answer.cannot_drain.is_empty() {
            return Some(Leaving::CannotDrain(sight.answer.cannot_drain.clone()));
        }
        if late {
            return Some(Leaving::TimedOut);
        }
        (now - self.led_at >= LEADERLESS).then_some(Leaving::Leaderless)
    }
}

/// Tells the leader, and returns when it is time to leave.
pub async fn drain(node: &Arc<Node>, timeout: Duration) -> Leaving {
    node.drain.wanted.send_replace(true);
    // The next heartbeat is due now.
    node.leader.suspicion.notify_one();
    let mut departure = Departure::new(Instant::now(), timeout);
    let mut tick = tokio::time::interval(TICK);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tick.tick().await;
        let sight = Sight {
            answer: node.drain.answer.borrow().clone(),
            idle: node.running().is_empty(),
            led: node.leader.is_known(),
        };
        if let Some(leaving) = departure.step(Instant::now(), &sight) {
            return leaving;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn busy() -> Sight {
        Sight {
            led: true,
            ..Sight::default()
        }
    }

    #[test]
    fn it_leaves_when_nothing_runs_and_nothing_will() {
        let now = Instant::now();
        let mut departure = Departure::new(now, Duration::from_secs(60));
        assert_eq!(departure.step(now, &busy()), None);
        let idle = Sight {
            idle: true,
            ..busy()
        };
        // A deployment may be on its way.
        assert_eq!(departure.step(now, &idle), None);
        let released = Answer {
            drained: true,
            ..Answer::default()
        };
        let stale = Sight {
            answer: released.clone(),
            ..busy()
        };
        assert_eq!(departure.step(now, &stale), None);
        let drained = Sight {
            answer: released,
            ..idle
        };
        assert_eq!(departure.step(now, &drained), Some(Leaving::Drained));
    }

    #[test]
    fn it_waits_no_longer_than_it_helps() {
        let now = Instant::now();
        let mut departure = Departure::new(now, Duration::from_secs(60));
        let stuck = Sight {
            answer: Answer {
                cannot_drain: "job j needs 4 slots".to_owned(),
                ..Answer::default()
            },
            ..busy()
        };
        let why = Leaving::CannotDrain("job j needs 4 slots".to_owned());
        assert_eq!(departure.step(now, &stuck), Some(why));
        let later = now + Duration::from_secs(59);
        assert_eq!(departure.step(later, &busy()), None);
        let late = now + Duration::from_secs(60);
        assert_eq!(departure.step(late, &busy()), Some(Leaving::TimedOut));
    }

    #[test]
    fn without_a_leader_only_what_runs_is_waited_for_and_not_for_long() {
        let now = Instant::now();
        let mut departure = Departure::new(now, Duration::from_secs(60));
        let alone = Sight::default();
        assert_eq!(departure.step(now + LEADERLESS / 2, &alone), None);
        // A new leader is there, and gone again.
        assert_eq!(departure.step(now + LEADERLESS, &busy()), None);
        let later = now + LEADERLESS + LEADERLESS / 2;
        assert_eq!(departure.step(later, &alone), None);
        let late = now + 2 * LEADERLESS;
        assert_eq!(departure.step(late, &alone), Some(Leaving::Leaderless));
        let idle = Sight {
            idle: true,
            ..Sight::default()
        };
        assert_eq!(departure.step(now, &idle), Some(Leaving::Drained));
    }
}
