//! The HTTPS service: its parts, and the way of a request through it.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;

use arc_swap::ArcSwap;
use bytes::Bytes;
use http::{HeaderValue, Request, Response, header};
use hyper::body::Body;
use tokio::sync::{Notify, Semaphore};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};
use unicity_hub::{Sessions, Suspicion, TelemetryLog};
use unicity_identity::{Entropy, Environment, Refusal, RevocationList};
use unicity_listener::{ByteStream, ConnectionInfo, HandshakeFailures, Service, UnauthenticatedPermit};
use unicity_provisioning::import::Imports;
use unicity_provisioning::x509::crl::CRL_BYTES_MAX;
use unicity_provisioning::{Actor, Command, Outcome, PresentedChain, Provisioning, Request as RegistryRequest};

use crate::audit::AuditLog;
use crate::auth::{Principal, authenticate};
use crate::backup::Backup;
use crate::body::{self, ApiBody};
use crate::connection::serve_http;
use crate::counts::Counts;
use crate::crl_files::{CrlFileFault, CrlFiles};
use crate::failure::{Dialect, Failure};
use crate::hubs::HubParts;
use crate::metrics::MetricSample;
use crate::policy::{Audience, LivePolicies, PolicyKeys, ServicePolicies};
use crate::route::{self, AudienceRule, BodyRule, Call, Needs, OwnCall};
use crate::settings::ApiSettings;
use crate::target::Target;
use crate::{device, dps, hub, own};

/// What the API is put together from.
pub struct ApiParts {
    /// Registry, vault, settings and refusals.
    pub provisioning: Provisioning,
    /// The live sessions, to show and to cut.
    pub sessions: Arc<Sessions>,
    /// What is remembered of past sessions, to show.
    pub suspicion: Arc<Suspicion>,
    /// Where telemetry is read from.
    pub telemetry: Arc<dyn TelemetryLog>,
    /// Clock and randomness.
    pub environment: Environment,
    /// Who may do what.
    pub policies: ServicePolicies,
    /// Where the keys of policies come from; `None`: policies cannot be changed, 501.
    pub policy_keys: Option<Arc<dyn PolicyKeys>>,
    /// Limits.
    pub settings: ApiSettings,
    /// The audit log; `None`: 501.
    pub audit: Option<Arc<dyn AuditLog>>,
    /// Factory imports; `None`: 501.
    pub imports: Option<Arc<dyn Imports>>,
    /// How a backup is made; `None`: 501.
    pub backup: Option<Backup>,
    /// Connections that ended before their protocol began, of each listener.
    pub handshakes: Vec<Arc<HandshakeFailures>>,
    /// How the files stand that revocation lists are read from.
    pub crl_files: Arc<CrlFiles>,
    /// What knows of hubs elsewhere, and what moves devices among hubs.
    pub hubs: HubParts,
    /// The version to show in `/unicity/info`.
    pub version: &'static str,
}

/// The HTTPS service. A handle: clones share everything.
#[derive(Clone)]
pub struct Api(pub(crate) Arc<Shared>);

/// What all requests share.
pub(crate) struct Shared {
    pub(crate) provisioning: Provisioning,
    pub(crate) sessions: Arc<Sessions>,
    pub(crate) suspicion: Arc<Suspicion>,
    pub(crate) telemetry: Arc<dyn TelemetryLog>,
    pub(crate) environment: Environment,
    /// Those in force; a change replaces them all.
    pub(crate) policies: ArcSwap<LivePolicies>,
    pub(crate) policy_keys: Option<Arc<dyn PolicyKeys>>,
    /// One change of a policy at a time.
    pub(crate) policy_turn: tokio::sync::Mutex<()>,
    pub(crate) settings: ApiSettings,
    pub(crate) audit: Option<Arc<dyn AuditLog>>,
    pub(crate) imports: Option<Arc<dyn Imports>>,
    pub(crate) backup: Option<Backup>,
    pub(crate) handshakes: Vec<Arc<HandshakeFailures>>,
    pub(crate) crl_files: Arc<CrlFiles>,
    pub(crate) hubs: HubParts,
    /// One change of a hub at a time: it is made on condition of what was read.
    pub(crate) hub_turn: tokio::sync::Mutex<()>,
    /// One plan at a time: it walks all registrations.
    pub(crate) planning: Arc<Semaphore>,
    pub(crate) version: &'static str,
    pub(crate) telemetry_streams: Arc<Semaphore>,
    /// One count of a hub's devices at a time: it walks all of them.
    pub(crate) device_count: Semaphore,
    /// One revocation list at a time: it is compared with the one that it replaces.
    pub(crate) revocation: Semaphore,
    /// Two searches or checkpoints of the audit log at a time: they read and write much.
    pub(crate) audit_work: Semaphore,
    pub(crate) counts: Counts,
    /// A revocation has rows that are to follow.
    pub(crate) follow: Notify,
}

