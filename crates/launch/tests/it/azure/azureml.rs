//! `azureml-core`'s services in a run.

use serde_json::{Value, json};

use super::{run_of, said};
use crate::harness::Ended;

const SERVICES: &str = "
BASE, ENV = os.environ['AZUREML_SERVICE_ENDPOINT'], os.environ
TOKEN = {'Authorization': 'Bearer ' + ENV['AZUREML_RUN_TOKEN']}
WS = '/subscriptions/%s/resourceGroups/%s/providers/Microsoft.MachineLearningServices/workspaces/%s' % (
    ENV['AZUREML_ARM_SUBSCRIPTION'], ENV['AZUREML_ARM_RESOURCEGROUP'], ENV['AZUREML_ARM_WORKSPACE_NAME'])
def service(path, method='GET', body=None, headers=TOKEN):
    name, rest = path.split('/', 1)
    version = {'history': '/v1.0'}.get(name, '/v2.0')
    data = None if body is None else json.dumps(body).encode()
    status, _, answer = ask(BASE + '/' + name + version + WS + '/' + rest, method, headers, data)
    return status, json.loads(answer)
def refusal(answer):
    return [answer[0], answer[1]['error']['code'], answer[1]['error']['details']]
RUN = 'history/experimentids/%s/runs/%s' % (ENV['AZUREML_EXPERIMENT_ID'], ENV['AZUREML_RUN_ID'])
";

async fn finished(script: &str) -> Ended {
    let run = run_of(&format!("{SERVICES}{script}")).await;
    let run = run.secret("db-password", "correct horse").secret("other", "never for this run");
    run.fake.told().undeclared.push("other".to_owned());
    run.finish().await
}

#[tokio::test]
async fn secrets_are_read_one_by_one_and_in_batches_and_nothing_else_is_done_with_them() {
    let script = "
one = service('credential/secrets/Db-Password')
print(one[1]['value'])
batch = service('credential/secrets:getbatch', 'POST', {'secrets': [{'name': 'db-password'}, {'name': 'unknown'}]})
refusals = [service('credential/secrets/unknown'), service('credential/secrets/other'),
    service('credential/secrets', 'PUT', {'name': 'x', 'value': 'y'}), service('credential/secrets'),
    service('credential/secrets/db-password', 'DELETE'), service('credential/secrets/db-password', headers={}),
    service('credential/secrets/db-password', headers=bearer()), service('artifact/artifacts/contentinfo/ExperimentRun/dcid.test_1/x'),
    service('metric/runs/test_1/list', 'POST', {}), service('history/runs/another'), service('nothing/x'),
    service('credential/secrets:getbatch', 'POST', {'secrets': 7})]
print(json.dumps([one[0], one[1]['name'], batch[0], [s['name'] for s in batch[1]['secrets']], batch[1]['notFoundSecrets'],
    [refusal(r) for r in refusals], refusals[0][1]['error']['message']]))
";
    let ended = finished(script).await;
    let user = |status: u16| json!([status, "UserError", []]);
    let refusals = [404, 403, 403, 403, 403, 401, 401, 404, 404, 404, 404, 400].map(user);
    let expected =
        json!([200, "Db-Password", 200, ["db-password"], ["unknown"], refusals, "Secret unknown not found."]);
    assert!(ended.stdout().starts_with("***\n"));
    assert_eq!(said(&ended), expected);
    assert!(!ended.system().contains("correct horse"));
    assert_eq!(ended.fake.told().reads.len(), 2);
}

#[tokio::test]
async fn the_run_is_described_tagged_and_logged_to_with_texts_masked() {
    let script = "
services = ask(ENV['AZUREML_DISCOVERY_SERVICE_ENDPOINT'])
services = json.loads(services[2])
service('credential/secrets/db-password')
tagged = service(RUN, 'PATCH', {'tags': {'best': 'correct horse', 'none': None}, 'properties': {'a': 'b', 'skip': None}})
removed = service(RUN + '/tags', 'DELETE', ['none'])
token = service(RUN + '/token')[1]
fresh = service(RUN, headers={'Authorization': 'Bearer ' + token['token']})
row = {'name': 'loss', 'columns': {'loss': 'double'}, 'properties': {'uxMetricType': 'azureml.v1.scalar'},
    'value': [{'metricId': 'x', 'createdUtc': '2026-11-28T14:00:00.000000Z', 'step': 3, 'data': {'loss': 0.5}}]}
text = {'name': 'note', 'columns': {}, 'properties': {'uxMetricType': 'azureml.v1.scalar'},
    'value': [{'data': {'note': 'a correct horse'}}]}
logged = service('metric/runs/test_1/batch', 'POST', {'values': [row, text], 'reportErrors': True})
flushed = service('history/experiments/test/runs/test_1/metricsingest/wait')
ended = service(RUN + '/events', 'POST', {'name': 'Microsoft.MachineLearning.Run.Completed', 'data': {'RunId': 'test_1'}})
print(json.dumps([all(url == BASE for url in services.values()) and 'api' in services, tagged[1]['tags'], tagged[1]['properties'],
    removed[1]['tags'], [fresh[0], fresh[1]['status'], fresh[1]['runNumber'], fresh[1]['rootRunId']],
    logged, flushed[0], ended[0], token['expiryTimeUtc'] > '2026']))
";
    let ended = finished(script).await;
    let expected = json!([
        true,
        {"best": "***", "none": ""},
        {"a": "b"},
        {"best": "***"},
        [200, "Running", 1, "test_1"],
        [200, {"errors": []}],
        200,
        200,
        true
    ]);
    assert_eq!(said(&ended), expected);
    let told = ended.fake.told();
    assert_eq!(told.changes[0].tags["best"], "***");
    assert_eq!(told.changes[1].remove_tags, ["none"]);
    let metrics: Vec<_> =
        told.metrics.iter().map(|m| (m.metric.name.as_str(), &m.metric.value, m.metric.step)).collect();
    assert_eq!(metrics, [("loss", &json!(0.5), Some(3)), ("note", &json!("a ***"), None)]);
    assert!(told.end.is_some());
}

