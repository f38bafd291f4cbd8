//! Services as `kubectl get services` prints them (kubernetes pkg/printers/internalversion).

use std::time::Duration;

use super::model::{Service, ServiceKind};

/// One Service and what the table says of it beyond the model.
#[derive(Clone, Copy, Debug)]
pub struct Row<'a> {
    /// The Service.
    pub service: &'a Service,
    /// `spec.externalName` of that type.
    pub external_name: Option<&'a str>,
    /// Time since its creation.
    pub age: Duration,
}

/// The table, with a line end after each line; `namespaces` adds that column.
pub fn services<'a>(rows: impl IntoIterator<Item = Row<'a>>, namespaces: bool) -> String {
    let header = ["NAMESPACE", "NAME", "TYPE", "CLUSTER-IP", "EXTERNAL-IP", "PORT(S)", "AGE"];
    let mut lines: Vec<[String; 7]> = vec![header.map(str::to_owned)];
    lines.extend(rows.into_iter().map(cells));
    let mut widths = [0; 7];
    for line in &lines {
        for (width, cell) in widths.iter_mut().zip(line) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let mut text = String::new();
    for line in &lines {
        let cells = line.iter().zip(widths).skip(usize::from(!namespaces));
        let padded: String = cells.map(|(cell, width)| format!("{cell:width$}   ")).collect();
        text.push_str(padded.trim_end());
        text.push('\n');
    }
    text
}

fn cells(row: Row<'_>) -> [String; 7] {
    let Row { service, external_name, age } = row;
    let kind = match (external_name, service.kind) {
        (Some(_), _) => "ExternalName",
        (None, ServiceKind::ClusterIp) => "ClusterIP",
        (None, ServiceKind::NodePort) => "NodePort",
        (None, ServiceKind::LoadBalancer) => "LoadBalancer",
    };
    let cluster_ip = match (external_name, service.cluster_ips.first()) {
        (Some(_), _) => "<none>".to_owned(),
        (None, None) => "None".to_owned(),
        (None, Some(ip)) => ip.to_string(),
    };
    [
        service.key.namespace.to_string(),
        service.key.name.to_string(),
        kind.to_owned(),
        cluster_ip,
        external_name.map_or_else(|| external_ips(service), str::to_owned),
        ports(service),
        human_duration(age),
    ]
}

/// A LoadBalancer shows its own addresses first, and that they are awaited while there is none.
fn external_ips(service: &Service) -> String {
    let own = &service.load_balancer_ips;
    let all: Vec<String> = own.iter().chain(&service.external_ips).map(ToString::to_string).collect();
    match (all.is_empty(), service.kind) {
        (false, _) => all.join(","),
        (true, ServiceKind::LoadBalancer) => "<pending>".into(),
        (true, _) => "<none>".into(),
    }
}

/// `80:30008/TCP,443/TCP`
fn ports(service: &Service) -> String {
    let ports = service.ports.iter().map(|port| match port.node_port {
        Some(node_port) => format!("{}:{node_port}/{}", port.port, port.protocol),
        None => format!("{}/{}", port.port, port.protocol),
    });
    let text = ports.collect::<Vec<_>>().join(",");
    if text.is_empty() { "<none>".into() } else { text }
}

/// A time with two or three significant digits (apimachinery pkg/util/duration HumanDuration).
pub fn human_duration(time: Duration) -> String {
    let seconds = time.as_secs();
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86_400);
    let with = |big: u64, unit: &str, small: u64, small_unit: &str| match small {
        0 => format!("{big}{unit}"),
        small => format!("{big}{unit}{small}{small_unit}"),
    };
    if seconds < 120 {
        format!("{seconds}s")
    } else if minutes < 10 {
        with(minutes, "m", seconds % 60, "s")
    } else if minutes < 180 {
        format!("{minutes}m")
    } else if hours < 8 {
        with(hours, "h", minutes % 60, "m")
    } else if hours < 48 {
        format!("{hours}h")
    } else if days < 8 {
        with(days, "d", hours % 24, "h")
    } else if days < 730 {
        format!("{days}d")
    } else if days < 8 * 365 {
        with(days / 365, "y", days % 365, "d")
    } else {
        format!("{}y", days / 365)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_as_kubectl_prints_them() {
        let table = [
            (0, "0s"),
            (27, "27s"),
            (119, "119s"),
            (120, "2m"),
            (125, "2m5s"),
            (600, "10m"),
            (10_799, "179m"),
            (10_800, "3h"),
            (11_100, "3h5m"),
            (8 * 3600, "8h"),
            (45 * 3600, "45h"),
            (3 * 86_400 + 17 * 3600, "3d17h"),
            (8 * 86_400, "8d"),
            (730 * 86_400, "2y"),
            (740 * 86_400, "2y10d"),
            (8 * 365 * 86_400 + 86_400, "8y"),
        ];
        for (seconds, text) in table {
            assert_eq!(human_duration(Duration::from_secs(seconds)), text);
        }
    }
}
