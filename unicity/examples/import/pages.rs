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

use crate::{
    DPS_HOST, Failure, HUB_HOST, Targets, api, fleet, forget_peak, memory_kib, place, policy_key, write_symmetric,
};

/// Items of a page, as many as the service gives.
const PAGE: &str = "1000";
/// Pages at each place that are compared.
const COMPARED: usize = 50;
/// The dearest place against the cheapest.
const SPREAD_MAX: f64 = 1.25;
/// What a process that reads all pages may hold, redb's cache included.
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

/// Fills a registry with as many enrollments, registrations and devices, and walks through all of each in a process of its own: what
/// filling took stays with this one.
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
    registry.close()?;
    drop((api, registry));
    let mut walker = std::process::Command::new(std::env::current_exe()?);
    walker.arg("--walk").arg(dir).arg("--rows").arg(records.to_string());
    if let Some(bytes) = cache_bytes {
        walker.arg("--cache-mebibytes").arg((bytes >> 20).to_string());
    }
    match walker.status()?.code() {
        Some(0) => {}
        Some(1) => targets.missed += 1,
        _ => return Err("the process that walks through the pages failed".into()),
    }
    Ok(std::fs::remove_dir_all(dir)?)
}

/// Walks through all pages of what [`measure`] has filled.
pub(crate) fn walk_all(
    dir: &Path,
    records: u64,
    cache_bytes: Option<usize>,
    targets: &mut Targets,
) -> Result<(), Failure> {
    let (api, registry) = api(dir, cache_bytes)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    for list in LISTS {
        forget_peak();
        let before = memory_kib("VmRSS:") / 1024;
        let Walked { items, places, longest } = runtime.block_on(walk(&api, &list))?;
        let expected = if list.what.contains("nothing") { 0 } else { records };
        if items != expected {
            return Err(format!("{}: {items} items instead of {expected}", list.what).into());
        }
        let peak = memory_kib("VmHWM:") / 1024;
        let compared = COMPARED.min(places.len() / 3);
        // Without the last one, which is shorter.
        let firsts = [0, places.len() / 2 - compared / 2, places.len() - 1 - compared];
        let medians = runtime.block_on(compare(&api, &list, &places, firsts, compared))?;
        let spread = medians.iter().copied().fold(0.0, f64::max) / medians.iter().copied().fold(f64::MAX, f64::min);
        println!(
            "{}: {items} in {} pages, median of {compared} at the beginning {:.2} ms, middle {:.2} ms, end {:.2} ms; longest \
             {:.1} ms; memory {before} MiB before, {peak} MiB at the peak",
            list.what,
            places.len(),
            medians[0],
            medians[1],
            medians[2],
            longest.as_secs_f64() * 1e3,
        );
        targets.judge(spread <= SPREAD_MAX, &format!("{spread:.2} between the places, at most {SPREAD_MAX}"));
        targets.judge(peak < PEAK_MIB_MAX, &format!("{peak} MiB at the peak, less than {PEAK_MIB_MAX}"));
    }
    registry.close()?;
    Ok(())
}

/// All pages of a list.
struct Walked {
    items: u64,
    /// What each was asked for with; `None`: the first.
    places: Vec<Option<http::HeaderValue>>,
    longest: Duration,
}

async fn walk(api: &Api, list: &List) -> Result<Walked, Failure> {
    let mut walked = Walked { items: 0, places: Vec::new(), longest: Duration::ZERO };
    let mut next = None;
    loop {
        let page = page(api, list, next.as_ref()).await?;
        walked.items += page.items;
        walked.longest = walked.longest.max(page.took);
        walked.places.push(next);
        next = page.next;
        if next.is_none() {
            return Ok(walked);
        }
    }
}

/// Milliseconds of a page behind each place. By turns, so that whatever else the machine does falls on all places alike.
async fn compare(
    api: &Api,
    list: &List,
    places: &[Option<http::HeaderValue>],
    firsts: [usize; 3],
    compared: usize,
) -> Result<[f64; 3], Failure> {
    let mut times = [const { Vec::new() }; 3];
    for number in 0..compared {
        for (times, first) in times.iter_mut().zip(firsts) {
            let place = places.get(first + number).ok_or("there are too few pages")?;
            times.push(page(api, list, place.as_ref()).await?.took);
        }
    }
    Ok(times.map(|mut times| {
        times.sort_unstable();
        times.get(times.len() / 2).map_or(0.0, |time| time.as_secs_f64() * 1e3)
    }))
}

struct Page {
    items: u64,
    took: Duration,
    next: Option<http::HeaderValue>,
}

async fn page(api: &Api, list: &List, place: Option<&http::HeaderValue>) -> Result<Page, Failure> {
    let token = SasToken::create(&policy_key()?, list.host, 4_102_444_800, Some(list.policy));
    let body = list.query.map_or_else(String::new, |query| serde_json::json!({ "query": query }).to_string());
    let mut request = Request::builder()
        .method(Method::POST)
        .uri(list.path)
        .header("Host", list.host)
        .header("Authorization", &token)
        .header("Content-Type", "application/json")
        .header("x-ms-max-item-count", PAGE);
    if let Some(place) = place {
        request = request.header("x-ms-continuation", place);
    }
    let request = request.body(Full::new(bytes::Bytes::from(body)))?;
    let started = Instant::now();
    let answer = api.handle(request, context()).await;
    let (head, body) = answer.into_parts();
    let body = body.collect().await.map_err(|error| format!("the answer broke off: {error}"))?.to_bytes();
    let took = started.elapsed();
    if !head.status.is_success() {
        return Err(format!("{}: {} {}", list.what, head.status, String::from_utf8_lossy(&body)).into());
    }
    let items = serde_json::from_slice::<Vec<serde::de::IgnoredAny>>(&body)?.len() as u64;
    Ok(Page { items, took, next: head.headers.get("x-ms-continuation").cloned() })
}

/// Microseconds of a request for one enrollment, at random: token and rights checked, looked up, answered as JSON.
pub(crate) fn look_up_us(api: &Api, rows: u64, requests: u64) -> Result<f64, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let token = SasToken::create(&policy_key()?, DPS_HOST, 4_102_444_800, Some("provisioningserviceowner"));
    runtime.block_on(async {
        let mut took = Duration::ZERO;
        for number in 0..requests {
            let id = format!("factory-device-{:09}", place(number, rows)?);
            let request = Request::builder()
                .uri(format!("/enrollments/{id}?api-version=2021-10-01"))
                .header("Host", DPS_HOST)
                .header("Authorization", &token)
                .body(Full::new(bytes::Bytes::new()))?;
            let started = Instant::now();
            let answer = api.handle(request, context()).await;
            let (head, body) = answer.into_parts();
            body.collect().await.map_err(|error| format!("the answer broke off: {error}"))?;
            took += started.elapsed();
            if !head.status.is_success() {
                return Err(format!("{id}: {}", head.status).into());
            }
        }
        Ok(took.as_secs_f64() * 1e6 / requests as f64)
    })
}

fn context() -> RequestContext {
    RequestContext {
        peer: None,
        permit: UnauthenticatedPermit::detached(),
        stop: CancellationToken::new(),
        chain: None,
    }
}
