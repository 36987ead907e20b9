//! The figures of each size, as one table: a line a figure, a column a size, so that its growth is what is read.

/// Times in milliseconds, unless the name says otherwise.
#[derive(Debug, Default, Clone)]
pub struct Figures {
    /// Size.
    pub task_managers: usize,
    /// Of the job.
    pub subtasks: usize,
    /// From the start of all until all are registered.
    pub registered: f64,
    /// From the submission until it was answered.
    pub submitted: f64,
    /// Until the last task manager had its subtasks.
    pub deployed: f64,
    /// Until the job was RUNNING.
    pub running: f64,
    /// CPU of the job managers for it.
    pub placement_cpu: f64,
    /// Of the message to one task manager.
    pub deployment_bytes: u64,
    /// Of one heartbeat.
    pub heartbeat_median: f64,
    /// Of one heartbeat.
    pub heartbeat_p99: f64,
    /// CPU of the job managers for one of each task manager.
    pub heartbeat_cpu: f64,
    /// From the first trigger until the last acknowledgement was answered; the median of some checkpoints.
    pub acknowledged: f64,
    /// Until all were told that it is complete.
    pub complete: f64,
    /// CPU of the job managers for one checkpoint.
    pub checkpoint_cpu: f64,
    /// From a task manager's end until all had their deployments of the next attempt.
    pub deployed_again: f64,
    /// Until the job was RUNNING again.
    pub running_again: f64,
    /// Of the message to one task manager, with its share of the checkpoint.
    pub restore_bytes: u64,
    /// From the leader's end until another leads.
    pub elected: f64,
    /// Until all task managers are registered there.
    pub adopted: f64,
    /// Until a checkpoint is complete under it.
    pub next_checkpoint: f64,
    /// Share of the simulation in the CPU time of the whole run, in percent.
    pub simulation_share: f64,
}

/// Markdown.
pub fn table(sizes: &[Figures]) -> String {
    let ms = |value: f64| match value {
        value if value < 10.0 => format!("{value:.1} ms"),
        value if value < 10_000.0 => format!("{value:.0} ms"),
        value => format!("{:.1} s", value / 1000.0),
    };
    let kb = |bytes: u64| format!("{:.1} KB", bytes as f64 / 1000.0);
    let mut lines = Vec::new();
    let mut line = |name: &str, cell: &dyn Fn(&Figures) -> String| {
        let cells: Vec<String> = sizes.iter().map(cell).collect();
        lines.push(format!("| {name} | {} |", cells.join(" | ")));
    };
    line("task managers", &|f| f.task_managers.to_string());
    line("subtasks", &|f| f.subtasks.to_string());
    line("all registered", &|f| ms(f.registered));
    line("placement: job in the log", &|f| ms(f.submitted));
    line("placement: all deployed", &|f| ms(f.deployed));
    line("placement: RUNNING", &|f| ms(f.running));
    line("placement: job managers' CPU", &|f| ms(f.placement_cpu));
    line("placement: one deployment", &|f| kb(f.deployment_bytes));
    line("heartbeat, median", &|f| ms(f.heartbeat_median));
    line("heartbeat, p99", &|f| ms(f.heartbeat_p99));
    line("heartbeat round: job managers' CPU", &|f| {
        ms(f.heartbeat_cpu)
    });
    line("checkpoint: all acknowledged", &|f| ms(f.acknowledged));
    line("checkpoint: all told", &|f| ms(f.complete));
    line("checkpoint: job managers' CPU", &|f| ms(f.checkpoint_cpu));
    line("task manager lost: all deployed again", &|f| {
        ms(f.deployed_again)
    });
    line("task manager lost: RUNNING again", &|f| ms(f.running_again));
    line(
        "task manager lost: one deployment",
        &|f| kb(f.restore_bytes),
    );
    line("leader killed: next one leads", &|f| ms(f.elected));
    line("leader killed: all registered", &|f| ms(f.adopted));
    line("leader killed: next checkpoint", &|f| ms(f.next_checkpoint));
    line("simulation's share of the CPU", &|f| {
        format!("{:.0} %", f.simulation_share)
    });
    let rule = format!("| ---{} |", " | ---:".repeat(sizes.len()));
    lines.insert(1, rule);
    lines.join("\n")
}
