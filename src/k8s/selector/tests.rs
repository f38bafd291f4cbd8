use std::collections::BTreeMap;

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::k8s::resource::Resource;

type Pairs<'a> = &'a [(&'a str, &'a str)];

fn labels(pairs: Pairs<'_>) -> BTreeMap<String, String> {
    pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

/// After the table of apimachinery's selector_test.go.
#[test]
fn label_selectors_match() {
    let table: &[(&str, Pairs<'_>, bool)] = &[
        ("", &[("x", "y")], true),
        ("x=y", &[("x", "y")], true),
        ("x==y", &[("x", "y")], true),
        ("x=y,z=w", &[("x", "y"), ("z", "w")], true),
        ("x!=y,z!=w", &[("x", "z"), ("z", "a")], true),
        ("notin=in", &[("notin", "in")], true),
        ("x", &[("x", "z")], true),
        ("!x", &[("y", "z")], true),
        ("x>1", &[("x", "2")], true),
        ("x<1", &[("x", "0")], true),
        ("x<1", &[("x", "1")], false),
        ("x>1", &[("x", "a")], false),
        ("x=z", &[], false),
        ("x=y", &[("x", "z")], false),
        ("x=y,z=w", &[("x", "w"), ("z", "w")], false),
        ("x!=y,z!=w", &[("x", "z"), ("z", "w")], false),
        ("x", &[("y", "z")], false),
        ("!x", &[("x", "z")], false),
        ("x in (a,b)", &[("x", "b")], true),
        ("x in (a,b)", &[("x", "c")], false),
        ("x in (a,b)", &[], false),
        ("x notin (a,b)", &[("x", "c")], true),
        ("x notin (a,b)", &[], true),
        ("x notin (a,b)", &[("x", "a")], false),
        ("x in ()", &[("x", "")], true),
        ("x in (a,,b)", &[("x", "")], true),
        ("x in (,)", &[("x", "")], true),
        ("x in (a,)", &[("x", "")], true),
        ("x in (in,notin)", &[("x", "notin")], true),
        ("x in (a,b),y,z notin ()", &[("x", "a"), ("y", ""), ("z", "1")], true),
        ("x=", &[("x", "")], true),
        ("x= ,z= ", &[("x", ""), ("z", "")], true),
        (" x = y ", &[("x", "y")], true),
        ("a.b/c=d", &[("a.b/c", "d")], true),
    ];
    for (text, given, expected) in table {
        let selector = LabelSelector::parse(text).unwrap_or_else(|error| panic!("{text}: {error}"));
        assert_eq!(selector.matches(&labels(given)), *expected, "{text} {given:?}");
    }
    assert!(LabelSelector::parse("").unwrap().is_empty() && !LabelSelector::parse("a").unwrap().is_empty());
}

#[test]
fn label_selectors_are_refused_in_the_words_of_the_api_server() {
    let name_rule = "name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end \
                     with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for \
                     validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')";
    let table = [
        ("x=a||y=b", "unable to parse requirement: values[0][x]: Invalid value: \"a||y\": "),
        ("x==a==b", "found '==', expected: ',' or 'end of string'"),
        ("!x=a,", "found '', expected: identifier after ','"),
        ("x,", "found '', expected: identifier after ','"),
        ("=a", "found '=', expected: !, identifier, or 'end of string'"),
        ("x in", "unable to parse requirement: found '' expected: '('"),
        ("x in (", "unable to parse requirement: found '', expected: ',', ')' or identifier"),
        ("x in (a", "unable to parse requirement: found '', expected: ',' or ')'"),
        ("x in (a=b)", "unable to parse requirement: found '=', expected: ',' or ')'"),
        ("x y", "unable to parse requirement: found 'y', expected: in, notin, =, ==, !=, gt, lt"),
        ("!", "unable to parse requirement: found '', expected: identifier"),
        ("!!x", "unable to parse requirement: found '!', expected: identifier"),
        (
            "x>a",
            "unable to parse requirement: values[0]: Invalid value: \"a\": for 'Gt', 'Lt' operators, the value must \
             be an integer",
        ),
    ];
    for (text, message) in table {
        let error = LabelSelector::parse(text).unwrap_err().0;
        assert!(error.starts_with(message), "{text}: {error}");
    }
    assert_eq!(
        LabelSelector::parse("-a-=b").unwrap_err().0,
        format!("unable to parse requirement: <nil>: Invalid value: \"-a-\": {name_rule}")
    );
}

#[test]
fn field_selectors_match() {
    let service = json!({"metadata": {"name": "web", "namespace": "a"}, "spec": {"type": "NodePort"}});
    let pod = json!({"metadata": {"name": "p"}, "spec": {"nodeName": "n"}, "status": {"podIPs": [{"ip": "1.1.1.1"}]}});
    let event = json!({
        "metadata": {"name": "e"}, "involvedObject": {"kind": "Service", "uid": "u"}, "reportingComponent": "r"
    });
    let node = json!({"metadata": {"name": "n"}, "spec": {}});
    use Resource::{Events, Nodes, Pods, Services};
    let table: &[(Resource, &Value, &str, bool)] = &[
        (Services, &service, "", true),
        (Services, &service, "metadata.name=web", true),
        (Services, &service, "metadata.name==web,metadata.namespace=a", true),
        (Services, &service, "metadata.name!=web", false),
        (Services, &service, "spec.type=ClusterIP", false),
        (Services, &service, "spec.clusterIP=", true),
        (Services, &service, "spec.clusterIP!=None,", true),
        (Services, &service, "metadata.name=a\\,b", false),
        (Pods, &pod, "spec.host=n,status.podIP=1.1.1.1", true),
        (Pods, &pod, "status.podIPs=1.1.1.1,spec.hostNetwork=false", true),
        (Events, &event, "involvedObject.kind=Service,involvedObject.uid=u,source=r", true),
        (Nodes, &node, "spec.unschedulable=false", true),
    ];
    for (resource, object, text, expected) in table {
        let selector =
            FieldSelector::parse(*resource, text).unwrap_or_else(|error| panic!("{text}: {error}"));
        assert_eq!(selector.matches(object), *expected, "{text}");
    }
    let one = FieldSelector::parse(Services, "spec.type!=x,metadata.name=web").unwrap();
    assert_eq!((one.exact("metadata.name"), one.exact("spec.type")), (Some("web"), None));
}

#[test]
fn field_selectors_are_refused_in_the_words_of_the_api_server() {
    let table = [
        (Resource::Services, "spec.foo=1", "field label not supported: spec.foo"),
        (Resource::Nodes, "metadata.namespace=a", "field label not supported: metadata.namespace"),
        (
            Resource::EndpointSlices,
            "a=b",
            "\"a\" is not a known field selector: only \"metadata.name\", \"metadata.namespace\"",
        ),
        (Resource::Services, "web", "invalid selector: 'web'; can't understand 'web'"),
        (Resource::Services, "metadata.name=a\\b", "invalid field selector: invalid escape sequence: \\b"),
        (Resource::Services, "metadata.name=a=b", "invalid field selector: unescaped character in value: 61"),
    ];
    for (resource, text, message) in table {
        assert_eq!(FieldSelector::parse(resource, text).unwrap_err().0, message, "{text}");
    }
}

proptest! {
    #[test]
    fn no_text_makes_them_panic(text in "[a-c=!<>(), \\\\/.\u{0}ünot]{0,40}") {
        if let Ok(selector) = LabelSelector::parse(&text) {
            selector.matches(&labels(&[("a", "b")]));
        }
        let _ = FieldSelector::parse(Resource::Services, &text);
    }
}
