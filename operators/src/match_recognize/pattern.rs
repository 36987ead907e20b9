//! Which rows a pattern matches: a nondeterministic automaton whose runs all step with each row. Pure.
//!
//! A pattern is a row of variables with quantifiers, and what it matches is contiguous. So a run is told by its first row and by how many rows each
//! variable has. As in Flink's CEP library: an optional or reluctant variable lets both ways be tried; a greedy one is left only by a row for
//! which its condition does not hold; a match waits until no run that began earlier is under way; and the rows to skip end other runs and matches.

use weir_dataflow::{Error, Result};

/// A variable of the pattern.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Variable {
    pub name: String,
    pub min: u32,
    /// `None`: any number.
    pub max: Option<u32>,
    /// Does not give up a row that it can take.
    pub greedy: bool,
}

/// AFTER MATCH SKIP
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Skip {
    PastLastRow,
    ToNextRow,
    ToFirst(usize),
    ToLast(usize),
}

/// PATTERN, WITHIN and AFTER MATCH.
#[derive(Debug)]
pub struct Pattern {
    pub variables: Vec<Variable>,
    pub skip: Skip,
    /// A match is shorter than this; 0: as long as it likes.
    pub within_ms: i64,
}

/// Rows that variables have taken, one after another from `start` on. Rows are numbered within their partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Run {
    pub start: u64,
    pub start_ms: i64,
    /// For each variable up to the current one.
    pub counts: Vec<u32>,
}

/// The runs of one partition.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Runs {
    /// Under way, by their first row.
    pub partial: Vec<Run>,
    /// Matches that wait for an earlier run.
    pub complete: Vec<Run>,
}

impl Run {
    /// Rows of one variable, or of all.
    pub fn rows(&self, variable: Option<usize>) -> std::ops::Range<u64> {
        let rows = |counts: &[u32]| counts.iter().map(|count| u64::from(*count)).sum::<u64>();
        match variable {
            None => self.start..self.start + rows(&self.counts),
            Some(variable) => {
                let before = self.counts.get(..variable).unwrap_or(&self.counts);
                let from = self.start + rows(before);
                let own = self.counts.get(variable).copied().unwrap_or(0);
                from..from + u64::from(own)
            }
        }
    }
}

impl Pattern {
    /// Takes the next row. `test` says whether a variable's condition holds for a run whose last row, of this variable, is the new one. Gives the
    /// matches that are found now.
    ///
    /// # Errors
    /// Of `test`, and for a skip to where there is no row.
    pub fn step(
        &self,
        runs: &mut Runs,
        row: u64,
        time_ms: i64,
        test: &mut dyn FnMut(usize, &Run) -> Result<bool>,
    ) -> Result<Vec<Run>> {
        let mut found = self.advance(runs, time_ms)?;
        let fresh = Run {
            start: row,
            start_ms: time_ms,
            counts: vec![0],
        };
        for run in std::mem::take(&mut runs.partial).into_iter().chain([fresh]) {
            self.take(run, runs, test)?;
        }
        found.extend(self.resolve(runs)?);
        Ok(found)
    }

    /// Gives up the runs that would be too long at this time.
    ///
    /// # Errors
    /// For a skip to where there is no row.
    pub fn advance(&self, runs: &mut Runs, time_ms: i64) -> Result<Vec<Run>> {
        if self.within_ms == 0 {
            return Ok(Vec::new());
        }
        runs.partial
            .retain(|run| time_ms.saturating_sub(run.start_ms) < self.within_ms);
        self.resolve(runs)
    }

    /// All ways in which a run goes on with a row that the current variable, or one behind it, takes.
    fn take(
        &self,
        mut run: Run,
        runs: &mut Runs,
        test: &mut dyn FnMut(usize, &Run) -> Result<bool>,
    ) -> Result<()> {
        loop {
            let current = run.counts.len() - 1;
            let variable = &self.variables[current];
            let count = run.counts[current];
            let has_room = variable.max.is_none_or(|max| count < max);
            let mut holds = false;
            if has_room || variable.greedy {
                let mut next = run.clone();
                next.counts[current] += 1;
                holds = test(current, &next)?;
                if holds && has_room {
                    self.reach(next, runs);
                }
            }
            // As Flink has it, a greedy variable that is full still keeps others from rows that it would take.
            let leaves = count >= variable.min && !(variable.greedy && holds);
            if !leaves || current + 1 == self.variables.len() {
                return Ok(());
            }
            run.counts.push(0);
        }
    }

