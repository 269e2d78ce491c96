//! Which call a method and path mean, and what each call needs: whose token, which rights, a body or none.

pub(crate) mod own;

use std::borrow::Cow;
use unicity_provisioning::attest::stays_by_default;

use http::Method;
use unicity_identity::ErrorCode;

use crate::failure::Failure;
use crate::policy::Right;
use crate::target::{Plane, Target};

/// A call of any plane. Ids are decoded, but not yet checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Call {
    /// Of the DPS service API.
    Dps(DpsCall),
    /// Of a hub's service API.
    Hub(HubCall),
    /// Of our own.
    Own(OwnCall),
    /// Of a registering device.
    Device(DeviceCall),
}

/// `service-rest.md` 3.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum DpsCall {
    GetIndividual(String),
    PutIndividual(String),
    DeleteIndividual(String),
    IndividualKeys(String),
    QueryIndividuals,
    BulkIndividuals,
    GetGroup(String),
    PutGroup(String),
    DeleteGroup(String),
    GroupKeys(String),
    QueryGroups,
    BulkGroups,
    GetRegistration(String),
    DeleteRegistration(String),
    QueryRegistrations(String),
}

/// `service-rest.md` 12.1.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum HubCall {
    GetDevice(String),
    PutDevice(String),
    DeleteDevice(String),
    ListDevices,
    DeviceStatistics,
    ServiceStatistics,
    /// `None`: the device's own; else of its module.
    GetTwin(String, Option<String>),
    PatchTwin(String, Option<String>),
    PutTwin(String, Option<String>),
    ListModules(String),
    GetModule(String, String),
    PutModule(String, String),
    DeleteModule(String, String),
    BulkDevices,
    QueryDevices,
    ListJobs,
    CreateJob,
    GetJob(String),
    DeleteJob(String),
}

/// Under `/unicity/`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum OwnCall {
    Registrations,
    Devices,
    PutCarriedTwin(String),
    Telemetry,
    Refusals,
    Refusal(String),
    Failures,
    AuditFile(String),
    AuditCheckpoint,
    AuditLeaves,
    AuditProof(String),
    AuditKey,
    Story(String),
    Info,
    OpenApi,
    Backup,
    Authorities,
    GetAuthority(String),
    PutAuthority(String),
    DeleteAuthority(String),
    VerificationCode(String),
    VerifyAuthority(String),
    RevocationLists,
    PutRevocationList,
    DeleteRevocationList(String),
    ReloadRevocationLists,
    DenyRules,
    SetDenyRule { denied: bool },
    Revocations,
    Revoke,
    LiftRevocation,
    Standings,
    GetStanding,
    Quarantine,
    Release,
    Imports,
    Import,
    GetImport(String),
    ImportVerdicts(String),
    AbandonImport(String),
    Export { keys: bool },
    Policies,
    GetPolicy(String),
    PutPolicy(String),
    DeletePolicy(String),
    RotatePolicy(String),
    Hubs,
    GetHub(String),
    PutHub(String),
    PatchHub(String),
    DeleteHub(String),
    AllocationPolicy,
    PutAllocationPolicy,
    DeleteAllocationPolicy,
    Plan,
    Rebalances,
    GetRebalance(String),
    StartRebalance,
    StopRebalance(String),
    ResumeRebalance(String),
    Transfers,
    GetTransfer(String),
    RetryTransfer(String),
}

/// `device-mqtt.md` 3.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct DeviceCall {
    pub(crate) id_scope: String,
    pub(crate) registration_id: String,
    pub(crate) action: DeviceAction,
    /// See `unicity_provisioning::attest::stays_by_default`.
    pub(crate) stays_by_default: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum DeviceAction {
    Register,
    OperationStatus(String),
    LookUp,
}

/// Whose policies may sign for a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum AudienceRule {
    /// Those of the provisioning service.
    Dps,
    /// Those of the hub that the request is for.
    Hub,
    /// Those of the provisioning service; or those of the hub whose policies the call is about, with all of its rights.
    Policies,
    /// Any.
    Any,
}

/// Whether a call reads a body. Where it does not, one is let pass: some clients send `{}` with a GET.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum BodyRule {
    Ignored,
    Read,
    /// The handler reads it as it comes.
    Streamed,
}