#[tokio::test]
async fn child_runs_are_made_changed_and_ended_and_strangers_children_are_not() {
    let script = "
C = 'history/experimentids/test/runs/'
made = service(C + 'c1', 'PATCH', {'runId': 'c1', 'parentRunId': 'test_1', 'name': 'first', 'status': 'NotStarted'})
many = service('history/experiments/test/batch/runs', 'PATCH', {'runs': [{'runId': 'c2', 'parentRunId': 'test_1'}]})
stranger = service(C + 'c3', 'PATCH', {'runId': 'c3', 'parentRunId': 'elsewhere'})
orphan = service(C + 'c4', 'PATCH', {'runId': 'c4', 'tags': {'a': 'b'}})
service(C + 'c1', 'PATCH', {'tags': {'k': 'v'}})
service('metric/runs/c1/batch', 'POST', {'values': [{'name': 'm', 'value': [{'data': {'m': 1}}]}]})
failed = service(C + 'c1/events', 'POST', {'name': 'Microsoft.MachineLearning.Run.Failed', 'data': {'RunId': 'c1'}})
started = service('history/experiments/test/batch/events', 'POST',
    {'events': [{'name': 'Microsoft.MachineLearning.Run.Start', 'data': {'RunId': 'c2'}}]})
children = service(RUN + '/children')[1]
print(json.dumps([made[0], made[1]['parentRunId'], made[1]['displayName'], made[1]['createdBy']['userName'], list(many[1]['runs']), stranger[0], orphan[0],
    [[c['runId'], c['status'], c['tags']] for c in children['value']], children['continuationToken'], failed[0], started]))
";
    let ended = finished(script).await;
    let children = json!([["c1", "Failed", {"k": "v"}], ["c2", "Running", {}]]);
    let expected =
        json!([200, "test_1", "first", "ada", ["c2"], 404, 404, children, Value::Null, 200, [200, {"errors": []}]]);
    assert_eq!(said(&ended), expected);
    let told = ended.fake.told();
    let made: Vec<_> = told.children.iter().map(|child| child.run.as_ref().unwrap().as_str()).collect();
    assert_eq!(made, ["c1", "c2"]);
    assert_eq!(told.metrics[0].run.as_ref().unwrap().as_str(), "c1");
}

#[tokio::test]
async fn files_are_uploaded_at_once_or_in_blocks_and_come_among_the_runs_files() {
    let script = "
P = 'artifact/artifacts/batch/metadata/ExperimentRun/'
asked = service(P + 'dcid.test_1', 'POST', {'paths': [{'path': 'outputs/a b.txt'}, {'path': 'outputs/big.bin'}]})[1]
uri = {path: place['contentUri'] for path, place in asked['artifactContentInformation'].items()}
small, big = uri['outputs/a b.txt'], uri['outputs/big.bin']
put = ask(small, 'PUT', {'x-ms-blob-type': 'BlockBlob'}, b'hello')[0]
head = ask(small, 'HEAD')
def block(n): return ask(big + '&comp=block&blockid=b%d' % n, 'PUT', {}, bytes([n]) * 100_000)[0]
def commit(*ids):
    ids = ''.join('<Latest>b%d</Latest>' % n for n in ids)
    return ask(big + '&comp=blocklist', 'PUT', {}, ('<BlockList>' + ids + '</BlockList>').encode())[0]
blocks = [block(1), block(2), commit(2, 1), block(1), block(2), commit(1, 2), ask(big, 'HEAD')[1]['content-length']]
listed = [a['path'] for a in service('artifact/artifacts/ExperimentRun/dcid.test_1')[1]['value']]
refusals = [ask(small.split('&sig=')[0] + '&sig=' + '0' * 64, 'PUT', {}, b'x')[0], ask(small)[0],
    ask(small.replace('dcid.test_1', 'dcid.other%2F'), 'PUT', {}, b'x')[0], ask(small.replace('a%20b', 'none'), 'HEAD')[0],
    service(P + 'dcid.test_1', 'POST', {'paths': [{'path': '../x'}]})[0], service(P + 'dcid.other', 'POST', {'paths': []})[0]]
logs = service('artifact/artifacts/prefix/contentinfo/ExperimentRun/dcid.test_1/user_logs')
print(json.dumps([put, head[0], head[1]['content-length'], blocks, listed, refusals, logs]))
";
    let ended = finished(script).await;
    let expected = json!([
        201, 200, "5", [201, 201, 400, 201, 201, 201, "200000"], ["outputs/a b.txt", "outputs/big.bin"],
        [403, 405, 404, 404, 400, 404], [200, {"value": [], "continuationToken": null}],
    ]);
    assert_eq!(said(&ended), expected);
    let told = ended.fake.told();
    assert_eq!(told.outputs["outputs/a b.txt"], b"hello");
    let big = &told.outputs["outputs/big.bin"];
    assert!(big.len() == 200_000 && big[..100_000].iter().all(|b| *b == 1) && big[100_000..].iter().all(|b| *b == 2));
}
