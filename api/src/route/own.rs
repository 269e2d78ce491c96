//! The paths of our own calls, in one table: a request is found in it, and the OpenAPI document is made of it.

use http::Method;

use super::{OwnCall, unknown_path, wrong_method};
use crate::failure::Failure;
use crate::openapi::shapes::*;
use crate::openapi::{Answer, Operation, Parameter, Shape, query};
use crate::target::Target;

/// One method of one path.
pub(crate) struct OwnRoute {
    pub(crate) method: &'static str,
    /// Literals in lower case, which match without case; `{name}` stands for one segment, `{name...}` at the end for one or more.
    pub(crate) path: &'static str,
    /// The call, given what stands for the placeholder, decoded; of more than one segment, joined by `/`.
    pub(crate) call: fn(String) -> OwnCall,
    pub(crate) about: Operation,
}

const fn route(
    method: &'static str,
    path: &'static str,
    call: fn(String) -> OwnCall,
    summary: &'static str,
    answer: Answer,
) -> OwnRoute {
    OwnRoute { method, path, call, about: Operation { summary, query: &[], body: None, answer } }
}

impl OwnRoute {
    const fn query(mut self, query: &'static [Parameter]) -> Self {
        self.about.query = query;
        self
    }

    const fn body(mut self, body: Shape) -> Self {
        self.about.body = Some(body);
        self
    }
}

const LIMIT: Parameter = query("limit", Shape::Whole, "Items at most: 100 unless told, up to 1,000.");
const AFTER: Parameter = query("after", Shape::Text, "The `next` of the page before.");
const IDENTITY: &[Parameter] = &[
    query("registrationId", Shape::Text, "The identity, or"),
    query("deviceId", Shape::Text, "its device, and"),
    query("hub", Shape::Text, "its hub, where there is more than one."),
];
const AUDIENCE: &[Parameter] =
    &[query("audience", Shape::Text, "`dps`, unless told, or a hub's name; the hub's owner may call for its own hub.")];
const ROTATION: &[Parameter] =
    &[AUDIENCE[0], query("both", Shape::Flag, "Both keys are new, and both old ones end at once.")];
const TARGETS: &[Parameter] = &[
    query("registrationId", Shape::Text, "One of these names the target."),
    query("keyFingerprint", Shape::Hash, ""),
    query("certificateSha256", Shape::Hash, ""),
    query("authority", Shape::Text, ""),
    query("groupId", Shape::Text, ""),
    query("batch", Shape::Text, ""),
];

