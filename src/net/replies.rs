//! What makes answers of pods to the addresses of clients come back to this process.
//!
//! ```text
//! pod ──► client's address      prerouting: a transparent socket of this node has it? mark it; ICMP errors that
//!                               quote a packet of that socket, too
//!                               ip rule: marked? routing table T
//!                               table T: everything is local ──► the socket
//! ```
//!
//! Made with `ip` and `nft`, as an administrator would, and named so that nothing else is ever touched: an nftables
//! table `ringport_T`, and rules and routes of the routing protocol 82. A process that was killed leaves them; the
//! next one removes them, and knows that their owner is gone by a name that a living owner holds.

use std::io::{ErrorKind, Write};
use std::net::IpAddr;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::process::{Command, Stdio};

use serde::Deserialize;
use socket2::{Domain, Socket, Type};

/// The routing protocol that says who made a rule or a route (rtnetlink(7)): R.
const PROTOCOL: &str = "82";

/// Of the rule: behind the table of this node's own addresses, before all others.
const PRIORITY: &str = "4096";

const FAMILIES: [&str; 2] = ["-4", "-6"];

/// Address families.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Families {
    /// IPv4
    pub v4: bool,
    /// IPv6
    pub v6: bool,
}

impl Families {
    /// Whether that of an address is among them.
    pub fn has(self, ip: IpAddr) -> bool {
        if ip.is_ipv4() { self.v4 } else { self.v6 }
    }
}

/// The rules in force. Dropping them takes them away again.
#[derive(Debug)]
pub struct Replies {
    names: Names,
    families: Families,
    _owner: UnixDatagram,
}

/// How everything that is made is called.
#[derive(Clone, Debug)]
struct Names {
    /// As in `0x1000`.
    mark: String,
    table: String,
}

impl Replies {
    /// Marks answers with the bits `mark`, and sends them to this node by the routing table `table`. Removes first
    /// what former processes have left.
    ///
    /// # Errors
    /// What is missing or in the way, and what to do about it. Nothing is left behind then.
    pub fn set_up(mark: u32, table: u32) -> Result<Self, String> {
        probe()?;
        remove_leftovers()?;
        let names = Names { mark: format!("{mark:#x}"), table: table.to_string() };
        let owner = own(&names.table).ok_or_else(|| {
            format!(
                "another ringport on this node has the routing table {table}; give this one another with \
                 --transparent-table"
            )
        })?;
        names.check_free()?;
        let mut replies = Self { names, families: Families::default(), _owner: owner };
        replies.names.add_family("-4").map_err(|error| error.text)?;
        // Where the node has no IPv6 there is nobody to answer.
        let v6 = replies.names.add_family("-6").is_ok();
        run("nft", &["-f", "-"], Some(&replies.names.ruleset())).map_err(|error| error.text)?;
        replies.families = Families { v4: true, v6 };
        Ok(replies)
    }

    /// For which addresses it works.
    pub fn families(&self) -> Families {
        self.families
    }

    /// Makes anew what somebody has removed, as a firewall does that is loaded anew. Says what that was.
    ///
    /// # Errors
    /// What is missing and cannot be made.
    pub fn repair(&self) -> Result<Vec<String>, String> {
        let Self { names, families, .. } = self;
        let mut repaired = Vec::new();
        for family in FAMILIES.iter().take(if families.v6 { 2 } else { 1 }) {
            let rules = run("ip", &[family, "-N", "-j", "rule", "show"], None).map_err(|error| error.text)?;
            if !ours_among(&rules).any(|ours| ours.table == names.table) {
                names.rule(family, "add").map_err(|error| error.text)?;
                repaired.push(format!("the rule of `ip {family}`"));
            }
            let routes = run("ip", &[family, "route", "show", "table", &names.table], None);
            if routes.unwrap_or_default().is_empty() {
                names.local_route(family, "add").map_err(|error| error.text)?;
                repaired.push(format!("the route of `ip {family}`"));
            }
        }
        let table = names.nft_table();
        let listed = run("nft", &["list", "table", "inet", &table], None);
        if !listed.as_ref().is_ok_and(|text| text.contains("socket transparent")) {
            if listed.is_ok() {
                run("nft", &["delete", "table", "inet", &table], None).map_err(|error| error.text)?;
            }
            run("nft", &["-f", "-"], Some(&names.ruleset())).map_err(|error| error.text)?;
            repaired.push(format!("the nftables table {table}"));
        }
        Ok(repaired)
    }
}

