//! The shapes of our own calls' bodies, named where more than one call has them.

use super::shape::Shape::{Any, Flag, Hash, List, Moment, Named as N, Number, Object, OrNull, Text, Whole, Word};
use super::shape::{Member, Named, Shape, has, may};

/// A page of `items`.
const fn page(items: &'static Shape) -> [Member; 2] {
    [has("items", List(items), ""), may("next", Text, "The `after` of the next page; absent on the last one.")]
}

/// An error, as the provisioning service's API tells it.
pub(crate) const ERROR: Named = Named {
    name: "Error",
    about: "Why a call was not done. `unicity why TRACKING_ID` shows the evidence.",
    members: &[
        has("errorCode", Whole, "Six digits; the first three are the status."),
        has("trackingId", Text, ""),
        has("message", Text, "Cause and remedy."),
        has("timestampUtc", Moment, ""),
    ],
};

const REGISTRATION: Named = Named {
    name: "Registration",
    about: "The registration state of the provisioning service's API, with what we know besides.",
    members: &[
        has("registrationId", Text, ""),
        has("createdDateTimeUtc", Moment, ""),
        has("lastUpdatedDateTimeUtc", Moment, ""),
        has("assignedHub", Text, "Host name."),
        has("deviceId", Text, ""),
        has("status", Text, ""),
        has("substatus", Text, ""),
        has("etag", Text, "Base64."),
        has("generationId", Text, "Of the device identity."),
        has("keyFingerprint", Hash, "Of the key that registered."),
        may("enrollmentGroupId", Text, ""),
        may("payload", Any, "What an allocation webhook returned."),
        may("devicePayload", Any, "What the device sent."),
    ],
};

const DEVICE: Named = Named {
    name: "Device",
    about: "A device identity as the hub's API shows it, without its keys.",
    members: &[
        has("hub", Text, ""),
        has("deviceId", Text, ""),
        has("generationId", Text, ""),
        has("etag", Text, "Base64."),
        has("status", Word(&["enabled", "disabled"]), ""),
        has("connectionState", Word(&["Connected", "Disconnected"]), ""),
        has("createdTime", Moment, ""),
        has("keyFingerprints", List(&Hash), ""),
        may("registrationId", Text, "Of the registration that made it."),
    ],
};

const REFUSAL: Named = Named {
    name: "Refusal",
    about: "What was refused, with its evidence.",
    members: &[
        has("trackingId", Text, "What the client was told."),
        has("timestampUtc", Moment, ""),
        has("subject", Text, "What was asked for."),
        has("errorCode", Whole, ""),
        has("errorName", Text, ""),
        has("cause", Text, ""),
        has("remedy", Text, ""),
        may("peer", Text, "Address and port."),
        may("evidence", Any, ""),
    ],
};

const FAILURE: Named = Named {
    name: "Failure",
    about: "A handshake that failed, or a refusal; a refusal has the members of `Refusal` besides.",
    members: &[
        has("stage", Word(&["handshake", "identity"]), ""),
        has("timestampUtc", Moment, "The newest time."),
        has("cause", Text, ""),
        has("remedy", Text, ""),
        may("peer", Text, "Address and port."),
        may("peerNetwork", Text, "What limits hold for."),
        may("peerNetworkFailures", Whole, ""),
        may("listener", Word(&["mqtt", "https"]), "Of a handshake."),
        may("code", Text, "Of a handshake; stable."),
        may("detail", Text, "Of a handshake: what TLS or the socket said."),
        may("count", Whole, "Of a handshake: how often the peer failed the same way."),
        may("firstTimestampUtc", Moment, "Of a handshake."),
    ],
};

const POLICY: Named = Named {
    name: "Policy",
    about: "A shared access policy.",
    members: &[
        has("name", Text, "`SharedAccessKeyName` of a connection string."),
        has("audience", Text, "`dps`, or a hub's name."),
        has("rights", List(&Text), "By Azure's names."),
        has("generation", Whole, "Counts its primary keys."),
        has("builtIn", Flag, "Whether the place was made with it."),
        has("etag", Text, "Base64."),
        may("created", Moment, ""),
        may("updated", Moment, "When rights or keys last changed."),
        may("primaryKey", Text, "Base64."),
        may("secondaryKey", Text, "Base64: the primary key before the last rotation."),
        may("hostName", Text, "For a connection string."),
    ],
};

