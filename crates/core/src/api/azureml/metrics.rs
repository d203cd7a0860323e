//! Metrics: what `log`, `log_list`, `log_row` and `log_table` send, and what `get_metrics` puts together. A document
//! holds rows of one metric; the client makes a value, a list or a table of them by how many there are.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::api::runs::{Metric, MetricKind};
use crate::clock::Timestamp;

const SCALAR: &str = "azureml.v1.scalar";
const LIST: &str = "azureml.v1.list";
const TABLE: &str = "azureml.v1.table";
/// JSON has no such numbers; they are stored as these texts.
const NOT_JSON: [&str; 3] = ["NaN", "Infinity", "-Infinity"];

/// Metrics of a run: `POST .../runs/{run}/batch`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MetricsBatch {
    /// The metrics.
    pub values: Vec<MetricDocument>,
}

/// The answer to [`MetricsBatch`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MetricsPosted {
    /// Always empty: a batch is taken or refused as a whole.
    pub errors: Vec<Value>,
}

/// Rows of one metric.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct MetricDocument {
    /// The run's files, for metrics that are files.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data_container_id: Option<String>,
    /// Its name.
    pub name: String,
    /// The columns with the types of their cells: `double`, `int`, `string`, `bool`, `none`, or `Artifact`.
    #[serde(default)]
    pub columns: BTreeMap<String, String>,
    /// The rows.
    #[serde(default)]
    pub value: Vec<MetricRow>,
    /// What kind of metric it is.
    #[serde(default)]
    pub properties: MetricProperties,
    /// More rows are asked for with this.
    #[serde(default)]
    pub continuation_token: Option<String>,
}

/// One row.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct MetricRow {
    /// The row's own id.
    #[serde(default)]
    pub metric_id: Option<String>,
    /// When it was logged.
    #[serde(default)]
    pub created_utc: Option<Timestamp>,
    /// The step, when the script gave one.
    #[serde(default)]
    pub step: Option<i64>,
    /// The cells by column.
    #[serde(default)]
    pub data: Map<String, Value>,
}

/// What kind of metric it is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct MetricProperties {
    /// `azureml.v1.scalar`, `.list` or `.table`; others are files.
    #[serde(default)]
    pub ux_metric_type: Option<String>,
}

/// Which metrics there are: `POST .../runs/{run}/list`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ListMetrics {
    /// A previous page's.
    pub continuation_token: Option<String>,
}

/// The answer to [`ListMetrics`].
pub type MetricDefinitions = super::Listed<MetricDefinition>;

/// One metric in the list of them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct MetricDefinition {
    /// Its name, in an object.
    pub metric_key: MetricKey,
    /// Not told.
    pub columns: BTreeMap<String, String>,
}

/// A metric's name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MetricKey {
    /// The name.
    pub name: String,
    /// None.
    pub namespace: String,
}

impl MetricDefinition {
    /// The metric of this name.
    pub fn new(name: String) -> Self {
        Self { metric_key: MetricKey { name, namespace: String::new() }, columns: BTreeMap::new() }
    }
}

/// One metric whole: `POST .../runs/{run}/full`, answered with a [`MetricDocument`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ReadMetric {
    /// Its name.
    pub metric_name: String,
    /// A previous answer's.
    #[serde(default)]
    pub continuation_token: Option<String>,
}

/// A document that is no metric. Never holds what stood in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidMetrics {
    /// A row without its cell.
    #[error("a metric's row has no cell of the metric's name")]
    NoCell,
}

impl MetricDocument {
    /// The metrics that were logged by this. Rows without a time are of `now`.
    pub fn into_metrics(self, now: Timestamp) -> Result<Vec<Metric>, InvalidMetrics> {
        let Self { name, value: rows, properties, .. } = self;
        let Some(first) = rows.first() else { return Ok(Vec::new()) };
        let (step, time) = (first.step, first.created_utc.unwrap_or(now));
        let whole = |kind, value| Metric { name: name.clone(), value, kind, step, time };
        let cell = |row: &mut MetricRow| row.data.remove(&name).ok_or(InvalidMetrics::NoCell);
        match properties.ux_metric_type.as_deref() {
            Some(LIST) => {
                let cells = rows.into_iter().map(|mut row| cell(&mut row)).collect::<Result<_, _>>()?;
                Ok(vec![whole(MetricKind::List, Value::Array(cells))])
            }
            Some(TABLE) if rows.len() == 1 => {
                let row = rows.into_iter().next().map(|row| row.data).unwrap_or_default();
                Ok(vec![whole(MetricKind::Row, Value::Object(row))])
            }
            Some(TABLE) => {
                let names: Vec<String> = rows.iter().flat_map(|row| row.data.keys().cloned()).collect();
                let mut table: Map<String, Value> =
                    names.into_iter().map(|column| (column, Value::Array(Vec::new()))).collect();
                for mut row in rows {
                    for (column, cells) in &mut table {
                        if let Value::Array(cells) = cells {
                            cells.push(row.data.remove(column).unwrap_or_default());
                        }
                    }
                }
                Ok(vec![whole(MetricKind::Table, Value::Object(table))])
            }
            // A file is logged as the place where it lies.
            _ => {
                let scalar = |mut row: MetricRow| {
                    let (step, time) = (row.step, row.created_utc.unwrap_or(now));
                    Ok(Metric { name: name.clone(), value: cell(&mut row)?, kind: MetricKind::Scalar, step, time })
                };
                rows.into_iter().map(scalar).collect()
            }
        }
    }

