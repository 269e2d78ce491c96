//! Hubs elsewhere as a transfer finds them, without a wire: their identities with twins, and transfers stepped by hand.

use unicity_identity::{ClientIdentity, GenerationId, RemoteLink, Twin};

use super::*;
use crate::registry::{Circumstances, HubEdit, StepCommand};
use crate::transfer::{Transfer, TransferEnd, TransferEvent, TransferStage, TwinFate};

/// An identity at a hub elsewhere.
#[derive(Debug, Clone)]
pub(super) struct Identity {
    pub(super) generation: GenerationId,
    pub(super) is_enabled: bool,
    pub(super) twin: Twin,
}

/// What hubs elsewhere hold.
#[derive(Debug, Clone, Default)]
pub(super) struct Elsewhere {
    pub(super) identities: BTreeMap<(HubName, DeviceId), Identity>,
    made: u64,
}

fn place(end: &TransferEnd) -> (HubName, DeviceId) {
    (end.hub.clone(), end.device_id.clone())
}

fn client_at((hub, device_id): (HubName, DeviceId)) -> ClientIdentity {
    ClientIdentity { hub, device_id, module_id: None }
}

impl Elsewhere {
    /// Does what the stage asks for, as well as any hub can.
    pub(super) fn perform(&mut self, world: &World, transfer: &Transfer) -> TransferEvent {
        match &transfer.stage {
            TransferStage::Disable | TransferStage::Read | TransferStage::End => {
                let Some(source) = &transfer.source else { return TransferEvent::Gone };
                self.with(source, |identity| identity.is_enabled = false)
            }
            TransferStage::Create => {
                let target = transfer.target.as_ref().unwrap();
                self.made += 1;
                let generation = GenerationId(7_000 + self.made);
                let twin = Twin::new(client_at(place(target)), generation, Timestamp(1000));
                self.identities.entry(place(target)).or_insert(Identity { generation, is_enabled: false, twin });
                self.with(target, |identity| identity.is_enabled = false)
            }
            TransferStage::Fill => {
                let target = transfer.target.as_ref().unwrap();
                let local = transfer.source.as_ref().and_then(|source| world.twins.get(&client_at(place(source))));
                let carried = transfer.twin.as_deref().or(local).cloned();
                self.with(target, |identity| {
                    let client = identity.twin.client.clone();
                    let anew = Twin::new(client.clone(), identity.generation, Timestamp(1000));
                    let initial =
                        || transfer.initial_twin.as_ref().map(|twin| anew.clone().with_initial(twin, Timestamp(1000)));
                    match transfer.fate {
                        TwinFate::Keep => {}
                        TwinFate::Initial if identity.twin != anew => {}
                        TwinFate::Initial | TwinFate::Reset => {
                            identity.twin = initial().map_or(anew.clone(), Result::unwrap)
                        }
                        TwinFate::Migrate => {
                            identity.twin = carried.map_or(anew, |twin| twin.moved_to(client, identity.generation));
                        }
                    }
                })
            }
            TransferStage::Enable => {
                self.with(transfer.target.as_ref().unwrap(), |identity| identity.is_enabled = true)
            }
            TransferStage::Verify => self.with(transfer.target.as_ref().unwrap(), |_| {}),
            TransferStage::Delete => {
                self.identities.remove(&place(&transfer.discard[0]));
                TransferEvent::Gone
            }
            TransferStage::Undo { .. } => {
                for end in &transfer.discard {
                    self.identities.remove(&place(end));
                }
                match &transfer.source {
                    Some(source) => self.with(source, |identity| identity.is_enabled = true),
                    None => TransferEvent::Gone,
                }
            }
            TransferStage::Ask | TransferStage::Failed { .. } => panic!("no hub has a part in {:?}", transfer.stage),
        }
    }

    fn with(&mut self, end: &TransferEnd, act: impl FnOnce(&mut Identity)) -> TransferEvent {
        let Some(identity) = self.identities.get_mut(&place(end)) else { return TransferEvent::Gone };
        act(identity);
        TransferEvent::Done {
            etag: Some("AAAA".to_owned()),
            generation: Some(identity.generation),
            twin: Some(Box::new(identity.twin.clone())),
        }
    }
}