impl Drop for Replies {
    fn drop(&mut self) {
        for error in self.names.remove() {
            tracing::warn!("what --transparent has set up could not be removed: {error}");
        }
    }
}

/// Removes what processes have left that were killed. To be called at the start, also without `--transparent`.
///
/// # Errors
/// What is there and cannot be removed.
pub fn remove_leftovers() -> Result<(), String> {
    let mut found: Vec<Names> = Vec::new();
    for family in FAMILIES {
        // Without `ip` nothing can have been made.
        let listed = run("ip", &[family, "-N", "-j", "rule", "show"], None).unwrap_or_default();
        for names in ours_among(&listed) {
            if found.iter().all(|other| other.table != names.table) {
                found.push(names);
            }
        }
    }
    for names in found {
        let Some(_owner) = own(&names.table) else { continue };
        let errors = names.remove();
        if !errors.is_empty() {
            return Err(format!("what a former ringport has left cannot be removed: {}", errors.join("; ")));
        }
        tracing::info!(table = names.table, "removed the rules that a former ringport has left");
    }
    Ok(())
}

/// A rule as `ip -j rule show` has it.
#[derive(Deserialize)]
struct Rule {
    protocol: Option<String>,
    fwmark: Option<String>,
    table: Option<String>,
}

fn ours_among(listed: &str) -> impl Iterator<Item = Names> {
    let rules: Vec<Rule> = serde_json::from_str(listed).unwrap_or_default();
    let ours = rules.into_iter().filter(|rule| rule.protocol.as_deref() == Some(PROTOCOL));
    ours.filter_map(|rule| Some(Names { mark: rule.fwmark?, table: rule.table? }))
}

/// The name that the owner of a routing table holds in this network namespace; `None` while another process does.
fn own(table: &str) -> Option<UnixDatagram> {
    let name = SocketAddr::from_abstract_name(format!("ringport-replies-{table}")).ok()?;
    UnixDatagram::bind_addr(&name).ok()
}

/// Whether this process may do any of this at all.
fn probe() -> Result<(), String> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).map_err(|error| error.to_string())?;
    socket.set_ip_transparent_v4(true).map_err(|_| "this process has no CAP_NET_ADMIN".to_owned())
}

// === impl Names ===

impl Names {
    fn check_free(&self) -> Result<(), String> {
        let table = &self.table;
        for family in FAMILIES {
            // A table without routes is an error.
            let listed = run("ip", &[family, "route", "show", "table", table], None).unwrap_or_default();
            if let Some(route) = listed.lines().next() {
                return Err(format!(
                    "the routing table {table} is in use ({}); give another one with --transparent-table",
                    route.trim()
                ));
            }
        }
        Ok(())
    }

    /// The rule first: it is what tells of everything else.
    fn add_family(&self, family: &str) -> Result<(), Failed> {
        self.rule(family, "add")?;
        let result = self.local_route(family, "add");
        if result.is_err() {
            let _ = self.rule(family, "del");
        }
        result
    }

    fn rule(&self, family: &str, verb: &str) -> Result<(), Failed> {
        let mark = format!("{0}/{0}", self.mark);
        let what = ["priority", PRIORITY, "fwmark", &mark, "lookup", &self.table, "protocol", PROTOCOL];
        run("ip", &[&[family, "rule", verb][..], &what].concat(), None).map(drop)
    }

