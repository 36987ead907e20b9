//! The time that counts for leases: only that in which this leader could hear task managers. Pure.
//!
//! Whoever has many to hear may be slow at it; so may one whose process did not get the processor, or was stopped. What waits in its queues
//! meanwhile was said in time. The leader sees it by its own steps, which wait in the same queues: by as much as they come late, all leases
//! are longer.

/// See the file's head. Begins with a leadership, and has its milliseconds.
#[derive(Debug, Default)]
pub struct LeaseClock {
    late_ms: i64,
    last_look_ms: i64,
}

impl LeaseClock {
    /// Leases are looked at, which was wanted `interval_ms` after the last time. What is late by up to as much again is usual, and counts.
    /// Gives by how much this look came late.
    pub fn look(&mut self, now_ms: i64, interval_ms: i64) -> i64 {
        let late_ms = (now_ms - self.last_look_ms - 2 * interval_ms).max(0);
        self.late_ms += late_ms;
        self.last_look_ms = now_ms;
        late_ms
    }

    /// What the clock shows.
    pub fn at(&self, now_ms: i64) -> i64 {
        now_ms - self.late_ms
    }
}

#[cfg(test)]
mod tests {
    use weir_proto::v1;

    use super::*;
    use crate::members::Members;

    const INTERVAL_MS: i64 = 50;
    const LEASE_MS: i64 = 3000;

    fn members(clock: &LeaseClock) -> Members {
        let mut members = Members::default();
        let request = v1::RegisterTaskManagerRequest {
            task_manager_id: "a".to_owned(),
            address: "h:1".to_owned(),
            slots: 1,
            ..Default::default()
        };
        members.register(&request, clock.at(0), 0);
        members
    }

    /// When a task manager that says nothing is lost, if looks come so far apart.
    fn lost_after(interval_ms: i64) -> i64 {
        let mut clock = LeaseClock::default();
        let mut members = members(&clock);
        for now_ms in (0..).step_by(interval_ms as usize) {
            clock.look(now_ms, INTERVAL_MS);
            if !members.expire(clock.at(now_ms), LEASE_MS).is_empty() {
                return now_ms;
            }
        }
        unreachable!("looks go on for ever")
    }

    #[test]
    fn a_punctual_leader_loses_the_silent_when_their_lease_ends() {
        assert_eq!(lost_after(INTERVAL_MS), LEASE_MS + INTERVAL_MS);
        assert_eq!(lost_after(2 * INTERVAL_MS), LEASE_MS + 2 * INTERVAL_MS);
    }

    #[test]
    fn a_leader_that_is_late_itself_takes_nobody_for_lost() {
        // A step takes ten times as long as it should: what was said waits as long.
        let slow = lost_after(10 * INTERVAL_MS);
        assert!(slow >= 4 * LEASE_MS, "{slow}");
        // Stopped for a minute.
        let mut clock = LeaseClock::default();
        let mut members = members(&clock);
        clock.look(INTERVAL_MS, INTERVAL_MS);
        assert_eq!(clock.look(60_000, INTERVAL_MS), 60_000 - 3 * INTERVAL_MS);
        assert!(members.expire(clock.at(60_000), LEASE_MS).is_empty());
    }
}