    /// All that was logged under one name, in the order logged.
    pub fn of(name: &str, logged: &[Metric]) -> Self {
        let table = logged.iter().any(|m| matches!(m.kind, MetricKind::Row | MetricKind::Table) && m.value.is_object());
        let rows: Vec<MetricRow> = logged.iter().flat_map(|metric| rows(name, metric, table)).collect();
        let kind = match logged.first() {
            _ if table => TABLE,
            Some(Metric { kind: MetricKind::List, .. }) => LIST,
            _ => SCALAR,
        };
        let mut document = Self {
            data_container_id: None,
            name: name.to_owned(),
            columns: BTreeMap::new(),
            value: rows,
            properties: MetricProperties { ux_metric_type: Some(kind.to_owned()) },
            continuation_token: None,
        };
        document.square();
        document
    }

    /// Gives every row every column, for the client refuses a row that lacks one, and names the columns' types.
    fn square(&mut self) {
        let columns: std::collections::BTreeSet<String> =
            self.value.iter().flat_map(|row| row.data.keys().cloned()).collect();
        for column in columns {
            for row in &mut self.value {
                row.data.entry(column.clone()).or_insert(Value::Null);
            }
            let cells = self.value.iter().map(|row| &row.data[&column]);
            let kind = cell_type(cells).to_owned();
            self.columns.insert(column, kind);
        }
    }
}

/// The rows of one metric: its cells under the metric's name, or a table's under its columns.
fn rows(name: &str, metric: &Metric, table: bool) -> Vec<MetricRow> {
    let row = |data: Map<String, Value>| MetricRow {
        metric_id: None,
        created_utc: Some(metric.time),
        step: metric.step,
        data,
    };
    match &metric.value {
        Value::Object(columns) if table => {
            let length = columns.values().map(|cells| cells.as_array().map_or(1, Vec::len)).max().unwrap_or(0);
            let at = |cells: &Value, index: usize| match cells {
                Value::Array(cells) => cells.get(index).cloned().unwrap_or_default(),
                one if index == 0 => one.clone(),
                _ => Value::Null,
            };
            let cells = |index| columns.iter().map(|(column, cells)| (column.clone(), at(cells, index))).collect();
            (0..length).map(|index| row(cells(index))).collect()
        }
        Value::Array(cells) if metric.kind == MetricKind::List => {
            cells.iter().map(|cell| row(Map::from_iter([(name.to_owned(), cell.clone())]))).collect()
        }
        one => vec![row(Map::from_iter([(name.to_owned(), one.clone())]))],
    }
}

/// The type of a column's cells. The client makes a `float` of each cell of a `double`, so all of them must be numbers,
/// or the texts that stand for the numbers JSON does not have; a column of whole numbers stays one.
fn cell_type<'a>(cells: impl Iterator<Item = &'a Value> + Clone) -> &'static str {
    let numeric = |cell: &Value| cell.is_number() || cell.as_str().is_some_and(|text| NOT_JSON.contains(&text));
    if cells.clone().all(|cell| cell.is_i64() || cell.is_u64()) {
        "int"
    } else if cells.clone().all(numeric) {
        "double"
    } else if cells.clone().all(Value::is_boolean) {
        "bool"
    } else if cells.clone().all(Value::is_null) {
        "none"
    } else {
        "string"
    }
}

