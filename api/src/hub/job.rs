//! Import and export jobs (`service-rest.md` 12.7). Azure's read and write blobs of a storage account, which this server has no client
//! for: none is ever begun, and whoever asks is told the ways that there are.

use http::{Response, StatusCode};
use serde_json::Value;

use crate::body::{ApiBody, json as json_answer};
use crate::failure::Failure;

/// All jobs: none.
pub(super) fn list() -> Response<ApiBody> {
    json_answer(StatusCode::OK, &Value::Array(Vec::new()))
}

pub(super) fn create() -> Failure {
    Failure::new(
        501_001,
        "NotImplemented",
        "import and export jobs work on blob containers, which this server does not reach: change devices by POST /devices, 100 at a \
         time, read them by POST /devices/query, and enrol batches with `unicity enroll import`"
            .into(),
    )
}

pub(super) fn missing(id: &str) -> Failure {
    let shown: String = id.chars().take(128).collect();
    Failure::new(404_002, "JobNotFound", format!("there is no job {shown:?}"))
}
