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
    /// A line is complete when it is empty, a command of the prompt, or ends with a semicolon outside of quotes and comments.
    fn validate(&self, line: &str) -> ValidationResult {
        let text = line.trim();
        if text.is_empty() || is_command(text) || ends_statement(text) {
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

/// STATEMENT SET blocks hold semicolons of their own: they end with END.
fn ends_statement(text: &str) -> bool {
    let mut quote = None;
    let mut last = None;
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        match (quote, c) {
            (Some(open), c) if c == open => quote = None,
            (Some(_), _) => {}
            (None, '\'' | '"' | '`') => quote = Some(c),
            (None, '-') if chars.peek() == Some(&'-') => {
                for rest in chars.by_ref() {
                    if rest == '\n' {
                        break;
                    }
                }
                continue;
            }
            (None, _) => {}
        }
        if !c.is_whitespace() {
            last = Some(c);
        }
    }
    if quote.is_some() || last != Some(';') {
        return false;
    }
    let words: Vec<String> = text
        .split_whitespace()
        .map(|word| word.to_ascii_uppercase())
        .collect();
    let is_set = words.windows(2).any(|pair| pair == ["STATEMENT", "SET"]);
    !is_set
        || matches!(
            words.last().map(|word| word.trim_end_matches(';')),
            Some("END")
        )
        || words.ends_with(&["END".to_owned(), ";".to_owned()])
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

#[cfg(test)]
mod tests {
    use super::ends_statement;

    #[test]
    fn a_statement_ends_with_a_semicolon_outside_of_quotes() {
        assert!(ends_statement("SELECT 1;"));
        assert!(ends_statement("SELECT ';'\n;"));
        assert!(!ends_statement("SELECT ';"));
        assert!(!ends_statement("SELECT 1 -- ;"));
        assert!(!ends_statement(
            "EXECUTE STATEMENT SET BEGIN INSERT INTO a SELECT 1;"
        ));
        assert!(ends_statement(
            "EXECUTE STATEMENT SET BEGIN INSERT INTO a SELECT 1; END;"
        ));
    }
}
