//! Manifests as a user writes them.

use std::net::Ipv4Addr;

/// A NodePort Service `name` that selects the pods whose label `app` is its name.
pub(crate) struct Service<'a> {
    pub(crate) name: &'a str,
    pub(crate) port: u16,
    pub(crate) target_port: u16,
    pub(crate) node_port: u16,
    pub(crate) external_ip: Option<Ipv4Addr>,
    pub(crate) client_ip_affinity: bool,
}

impl Service<'_> {
    pub(crate) fn yaml(&self) -> String {
        let Self { name, port, target_port, node_port, .. } = self;
        let mut text = format!(
            "apiVersion: v1\nkind: Service\nmetadata:\n  name: {name}\nspec:\n  type: NodePort\n  \
             selector:\n    app: {name}\n  ports:\n  - port: {port}\n    targetPort: {target_port}\n    \
             nodePort: {node_port}\n"
        );
        if let Some(ip) = self.external_ip {
            text += &format!("  externalIPs:\n  - {ip}\n");
        }
        if self.client_ip_affinity {
            text += "  sessionAffinity: ClientIP\n";
        }
        text
    }
}

/// A ready Pod with the label `app` and an address.
pub(crate) fn pod(name: &str, app: &str, ip: Ipv4Addr) -> String {
    format!(
        "apiVersion: v1\nkind: Pod\nmetadata:\n  name: {name}\n  labels:\n    app: {app}\nspec:\n  \
         containers:\n  - name: main\n    image: example\nstatus:\n  podIP: {ip}\n  conditions:\n  - type: Ready\n    status: \"True\"\n"
    )
}