const AUTHORITY: Named = Named {
    name: "Authority",
    about: "A certificate authority, in the shape of the real service's control plane.",
    members: &[
        has("name", Text, ""),
        has("etag", Text, "Base64."),
        has("properties", Object(AUTHORITY_PROPERTIES), ""),
    ],
};

const AUTHORITY_PROPERTIES: &[Member] = &[
    has("isVerified", Flag, "Whether somebody proved to have its key."),
    has("certificate", Text, "PEM."),
    has("keyFingerprint", Hash, ""),
    has("created", Text, "RFC 1123."),
    has("updated", Text, "RFC 1123."),
    may("subject", Text, ""),
    may("expiry", Text, "RFC 1123."),
    may("thumbprint", Text, "SHA-1, hexadecimal."),
    may("sha256Thumbprint", Text, ""),
    may("verificationCode", Text, "The common name of the certificate that proves possession."),
];

const REVOCATION_LIST: Named = Named {
    name: "RevocationList",
    about: "The newest revocation list of an authority.",
    members: &[
        has("issuerKey", Hash, ""),
        has("added", Moment, ""),
        may("issuer", Text, ""),
        may("thisUpdate", Moment, ""),
        may("nextUpdate", Any, ""),
        may("revoked", Whole, "Certificates on it."),
        may("number", Any, ""),
        may("error", Text, "Why it is of no use."),
    ],
};

const REVOCATION_FILE: Named = Named {
    name: "RevocationListFile",
    about: "A configured file, and how it stands.",
    members: &[
        has("path", Text, ""),
        has("checkedUtc", Moment, ""),
        has("readUtc", OrNull(&Moment), ""),
        has("issuer", OrNull(&Text), ""),
        has("error", OrNull(&Text), ""),
        has("cause", OrNull(&Text), ""),
        has("remedy", OrNull(&Text), ""),
    ],
};

const REVOCATION: Named = Named {
    name: "Revocation",
    about: "A revocation in force.",
    members: &[
        has("target", Object(TARGET), ""),
        has("revoked", Text, "The target in words."),
        has("at", Moment, ""),
        has("by", Text, ""),
        has("complete", Flag, "Whether all rows have followed."),
        has("rows", Whole, "Rows that have followed."),
        may("reason", Text, ""),
    ],
};

/// What a revocation is of: one of them.
const TARGET: &[Member] = &[
    may("registrationId", Text, ""),
    may("keyFingerprint", Hash, ""),
    may("certificateSha256", Hash, ""),
    may("authority", Text, "Its name."),
    may("groupId", Text, ""),
    may("batch", Text, "The label."),
];

const DENY_RULE: Named = Named {
    name: "DenyRule",
    about: "A key, or a certificate by issuer and serial, that nobody gets in with.",
    members: &[
        may("keyFingerprint", Hash, ""),
        may("issuer", Text, "As `subjectName` shows it."),
        may("serial", Text, "Hexadecimal."),
    ],
};

const EVIDENCE: Named = Named {
    name: "CloneEvidence",
    about: "An observation that speaks for two devices with one credential.",
    members: &[has("at", Moment, ""), has("signal", Text, ""), has("score", Whole, ""), has("detail", Text, "")],
};

const STANDING: Named = Named {
    name: "Standing",
    about: "What is held of an identity that may have a clone.",
    members: &[
        may("registrationId", Text, ""),
        may("enrollmentGroupId", Text, ""),
        may("hub", Text, ""),
        may("deviceId", Text, ""),
        has("state", Word(&["suspected", "quarantined", "released"]), ""),
        has("since", Moment, ""),
        has("score", Whole, ""),
        has("quarantines", Whole, ""),
        has("evidence", List(&N(&EVIDENCE)), ""),
        may("releasedBy", Text, ""),
    ],
};

