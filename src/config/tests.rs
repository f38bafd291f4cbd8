use super::*;

fn resolve(flags: &[(&str, &[&str])], env: &[(&str, &str)], file: &str) -> Result<Config, ConfigError> {
    let mut given: Flags = Vec::new();
    for (flag, values) in flags {
        let row = ROWS.iter().find(|row| row.flag == *flag).unwrap();
        given.push((row, values.iter().map(|v| (*v).to_owned()).collect()));
    }
    if !file.is_empty() {
        let row = ROWS.iter().find(|row| row.flag == "config").unwrap();
        given.push((row, vec!["c.yaml".to_owned()]));
    }
    let env = |name: &str| env.iter().find(|(n, _)| *n == name).map(|(_, v)| (*v).to_owned());
    Config::resolve(&given, env, |name| {
        if name == "c.yaml" { Ok(file.to_owned()) } else { Err(std::io::ErrorKind::NotFound.into()) }
    })
}

#[test]
fn every_default_is_accepted_and_written_as_its_row_says() {
    let config = Config::defaults().unwrap();
    assert_eq!(config.connect_timeout, Duration::from_secs(5));
    assert_eq!(config.service_node_port_range, 30_000..=32_767);
    assert_eq!(config.metrics_bind_address.unwrap().to_string(), "127.0.0.1:10249");
    assert_eq!(config.shards, None);
    assert!(config.pin && config.splice && !config.cluster_ips && config.filenames.is_empty());
}

#[test]
fn flags_keys_and_short_flags_are_unique_and_well_formed() {
    for (n, row) in ROWS.iter().enumerate() {
        assert!(row.flag.bytes().all(|b| b.is_ascii_lowercase() || b == b'-'), "{}", row.flag);
        assert!(row.doc.ends_with('.'), "{}: the doc is a sentence", row.flag);
        for other in &ROWS[n + 1..] {
            assert_ne!(row.flag, other.flag);
            assert!(row.key.is_empty() || row.key != other.key, "{}", row.key);
            assert!(row.short.is_none() || row.short != other.short, "{}", row.flag);
        }
    }
}

#[test]
fn flag_over_environment_over_file_over_default() {
    let file = "drainTimeout: 1s\nconnectTimeout: 1s\nidleTimeout: 1s\n";
    let env = [("RINGPORT_DRAIN_TIMEOUT", "2s"), ("RINGPORT_CONNECT_TIMEOUT", "2s")];
    let config = resolve(&[("drain-timeout", &["3s"])], &env, file).unwrap();
    let seconds = |t: Duration| t.as_secs();
    assert_eq!(
        [config.drain_timeout, config.connect_timeout, config.idle_timeout, config.user_timeout].map(seconds),
        [3, 2, 1, 30]
    );
}

#[test]
fn values_of_every_kind_come_from_a_file() {
    let file = "# a comment\nfilenames:\n  - a.yaml\n  - b\nnodePortAddresses: [10.0.0.0/8, '::1']\n\
                clusterIPs: true\nshards: 2\nmaxConnections: auto\nmetricsBindAddress: ''\nlogFormat: json\n";
    let config = resolve(&[], &[], file).unwrap();
    assert_eq!(config.filenames, ["a.yaml", "b"]);
    let cidrs = ["10.0.0.0/8", "::1/128"].map(|c| c.parse().unwrap());
    assert_eq!(config.nodeport_addresses, NodePortAddresses::Cidrs(cidrs.to_vec()));
    assert!(config.cluster_ips);
    assert_eq!((config.shards, config.max_connections), (Some(2), None));
    assert_eq!((config.metrics_bind_address, config.log_format), (None, LogFormat::Json));
    assert_eq!(resolve(&[], &[], "# nothing\n").unwrap().filenames, [""; 0]);
}

#[test]
fn mistakes_name_the_place_the_value_and_what_is_accepted() {
    let message = |flags: &[(&str, &[&str])], env: &[(&str, &str)], file: &str| {
        resolve(flags, env, file).unwrap_err().to_string()
    };
    let duration = "a duration as in 30s, 1m30s or 500ms, from";
    for (found, wanted) in [
        (
            message(&[("drain-timeout", &["30"])], &[], ""),
            format!("--drain-timeout: \"30\" is not accepted; write {duration} 0s to 8760h"),
        ),
        (
            message(&[], &[("RINGPORT_CONNECT_TIMEOUT", "1ms")], ""),
            format!("RINGPORT_CONNECT_TIMEOUT: \"1ms\" is not accepted; write {duration} 10ms to 1h"),
        ),
        (
            message(&[], &[], "pin: true\nkeepaliveProbes: 0\n"),
            "c.yaml:2: keepaliveProbes: \"0\" is not accepted; write a number of probes from 1 to 127"
                .to_owned(),
        ),
        (
            message(&[], &[], "pin: true\n\ndrain-timeout: 30s\n"),
            "c.yaml:3: there is no option \"drain-timeout\"; did you mean \"drainTimeout\"?".to_owned(),
        ),
        (
            message(&[], &[], "nodeportaddress: primary\n"),
            "c.yaml:1: there is no option \"nodeportaddress\"; did you mean \"nodePortAddresses\"?"
                .to_owned(),
        ),
        (message(&[], &[], "bananas: 1\n"), "c.yaml:1: there is no option \"bananas\"".to_owned()),
        (
            message(&[("config", &["missing.yaml"])], &[], ""),
            "missing.yaml: cannot be read: entity not found".to_owned(),
        ),
    ] {
        assert_eq!(found, wanted);
    }
    let twice = message(&[], &[], "pin: true\npin: false\n");
    assert!(twice.starts_with("c.yaml: line 2, column 1: ") && twice.contains("duplicate"), "{twice}");
    let list = message(&[], &[], "- pin\n");
    assert!(list.starts_with("c.yaml: line 1"), "{list}");
}

#[test]
fn durations_are_written_as_in_go() {
    for (text, wanted) in [
        ("0", Some(0)),
        ("0s", Some(0)),
        ("30s", Some(30_000_000_000)),
        ("1m30s", Some(90_000_000_000)),
        ("1h", Some(3_600_000_000_000)),
        ("500ms", Some(500_000_000)),
        ("1.5s", Some(1_500_000_000)),
        (".5s", Some(500_000_000)),
        ("1.s", Some(1_000_000_000)),
        ("3us", Some(3_000)),
        ("3µs", Some(3_000)),
        ("7ns", Some(7)),
        ("2h45m", Some(9_900_000_000_000)),
        ("", None),
        ("30", None),
        ("s", None),
        (".s", None),
        ("-1s", None),
        ("1 s", None),
        ("1d", None),
        ("1..5s", None),
        ("99999999999999999999h", None),
        ("9999999999h", None),
    ] {
        let found = value::duration(text).map(|t| t.as_nanos());
        assert_eq!(found, wanted, "{text:?}");
    }
    for text in ["0s", "30s", "1m30s", "8760h", "500ms", "1h1m1s", "1s5ms6us7ns"] {
        assert_eq!(print_duration(value::duration(text).unwrap()), text);
    }
}

#[test]
fn port_ranges() {
    for (text, wanted) in [
        ("30000-32767", Some(30_000..=32_767)),
        ("8080", Some(8_080..=8_080)),
        ("1-65535", Some(1..=65_535)),
        ("0-10", None),
        ("10-9", None),
        ("1-65536", None),
        ("", None),
        ("a-b", None),
    ] {
        assert_eq!(value::port_range(text), wanted, "{text:?}");
    }
}
