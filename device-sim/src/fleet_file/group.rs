//! One group of a fleet file.

use std::sync::Arc;
use std::time::Duration;

use toml::Spanned;
use unicity_identity::SharedAccessKey;

use super::plan::{
    AttestationPlan, BootPlan, ClonesPlan, DutyPlan, FlakyPlan, GroupPlan, MethodReply, ReconnectPlan, TelemetryPlan,
    TokenPlan,
};
use super::text::IdPattern;
use super::{Reader, raw};
use crate::template::{Generator, Table, Template};
use crate::{AttackKind, Backoff, Disturbance, EndorsementKind, Jitter};

/// Devices of one group.
const COUNT_MAX: usize = 1_000_000;
/// Software TPMs are a process each.
const TPM_COUNT_MAX: usize = 64;
const DECIMALS_MAX: usize = 15;

impl Reader<'_> {
    pub(super) fn group(&mut self, group: Spanned<raw::Group>) -> Option<GroupPlan> {
        let whole = Spanned::new(group.span(), ());
        let group = group.into_inner();
        let id: Option<IdPattern> = self.parsed("group.id", group.id.as_ref());
        let at = Spanned::new(group.name.span(), ());
        let attestation = self.attestation(&at, group.attestation);
        let has_own_ids = matches!(
            attestation,
            Some(AttestationPlan::Keys(_) | AttestationPlan::X509Folder(_) | AttestationPlan::Batch(_))
        );
        let max = if matches!(attestation, Some(AttestationPlan::Tpm { .. })) { TPM_COUNT_MAX } else { COUNT_MAX };
        let count = group.count.as_ref().map(|count| self.within("group.count", Some(count), (1, max), 1));
        let count = if has_own_ids { count } else { Some(count.unwrap_or(1)) };
        if group.id.is_none() && !has_own_ids {
            self.fault(&whole, "group.id", "a pattern is wanted, as \"car-{n:05}\"");
        }
        if let (Some(id), Some(text)) = (&id, &group.id) {
            for number in [1, count.unwrap_or(1)] {
                if let Err(error) = id.id(number) {
                    self.fault(text, "group.id", error);
                    break;
                }
            }
            if !id.has_number() && count != Some(1) {
                self.fault(text, "group.id", "without `{n}` it makes one id, for `count = 1`");
            }
        }
        let telemetry = self.telemetry(group.telemetry);
        Some(GroupPlan {
            name: group.name.into_inner(),
            count,
            id,
            attestation: attestation?,
            boot: self.boot(&group.boot),
            telemetry,
            duty: group.duty.and_then(|duty| self.duty(&duty)),
            reconnect: self.reconnect(&group.reconnect),
            token: self.token(&group.token),
            flaky: group.flaky.map(|flaky| self.flaky(&flaky)),
            clones: group.clones.map(|clones| self.clones(&clones, count)),
            methods: group.methods.into_iter().map(|(name, reply)| (name, method(reply))).collect(),
        })
    }

    /// What has no place of its own is told of at the group's name.
    fn attestation(&mut self, at: &Spanned<()>, attestation: raw::Attestation) -> Option<AttestationPlan> {
        Some(match attestation {
            raw::Attestation::GroupKey { key, key_env } => {
                let key_name = "group.attestation.group_key.key";
                let key = match (key, key_env) {
                    (Some(_), Some(_)) => {
                        self.fault(at, key_name, "either key or key_env is wanted");
                        return None;
                    }
                    (Some(key), None) => Some(key),
                    (None, Some(name)) => match (self.outside.variable)(name.get_ref()) {
                        Some(value) => Some(Spanned::new(name.span(), value)),
                        None => {
                            let what = format!("the environment has no {}", name.get_ref());
                            self.fault(&name, "group.attestation.group_key.key_env", what);
                            return None;
                        }
                    },
                    (None, None) => None,
                };
                let read = match &key {
                    Some(key) => match SharedAccessKey::from_base64(key.get_ref()) {
                        Ok(read) => Some(read),
                        Err(error) => {
                            self.fault(key, key_name, error);
                            return None;
                        }
                    },
                    None => None,
                };
                AttestationPlan::GroupKey(read)
            }
            raw::Attestation::Keys { file } => AttestationPlan::Keys(self.path(file)),
            raw::Attestation::X509Issuer { chain, key, dir } => {
                if chain.is_some() != key.is_some() {
                    self.fault(at, "group.attestation.x509_issuer", "chain and key belong together");
                }
                AttestationPlan::X509Issuer {
                    chain: chain.map(|path| self.path(path)),
                    key: key.map(|path| self.path(path)),
                    dir: dir.map(|path| self.path(path)),
                }
            }
            raw::Attestation::X509Folder { dir } => AttestationPlan::X509Folder(self.path(dir)),
            raw::Attestation::Batch { dir } => AttestationPlan::Batch(self.path(dir)),
            raw::Attestation::Tpm { endorsement, state } => AttestationPlan::Tpm {
                endorsement: self
                    .parsed("group.attestation.tpm.endorsement", endorsement.as_ref())
                    .unwrap_or(EndorsementKind::EccP256),
                state: state.map(|path| self.path(path)),
            },
        })
    }

    fn boot(&mut self, boot: &raw::Boot) -> BootPlan {
        match (&boot.rate, &boot.over) {
            (Some(rate), Some(_)) => {
                self.fault(rate, "group.boot.rate", "either rate or over is wanted");
                BootPlan::AtOnce
            }
            (Some(rate), None) => BootPlan::Rate(self.within("group.boot.rate", Some(rate), (0.001, 1e6), 1.0)),
            (None, over) => self.duration("group.boot.over", over.as_ref()).map_or(BootPlan::AtOnce, BootPlan::Over),
        }
    }

    fn telemetry(&mut self, telemetry: raw::Telemetry) -> TelemetryPlan {
        let interval = self.duration("group.telemetry.interval", telemetry.interval.as_ref());
        let qos = self.within("group.telemetry.qos", telemetry.qos.as_ref(), (0, 1), 1);
        let template = telemetry.body.as_ref().and_then(|body| {
            let mut values = Vec::new();
            for (name, value) in telemetry.values {
                values.push((name.clone(), self.generator(body, &name, value)?));
            }
            let mut properties: Vec<(String, String)> = Vec::new();
            let is_json = body.get_ref().trim_start().starts_with(['{', '[']);
            let content_type = telemetry.content_type.or(is_json.then(|| "application/json".to_owned()));
            if let Some(content_type) = content_type {
                properties.push(("$.ct".to_owned(), content_type));
                properties.push(("$.ce".to_owned(), "utf-8".to_owned()));
            }
            properties.extend(telemetry.properties.clone());
            match Template::new(body.get_ref(), &properties, values) {
                Ok(template) => Some(Arc::new(template)),
                Err(error) => {
                    self.fault(body, "group.telemetry.body", error);
                    None
                }
            }
        });
        TelemetryPlan {
            interval: interval.unwrap_or(Duration::from_secs(10)),
            jitter: self.within("group.telemetry.jitter", telemetry.jitter.as_ref(), (0.0, 1.0), 0.0),
            messages: telemetry.messages,
            duration: self.duration("group.telemetry.for", telemetry.duration.as_ref()),
            stay: telemetry.stay.unwrap_or(false),
            window: self.within("group.telemetry.window", telemetry.window.as_ref(), (1, 65_534), 16),
            acknowledged: qos == 1,
            template,
        }
    }

    /// What is wrong with a value is told of at the body that it is for.
    fn generator(&mut self, body: &Spanned<String>, name: &str, value: raw::Value) -> Option<Generator> {
        let key = format!("group.telemetry.values.{name}");
        let mut wrong = |what: String| {
            self.fault(body, &key, what);
            None
        };
        let numbers = |numbers: &[f64], decimals: usize| {
            numbers.iter().all(|number| number.is_finite()) && decimals <= DECIMALS_MAX
        };
        const NO_NUMBER: &str = "numbers must be finite, and decimals at most 15";
        Some(match value {
            raw::Value::Counter { start, step } => Generator::Counter { start, step },
            raw::Value::RandomWalk { start, step, min, max, decimals } => {
                if !numbers(&[start, step, min, max], decimals) {
                    return wrong(NO_NUMBER.to_owned());
                }
                if !(min <= start && start <= max && step >= 0.0) {
                    return wrong("min <= start <= max and step >= 0 are wanted".to_owned());
                }
                Generator::RandomWalk { start, step, min, max, decimals }
            }
            raw::Value::Sine { mean, amplitude, period, noise, decimals } => {
                if !numbers(&[mean, amplitude, noise], decimals) {
                    return wrong(NO_NUMBER.to_owned());
                }
                let period = self.duration(&format!("{key}.period"), Some(&period))?;
                if period.is_zero() {
                    self.fault(body, &key, "a period longer than 0 is wanted");
                    return None;
                }
                Generator::Sine { mean, amplitude, period, noise, decimals }
            }
            raw::Value::Uniform { min, max, decimals } => {
                if !numbers(&[min, max], decimals) || min > max {
                    return wrong(format!("min <= max is wanted; {NO_NUMBER}"));
                }
                Generator::Uniform { min, max, decimals }
            }
            raw::Value::Choice(texts) if texts.is_empty() => return wrong("something to choose is wanted".to_owned()),
            raw::Value::Choice(texts) => Generator::Choice(texts),
            raw::Value::Replay { file, column, again } => {
                let path = self.path(file);
                match (self.outside.read)(&path).and_then(|text| replay(&text, column.as_deref(), again)) {
                    Ok(replay) => replay,
                    Err(error) => {
                        self.fault(body, &key, format!("{}: {error}", path.display()));
                        return None;
                    }
                }
            }
        })
    }

    fn duty(&mut self, duty: &raw::Duty) -> Option<DutyPlan> {
        let connected = self.duration("group.duty.connected", Some(&duty.connected))?;
        let away = self.duration("group.duty.away", Some(&duty.away))?;
        if connected.is_zero() {
            self.fault(&duty.connected, "group.duty.connected", "more than 0 is wanted");
        }
        Some(DutyPlan { connected, away })
    }

    fn reconnect(&mut self, reconnect: &raw::Reconnect) -> ReconnectPlan {
        let usual = Backoff::default();
        let base = self.duration("group.reconnect.base", reconnect.base.as_ref()).unwrap_or(usual.base);
        let cap = self.duration("group.reconnect.cap", reconnect.cap.as_ref()).unwrap_or(usual.cap.max(base));
        if let Some(at) = reconnect.cap.as_ref().filter(|_| cap < base) {
            self.fault(at, "group.reconnect.cap", "it is shorter than base");
        }
        ReconnectPlan {
            backoff: Backoff {
                base,
                factor: self.within("group.reconnect.factor", reconnect.factor.as_ref(), (1.0, 100.0), usual.factor),
                cap,
                jitter: self.parsed("group.reconnect.jitter", reconnect.jitter.as_ref()).unwrap_or(Jitter::Full),
            },
            refusals: self.within("group.reconnect.refusals", reconnect.refusals.as_ref(), (1, 1_000_000), 3),
            rounds: self.within("group.reconnect.rounds", reconnect.rounds.as_ref(), (1, 1_000_000), 3),
        }
    }

    fn token(&mut self, token: &raw::Token) -> TokenPlan {
        let ttl = self.duration("group.token.ttl", token.ttl.as_ref()).unwrap_or(Duration::from_secs(3600));
        let margin = self.duration("group.token.renew_before", token.renew_before.as_ref());
        let renew_before = margin.unwrap_or_else(|| Duration::from_secs(120).min(ttl / 5));
        if let Some(at) = token.ttl.as_ref().or(token.renew_before.as_ref())
            && (ttl < Duration::from_secs(1) || renew_before >= ttl)
        {
            self.fault(at, "group.token", "a ttl of a second or more, and a shorter renew_before, are wanted");
        }
        TokenPlan { ttl: Duration::from_secs(ttl.as_secs()), renew_before }
    }

    fn flaky(&mut self, flaky: &raw::Flaky) -> FlakyPlan {
        let disturbances: Vec<Disturbance> =
            flaky.disturbances.iter().filter_map(|kind| self.parsed("group.flaky.disturbances", Some(kind))).collect();
        FlakyPlan {
            disturbances: if flaky.disturbances.is_empty() { Disturbance::ALL.to_vec() } else { disturbances },
            count: flaky.count.unwrap_or(8),
            messages_max: self.within("group.flaky.messages_max", flaky.messages_max.as_ref(), (1, 1_000_000), 4),
            pause_max: self
                .duration("group.flaky.pause_max", flaky.pause_max.as_ref())
                .unwrap_or(Duration::from_secs(5)),
        }
    }

    fn clones(&mut self, clones: &raw::Clones, devices: Option<usize>) -> ClonesPlan {
        let attacks: Vec<AttackKind> =
            clones.attacks.iter().filter_map(|kind| self.parsed("group.clones.attacks", Some(kind))).collect();
        let count = *clones.count.get_ref();
        if devices.is_some_and(|devices| count > devices) {
            self.fault(&clones.count, "group.clones.count", "there are fewer devices");
        }
        ClonesPlan {
            count,
            attacks: if clones.attacks.is_empty() { vec![AttackKind::Takeover] } else { attacks },
            rounds: clones.rounds.unwrap_or(4),
        }
    }
}

fn replay(text: &str, column: Option<&str>, again: bool) -> Result<Generator, String> {
    let table = Table::parse(text)?;
    if table.rows.is_empty() {
        return Err("it has no rows".to_owned());
    }
    let column = match column {
        Some(name) => Some(table.column(name).ok_or_else(|| format!("it has no column {name:?}"))?),
        None => None,
    };
    Ok(Generator::Replay { table: Arc::new(table), column, again })
}

fn method(reply: raw::Method) -> MethodReply {
    // Each TOML value is a JSON value, but a date is a table to serde; it stands as it would in a text.
    let payload = reply.payload.map_or(Ok("null".to_owned()), |value| serde_json::to_string(&value));
    MethodReply { status: reply.status.unwrap_or(200), payload: payload.unwrap_or_else(|_| "null".to_owned()) }
}
