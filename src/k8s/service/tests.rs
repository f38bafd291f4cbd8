//! Cases of TestValidateServiceCreate and TestValidateServiceExternalTrafficPolicy that matter to a
//! proxy (kubernetes pkg/apis/core/validation/validation_test.go), written as manifests.

use super::*;

/// A valid Service.
const BASE: &str =
    r#"{"metadata": {"name": "web"}, "spec": {"selector": {"app": "web"}, "ports": [{"port": 80}]}}"#;

/// Merges `patch` into the valid Service (null removes) and validates the result.
fn try_patch(patch: &str, trust: Trust) -> (Option<ServiceRequest>, Vec<FieldProblem>) {
    let mut json: serde_json::Value = serde_json::from_str(BASE).unwrap();
    merge(&mut json, &serde_json::from_str(patch).unwrap_or_else(|error| panic!("{patch}: {error}")));
    let mut problems = Vec::new();
    let request = read(serde_json::from_value(json).unwrap(), trust, &mut problems);
    (request, problems)
}

fn merge(into: &mut serde_json::Value, patch: &serde_json::Value) {
    match (into.as_object_mut(), patch.as_object()) {
        (Some(object), Some(patch)) => {
            for (key, value) in patch {
                merge(object.entry(key.clone()).or_insert(serde_json::Value::Null), value);
            }
        }
        _ => *into = patch.clone(),
    }
}

/// The problems of severity `severity`, as `field: message`.
fn found(problems: &[FieldProblem], severity: Severity) -> Vec<String> {
    let these = problems.iter().filter(|problem| problem.severity == severity);
    these.map(|problem| format!("{}: {}", problem.field, problem.message)).collect()
}

fn accepted(patch: &str) -> ServiceRequest {
    let (request, problems) = try_patch(patch, Trust::Api);
    assert_eq!(found(&problems, Severity::Error), Vec::<String>::new(), "{patch}");
    request.unwrap_or_else(|| panic!("{patch}"))
}

/// Every error has to begin with one of `expected`, in order; `...` stands for any end.
fn refused(patch: &str, expected: &[&str]) {
    let (request, problems) = try_patch(patch, Trust::Api);
    let errors = found(&problems, Severity::Error);
    assert_eq!(errors.len(), expected.len(), "{patch}: {errors:#?}");
    for (error, expected) in errors.iter().zip(expected) {
        match expected.strip_suffix("...") {
            Some(begin) => assert!(error.starts_with(begin), "{patch}: {error}"),
            None => assert_eq!(error, expected, "{patch}"),
        }
    }
    assert_eq!(request, None, "{patch}");
}

