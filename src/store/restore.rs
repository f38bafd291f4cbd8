//! The state directory and the rest of the store: what is written to it, and what comes back.

use super::objects::Changed;
use super::persist::{Change, Id, Record};
use super::registry::{Document, Owner};
use super::{Refusal, Store, draft, metadata};
use crate::k8s::resource::Resource;
use crate::problem::Problem;

impl Store {
    /// Puts the objects of an earlier life of the process in force, as they were.
    pub(super) fn restore(&mut self, records: Vec<(Id, Record)>) {
        let mut objects = Vec::new();
        for ((resource, key), record) in records {
            let Ok(object) = serde_json::from_str::<serde_json::Value>(&record.json) else { continue };
            if resource == Resource::Services {
                self.ranks.restore(&key, record.rank);
            }
            let version = metadata::text(&object, "resourceVersion").parse().unwrap_or(0);
            let document = Document::new(resource, key, Owner::Api, object.clone(), version);
            self.registry.restore(document);
            objects.extend(draft::accepted(resource, object));
        }
        let mut changed = Changed::default();
        self.objects.put_all(objects, &mut changed);
        self.take_effect(changed);
        let endpoints: Vec<_> =
            self.registry.list(Resource::Endpoints, None).map(|document| document.key.clone()).collect();
        endpoints.iter().for_each(|service| self.update_slices_of(service));
    }

    /// Makes changes durable before anyone sees them.
    pub(super) fn persist(&mut self, changes: &[Change]) -> Result<(), Refusal> {
        let Some(disk) = &mut self.disk else { return Ok(()) };
        let (registry, ranks) = (&self.registry, &self.ranks);
        let now = |(resource, key): &Id| {
            let document = registry.get(*resource, key).filter(|document| document.owner == Owner::Api)?;
            Some(Record { rank: ranks.get(key).unwrap_or(0), json: document.json.clone() })
        };
        // Events come and go.
        let changes: Vec<Change> =
            changes.iter().filter(|((resource, _), _)| *resource != Resource::Events).cloned().collect();
        if changes.is_empty() {
            return Ok(());
        }
        let version = registry.version() + changes.len() as u64;
        disk.write(version, &changes, now).map_err(Refusal::Internal)
    }

    /// Sees to it that the versions of changes that are not persisted will not be given a second time. Where that
    /// fails files go on being served, and it is a problem.
    pub(super) fn reserve(&mut self, count: u64) {
        let Some(disk) = &mut self.disk else { return };
        self.disk_problem = disk.reserve(self.registry.version(), count).err().map(|message| {
            let hint = "writes to the API are refused until it can be; see to its disk and its permissions";
            Problem { hint: Some(hint.to_owned()), ..Problem::error(message) }
        });
    }
}
