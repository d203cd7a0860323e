//! What the package sends to submit: a form with a definition and a zip.

use axum::body::Body;
use http::Request;
use http::header::{AUTHORIZATION, CONTENT_TYPE, HOST};
use serde_json::{Value, json};

use super::HERE;
use crate::world::{Answer, World};

/// One file of a zip, as it stands in it; what it says of itself can be wrong.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub(super) name: Vec<u8>,
    pub(super) data: Vec<u8>,
    pub(super) method: u16,
    pub(super) flags: u16,
    /// The size that it says it has.
    pub(super) size: u32,
    pub(super) crc: u32,
}

impl Entry {
    pub(super) fn new(name: &str, data: &[u8]) -> Self {
        let (size, crc) = (data.len() as u32, crc32(data));
        Self { name: name.as_bytes().to_vec(), data: data.to_vec(), method: 0, flags: 0, size, crc }
    }

    fn local(&self) -> Vec<u8> {
        let mut out = b"PK\x03\x04\x14\x00".to_vec();
        out.extend(self.flags.to_le_bytes());
        out.extend(self.method.to_le_bytes());
        out.extend([0; 4]);
        out.extend(self.crc.to_le_bytes());
        out.extend((self.data.len() as u32).to_le_bytes());
        out.extend(self.size.to_le_bytes());
        out.extend((self.name.len() as u16).to_le_bytes());
        out.extend([0; 2]);
        out.extend(&self.name);
        out.extend(&self.data);
        out
    }

    /// As the list at the end has it: a symbolic link, whatever stands before the data.
    fn central_link(&self) -> Vec<u8> {
        let mut out = b"PK\x01\x02\x14\x03\x14\x00".to_vec();
        out.extend([0; 8]);
        out.extend(self.crc.to_le_bytes());
        out.extend((self.data.len() as u32).to_le_bytes());
        out.extend(self.size.to_le_bytes());
        out.extend((self.name.len() as u16).to_le_bytes());
        out.extend([0; 8]);
        out.extend((0o120_777_u32 << 16).to_le_bytes());
        out.extend([0; 4]);
        out.extend(&self.name);
        out
    }
}

/// The zip, whose list at the end says that everything is a link.
pub(super) fn zip(entries: &[Entry]) -> Vec<u8> {
    let mut out: Vec<u8> = entries.iter().flat_map(Entry::local).collect();
    let start = out.len() as u32;
    out.extend(entries.iter().flat_map(Entry::central_link));
    let length = out.len() as u32 - start;
    out.extend(b"PK\x05\x06\x00\x00\x00\x00");
    out.extend((entries.len() as u16).to_le_bytes());
    out.extend((entries.len() as u16).to_le_bytes());
    out.extend(length.to_le_bytes());
    out.extend(start.to_le_bytes());
    out.extend([0; 2]);
    out
}

fn crc32(data: &[u8]) -> u32 {
    let step = |crc: u32, byte: &u8| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| if crc & 1 == 1 { crc >> 1 ^ 0xEDB8_8320 } else { crc >> 1 })
    };
    !data.iter().fold(u32::MAX, step)
}

/// A definition of a run of `train.py` on `cluster`, with changes.
pub(super) fn definition(more: &Value) -> Value {
    let mut configuration = json!({
        "script": "train.py",
        "arguments": ["--epochs", "3"],
        "target": "cluster",
        "framework": "Python",
        "communicator": "None",
        "maxRunDurationSeconds": 2_592_000,
        "environment": { "name": "default-environment", "environmentVariables": {}, "python": {}, "docker": {} },
        "environmentVariables": {},
    });
    for (key, value) in more.as_object().unwrap() {
        configuration[key] = value.clone();
    }
    json!({ "TargetDetails": null, "TelemetryValues": { "amlClientType": "azureml-sdk-core" }, "Configuration": configuration })
}

/// Parts of a form: name, file name, content.
pub(super) fn form(parts: &[(&str, &str, &[u8])]) -> Vec<u8> {
    let mut out = Vec::new();
    for (name, file, content) in parts {
        out.extend(b"--bOuNdArY\r\n");
        out.extend(format!("Content-Disposition: form-data; name=\"{name}\"; filename=\"{file}\"\r\n\r\n").bytes());
        out.extend(*content);
        out.extend(b"\r\n");
    }
    out.extend(b"--bOuNdArY--\r\n");
    out
}

pub(super) async fn post(world: &World, path: &str, token: &str, body: impl Into<Body>) -> Answer {
    let request = Request::post(path)
        .header(HOST, HERE)
        .header(AUTHORIZATION, format!("Bearer {token}"))
        .header(CONTENT_TYPE, "multipart/form-data; boundary=bOuNdArY");
    world.send(request.body(body.into()).unwrap()).await
}
