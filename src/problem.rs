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

/// One problem. Printed as `FILE:LINE:COLUMN: KIND NAMESPACE/NAME: FIELD: MESSAGE`, each part where known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Whether it keeps something from being served.
    pub severity: Severity,
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
    /// A word for programs, as Events have it: `PortTaken`.
    pub reason: Option<&'static str>,
}

impl Problem {
    /// An error with only a message; the other parts are filled in by what knows them.
    pub fn error(message: impl Into<String>) -> Self {
        Self {
            severity: Severity::Error,
            origin: None,
            object: None,
            field: None,
            message: message.into(),
            hint: None,
            reason: None,
        }
    }

    /// A warning with only a message.
    pub fn warning(message: impl Into<String>) -> Self {
        Self { severity: Severity::Warning, ..Self::error(message) }
    }
}

/// Reasons of problems, which become those of Events.
pub mod reason {
    /// The port is taken by somebody else on this node.
    pub const PORT_TAKEN: &str = "PortTaken";
    /// The port cannot be held for another reason: permissions, an address that is not here.
    pub const PORT_UNAVAILABLE: &str = "PortUnavailable";
    /// An older Service has the address and port.
    pub const ADDRESS_CONTESTED: &str = "AddressContested";
    /// A nodePort or clusterIP that is asked for is taken, or there is none left.
    pub const FAILED_TO_ALLOCATE: &str = "FailedToAllocate";
    /// Another file or the API has an object of this name.
    pub const ALREADY_DEFINED: &str = "AlreadyDefined";
    /// No Pod that a Service selects can be sent to.
    pub const NO_ENDPOINTS: &str = "NoEndpoints";
    /// What a manifest file says is not valid.
    pub const INVALID: &str = "InvalidManifest";
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
