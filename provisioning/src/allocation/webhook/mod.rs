//! An operator's function that chooses the hub (`service-rest.md` 5.1): where it is, what it is asked, and what its answer means.
//! The asking itself is done elsewhere.

mod answer;
mod question;
#[cfg(test)]
mod tests;
mod url;

pub use answer::{Answer, Unusable, WebhookFailure, read_answer};
pub use question::{Question, linked_hubs, question};
pub use url::{InvalidWebhook, WebhookHost, WebhookUrl, check_api_version, masked};
