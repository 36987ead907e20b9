//! What Weir's job manager says of checkpoints in its log.

/// The lines of completed checkpoints, of all jobs, in order.
pub fn completed_checkpoints(log: &str) -> impl DoubleEndedIterator<Item = &str> {
    log.lines()
        .filter(|line| line.contains("checkpoint is complete"))
}

/// A field of a line that is a number.
pub fn number(line: &str, field: &str) -> Option<u64> {
    let (_, value) = line.split_once(&format!(" {field}="))?;
    value.split(' ').next()?.parse().ok()
}