const IMPORT_MANIFEST: [Member; 4] = [
    has("sha256", Hash, "Of its signed line."),
    has("signer", Hash, "Of the SubjectPublicKeyInfo of the key that signed it."),
    has("by", Text, "Who made the batch, in the factory's words."),
    has("count", Whole, "Rows that it has."),
];
const IMPORT: Named = Named {
    name: "Import",
    about: "A factory import.",
    members: &[
        has("import", Whole, "Its number."),
        has("key", Text, "By which the same file goes on where it stopped."),
        has("batch", OrNull(&Text), "The label of rows without one of their own."),
        has("partial", Flag, "Whether accepted rows came in although others were refused."),
        has("by", Text, "The policy's name."),
        has("state", Text, "`pending`, `complete`, `refused` or `abandoned`."),
        has("begun", Moment, ""),
        may("ended", Moment, ""),
        may("rows", Whole, ""),
        may("accepted", Whole, ""),
        may("refused", Whole, ""),
        may("sha256", Hash, "Of the file."),
        may("root", Hash, "Merkle root of its rows."),
        may("manifest", Object(&IMPORT_MANIFEST), "The factory's, that each row was held against."),
    ],
};

pub(crate) const IMPORTS: Shape = Object(&[has("items", List(&N(&IMPORT)), "")]);
pub(crate) const ONE_IMPORT: Shape = N(&IMPORT);
pub(crate) const REGISTRATIONS: Shape = Object(&page(&N(&REGISTRATION)));
pub(crate) const DEVICES: Shape = Object(&page(&N(&DEVICE)));
pub(crate) const CARRIED_TWIN: Shape = Object(&[
    may("version", Whole, "Of the whole twin."),
    may("tags", Any, ""),
    may("properties", Any, "`desired` and `reported`, each with `$version` and `$metadata` where they are known."),
]);
pub(crate) const REFUSALS: Shape = Object(&[has("items", List(&N(&REFUSAL)), "Newest first.")]);
pub(crate) const ONE_REFUSAL: Shape = N(&REFUSAL);
pub(crate) const FAILURES: Shape = Object(&[has("items", List(&N(&FAILURE)), "Newest first.")]);
const LEAF: &[Member] = &[has("index", Whole, "Its number in the log."), has("leaf", Any, "The decision.")];

pub(crate) const LEAVES: Shape = Object(&[
    has("items", List(&Object(LEAF)), "Newest first."),
    has("scanned", Whole, "Leaves that were looked at."),
    has("size", Whole, "Leaves of the log."),
    may("next", Whole, "The `before` to go on with; absent when the log's begin was reached."),
]);
const HUB: &[Member] = &[
    has("name", Text, ""),
    has("host", Text, "What devices are told."),
    has("aliases", List(&Text), ""),
    has("allocationWeight", Number, ""),
    has("applyAllocationPolicy", Flag, ""),
    has("assignedBy", OrNull(&Text), "The one policy that may make, change and delete its device identities."),
    has("partitions", OrNull(&Whole), ""),
    has("partitionEnds", OrNull(&List(&Whole)), "The offset of each partition's next record."),
];

pub(crate) const INFO: Shape = Object(&[
    has("version", Text, ""),
    has("idScope", Text, ""),
    has("hostNames", List(&Text), ""),
    has("unicityMode", Word(&["strict", "compat"]), ""),
    has("provisioning", Flag, "Whether devices may register here."),
    has("hubs", List(&Object(HUB)), ""),
]);
pub(crate) const BACKUP_ASKED: Shape = Object(&[has("directory", Text, "An absolute path on the server's disk.")]);
pub(crate) const BACKUP: Shape = Object(&[]);
pub(crate) const POLICIES: Shape = Object(&[has("value", List(&N(&POLICY)), "Without keys and host name.")]);
pub(crate) const ONE_POLICY: Shape = N(&POLICY);
pub(crate) const POLICY_ASKED: Shape = Object(&[has("rights", List(&Text), "By Azure's names, one at least.")]);
pub(crate) const AUTHORITIES: Shape = Object(&[has("value", List(&N(&AUTHORITY)), "")]);
pub(crate) const ONE_AUTHORITY: Shape = N(&AUTHORITY);
const AUTHORITY_PROPERTIES_ASKED: &[Member] = &[
    may("certificate", Text, "PEM or base64 of DER; may be left out where one is stored."),
    may("isVerified", Flag, "Trusts it without proof of possession."),
];