/// What a service call needs before its handler runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Needs {
    pub(crate) audience: AudienceRule,
    /// All of them.
    pub(crate) rights: &'static [Right],
    pub(crate) body: BodyRule,
}

impl Call {
    /// Whether it makes, changes or deletes device identities of a hub.
    pub(crate) fn assigns(&self) -> bool {
        matches!(
            self,
            Self::Hub(HubCall::PutDevice(_) | HubCall::DeleteDevice(_) | HubCall::BulkDevices)
                | Self::Own(OwnCall::PutCarriedTwin(_))
        )
    }

    /// Whether it has no meaning at a node that serves hubs only.
    pub(crate) fn provisions(&self) -> bool {
        matches!(self, Self::Dps(_) | Self::Own(OwnCall::Import | OwnCall::Export { .. }))
    }

    pub(crate) fn needs(&self) -> Needs {
        use AudienceRule::{Any, Dps, Hub, Policies};
        use BodyRule::{Ignored, Read};
        use Right::{
            EnrollmentRead, EnrollmentWrite, RegistrationStatusRead, RegistrationStatusWrite, RegistryRead,
            RegistryWrite, ServiceConfig, ServiceConnect,
        };
        let (audience, rights, body): (_, &'static [Right], _) = match self {
            Self::Dps(call) => match call {
                DpsCall::GetIndividual(_) | DpsCall::GetGroup(_) => (Dps, &[EnrollmentRead], Ignored),
                DpsCall::QueryIndividuals | DpsCall::QueryGroups => (Dps, &[EnrollmentRead], Read),
                DpsCall::PutIndividual(_) | DpsCall::PutGroup(_) | DpsCall::BulkIndividuals | DpsCall::BulkGroups => {
                    (Dps, &[EnrollmentWrite], Read)
                }
                DpsCall::DeleteIndividual(_) | DpsCall::DeleteGroup(_) => (Dps, &[EnrollmentWrite], Ignored),
                // It shows keys, so who may only read may not.
                DpsCall::IndividualKeys(_) | DpsCall::GroupKeys(_) => {
                    (Dps, &[EnrollmentRead, EnrollmentWrite], Ignored)
                }
                DpsCall::GetRegistration(_) => (Dps, &[RegistrationStatusRead], Ignored),
                DpsCall::QueryRegistrations(_) => (Dps, &[RegistrationStatusRead], Read),
                DpsCall::DeleteRegistration(_) => (Dps, &[RegistrationStatusWrite], Ignored),
            },
            Self::Hub(call) => match call {
                HubCall::GetDevice(_)
                | HubCall::ListDevices
                | HubCall::DeviceStatistics
                | HubCall::ServiceStatistics
                | HubCall::ListModules(_)
                | HubCall::GetModule(..) => (Hub, &[RegistryRead], Ignored),
                HubCall::PutDevice(_) | HubCall::PutModule(..) | HubCall::BulkDevices | HubCall::CreateJob => {
                    (Hub, &[RegistryWrite], Read)
                }
                HubCall::DeleteDevice(_)
                | HubCall::DeleteModule(..)
                | HubCall::ListJobs
                | HubCall::GetJob(_)
                | HubCall::DeleteJob(_) => (Hub, &[RegistryWrite], Ignored),
                HubCall::GetTwin(..) => (Hub, &[ServiceConnect], Ignored),
                HubCall::PatchTwin(..) | HubCall::PutTwin(..) | HubCall::QueryDevices => (Hub, &[ServiceConnect], Read),
            },
            Self::Own(call) => match call {
                OwnCall::Registrations => (Dps, &[RegistrationStatusRead], Ignored),
                OwnCall::Devices => (Hub, &[RegistryRead], Ignored),
                OwnCall::PutCarriedTwin(_) => (Hub, &[RegistryWrite, ServiceConnect], Read),
                OwnCall::Telemetry => (Hub, &[ServiceConnect], Ignored),
                OwnCall::Refusals
                | OwnCall::Failures
                | OwnCall::Refusal(_)
                | OwnCall::Standings
                | OwnCall::GetStanding
                | OwnCall::AuditFile(_)
                | OwnCall::AuditCheckpoint
                | OwnCall::AuditLeaves
                | OwnCall::AuditProof(_)
                | OwnCall::AuditKey => (Dps, &[EnrollmentRead], Ignored),
                OwnCall::Story(_) => (Dps, &[EnrollmentRead, RegistrationStatusRead], Ignored),
                OwnCall::Quarantine | OwnCall::Release => (Dps, &[EnrollmentWrite], Read),
                OwnCall::Import => (Dps, &[EnrollmentWrite], BodyRule::Streamed),
                OwnCall::AbandonImport(_) => (Dps, &[EnrollmentWrite], Ignored),
                OwnCall::Imports | OwnCall::GetImport(_) | OwnCall::ImportVerdicts(_) => {
                    (Dps, &[EnrollmentRead], Ignored)
                }
                OwnCall::Export { keys: false } => (Dps, &[EnrollmentRead], Ignored),
                // As where one enrollment's keys are shown.
                OwnCall::Export { keys: true } => (Dps, &[EnrollmentRead, EnrollmentWrite], Ignored),
                OwnCall::PutPolicy(_) => (Policies, &[ServiceConfig], Read),
                OwnCall::Policies | OwnCall::GetPolicy(_) | OwnCall::DeletePolicy(_) | OwnCall::RotatePolicy(_) => {
                    (Policies, &[ServiceConfig], Ignored)
                }
                OwnCall::Info | OwnCall::OpenApi => (Any, &[], Ignored),
                OwnCall::Hubs | OwnCall::GetHub(_) | OwnCall::AllocationPolicy => (Dps, &[EnrollmentRead], Ignored),
                OwnCall::PutHub(_) | OwnCall::PatchHub(_) | OwnCall::PutAllocationPolicy | OwnCall::StartRebalance => {
                    (Dps, &[ServiceConfig], Read)
                }
                OwnCall::DeleteHub(_)
                | OwnCall::DeleteAllocationPolicy
                | OwnCall::StopRebalance(_)
                | OwnCall::ResumeRebalance(_) => (Dps, &[ServiceConfig], Ignored),
                OwnCall::Plan => (Dps, &[EnrollmentRead, RegistrationStatusRead], Read),
                OwnCall::Rebalances | OwnCall::GetRebalance(_) | OwnCall::Transfers | OwnCall::GetTransfer(_) => {
                    (Dps, &[RegistrationStatusRead], Ignored)
                }
                OwnCall::RetryTransfer(_) => (Dps, &[RegistrationStatusWrite], Ignored),
                OwnCall::Backup
                | OwnCall::PutAuthority(_)
                | OwnCall::VerifyAuthority(_)
                | OwnCall::PutRevocationList
                | OwnCall::SetDenyRule { .. }
                | OwnCall::Revoke
                | OwnCall::LiftRevocation => (Dps, &[ServiceConfig], Read),
                OwnCall::Authorities
                | OwnCall::GetAuthority(_)
                | OwnCall::DeleteAuthority(_)
                | OwnCall::VerificationCode(_)
                | OwnCall::RevocationLists
                | OwnCall::DeleteRevocationList(_)
                | OwnCall::ReloadRevocationLists
                | OwnCall::DenyRules
                | OwnCall::Revocations => (Dps, &[ServiceConfig], Ignored),
            },
            // A device's token is not a policy's; its handler asks the registry.
            Self::Device(_) => (Any, &[], Read),
        };
        Needs { audience, rights, body }
    }
}

