//! Wire types and Python's own: objects become `dict`, lists `list`, texts `str`. No type of the wire holds a value here;
//! values travel as arguments and results of their own.

use kluis_core::api::code;
use pyo3::IntoPyObjectExt;
use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyDict, PyFloat, PyInt, PyList, PyMapping, PyString, PyTuple};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Number, Value};

use crate::failure::Failure;

/// No metric and no request of ours is deeper; an object that holds itself is.
const MAX_DEPTH: usize = 16;

/// A wire type as Python's objects.
pub(crate) fn to_python<'py>(py: Python<'py>, wire: &impl Serialize) -> PyResult<Bound<'py, PyAny>> {
    let value = serde_json::to_value(wire).expect("wire types are JSON with text keys");
    value_to_python(py, &value)
}

/// Python's objects as a wire type. What does not fit is told by its place in the type, not by its content.
pub(crate) fn from_python<T: DeserializeOwned>(object: &Bound<'_, PyAny>) -> PyResult<T> {
    let value = value_from_python(object)?;
    Ok(serde_json::from_value(value).map_err(|error| Failure::new(code::BAD_REQUEST, error.to_string()))?)
}

fn value_to_python<'py>(py: Python<'py>, value: &Value) -> PyResult<Bound<'py, PyAny>> {
    match value {
        Value::Null => Ok(py.None().into_bound(py)),
        Value::Bool(b) => b.into_bound_py_any(py),
        Value::Number(n) => match (n.as_i64(), n.as_u64()) {
            (Some(i), _) => i.into_bound_py_any(py),
            (None, Some(u)) => u.into_bound_py_any(py),
            (None, None) => n.as_f64().into_bound_py_any(py),
        },
        Value::String(s) => s.into_bound_py_any(py),
        Value::Array(items) => {
            let list = PyList::empty(py);
            for item in items {
                list.append(value_to_python(py, item)?)?;
            }
            Ok(list.into_any())
        }
        Value::Object(entries) => {
            let dict = PyDict::new(py);
            for (key, item) in entries {
                dict.set_item(key, value_to_python(py, item)?)?;
            }
            Ok(dict.into_any())
        }
    }
}

/// Python's objects as JSON. Arrays and scalars of numpy, torch and the like give themselves up by `tolist`; numbers that
/// JSON has not become the texts `NaN`, `Infinity` and `-Infinity`, which the reading side turns back.
pub(crate) fn value_from_python(object: &Bound<'_, PyAny>) -> PyResult<Value> {
    from_python_at(object, 0)
}

fn from_python_at(object: &Bound<'_, PyAny>, depth: usize) -> PyResult<Value> {
    if depth > MAX_DEPTH {
        return Err(PyTypeError::new_err("nested too deeply: at most 16 levels of lists and mappings"));
    }
    if object.is_none() {
        return Ok(Value::Null);
    }
    // Before int: a bool is one.
    if object.is_instance_of::<PyBool>() {
        return Ok(Value::Bool(object.extract()?));
    }
    if object.is_instance_of::<PyInt>() {
        return Ok(match object.extract::<i64>() {
            Ok(i) => i.into(),
            Err(_) => float(object.extract()?),
        });
    }
    if object.is_instance_of::<PyFloat>() {
        return Ok(float(object.extract()?));
    }
    if let Ok(text) = object.cast::<PyString>() {
        return Ok(Value::String(text.to_cow()?.into_owned()));
    }
    if object.is_instance_of::<PyList>() || object.is_instance_of::<PyTuple>() {
        let items = object.try_iter()?.map(|item| from_python_at(&item?, depth + 1));
        return items.collect::<PyResult<Vec<_>>>().map(Value::Array);
    }
    if let Ok(mapping) = object.cast::<PyMapping>() {
        let mut entries = Map::new();
        for entry in mapping.items()?.iter() {
            let (key, item): (Bound<'_, PyAny>, Bound<'_, PyAny>) = entry.extract()?;
            entries.insert(key.str()?.to_cow()?.into_owned(), from_python_at(&item, depth + 1)?);
        }
        return Ok(Value::Object(entries));
    }
    if object.hasattr("tolist")? {
        return from_python_at(&object.call_method0("tolist")?, depth + 1);
    }
    let kind = object.get_type().name()?;
    Err(PyTypeError::new_err(format!("a {kind} can not be sent; use numbers, texts, lists and mappings of them")))
}

fn float(number: f64) -> Value {
    Number::from_f64(number).map_or_else(
        || {
            let text = if number.is_nan() {
                "NaN"
            } else if number > 0.0 {
                "Infinity"
            } else {
                "-Infinity"
            };
            Value::String(text.to_owned())
        },
        Value::Number,
    )
}