    fn reach(&self, run: Run, runs: &mut Runs) {
        let (current, behind) = (run.counts.len() - 1, self.variables.get(run.counts.len()..));
        let (count, behind) = (run.counts[current], behind.unwrap_or_default());
        let variable = &self.variables[current];
        if count >= variable.min && behind.iter().all(|variable| variable.min == 0) {
            runs.complete.push(run.clone());
        }
        if !behind.is_empty() || variable.max.is_none_or(|max| count < max) {
            runs.partial.push(run);
        }
    }

    /// The matches that no earlier run can come before, oldest first.
    fn resolve(&self, runs: &mut Runs) -> Result<Vec<Run>> {
        let mut found = Vec::new();
        loop {
            let oldest = runs.complete.iter().enumerate();
            let Some((index, start)) = oldest
                .map(|(index, run)| (index, run.start))
                .min_by_key(|(_, start)| *start)
            else {
                return Ok(found);
            };
            if runs.partial.iter().any(|run| run.start < start) {
                return Ok(found);
            }
            let matched = runs.complete.remove(index);
            let next = self.next_start(&matched)?;
            runs.partial.retain(|run| run.start >= next);
            runs.complete.retain(|run| run.start >= next);
            found.push(matched);
        }
    }

    /// The first row at which another match may begin.
    fn next_start(&self, matched: &Run) -> Result<u64> {
        let to = |variable: usize, row: Option<u64>| {
            let name = &self.variables[variable].name;
            match row {
                Some(row) if row > matched.start => Ok(row),
                Some(_) => Err(Error::Data(format!(
                    "MATCH_RECOGNIZE: AFTER MATCH SKIP TO '{name}' leads to the match's first row, which would match for ever"
                ))),
                None => Err(Error::Data(format!(
                    "MATCH_RECOGNIZE: AFTER MATCH SKIP TO '{name}', but a match has no row of '{name}'"
                ))),
            }
        };
        match self.skip {
            Skip::PastLastRow => Ok(matched.rows(None).end),
            Skip::ToNextRow => Ok(matched.start + 1),
            Skip::ToFirst(variable) => to(variable, matched.rows(Some(variable)).next()),
            Skip::ToLast(variable) => to(variable, matched.rows(Some(variable)).next_back()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `A B+ C{2}? D*?`: letters with quantifiers; the rows' letters say which variables take them.
    fn pattern(text: &str, skip: Skip) -> Pattern {
        let variable = |word: &str| {
            let (name, quantifier) = word.split_at(1);
            let (bare, reluctant) = match quantifier.strip_suffix('?') {
                Some(bare) if !bare.is_empty() => (bare, true),
                _ => (quantifier, false),
            };
            let (min, max) = match bare {
                "" => (1, Some(1)),
                "?" => (0, Some(1)),
                "*" => (0, None),
                "+" => (1, None),
                exact => {
                    let count = exact.trim_matches(['{', '}']).parse().unwrap();
                    (count, Some(count))
                }
            };
            Variable {
                name: name.to_owned(),
                min,
                max,
                greedy: !reluctant && max != Some(1) && max != Some(min),
            }
        };
        Pattern {
            variables: text.split(' ').map(variable).collect(),
            skip,
            within_ms: 0,
        }
    }

    /// The matches, as the rows' numbers for each variable; a row is a word of the variables that take it.
    fn matches(pattern: &Pattern, rows: &str) -> Vec<String> {
        let rows: Vec<&str> = rows.split(' ').collect();
        let mut runs = Runs::default();
        let mut found = Vec::new();
        for (row, letters) in (0u64..).zip(&rows) {
            let mut test = |variable: usize, _: &Run| {
                Ok(letters.contains(pattern.variables[variable].name.as_str()))
            };
            let matched = pattern.step(&mut runs, row, row as i64, &mut test).unwrap();
            found.extend(matched.iter().map(|run| {
                let parts = pattern.variables.iter().enumerate();
                let parts = parts.flat_map(|(variable, of)| {
                    let rows = run.rows(Some(variable));
                    rows.map(move |row| format!("{}{row}", of.name))
                });
                parts.collect::<Vec<_>>().join(" ")
            }));
        }
        found
    }

    #[test]
    fn a_match_is_contiguous() {
        let abc = pattern("A B C", Skip::PastLastRow);
        assert_eq!(
            matches(&abc, "A B C A B x C A B C"),
            ["A0 B1 C2", "A7 B8 C9"]
        );
    }

    #[test]
    fn a_greedy_variable_takes_what_it_can_and_a_reluctant_one_ends_at_once() {
        let rows = "A B BC BC C";
        assert_eq!(
            matches(&pattern("A B+ C", Skip::PastLastRow), rows),
            ["A0 B1 B2 B3 C4"]
        );
        assert_eq!(
            matches(&pattern("A B+? C", Skip::PastLastRow), rows),
            ["A0 B1 C2"]
        );
        assert_eq!(
            matches(&pattern("A B*? C", Skip::PastLastRow), "A BC C"),
            ["A0 C1"]
        );
        assert_eq!(
            matches(&pattern("A B+?", Skip::PastLastRow), "A B B"),
            ["A0 B1"]
        );
        let mut at_most_2 = pattern("A B* C", Skip::PastLastRow);
        at_most_2.variables[1].max = Some(2);
        assert_eq!(matches(&at_most_2, "A B B C"), ["A0 B1 B2 C3"]);
        assert!(matches(&at_most_2, "A B B BC").is_empty());
        assert_eq!(
            matches(&pattern("A B{2}", Skip::PastLastRow), "A B B B"),
            ["A0 B1 B2"]
        );
    }

    #[test]
    fn an_optional_variable_may_be_left_out() {
        let optional = pattern("A B? C", Skip::PastLastRow);
        assert_eq!(matches(&optional, "A C A B C"), ["A0 C1", "A2 B3 C4"]);
    }

    #[test]
    fn what_is_skipped_begins_no_match() {
        let rows = "A A B B";
        let with = |skip| matches(&pattern("A+ B+?", skip), rows);
        assert_eq!(with(Skip::PastLastRow), ["A0 A1 B2"]);
        assert_eq!(with(Skip::ToNextRow), ["A0 A1 B2", "A1 B2"]);
        let overlapping = |skip| matches(&pattern("A B A", skip), "A B A B A");
        assert_eq!(overlapping(Skip::PastLastRow), ["A0 B1 A2"]);
        assert_eq!(overlapping(Skip::ToLast(2)), ["A0 B1 A2", "A2 B3 A4"]);
        assert_eq!(overlapping(Skip::ToFirst(1)), ["A0 B1 A2", "A2 B3 A4"]);
    }

    #[test]
    fn a_match_waits_for_runs_that_began_earlier() {
        // The run from row 0 wants three; it ends without a match at row 3, and only then the one from row 1 is told.
        let pattern = pattern("A B{3}? C", Skip::PastLastRow);
        let shorter = Pattern {
            variables: vec![
                pattern.variables[0].clone(),
                Variable {
                    min: 0,
                    max: Some(3),
                    greedy: false,
                    ..pattern.variables[1].clone()
                },
                pattern.variables[2].clone(),
            ],
            skip: Skip::PastLastRow,
            within_ms: 0,
        };
        assert_eq!(matches(&shorter, "A AB C x"), ["A0 B1 C2"]);
        assert_eq!(matches(&shorter, "A AB BC x"), ["A0 B1 C2"]);
    }

    #[test]
    fn runs_end_when_they_are_too_long() {
        let mut pattern = pattern("A B+ C", Skip::PastLastRow);
        pattern.within_ms = 3;
        assert_eq!(matches(&pattern, "A B C"), ["A0 B1 C2"]);
        assert!(matches(&pattern, "A B B C").is_empty());
    }

    #[test]
    fn a_skip_to_nowhere_is_an_error() {
        for (text, rows, skip, reason) in [
            ("A B", "A B", Skip::ToFirst(0), "first row"),
            ("A B? C", "A C", Skip::ToLast(1), "no row of 'B'"),
        ] {
            let pattern = pattern(text, skip);
            let mut runs = Runs::default();
            let rows: Vec<&str> = rows.split(' ').collect();
            let result = (0u64..).zip(&rows).try_for_each(|(row, letters)| {
                let mut test = |variable: usize, _: &Run| {
                    Ok(letters.contains(pattern.variables[variable].name.as_str()))
                };
                pattern.step(&mut runs, row, 0, &mut test).map(drop)
            });
            let error = result.unwrap_err().to_string();
            assert!(error.contains(reason), "{error}");
        }
    }
}