/// The connection that a request came over.
#[derive(Clone, Debug)]
pub struct RequestContext {
    /// The peer, if there is a socket.
    pub peer: Option<SocketAddr>,
    /// Counts the connection among its peer's unauthenticated ones.
    pub permit: UnauthenticatedPermit,
    /// Fires when the server stops; endless answers end then.
    pub stop: CancellationToken,
    /// The certificates of the connection's handshake, whose key is proven.
    pub chain: Option<Arc<PresentedChain>>,
}

/// A request on its way through a handler: proven, allowed, read.
pub(crate) struct Proven {
    pub(crate) target: Target,
    pub(crate) headers: http::HeaderMap,
    pub(crate) body: Bytes,
    pub(crate) principal: Principal,
    pub(crate) context: RequestContext,
}

impl Api {
    /// Puts the service together.
    #[must_use]
    pub fn new(parts: ApiParts) -> Self {
        let ApiParts {
            provisioning,
            sessions,
            suspicion,
            telemetry,
            environment,
            policies,
            policy_keys,
            settings,
            audit,
            imports,
            backup,
            handshakes,
            crl_files,
            hubs,
            version,
        } = parts;
        Self(Arc::new(Shared {
            telemetry_streams: Arc::new(Semaphore::new(settings.telemetry_streams_max.min(Semaphore::MAX_PERMITS))),
            device_count: Semaphore::new(1),
            revocation: Semaphore::new(1),
            audit_work: Semaphore::new(2),
            counts: Counts::default(),
            policies: ArcSwap::from_pointee(LivePolicies::new(policies, settings.requests_per_key)),
            policy_keys,
            policy_turn: tokio::sync::Mutex::default(),
            follow: Notify::new(),
            provisioning,
            sessions,
            suspicion,
            telemetry,
            environment,
            settings,
            audit,
            imports,
            backup,
            handshakes,
            crl_files,
            hubs,
            hub_turn: tokio::sync::Mutex::default(),
            planning: Arc::new(Semaphore::new(1)),
            version,
        }))
    }

    /// The API's own numbers for the metrics page: answers by plane and status.
    #[must_use]
    pub fn metrics(&self) -> Vec<MetricSample> {
        self.0.counts.samples()
    }

    /// Takes in a revocation list that the server itself found (PEM, base64 or DER), as an upload is: it must be signed by an
    /// authority that the service knows, and newer than the one that is there.
    ///
    /// # Errors
    /// Why not, as it is shown in the states of the files.
    pub async fn store_revocation_list(&self, bytes: Vec<u8>) -> Result<RevocationList, CrlFileFault> {
        match own::revocation::store(&self.0, bytes, Actor::Server).await {
            Ok(Ok(list)) => Ok(list),
            Ok(Err(refusal)) => Err(CrlFileFault {
                name: refusal.name(),
                cause: refusal.to_string(),
                remedy: refusal.remedy().to_owned(),
            }),
            Err(failure) => Err(CrlFileFault {
                name: failure.code().name,
                cause: failure.cause().to_string(),
                remedy: "see the server's log; it is tried again".to_owned(),
            }),
        }
    }

