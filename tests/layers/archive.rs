//! Archives and images for the tests, good and bad, written byte by byte.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use belljar::Digest;
use serde_json::{Value, json};
use tar::{EntryType, Header};

use crate::support::Result;

/// An archive under construction, which checks nothing.
#[derive(Default, Clone)]
pub(crate) struct Tar(pub(crate) Vec<u8>);

/// One member.
#[derive(Clone)]
pub(crate) struct Entry<'a> {
    pub(crate) path: &'a [u8],
    pub(crate) kind: EntryType,
    pub(crate) link: &'a [u8],
    pub(crate) mode: u32,
    pub(crate) ids: (u64, u64),
    pub(crate) mtime: u64,
    pub(crate) content: &'a [u8],
    /// What the header says, if not the length of the content.
    pub(crate) size: Option<u64>,
    pub(crate) pax: Vec<(&'a str, &'a [u8])>,
}

pub(crate) fn entry(path: &(impl AsRef<[u8]> + ?Sized), kind: EntryType) -> Entry<'_> {
    Entry {
        path: path.as_ref(),
        kind,
        link: b"",
        mode: if kind == EntryType::Directory { 0o755 } else { 0o644 },
        ids: (0, 0),
        mtime: 1_000_000_000,
        content: b"",
        size: None,
        pax: Vec::new(),
    }
}

impl Tar {
    pub(crate) fn new() -> Self {
        Self::default()
    }

    pub(crate) fn file(self, path: &(impl AsRef<[u8]> + ?Sized), content: &[u8]) -> Self {
        self.add(&Entry { content, ..entry(path, EntryType::Regular) })
    }

    pub(crate) fn dir(self, path: &(impl AsRef<[u8]> + ?Sized)) -> Self {
        self.add(&entry(path, EntryType::Directory))
    }

    pub(crate) fn symlink(
        self,
        path: &(impl AsRef<[u8]> + ?Sized),
        to: &(impl AsRef<[u8]> + ?Sized),
    ) -> Self {
        self.add(&Entry { link: to.as_ref(), ..entry(path, EntryType::Symlink) })
    }

    pub(crate) fn hard_link(
        self,
        path: &(impl AsRef<[u8]> + ?Sized),
        to: &(impl AsRef<[u8]> + ?Sized),
    ) -> Self {
        self.add(&Entry { link: to.as_ref(), ..entry(path, EntryType::Link) })
    }

    /// Adds a member as it is. Names that do not fit into the header go into an extended one.
    pub(crate) fn add(mut self, entry: &Entry<'_>) -> Self {
        let mut pax = Vec::new();
        if entry.path.len() > 100 {
            record(&mut pax, "path", entry.path);
        }
        if entry.link.len() > 100 {
            record(&mut pax, "linkpath", entry.link);
        }
        for (key, value) in &entry.pax {
            record(&mut pax, key, value);
        }
        if !pax.is_empty() {
            let header = header(&Entry { ..self::entry("pax", EntryType::XHeader) }, pax.len() as u64);
            self.0.extend_from_slice(header.as_bytes());
            self.content(&pax);
        }
        let header = header(entry, entry.size.unwrap_or(entry.content.len() as u64));
        self.0.extend_from_slice(header.as_bytes());
        self.content(entry.content);
        self
    }

    pub(crate) fn content(&mut self, content: &[u8]) {
        self.0.extend_from_slice(content);
        self.0.resize(self.0.len().next_multiple_of(512), 0);
    }

    /// The archive with its end.
    pub(crate) fn end(mut self) -> Vec<u8> {
        self.0.resize(self.0.len() + 1024, 0);
        self.0
    }
}

pub(crate) fn header(entry: &Entry<'_>, size: u64) -> Header {
    let mut header = Header::new_ustar();
    let name = &entry.path[..entry.path.len().min(100)];
    header.as_old_mut().name[..name.len()].copy_from_slice(name);
    let link = &entry.link[..entry.link.len().min(100)];
    header.as_old_mut().linkname[..link.len()].copy_from_slice(link);
    header.set_entry_type(entry.kind);
    header.set_mode(entry.mode);
    header.set_uid(entry.ids.0);
    header.set_gid(entry.ids.1);
    header.set_mtime(entry.mtime);
    header.set_size(size);
    header.set_device_major(0).expect("a ustar header has devices");
    header.set_device_minor(0).expect("a ustar header has devices");
    header.set_cksum();
    header
}

fn record(data: &mut Vec<u8>, key: &str, value: &[u8]) {
    let rest = key.len() + value.len() + 3;
    let length = (1..).map(|digits| rest + digits).find(|length| length.to_string().len() + rest == *length);
    data.extend_from_slice(format!("{} {key}=", length.expect("some length fits")).as_bytes());
    data.extend_from_slice(value);
    data.push(b'\n');
}

/// How a layer is compressed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Packing {
    Plain,
    Gzip,
    Zstd,
}

impl Packing {
    pub(crate) fn pack(self, bytes: &[u8]) -> Vec<u8> {
        match self {
            Self::Plain => bytes.to_vec(),
            Self::Gzip => {
                let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
                encoder.write_all(bytes).expect("memory takes everything");
                encoder.finish().expect("memory takes everything")
            }
            Self::Zstd => {
                ruzstd::encoding::compress_to_vec(bytes, ruzstd::encoding::CompressionLevel::Fastest)
            }
        }
    }
}

/// A name, a configuration, and layers as blobs.
pub(crate) type Named<'a> = (&'a str, Vec<u8>, Vec<Vec<u8>>);

