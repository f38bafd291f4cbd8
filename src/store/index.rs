//! Which Services select a Pod, and which Pods a Service selects, without looking at all of them.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use crate::types::NamespacedName;

type Labels = BTreeMap<String, String>;

/// One label in one namespace.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Label {
    namespace: Arc<str>,
    key: String,
    value: String,
}

/// Names by label.
#[derive(Debug, Default)]
struct ByLabel(HashMap<Label, BTreeSet<Arc<str>>>);

/// Services by their selectors and Pods by their labels.
#[derive(Debug, Default)]
pub(super) struct Index {
    /// Under one label of its selector, the rarest when it came; the others are compared.
    services: ByLabel,
    filed_under: HashMap<NamespacedName, (Label, Labels)>,
    pods: ByLabel,
}

impl Index {
    /// Files a Service under its selector, instead of what it selected before. One that is empty
    /// selects nothing.
    pub(super) fn set_selector(&mut self, service: &NamespacedName, selector: &Labels) {
        if let Some((label, _)) = self.filed_under.remove(service) {
            self.services.remove(&label, &service.name);
        }
        let labels = selector.iter().map(|pair| Label::new(&service.namespace, pair));
        if let Some(rarest) = labels.min_by_key(|label| self.services.get(label).map_or(0, BTreeSet::len)) {
            self.services.insert(rarest.clone(), &service.name);
            self.filed_under.insert(service.clone(), (rarest, selector.clone()));
        }
    }

    /// Files a Pod under its labels; `old` are those it had.
    pub(super) fn set_labels(&mut self, pod: &NamespacedName, old: Option<&Labels>, new: Option<&Labels>) {
        for pair in old.into_iter().flatten() {
            self.pods.remove(&Label::new(&pod.namespace, pair), &pod.name);
        }
        for pair in new.into_iter().flatten() {
            self.pods.insert(Label::new(&pod.namespace, pair), &pod.name);
        }
    }

    /// The Services of a namespace whose selector matches `labels`.
    pub(super) fn services_selecting(&self, namespace: &Arc<str>, labels: &Labels) -> Vec<NamespacedName> {
        let filed = labels.iter().filter_map(|pair| self.services.get(&Label::new(namespace, pair)));
        let names = filed.flatten().map(|name| NamespacedName::new(Arc::clone(namespace), Arc::clone(name)));
        names
            .filter(|service| {
                self.filed_under.get(service).is_some_and(|(_, selector)| matches(selector, labels))
            })
            .collect()
    }

    /// The Pods that may match a selector: those of its rarest label, ordered by name.
    pub(super) fn pods_with(&self, namespace: &Arc<str>, selector: &Labels) -> Vec<NamespacedName> {
        let none = BTreeSet::new();
        let sets = selector.iter().map(|pair| self.pods.get(&Label::new(namespace, pair)).unwrap_or(&none));
        let rarest = sets.min_by_key(|set| set.len()).into_iter().flatten();
        rarest.map(|name| NamespacedName::new(Arc::clone(namespace), Arc::clone(name))).collect()
    }
}

/// Whether the labels have everything that the selector names.
pub(super) fn matches(selector: &Labels, labels: &Labels) -> bool {
    !selector.is_empty() && selector.iter().all(|(key, value)| labels.get(key) == Some(value))
}

impl Label {
    fn new(namespace: &Arc<str>, (key, value): (&String, &String)) -> Self {
        Self { namespace: Arc::clone(namespace), key: key.clone(), value: value.clone() }
    }
}

impl ByLabel {
    fn get(&self, label: &Label) -> Option<&BTreeSet<Arc<str>>> {
        self.0.get(label)
    }

    fn insert(&mut self, label: Label, name: &Arc<str>) {
        self.0.entry(label).or_default().insert(Arc::clone(name));
    }

    fn remove(&mut self, label: &Label, name: &Arc<str>) {
        if let Some(names) = self.0.get_mut(label) {
            names.remove(name);
            if names.is_empty() {
                self.0.remove(label);
            }
        }
    }
}
