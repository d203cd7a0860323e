//! Which runs a client wants: the few forms of an OData filter that the package writes, joined by `and`. What is not
//! understood is refused: a filter that is passed over gives wrong answers.

use kluis_core::api::azureml::status_text;
use kluis_core::api::runs::RunView;

use crate::error::{Error, Result};

/// Conditions, all of which must hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Filter(Vec<Condition>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Condition {
    /// One of these ids.
    Run(Vec<String>),
    /// The run itself and its children.
    Root(String),
    NotRun(String),
    NoChildren,
    Status(String),
    Target(String),
    HasTag(String),
    Tag(String, String),
    HasProperty(String),
    Property(String, String),
    /// What nothing is, such as a pipeline's step.
    Nothing,
}

impl Filter {
    /// From the package's text; empty when there is none.
    pub(super) fn parse(text: Option<&str>) -> Result<Self> {
        let text = text.unwrap_or_default().trim();
        if text.is_empty() {
            return Ok(Self::default());
        }
        let conditions = split(text).map(|part| condition(part).ok_or_else(unknown)).collect::<Result<_>>()?;
        Ok(Self(conditions))
    }

    /// Whether the run is wanted.
    pub(super) fn wants(&self, run: &RunView) -> bool {
        let same = |a: &str, b: &str| a.eq_ignore_ascii_case(b);
        self.0.iter().all(|condition| match condition {
            Condition::Run(ids) => ids.iter().any(|id| same(id, run.id.as_str())),
            Condition::Root(root) => {
                same(root, run.id.as_str()) || run.parent.as_ref().is_some_and(|parent| same(root, parent.as_str()))
            }
            Condition::NotRun(id) => !same(id, run.id.as_str()),
            Condition::NoChildren => run.parent.is_none(),
            Condition::Status(status) => status == status_text(run.status),
            Condition::Target(target) => same(target, run.compute.as_str()),
            Condition::HasTag(tag) => run.tags.contains_key(tag),
            Condition::Tag(tag, value) => run.tags.get(tag) == Some(value),
            Condition::HasProperty(name) => run.properties.contains_key(name),
            Condition::Property(name, value) => run.properties.get(name) == Some(value),
            Condition::Nothing => false,
        })
    }

    /// The run whose children are wanted too, for they are listed by themselves.
    pub(super) fn root(&self) -> Option<&str> {
        self.0.iter().find_map(|condition| match condition {
            Condition::Root(root) => Some(&**root),
            _ => None,
        })
    }

    /// The runs that are wanted by their ids.
    pub(super) fn ids(&self) -> Option<&[String]> {
        self.0.iter().find_map(|condition| match condition {
            Condition::Run(ids) => Some(&**ids),
            _ => None,
        })
    }
}

fn unknown() -> Error {
    Error::bad_request("runs are filtered by status, tags, properties, target and id here, and this filter is another")
}

/// The parts between the outer `and`s. The package puts brackets around each part and, when there are several, around
/// all.
fn split(text: &str) -> impl Iterator<Item = &str> {
    let around = text.starts_with("((") && text.ends_with("))") || text.starts_with("(RootRunId eq ");
    let text = text.strip_prefix('(').and_then(|t| t.strip_suffix(')')).filter(|_| around).unwrap_or(text);
    let mut rest = Some(text);
    std::iter::from_fn(move || {
        let text = rest?;
        let (part, after) = match text.find(") and ").map(|at| at + 1).or_else(|| text.find(" and ")) {
            Some(at) => (&text[..at], Some(&text[at + " and ".len()..])),
            None => (text, None),
        };
        rest = after;
        Some(part.trim())
    })
}

fn condition(part: &str) -> Option<Condition> {
    let bare = part.strip_prefix('(').and_then(|p| p.strip_suffix(')')).unwrap_or(part);
    if bare == "ParentRunId eq null" {
        return Some(Condition::NoChildren);
    }
    if bare.starts_with("RunId eq ") {
        let ids: Option<Vec<_>> =
            bare.split(" or ").map(|id| id.strip_prefix("RunId eq ").map(ToOwned::to_owned)).collect();
        return ids.map(Condition::Run);
    }
    if let Some(exists) = bare.split_once(" ne null or ").map(|(name, _)| name) {
        return match exists.split_once('/')? {
            ("Tags", name) => Some(Condition::HasTag(name.to_owned())),
            ("Properties", name) => Some(Condition::HasProperty(name.to_owned())),
            _ => None,
        };
    }
    if bare.starts_with("RunType eq ") || bare.starts_with("RunTypeV2/") {
        return Some(Condition::Nothing);
    }
    // The package quotes values of tags and properties as JSON, and nothing else.
    let word = |text: &str| serde_json::from_str(text).unwrap_or_else(|_| text.to_owned());
    let Some((name, value)) = bare.split_once(" eq ") else {
        return bare.strip_prefix("RunId ne ").map(|id| Condition::NotRun(word(id)));
    };
    match name.split_once('/') {
        Some(("Tags", tag)) => Some(Condition::Tag(tag.to_owned(), word(value))),
        Some(("Properties", name)) => Some(Condition::Property(name.to_owned(), word(value))),
        Some(_) => None,
        None => match name {
            "Status" => Some(Condition::Status(word(value))),
            "Target" => Some(Condition::Target(word(value))),
            "RootRunId" => Some(Condition::Root(word(value))),
            _ => None,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_packages_own_filters_are_understood() {
        use Condition::{HasProperty, HasTag, NoChildren, Nothing, Property, Root, Run, Status, Tag, Target};
        for (text, wanted) in [
            ("(ParentRunId eq null)", vec![NoChildren]),
            ("((Tags/k eq \"v w\") and (ParentRunId eq null))", vec![Tag("k".into(), "v w".into()), NoChildren]),
            ("(Tags/k ne null or Tags/k eq null)", vec![HasTag("k".into())]),
            (
                "((Properties/p ne null or Properties/p eq null) and (Properties/q eq \"1\"))",
                vec![HasProperty("p".into()), Property("q".into(), "1".into())],
            ),
            ("(Status eq Completed)", vec![Status("Completed".into())]),
            ("(Target eq cluster)", vec![Target("cluster".into())]),
            ("RunId eq a or RunId eq b", vec![Run(vec!["a".into(), "b".into()])]),
            ("(RootRunId eq a and RunId ne a)", vec![Root("a".into()), Condition::NotRun("a".into())]),
            ("(RunType eq x or Properties/azureml.runsource eq x)", vec![Nothing]),
        ] {
            assert_eq!(Filter::parse(Some(text)).unwrap(), Filter(wanted), "{text}");
        }
        assert_eq!(Filter::parse(None).unwrap(), Filter::default());
    }

    #[test]
    fn what_is_not_understood_is_refused_and_not_repeated() {
        for text in ["(CreatedUtc ge hunter2)", "hunter2", "(Name eq hunter2)", "(Other/hunter2 eq 1)"] {
            let refused = Filter::parse(Some(text)).unwrap_err().to_string();
            assert!(!refused.contains("hunter2"), "{refused}");
        }
    }
}
