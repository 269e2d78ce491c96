//! Validity dates, with patience for clocks that differ (RFC 5280 4.1.2.5).

use unicity_identity::Timestamp;

use super::summary::CertificateSummary;

/// It is not the time of a certificate.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OutOfTime {
    /// Too early.
    #[error(
        "it begins at {not_before}, and it is {now}: {difference_seconds} s too early (allowed skew {skew_seconds} s)"
    )]
    NotYetValid {
        /// Its begin.
        not_before: Timestamp,
        /// The server's clock.
        now: Timestamp,
        /// How far apart, in seconds.
        difference_seconds: u64,
        /// Patience for clocks that differ, in seconds.
        skew_seconds: u64,
    },
    /// Too late.
    #[error(
        "it ended at {not_after}, and it is {now}: {difference_seconds} s too late (allowed skew {skew_seconds} s)"
    )]
    Expired {
        /// Its end.
        not_after: Timestamp,
        /// The server's clock.
        now: Timestamp,
        /// How far apart, in seconds.
        difference_seconds: u64,
        /// Patience for clocks that differ, in seconds.
        skew_seconds: u64,
    },
}

impl OutOfTime {
    /// A stable name for logs and metrics.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::NotYetValid { .. } => "CertificateNotYetValid",
            Self::Expired { .. } => "CertificateExpired",
        }
    }

    /// What can be done about it.
    #[must_use]
    pub fn remedy(&self) -> &'static str {
        match self {
            Self::NotYetValid { .. } => {
                "compare the server's clock with that of the machine that issued the certificate, or begin validity earlier"
            }
            Self::Expired { .. } => {
                "renew the certificate (over the same key, the device stays registered), or check the server's clock"
            }
        }
    }
}

/// Whether `now` is within the certificate's dates, give or take `skew_seconds`. The last second is included.
///
/// # Errors
/// [`OutOfTime`] with the difference.
pub fn check_validity(certificate: &CertificateSummary, now: Timestamp, skew_seconds: u64) -> Result<(), OutOfTime> {
    let (at, not_before, not_after) =
        (now.unix_seconds(), certificate.not_before.unix_seconds(), certificate.not_after.unix_seconds());
    if at.saturating_add(skew_seconds) < not_before {
        return Err(OutOfTime::NotYetValid {
            not_before: certificate.not_before,
            now,
            difference_seconds: not_before - at,
            skew_seconds,
        });
    }
    if at > not_after.saturating_add(skew_seconds) {
        return Err(OutOfTime::Expired {
            not_after: certificate.not_after,
            now,
            difference_seconds: at - not_after,
            skew_seconds,
        });
    }
    Ok(())
}
