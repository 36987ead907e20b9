//! Breadth-first search through all states of a small world, so that the first violation found has a shortest way to it.
//!
//! Written here because of what stateright (0.31) would bring: a web server, and a feature of serde that the whole workspace would then be
//! compiled with.

use std::collections::{HashSet, VecDeque};

use crate::world::{Step, Violation, World};

/// What was seen.
#[derive(Debug)]
pub struct Explored {
    /// Different states.
    pub states: usize,
    /// Steps taken between them.
    pub steps: usize,
    /// The most of what the states came to, see [`World::marks`].
    pub marks: Vec<&'static str>,
}

/// Takes all ways through the world; panics with the steps that lead to a violation.
pub fn explore(name: &str, start: World, most_states: usize) -> Explored {
    let mut seen = HashSet::from([start.fingerprint()]);
    let mut marks = HashSet::new();
    // Where each state was come from; the world itself is dropped when its steps are taken.
    let mut ways: Vec<Option<(usize, Step)>> = vec![None];
    let mut queue = VecDeque::from([(0, start)]);
    let mut steps = 0;
    while let Some((at, world)) = queue.pop_front() {
        for step in world.steps() {
            steps += 1;
            let next = match world.after(&step) {
                Ok(next) => next,
                Err(violation) => report(name, &ways, at, &step, &violation),
            };
            marks.extend(next.marks());
            if !seen.insert(next.fingerprint()) {
                continue;
            }
            assert!(
                seen.len() <= most_states,
                "{name}: more than {most_states} states"
            );
            ways.push(Some((at, step)));
            queue.push_back((ways.len() - 1, next));
        }
    }
    let mut marks: Vec<_> = marks.into_iter().collect();
    marks.sort_unstable();
    Explored {
        states: seen.len(),
        steps,
        marks,
    }
}

fn report(
    name: &str,
    ways: &[Option<(usize, Step)>],
    mut at: usize,
    last: &Step,
    violation: &Violation,
) -> ! {
    let mut steps = vec![format!("{last:?}")];
    while let Some((from, step)) = &ways[at] {
        steps.push(format!("{step:?}"));
        at = *from;
    }
    steps.reverse();
    panic!("{name}: {violation}\nafter\n  {}", steps.join("\n  "));
}