/// Whose policies may make a service call (`dps`, `hub` or `any`), and the rights that they need; `None` if there is no such call, or it
/// is a device's. For descriptions of the API and for tests, so that none is forgotten.
#[must_use]
pub fn required_rights(method: &Method, uri: &http::Uri) -> Option<(&'static str, &'static [Right])> {
    let call = Target::parse(uri).ok().and_then(|target| find(method, &target).ok())?;
    let Needs { audience, rights, .. } = call.needs();
    match (&call, audience) {
        (Call::Device(_), _) => None,
        (_, AudienceRule::Dps | AudienceRule::Policies) => Some(("dps", rights)),
        (_, AudienceRule::Hub) => Some(("hub", rights)),
        (_, AudienceRule::Any) => Some(("any", rights)),
    }
}

/// Finds the call, or says what is wrong: 404 for a path that is none, 405 with `Allow` for a method it does not take, 501 for
/// what the real services have and this one has not yet, 400 where `api-version` is missing.
pub(crate) fn find(method: &Method, target: &Target) -> Result<Call, Failure> {
    let lowered: Vec<String> = target.segments.iter().map(|segment| segment.to_ascii_lowercase()).collect();
    let lowered: Vec<&str> = lowered.iter().map(String::as_str).collect();
    let plane = target.plane();
    let call = match plane {
        Plane::Dps => dps(method, &lowered, target).map(Call::Dps),
        Plane::Hub => hub(method, &lowered, target).map(Call::Hub),
        Plane::Own => own::find(method, target).map(Call::Own),
        Plane::Device => device(method, &lowered, target).map(Call::Device),
    }?;
    // Any version is taken (service-rest.md 1.1): all of them share one shape. Ours has none.
    if plane != Plane::Own && target.query("api-version").is_none_or(str::is_empty) {
        return Err(Failure::new(
            400_001,
            "InvalidProtocolVersion",
            "the query parameter api-version is missing, such as api-version=2021-10-01".into(),
        ));
    }
    Ok(call)
}

