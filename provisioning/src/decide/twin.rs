//! Twins are written to.

use unicity_identity::error::Subject;
use unicity_identity::{ClientIdentity, Refusal, Timestamp, Twin, TwinEdit};

use crate::leaf::LeafEvent;
use crate::registry::{Change, Fault, Outcome, Precondition, RegistryError, RegistryView};

/// The twin of a device or module that is there: the stored one, or the one that it was made with.
///
/// # Errors
/// [`Refusal::NotFound`] if there is no such device or module.
pub fn twin_of(view: &dyn RegistryView, client: &ClientIdentity) -> Result<Twin, RegistryError> {
    if let Some(stored) = view.twin(client)? {
        return Ok(stored);
    }
    let (generation, created) = life(view, client)?.ok_or_else(|| {
        let (hub, device) = (client.hub.clone(), client.device_id.clone());
        Refusal::NotFound(match &client.module_id {
            Some(module) => Subject::Module(hub, device, module.clone()),
            None => Subject::Device(hub, device),
        })
    })?;
    Ok(Twin::new(client.clone(), generation, created))
}

fn life(
    view: &dyn RegistryView,
    client: &ClientIdentity,
) -> Result<Option<(unicity_identity::GenerationId, Timestamp)>, Fault> {
    Ok(match &client.module_id {
        Some(module) => {
            let found = view.module(&client.hub, &client.device_id, module)?;
            found.map(|module| (module.generation, module.created))
        }
        None => view.device(&client.hub, &client.device_id)?.map(|device| (device.generation, device.created)),
    })
}

/// Without a leaf if it was the device that wrote.
pub(super) fn edit(
    view: &dyn RegistryView,
    client: ClientIdentity,
    edit: &TwinEdit,
    precondition: &Precondition,
    now: Timestamp,
) -> Result<(Vec<Change>, Option<LeafEvent>, Outcome), RegistryError> {
    let before = twin_of(view, &client)?;
    if let Precondition::Matches(text) = precondition
        && !before.etag_matches(text)
    {
        return Err(Refusal::PreconditionFailed(Subject::Twin(client)).into());
    }
    let after = before.edit(edit, now)?;
    let event = |tags, desired, replaced| LeafEvent::TwinEdited {
        hub: client.hub.clone(),
        device_id: client.device_id.clone(),
        module_id: client.module_id.clone(),
        version: after.version,
        tags,
        desired,
        replaced,
    };
    let event = match edit {
        TwinEdit::Patch { tags, desired } => Some(event(tags.is_some(), desired.is_some(), false)),
        TwinEdit::Replace { tags, desired } => Some(event(tags.is_some(), desired.is_some(), true)),
        TwinEdit::Carry(_) => Some(event(true, true, true)),
        TwinEdit::Report(_) => None,
    };
    Ok((vec![Change::PutTwin(Box::new(after.clone()))], event, Outcome::Twin(Box::new(after))))
}
