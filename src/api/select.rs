//! Which objects a list, watch or deletion means.

use super::failure::Failure;
use super::query::Query;
use crate::k8s::resource::Resource;
use crate::k8s::selector::{FieldSelector, LabelSelector};
use crate::store::registry::Document;

/// Labels and fields that objects must have.
#[derive(Clone, Debug)]
pub(super) struct Select {
    labels: Option<LabelSelector>,
    fields: Option<FieldSelector>,
}

impl Select {
    pub(super) fn parse(resource: Resource, query: &Query) -> Result<Self, Failure> {
        let labels = query.get("labelSelector").map(LabelSelector::parse).transpose();
        let fields = query.get("fieldSelector").map(|text| FieldSelector::parse(resource, text)).transpose();
        Ok(Self {
            labels: labels.map_err(|error| Failure::bad_request(error.to_string()))?,
            fields: fields.map_err(|error| Failure::bad_request(error.to_string()))?,
        })
    }

    pub(super) fn matches(&self, document: &Document) -> bool {
        self.labels.as_ref().is_none_or(|labels| labels.matches(&document.labels))
            && self.fields.as_ref().is_none_or(|fields| fields.matches(&document.value()))
    }
}