    /// Answers one request. Never fails: whatever happens is an answer.
    pub async fn handle<B>(&self, request: Request<B>, context: RequestContext) -> Response<ApiBody>
    where
        B: Body<Data = Bytes> + Send + 'static,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let (head, body) = request.into_parts();
        let shared = &self.0;
        let peer = context.peer;
        let (target, call) = match Target::parse(&head.uri).map(|target| (route::find(&head.method, &target), target)) {
            Ok((call, target)) => (target, call),
            Err(failure) => (Target::default(), Err(failure)),
        };
        let plane = target.plane();
        let path_shown: String = head.uri.path().chars().take(300).collect();
        let result = match call {
            Err(failure) => Err(failure),
            Ok(Call::Device(call)) => device::handle(shared, call, &head.headers, body, &context).await,
            Ok(call) => self.serve_service(call, target, head.headers, body, context).await,
        };
        let mut answer = match result {
            Ok(answer) => answer,
            Err(failure) => self.refuse(&failure, plane.dialect(), &path_shown, peer),
        };
        let headers = answer.headers_mut();
        // RFC 6797; service-rest.md 1.8.
        headers
            .insert(header::STRICT_TRANSPORT_SECURITY, HeaderValue::from_static("max-age=31536000; includeSubDomains"));
        if !headers.contains_key("x-ms-request-id") {
            let id = shared.environment.entropy().tracking_id();
            if let Ok(value) = HeaderValue::from_str(id.as_str()) {
                headers.insert("x-ms-request-id", value);
            }
        }
        shared.counts.count(plane, answer.status());
        debug!(method = %head.method, path = path_shown, status = answer.status().as_u16(), "request");
        answer
    }

    /// Every call but a device's: token, right, body, handler, in this order.
    async fn serve_service<B>(
        &self,
        call: Call,
        target: Target,
        headers: http::HeaderMap,
        body: B,
        context: RequestContext,
    ) -> Result<Response<ApiBody>, Failure>
    where
        B: Body<Data = Bytes> + Send + 'static,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let shared = &self.0;
        let Needs { audience, rights, body: rule } = call.needs();
        let principal = authenticate(shared, audience, &target, &headers)?;
        context.permit.authenticated();
        match (audience, &principal.audience) {
            // A hub's policies are its owner's to keep, too; no policy of a hub has the right that names.
            (AudienceRule::Policies, place @ Audience::Hub(_)) => principal.require(place.keeper().iter())?,
            _ => principal.require(rights.iter().copied())?,
        }
        if call.provisions() {
            shared.provisioning.check_served()?;
        }
        if call.assigns() {
            principal.require_assigner(&shared.settings)?;
        }
        let body = match rule {
            BodyRule::Streamed => return own::imports::receive(self, &target, &principal, &context, body),
            BodyRule::Ignored => Bytes::new(),
            BodyRule::Read => {
                // A list of the largest size that is taken has a third more as text.
                let least = if call == Call::Own(OwnCall::PutRevocationList) { CRL_BYTES_MAX / 2 * 3 } else { 0 };
                body::read(body, shared.settings.body_bytes_max.max(least), shared.settings.body_timeout).await?
            }
        };
        if let Call::Own(OwnCall::Export { keys }) = call {
            return own::imports::export(self, &target, keys);
        }
        let proven = Proven { target, headers, body, principal, context };
        match call {
            Call::Dps(call) => dps::handle(shared, call, proven).await,
            Call::Hub(call) => hub::handle(shared, call, proven).await,
            Call::Own(call) => own::handle(shared, call, proven).await,
            // Devices prove themselves in another way, and never come here.
            Call::Device(_) => Err(Failure::new(500_001, "ServerError", "a device call has lost its way".into())),
        }
    }

    /// Turns a failure into an answer, and keeps the evidence under its tracking id.
    fn refuse(&self, failure: &Failure, dialect: Dialect, path: &str, peer: Option<SocketAddr>) -> Response<ApiBody> {
        let shared = &self.0;
        let now = shared.environment.now();
        let tracking_id = shared.environment.entropy().tracking_id();
        let code = failure.code();
        if let Some(refusal) = failure.refusal() {
            shared.provisioning.refusals().record(tracking_id.clone(), refusal, path, peer, now);
        }
        let is_asked_elsewhere = matches!(failure.refusal(), Some(Refusal::ProvisioningNotServed));
        if code.http_status() >= 500 && code.http_status() != 501 && !is_asked_elsewhere {
            warn!(%tracking_id, %code, path, cause = %failure.cause(), "request failed");
        } else {
            info!(%tracking_id, %code, path, cause = %failure.cause(), "request refused");
        }
        failure.answer(dialect, &tracking_id, now)
    }
}

impl Service for Api {
    async fn serve(&self, stream: Box<dyn ByteStream>, info: ConnectionInfo, stop: CancellationToken) {
        let context = RequestContext {
            peer: Some(info.peer),
            permit: info.unauthenticated.clone(),
            chain: PresentedChain::parse(&info.client_chain).map(Arc::new),
            stop: stop.clone(),
        };
        serve_http(stream, &self.0.settings, stop, |request| self.handle(request, context.clone())).await;
    }
}

impl fmt::Debug for Api {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Api")
    }
}

impl Shared {
    /// Runs what may block on the disk off the async threads.
    pub(crate) async fn blocking<T: Send + 'static>(
        work: impl FnOnce() -> Result<T, Failure> + Send + 'static,
    ) -> Result<T, Failure> {
        tokio::task::spawn_blocking(work)
            .await
            .unwrap_or_else(|error| Err(Refusal::Unavailable { why: format!("the work broke off: {error}") }.into()))
    }
}

impl Shared {
    /// A request to the registry's writer, in the name of whoever sent it.
    pub(crate) fn request(&self, command: Command, principal: &Principal, entropy: &mut Entropy) -> RegistryRequest {
        self.request_as(command, principal.actor(), entropy)
    }

    fn request_as(&self, command: Command, actor: Actor, entropy: &mut Entropy) -> RegistryRequest {
        RegistryRequest { command, actor, now: self.environment.now(), entropy: Entropy::from_seed(entropy.draw()) }
    }

    /// Hands a command to the registry's writer and waits for its sync.
    pub(crate) async fn submit(
        &self,
        command: Command,
        principal: &Principal,
        entropy: &mut Entropy,
    ) -> Result<Outcome, Failure> {
        self.submit_as(command, principal.actor(), entropy).await
    }

    /// The same for who is no service client.
    pub(crate) async fn submit_as(
        &self,
        command: Command,
        actor: Actor,
        entropy: &mut Entropy,
    ) -> Result<Outcome, Failure> {
        let request = self.request_as(command, actor, entropy);
        Ok(self.provisioning.registry().submit(request).await?)
    }

    /// An answer of the registry to another question than was asked: a defect, told as such.
    pub(crate) fn unexpected(outcome: &Outcome) -> Failure {
        warn!(?outcome, "the registry answered something else");
        Refusal::Unavailable { why: "the registry answered something else".into() }.into()
    }
}
