//! When a running job that adapts its parallelism takes slots that have come. Pure.

use weir_proto::v1;

/// Follows how many slots there are for one attempt.
#[derive(Debug)]
pub struct ScaleUp {
    /// All subtasks run since then.
    since_ms: i64,
    /// The parallelism that the job could have, if it is more than it has, and since when.
    could: Option<(usize, i64)>,
}

impl ScaleUp {
    /// For an attempt whose subtasks all run since `now_ms`.
    pub fn new(now_ms: i64) -> Self {
        Self {
            since_ms: now_ms,
            could: None,
        }
    }

    /// Whether the job is to go on at a higher parallelism now. It has `slots` and could have `open_slots`.
    pub fn step(
        &mut self,
        now_ms: i64,
        scheduler: &v1::AdaptiveScheduler,
        slots: usize,
        open_slots: usize,
    ) -> bool {
        let most = scheduler.upper_bound as usize;
        let target = open_slots.min(most);
        if target <= slots {
            self.could = None;
            return false;
        }
        let changed_ms = match self.could {
            Some((same, since_ms)) if same == target => since_ms,
            _ => now_ms,
        };
        self.could = Some((target, changed_ms));
        // More can only come as long as it is not everything that is wanted.
        let wait_ms = match target == most {
            true => 0,
            false => milliseconds(scheduler.executing_stabilization_ms),
        };
        let cooled_ms = self.since_ms + milliseconds(scheduler.cooldown_ms);
        now_ms >= cooled_ms.max(changed_ms + wait_ms)
    }
}

/// As the clock counts them.
pub fn milliseconds(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX).min(i64::MAX / 4)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SCHEDULER: v1::AdaptiveScheduler = v1::AdaptiveScheduler {
        upper_bound: 8,
        submission_stabilization_ms: 0,
        executing_stabilization_ms: 100,
        cooldown_ms: 1000,
    };

    #[test]
    fn slots_that_come_one_after_the_other_are_taken_at_once() {
        let mut up = ScaleUp::new(0);
        for (now_ms, open, expected) in [
            (2000, 4, false),
            (3000, 5, false),
            (3099, 5, false),
            (3100, 6, false),
            // Away again, and back: the wait begins anew.
            (3150, 4, false),
            (3160, 6, false),
            (3259, 6, false),
            (3260, 6, true),
        ] {
            let taken = up.step(now_ms, &SCHEDULER, 4, open);
            assert_eq!(taken, expected, "at {now_ms}");
        }
    }

    #[test]
    fn all_that_is_wanted_is_taken_without_a_wait_but_not_soon_after_the_last_time() {
        let mut up = ScaleUp::new(500);
        assert!(!up.step(1499, &SCHEDULER, 4, 8));
        assert!(up.step(1500, &SCHEDULER, 4, 20));
        assert!(!up.step(9000, &SCHEDULER, 8, 20));
    }
}
