//! A problem with what a person wrote or with this machine: what, where, and what to write instead.

use std::fmt;
use std::sync::Arc;

/// Whether the object it is about is left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// The object is served; something about it is doubtful.
    Warning,
    /// The object, or the part of it named, is not served.
    Error,
}

/// A place in a file.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Origin {
    /// The file's path as the user wrote it, or `-` for standard input.
    pub file: Arc<str>,
    /// Line, from one; zero where unknown.
    pub line: u32,
    /// Column, from one; zero where unknown.
    pub column: u32,
}

/// What kind of problem it is: a metric counts them by it, and Events have it as their reason.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Reason {
    /// What was written is not valid, or doubtful.
    #[default]
    Invalid,
    /// Another process has the port.
    PortTaken,
    /// The port cannot be held for another reason: rights, descriptors.
    PortUnavailable,
    /// The kernel may give the port to an outgoing connection.
    PortNotReserved,
    /// An older Service has the address and port.
    AddressContested,
    /// The Service may not take the address.
    AddressNotAllowed,
    /// No interface has the address, and nothing leads its traffic here.
    AddressNotRouted,
    /// A nodePort or clusterIP that is asked for is taken, or there is none left.
    FailedToAllocate,
    /// Another file or the API has an object of this name.
    AlreadyDefined,
    /// No Pod that a Service selects can be sent to.
    NoEndpoints,
    /// Pods see the address of this node instead of the client's.
    ClientAddressLost,
    /// The health check of a load balancer cannot be answered: kube-proxy's word.
    FailedToStartServiceHealthcheck,
}

impl Reason {
    /// Every value.
    pub const ALL: [Self; 12] = [
        Self::Invalid,
        Self::PortTaken,
        Self::PortUnavailable,
        Self::PortNotReserved,
        Self::AddressContested,
        Self::AddressNotAllowed,
        Self::AddressNotRouted,
        Self::FailedToAllocate,
        Self::AlreadyDefined,
        Self::NoEndpoints,
        Self::ClientAddressLost,
        Self::FailedToStartServiceHealthcheck,
    ];

    /// As an Event and a metric name it; never changes meaning.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Invalid => "Invalid",
            Self::PortTaken => "PortTaken",
            Self::PortUnavailable => "PortUnavailable",
            Self::PortNotReserved => "PortNotReserved",
            Self::AddressContested => "AddressContested",
            Self::AddressNotAllowed => "AddressNotAllowed",
            Self::AddressNotRouted => "AddressNotRouted",
            Self::FailedToAllocate => "FailedToAllocate",
            Self::AlreadyDefined => "AlreadyDefined",
            Self::NoEndpoints => "NoEndpoints",
            Self::ClientAddressLost => "ClientAddressLost",
            Self::FailedToStartServiceHealthcheck => "FailedToStartServiceHealthcheck",
        }
    }
}

/// One problem. Printed as `FILE:LINE:COLUMN: KIND NAMESPACE/NAME: FIELD: MESSAGE`, each part where known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Whether it keeps something from being served.
    pub severity: Severity,
    /// What kind it is.
    pub reason: Reason,
    /// Where it was written.
    pub origin: Option<Origin>,
    /// The object: `Service default/web`.
    pub object: Option<String>,
    /// The field: `spec.ports[0].nodePort`.
    pub field: Option<String>,
    /// What is wrong, in the API server's own words where it has some.
    pub message: String,
    /// What to do about it.
    pub hint: Option<String>,
}

impl Problem {
    /// An error with only a message; the other parts are filled in by what knows them.
    pub fn error(message: impl Into<String>) -> Self {
        Self {
            severity: Severity::Error,
            reason: Reason::Invalid,
            origin: None,
            object: None,
            field: None,
            message: message.into(),
            hint: None,
        }
    }

    /// A warning with only a message.
    pub fn warning(message: impl Into<String>) -> Self {
        Self { severity: Severity::Warning, ..Self::error(message) }
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.file)?;
        if self.line > 0 {
            write!(f, ":{}", self.line)?;
            if self.column > 0 {
                write!(f, ":{}", self.column)?;
            }
        }
        Ok(())
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(origin) = &self.origin {
            write!(f, "{origin}: ")?;
        }
        if let Some(object) = &self.object {
            write!(f, "{object}: ")?;
        }
        if let Some(field) = &self.field {
            write!(f, "{field}: ")?;
        }
        f.write_str(&self.message)?;
        if let Some(hint) = &self.hint {
            write!(f, " ({hint})")?;
        }
        Ok(())
    }
}