impl World {
    pub(super) fn link(&mut self, settings: &Settings, name: &str, terms: HubTerms) {
        let link = RemoteLink { port: 443, policy: "registryReadWrite".to_owned(), key: key(250), ca: None };
        let edit = HubEdit::Link { host: format!("{name}.remote").parse().unwrap(), link: Box::new(link), terms };
        self.run(settings, Command::SetHub { name: name.parse().unwrap(), edit: Box::new(edit) }).unwrap();
    }

    pub(super) fn set_terms(
        &mut self,
        settings: &Settings,
        name: &str,
        terms: HubTerms,
    ) -> Result<Decision, RegistryError> {
        self.run(settings, Command::SetHub { name: name.parse().unwrap(), edit: Box::new(HubEdit::Terms(terms)) })
    }

    /// Registers as the individual enrollment of this id would be attested now.
    pub(super) fn ask(
        &mut self,
        settings: &Settings,
        name: &str,
        circumstances: Circumstances,
    ) -> Result<Decision, RegistryError> {
        let command = RegisterCommand { circumstances, ..command_of(self, name) };
        self.run(settings, Command::Register(Box::new(command)))
    }

    pub(super) fn step(
        &mut self,
        settings: &Settings,
        transfer: &Transfer,
        event: TransferEvent,
    ) -> Result<Decision, RegistryError> {
        let command = StepCommand {
            registration_id: transfer.registration_id.clone(),
            operation_id: transfer.operation_id.clone(),
            stage: transfer.stage.clone(),
            event,
            circumstances: Circumstances::default(),
        };
        self.run(settings, Command::StepTransfer(Box::new(command)))
    }

    /// Steps the transfer of this id, if there is one, until nothing is left to do; each step twice, since its answer may come twice.
    /// Gives the stages that it went through.
    pub(super) fn carry_through(
        &mut self,
        settings: &Settings,
        elsewhere: &mut Elsewhere,
        name: &str,
    ) -> Vec<TransferStage> {
        let mut stages = Vec::new();
        while let Some(transfer) = self.transfers.get(&id(name)).filter(|it| !it.is_failed()).cloned() {
            assert!(stages.len() < 20, "it has no end: {stages:?}");
            stages.push(transfer.stage.clone());
            let event = elsewhere.perform(self, &transfer);
            self.check_enabled(settings, elsewhere);
            self.step(settings, &transfer, event.clone()).unwrap();
            self.check_enabled(settings, elsewhere);
            self.check_loads();
            if transfer.stage == TransferStage::Delete && self.transfers.contains_key(&id(name)) {
                // The same stage again, for the next identity.
                continue;
            }
            let again = self.step(settings, &transfer, event).unwrap();
            assert!(again.changes.is_empty() && again.leaf.is_none(), "{:?} was done before", transfer.stage);
        }
        stages
    }

    /// No two hubs hold an enabled identity of one registration (design rule 14), whose device ids are the registration ids.
    pub(super) fn check_enabled(&self, settings: &Settings, elsewhere: &Elsewhere) {
        let is_here = |device: &DeviceIdentity| settings.hubs.by_name(&device.hub).is_some();
        let here = self.devices.values().filter(|device| is_here(device) && device.status == DeviceStatus::Enabled);
        let here = here.filter_map(|device| Some((device.registration.as_ref()?.to_device_id(), &device.hub)));
        let there = elsewhere.identities.iter().filter(|(_, identity)| identity.is_enabled);
        let there = there.map(|((hub, device_id), _)| (device_id.clone(), hub));
        let mut enabled = BTreeMap::new();
        for (device_id, hub) in here.chain(there) {
            let other = enabled.insert(device_id.clone(), hub);
            assert_eq!(other, None, "{device_id} may come in at {hub} too");
        }
    }

    /// The counts that capacities and `leastLoaded` go by are those of a recount.
    pub(super) fn check_loads(&self) {
        let mut counted: BTreeMap<HubName, u64> = BTreeMap::new();
        for (hub, _) in self.devices.keys() {
            *counted.entry(hub.clone()).or_default() += 1;
        }
        let stored = self.hub_loads.iter().filter(|(_, load)| **load > 0);
        let stored: BTreeMap<_, _> = stored.map(|(hub, load)| (hub.clone(), *load)).collect();
        assert_eq!(stored, counted, "the loads are a recount of the identities");
    }
}
