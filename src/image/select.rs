//! Which image of a source is meant, and what belongs to it.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use super::document::{self, Config, Descriptor, FULL_NAME, Index, Manifest, REFERENCE, Saved};
use super::import::ImportOptions;
use super::source::{Source, missing};
use crate::error::{Error, ErrorKind, Result, Step};
use crate::layer::{Digest, refused, shown};

/// Indexes in indexes.
const DEEPEST: usize = 4;
/// Descriptors of all indexes together. A few equal entries on each level are a great many paths otherwise.
const MOST_DESCRIPTORS: usize = 10_000;
/// Bytes of all nested indexes together, each as often as it is read.
const MOST_INDEX_BYTES: u64 = 64 << 20;
/// What is below an index inherits its name, and so there may be many copies of it.
const LONGEST_NAME: usize = 4096;
/// Overlayfs takes no more layers (`OVL_MAX_STACK`).
pub(crate) const MOST_LAYERS: usize = 500;

/// An image of a source.
pub(crate) struct Found {
    pub(crate) name: Option<String>,
    /// As it is, because its digest is the image's id.
    pub(crate) config: Vec<u8>,
    /// The lowest first.
    pub(crate) layers: Vec<FoundLayer>,
}

pub(crate) struct FoundLayer {
    /// The digest of the uncompressed archive.
    pub(crate) id: Digest,
    pub(crate) blob: PathBuf,
    /// What the blob must be like, where that is known.
    pub(crate) digest: Option<Digest>,
    pub(crate) size: Option<u64>,
}

pub(crate) fn find(source: &Source, options: &ImportOptions) -> Result<Found> {
    // Newer archives of `docker save` are both, and only this one has digests.
    if let Some(index) = source.document(Path::new("index.json"))? {
        return in_layout(source, &index, options);
    }
    if let Some(manifest) = source.document(Path::new("manifest.json"))? {
        return in_saved(source, &manifest, options);
    }
    Err(refused("this is no image: there is no index.json and no manifest.json")
        .with_hint("import an OCI image layout or an archive of `docker save`, not a plain root filesystem"))
}

/// A manifest and the name that an index has for it.
struct Candidate {
    name: Option<String>,
    manifest: Descriptor,
}

fn in_layout(source: &Source, index: &[u8], options: &ImportOptions) -> Result<Found> {
    let index: Index = document::parse(index, "index")?;
    let mut walk = Walk { source, visited: 0, bytes: 0, seen: HashSet::new(), candidates: Vec::new() };
    walk.index(index, None, 0)?;
    let mut candidates = walk.candidates;
    let platform = options.wanted_platform();
    let mut seen = Vec::new();
    candidates.retain(|candidate| match &candidate.manifest.platform {
        Some(other) if !platform.accepts(other) => {
            seen.push(other.to_string());
            false
        }
        _ => true,
    });
    if candidates.is_empty() && !seen.is_empty() {
        seen.dedup();
        seen.truncate(20);
        return Err(wrong_platform(&format!("the image is not for {platform}, but for {}", seen.join(", "))));
    }
    let candidate = choose(
        candidates,
        |candidate| candidate.name.as_deref(),
        options,
        |a, b| a.manifest.digest == b.manifest.digest,
    )?;

    let manifest = blob(source, &candidate.manifest, "manifest")?;
    let manifest: Manifest = document::parse(&manifest, "manifest")?;
    let config = blob(source, &manifest.config, "configuration")?;
    let ids = layer_ids(&config, options, manifest.layers.len())?;
    let layers = ids.into_iter().zip(&manifest.layers).map(|(id, layer)| {
        let digest = layer.digest()?;
        Ok(FoundLayer { id, blob: path_of(&digest), digest: Some(digest), size: Some(layer.size) })
    });
    Ok(Found { name: candidate.name, layers: layers.collect::<Result<_>>()?, config })
}

/// A walk through indexes, which looks at no more than its limits allow, whatever they lead to.
struct Walk<'a> {
    source: &'a Source,
    visited: usize,
    bytes: u64,
    /// Nested indexes with the name they were reached by. Under another name they lead to other candidates.
    seen: HashSet<(Digest, Option<String>)>,
    candidates: Vec<Candidate>,
}

impl Walk<'_> {
    fn index(&mut self, index: Index, name: Option<&str>, depth: usize) -> Result<()> {
        let too_many = |what| {
            Err(refused(what)
                .with_kind(ErrorKind::LimitExceeded)
                .with_hint("import an archive or a layout that has fewer images"))
        };
        if depth > DEEPEST {
            return Err(refused("the image's indexes are too deep within one another"));
        }
        for descriptor in index.manifests {
            self.visited += 1;
            if self.visited > MOST_DESCRIPTORS {
                return too_many("the image's indexes lead to too many others");
            }
            let own = descriptor.annotation(FULL_NAME).or(descriptor.annotation(REFERENCE)).or(name);
            if own.is_some_and(|own| own.len() > LONGEST_NAME) {
                return Err(refused("an index has a name that is too long"));
            }
            let own = own.map(str::to_owned);
            if !descriptor.is_index() {
                self.candidates.push(Candidate { name: own, manifest: descriptor });
                continue;
            }
            if !self.seen.insert((descriptor.digest()?, own.clone())) {
                continue;
            }
            self.bytes = self.bytes.saturating_add(descriptor.size);
            if self.bytes > MOST_INDEX_BYTES {
                return too_many("the image's indexes are too large together");
            }
            let nested = blob(self.source, &descriptor, "index")?;
            self.index(document::parse(&nested, "index")?, own.as_deref(), depth + 1)?;
        }
        Ok(())
    }
}