/// The files of an image, to be changed and written.
#[derive(Clone, Default)]
pub(crate) struct Files(pub(crate) BTreeMap<String, Vec<u8>>);

/// The architecture of this machine, as images say it.
pub(crate) fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

/// A configuration for layers, given as archives.
pub(crate) fn config(layers: &[Vec<u8>], run: Value) -> Vec<u8> {
    let ids: Vec<_> = layers.iter().map(|layer| Digest::of(layer).to_string()).collect();
    let config = json!({
        "architecture": architecture(), "os": "linux", "config": run,
        "rootfs": { "type": "layers", "diff_ids": ids },
    });
    config.to_string().into_bytes()
}

impl Files {
    pub(crate) fn blob(&mut self, bytes: &[u8]) -> Value {
        let digest = Digest::of(bytes).to_string();
        self.0.insert(format!("blobs/sha256/{}", &digest[7..]), bytes.to_vec());
        json!({ "digest": digest, "size": bytes.len() })
    }

    /// An image in the OCI layout with a manifest for each configuration and its layers.
    pub(crate) fn layout(images: &[Named<'_>]) -> Self {
        let mut files = Self::default();
        let mut manifests = Vec::new();
        for (name, config, blobs) in images {
            let platform: Value = serde_json::from_slice(config).unwrap_or_default();
            let config = files.blob(config);
            let layers: Vec<_> = blobs.iter().map(|blob| files.blob(blob)).collect();
            let manifest = json!({ "schemaVersion": 2, "config": config, "layers": layers });
            let mut descriptor = files.blob(manifest.to_string().as_bytes());
            if !name.is_empty() {
                descriptor["annotations"] = json!({ "org.opencontainers.image.ref.name": name });
            }
            if images.len() > 1 {
                descriptor["platform"] =
                    json!({ "os": platform["os"], "architecture": platform["architecture"] });
            }
            manifests.push(descriptor);
        }
        files.0.insert("oci-layout".into(), br#"{"imageLayoutVersion":"1.0.0"}"#.to_vec());
        let index = json!({ "schemaVersion": 2, "manifests": manifests });
        files.0.insert("index.json".into(), index.to_string().into_bytes());
        files
    }

    /// An image of these archives in the OCI layout.
    pub(crate) fn image(layers: &[Vec<u8>], packing: Packing) -> Self {
        Self::image_with(layers, packing, json!({}))
    }

    pub(crate) fn image_with(layers: &[Vec<u8>], packing: Packing, run: Value) -> Self {
        let blobs = layers.iter().map(|layer| packing.pack(layer)).collect();
        Self::layout(&[("test", config(layers, run), blobs)])
    }

    /// The same as `docker save` wrote it before version 25: a directory for each layer, symlinks for layers that are
    /// there already.
    pub(crate) fn saved(layers: &[Vec<u8>], run: Value) -> Self {
        let mut files = Self::default();
        let config = config(layers, run);
        let name = format!("{}.json", &Digest::of(&config).to_string()[7..]);
        let paths: Vec<_> = (0..layers.len()).map(|n| format!("{n:064}/layer.tar")).collect();
        for (path, layer) in paths.iter().zip(layers) {
            files.0.insert(path.clone(), layer.clone());
        }
        let manifest = json!([{ "Config": name, "RepoTags": ["saved:1"], "Layers": paths }]);
        files.0.insert(name, config);
        files.0.insert("manifest.json".into(), manifest.to_string().into_bytes());
        files
    }

    /// Writes them into a directory.
    pub(crate) fn write(&self, dir: &Path) -> Result<PathBuf> {
        for (name, bytes) in &self.0 {
            let path = dir.join(name);
            fs::create_dir_all(path.parent().expect("it is below the directory"))?;
            fs::write(path, bytes)?;
        }
        Ok(dir.to_owned())
    }

    pub(crate) fn tar(&self) -> Vec<u8> {
        self.0.iter().fold(Tar::new(), |tar, (name, bytes)| tar.file(name, bytes)).end()
    }

    /// The name of the only file that a test picks.
    pub(crate) fn named(&self, pick: impl Fn(&str, &[u8]) -> bool) -> String {
        let mut names = self.0.iter().filter(|(name, bytes)| pick(name, bytes)).map(|(name, _)| name.clone());
        names.next().expect("there is such a file")
    }
}

/// What nobody should write: takes every path as it is.
pub(crate) fn unpack_naively(archive: &[u8], to: &Path) -> std::io::Result<()> {
    let mut archive = tar::Archive::new(archive);
    for member in archive.entries()? {
        let mut member = member?;
        let path = to.join(OsStr::from_bytes(&member.path_bytes()));
        let link = member.link_name_bytes().unwrap_or_default().into_owned();
        let link = Path::new(OsStr::from_bytes(&link));
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent)?;
        }
        let name = path.file_name().unwrap_or_default().as_bytes();
        match member.header().entry_type() {
            _ if name.starts_with(b".wh.") => {
                let hidden = path.with_file_name(OsStr::from_bytes(&name[4..]));
                if hidden.is_dir() { fs::remove_dir_all(hidden)? } else { fs::remove_file(hidden)? }
            }
            EntryType::Directory => fs::create_dir_all(&path)?,
            EntryType::Symlink => std::os::unix::fs::symlink(link, &path)?,
            EntryType::Link => fs::hard_link(to.join(link), &path)?,
            _ => {
                let mut content = Vec::new();
                std::io::Read::read_to_end(&mut member, &mut content)?;
                fs::write(&path, content)?;
            }
        }
    }
    Ok(())
}
