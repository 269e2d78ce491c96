//! Answers counted by plane and status class, and registrations by outcome. Labels are closed sets: nothing a stranger sends
//! becomes one.

use std::sync::atomic::{AtomicU64, Ordering};

use http::StatusCode;

use crate::metrics::{MetricKind, MetricSample};
use crate::target::Plane;

const CLASSES: [&str; 3] = ["2xx", "4xx", "5xx"];

#[derive(Debug, Default)]
pub(crate) struct Counts {
    /// One cell a plane and class.
    answers: [[AtomicU64; CLASSES.len()]; Plane::ALL.len()],
    registrations_assigned: AtomicU64,
    registrations_refused: AtomicU64,
}

impl Counts {
    pub(crate) fn count(&self, plane: Plane, status: StatusCode) {
        let class = match status.as_u16() {
            ..=399 => 0,
            400..=499 => 1,
            _ => 2,
        };
        self.answers[plane as usize][class].fetch_add(1, Ordering::Relaxed);
    }

    /// A device's registration was answered.
    pub(crate) fn count_registration(&self, assigned: bool) {
        let cell = if assigned { &self.registrations_assigned } else { &self.registrations_refused };
        cell.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn samples(&self) -> Vec<MetricSample> {
        let mut samples = Vec::new();
        for plane in Plane::ALL {
            for (class, label) in CLASSES.into_iter().enumerate() {
                samples.push(MetricSample {
                    name: "unicity_http_answers_total".into(),
                    help: "Answers of the HTTPS port, by plane and status class.".into(),
                    kind: MetricKind::Counter,
                    labels: vec![("plane".into(), plane.label().into()), ("status".into(), label.into())],
                    value: self.answers[plane as usize][class].load(Ordering::Relaxed) as f64,
                });
            }
        }
        for (outcome, cell) in [("assigned", &self.registrations_assigned), ("refused", &self.registrations_refused)] {
            samples.push(MetricSample {
                name: "unicity_http_registrations_total".into(),
                help: "Registrations answered over HTTPS, by outcome.".into(),
                kind: MetricKind::Counter,
                labels: vec![("outcome".into(), outcome.into())],
                value: cell.load(Ordering::Relaxed) as f64,
            });
        }
        samples
    }
}
