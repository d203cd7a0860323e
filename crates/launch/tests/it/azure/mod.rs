//! Azure's clients in a run, as bytes on a socket: what they are told, what they get, and who else gets nothing.

mod azureml;
mod proxy;
mod strangers;

use serde_json::{Value, json};

use crate::harness::{Ended, Run, bwrap_works};

/// A client of the standard library. `ask` answers status, headers and body.
const CLIENT: &str = "
import json, os, socket, ssl, sys, time, urllib.error, urllib.parse, urllib.request
def ask(url, method='GET', headers={}, body=None):
    request = urllib.request.Request(url, method=method, headers=headers, data=body)
    context = ssl.create_default_context(cafile=os.environ['SSL_CERT_FILE']) if url.startswith('https') else None
    try:
        with urllib.request.urlopen(request, timeout=20, context=context) as answer:
            return answer.status, {k.lower(): v for k, v in answer.headers.items()}, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, {k.lower(): v for k, v in error.headers.items()}, error.read().decode()
def identity(resource, secret=None, header='secret', method='GET'):
    url = os.environ['MSI_ENDPOINT'] + '?api-version=2017-09-01&resource=' + urllib.parse.quote(resource, '')
    status, _, body = ask(url, method, {header: secret or os.environ['MSI_SECRET']})
    return status, json.loads(body)
URL = os.environ['KLUIS_VAULT_URL']
RESOURCE = 'https://' + URL.split('.', 1)[1]
def bearer():
    return {'Authorization': 'Bearer ' + identity(RESOURCE)[1]['access_token']}
def vault(path, method='GET', headers=None, body=None):
    return ask(URL + path, method, bearer() if headers is None else headers, body)
def short(answer):
    status, _, body = answer
    error = json.loads(body).get('error', {})
    return [status, error.get('code'), error.get('innererror', {}).get('code')]
";

async fn run_of(script: &str) -> Run {
    Run::of_python(&format!("{CLIENT}{script}")).await
}

/// What a script printed last, as JSON.
fn said(ended: &Ended) -> Value {
    let out = ended.succeeded();
    serde_json::from_str(out.lines().last().unwrap_or_default()).unwrap_or_else(|_| panic!("no JSON: {out}"))
}

const GET: &str = "
status, headers, body = vault('/secrets/Db-Password/?api-version=7.6', headers={})
challenge = headers['www-authenticate']
refused = [status, challenge.replace(URL, 'URL'), 'correct' in body]
status, headers, body = vault('/secrets/Db-Password/?api%2Dversion=2025-07-01')
bundle = json.loads(body)
print('the value is', bundle['value'], len(bundle['value']))
named = any('vault' in line and line.startswith('127.') for line in open('/etc/hosts'))
print(json.dumps({'refused': refused, 'status': status, 'id': bundle['id'].replace(URL, 'URL'), 'type': headers['content-type'],
    'attributes': bundle['attributes'], 'pid': os.getpid(), 'proxy': 'https_proxy' in os.environ, 'hosts': named}))
";

async fn get_behind(confine: &str) -> Value {
    let run = run_of(GET).await.hand_over("confine", json!(confine)).secret("db-password", "correct horse");
    let address = run.fake.address.clone();
    let port = address.rsplit_once(':').unwrap().1;
    let ended = run.finish().await;
    let out = ended.succeeded();
    assert!(out.starts_with("the value is *** 13\n"), "{out}");
    let said = said(&ended);
    let authority = format!("https://localhost:{port}/adfs");
    let challenge = format!("Bearer authorization=\"{authority}\", resource=\"https://vault.localhost:{port}\"");
    assert_eq!(said["refused"], json!([401, challenge, false]));
    assert_eq!(said["status"], 200);
    assert_eq!(said["id"], "URL/secrets/Db-Password/00000000000000000000000000000007");
    assert_eq!(said["attributes"], json!({"enabled": true}));
    assert_eq!(said["type"], "application/json; charset=utf-8");
    let told = ended.fake.told();
    let reads: Vec<_> = told.reads.iter().map(|r| (r.sequence, r.name.key().to_owned(), r.rank, r.pid)).collect();
    let pid = u32::try_from(said["pid"].as_u64().unwrap()).unwrap();
    assert_eq!(reads, [(1, "db-password".to_owned(), 0, pid)]);
    let leaks = &told.end.as_ref().unwrap().leaks;
    assert_eq!((leaks.len(), leaks[0].secret.key()), (1, "db-password"));
    drop(told);
    assert!(!format!("{}{}", ended.system(), ended.stderr).contains("correct horse"));
    said
}

#[tokio::test]
async fn a_secret_comes_over_the_vaults_own_name_by_a_hosts_file_of_the_runs_own() {
    if bwrap_works() {
        let said = get_behind("bwrap").await;
        assert!(said["hosts"] == true && said["proxy"] == false, "{said}");
        let machine = std::fs::read_to_string("/etc/hosts").unwrap();
        assert!(!machine.contains("vault.localhost"), "the machine's own file is as it was");
    }
}