fn unknown_path(target: &Target) -> Failure {
    let shown: String = target.path_raw.chars().take(200).collect();
    Failure::new(404_000, "NotFound", format!("there is nothing at {shown}"))
}

fn wrong_method(method: &Method, allow: impl Into<Cow<'static, str>>) -> Failure {
    let allow = allow.into();
    Failure::Http {
        code: ErrorCode { number: 405_001, name: "MethodNotAllowed" },
        message: format!("{method} is not offered on this path, {allow} is"),
        allow: Some(allow),
    }
}

fn dps(method: &Method, lowered: &[&str], target: &Target) -> Result<DpsCall, Failure> {
    let id = || target.segments.get(1).cloned().unwrap_or_default();
    Ok(match (lowered, method.as_str()) {
        (["enrollments"], "POST") => DpsCall::BulkIndividuals,
        (["enrollments", "query"], "POST") => DpsCall::QueryIndividuals,
        (["enrollments", _], "GET") => DpsCall::GetIndividual(id()),
        (["enrollments", _], "PUT") => DpsCall::PutIndividual(id()),
        (["enrollments", _], "DELETE") => DpsCall::DeleteIndividual(id()),
        (["enrollments", _, "attestationmechanism"], "POST") => DpsCall::IndividualKeys(id()),
        (["enrollmentgroups"], "POST") => DpsCall::BulkGroups,
        (["enrollmentgroups", "query"], "POST") => DpsCall::QueryGroups,
        (["enrollmentgroups", _], "GET") => DpsCall::GetGroup(id()),
        (["enrollmentgroups", _], "PUT") => DpsCall::PutGroup(id()),
        (["enrollmentgroups", _], "DELETE") => DpsCall::DeleteGroup(id()),
        (["enrollmentgroups", _, "attestationmechanism"], "POST") => DpsCall::GroupKeys(id()),
        (["registrations", _], "GET") => DpsCall::GetRegistration(id()),
        (["registrations", _], "DELETE") => DpsCall::DeleteRegistration(id()),
        (["registrations", _, "query"], "POST") => DpsCall::QueryRegistrations(id()),
        (["enrollments" | "enrollmentgroups"], _) => return Err(wrong_method(method, "POST")),
        (["enrollments" | "enrollmentgroups", "query"], _) => return Err(wrong_method(method, "POST")),
        (["enrollments" | "enrollmentgroups", _], _) => return Err(wrong_method(method, "GET, PUT, DELETE")),
        (["registrations", _], _) => return Err(wrong_method(method, "GET, DELETE")),
        (["enrollments" | "enrollmentgroups", _, "attestationmechanism"] | ["registrations", _, "query"], _) => {
            return Err(wrong_method(method, "POST"));
        }
        _ => return Err(unknown_path(target)),
    })
}

