//! The rules for names, labels and port names
//! (apimachinery pkg/util/validation/validation.go; regular expressions written out as loops).

/// Every rule returns the messages of the rules that are broken.
pub type Broken = Vec<String>;

const NAME_FORM: &str = "[a-z0-9]([-a-z0-9]*[a-z0-9])?";

fn lower_alnum(b: u8) -> bool {
    b.is_ascii_lowercase() || b.is_ascii_digit()
}

/// `[a-z0-9]([-a-z0-9]*[a-z0-9])?`
fn is_label(text: &str) -> bool {
    let bytes = text.as_bytes();
    bytes.iter().all(|&b| lower_alnum(b) || b == b'-')
        && bytes.first().is_some_and(|&b| lower_alnum(b))
        && bytes.last().is_some_and(|&b| lower_alnum(b))
}

/// `([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]`
fn is_name_part(text: &str) -> bool {
    let bytes = text.as_bytes();
    bytes.iter().all(|&b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'))
        && bytes.first().is_some_and(u8::is_ascii_alphanumeric)
        && bytes.last().is_some_and(u8::is_ascii_alphanumeric)
}

fn too_long(text: &str, max: usize) -> Option<String> {
    (text.len() > max).then(|| format!("must be no more than {max} characters"))
}

/// A label of a domain name, RFC 1123: port names, namespaces.
pub fn dns_1123_label(text: &str) -> Broken {
    let mut broken: Broken = too_long(text, 63).into_iter().collect();
    if !is_label(text) {
        broken.push(format!(
            "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must \
             start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for \
             validation is '{NAME_FORM}')"
        ));
    }
    broken
}

/// A label that begins with a letter: the names of Services.
pub fn dns_1035_label(text: &str) -> Broken {
    let mut broken: Broken = too_long(text, 63).into_iter().collect();
    if !is_label(text) || !text.starts_with(|c: char| c.is_ascii_lowercase()) {
        broken.push(
            "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an \
             alphabetic character, and end with an alphanumeric character (e.g. 'my-name',  or 'abc-123', \
             regex used for validation is '[a-z]([-a-z0-9]*[a-z0-9])?')"
                .into(),
        );
    }
    broken
}

/// A domain name: the names of Pods, Nodes, EndpointSlices.
pub fn dns_1123_subdomain(text: &str) -> Broken {
    let mut broken: Broken = too_long(text, 253).into_iter().collect();
    if !text.split('.').all(is_label) {
        broken.push(format!(
            "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', \
             and must start and end with an alphanumeric character (e.g. 'example.com', regex used for \
             validation is '{NAME_FORM}(\\.{NAME_FORM})*')"
        ));
    }
    broken
}

/// The key of a label or annotation: `name` or `prefix/name`.
pub fn qualified_name(text: &str) -> Broken {
    const FORM: &str = "must consist of alphanumeric characters, '-', '_' or '.', and must start and end with \
                        an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used \
                        for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')";
    let mut broken = Broken::new();
    let name = match text.split_once('/') {
        None => text,
        Some((_, name)) if name.contains('/') => {
            broken.push(format!(
                "a qualified name {FORM} with an optional DNS subdomain prefix and '/' (e.g. \
                 'example.com/MyName')"
            ));
            return broken;
        }
        Some(("", name)) => {
            broken.push("prefix part must be non-empty".into());
            name
        }
        Some((prefix, name)) => {
            broken.extend(dns_1123_subdomain(prefix).into_iter().map(|rule| format!("prefix part {rule}")));
            name
        }
    };
    if name.is_empty() {
        broken.push("name part must be non-empty".into());
    } else if let Some(rule) = too_long(name, 63) {
        broken.push(format!("name part {rule}"));
    }
    if !is_name_part(name) {
        broken.push(format!("name part {FORM}"));
    }
    broken
}

/// The value of a label.
pub fn label_value(text: &str) -> Broken {
    let mut broken: Broken = too_long(text, 63).into_iter().collect();
    if !text.is_empty() && !is_name_part(text) {
        broken.push(
            "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', \
             and must start and end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or \
             '12345', regex used for validation is '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')"
                .into(),
        );
    }
    broken
}

/// The name of a container port (IANA_SVC_NAME): a `targetPort` that is not a number.
pub fn port_name(text: &str) -> Broken {
    let mut broken: Broken = too_long(text, 15).into_iter().collect();
    if text.is_empty() || !text.bytes().all(|b| lower_alnum(b) || b == b'-') {
        broken.push("must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-)".into());
    }
    if !text.bytes().any(|b| b.is_ascii_lowercase()) {
        broken.push("must contain at least one letter (a-z)".into());
    }
    if text.contains("--") {
        broken.push("must not contain consecutive hyphens".into());
    }
    if text.starts_with('-') || text.ends_with('-') {
        broken.push("must not begin or end with a hyphen".into());
    }
    broken
}

/// A port number.
pub fn port_number(number: i32) -> Option<&'static str> {
    (!(1..=65535).contains(&number)).then_some("must be between 1 and 65535, inclusive")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(rule: fn(&str) -> Broken, good: &[&str], bad: &[&str]) {
        for text in good {
            assert_eq!(rule(text), Broken::new(), "{text:?}");
        }
        for text in bad {
            assert!(!rule(text).is_empty(), "{text:?}");
        }
    }

    #[test]
    fn names_as_the_api_server_takes_them() {
        let long_label = "a".repeat(64);
        let long_name = vec!["a".repeat(62); 5].join(".");
        check(dns_1123_label, &["a", "1", "1a-b"], &["", "-a", "a-", "A", "a.b", "a_b", &long_label]);
        check(dns_1035_label, &["a", "a-1"], &["", "1a", "Web", "a-", &long_label]);
        check(dns_1123_subdomain, &["a", "1.2", "a-b.c"], &["", "a..b", ".a", "a.", "a/b", &long_name]);
        check(
            qualified_name,
            &["a", "A_b.c", "example.com/Name", "1"],
            &["", "/a", "a/", "a/b/c", "-a", "Example.com/a", "a b", &long_label],
        );
        check(label_value, &["", "a", "A_b.c-d"], &["-a", "a b", "a/b", &long_label]);
        check(
            port_name,
            &["http", "a", "1a", "a-1", "abcdefghijklmno"],
            &["", "80", "Http", "a--b", "-a", "a-", "a_b", "abcdefghijklmnop", "telnet,"],
        );
        assert_eq!(
            port_name("http_"),
            ["must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-)"]
        );
    }

    #[test]
    fn port_numbers_are_one_to_65535() {
        assert_eq!(
            [0, 1, 65535, 65536, -1].map(|n| port_number(n).is_none()),
            [false, true, true, false, false]
        );
    }
}
