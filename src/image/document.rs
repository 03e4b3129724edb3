//! The JSON documents of images, as far as they are read here.

use std::collections::BTreeMap;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::platform::Platform;
use crate::error::Result;
use crate::layer::{Digest, refused};

pub(crate) const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
pub(crate) const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
pub(crate) const LAYER: &str = "application/vnd.oci.image.layer.v1.tar+gzip";
pub(crate) const INDEX: &str = "application/vnd.oci.image.index.v1+json";
const DOCKER_INDEX: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
/// The name of an image in an index.
pub(crate) const REFERENCE: &str = "org.opencontainers.image.ref.name";
/// The same with what comes before the tag.
pub(crate) const FULL_NAME: &str = "io.containerd.image.name";

/// What a blob is and which digest it has.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Descriptor {
    #[serde(default)]
    pub(crate) media_type: String,
    pub(crate) digest: String,
    pub(crate) size: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) platform: Option<Platform>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) annotations: Option<BTreeMap<String, String>>,
}

impl Descriptor {
    pub(crate) fn digest(&self) -> Result<Digest> {
        self.digest.parse()
    }

    pub(crate) fn is_index(&self) -> bool {
        matches!(self.media_type.as_str(), INDEX | DOCKER_INDEX)
    }

    pub(crate) fn annotation(&self, key: &str) -> Option<&str> {
        self.annotations.as_ref()?.get(key).map(String::as_str)
    }
}

/// A list of manifests, for several platforms or of several images.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Index {
    pub(crate) schema_version: u32,
    #[serde(default)]
    pub(crate) media_type: String,
    pub(crate) manifests: Vec<Descriptor>,
}

/// A configuration and layers, the lowest first.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Manifest {
    pub(crate) schema_version: u32,
    #[serde(default)]
    pub(crate) media_type: String,
    pub(crate) config: Descriptor,
    pub(crate) layers: Vec<Descriptor>,
}

/// An image of `manifest.json`, which `docker save` writes.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct Saved {
    pub(crate) config: String,
    #[serde(default)]
    pub(crate) repo_tags: Option<Vec<String>>,
    pub(crate) layers: Vec<String>,
}

/// How to run an image, and of which layers it is made.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Config {
    #[serde(flatten)]
    pub(crate) platform: Platform,
    #[serde(default)]
    pub(crate) config: Option<Run>,
    pub(crate) rootfs: Layers,
}

#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Layers {
    #[serde(rename = "type")]
    kind: String,
    #[serde(default)]
    diff_ids: Option<Vec<String>>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(crate) struct Run {
    pub(crate) user: Option<String>,
    pub(crate) env: Option<Vec<String>>,
    pub(crate) entrypoint: Option<Vec<String>>,
    pub(crate) cmd: Option<Vec<String>>,
    pub(crate) working_dir: Option<String>,
}

impl Config {
    pub(crate) fn parse(bytes: &[u8]) -> Result<Self> {
        let config: Self = parse(bytes, "configuration")?;
        match config.rootfs.kind.as_str() {
            "layers" => Ok(config),
            _ => Err(refused("the image's configuration has a root filesystem that is not made of layers")),
        }
    }

    /// The ids of the layers, the lowest first.
    pub(crate) fn layers(&self) -> Result<Vec<Digest>> {
        self.rootfs.diff_ids.iter().flatten().map(|id| id.parse()).collect()
    }
}

/// Reads a document. It is small, and nested at most 128 deep.
pub(crate) fn parse<T: DeserializeOwned>(bytes: &[u8], what: &str) -> Result<T> {
    serde_json::from_slice(bytes).map_err(|error| {
        // The text of the error may quote the document, whose words are anybody's.
        let (line, column) = (error.line(), error.column());
        refused(format!("the image's {what} is no such document (line {line}, column {column})"))
    })
}

pub(crate) fn write<T: Serialize>(document: &T) -> Result<Vec<u8>> {
    use crate::error::{Error, Step};
    serde_json::to_vec(document).map_err(|_| Error::internal(Step::Image, "a document cannot be written"))
}
