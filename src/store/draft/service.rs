//! Services: defaults, what an update keeps, rules, and what is allocated to them.

use std::sync::Arc;

use k8s_openapi::api::core::v1::{self, ServiceSpec};
use serde_json::Value;

use super::{Draft, accept, typed};
use crate::k8s::decode::Object;
use crate::k8s::field::FieldProblem;
use crate::k8s::ip::Trust;
use crate::k8s::model::Service;
use crate::k8s::service::{self, defaults, families, status, update, warnings};
use crate::problem::Severity;
use crate::store::Store;
use crate::store::answer::{Part, Refusal};
use crate::store::ports::INTERNAL;
use crate::store::registry::Document;

impl Store {
    pub(super) fn draft_service(
        &self,
        part: Part,
        object: Value,
        old: Option<&Document>,
    ) -> Result<Draft, Refusal> {
        let mut service: v1::Service = typed(object)?;
        let old = old.map(|old| typed::<v1::Service>(old.value())).transpose()?;
        let old_spec = old.as_ref().and_then(|old| old.spec.as_ref());
        if old.is_none() {
            service.status = None;
        }
        defaults::set_fields(&mut service);
        let spec = service.spec.get_or_insert_default();
        match old_spec {
            Some(old) => update::carry_over(spec, old),
            None => defaults::normalize_cluster_ips(spec),
        }
        // As there, allocation speaks before validation does.
        let problems = families::set(spec, old_spec, self.primary_family());
        if !problems.is_empty() {
            return Err(Refusal::Invalid(problems));
        }
        clear_status(&mut service, part);
        let mut problems = Vec::new();
        service::validate(&service, Trust::Api, &mut problems);
        if part == Part::Status {
            status::validate(&service, &mut problems);
        }
        if let (Some(spec), Some(old)) = (&service.spec, old_spec) {
            update::validate(spec, old, &mut problems);
        }
        // Warnings are given again below, in the words of the API server.
        problems.retain(|problem| problem.severity == Severity::Error);
        let request = service::request(&service, &mut problems);
        let planned = self.plan(&request, old_spec.is_none()).map_err(refusal)?;
        let mut told = accept(problems)?;
        match part {
            Part::Main => told.splice(0..0, warnings::of(&service)).for_each(drop),
            Part::Status => told.clear(),
        }

        let spec = service.spec.get_or_insert_default();
        fill(spec, &planned.service, planned.health_check);
        service.status.get_or_insert_default().load_balancer.get_or_insert_default();
        let request = service::request(&service, &mut Vec::new());
        let object = serde_json::to_value(&service).map_err(|error| Refusal::Internal(error.to_string()))?;
        Ok(Draft { object, typed: Some(Object::Service(Arc::new(request))), warnings: told })
    }
}

/// What came of asking the allocators: the first thing they said.
fn refusal(problems: Vec<FieldProblem>) -> Refusal {
    let mut problems = problems;
    problems.truncate(1);
    match problems.first().and_then(|problem| problem.message.strip_prefix(INTERNAL)) {
        Some(internal) => Refusal::Internal(internal.to_owned()),
        None => Refusal::Invalid(problems),
    }
}

/// A Service that is no longer of type LoadBalancer has no use for its addresses.
fn clear_status(service: &mut v1::Service, part: Part) {
    let is_balancer = service.spec.as_ref().is_some_and(|s| s.type_.as_deref() == Some("LoadBalancer"));
    if part == Part::Main
        && !is_balancer
        && let Some(status) = &mut service.status
    {
        status.load_balancer = None;
    }
}

/// Writes into a Service what it was given.
pub(in crate::store) fn fill(spec: &mut ServiceSpec, given: &Service, health_check: Option<u16>) {
    if update::needs_cluster_ip(spec) && spec.cluster_ip.as_deref() != Some("None") {
        let ips = spec.cluster_ips.get_or_insert_default();
        // Those that the user gave stay as they were written.
        let rest: Vec<String> = given.cluster_ips.iter().skip(ips.len()).map(ToString::to_string).collect();
        ips.extend(rest);
        spec.cluster_ip = ips.first().cloned();
    }
    if spec.cluster_ips.as_ref().is_some_and(Vec::is_empty) {
        spec.cluster_ips = None;
    }
    for (port, given) in spec.ports.iter_mut().flatten().zip(&given.ports) {
        port.node_port = given.node_port.map(i32::from);
    }
    spec.health_check_node_port = health_check.map(i32::from);
}