/// All of them. Where two match, the one with the literal comes first.
pub(crate) static ROUTES: &[OwnRoute] = &[
    route("GET", "/unicity/openapi.json", |_| OwnCall::OpenApi, "This document.", Answer::Json(DOCUMENT)),
    route("GET", "/unicity/info", |_| OwnCall::Info, "What this server is.", Answer::Json(INFO)),
    route(
        "GET",
        "/unicity/registrations",
        |_| OwnCall::Registrations,
        "All registrations, in pages.",
        Answer::Json(REGISTRATIONS),
    )
    .query(&[AFTER, LIMIT]),
    route(
        "GET",
        "/unicity/devices",
        |_| OwnCall::Devices,
        "All device identities of the hub, in pages, without their keys.",
        Answer::Json(DEVICES),
    )
    .query(&[AFTER, LIMIT]),
    route(
        "PUT",
        "/unicity/twins/{id}",
        OwnCall::PutCarriedTwin,
        "Takes over a device's twin from another hub: all of it, reported properties and versions too. The body is that hub's `GET /twins/{id}`.",
        Answer::Json(CARRIED_TWIN),
    )
    .query(&[query("hub", Shape::Text, "The hub, where the host does not tell it.")])
    .body(CARRIED_TWIN),
    route(
        "GET",
        "/unicity/enrollments",
        |_| OwnCall::Export { keys: false },
        "All individual enrollments as lines that an import takes; with keys if EnrollmentWrite is there too.",
        Answer::Text("application/x-ndjson"),
    )
    .query(&[
        query("format", Shape::Word(&["ndjson", "csv"]), ""),
        query("keys", Shape::Flag, "With symmetric keys."),
        query("batch", Shape::Text, "Of this batch only."),
    ]),
    route(
        "GET",
        "/unicity/imports",
        |_| OwnCall::Imports,
        "Factory imports: pending, complete, refused, abandoned.",
        Answer::Json(IMPORTS),
    ),
    route(
        "POST",
        "/unicity/imports",
        |_| OwnCall::Import,
        "Enrols a whole batch, all rows or none. The body is the file; the answer tells how far it is, as lines.",
        Answer::Text("application/x-ndjson"),
    )
    .query(&[
        query("key", Shape::Text, "Needed: by it the same file goes on where it stopped."),
        query("format", Shape::Word(&["ndjson", "csv"]), "Told from the first line unless given."),
        query("batch", Shape::Text, "The label of rows that name none."),
        query("partial", Shape::Flag, "Accepted rows come in although others are refused."),
        query("dryRun", Shape::Flag, "Checks, and stores nothing."),
        query("verdicts", Shape::Flag, "A line a row at the end."),
        query(
            "manifest",
            Shape::Whole,
            "Length of the factory's manifest, which comes before the file; `signer` goes with it.",
        ),
        query("signer", Shape::Text, "The key that must have signed it: its SubjectPublicKeyInfo in base64."),
    ]),
    route("GET", "/unicity/imports/{number}", OwnCall::GetImport, "One import.", Answer::Json(ONE_IMPORT)),
    route(
        "DELETE",
        "/unicity/imports/{number}",
        OwnCall::AbandonImport,
        "Gives a pending import up; its rows are released.",
        Answer::Json(ONE_IMPORT),
    ),
    route(
        "GET",
        "/unicity/imports/{number}/verdicts",
        OwnCall::ImportVerdicts,
        "A line a row: accepted, or why not.",
        Answer::Text("application/x-ndjson"),
    ),
    route(
        "GET",
        "/unicity/telemetry",
        |_| OwnCall::Telemetry,
        "Stored messages as lines of JSON, one a message: the records of `unicity tail --json`.",
        Answer::Text("application/x-ndjson"),
    )
    .query(&[
        query("from", Shape::Text, "`earliest`, `latest` (unless told) or an offset."),
        query("follow", Shape::Flag, "Goes on with what comes."),
        query("device", Shape::Text, "Of this device only."),
        query("partition", Shape::Whole, "Of this partition only."),
        query("limit", Shape::Whole, "Records at most."),
        query("sessions", Shape::Flag, "With the openings of sessions."),
    ]),
    route("GET", "/unicity/refusals", |_| OwnCall::Refusals, "The newest refusals.", Answer::Json(REFUSALS))
        .query(&[LIMIT]),
    route(
        "GET",
        "/unicity/refusals/{trackingid}",
        |id| OwnCall::Refusal(id.to_ascii_lowercase()),
        "One refusal by its tracking id.",
        Answer::Json(ONE_REFUSAL),
    ),
    route(
        "GET",
        "/unicity/failures",
        |_| OwnCall::Failures,
        "Who could not get in: failed handshakes and refusals.",
        Answer::Json(FAILURES),
    )
    .query(&[LIMIT, query("peer", Shape::Text, "An address, or a network such as `192.0.2.0/24`.")]),
    route(
        "GET",
        "/unicity/why/{id}",
        OwnCall::Story,
        "The whole story of a registration id, device id, group or key.",
        Answer::Json(STORY),
    ),
    route(
        "GET",
        "/unicity/audit/checkpoint",
        |_| OwnCall::AuditFile("checkpoint".into()),
        "The newest signed checkpoint (C2SP tlog-checkpoint).",
        Answer::Text("text/plain"),
    ),
    route(
        "POST",
        "/unicity/audit/checkpoint",
        |_| OwnCall::AuditCheckpoint,
        "Signs a checkpoint over all that was decided by now.",
        Answer::Text("text/plain"),
    )
    .query(&[query("seal", Shape::Flag, "Seals telemetry first; yes unless told.")]),
    route(
        "GET",
        "/unicity/audit/leaves",
        |_| OwnCall::AuditLeaves,
        "Leaves by what they are about.",
        Answer::Json(LEAVES),
    )
    .query(&[
        query("identity", Shape::Text, "An id or key that they name."),
        query("event", Shape::Text, "Their events, with commas between."),
        query("before", Shape::Whole, "Only those of lower numbers."),
        query("notAfter", Shape::Whole, "Milliseconds since the Unix epoch."),
        query("scan", Shape::Whole, "Leaves to look at, at most."),
        query("sealHub", Shape::Text, "With the next two: the seal over a record."),
        query("sealPartition", Shape::Whole, ""),
        query("sealOffset", Shape::Whole, ""),
        LIMIT,
    ]),
    route(
        "GET",
        "/unicity/audit/proof/{index}",
        OwnCall::AuditProof,
        "Proves that a leaf is under the newest checkpoint (C2SP tlog-proof).",
        Answer::Text("text/plain"),
    ),
    route("GET", "/unicity/audit/key", |_| OwnCall::AuditKey, "The log's public key.", Answer::Text("text/plain")),
    route(
        "GET",
        "/unicity/audit/tile/{path...}",
        |path| OwnCall::AuditFile(format!("tile/{path}")),
        "A tile of the log (C2SP tlog-tiles).",
        Answer::Text("application/octet-stream"),
    ),
    route(
        "GET",
        "/unicity/audit/previous/{path...}",
        |path| OwnCall::AuditFile(format!("previous/{path}")),
        "A file of a log that this one follows: number, then the file.",
        Answer::Text("application/octet-stream"),
    ),
    route("POST", "/unicity/backup", |_| OwnCall::Backup, "Makes a backup on the server's disk.", Answer::Json(BACKUP))
        .body(BACKUP_ASKED),
    route(
        "GET",
        "/unicity/policies",
        |_| OwnCall::Policies,
        "Shared access policies, without their keys; of all places unless one is named.",
        Answer::Json(POLICIES),
    )
    .query(AUDIENCE),
    route(
        "GET",
        "/unicity/policies/{name}",
        OwnCall::GetPolicy,
        "One policy, with its keys.",
        Answer::Json(ONE_POLICY),
    )
    .query(AUDIENCE),
    route(
        "PUT",
        "/unicity/policies/{name}",
        OwnCall::PutPolicy,
        "Makes a policy, or changes its rights (`If-Match`); keys stay.",
        Answer::Json(ONE_POLICY),
    )
    .query(AUDIENCE)
    .body(POLICY_ASKED),
    route(
        "DELETE",
        "/unicity/policies/{name}",
        OwnCall::DeletePolicy,
        "Removes a policy; its keys end at once, for ever.",
        Answer::Empty,
    )
    .query(AUDIENCE),
    route(
        "POST",
        "/unicity/policies/{name}/rotate",
        OwnCall::RotatePolicy,
        "A new primary key; the former one is the secondary key from now on, the former secondary key ends at once.",
        Answer::Json(ONE_POLICY),
    )
    .query(ROTATION),
    route(
        "GET",
        "/unicity/certificates",
        |_| OwnCall::Authorities,
        "All certificate authorities.",
        Answer::Json(AUTHORITIES),
    ),
    route("GET", "/unicity/certificates/{name}", OwnCall::GetAuthority, "One authority.", Answer::Json(ONE_AUTHORITY)),
    route(
        "PUT",
        "/unicity/certificates/{name}",
        OwnCall::PutAuthority,
        "Uploads an authority, or replaces one (`If-Match`).",
        Answer::Json(ONE_AUTHORITY),
    )
    .body(AUTHORITY_ASKED),
    route(
        "DELETE",
        "/unicity/certificates/{name}",
        OwnCall::DeleteAuthority,
        "Removes an authority; sessions that it vouches for end.",
        Answer::Empty,
    ),
    route(
        "POST",
        "/unicity/certificates/{name}/generateverificationcode",
        OwnCall::VerificationCode,
        "Draws a code for a proof of possession.",
        Answer::Json(ONE_AUTHORITY),
    ),
    route(
        "POST",
        "/unicity/certificates/{name}/verify",
        OwnCall::VerifyAuthority,
        "Takes the proof of possession.",
        Answer::Json(ONE_AUTHORITY),
    )
    .body(PROOF_ASKED),
    route(
        "GET",
        "/unicity/crls",
        |_| OwnCall::RevocationLists,
        "Revocation lists, and the files they are read from.",
        Answer::Json(REVOCATION_LISTS),
    ),
    route(
        "PUT",
        "/unicity/crls",
        |_| OwnCall::PutRevocationList,
        "Stores a list that a known authority signed.",
        Answer::Json(ONE_REVOCATION_LIST),
    )
    .body(REVOCATION_LIST_ASKED),
    route(
        "POST",
        "/unicity/crls/reload",
        |_| OwnCall::ReloadRevocationLists,
        "Reads the configured files now.",
        Answer::Json(REVOCATION_FILES),
    ),
    route(
        "DELETE",
        "/unicity/crls/{issuerkey}",
        OwnCall::DeleteRevocationList,
        "Withdraws an authority's list: what it revoked is good again.",
        Answer::Empty,
    ),
    route(
        "GET",
        "/unicity/revocations",
        |_| OwnCall::Revocations,
        "Revocations in force, or how far one is.",
        Answer::Json(REVOCATIONS),
    )
    .query(TARGETS),
    route(
        "POST",
        "/unicity/revocations",
        |_| OwnCall::Revoke,
        "Revokes an identity, key, certificate, authority, group or batch, at once and everywhere.",
        Answer::Json(REVOKED),
    )
    .body(REVOKE_ASKED),
    route(
        "DELETE",
        "/unicity/revocations",
        |_| OwnCall::LiftRevocation,
        "Lifts one; what it ended stays ended.",
        Answer::Empty,
    )
    .query(TARGETS),
    route(
        "GET",
        "/unicity/denied",
        |_| OwnCall::DenyRules,
        "Keys and certificates that nobody gets in with.",
        Answer::Json(DENY_RULES),
    ),
    route(
        "POST",
        "/unicity/denied",
        |_| OwnCall::SetDenyRule { denied: true },
        "Denies one; live sessions with it end.",
        Answer::Json(ONE_DENY_RULE),
    )
    .body(ONE_DENY_RULE),
    route(
        "DELETE",
        "/unicity/denied",
        |_| OwnCall::SetDenyRule { denied: false },
        "Denies one no longer.",
        Answer::Empty,
    )
    .query(&[
        query("keyFingerprint", Shape::Hash, "The rule, or"),
        query("issuer", Shape::Text, "these two."),
        query("serial", Shape::Text, ""),
    ]),
    route(
        "GET",
        "/unicity/standings",
        |_| OwnCall::Standings,
        "Identities that may have, or had, a clone.",
        Answer::Json(STANDINGS),
    ),
    route(
        "GET",
        "/unicity/standing",
        |_| OwnCall::GetStanding,
        "One identity: policy, standing and sessions.",
        Answer::Json(STANDING_IN_FULL),
    )
    .query(IDENTITY),
    route(
        "POST",
        "/unicity/standing/quarantine",
        |_| OwnCall::Quarantine,
        "Holds an identity back until somebody releases it.",
        Answer::Json(ONE_STANDING),
    )
    .query(IDENTITY)
    .body(QUARANTINE_ASKED),
    route(
        "POST",
        "/unicity/standing/release",
        |_| OwnCall::Release,
        "Releases an identity, or dismisses a suspicion.",
        Answer::Json(ONE_STANDING),
    )
    .query(IDENTITY),
    route(
        "GET",
        "/unicity/hubs",
        |_| OwnCall::Hubs,
        "The hubs that devices are handed to, local and linked: place, terms, load, health.",
        Answer::Json(HUBS),
    ),
    route("GET", "/unicity/hubs/{name}", OwnCall::GetHub, "One hub; never its key.", Answer::Json(ONE_HUB)),
    route(
        "PUT",
        "/unicity/hubs/{name}",
        OwnCall::PutHub,
        "Links a hub elsewhere by its connection string, or sets one anew (`If-Match`); of a local hub the terms. The same call may come \
         twice.",
        Answer::Json(ONE_HUB),
    )
    .body(HUB_ASKED),
    route(
        "PATCH",
        "/unicity/hubs/{name}",
        OwnCall::PatchHub,
        "Changes the terms that are told; `null` takes one away.",
        Answer::Json(ONE_HUB),
    )
    .body(HUB_TERMS_ASKED),
    route(
        "DELETE",
        "/unicity/hubs/{name}",
        OwnCall::DeleteHub,
        "Unlinks a hub; a local one has the terms of its configuration again.",
        Answer::Json(HUB_REMOVED),
    )
    .query(&[query("force", Shape::Flag, "Though devices are assigned to it; the answer says what is lost.")]),
    route(
        "GET",
        "/unicity/allocation",
        |_| OwnCall::AllocationPolicy,
        "The policy of enrollments that name none.",
        Answer::Json(ALLOCATION),
    ),
    route(
        "PUT",
        "/unicity/allocation",
        |_| OwnCall::PutAllocationPolicy,
        "Sets it. Devices that are assigned stay until they register again, or a rebalance moves them.",
        Answer::Json(ALLOCATION),
    )
    .body(ALLOCATION_ASKED),
    route(
        "DELETE",
        "/unicity/allocation",
        |_| OwnCall::DeleteAllocationPolicy,
        "That of the configuration counts again.",
        Answer::Empty,
    ),
    route(
        "POST",
        "/unicity/plan",
        |_| OwnCall::Plan,
        "What other hubs, terms or another policy would move. Nothing is changed, and no webhook is called.",
        Answer::Json(FORECAST),
    )
    .query(&[query("moves", Shape::Flag, "As lines (`application/x-ndjson`): each move, the forecast last.")])
    .body(PLAN_ASKED),
    route(
        "GET",
        "/unicity/rebalances",
        |_| OwnCall::Rebalances,
        "Rebalances, the newest first.",
        Answer::Json(REBALANCES),
    ),
    route(
        "POST",
        "/unicity/rebalances",
        |_| OwnCall::StartRebalance,
        "Begins to move devices to where the policies in force put them now.",
        Answer::Json(ONE_REBALANCE),
    )
    .body(REBALANCE_ASKED),
    route(
        "GET",
        "/unicity/rebalances/{number}",
        OwnCall::GetRebalance,
        "One, with its progress.",
        Answer::Json(ONE_REBALANCE),
    ),
    route(
        "POST",
        "/unicity/rebalances/{number}/stop",
        OwnCall::StopRebalance,
        "Stops it where it is.",
        Answer::Json(ONE_REBALANCE),
    ),
    route(
        "POST",
        "/unicity/rebalances/{number}/resume",
        OwnCall::ResumeRebalance,
        "Lets it go on.",
        Answer::Json(ONE_REBALANCE),
    ),
    route(
        "GET",
        "/unicity/transfers",
        |_| OwnCall::Transfers,
        "Devices on their way to or from hubs elsewhere, and those that did not get there, in pages.",
        Answer::Json(TRANSFERS),
    )
    .query(&[AFTER, LIMIT, query("failed", Shape::Flag, "Only those that failed.")]),
    route("GET", "/unicity/transfers/{id}", OwnCall::GetTransfer, "One, by its registration id.", Answer::Json(ONE_TRANSFER)),
    route(
        "POST",
        "/unicity/transfers/{id}/retry",
        OwnCall::RetryTransfer,
        "Tries one anew that failed; where the device belongs is decided again.",
        Answer::Json(TRANSFER_RETRIED),
    ),
];

