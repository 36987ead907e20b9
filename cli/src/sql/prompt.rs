//! The interactive prompt: history, editing over several lines, a statement ends with a semicolon.

use reedline::{
    DefaultPrompt, DefaultPromptSegment, FileBackedHistory, Reedline, Signal, ValidationResult,
    Validator,
};

use super::SqlShell;

/// Lines kept in the history file.
const HISTORY: usize = 1000;

struct StatementValidator;

impl Validator for StatementValidator {
    /// A text is complete when it is empty, a command of the prompt, or ends with a statement's semicolon.
    fn validate(&self, line: &str) -> ValidationResult {
        let text = line.trim();
        if text.is_empty() || is_command(text) || weir_sql::is_complete(text) {
            return ValidationResult::Complete;
        }
        ValidationResult::Incomplete
    }
}

fn is_command(text: &str) -> bool {
    matches!(
        text.trim_end_matches(';').to_ascii_lowercase().as_str(),
        "quit" | "exit" | "help" | "clear"
    )
}

/// Reads and runs statements until the end of the input.
pub async fn run(shell: &mut SqlShell) -> anyhow::Result<()> {
    println!(
        "Weir {}. A statement ends with ';'. quit; leaves.",
        env!("CARGO_PKG_VERSION")
    );
    let mut editor = Some(editor());
    loop {
        let Some(mut line_editor) = editor.take() else {
            return Ok(());
        };
        // The editor blocks; the cluster needs this thread.
        let (line_editor, signal) = tokio::task::spawn_blocking(move || {
            let prompt = DefaultPrompt::new(
                DefaultPromptSegment::Basic("weir".to_owned()),
                DefaultPromptSegment::Empty,
            );
            let signal = line_editor.read_line(&prompt);
            (line_editor, signal)
        })
        .await?;
        editor = Some(line_editor);
        let text = match signal? {
            Signal::Success(text) => text,
            Signal::CtrlC => continue,
            _ => return Ok(()),
        };
        match text
            .trim()
            .trim_end_matches(';')
            .to_ascii_lowercase()
            .as_str()
        {
            "" => {}
            "quit" | "exit" => return Ok(()),
            "clear" => print!("\x1b[2J\x1b[H"),
            "help" => println!(
                "CREATE TABLE, CREATE VIEW, SHOW, DESCRIBE, EXPLAIN, SET, INSERT INTO, SELECT; quit;"
            ),
            _ => {
                if let Err(error) = shell.run_script(&text).await {
                    eprintln!("error: {error:#}");
                }
            }
        }
    }
}

fn editor() -> Reedline {
    let editor = Reedline::create().with_validator(Box::new(StatementValidator));
    let path =
        std::env::var_os("HOME").map(|home| std::path::PathBuf::from(home).join(".weir_history"));
    match path.and_then(|path| FileBackedHistory::with_file(HISTORY, path).ok()) {
        Some(history) => editor.with_history(Box::new(history)),
        None => editor,
    }
}