    fn local_route(&self, family: &str, verb: &str) -> Result<(), Failed> {
        let what = ["local", "default", "dev", "lo", "table", &self.table, "protocol", PROTOCOL];
        run("ip", &[&[family, "route", verb][..], &what].concat(), None).map(drop)
    }

    fn nft_table(&self) -> String {
        format!("ringport_{}", self.table)
    }

    /// For `nft -f -`, which does all of it or nothing. `create` fails where there is such a table.
    fn ruleset(&self) -> String {
        let (mark, name) = (&self.mark, format!("inet {}", self.nft_table()));
        format!(
            "create table {name} {{ comment \"answers of pods to the clients of ringport\"; }}\n\
             add chain {name} prerouting {{ type filter hook prerouting priority mangle; policy accept; }}\n\
             add rule {name} prerouting iifname != \"lo\" meta l4proto {{ tcp, udp, icmp, ipv6-icmp }} \
             socket wildcard 0 socket transparent 1 meta mark set meta mark or {mark}\n"
        )
    }

    /// Removes what is there of it, the rule last. Says what could not be removed.
    fn remove(&self) -> Vec<String> {
        let mut results = vec![run("nft", &["delete", "table", "inet", &self.nft_table()], None).map(drop)];
        for family in FAMILIES {
            results.push(self.local_route(family, "del"));
            results.push(self.rule(family, "del"));
        }
        let failed = results.into_iter().filter_map(Result::err);
        failed.filter(|error| !error.missing).map(|error| error.text).collect()
    }
}

/// A command that has failed.
struct Failed {
    text: String,
    /// What it should remove is not there.
    missing: bool,
}

/// Runs a command with this on its standard input, and gives what it wrote.
fn run(program: &str, arguments: &[&str], input: Option<&str>) -> Result<String, Failed> {
    let failed = |text: String| Failed { text, missing: false };
    let line = format!("{program} {}", arguments.join(" "));
    let started = Command::new(program)
        .args(arguments)
        .stdin(if input.is_some() { Stdio::piped() } else { Stdio::null() })
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let mut child = match started {
        Ok(child) => child,
        Err(error) if error.kind() == ErrorKind::NotFound => {
            let package = if program == "nft" { "nftables" } else { "iproute2" };
            // What only it can make is not there either.
            return Err(Failed {
                text: format!("there is no `{program}`; install {package}"),
                missing: true,
            });
        }
        Err(error) => return Err(failed(format!("`{line}`: {error}"))),
    };
    if let (Some(input), Some(mut pipe)) = (input, child.stdin.take()) {
        // A command that does not read says why on its own.
        let _ = pipe.write_all(input.as_bytes());
    }
    let output = child.wait_with_output().map_err(|error| failed(format!("`{line}`: {error}")))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let said = said.lines().next().unwrap_or_default().trim();
    // ENOENT and ESRCH, as iproute2 and nft say it; and without IPv6 there is nothing of it.
    let absent = ["No such file or directory", "No such process", "not supported"];
    let missing = absent.iter().any(|text| said.contains(text));
    Err(Failed { text: format!("`{line}` failed: {said}"), missing })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_rules_of_our_protocol_are_ours() {
        let listed = r#"[{"priority":0,"src":"all","table":"255"},
            {"priority":90,"src":"all","fwmark":"0x1000","fwmask":"0x1000","table":"4096","protocol":"2"},
            {"priority":4096,"src":"all","fwmark":"0x2000","fwmask":"0x2000","table":"5000","protocol":"82"}]"#;
        let ours: Vec<(String, String)> = ours_among(listed).map(|names| (names.mark, names.table)).collect();
        assert_eq!(ours, [("0x2000".to_owned(), "5000".to_owned())]);
        assert_eq!(ours_among("nonsense").count(), 0);
    }

    #[test]
    fn a_table_has_one_owner_at_a_time() {
        let table = format!("of-test-{}", std::process::id());
        let owner = own(&table).unwrap();
        assert!(own(&table).is_none());
        drop(owner);
        assert!(own(&table).is_some());
    }
}