#[tokio::test]
async fn without_namespaces_it_comes_by_a_proxy() {
    for confine in ["landlock", "none"] {
        let said = get_behind(confine).await;
        assert!(said["hosts"] == false && said["proxy"] == true, "{confine}: {said}");
    }
}

#[tokio::test]
async fn an_identity_is_good_for_the_runs_vault_and_needs_the_runs_secret() {
    let script = "
ok, body = identity(RESOURCE)
app = identity(RESOURCE + '/', header='X-IDENTITY-HEADER')
life = int(body['expires_on']) - time.time()
refusals = [identity('https://management.azure.com/'), identity('https://vault.azure.net'), identity(''),
    identity(RESOURCE, secret='x' * 64), identity(RESOURCE, method='POST'), ask(os.environ['MSI_ENDPOINT'])[0]]
print(json.dumps({'ok': [ok, body['token_type'], body['resource'] == RESOURCE, int(body['expires_in']) > 800, 800 < life < 901],
    'app': app[0], 'again': app[1]['access_token'] == body['access_token'],
    'refusals': [r if isinstance(r, int) else [r[0], r[1]['error']] for r in refusals],
    'repeats': os.environ['MSI_SECRET'] in str(refusals) or body['access_token'] in str(refusals)}))
";
    let said = said(&run_of(script).await.finish().await);
    assert_eq!(said["ok"], json!([200, "Bearer", true, true, true]));
    assert!(said["app"] == 200 && said["again"] == true && said["repeats"] == false, "{said}");
    let resource = json!([400, "invalid_resource"]);
    let expected = json!([resource, resource, resource, [401, "invalid_secret"], [400, "invalid_request"], 401]);
    assert_eq!(said["refusals"], expected);
}

#[tokio::test]
async fn a_run_gets_its_secrets_and_may_nothing_else() {
    let script = "
V = '?api-version=7.6'
pinned, other = '0' * 31 + '7', '0' * 31 + '8'
run = {'Authorization': 'Bearer ' + os.environ['AZUREML_RUN_TOKEN']}
print(json.dumps([
    short(vault('/secrets/unknown/' + V)), short(vault('/secrets/other/' + V)), short(vault('/secrets/db_password/' + V)),
    short(vault('/secrets/db-password/' + pinned + V))[0], short(vault('/secrets/db-password/' + other + V)),
    short(vault('/secrets/db-password/current' + V)), short(vault('/secrets/db-password/')),
    short(vault('/secrets/db-password/versions' + V)), short(vault('/secrets' + V)),
    short(vault('/secrets/db-password' + V, 'PUT', body=b'{\"value\":\"x\"}')),
    short(vault('/secrets/db-password' + V, 'DELETE')), short(vault('/deletedsecrets' + V)),
    short(vault('/nothing' + V)), short(vault('/secrets/db-password/' + V, headers=run)),
    short(vault('/secrets/db-password/' + V, headers={'Authorization': 'Bearer a.b.c'}))]))
";
    let run = run_of(script).await.secret("db-password", "correct horse").secret("other", "never for this run");
    run.fake.told().undeclared.push("other".to_owned());
    let ended = run.finish().await;
    let not_found = json!([404, "SecretNotFound", null]);
    let denied = json!([403, "Forbidden", "AccessDenied"]);
    let forbidden = json!([403, "Forbidden", "ForbiddenByRbac"]);
    let bad = json!([400, "BadParameter", null]);
    let unauthorized = json!([401, "Unauthorized", null]);
    let expected = json!([
        not_found,
        denied,
        bad,
        200,
        denied,
        not_found,
        bad,
        forbidden,
        forbidden,
        forbidden,
        forbidden,
        forbidden,
        [404, "NotFound", null],
        unauthorized,
        unauthorized,
    ]);
    assert_eq!(said(&ended), expected);
    // One delivery: another version was delivered to nobody.
    let told = ended.fake.told();
    let reads: Vec<_> = told.reads.iter().map(|read| read.name.key().to_owned()).collect();
    assert_eq!(reads, ["db-password"]);
    assert!(told.changes.is_empty());
}

#[tokio::test]
async fn a_bundle_of_the_submitters_is_theirs_and_the_runs_authority() {
    let script = "
mine = open(os.environ['REQUESTS_CA_BUNDLE']).read()
print(json.dumps([mine.count('BEGIN CERT'), 'AAAA' in mine, 'KEY' in mine, os.environ['CURL_CA_BUNDLE'], os.environ['MY'],
    open(os.environ['SSL_CERT_FILE']).read().count('BEGIN CERT') > 20]))
";
    let theirs = tempfile::NamedTempFile::new().unwrap();
    let pem = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    std::fs::write(&theirs, format!("{pem}-----BEGIN PRIVATE KEY-----\nBBBB\n-----END PRIVATE KEY-----\n")).unwrap();
    let environment = json!({"REQUESTS_CA_BUNDLE": theirs.path(), "CURL_CA_BUNDLE": "/nowhere/ca.pem", "MY": "own", "KLUIS_VAULT_URL": "https://a.b:1"});
    let said = said(&run_of(script).await.context("environment", environment).finish().await);
    assert_eq!(said, json!([2, true, false, "/nowhere/ca.pem", "own", true]));
}