/// The segments of a path of the table, without the first `/`.
pub(crate) fn segments(path: &str) -> impl Iterator<Item = &str> + Clone {
    path.split('/').skip(1)
}

/// What stands for the placeholder, if the path fits; empty where it has none.
fn fit(path: &str, target: &[String]) -> Option<String> {
    let mut given = target.iter();
    for (place, wanted) in segments(path).enumerate() {
        let Some(placeholder) = wanted.strip_prefix('{') else {
            given.next().filter(|given| given.eq_ignore_ascii_case(wanted))?;
            continue;
        };
        let rest = &target[place.min(target.len())..];
        let taken = if placeholder.ends_with("...}") { rest.len() } else { 1 };
        let value = rest.get(..taken).filter(|value| !value.is_empty())?.join("/");
        let after = segments(path).skip(place + 1);
        let behind = &rest[taken..];
        let fits = after.clone().count() == behind.len()
            && after.zip(behind).all(|(wanted, given)| given.eq_ignore_ascii_case(wanted));
        return fits.then_some(value);
    }
    given.next().is_none().then(String::new)
}

/// Finds the call.
pub(super) fn find(method: &Method, target: &Target) -> Result<OwnCall, Failure> {
    let mut path_found = None;
    for route in ROUTES {
        let Some(value) = fit(route.path, &target.segments) else { continue };
        if route.method == method.as_str() {
            let mut call = (route.call)(value);
            if let OwnCall::Export { keys } = &mut call {
                // Keys need another right.
                *keys = target.flag("keys")?;
            }
            return Ok(call);
        }
        path_found.get_or_insert(route.path);
    }
    match path_found {
        Some(path) => Err(wrong_method(method, methods(path))),
        None => Err(unknown_path(target)),
    }
}

