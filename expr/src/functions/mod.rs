//! The registry: Flink's scalar functions by Flink's names, and those that the planner rewrites to (`__...`).

mod arithmetic;
mod array;
mod call;
mod cast;
mod clock;
mod collected;
mod collection;
mod conditional;
mod format;
mod function;
mod hash;
mod inet;
mod json;
mod json_build;
mod json_write;
mod like;
mod math;
mod params;
mod printf;
mod regex;
mod search;
mod string;
mod temporal;
mod temporal_arithmetic;
mod temporal_round;
mod text_or_bytes;
mod unit;
mod url;

use std::collections::HashMap;
use std::sync::{Arc, LazyLock};

use datafusion_expr::ScalarUDF;

pub(crate) use arithmetic::is_native;
pub use function::Function;
pub(crate) use params::Argument;

static ALL: LazyLock<Vec<Arc<ScalarUDF>>> = LazyLock::new(|| {
    let groups = [
        arithmetic::functions(),
        array::functions(),
        cast::functions(),
        clock::functions(),
        collected::functions(),
        collection::functions(),
        conditional::functions(),
        format::functions(),
        hash::functions(),
        inet::functions(),
        json::functions(),
        json_build::functions(),
        like::functions(),
        math::functions(),
        printf::functions(),
        regex::functions(),
        search::functions(),
        string::functions(),
        temporal::functions(),
        text_or_bytes::functions(),
        url::functions(),
    ];
    groups
        .into_iter()
        .flatten()
        .map(|function| Arc::new(ScalarUDF::new_from_impl(function)))
        .collect()
});

static BY_NAME: LazyLock<HashMap<String, Arc<ScalarUDF>>> = LazyLock::new(|| {
    let mut by_name = HashMap::new();
    for function in all() {
        by_name.insert(function.name().to_ascii_uppercase(), Arc::clone(function));
        for alias in function.aliases() {
            by_name.insert(alias.to_ascii_uppercase(), Arc::clone(function));
        }
    }
    by_name
});

/// All functions, each once.
pub fn all() -> &'static [Arc<ScalarUDF>] {
    &ALL
}

/// A function by its name or an alias, in any case.
pub fn lookup(name: &str) -> Option<Arc<ScalarUDF>> {
    BY_NAME.get(&name.to_ascii_uppercase()).cloned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique() {
        let names: usize = all().iter().map(|f| 1 + f.aliases().len()).sum();
        assert_eq!(names, BY_NAME.len());
    }
}