pub(crate) const AUTHORITY_ASKED: Shape = Object(&[has("properties", Object(AUTHORITY_PROPERTIES_ASKED), "")]);
pub(crate) const PROOF_ASKED: Shape =
    Object(&[has("certificate", Text, "Signed by the authority; its common name is the verification code.")]);
pub(crate) const REVOCATION_LISTS: Shape =
    Object(&[has("value", List(&N(&REVOCATION_LIST)), ""), has("files", List(&N(&REVOCATION_FILE)), "")]);
pub(crate) const REVOCATION_FILES: Shape = Object(&[has("files", List(&N(&REVOCATION_FILE)), "")]);
pub(crate) const REVOCATION_LIST_ASKED: Shape = Object(&[has("crl", Text, "PEM, or base64 of DER.")]);
pub(crate) const ONE_REVOCATION_LIST: Shape = N(&REVOCATION_LIST);
pub(crate) const REVOCATIONS: Shape =
    Object(&[may("value", List(&N(&REVOCATION)), "All; where a target was named, its revocation instead.")]);
pub(crate) const REVOKE_ASKED: Shape = Object(&[
    may("registrationId", Text, ""),
    may("keyFingerprint", Hash, ""),
    may("certificate", Text, "PEM or base64 of DER."),
    may("certificateSha256", Hash, ""),
    may("authority", Text, "Its name."),
    may("groupId", Text, ""),
    may("batch", Text, "The label."),
    may("reason", Text, "At most 256 bytes."),
    may("dryRun", Flag, "Tells what it would touch, and touches nothing."),
    may("force", Flag, "Even if the service knows nothing of the kind."),
]);
pub(crate) const REVOKED: Shape = Object(&[
    may("revocation", N(&REVOCATION), "What is in force now."),
    may("durableMs", Number, "Until it was on disk."),
    may("syncMs", OrNull(&Number), "The disk's part of it."),
    may("cutMs", Number, "Until all live sessions were marked."),
    may("sessionsCut", Whole, ""),
    may("keysDenied", Whole, ""),
    may("rowsEnded", Whole, ""),
    may("rowsFollow", Flag, "Whether rows follow behind."),
    may("group", N(&REVOCATION), "A group that was revoked along with its key."),
    may("dryRun", Flag, "Of a dry run, as the members below."),
    may("devices", Whole, ""),
    may("sessions", Whole, ""),
    may("keys", Whole, ""),
    may("known", Flag, ""),
    may("inForce", Flag, ""),
    may("atLeast", Flag, "Whether there may be more devices than are counted."),
]);
pub(crate) const DENY_RULES: Shape = Object(&[has("value", List(&N(&DENY_RULE)), "")]);
pub(crate) const ONE_DENY_RULE: Shape = N(&DENY_RULE);
pub(crate) const STANDINGS: Shape = Object(&[has("value", List(&N(&STANDING)), "Newest first.")]);
pub(crate) const ONE_STANDING: Shape = N(&STANDING);
pub(crate) const STANDING_IN_FULL: Shape = Object(&[
    may("registrationId", Text, ""),
    may("hub", Text, ""),
    may("deviceId", Text, ""),
    has("clonePolicy", Word(&["newest", "oldest", "quarantine"]), ""),
    has("standing", OrNull(&N(&STANDING)), "`null`: nothing was ever suspected."),
    has("sessions", List(&Any), "As far as they are remembered, the oldest first."),
    may("scoreNow", Whole, ""),
    may("evidenceNow", List(&N(&EVIDENCE)), ""),
    may("continuity", Any, ""),
]);
pub(crate) const QUARANTINE_ASKED: Shape = Object(&[may("reason", Text, "At most 256 bytes.")]);
pub(crate) const STORY: Shape = Object(&[
    has("asked", Text, ""),
    may("registrationId", Text, ""),
    may("enrollment", Any, ""),
    may("group", Any, ""),
    may("registration", N(&REGISTRATION), ""),
    may("transfer", N(&TRANSFER), ""),
    may("allocation", Any, "Where it would go now, and why; the leaf `registered` says why it is where it is."),
    may("devices", List(&Any), ""),
    may("keys", List(&Any), ""),
    may("standing", Any, ""),
    may("revocations", List(&Any), ""),
    may("sessions", List(&Any), ""),
    may("refusals", List(&N(&REFUSAL)), ""),
    may("leaves", List(&Any), ""),
    has("searched", Any, "How far back sessions and leaves were looked for."),
]);
pub(crate) const DOCUMENT: Shape = Object(&[has("openapi", Text, ""), has("paths", Any, "")]);

