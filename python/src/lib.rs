//! `kluis._native`: the extension module of the Python package `kluis`. Thin: it turns Python's objects into wire types,
//! leaves the interpreter free while a call waits, and raises the package's exceptions. The hand-written package in
//! `python/kluis` is the interface; `_native.pyi` there must change with what is exported here.
//!
//! **Fork.** Training code forks. Whatever a forked process can not use on (connections, the runtime) is kept together
//! with the id of the process that made it and made anew in another. Locks around it are taken only while attached to
//! the interpreter, and Python forks only while attached: so no lock is ever held in a process that was just made.

use pyo3::prelude::*;

mod broker;
mod client;
mod config;
mod convert;
mod failure;
mod logs;
mod process;
mod runtime;

#[pymodule(name = "_native")]
mod native {
    #[pymodule_export]
    use crate::broker::{Broker, Rotations};
    #[pymodule_export]
    use crate::client::{Client, check_experiment_name};
    #[pymodule_export]
    use crate::config::{connect, write_config};
    #[pymodule_export]
    use crate::logs::Logs;
    #[pymodule_export]
    use crate::runtime::Call;
    use pyo3::prelude::*;

    #[pymodule_init]
    fn init(module: &Bound<'_, PyModule>) -> PyResult<()> {
        module.add("__version__", env!("CARGO_PKG_VERSION"))
    }
}
