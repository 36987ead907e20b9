//! The registry: Flink's scalar functions by Flink's names, and those that the planner rewrites to (`__...`).

mod arithmetic;
mod call;
mod cast;
mod function;
mod params;
mod temporal_arithmetic;

use std::collections::HashMap;
use std::sync::{Arc, LazyLock};

use datafusion_expr::ScalarUDF;

pub(crate) use arithmetic::is_native;
pub use function::Function;
pub(crate) use params::Argument;

static ALL: LazyLock<Vec<Arc<ScalarUDF>>> = LazyLock::new(|| {
    let groups = [arithmetic::functions(), cast::functions()];
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
