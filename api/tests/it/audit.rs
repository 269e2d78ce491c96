//! The audit log over HTTPS, and the story of an identity.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

use parking_lot::Mutex;
use serde_json::{Value, json};
use unicity_api::AuditLog;
use unicity_audit::{CHECKPOINT_FILE, Checkpoint, Edge, InclusionProof, SigningKey, VerifierKey};
use unicity_provisioning::Pending;

use crate::server::{SCOPE, Server, body_of, enrollment, hub_request, key, member_token};

/// A log in memory; what is decided gets into it by a checkpoint.
#[derive(Default)]
pub(crate) struct FakeAudit {
    files: Mutex<BTreeMap<String, Vec<u8>>>,
    edge: Mutex<Edge>,
    waiting: Mutex<Vec<Vec<u8>>>,
    pub(crate) seals: Mutex<u32>,
}

fn signer() -> SigningKey {
    SigningKey::from_seed("unicity/test/1", &[7; 32]).unwrap()
}

impl FakeAudit {
    fn decide(&self, leaf: &Value) {
        self.waiting.lock().push(leaf.to_string().into_bytes());
    }

    fn sign(&self) -> String {
        let (mut edge, mut files) = (self.edge.lock(), self.files.lock());
        let mut written = Vec::new();
        self.waiting.lock().drain(..).for_each(|leaf| edge.push(&leaf, &mut written).unwrap());
        written.extend(edge.partials());
        files.extend(written.into_iter().map(|file| (file.tile.to_string(), file.bytes)));
        let note = Checkpoint::sign(edge.size(), edge.root(), &signer());
        files.insert(CHECKPOINT_FILE.to_owned(), note.clone().into_bytes());
        note
    }
}

impl AuditLog for FakeAudit {
    fn read(&self, path: &str) -> io::Result<Option<Vec<u8>>> {
        Ok(self.files.lock().get(path).cloned())
    }
    fn size(&self) -> u64 {
        self.edge.lock().size()
    }
    fn decided(&self) -> u64 {
        self.size() + self.waiting.lock().len() as u64
    }
    fn checkpoint(&self, seal: bool) -> Pending<Result<String, String>> {
        *self.seals.lock() += u32::from(seal);
        Box::pin(std::future::ready(Ok(self.sign())))
    }
    fn verifier_key(&self) -> Option<String> {
        Some(signer().verifier().to_string())
    }
}

fn leaf(number: u64) -> Value {
    json!({"v": 1, "at": number, "actor": {"Policy": "p"}, "event": if number.is_multiple_of(2) { "registered" } else { "devicePut" },
        "registrationId": format!("dev-{}", number % 10)})
}

/// A server with a log of so many leaves, of which the last are not in the log's files yet.
fn with_leaves(count: u64) -> (Server, Arc<FakeAudit>) {
    let server = Server::new();
    let log = server.audit.clone();
    (0..count).for_each(|number| log.decide(&leaf(number)));
    (server, log)
}

#[tokio::test]
async fn files_are_given_as_they_are_and_nothing_beside_them() {
    let (server, log) = with_leaves(300);
    let note = server.dps("POST", "/unicity/audit/checkpoint", "").await.expect(200);
    assert_eq!(*log.seals.lock(), 1);
    let again = server.dps("GET", "/unicity/audit/checkpoint", "").await.expect(200);
    assert_eq!((again.body, again.headers["cache-control"].to_str().unwrap()), (note.body, "no-cache"));
    for path in ["tile/entries/000", "tile/0/001.p/44", "tile/1/000.p/1"] {
        let reply = server.dps("GET", &format!("/unicity/audit/{path}"), "").await.expect(200);
        assert_eq!(Some(reply.body.to_vec()), log.read(path).unwrap());
        assert_eq!(reply.headers["cache-control"], "private, max-age=31536000, immutable");
        assert_eq!(reply.headers["content-type"], "application/octet-stream");
    }
    log.files.lock().insert("secret".into(), b"x".to_vec());
    log.files.lock().insert("previous/1/checkpoint".into(), b"x".to_vec());
    server.dps("GET", "/unicity/audit/previous/1/checkpoint", "").await.expect(200);
    for path in [
        "secret",
        "checkpoint/x",
        "tile/0/9",
        "tile/0/009",
        "tile/../secret",
        "tile%2F0%2F..",
        "previous/01/checkpoint",
        "previous/1/secret",
        "previous/../secret",
        "previous/2/checkpoint",
    ] {
        server.dps("GET", &format!("/unicity/audit/{path}"), "").await.expect(404);
    }
    server.dps("DELETE", "/unicity/audit/checkpoint", "").await.expect(405);
    server.dps("POST", "/unicity/audit/tile/0/000", "").await.expect(405);
}