#[test]
fn what_the_api_server_accepts() {
    for patch in [
        "{}",
        r#"{"spec": {"sessionAffinity": "ClientIP"}}"#,
        r#"{"spec": {"selector": null}}"#,
        r#"{"spec": {"externalIPs": ["1.2.3.4", "2001:db8::1"]}}"#,
        r#"{"spec": {"type": "NodePort"}}"#,
        r#"{"spec": {"type": "LoadBalancer"}}"#,
        r#"{"spec": {"type": "LoadBalancer", "ports": [{"port": 10250}]}}"#,
        r#"{"spec": {"type": "ExternalName", "externalName": "foo.bar.example.com", "ports": null}}"#,
        r#"{"spec": {"type": "ExternalName", "externalName": "foo.bar.example.com."}}"#,
        r#"{"spec": {"clusterIP": "None", "ports": null}}"#,
        r#"{"spec": {"clusterIP": "10.96.0.5"}}"#,
        r#"{"spec": {"clusterIP": "10.96.0.5", "clusterIPs": ["10.96.0.5", "fd00::1"]}}"#,
        r#"{"spec": {"ipFamilyPolicy": "PreferDualStack", "ipFamilies": ["IPv6", "IPv4"]}}"#,
        r#"{"spec": {"ports": [{"name": "a", "port": 80}, {"name": "b", "port": 80, "protocol": "UDP"}]}}"#,
        r#"{"spec": {"ports": [{"port": 80, "protocol": "SCTP"}]}}"#,
        r#"{"spec": {"ports": [{"port": 80, "targetPort": "https"}]}}"#,
        r#"{"spec": {"ports": [{"port": 80, "appProtocol": "kubernetes.io/h2c"}]}}"#,
        r#"{"spec": {"type": "NodePort", "ports": [{"name": "a", "port": 80, "nodePort": 30080},
            {"name": "b", "port": 80, "protocol": "UDP", "nodePort": 30080}]}}"#,
        r#"{"spec": {"sessionAffinity": "ClientIP",
            "sessionAffinityConfig": {"clientIP": {"timeoutSeconds": 86400}}}}"#,
        r#"{"spec": {"type": "NodePort", "externalTrafficPolicy": "Local"}}"#,
        r#"{"spec": {"externalIPs": ["1.2.3.4"], "externalTrafficPolicy": "Local"}}"#,
        r#"{"spec": {"internalTrafficPolicy": "Local"}}"#,
        r#"{"spec": {"trafficDistribution": "PreferClose"}}"#,
        r#"{"spec": {"trafficDistribution": "PreferSameNode"}}"#,
        r#"{"spec": {"type": "LoadBalancer", "loadBalancerSourceRanges": ["1.2.3.4/8 ", "5.6.7.8/16"]}}"#,
        r#"{"spec": {"type": "LoadBalancer", "loadBalancerSourceRanges": ["192.168.099.022/24"]}}"#,
        r#"{"spec": {"type": "LoadBalancer"},
            "metadata": {"annotations": {"service.beta.kubernetes.io/load-balancer-source-ranges": "1.2.3.4/8,  5.6.7.8/16"}}}"#,
        r#"{"spec": {"type": "LoadBalancer", "externalTrafficPolicy": "Local", "healthCheckNodePort": 31000}}"#,
        r#"{"spec": {"type": "LoadBalancer", "loadBalancerClass": "test.com/test-load-balancer-class"}}"#,
        r#"{"metadata": {"labels": {"example.com/a": "b"}, "annotations": {"ANY.example.com/Name": "x y"}}}"#,
    ] {
        accepted(patch);
    }
}

