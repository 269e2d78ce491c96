//! Each right on each verb of each path: as the routing table says, and no other way.

use unicity_api::required_rights;

use crate::server::{RIGHTS, Server, body_of, request_with};

/// Every path of the service APIs, of ours too.
pub(crate) const PATHS: &[&str] = &[
    "/enrollments",
    "/enrollments/query",
    "/enrollments/e",
    "/enrollments/e/attestationmechanism",
    "/enrollmentGroups",
    "/enrollmentGroups/query",
    "/enrollmentGroups/g",
    "/enrollmentGroups/g/attestationmechanism",
    "/registrations/r",
    "/registrations/g/query",
    "/devices",
    "/devices/query",
    "/devices/d",
    "/devices/d/modules",
    "/devices/d/modules/m",
    "/twins/d",
    "/twins/d/modules/m",
    "/statistics/devices",
    "/statistics/service",
    "/jobs",
    "/jobs/create",
    "/jobs/j",
    "/unicity/registrations",
    "/unicity/devices",
    "/unicity/twins/d",
    "/unicity/telemetry",
    "/unicity/refusals",
    "/unicity/refusals/x",
    "/unicity/failures",
    "/unicity/audit/checkpoint",
    "/unicity/audit/leaves",
    "/unicity/audit/proof/0",
    "/unicity/audit/key",
    "/unicity/why/x",
    "/unicity/info",
    "/unicity/backup",
    "/unicity/policies",
    "/unicity/policies/p",
    "/unicity/policies/p/rotate",
    "/unicity/hubs",
    "/unicity/hubs/h",
    "/unicity/allocation",
    "/unicity/plan",
    "/unicity/rebalances",
    "/unicity/rebalances/1",
    "/unicity/rebalances/1/stop",
    "/unicity/rebalances/1/resume",
    "/unicity/transfers",
    "/unicity/transfers/e",
    "/unicity/transfers/e/retry",
    "/unicity/certificates",
    "/unicity/certificates/c",
    "/unicity/certificates/c/generateverificationcode",
    "/unicity/certificates/c/verify",
    "/unicity/crls",
    "/unicity/crls/reload",
    "/unicity/crls/x",
    "/unicity/denied",
    "/unicity/revocations",
    "/unicity/standings",
    "/unicity/standing",
    "/unicity/standing/quarantine",
    "/unicity/standing/release",
];

#[tokio::test]
async fn every_call_needs_its_rights_and_no_others() {
    let server = Server::new();
    let (mut calls, mut checks) = (0, 0);
    for path in PATHS {
        let uri = format!("{path}?api-version=2021-04-12").parse().unwrap();
        let mut offered = 0;
        for method in ["GET", "PUT", "POST", "PATCH", "DELETE"] {
            let Some((audience, rights)) = required_rights(&method.parse().unwrap(), &uri) else { continue };
            offered += 1;
            calls += 1;
            for (number, right) in RIGHTS.into_iter().enumerate() {
                for only in [true, false] {
                    let request = request_with(method, path, audience, number, only).body(body_of("{}")).unwrap();
                    let status = server.send(request).await.status.as_u16();
                    let holds = |wanted| (right == wanted) == only;
                    let allowed = rights.iter().all(|wanted| holds(*wanted));
                    assert_eq!(status != 401, allowed, "{method} {path} with {only} {right:?}: {status}");
                    checks += 1;
                }
            }
        }
        assert!(offered > 0, "{path} is no path: keep the list in step with the routes");
    }
    assert!(calls > 60 && checks > 1000, "{calls} {checks}");
}
