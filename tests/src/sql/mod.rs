//! Cases of SQL from files: `tests/sql/README.md` tells their format. [`case`] reads them, [`feed`] lays their rows out as files,
//! [`run`] runs them on a cluster, [`fold`] makes final rows of what came out.

pub mod case;
pub mod feed;
pub mod fold;
pub mod run;