#[test]
fn names_and_labels() {
    refused(
        r#"{"metadata": {"name": ""}}"#,
        &["metadata.name: Required value: name or generateName is required"],
    );
    refused(
        r#"{"metadata": {"name": "-123"}}"#,
        &["metadata.name: Invalid value: \"-123\": a DNS-1035 label must..."],
    );
    refused(
        r#"{"metadata": {"name": "Web"}}"#,
        &[
            "metadata.name: Invalid value: \"Web\": a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an alphabetic character, and end with an alphanumeric character (e.g. 'my-name',  or 'abc-123', regex used for validation is '[a-z]([-a-z0-9]*[a-z0-9])?')",
        ],
    );
    let long = "a".repeat(64);
    refused(
        &format!(r#"{{"metadata": {{"name": "{long}"}}}}"#),
        &[&format!("metadata.name: Invalid value: \"{long}\": must be no more than 63 characters")],
    );
    refused(
        r#"{"metadata": {"namespace": "not.valid"}}"#,
        &["metadata.namespace: Invalid value: \"not.valid\": a lowercase RFC 1123 label..."],
    );
    refused(
        r#"{"metadata": {"labels": {"NoUppercaseOrSpecialCharsLike=Equals": "bar"}}}"#,
        &["metadata.labels: Invalid value: \"NoUppercaseOrSpecialCharsLike=Equals\": name part must..."],
    );
    refused(
        r#"{"metadata": {"labels": {"a": "b c"}}}"#,
        &["metadata.labels: Invalid value: \"b c\": a valid label must..."],
    );
    refused(
        r#"{"metadata": {"annotations": {"NoSpecialCharsLike=Equals": "bar"}}}"#,
        &["metadata.annotations: Invalid value: \"NoSpecialCharsLike=Equals\": name part..."],
    );
    refused(
        r#"{"spec": {"selector": {"NoSpecialCharsLike=Equals": "bar"}}}"#,
        &["spec.selector: Invalid value..."],
    );
}

#[test]
fn ports() {
    refused(r#"{"spec": {"ports": null}}"#, &["spec.ports: Required value"]);
    refused(r#"{"spec": {"ports": []}}"#, &["spec.ports: Required value"]);
    let range = "must be between 1 and 65535, inclusive";
    for bad in ["0", "65536", "-1"] {
        refused(
            &format!(r#"{{"spec": {{"ports": [{{"port": {bad}}}]}}}}"#),
            &[
                &format!("spec.ports[0].port: Invalid value: {bad}: {range}"),
                &format!("spec.ports[0].targetPort: Invalid value: {bad}: {range}"),
            ],
        );
    }
    refused(
        r#"{"spec": {"ports": [{"targetPort": 80}]}}"#,
        &[&format!("spec.ports[0].port: Invalid value: 0: {range}")],
    );
    refused(
        r#"{"spec": {"ports": [{"port": 80, "targetPort": 65536}]}}"#,
        &[&format!("spec.ports[0].targetPort: Invalid value: 65536: {range}")],
    );
    refused(
        r#"{"spec": {"ports": [{"port": 80, "protocol": "ICMP"}]}}"#,
        &[
            "spec.ports[0].protocol: Unsupported value: \"ICMP\": supported values: \"SCTP\", \"TCP\", \"UDP\"",
        ],
    );
    refused(
        r#"{"spec": {"ports": [{"port": 80, "targetPort": "foo bar v1.0!"}]}}"#,
        &[
            "spec.ports[0].targetPort: Invalid value: \"foo bar v1.0!\": must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-)",
        ],
    );
    refused(
        r#"{"spec": {"ports": [{"port": 80, "targetPort": "80"}]}}"#,
        &["spec.ports[0].targetPort: Invalid value: \"80\": must contain at least one letter (a-z)"],
    );
    refused(
        r#"{"spec": {"ports": [{"port": 80, "targetPort": "abcdefghijklmnop"}]}}"#,
        &[
            "spec.ports[0].targetPort: Invalid value: \"abcdefghijklmnop\": must be no more than 15 characters",
        ],
    );
    refused(
        r#"{"spec": {"ports": [{"port": 80, "name": "INVALID"}]}}"#,
        &["spec.ports[0].name: Invalid value: \"INVALID\": a lowercase RFC 1123 label must consist of..."],
    );
    refused(
        r#"{"spec": {"ports": [{"port": 80, "appProtocol": "no=good"}]}}"#,
        &["spec.ports[0].appProtocol: Invalid value: \"no=good\": name part..."],
    );
    refused(
        r#"{"spec": {"ports": [{"port": 80}, {"port": 81}]}}"#,
        &["spec.ports[0].name: Required value", "spec.ports[1].name: Required value"],
    );
    refused(
        r#"{"spec": {"ports": [{"name": "a", "port": 80}, {"name": "a", "port": 81}]}}"#,
        &["spec.ports[1].name: Duplicate value: \"a\""],
    );
    refused(
        r#"{"spec": {"ports": [{"name": "a", "port": 80}, {"name": "b", "port": 80}]}}"#,
        &[
            "spec.ports[1]: Duplicate value: core.ServicePort{Name:\"\", Protocol:\"TCP\", AppProtocol:(*string)(nil), \
           Port:80, TargetPort:intstr.IntOrString{Type:0, IntVal:0, StrVal:\"\"}, NodePort:0}",
        ],
    );
    refused(
        r#"{"spec": {"ports": [{"port": 80, "nodePort": 30080}]}}"#,
        &["spec.ports[0].nodePort: Forbidden: may not be used when `type` is 'ClusterIP'"],
    );
    refused(
        r#"{"spec": {"type": "NodePort", "ports": [{"name": "a", "port": 80, "nodePort": 30080}, {"name": "b", "port": 81, "nodePort": 30080}]}}"#,
        &["spec.ports[1].nodePort: Duplicate value: 30080"],
    );
}

#[test]
fn types() {
    refused(
        r#"{"spec": {"type": "Nodeport"}}"#,
        &[
            "spec.type: Unsupported value: \"Nodeport\": supported values: \"ClusterIP\", \"ExternalName\", \"LoadBalancer\", \"NodePort\"",
        ],
    );
    refused(
        r#"{"spec": {"type": "NodePort", "clusterIP": "None"}}"#,
        &["spec.clusterIPs[0]: Invalid value: \"None\": may not be set to 'None' for NodePort services"],
    );
    refused(
        r#"{"spec": {"type": "LoadBalancer", "clusterIP": "None"}}"#,
        &["spec.clusterIPs[0]: Invalid value: \"None\": may not be set to 'None' for LoadBalancer services"],
    );
    refused(r#"{"spec": {"type": "ExternalName"}}"#, &["spec.externalName: Required value"]);
    refused(
        r#"{"spec": {"type": "ExternalName", "externalName": "-foo-"}}"#,
        &["spec.externalName: Invalid value: \"-foo-\": a lowercase RFC 1123 subdomain..."],
    );
    refused(
        r#"{"spec": {"type": "ExternalName", "externalName": "a.b", "clusterIP": "None", "ipFamilies": ["IPv4"], "ipFamilyPolicy": "SingleStack"}}"#,
        &[
            "spec.clusterIPs: Forbidden: may not be set for ExternalName services",
            "spec.ipFamilies: Forbidden: may not be set for ExternalName services",
            "spec.ipFamilyPolicy: Forbidden: may not be set for ExternalName services",
        ],
    );
}

#[test]
fn affinity() {
    refused(
        r#"{"spec": {"sessionAffinity": "Cookie"}}"#,
        &["spec.sessionAffinity: Unsupported value: \"Cookie\": supported values: \"ClientIP\", \"None\""],
    );
    for bad in [0, -1, 86_401] {
        let patch = format!(
            r#"{{"spec": {{"sessionAffinity": "ClientIP", "sessionAffinityConfig": {{"clientIP": {{"timeoutSeconds": {bad}}}}}}}}}"#
        );
        refused(
            &patch,
            &[&format!(
                "spec.sessionAffinityConfig.clientIP.timeoutSeconds: Invalid value: {bad}: must be greater than 0 and less than 86400"
            )],
        );
    }
    let three_hours = Some(Duration::from_secs(10_800));
    assert_eq!(accepted(r#"{"spec": {"sessionAffinity": "ClientIP"}}"#).service.affinity, three_hours);
    let partly = r#"{"spec": {"sessionAffinity": "ClientIP", "sessionAffinityConfig": {"clientIP": {}}}}"#;
    assert_eq!(accepted(partly).service.affinity, three_hours);
    let unused = r#"{"spec": {"sessionAffinityConfig": {"clientIP": {"timeoutSeconds": 5}}}}"#;
    assert_eq!(accepted(unused).service.affinity, None);
}

#[test]
fn external_ips() {
    let ip = "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)";
    refused(
        r#"{"spec": {"externalIPs": ["nonsense", "myhost.mydomain"]}}"#,
        &[
            &format!("spec.externalIPs[0]: Invalid value: \"nonsense\": {ip}"),
            &format!("spec.externalIPs[1]: Invalid value: \"myhost.mydomain\": {ip}"),
        ],
    );
    refused(
        r#"{"spec": {"externalIPs": ["0.0.0.0"]}}"#,
        &["spec.externalIPs[0]: Invalid value: \"0.0.0.0\": may not be unspecified (0.0.0.0)"],
    );
    refused(
        r#"{"spec": {"externalIPs": ["127.0.0.1"]}}"#,
        &[
            "spec.externalIPs[0]: Invalid value: \"127.0.0.1\": may not be in the loopback range (127.0.0.0/8, ::1/128)",
        ],
    );
    refused(
        r#"{"spec": {"externalIPs": ["169.254.0.1"]}}"#,
        &[
            "spec.externalIPs[0]: Invalid value: \"169.254.0.1\": may not be in the link-local range (169.254.0.0/16, fe80::/10)",
        ],
    );
    refused(
        r#"{"spec": {"externalIPs": ["ff02::1"]}}"#,
        &[
            "spec.externalIPs[0]: Invalid value: \"ff02::1\": may not be in the link-local multicast range (224.0.0.0/24, ff02::/10)",
        ],
    );

    let (request, problems) = try_patch(r#"{"spec": {"externalIPs": ["127.0.0.1", "::1"]}}"#, Trust::File);
    assert_eq!((request.unwrap().service.external_ips.len(), problems.len()), (2, 0));

    let (request, problems) = try_patch(r#"{"spec": {"externalIPs": ["192.168.099.022"]}}"#, Trust::Api);
    assert_eq!(request.unwrap().service.external_ips, [IpAddr::from([192, 168, 99, 22])]);
    assert_eq!(
        found(&problems, Severity::Warning),
        [
            "spec.externalIPs[0]: IP address was accepted, but will be invalid in a future Kubernetes release: ParseAddr(\"192.168.099.022\"): IPv4 field has octet with leading zero"
        ]
    );
}

#[test]
fn policies() {
    refused(
        r#"{"spec": {"type": "NodePort", "externalTrafficPolicy": "local"}}"#,
        &[
            "spec.externalTrafficPolicy: Unsupported value: \"local\": supported values: \"Cluster\", \"Local\"",
        ],
    );
    refused(
        r#"{"spec": {"externalTrafficPolicy": "Local"}}"#,
        &[
            "spec.externalTrafficPolicy: Invalid value: \"Local\": may only be set for externally-accessible services",
        ],
    );
    refused(
        r#"{"spec": {"internalTrafficPolicy": "Nearby"}}"#,
        &[
            "spec.internalTrafficPolicy: Unsupported value: \"Nearby\": supported values: \"Cluster\", \"Local\"",
        ],
    );
    refused(
        r#"{"spec": {"trafficDistribution": "PreferFar"}}"#,
        &[
            "spec.trafficDistribution: Unsupported value: \"PreferFar\": supported values: \"PreferClose\", \"PreferSameNode\", \"PreferSameZone\"",
        ],
    );
    refused(
        r#"{"spec": {"type": "NodePort", "healthCheckNodePort": 31000}}"#,
        &[
            "spec.healthCheckNodePort: Invalid value: 31000: may only be set when `type` is 'LoadBalancer' and `externalTrafficPolicy` is 'Local'",
        ],
    );
    refused(
        r#"{"spec": {"type": "LoadBalancer", "externalTrafficPolicy": "Local", "healthCheckNodePort": -1}}"#,
        &["spec.healthCheckNodePort: Invalid value: -1: must be between 1 and 65535, inclusive"],
    );
    refused(
        r#"{"spec": {"allocateLoadBalancerNodePorts": true, "loadBalancerClass": "a.b/c", "loadBalancerSourceRanges": ["1.2.3.4/8"]}}"#,
        &[
            "spec.loadBalancerSourceRanges: Forbidden: may only be used when `type` is 'LoadBalancer'",
            "spec.allocateLoadBalancerNodePorts: Forbidden: may only be used when `type` is 'LoadBalancer'",
            "spec.loadBalancerClass: Forbidden: may only be used when `type` is 'LoadBalancer'",
        ],
    );
    refused(
        r#"{"spec": {"type": "LoadBalancer", "loadBalancerSourceRanges": ["foo.bar"]}}"#,
        &["spec.loadBalancerSourceRanges[0]: Invalid value: \"foo.bar\": must be a valid CIDR value..."],
    );
    let annotation = "metadata.annotations[service.beta.kubernetes.io/load-balancer-source-ranges]";
    refused(
        r#"{"metadata": {"annotations": {"service.beta.kubernetes.io/load-balancer-source-ranges": "1.2.3.4/8"}}}"#,
        &[&format!("{annotation}: Forbidden: may only be used when `type` is 'LoadBalancer'")],
    );
    refused(
        r#"{"spec": {"type": "LoadBalancer"},
            "metadata": {"annotations": {"service.beta.kubernetes.io/load-balancer-source-ranges": "foo.bar, 10.0.0.0/8"}}}"#,
        &[&format!("{annotation}: Invalid value: \"foo.bar\": must be a valid CIDR value...")],
    );
}

#[test]
fn cluster_ips_and_families() {
    refused(
        r#"{"spec": {"clusterIP": "invalid"}}"#,
        &[
            "spec.clusterIPs[0]: Invalid value: \"invalid\": must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)",
        ],
    );
    refused(
        r#"{"spec": {"clusterIPs": ["10.96.0.5"]}}"#,
        &[
            "spec.clusterIPs: Invalid value: []string{\"10.96.0.5\"}: must be empty when `clusterIP` is not specified",
        ],
    );
    refused(
        r#"{"spec": {"clusterIP": "10.96.0.6", "clusterIPs": ["10.96.0.5"]}}"#,
        &["spec.clusterIPs: Invalid value: []string{\"10.96.0.5\"}: first value must match `clusterIP`"],
    );
    refused(
        r#"{"spec": {"clusterIP": "None", "clusterIPs": ["None", "10.96.0.5"]}}"#,
        &[
            "spec.clusterIPs: Invalid value: []string{\"None\", \"10.96.0.5\"}: 'None' must be the first and only value",
        ],
    );
    refused(
        r#"{"spec": {"clusterIP": "10.96.0.5", "clusterIPs": ["10.96.0.5", "10.96.0.6"]}}"#,
        &[
            "spec.clusterIPs: Invalid value: []string{\"10.96.0.5\", \"10.96.0.6\"}: may specify no more than one IP for each IP family",
        ],
    );
    refused(
        r#"{"spec": {"clusterIP": "10.96.0.5", "clusterIPs": ["10.96.0.5", "fd00::1", "fd00::2"]}}"#,
        &[
            "spec.clusterIPs: Invalid value: []string{\"10.96.0.5\", \"fd00::1\", \"fd00::2\"}: may only hold up to 2 values",
        ],
    );
    refused(
        r#"{"spec": {"clusterIP": "10.96.0.5", "ipFamilies": ["IPv6"]}}"#,
        &[
            "spec.clusterIPs[0]: Invalid value: \"10.96.0.5\": expected an IPv6 value as indicated by `ipFamilies[0]`",
        ],
    );
    refused(
        r#"{"spec": {"ipFamilies": ["IPv5"]}}"#,
        &["spec.ipFamilies[0]: Unsupported value: \"IPv5\": supported values: \"IPv4\", \"IPv6\""],
    );
    refused(
        r#"{"spec": {"ipFamilies": ["IPv4", "IPv4"]}}"#,
        &["spec.ipFamilies[1]: Duplicate value: \"IPv4\""],
    );
    refused(
        r#"{"spec": {"ipFamilyPolicy": "Dual"}}"#,
        &[
            "spec.ipFamilyPolicy: Unsupported value: \"Dual\": supported values: \"PreferDualStack\", \"RequireDualStack\", \"SingleStack\"",
        ],
    );
    refused(
        r#"{"spec": {"ipFamilyPolicy": "SingleStack", "ipFamilies": ["IPv4", "IPv6"]}}"#,
        &[
            "spec.ipFamilyPolicy: Invalid value: \"SingleStack\": must be 'RequireDualStack' or 'PreferDualStack' when multiple IP families are specified",
        ],
    );

    let wanted = |patch| match accepted(patch).cluster_ips {
        ClusterIps::Wanted { ips, families, both } => (ips.len(), families, both),
        ClusterIps::None => panic!("{patch}"),
    };
    assert_eq!(wanted("{}"), (0, vec![], false));
    assert_eq!(
        wanted(r#"{"spec": {"clusterIP": "10.96.0.5", "ipFamilyPolicy": "PreferDualStack"}}"#),
        (1, vec![Family::V4], true)
    );
    assert_eq!(
        wanted(r#"{"spec": {"ipFamilies": ["IPv6", "IPv4"]}}"#),
        (0, vec![Family::V6, Family::V4], true)
    );
    assert_eq!(accepted(r#"{"spec": {"clusterIP": "None"}}"#).cluster_ips, ClusterIps::None);
}

#[test]
fn defaults() {
    let request = accepted("{}");
    assert_eq!(request.service.ports[0].target, TargetPort::Number(80));
    assert_eq!(request.service.ports[0].protocol, Protocol::Tcp);
    assert_eq!(request.service.kind, ServiceKind::ClusterIp);
    assert_eq!(request.service.key.to_string(), "default/web");
    assert!(!request.wants_node_ports);
    assert!(accepted(r#"{"spec": {"type": "NodePort"}}"#).wants_node_ports);
    assert!(accepted(r#"{"spec": {"type": "LoadBalancer"}}"#).wants_node_ports);
    assert!(
        !accepted(r#"{"spec": {"type": "LoadBalancer", "allocateLoadBalancerNodePorts": false}}"#)
            .wants_node_ports
    );
    let empty_target = accepted(r#"{"spec": {"ports": [{"port": 81, "targetPort": ""}]}}"#);
    assert_eq!(empty_target.service.ports[0].target, TargetPort::Number(81));
}

#[test]
fn addresses_of_a_load_balancer() {
    let request = accepted(
        r#"{"spec": {"type": "LoadBalancer"}, "status": {"loadBalancer": {"ingress":
            [{"ip": "1.2.3.4"}, {"ip": "1.2.3.5", "ipMode": "Proxy"}, {"ip": "1.2.3.6", "ipMode": "VIP"}, {"hostname": "x"}]}}}"#,
    );
    assert_eq!(
        request.service.load_balancer_ips,
        ["1.2.3.4".parse::<IpAddr>().unwrap(), "1.2.3.6".parse().unwrap()]
    );
}

#[test]
fn fields_that_are_ignored_are_warned_about() {
    let table = [
        (
            r#"{"spec": {"clusterIP": "None", "externalIPs": ["1.2.3.4"]}}"#,
            "spec.externalIPs is ignored when spec.clusterIP is \"None\"",
        ),
        (
            r#"{"spec": {"clusterIP": "None", "sessionAffinity": "ClientIP"}}"#,
            "spec.SessionAffinity is ignored for headless services",
        ),
        (
            r#"{"spec": {"type": "ExternalName", "externalName": "a.b", "externalIPs": ["1.2.3.4"]}}"#,
            "spec.externalIPs is ignored when spec.type is \"ExternalName\"",
        ),
        (
            r#"{"spec": {"externalName": "a.b"}}"#,
            "spec.externalName is ignored when spec.type is not \"ExternalName\"",
        ),
    ];
    for (patch, warning) in table {
        let (request, problems) = try_patch(patch, Trust::Api);
        assert!(request.is_some(), "{patch} {problems:?}");
        let warnings = found(&problems, Severity::Warning);
        assert!(warnings.len() == 1 && warnings[0].contains(warning), "{patch} {warnings:?}");
    }
}