const COORDINATES: &[Member] = &[has("latitude", Number, "-90 to 90."), has("longitude", Number, "-180 to 180.")];

const LINKED_HUB: Named = Named {
    name: "LinkedHub",
    about: "A hub that devices are handed to.",
    members: &[
        has("name", Text, ""),
        has("hostName", Text, "What devices are told."),
        has("place", Word(&["local", "remote"]), ""),
        has("state", Word(&["active", "draining", "down"]), ""),
        has("weight", Whole, "1 to 1000."),
        has("applyAllocation", Flag, "Whether allocation may choose it."),
        has("draining", Flag, ""),
        has("labels", List(&Text), ""),
        has("region", OrNull(&Text), ""),
        has("coordinates", OrNull(&Object(COORDINATES)), ""),
        has("capacity", OrNull(&Whole), "Most device identities."),
        has("devices", Whole, "Identities that it holds, as far as this service knows."),
        has("etag", Text, ""),
        may("port", Whole, "Of a linked hub."),
        may("policy", Text, "Of a linked hub: by which it is called."),
        may("caSha256", OrNull(&Hash), "Of a linked hub: the authority that its certificate leads to."),
        may("health", Any, "Whether it answers, since when, and why not."),
        may("created", Moment, ""),
        may("updated", Moment, ""),
    ],
};

const REASONS: Shape = List(&Object(&[has("why", Text, ""), has("registrations", Whole, "")]));

const REBALANCE: Named = Named {
    name: "Rebalance",
    about: "Devices being moved to where the policies in force put them.",
    members: &[
        has("number", Whole, ""),
        has("state", Word(&["running", "stopped", "done"]), ""),
        has("rate", Whole, "Most moves a second."),
        has("from", OrNull(&Text), "Only devices of this hub."),
        has("seen", Whole, "Registrations looked at."),
        has("expected", Whole, "About how many it will look at."),
        has("moved", Whole, "To and from hubs elsewhere: begun."),
        has("skipped", Whole, ""),
        has("reasons", REASONS, "Why they were."),
        has("cursor", OrNull(&Text), "Up to which registration id it has looked."),
        has("by", Text, ""),
        has("begun", Moment, ""),
        has("updated", Moment, ""),
        has("digest", Hash, "Of the moves made."),
    ],
};

const TRANSFER: Named = Named {
    name: "Transfer",
    about: "A device on its way to or from a hub elsewhere, or one that did not get there.",
    members: &[
        has("registrationId", Text, ""),
        has("operationId", Text, ""),
        has("stage", Text, "What is done next, or `failed`."),
        has("from", Any, ""),
        has("to", Any, ""),
        has("twin", Word(&["initial", "migrate", "reset", "keep"]), ""),
        has("policy", Text, ""),
        has("reason", Text, ""),
        has("begun", Moment, ""),
        has("updated", Moment, ""),
        may("rebalance", Whole, "That moves it; 0: one move that was asked for."),
        may("errorCode", Whole, ""),
        may("message", Text, ""),
        may("toBeDeleted", List(&Any), "Identities elsewhere that must not stay."),
    ],
};

