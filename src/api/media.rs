//! Which form of an answer a client takes (apiserver pkg/endpoints/handlers/negotiation).

use super::failure::Failure;

/// The form of an object in an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// The object itself.
    Whole,
    /// A row for people to read, in this version of meta.k8s.io.
    Table(&'static str),
    /// `PartialObjectMetadata`, in this version of meta.k8s.io.
    Metadata(&'static str),
}

/// One entry of `Accept`.
#[derive(Debug)]
struct Clause<'a> {
    kind: &'a str,
    subtype: &'a str,
    parameters: Vec<(&'a str, &'a str)>,
    /// `q` in thousandths.
    quality: u32,
}

impl<'a> Clause<'a> {
    fn parse(text: &'a str) -> Option<Self> {
        let mut parts = text.split(';').map(str::trim);
        let (kind, subtype) = parts.next()?.split_once('/')?;
        let parameters: Vec<(&str, &str)> = parts.filter_map(|part| part.split_once('=')).collect();
        let quality = parameters.iter().find(|(name, _)| *name == "q");
        let quality = quality.and_then(|(_, q)| q.parse::<f32>().ok()).unwrap_or(1.0);
        Some(Self { kind, subtype, parameters, quality: (quality.clamp(0.0, 1.0) * 1000.0) as u32 })
    }

    fn is_json(&self) -> bool {
        matches!((self.kind, self.subtype), ("*" | "application", "*") | ("application", "json"))
    }

    fn parameter(&self, name: &str) -> Option<&'a str> {
        self.parameters.iter().find(|(key, _)| *key == name).map(|(_, value)| *value)
    }
}

/// The clauses of `Accept` that are JSON, the best first.
fn json_clauses(accept: &str) -> Vec<Clause<'_>> {
    let clauses = accept.split(',').filter_map(|clause| Clause::parse(clause.trim()));
    let mut clauses: Vec<Clause<'_>> = clauses.filter(|c| c.quality > 0 && c.is_json()).collect();
    clauses.sort_by_key(|clause| std::cmp::Reverse(clause.quality));
    clauses
}

/// The form of objects that a client takes; `list` where there are many.
pub(super) fn form(accept: Option<&str>, list: bool) -> Result<Form, Failure> {
    let accept = accept.filter(|accept| !accept.trim().is_empty()).unwrap_or("*/*");
    let form = |clause: &Clause<'_>| match clause.parameter("as") {
        None => Some(Form::Whole),
        Some(wanted) => {
            let version = match (clause.parameter("g")?, clause.parameter("v")?) {
                ("meta.k8s.io", "v1") => "v1",
                ("meta.k8s.io", "v1beta1") => "v1beta1",
                _ => return None,
            };
            match wanted {
                "Table" => Some(Form::Table(version)),
                "PartialObjectMetadata" if !list => Some(Form::Metadata(version)),
                "PartialObjectMetadataList" if list => Some(Form::Metadata(version)),
                _ => None,
            }
        }
    };
    json_clauses(accept).iter().find_map(form).ok_or_else(|| Failure::not_acceptable(&["application/json"]))
}

/// The version of aggregated discovery that a client takes; `None` for the old form.
pub(super) fn discovery(accept: Option<&str>) -> Option<&'static str> {
    json_clauses(accept.unwrap_or_default())
        .iter()
        .find_map(|clause| match (clause.parameter("g"), clause.parameter("v"), clause.parameter("as")) {
            (Some("apidiscovery.k8s.io"), Some("v2"), Some("APIGroupDiscoveryList")) => Some(Some("v2")),
            (Some("apidiscovery.k8s.io"), Some("v2beta1"), Some("APIGroupDiscoveryList")) => {
                Some(Some("v2beta1"))
            }
            (None, None, None) => Some(None),
            _ => None,
        })
        .flatten()
}

/// The type of a body, without its parameters, in lower case.
pub(super) fn content_type(header: Option<&str>) -> String {
    header.unwrap_or_default().split(';').next().unwrap_or_default().trim().to_ascii_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    const KUBECTL: &str = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json;as=Table;v=v1beta1;g=meta.k8s.io,application/json";

    #[test]
    fn the_first_form_that_is_known_is_taken() {
        let table = [
            (None, false, Some(Form::Whole)),
            (Some(""), true, Some(Form::Whole)),
            (Some("*/*"), true, Some(Form::Whole)),
            (Some(KUBECTL), true, Some(Form::Table("v1"))),
            (
                Some("application/json;as=Table;v=v1alpha1;g=meta.k8s.io, application/json"),
                true,
                Some(Form::Whole),
            ),
            (Some("application/vnd.kubernetes.protobuf,application/json"), true, Some(Form::Whole)),
            (Some("application/vnd.kubernetes.protobuf"), true, None),
            (Some("application/json;q=0, text/plain"), true, None),
            (
                Some("application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1"),
                true,
                Some(Form::Metadata("v1")),
            ),
            (Some("application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1"), false, None),
            (
                Some("application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1"),
                false,
                Some(Form::Metadata("v1")),
            ),
            (
                Some("application/json;q=0.5, application/json;as=Table;v=v1;g=meta.k8s.io"),
                false,
                Some(Form::Table("v1")),
            ),
        ];
        for (accept, list, wanted) in table {
            assert_eq!(form(accept, list).ok(), wanted, "{accept:?}");
        }
    }

    #[test]
    fn discovery_is_aggregated_for_those_who_ask() {
        let kubectl = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,application/json;g=apidiscovery.k8s.io;v=v2beta1;as=APIGroupDiscoveryList,application/json";
        assert_eq!(discovery(Some(kubectl)), Some("v2"));
        assert_eq!(
            discovery(Some("application/json;g=apidiscovery.k8s.io;v=v2beta1;as=APIGroupDiscoveryList")),
            Some("v2beta1")
        );
        assert_eq!(discovery(Some("application/json")), None);
        assert_eq!(discovery(None), None);
    }
}