#[tokio::test]
async fn leaves_are_found_by_what_they_are_about_the_newest_first() {
    let (server, log) = with_leaves(300);
    let page = server.dps("GET", "/unicity/audit/leaves?identity=dev-4&limit=2", "").await.expect(200).json();
    assert_eq!(*log.seals.lock(), 0, "to look seals nothing");
    let indexes: Vec<_> = page["items"].as_array().unwrap().iter().map(|item| item["index"].clone()).collect();
    assert_eq!((indexes, &page["size"]), (vec![json!(294), json!(284)], &json!(300)));
    assert_eq!(page["items"][0]["leaf"], leaf(294));
    let next = page["next"].as_u64().unwrap();
    let path = format!("/unicity/audit/leaves?identity=dev-4&limit=1&before={next}");
    let page = server.dps("GET", &path, "").await.expect(200).json();
    assert_eq!(page["items"][0]["index"], 274);
    let path = "/unicity/audit/leaves?event=devicePut,other&scan=7&limit=9&notAfter=298";
    let page = server.dps("GET", path, "").await.expect(200).json();
    assert_eq!((page["items"].as_array().unwrap().len(), &page["scanned"], &page["next"]), (3, &json!(7), &json!(293)));
    server.dps("GET", "/unicity/audit/leaves?sealHub=alpha", "").await.expect(400);
    server.dps("GET", "/unicity/audit/leaves?before=x", "").await.expect(400);
}

#[tokio::test]
async fn a_proof_stands_alone() {
    let (server, _) = with_leaves(300);
    let reply = server.dps("GET", "/unicity/audit/proof/299", "").await.expect(200);
    let key = server.dps("GET", "/unicity/audit/key", "").await.expect(200);
    let key: VerifierKey = String::from_utf8(key.body.to_vec()).unwrap().parse().unwrap();
    let proof: InclusionProof = String::from_utf8(reply.body.to_vec()).unwrap().parse().unwrap();
    assert_eq!(proof.verify(&key).unwrap().size, 300);
    assert_eq!(proof.entry.unwrap(), leaf(299).to_string().into_bytes());
    server.dps("GET", "/unicity/audit/proof/300", "").await.expect(404);
    server.dps("GET", "/unicity/audit/proof/x", "").await.expect(400);
}

#[tokio::test]
async fn a_log_is_read_with_the_right_to_read_enrollments() {
    let (server, _) = with_leaves(1);
    for path in ["checkpoint", "leaves", "key", "proof/0", "tile/0/000"] {
        let request = hub_request("GET", &format!("/unicity/audit/{path}"));
        server.send(request.body(body_of("")).unwrap()).await.expect(401);
    }
}

#[tokio::test]
async fn the_story_of_an_identity_has_all_that_is_stored_of_it() {
    let (server, log) = with_leaves(0);
    server.dps("PUT", "/enrollmentGroups/g", &enrollment("enrollmentGroupId", "g", &key(60))).await.expect(200);
    let path = format!("/{SCOPE}/registrations/dev-1/register");
    server.device("PUT", &path, Some(&member_token("dev-1", &key(60))), "").await.expect(200);
    server.device("PUT", &path, Some(&member_token("dev-1", &key(61))), "").await.expect(401);
    (0..30).for_each(|number| log.decide(&leaf(number)));
    let story = server.dps("GET", "/unicity/why/dev-1", "").await.expect(200).json();
    assert_eq!((&story["asked"], &story["registrationId"]), (&json!("dev-1"), &json!("dev-1")));
    assert_eq!(story["group"]["enrollmentGroupId"], "g");
    assert_eq!(story["registration"]["status"], "assigned");
    assert_eq!(story["devices"][0]["deviceId"], "dev-1");
    assert_eq!(story["devices"][0]["authentication"]["symmetricKey"]["primaryKey"], Value::Null);
    assert_eq!(story["refusals"][0]["subject"], "dev-1");
    let indexes: Vec<_> = story["leaves"].as_array().unwrap().iter().map(|item| item["index"].clone()).collect();
    assert_eq!(indexes, [21, 11, 1]);
    assert_eq!(story["searched"]["leaves"], 30);
    assert!(story["keys"].as_array().unwrap().iter().all(|key| key["denied"] == false));

    // The same by its key and, for the group, by its name.
    let key = story["registration"]["keyFingerprint"].as_str().unwrap();
    let by_key = server.dps("GET", &format!("/unicity/why/{key}"), "").await.expect(200).json();
    assert_eq!((&by_key["registrationId"], &by_key["key"]["holder"]), (&json!("dev-1"), &json!("registration dev-1")));
    let group = server.dps("GET", "/unicity/why/g", "").await.expect(200).json();
    assert_eq!((&group["group"]["enrollmentGroupId"], &group["registrationId"]), (&json!("g"), &Value::Null));
    // What is gone is told by its leaves, and what never was not at all.
    let gone = server.dps("GET", "/unicity/why/dev-2", "").await.expect(200).json();
    assert_eq!((gone["leaves"].as_array().unwrap().len(), &gone["devices"]), (3, &Value::Null));
    server.dps("GET", "/unicity/why/dev-99", "").await.expect(404);
}
