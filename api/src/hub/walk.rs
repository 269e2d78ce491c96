//! The records of a hub, one after the other in the order of their ids, read in batches.

use std::collections::VecDeque;
use std::sync::Arc;

use serde_json::Value;
use unicity_hub::query::Source;
use unicity_hub::{Query, Sessions};
use unicity_identity::{ClientIdentity, DeviceId, DeviceIdentity, HubName, ModuleId, ModuleIdentity, Twin};
use unicity_provisioning::{Fault, Registry};

use super::twin;

/// Records read at a time.
const BATCH: usize = 500;

/// A device, or a module with its device.
#[derive(Clone)]
pub(super) struct Found {
    pub(super) device: Arc<DeviceIdentity>,
    pub(super) module: Option<ModuleIdentity>,
}

type Place = (DeviceId, Option<ModuleId>);

/// Goes through what a query asks for.
pub(super) struct Walk {
    registry: Arc<dyn Registry>,
    sessions: Arc<Sessions>,
    hub: HubName,
    modules: bool,
    /// If the query names devices: those that are still to be looked at.
    named: Option<VecDeque<DeviceId>>,
    after: Option<Place>,
    batch: VecDeque<Found>,
    more: bool,
}

impl Walk {
    pub(super) fn new(
        registry: Arc<dyn Registry>,
        sessions: Arc<Sessions>,
        hub: HubName,
        query: &Query,
        after: Option<Place>,
    ) -> Self {
        // A name that is no device id is nobody's.
        let named = query.device_ids().map(|ids| {
            let mut ids: Vec<DeviceId> = ids.into_iter().filter_map(|id| id.parse().ok()).collect();
            ids.sort();
            ids.into_iter().filter(|id| after.as_ref().is_none_or(|(after, _)| id >= after)).collect()
        });
        let modules = query.source == Source::Modules;
        Self { registry, sessions, hub, modules, named, after, batch: VecDeque::new(), more: true }
    }

    /// The next record.
    pub(super) fn next(&mut self) -> Result<Option<Found>, Fault> {
        self.fill()?;
        Ok(self.batch.pop_front())
    }

    /// Whether there is a next one.
    pub(super) fn has_more(&mut self) -> Result<bool, Fault> {
        self.fill()?;
        Ok(!self.batch.is_empty())
    }

    /// A record as the query sees it.
    pub(super) fn document(&self, found: &Found) -> Result<Value, Fault> {
        let Found { device, module } = found;
        let client = ClientIdentity {
            hub: self.hub.clone(),
            device_id: device.device_id.clone(),
            module_id: module.as_ref().map(|module| module.module_id.clone()),
        };
        let twin = self.registry.twin(&client)?.unwrap_or_else(|| match module {
            Some(module) => Twin::new(client, module.generation, module.created),
            None => Twin::new(client, device.generation, device.created),
        });
        Ok(twin::show(&twin, device, module.as_ref(), &self.sessions))
    }

    fn fill(&mut self) -> Result<(), Fault> {
        while self.batch.is_empty() && self.more {
            match &mut self.named {
                Some(ids) => match ids.pop_front() {
                    Some(id) => self.named_device(&id)?,
                    None => self.more = false,
                },
                None if self.modules => self.modules_batch()?,
                None => self.devices_batch()?,
            }
        }
        Ok(())
    }

    fn named_device(&mut self, id: &DeviceId) -> Result<(), Fault> {
        let is_after = |module: Option<&ModuleId>| {
            let Some((after, after_module)) = &self.after else { return true };
            (id, module) > (after, after_module.as_ref())
        };
        let Some(device) = self.registry.device(&self.hub, id)?.map(Arc::new) else { return Ok(()) };
        if self.modules {
            let modules = self.registry.modules(&self.hub, id)?;
            let wanted = modules.into_iter().filter(|module| is_after(Some(&module.module_id)));
            self.batch = wanted.map(|module| Found { device: device.clone(), module: Some(module) }).collect();
        } else if is_after(None) {
            self.batch.push_back(Found { device, module: None });
        }
        Ok(())
    }

    fn devices_batch(&mut self) -> Result<(), Fault> {
        let after = self.after.as_ref().map(|(device, _)| device);
        let page = self.registry.list_devices(&self.hub, after, BATCH)?;
        self.more = page.more && !page.items.is_empty();
        self.batch = page.items.into_iter().map(|device| Found { device: Arc::new(device), module: None }).collect();
        self.after = self.batch.back().map(|last| (last.device.device_id.clone(), None));
        Ok(())
    }

    fn modules_batch(&mut self) -> Result<(), Fault> {
        let after = self.after.as_ref().and_then(|(device, module)| Some((device, module.as_ref()?)));
        let page = self.registry.list_modules(&self.hub, after, BATCH)?;
        self.more = page.more && !page.items.is_empty();
        self.after = page.items.last().map(|last| (last.device_id.clone(), Some(last.module_id.clone())));
        let mut device: Option<Arc<DeviceIdentity>> = None;
        for module in page.items {
            if device.as_ref().is_none_or(|device| device.device_id != module.device_id) {
                device = self.registry.device(&self.hub, &module.device_id)?.map(Arc::new);
            }
            // Gone since the batch was read, and its modules with it.
            if let Some(device) = &device {
                self.batch.push_back(Found { device: device.clone(), module: Some(module) });
            }
        }
        Ok(())
    }
}
