//! One line on the terminal, written over itself four times a second.

use std::io::Write as _;
use std::time::Duration;

use unicity_device_sim::{Progress, ProgressSnapshot};

/// Shows devices that register, send and end.
pub(crate) async fn devices(progress: &Progress) {
    line(progress, |now, _| {
        format!(
            "{} devices: {} provisioned, {} connected, {} of {} messages acknowledged, {} failed",
            now.devices, now.provisioned, now.connected, now.acknowledged, now.sent, now.failed
        )
    })
    .await;
}

/// Shows a fleet that lives.
pub(crate) async fn fleet(progress: &Progress) {
    line(progress, |now, per_second| {
        format!(
            "{} devices: {} booted, {} open, {} acknowledged ({per_second:.0}/s), {} in flight, {} outages ({} back), \
             {} renewals, {} failed",
            now.devices,
            now.started,
            now.open,
            now.acknowledged,
            now.sent.saturating_sub(now.acknowledged),
            now.outages,
            now.reconnects,
            now.renewals,
            now.failed
        )
    })
    .await;
}

async fn line(progress: &Progress, text: impl Fn(&ProgressSnapshot, f64) -> String) {
    let mut ticks = tokio::time::interval(Duration::from_millis(250));
    let (mut before, mut rate) = (0, 0.0);
    loop {
        ticks.tick().await;
        let now = progress.snapshot();
        // Over about a second, so that the figure can be read.
        rate += (now.acknowledged.saturating_sub(before) as f64 * 4.0 - rate) / 4.0;
        before = now.acknowledged;
        let _ = write!(std::io::stderr(), "\r{}\x1b[K", text(&now, rate));
    }
}
