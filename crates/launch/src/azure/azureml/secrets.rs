//! The credential service: secrets are read, one by one or several at once, and nothing else is done with them.

use hyper::body::Incoming;
use hyper::{Method, Request, StatusCode};
use kluis_core::api::azureml::{NamedSecrets, SecretDocument, SecretDocuments};
use kluis_core::api::broker::{Answer, BrokerError, Request as Ask};
use kluis_core::api::code;
use kluis_core::api::session::ReadValue;
use kluis_core::name::SecretName;
use kluis_core::plaintext::Plaintext;

use super::{History, Outcome, Refusal, http, not_served, peers, read};
use crate::membership::Member;

impl History {
    pub(super) async fn credential(&self, rest: &[&str], request: Request<Incoming>, member: Member) -> Outcome {
        match (request.method(), rest) {
            (&Method::GET, ["secrets", name]) => {
                let name = SecretName::parse(name).map_err(|error| Refusal::NotFound(error.to_string()))?;
                let (found, _) = self.secrets(vec![name.clone()], member).await?;
                let secret = found.into_iter().next().ok_or_else(|| missing(&name))?;
                let size = 512 + 6 * secret.value.as_ref().map_or(0, Plaintext::len);
                Ok(http::sized_json(StatusCode::OK, &secret, size))
            }
            (&Method::POST, ["secrets:getbatch"]) => {
                let asked: NamedSecrets = read(request).await?;
                let names = asked.secrets.into_iter().map(|asked| asked.name).collect();
                let (secrets, not_found_secrets) = self.secrets(names, member).await?;
                let values = secrets.iter().filter_map(|secret| secret.value.as_ref());
                let size = 512 + values.map(|value| 512 + 6 * value.len()).sum::<usize>();
                Ok(http::sized_json(StatusCode::OK, &SecretDocuments { secrets, not_found_secrets }, size))
            }
            (_, [first, ..]) if *first == "secrets" || first.starts_with("secrets:") => {
                let message = format!(
                    "The run {} may read secrets of the workspace {} and do nothing else with them. Set, list and delete \
                     secrets outside of a run.",
                    self.desk.context.run, self.desk.context.workspace
                );
                Err(Refusal::Forbidden(message))
            }
            _ => Err(not_served()),
        }
    }

    async fn secrets(
        &self,
        names: Vec<SecretName>,
        member: Member,
    ) -> Result<(Vec<SecretDocument>, Vec<SecretName>), Refusal> {
        let rank = peers::rank(member, self.desk.context.node);
        let ask = Ask::GetSecrets { names, refresh: false, rank, timeout_ms: None };
        match self.desk.answer(ask, member).await {
            Answer::Secrets(read) => {
                let document = |item: ReadValue| {
                    // When it was set is not told to runs.
                    SecretDocument::new(item.name, Some(item.value), None, self.began, self.began)
                };
                Ok((read.items.into_iter().map(document).collect(), read.missing))
            }
            Answer::Error(error) => Err(error.into()),
            _ => Err(not_served()),
        }
    }
}

fn missing(name: &SecretName) -> Refusal {
    Refusal::Broker(BrokerError {
        code: code::SECRET_NOT_FOUND.to_owned(),
        detail: format!("Secret {name} not found."),
    })
}
