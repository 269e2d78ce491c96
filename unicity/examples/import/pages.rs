//! What a page of a listing or query costs at the beginning, in the middle and at the end of many records, and what memory it takes:
//! through the service APIs, tokens and rights included, without sockets.

use std::path::Path;
use std::time::{Duration, Instant};

use http::{Method, Request};
use http_body_util::{BodyExt as _, Full};
use tokio_util::sync::CancellationToken;
use unicity_api::{Api, FileFormat, ImportOptions, RequestContext};
use unicity_identity::SasToken;
use unicity_listener::UnauthenticatedPermit;

use crate::{DPS_HOST, Failure, HUB_HOST, Targets, api, fleet, forget_peak, memory_kib, policy_key, write_symmetric};

/// Items of a page, as many as the service gives.
const PAGE: &str = "1000";
/// Pages at each place that are compared.
const COMPARED: usize = 50;
/// The dearest place against the cheapest.
const SPREAD_MAX: f64 = 1.25;
/// What reading all pages may add to what the process holds, redb's cache included.
const PEAK_MIB_MAX: u64 = 512;

/// A list to walk through.
struct List {
    what: &'static str,
    host: &'static str,
    policy: &'static str,
    path: &'static str,
    /// `None`: a listing.
    query: Option<&'static str>,
}

const LISTS: [List; 4] = [
    List {
        what: "enrollments",
        host: DPS_HOST,
        policy: "provisioningserviceowner",
        path: "/enrollments/query?api-version=2021-10-01",
        query: Some("SELECT * FROM enrollments"),
    },
    List {
        what: "registrations of a group",
        host: DPS_HOST,
        policy: "provisioningserviceowner",
        path: "/registrations/fleet/query?api-version=2021-10-01",
        query: None,
    },
    List {
        what: "twins of a hub",
        host: HUB_HOST,
        policy: "iothubowner",
        path: "/devices/query?api-version=2021-04-12",
        query: Some("SELECT * FROM devices"),
    },
    List {
        what: "twins that nothing matches, 10,000 looked at a page",
        host: HUB_HOST,
        policy: "iothubowner",
        path: "/devices/query?api-version=2021-04-12",
        query: Some("SELECT deviceId FROM devices WHERE tags.site = 'nowhere'"),
    },
];

/// Fills a registry with as many enrollments, registrations and devices, and walks through all of each.
pub(crate) fn measure(
    dir: &Path,
    records: u64,
    cache_bytes: Option<usize>,
    targets: &mut Targets,
) -> Result<(), Failure> {
    let (api, registry) = api(dir, cache_bytes)?;
    let file = dir.join("rows.csv");
    write_symmetric(&file, "factory-device", records)?;
    let options = ImportOptions {
        format: Some(FileFormat::Csv),
        batch: Some("bench".parse()?),
        partial: false,
        dry_run: false,
        key: "bench".into(),
        manifest: None,
    };
    api.import_file(std::fs::File::open(&file)?, &options, &mut |_| {})?;
    let group = fleet::group(&*registry);
    if fleet::submit_all(&*registry, (0..records).map(|n| fleet::register(&group, n)), 1_000) > 0 {
        return Err("registrations failed".into());
    }
    registry.checkpoint()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    for list in LISTS {
        forget_peak();
        let before = memory_kib("VmRSS:") / 1024;
        let (items, pages) = runtime.block_on(walk(&api, &list))?;
        let expected = if list.what.contains("nothing") { 0 } else { records };
        if items != expected {
            return Err(format!("{}: {items} items instead of {expected}", list.what).into());
        }
        let compared = COMPARED.min(pages.len() / 3);
        // Without the last one, which is shorter.
        let (middle, end) = (pages.len() / 2 - compared / 2, pages.len() - 1 - compared);
        let places = [0, middle, end].map(|at| median_ms(&pages[at..at + compared]));
        let spread = places.iter().copied().fold(0.0, f64::max) / places.iter().copied().fold(f64::MAX, f64::min);
        let longest = pages.iter().max().copied().unwrap_or_default().as_secs_f64() * 1e3;
        let peak = memory_kib("VmHWM:") / 1024;
        println!(
            "{}: {items} in {} pages, median of {compared} at the beginning {:.2} ms, middle {:.2} ms, end {:.2} ms; longest \
             {longest:.1} ms; memory {before} MiB before, {peak} MiB at the peak",
            list.what,
            pages.len(),
            places[0],
            places[1],
            places[2],
        );
        targets.judge(spread <= SPREAD_MAX, &format!("{spread:.2} between the places, at most {SPREAD_MAX}"));
        targets.judge(peak < PEAK_MIB_MAX, &format!("{peak} MiB at the peak, less than {PEAK_MIB_MAX}"));
    }
    registry.close()?;
    drop(api);
    Ok(std::fs::remove_dir_all(dir)?)
}

fn median_ms(times: &[Duration]) -> f64 {
    let mut times = times.to_vec();
    times.sort_unstable();
    times.get(times.len() / 2).map_or(0.0, |time| time.as_secs_f64() * 1e3)
}

/// All pages: how many items, and how long each page took.
async fn walk(api: &Api, list: &List) -> Result<(u64, Vec<Duration>), Failure> {
    let token = SasToken::create(&policy_key()?, list.host, 4_102_444_800, Some(list.policy));
    let body = list.query.map_or_else(String::new, |query| serde_json::json!({ "query": query }).to_string());
    let (mut items, mut pages, mut next) = (0u64, Vec::new(), None::<http::HeaderValue>);
    loop {
        let mut request = Request::builder()
            .method(Method::POST)
            .uri(list.path)
            .header("Host", list.host)
            .header("Authorization", &token)
            .header("Content-Type", "application/json")
            .header("x-ms-max-item-count", PAGE);
        if let Some(next) = next.take() {
            request = request.header("x-ms-continuation", next);
        }
        let request = request.body(Full::new(bytes::Bytes::from(body.clone())))?;
        let context = RequestContext {
            peer: None,
            permit: UnauthenticatedPermit::detached(),
            stop: CancellationToken::new(),
            chain: None,
        };
        let started = Instant::now();
        let answer = api.handle(request, context).await;
        let (head, body) = answer.into_parts();
        let body = body.collect().await.map_err(|error| format!("the answer broke off: {error}"))?.to_bytes();
        pages.push(started.elapsed());
        if !head.status.is_success() {
            return Err(format!("{}: {} {}", list.what, head.status, String::from_utf8_lossy(&body)).into());
        }
        items += serde_json::from_slice::<Vec<serde::de::IgnoredAny>>(&body)?.len() as u64;
        next = head.headers.get("x-ms-continuation").cloned();
        if next.is_none() {
            return Ok((items, pages));
        }
    }
}