pub(crate) const HUBS: Shape = Object(&[has("value", List(&N(&LINKED_HUB)), "")]);
pub(crate) const ONE_HUB: Shape = N(&LINKED_HUB);
pub(crate) const HUB_ASKED: Shape = Object(&[
    may("connectionString", Text, "`HostName=..;SharedAccessKeyName=..;SharedAccessKey=..` of its service API."),
    may("ca", Text, "PEM; those of the platform unless told."),
    may("weight", Whole, "1 to 1000."),
    may("applyAllocation", Flag, ""),
    may("draining", Flag, ""),
    may("labels", List(&Text), ""),
    may("region", OrNull(&Text), ""),
    may("coordinates", OrNull(&Object(COORDINATES)), ""),
    may("capacity", OrNull(&Whole), ""),
]);
pub(crate) const HUB_TERMS_ASKED: Shape = Object(&[
    may("weight", Whole, "1 to 1000."),
    may("applyAllocation", Flag, ""),
    may("draining", Flag, ""),
    may("labels", List(&Text), ""),
    may("region", OrNull(&Text), ""),
    may("coordinates", OrNull(&Object(COORDINATES)), ""),
    may("capacity", OrNull(&Whole), ""),
]);
pub(crate) const HUB_REMOVED: Shape = Object(&[
    has("name", Text, ""),
    has("unlinked", Flag, ""),
    has("devices", Whole, "That were assigned to it."),
    may("lost", Text, "What that means for them."),
]);
pub(crate) const ALLOCATION: Shape = Object(&[
    has("allocationPolicy", Text, ""),
    may("stickyBy", Text, "`batch`, or `tag:` and a path."),
    has("setBy", Word(&["configuration", "operator"]), ""),
]);
pub(crate) const ALLOCATION_ASKED: Shape = Object(&[
    has("allocationPolicy", Word(&["hashed", "static", "geoLatency", "leastLoaded", "sticky"]), ""),
    may("stickyBy", Text, "Of `sticky`: `batch`, or `tag:` and a path."),
]);
pub(crate) const PLAN_ASKED: Shape = Object(&[
    may("hubs", List(&Any), "Each with `name` and the members of a hub that would change; a new one with `hostName`."),
    may("remove", List(&Text), "Hubs that would be drained and unlinked."),
    may("allocationPolicy", Text, ""),
    may("stickyBy", Text, ""),
    may("from", Text, "Only devices of this hub."),
]);
pub(crate) const FORECAST: Shape = Object(&[
    has("registrations", Whole, "Looked at."),
    has("stay", Whole, "That are where they belong."),
    has("moves", Whole, ""),
    has("cannot", REASONS, "That stay though they might go."),
    has("matrix", List(&Object(&[has("from", Text, ""), has("to", Text, ""), has("moves", Whole, "")])), ""),
    has(
        "hubs",
        List(&Object(&[has("hub", Text, ""), has("before", Whole, ""), has("after", Whole, "")])),
        "Their loads.",
    ),
    has(
        "estimated",
        List(&Object(&[has("policy", Text, ""), has("registrations", Whole, "")])),
        "Policies whose choice depends on the moment.",
    ),
    has("isEstimate", Flag, ""),
    has("digest", Hash, "Of the moves: `planDigest` of a rebalance."),
    has("allocationPolicy", Text, "Of enrollments that name none."),
    may("stickyBy", Text, ""),
]);
pub(crate) const REBALANCES: Shape = Object(&[has("value", List(&N(&REBALANCE)), "")]);
pub(crate) const ONE_REBALANCE: Shape = N(&REBALANCE);
pub(crate) const REBALANCE_ASKED: Shape = Object(&[
    may("rate", Whole, "Most moves a second; 50 unless told."),
    may("from", Text, "Only devices of this hub."),
    may("planDigest", Hash, "Only if it would make the moves of that plan."),
]);
pub(crate) const TRANSFERS: Shape = Object(&page(&N(&TRANSFER)));
pub(crate) const ONE_TRANSFER: Shape = N(&TRANSFER);
pub(crate) const TRANSFER_RETRIED: Shape =
    Object(&[has("outcome", Word(&["moved", "begun"]), ""), may("hub", Text, ""), may("transfer", N(&TRANSFER), "")]);