fn hub(method: &Method, lowered: &[&str], target: &Target) -> Result<HubCall, Failure> {
    let id = || target.segments.get(1).cloned().unwrap_or_default();
    let third = || target.segments.get(3).cloned().unwrap_or_default();
    Ok(match (lowered, method.as_str()) {
        (["devices"], "GET") => HubCall::ListDevices,
        (["devices"], "POST") => HubCall::BulkDevices,
        (["devices", "query"], "POST") => HubCall::QueryDevices,
        (["devices", _], "GET") => HubCall::GetDevice(id()),
        (["devices", _], "PUT") => HubCall::PutDevice(id()),
        (["devices", _], "DELETE") => HubCall::DeleteDevice(id()),
        (["statistics", "devices"], "GET") => HubCall::DeviceStatistics,
        (["statistics", "service"], "GET") => HubCall::ServiceStatistics,
        (["devices", _, "modules"], "GET") => HubCall::ListModules(id()),
        (["devices", _, "modules", _], "GET") => HubCall::GetModule(id(), third()),
        (["devices", _, "modules", _], "PUT") => HubCall::PutModule(id(), third()),
        (["devices", _, "modules", _], "DELETE") => HubCall::DeleteModule(id(), third()),
        (["twins", _], "GET") => HubCall::GetTwin(id(), None),
        (["twins", _], "PATCH") => HubCall::PatchTwin(id(), None),
        (["twins", _], "PUT") => HubCall::PutTwin(id(), None),
        (["twins", _, "modules", _], "GET") => HubCall::GetTwin(id(), Some(third())),
        (["twins", _, "modules", _], "PATCH") => HubCall::PatchTwin(id(), Some(third())),
        (["twins", _, "modules", _], "PUT") => HubCall::PutTwin(id(), Some(third())),
        (["jobs"], "GET") => HubCall::ListJobs,
        (["jobs", "create"], "POST") => HubCall::CreateJob,
        (["jobs", "v2", ..], _) => return Err(Failure::not_offered("the scheduling of jobs")),
        (["jobs", _], "GET") => HubCall::GetJob(id()),
        (["jobs", _], "DELETE") => HubCall::DeleteJob(id()),
        (["jobs"], _) => return Err(wrong_method(method, "GET")),
        (["jobs", "create"], _) => return Err(wrong_method(method, "POST")),
        (["jobs", _], _) => return Err(wrong_method(method, "GET, DELETE")),
        (["twins", _] | ["twins", _, "modules", _], _) => return Err(wrong_method(method, "GET, PATCH, PUT")),
        (["twins", _, "methods"] | ["twins", _, "modules", _, "methods"], _) => {
            return Err(Failure::not_offered("the call of a direct method"));
        }
        (["devices", _, "modules"], _) => return Err(wrong_method(method, "GET")),
        (["devices", _, "modules", _], _) => return Err(wrong_method(method, "GET, PUT, DELETE")),
        (["devices", _, "commands"] | ["devices", _, "modules", _, "commands"] | ["messages", ..], _) => {
            return Err(Failure::not_offered("the queue of messages from cloud to device"));
        }
        (["devices", _, "applyconfigurationcontent"], _) => {
            return Err(Failure::not_offered("the configuration of edge devices"));
        }
        (["devices", "query"], _) => return Err(wrong_method(method, "POST")),
        (["devices"], _) => return Err(wrong_method(method, "GET, POST")),
        (["devices", _], _) => return Err(wrong_method(method, "GET, PUT, DELETE")),
        (["statistics", "devices" | "service"], _) => return Err(wrong_method(method, "GET")),
        (["configurations" | "digitaltwins", ..], _) => {
            return Err(Failure::not_offered("this part of the hub's service API"));
        }
        _ => return Err(unknown_path(target)),
    })
}