/// JSON as Python writes it, with `NaN` and `Infinity` for numbers, as JSON: those become texts, which is how metrics
/// are stored. `None` when there are none.
pub fn numbers_as_texts(json: &[u8]) -> Option<Vec<u8>> {
    let mut out: Option<Vec<u8>> = None;
    let (mut in_text, mut escaped, mut at) = (false, false, 0);
    while at < json.len() {
        let rest = &json[at..];
        let bare = if in_text {
            None
        } else {
            ["-Infinity", "Infinity", "NaN"].into_iter().find(|w| rest.starts_with(w.as_bytes()))
        };
        if let Some(word) = bare {
            let out = out.get_or_insert_with(|| json[..at].to_vec());
            out.push(b'"');
            out.extend_from_slice(word.as_bytes());
            out.push(b'"');
            at += word.len();
            continue;
        }
        match json[at] {
            _ if escaped => escaped = false,
            b'\\' if in_text => escaped = true,
            b'"' => in_text = !in_text,
            _ => {}
        }
        if let Some(out) = &mut out {
            out.push(json[at]);
        }
        at += 1;
    }
    out
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const NOW: Timestamp = Timestamp::from_seconds(7);

    fn sent(kind: &str, rows: Value) -> Vec<Metric> {
        let document = json!({ "name": "m", "columns": {}, "value": rows, "properties": { "uxMetricType": kind } });
        serde_json::from_value::<MetricDocument>(document).unwrap().into_metrics(NOW).unwrap()
    }

    fn metric(kind: MetricKind, value: Value) -> Metric {
        Metric { name: "m".into(), value, kind, step: None, time: NOW }
    }

    #[test]
    fn what_is_logged_is_one_metric_of_its_kind() {
        let scalar = sent(SCALAR, json!([{ "data": { "m": 0.5 }, "step": 3 }]));
        assert_eq!(scalar, [Metric { step: Some(3), ..metric(MetricKind::Scalar, json!(0.5)) }]);
        let list = sent(LIST, json!([{ "data": { "m": 1 } }, { "data": { "m": 2 } }]));
        assert_eq!(list, [metric(MetricKind::List, json!([1, 2]))]);
        let row = sent(TABLE, json!([{ "data": { "a": 1, "b": "x" } }]));
        assert_eq!(row, [metric(MetricKind::Row, json!({ "a": 1, "b": "x" }))]);
        let table = sent(TABLE, json!([{ "data": { "a": 1 } }, { "data": { "a": 2, "b": true } }]));
        assert_eq!(table, [metric(MetricKind::Table, json!({ "a": [1, 2], "b": [null, true] }))]);
        let image = sent("azureml.v2.image", json!([{ "data": { "m": "aml://artifactId/x" } }]));
        assert_eq!(image, [metric(MetricKind::Scalar, json!("aml://artifactId/x"))]);
        let document = json!({ "name": "m", "value": [{ "data": {} }], "properties": { "uxMetricType": SCALAR } });
        let document: MetricDocument = serde_json::from_value(document).unwrap();
        assert_eq!(document.into_metrics(NOW), Err(InvalidMetrics::NoCell));
    }

    /// As the client puts rows together, so that the promise is about what comes out there.
    fn gathered(document: &MetricDocument) -> Value {
        let column = |name: &String| {
            let cells: Vec<Value> = document.value.iter().map(|row| row.data[name].clone()).collect();
            if cells.len() == 1 { cells[0].clone() } else { Value::Array(cells) }
        };
        if document.properties.ux_metric_type.as_deref() == Some(TABLE) {
            document.columns.keys().map(|name| (name.clone(), column(name))).collect::<Map<_, _>>().into()
        } else {
            column(&document.name)
        }
    }

    #[test]
    fn what_was_logged_comes_back() {
        use MetricKind::{List, Row, Scalar, Table};
        for (logged, wanted) in [
            (vec![(Scalar, json!(0.5))], json!(0.5)),
            (vec![(Scalar, json!(1)), (Scalar, json!(2.5))], json!([1, 2.5])),
            (vec![(List, json!([1, 2])), (List, json!([3]))], json!([1, 2, 3])),
            (vec![(Row, json!({ "a": 1 })), (Row, json!({ "b": 2 }))], json!({ "a": [1, null], "b": [null, 2] })),
            (vec![(Table, json!({ "a": [1, 2], "b": "x" }))], json!({ "a": [1, 2], "b": ["x", null] })),
            (vec![(Scalar, json!("text"))], json!("text")),
        ] {
            let logged: Vec<Metric> = logged.into_iter().map(|(kind, value)| metric(kind, value)).collect();
            assert_eq!(gathered(&MetricDocument::of("m", &logged)), wanted);
        }
    }

    #[test]
    fn a_column_is_double_only_when_every_cell_becomes_a_float() {
        let kind = |cells: Value| cell_type(cells.as_array().unwrap().iter());
        assert_eq!(kind(json!([1, 2])), "int");
        assert_eq!(kind(json!([1, 0.5, "NaN"])), "double");
        assert_eq!(kind(json!([0.5, null])), "string");
        assert_eq!(kind(json!([true])), "bool");
        assert_eq!(kind(json!([0.5, "x"])), "string");
    }

    #[test]
    fn numbers_that_json_does_not_have_become_texts_and_texts_stay() {
        let python = br#"{"a":NaN,"b":[-Infinity, Infinity],"c":"NaN \" Infinity","NaN":1}"#;
        let json = br#"{"a":"NaN","b":["-Infinity", "Infinity"],"c":"NaN \" Infinity","NaN":1}"#;
        assert_eq!(numbers_as_texts(python).as_deref(), Some(&json[..]));
        assert_eq!(numbers_as_texts(br#"{"a":"NaN"}"#), None);
    }
}
