//! The objects of manifests, as they were written: what is wrong with them the server says.

use std::io::Read as _;
use std::path::Path;
use std::sync::Arc;

use super::Failure;
use super::args::Files;
use crate::k8s::decode::{self, Manifest};
use crate::k8s::resource::{RESOURCES, Resource};
use crate::limits::MANIFEST_BYTES;

/// One object that can be sent.
pub(super) struct Sendable {
    pub(super) file: Arc<str>,
    pub(super) resource: Resource,
    pub(super) manifest: Manifest,
}

/// All objects of the files, in order, for a verb. Nothing is sent when one of them is no object.
pub(super) fn read(files: &Files, verb: &str) -> Result<Vec<Sendable>, Failure> {
    let mut all = Vec::new();
    for name in &files.names {
        for (file, bytes) in contents(name)? {
            let manifests = decode::manifests(&file, &bytes)
                .map_err(|problem| Failure::Said(format!("error: {problem}")))?;
            for manifest in manifests {
                let resource = resource(&file, &manifest)?;
                all.push(Sendable { file: Arc::clone(&file), resource, manifest });
            }
        }
    }
    if all.is_empty() {
        return Err(Failure::Said(format!("error: no objects passed to {verb}")));
    }
    Ok(all)
}

fn resource(file: &str, manifest: &Manifest) -> Result<Resource, Failure> {
    let info = RESOURCES
        .iter()
        .find(|info| info.kind == manifest.kind && info.api_version() == manifest.api_version);
    info.map(|info| info.resource).ok_or_else(|| {
        Failure::Said(format!(
            "error: resource mapping not found for name: {:?} namespace: {:?} from {file:?}: no matches for kind \
             {:?} in version {:?}\nensure CRDs are installed first",
            manifest.name.as_deref().unwrap_or_default(),
            manifest.namespace.as_deref().unwrap_or_default(),
            manifest.kind, manifest.api_version
        ))
    })
}

/// A file's name and what it holds.
type Text = (Arc<str>, Vec<u8>);

/// The text of a file, of the manifests of a directory, or of standard input.
fn contents(name: &str) -> Result<Vec<Text>, Failure> {
    if name == "-" {
        return Ok(vec![("STDIN".into(), bounded(name, &mut std::io::stdin().lock())?)]);
    }
    let path = Path::new(name);
    let failed = |error: std::io::Error| match error.kind() {
        std::io::ErrorKind::NotFound => Failure::Said(format!("error: the path {name:?} does not exist")),
        _ => Failure::Said(format!("error: {name}: {error}")),
    };
    let paths = match std::fs::metadata(path).map_err(failed)?.is_dir() {
        true => crate::source::manifests::list(path).map_err(failed)?,
        false => vec![path.to_path_buf()],
    };
    let mut contents = Vec::new();
    for path in paths {
        let mut file = std::fs::File::open(&path).map_err(failed)?;
        let name = path.to_string_lossy();
        contents.push((Arc::from(&*name), bounded(&name, &mut file)?));
    }
    Ok(contents)
}

fn bounded(name: &str, from: &mut dyn std::io::Read) -> Result<Vec<u8>, Failure> {
    let mut bytes = Vec::new();
    let read = from.take(MANIFEST_BYTES + 1).read_to_end(&mut bytes);
    read.map_err(|error| Failure::Said(format!("error: {name}: {error}")))?;
    if bytes.len() as u64 > MANIFEST_BYTES {
        return Err(Failure::Said(format!("error: {name}: more than {MANIFEST_BYTES} bytes")));
    }
    Ok(bytes)
}