fn device(method: &Method, lowered: &[&str], target: &Target) -> Result<DeviceCall, Failure> {
    let segment = |index: usize| target.segments.get(index).cloned().unwrap_or_default();
    let action = match (lowered, method.as_str()) {
        ([_, _, _, "register"], "PUT") => DeviceAction::Register,
        ([_, _, _, "operations", _], "GET") => DeviceAction::OperationStatus(segment(4)),
        ([_, _, _], "POST") => DeviceAction::LookUp,
        ([_, _, _, "register"], _) => return Err(wrong_method(method, "PUT")),
        ([_, _, _, "operations", _], _) => return Err(wrong_method(method, "GET")),
        ([_, _, _], _) => return Err(wrong_method(method, "POST")),
        _ => return Err(unknown_path(target)),
    };
    let stays_by_default = target.query("api-version").is_some_and(stays_by_default);
    Ok(DeviceCall { id_scope: segment(0), registration_id: segment(2), action, stays_by_default })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn find_at(method: &str, path: &str) -> Result<Call, u32> {
        let target = Target::parse(&path.parse().unwrap()).unwrap();
        find(&method.parse().unwrap(), &target).map_err(|failure| failure.code().number)
    }

    #[test]
    fn literals_have_no_case_and_ids_have() {
        for (method, path, call) in [
            ("POST", "/enrollments/?api-version=1", Call::Dps(DpsCall::BulkIndividuals)),
            (
                "POST",
                "/enrollmentgroups/G/AttestationMechanism?api-version=1",
                Call::Dps(DpsCall::GroupKeys("G".into())),
            ),
            ("POST", "/enrollmentGroups/QUERY/?api-version=1", Call::Dps(DpsCall::QueryGroups)),
            ("GET", "/Devices/?top=1&api-version=1", Call::Hub(HubCall::ListDevices)),
            // A device may have the name of a call that its methods do not take.
            ("GET", "/devices/Query?api-version=1", Call::Hub(HubCall::GetDevice("Query".into()))),
            ("POST", "/devices/Query?api-version=1", Call::Hub(HubCall::QueryDevices)),
            ("PATCH", "/Twins/D/Modules/M?api-version=1", Call::Hub(HubCall::PatchTwin("D".into(), Some("M".into())))),
            ("PUT", "/devices/a%2Fb?api-version=1", Call::Hub(HubCall::PutDevice("a/b".into()))),
            ("GET", "/unicity/info", Call::Own(OwnCall::Info)),
            ("POST", "/unicity/Certificates/Root/Verify", Call::Own(OwnCall::VerifyAuthority("Root".into()))),
            ("GET", "/unicity/standing?registrationId=R", Call::Own(OwnCall::GetStanding)),
            ("POST", "/unicity/Standing/Release", Call::Own(OwnCall::Release)),
            ("DELETE", "/unicity/denied", Call::Own(OwnCall::SetDenyRule { denied: false })),
            (
                "PUT",
                "/0ne1/Registrations/R/Register?api-version=1",
                Call::Device(DeviceCall {
                    id_scope: "0ne1".into(),
                    registration_id: "R".into(),
                    action: DeviceAction::Register,
                    stays_by_default: false,
                }),
            ),
        ] {
            assert_eq!(find_at(method, path), Ok(call), "{method} {path}");
        }
    }

    proptest::proptest! {
        #[test]
        fn no_target_makes_the_finder_panic(path in "(/[ -~&&[^#?]]{0,12}){0,5}", query in "[ -~&&[^#]]{0,20}") {
            if let Ok(uri) = format!("{path}?{query}").parse()
                && let Ok(target) = Target::parse(&uri)
            {
                let _ = find(&Method::PUT, &target);
            }
        }
    }

    #[test]
    fn what_is_wrong_is_said() {
        for (method, path, code) in [
            ("GET", "/", 404_000),
            ("GET", "/nothing", 404_000),
            ("GET", "/enrollments/a/b?api-version=1", 404_000),
            ("PATCH", "/enrollments/a?api-version=1", 405_001),
            ("PUT", "/enrollments?api-version=1", 405_001),
            ("GET", "/enrollments/a", 400_001),
            ("GET", "/enrollments/a?api-version=", 400_001),
            ("POST", "/twins/d?api-version=1", 405_001),
            ("POST", "/twins/d/methods?api-version=1", 501_001),
            ("DELETE", "/devices/d/commands?api-version=1", 501_001),
            ("GET", "/messages/serviceBound/feedback?api-version=1", 501_001),
            ("PUT", "/jobs/v2/j?api-version=1", 501_001),
            ("GET", "/configurations?api-version=1", 501_001),
            ("POST", "/unicity/certificates/c", 405_001),
            ("GET", "/unicity/certificates/c/verify", 405_001),
            ("DELETE", "/unicity/crls", 405_001),
            ("GET", "/unicity/standing/release", 405_001),
            ("PUT", "/devices/d/modules?api-version=1", 405_001),
            ("GET", "/0ne1/registrations/r/register?api-version=1", 405_001),
        ] {
            assert_eq!(find_at(method, path), Err(code), "{method} {path}");
        }
    }
}