fn in_saved(source: &Source, manifest: &[u8], options: &ImportOptions) -> Result<Found> {
    let images: Vec<Saved> = document::parse(manifest, "manifest.json")?;
    let mut candidates = Vec::new();
    for (number, saved) in images.iter().enumerate() {
        match saved.repo_tags.as_deref() {
            Some(tags) if !tags.is_empty() => {
                candidates.extend(tags.iter().map(|tag| (number, Some(tag.clone()))));
            }
            _ => candidates.push((number, None)),
        }
    }
    let (number, name) = choose(
        candidates,
        |(_, name)| name.as_deref(),
        options,
        |a, b| images[a.0].config == images[b.0].config,
    )?;
    let saved = &images[number];
    let path = PathBuf::from(&saved.config);
    let config = source.document(&path)?.ok_or_else(|| missing(&path))?;
    // The name of the document is its digest.
    let stem = path.file_stem().and_then(|stem| stem.to_str());
    if let Some(digest) = stem.and_then(Digest::from_hex) {
        check(&config, digest, "configuration")?;
    }
    let ids = layer_ids(&config, options, saved.layers.len())?;
    let layers = ids.into_iter().zip(&saved.layers).map(|(id, layer)| FoundLayer {
        id,
        blob: PathBuf::from(layer),
        digest: None,
        size: None,
    });
    Ok(Found { name, layers: layers.collect(), config })
}

/// The one candidate that is meant: the one with the name asked for, or the only one.
fn choose<T>(
    candidates: Vec<T>,
    name: impl Fn(&T) -> Option<&str>,
    options: &ImportOptions,
    same: impl Fn(&T, &T) -> bool,
) -> Result<T> {
    let names: Vec<_> =
        candidates.iter().filter_map(&name).map(|name| shown(name.as_bytes())).take(20).collect();
    let names = names.join(", ");
    let mut rest = candidates
        .into_iter()
        .filter(|candidate| options.reference.is_none() || name(candidate) == options.reference.as_deref());
    let Some(first) = rest.next() else {
        return Err(match &options.reference {
            Some(reference) => refused(format!("there is no image {reference:?}; there are {names}"))
                .with_kind(ErrorKind::NotFound),
            None => refused("there is no image"),
        });
    };
    if rest.any(|other| !same(&first, &other)) {
        return Err(Error::invalid(format!("there are several images: {names}")).with_hint(
            "say which with `ImportOptions::reference`, and its platform with `ImportOptions::platform`",
        ));
    }
    Ok(first)
}

/// Checks a configuration against what was asked for and against the layers there are.
fn layer_ids(config: &[u8], options: &ImportOptions, layers: usize) -> Result<Vec<Digest>> {
    let config = Config::parse(config)?;
    let wanted = options.wanted_platform();
    if !wanted.accepts(&config.platform) {
        return Err(wrong_platform(&format!("the image is not for {wanted}, but for {}", config.platform)));
    }
    let ids = config.layers()?;
    if ids.len() != layers {
        return Err(refused(format!(
            "the image has {layers} layers, and its configuration names {}",
            ids.len()
        )));
    }
    if layers > MOST_LAYERS {
        return Err(too_many_layers(layers));
    }
    Ok(ids)
}

pub(crate) fn too_many_layers(layers: usize) -> Error {
    refused(format!("the image has {layers} layers, and {MOST_LAYERS} are the most that can be mounted"))
        .with_kind(ErrorKind::LimitExceeded)
        .with_hint("make one layer of several")
}

fn wrong_platform(what: &str) -> Error {
    let what: String = what.chars().take(500).collect();
    Error::message(ErrorKind::Unsupported, Step::Image, what)
        .with_hint("say with `ImportOptions::platform` which is wanted")
}

/// Reads a document that has a descriptor.
fn blob(source: &Source, descriptor: &Descriptor, what: &str) -> Result<Vec<u8>> {
    let digest = descriptor.digest()?;
    let path = path_of(&digest);
    let bytes = source.document(&path)?.ok_or_else(|| missing(&path))?;
    if bytes.len() as u64 != descriptor.size {
        return Err(refused(format!(
            "the image's {what} has {} bytes, and {} are announced",
            bytes.len(),
            descriptor.size
        )));
    }
    check(&bytes, digest, what)?;
    Ok(bytes)
}

fn check(bytes: &[u8], digest: Digest, what: &str) -> Result<()> {
    match Digest::of(bytes) {
        found if found == digest => Ok(()),
        found => Err(refused(format!("the image's {what} should be {digest} and is {found}"))),
    }
}

fn path_of(digest: &Digest) -> PathBuf {
    Path::new("blobs/sha256").join(digest.hex())
}
