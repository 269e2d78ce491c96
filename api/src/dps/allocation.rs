//! How a hub is chosen, as a request's body gives it and as answers show it: `allocationPolicy` with `customAllocationDefinition`
//! (`service-rest.md` 3.1), and our `sticky` with `stickyBy`.
//!
//! The query of a webhook's URL may hold a key, so it is never shown; a client that sends back what it read keeps what is stored.

use std::collections::BTreeSet;

use serde::Deserialize;
use serde_json::{Map, Value, json};
use unicity_identity::enrollment::{AllocationPolicy, CustomAllocation, StickyBy};
use unicity_provisioning::allocation::WebhookHost;
use unicity_provisioning::allocation::webhook::{WebhookUrl, check_api_version, masked};

use super::word;
use crate::failure::Failure;

/// The members of a body.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct AllocationBody {
    allocation_policy: Option<String>,
    custom_allocation_definition: Option<DefinitionBody>,
    sticky_by: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct DefinitionBody {
    webhook_url: Option<String>,
    api_version: Option<String>,
}

/// The words; what the last two need beside them comes from other members.
#[derive(Clone)]
enum Word {
    Plain(AllocationPolicy),
    Custom,
    Sticky,
}

/// The policy of a body; `None`: the service's. `stored` is what an update replaces.
///
/// # Errors
/// 400 with the member, what is wrong with it, and what would be right.
pub(super) fn read(
    hosts: &BTreeSet<WebhookHost>,
    body: AllocationBody,
    stored: Option<&AllocationPolicy>,
) -> Result<Option<AllocationPolicy>, Failure> {
    let Some(text) = body.allocation_policy.filter(|text| !text.is_empty()) else { return Ok(None) };
    let words = [
        ("hashed", Word::Plain(AllocationPolicy::Hashed)),
        ("static", Word::Plain(AllocationPolicy::Static)),
        ("geoLatency", Word::Plain(AllocationPolicy::GeoLatency)),
        ("leastLoaded", Word::Plain(AllocationPolicy::LeastLoaded)),
        ("custom", Word::Custom),
        ("sticky", Word::Sticky),
    ];
    Ok(Some(match word("allocationPolicy", &text, &words)? {
        Word::Plain(policy) => policy,
        Word::Custom => {
            let stored = match stored {
                Some(AllocationPolicy::Custom(stored)) => Some(&**stored),
                _ => None,
            };
            AllocationPolicy::Custom(Box::new(custom(hosts, body.custom_allocation_definition, stored)?))
        }
        Word::Sticky => AllocationPolicy::Sticky(match (body.sticky_by, stored) {
            (Some(text), _) => text.parse().map_err(|why: String| Failure::invalid("stickyBy", why))?,
            // A service SDK drops members that it does not know: what is left out stays as it was.
            (None, Some(AllocationPolicy::Sticky(by))) => by.clone(),
            (None, _) => return Err(Failure::invalid("stickyBy", StickyBy::FORMS.to_owned())),
        }),
    }))
}

fn custom(
    hosts: &BTreeSet<WebhookHost>,
    body: Option<DefinitionBody>,
    stored: Option<&CustomAllocation>,
) -> Result<CustomAllocation, Failure> {
    const URL: &str = "customAllocationDefinition.webhookUrl";
    let given = |text: Option<String>| text.filter(|text| !text.trim().is_empty());
    let body = body.ok_or_else(|| {
        Failure::invalid(
            "customAllocationDefinition",
            "it is missing, and allocationPolicy is custom: {\"webhookUrl\":\"https://...\",\"apiVersion\":\"2021-10-01\"}".into(),
        )
    })?;
    let url = given(body.webhook_url)
        .ok_or_else(|| Failure::invalid(URL, "it is missing: the https URL of the function that names a hub".into()))?;
    let version = given(body.api_version).map_or_else(|| "2021-10-01".to_owned(), |text| text.trim().to_owned());
    check_api_version(&version)
        .map_err(|error| Failure::invalid("customAllocationDefinition.apiVersion", error.to_string()))?;
    // What is stored was checked when it was stored; its host may be configured no longer, and the enrollment must still be changeable.
    if let Some(stored) = stored.filter(|stored| url == stored.webhook_url || url == masked(&stored.webhook_url)) {
        return Ok(CustomAllocation { webhook_url: stored.webhook_url.clone(), api_version: version });
    }
    let parsed: WebhookUrl = url.trim().parse().map_err(|error| Failure::invalid(URL, format!("{error}")))?;
    if url.trim().ends_with("?****") {
        return Err(Failure::invalid(URL, "its query is masked, and no such URL is stored here: give it whole".into()));
    }
    if !hosts.contains(&parsed.host) {
        let allowed: Vec<_> = hosts.iter().map(ToString::to_string).collect();
        let allowed =
            if allowed.is_empty() { "none is".to_owned() } else { format!("those are {}", allowed.join(", ")) };
        return Err(Failure::invalid(
            URL,
            format!("{} is not among `hosts` of [allocation.webhook] in the configuration; {allowed}", parsed.host),
        ));
    }
    Ok(CustomAllocation { webhook_url: url.trim().to_owned(), api_version: version })
}

/// As answers show it.
pub(crate) fn show(out: &mut Map<String, Value>, policy: &AllocationPolicy) {
    out.insert("allocationPolicy".into(), json!(policy.as_str()));
    match policy {
        AllocationPolicy::Custom(custom) => {
            out.insert(
                "customAllocationDefinition".into(),
                json!({"webhookUrl": masked(&custom.webhook_url), "apiVersion": custom.api_version}),
            );
        }
        AllocationPolicy::Sticky(by) => {
            out.insert("stickyBy".into(), json!(by.to_string()));
        }
        AllocationPolicy::Hashed
        | AllocationPolicy::Static
        | AllocationPolicy::GeoLatency
        | AllocationPolicy::LeastLoaded => {}
    }
}
