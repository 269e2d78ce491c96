//! The admin port.

use std::sync::Arc;

use http::Method;
use http_body_util::BodyExt;
use parking_lot::Mutex;
use unicity_api::{Admin, ApiSettings, MetricKind, MetricSample};

#[tokio::test]
async fn health_readiness_and_metrics() {
    let reason = Arc::new(Mutex::new(None::<String>));
    let shared = reason.clone();
    let sample = || MetricSample {
        name: "unicity_up".into(),
        help: "It is.".into(),
        kind: MetricKind::Gauge,
        labels: vec![],
        value: 1.0,
    };
    let admin = Admin::new(
        Arc::new(move || shared.lock().clone().map_or(Ok(()), Err)),
        vec![Arc::new(move || vec![sample()])],
        Arc::new(ApiSettings::default()),
    );
    let get = |path: &'static str| {
        let answer = admin.handle(&Method::GET, path);
        async move {
            let (head, body) = answer.into_parts();
            let body = String::from_utf8(body.collect().await.unwrap().to_bytes().to_vec()).unwrap();
            (head.status.as_u16(), body, head.headers)
        }
    };
    assert_eq!(get("/healthz").await.0, 200);
    assert_eq!(get("/readyz").await.0, 200);
    *reason.lock() = Some("the store is poisoned: disk".into());
    let (status, body, _) = get("/readyz").await;
    assert_eq!((status, body.as_str()), (503, "not ready: the store is poisoned: disk\n"));
    assert_eq!(get("/healthz").await.0, 200, "a server that is not ready still lives");
    let (status, body, headers) = get("/metrics").await;
    assert_eq!((status, body.as_str()), (200, "# HELP unicity_up It is.\n# TYPE unicity_up gauge\nunicity_up 1\n"));
    assert_eq!(headers["content-type"], "text/plain; version=0.0.4; charset=utf-8");
    assert_eq!(get("/").await.0, 404);
    assert_eq!(admin.handle(&Method::POST, "/metrics").status(), 405);
}