/// The methods of a path, for the header `Allow`.
fn methods(path: &str) -> String {
    let of_path: Vec<&str> = ROUTES.iter().filter(|route| route.path == path).map(|route| route.method).collect();
    of_path.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_placeholder_takes_one_segment_or_the_rest() {
        let target = |path: &str| segments(path).map(str::to_owned).collect::<Vec<_>>();
        for (path, asked, value) in [
            ("/unicity/info", "/Unicity/INFO", Some("")),
            ("/unicity/info", "/unicity/info/x", None),
            ("/unicity/info", "/unicity", None),
            ("/unicity/why/{id}", "/unicity/why/Dev-1", Some("Dev-1")),
            ("/unicity/why/{id}", "/unicity/why", None),
            ("/unicity/why/{id}", "/unicity/why/a/b", None),
            ("/unicity/c/{name}/verify", "/unicity/c/N/Verify", Some("N")),
            ("/unicity/c/{name}/verify", "/unicity/c/N/other", None),
            ("/unicity/c/{name}/verify", "/unicity/c/N", None),
            ("/unicity/audit/tile/{path...}", "/unicity/audit/tile/0/x001", Some("0/x001")),
            ("/unicity/audit/tile/{path...}", "/unicity/audit/tile", None),
        ] {
            assert_eq!(fit(path, &target(asked)).as_deref(), value, "{path} {asked}");
        }
    }

    #[test]
    fn no_route_hides_another() {
        for route in ROUTES {
            let path = route.path.replace(['{', '}'], "").replace("...", "");
            let target = Target::parse(&path.parse().unwrap()).unwrap();
            let found = find(&route.method.parse().unwrap(), &target).unwrap();
            let placeholder = route.path.split_once('{').map(|(_, name)| name.split(['}', '.']).next().unwrap());
            assert_eq!(found, (route.call)(placeholder.unwrap_or_default().into()), "{} {}", route.method, route.path);
        }
    }
}
